#include "ram/stats/rank_tests.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <numeric>

#include "ram/base/result.h"
#include "ram/stats/distributions.h"
#include "ram/stats/sum.h"

namespace ram {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Doubled ranks of |d|, whole numbers because ties share a mean; parallel to `differences`.
std::vector<uint64_t> DoubledRanks(std::span<const double> differences) {
  std::vector<size_t> order(differences.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto size_of = [&](size_t i) { return std::abs(differences[i]); };
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return size_of(a) < size_of(b); });
  std::vector<uint64_t> ranks(differences.size());
  for (size_t first = 0; first < order.size();) {
    size_t last = first;
    while (last + 1 < order.size() && size_of(order[last + 1]) == size_of(order[first])) ++last;
    for (size_t i = first; i <= last; ++i) ranks[order[i]] = (first + 1) + (last + 1);
    first = last + 1;
  }
  return ranks;
}

// Number of sign patterns for each sum of doubled ranks [sum of all + 1]; at most 50 ranks.
std::vector<double> CountPatterns(std::span<const uint64_t> doubled_ranks) {
  const uint64_t total = std::accumulate(doubled_ranks.begin(), doubled_ranks.end(), uint64_t{0});
  std::vector<double> count(total + 1, 0.0);
  count[0] = 1;
  uint64_t reached = 0;
  for (const uint64_t rank : doubled_ranks) {
    reached += rank;
    for (uint64_t sum = reached; sum >= rank; --sum) count[sum] += count[sum - rank];
  }
  return count;
}

double ExactSignedRankP(std::span<const uint64_t> doubled_ranks, uint64_t doubled_w) {
  const std::vector<double> count = CountPatterns(doubled_ranks);
  const uint64_t tail = std::min<uint64_t>(doubled_w, count.size() - 1 - doubled_w);
  double patterns = 0;  // Whole numbers below 2^53: exact.
  for (uint64_t sum = 0; sum <= tail; ++sum) patterns += count[sum];
  return std::min(1.0, std::ldexp(patterns, 1 - static_cast<int>(doubled_ranks.size())));
}

double NormalSignedRankP(std::span<const uint64_t> doubled_ranks, uint64_t doubled_w) {
  Sum ranks;
  Sum squares;
  for (const uint64_t doubled : doubled_ranks) {
    const double rank = static_cast<double>(doubled) / 2;
    ranks.Add(rank);
    squares.Add(rank * rank);
  }
  const double distance = std::abs(static_cast<double>(doubled_w) / 2 - ranks.value() / 2);
  const double z = std::max(0.0, distance - 0.5) / std::sqrt(squares.value() / 4);
  return std::min(1.0, 2 * NormalCdf(-z));
}

// The means (x_i + x_j) / 2 of pairs i <= j of ascending numbers, never listed: counted below a
// bound by two pointers, selected by bisection over the bits of a double.
class PairMeans {
 public:
  explicit PairMeans(std::vector<double> ascending) : halves_(std::move(ascending)) {
    for (double& value : halves_) value /= 2;
  }

  uint64_t count() const { return uint64_t{halves_.size()} * (halves_.size() + 1) / 2; }

  // The k-th smallest, 1 <= k <= count(): the least bound with k means at or below it.
  double Select(uint64_t k) const {
    RAM_CHECK(k >= 1 && k <= count());
    int64_t low = Key(halves_.front() + halves_.front());
    int64_t high = Key(halves_.back() + halves_.back());
    while (low < high) {
      const int64_t middle =
          low +
          static_cast<int64_t>((static_cast<uint64_t>(high) - static_cast<uint64_t>(low)) / 2);
      if (CountAtMost(FromKey(middle)) >= k) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return FromKey(low);
  }

 private:
  // Whole numbers in the order of the doubles they stand for; both zeros are 0.
  static int64_t Key(double value) {
    const auto bits = std::bit_cast<int64_t>(value);
    return bits >= 0 ? bits : std::numeric_limits<int64_t>::min() - bits;
  }
  static double FromKey(int64_t key) {
    return std::bit_cast<double>(key >= 0 ? key : std::numeric_limits<int64_t>::min() - key);
  }

  uint64_t CountAtMost(double bound) const {
    uint64_t count = 0;
    size_t end = halves_.size();  // For this i: pairs with j < end are at or below the bound.
    for (size_t i = 0; i < halves_.size(); ++i) {
      while (end > i && halves_[i] + halves_[end - 1] > bound) --end;
      if (end <= i) break;
      count += end - i;
    }
    return count;
  }

  std::vector<double> halves_;
};

// Which pair mean, from either end, bounds the interval; 0: none does.
uint64_t IntervalRank(size_t n, double confidence) {
  const double tail = (1 - confidence) / 2;
  if (n <= kMaxExactSignedRank) {
    std::vector<uint64_t> doubled_ranks(n);
    for (size_t i = 0; i < n; ++i) doubled_ranks[i] = 2 * (i + 1);
    const std::vector<double> count = CountPatterns(doubled_ranks);
    double patterns = 0;
    uint64_t c = 0;
    while (2 * c < count.size()) {
      patterns += count[2 * c];
      if (std::ldexp(patterns, -static_cast<int>(n)) > tail) break;
      ++c;
    }
    return c;
  }
  const auto size = static_cast<double>(n);
  const double mean = size * (size + 1) / 4;
  const double sigma = std::sqrt(size * (size + 1) * (2 * size + 1) / 24);
  return static_cast<uint64_t>(mean + 0.5 - NormalQuantile((1 + confidence) / 2) * sigma);
}

}  // namespace

SignTestResult SignTest(std::span<const double> differences) {
  SignTestResult result;
  for (const double d : differences) {
    ++(d > 0 ? result.num_positive : d < 0 ? result.num_negative : result.num_zero);
  }
  const auto fewer = static_cast<int64_t>(std::min(result.num_positive, result.num_negative));
  const auto n = static_cast<int64_t>(result.num_positive + result.num_negative);
  result.p = std::min(1.0, 2 * BinomialCdf(fewer, n, 0.5));
  return result;
}

SignedRankResult SignedRankTest(std::span<const double> differences, ZeroRule zeros) {
  std::vector<double> kept(differences.begin(), differences.end());
  if (zeros == ZeroRule::kDrop) std::erase(kept, 0.0);
  const std::vector<uint64_t> all_ranks = DoubledRanks(kept);
  std::vector<uint64_t> doubled_ranks;
  uint64_t doubled_w = 0;
  for (size_t i = 0; i < kept.size(); ++i) {
    if (kept[i] == 0) continue;
    doubled_ranks.push_back(all_ranks[i]);
    if (kept[i] > 0) doubled_w += all_ranks[i];
  }
  SignedRankResult result;
  result.n = doubled_ranks.size();
  result.w_plus = static_cast<double>(doubled_w) / 2;
  result.exact = result.n <= kMaxExactSignedRank;
  if (result.n == 0) return result;
  result.p = result.exact ? ExactSignedRankP(doubled_ranks, doubled_w)
                          : NormalSignedRankP(doubled_ranks, doubled_w);
  return result;
}

Estimate HodgesLehmann(std::span<const double> values, double confidence) {
  RAM_CHECK(!values.empty());
  const PairMeans means(Sorted(values));
  const uint64_t count = means.count();
  Estimate estimate;
  estimate.value = count % 2 == 1 ? means.Select(count / 2 + 1)
                                  : means.Select(count / 2) / 2 + means.Select(count / 2 + 1) / 2;
  const uint64_t c = IntervalRank(values.size(), confidence);
  if (c == 0) {
    estimate.interval = {-kInfinity, kInfinity};
  } else {
    estimate.interval = {means.Select(c), means.Select(count + 1 - c)};
  }
  estimate.p = SignedRankTest(values, ZeroRule::kDrop).p;
  return estimate;
}

std::vector<double> Holm(std::span<const double> p) {
  std::vector<size_t> order;
  for (size_t i = 0; i < p.size(); ++i) {
    if (!std::isnan(p[i])) order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] < p[b]; });
  std::vector<double> adjusted(p.begin(), p.end());
  double largest = 0;
  for (size_t j = 0; j < order.size(); ++j) {
    largest = std::max(largest, static_cast<double>(order.size() - j) * p[order[j]]);
    adjusted[order[j]] = std::min(1.0, largest);
  }
  return adjusted;
}

double KendallTau(std::span<const double> x, std::span<const double> y) {
  RAM_CHECK(x.size() == y.size());
  const auto sign = [](double d) { return d > 0 ? 1 : d < 0 ? -1 : 0; };
  int64_t score = 0;
  int64_t untied_x = 0;
  int64_t untied_y = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    for (size_t j = i + 1; j < x.size(); ++j) {
      const int in_x = sign(x[i] - x[j]);
      const int in_y = sign(y[i] - y[j]);
      score += in_x * in_y;
      untied_x += in_x != 0;
      untied_y += in_y != 0;
    }
  }
  if (untied_x == 0 || untied_y == 0) return kUndefined;
  return static_cast<double>(score) /
         std::sqrt(static_cast<double>(untied_x) * static_cast<double>(untied_y));
}

}  // namespace ram
