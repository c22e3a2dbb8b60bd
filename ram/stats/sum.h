#pragma once

// Sums that do not depend on threads, lanes or luck: in the order given, compensated.

#include <cmath>
#include <span>

namespace ram {

// Neumaier's compensated sum (ZAMM 54:39, 1974): as if added in twice the precision, so the result
// is off by one rounding and n^2 times a squared one. One huge value among small ones is no matter.
class Sum {
 public:
  void Add(double value) {
    const double next = total_ + value;
    lost_ +=
        std::abs(total_) >= std::abs(value) ? (total_ - next) + value : (value - next) + total_;
    total_ = next;
  }
  double value() const { return total_ + lost_; }

 private:
  double total_ = 0;
  double lost_ = 0;
};

inline double SumOf(std::span<const double> values) {
  Sum sum;
  for (const double value : values) sum.Add(value);
  return sum.value();
}

}  // namespace ram
