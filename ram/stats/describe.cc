#include "ram/stats/describe.h"

#include <algorithm>
#include <cmath>

#include "ram/base/result.h"
#include "ram/stats/distributions.h"
#include "ram/stats/rank_tests.h"
#include "ram/stats/sum.h"

namespace ram {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double Count(size_t n) { return static_cast<double>(n); }

// Student's interval and test around a value whose standard error is known.
Estimate StudentEstimate(double value, double standard_error, double df, double confidence) {
  Estimate estimate;
  estimate.value = value;
  if (!(df > 0)) return estimate;
  estimate.standard_error = standard_error;
  const double reach = StudentQuantile((1 + confidence) / 2, df) * standard_error;
  estimate.interval = {value - reach, value + reach};
  if (standard_error > 0) {
    estimate.p = StudentTwoSided(value / standard_error, df);
  } else {
    estimate.p = value == 0 ? 1 : 0;
  }
  return estimate;
}

}  // namespace

std::vector<double> Sorted(std::span<const double> values) {
  std::vector<double> sorted(values.begin(), values.end());
  std::sort(sorted.begin(), sorted.end());
  return sorted;
}

double Mean(std::span<const double> values) {
  RAM_CHECK(!values.empty());
  return SumOf(values) / Count(values.size());
}

double Variance(std::span<const double> values) {
  if (values.size() < 2) return kUndefined;
  const double mean = Mean(values);
  Sum squares;
  Sum rest;  // Of x - mean: 0 but for the rounding of the mean, which it takes out.
  for (const double value : values) {
    squares.Add((value - mean) * (value - mean));
    rest.Add(value - mean);
  }
  const double n = Count(values.size());
  return std::max(0.0, squares.value() - rest.value() * rest.value() / n) / (n - 1);
}

double StandardDeviation(std::span<const double> values) { return std::sqrt(Variance(values)); }

double Quantile(std::span<const double> ascending, double q) {
  RAM_CHECK(!ascending.empty() && q >= 0 && q <= 1);
  const double position = q * Count(ascending.size() - 1);
  const auto below = std::min(static_cast<size_t>(position), ascending.size() - 1);
  const size_t above = std::min(below + 1, ascending.size() - 1);
  const double share = position - Count(below);
  if (share == 0 || ascending[below] == ascending[above]) return ascending[below];
  return ascending[below] + share * (ascending[above] - ascending[below]);
}

double Median(std::span<const double> ascending) {
  RAM_CHECK(!ascending.empty());
  const size_t n = ascending.size();
  if (n % 2 == 1) return ascending[n / 2];
  return ascending[n / 2 - 1] / 2 + ascending[n / 2] / 2;
}

size_t CutCount(size_t n, double cut) {
  RAM_CHECK(cut >= 0 && cut < 0.5);
  return static_cast<size_t>(cut * Count(n));
}

double TrimmedMean(std::span<const double> ascending, double cut) {
  const size_t g = CutCount(ascending.size(), cut);
  return Mean(ascending.subspan(g, ascending.size() - 2 * g));
}

double WinsorizedVariance(std::span<const double> ascending, double cut) {
  const size_t g = CutCount(ascending.size(), cut);
  std::vector<double> values(ascending.begin(), ascending.end());
  const size_t last = values.size() - 1 - g;
  for (size_t i = 0; i < g; ++i) {
    values[i] = values[g];
    values[values.size() - 1 - i] = values[last];
  }
  return Variance(values);
}

double Skewness(std::span<const double> values) {
  const double mean = Mean(values);
  Sum squares;
  Sum cubes;
  for (const double value : values) {
    const double d = value - mean;
    squares.Add(d * d);
    cubes.Add(d * d * d);
  }
  const double n = Count(values.size());
  const double variance = squares.value() / n;
  // What rounding of the mean leaves of a constant is no shape.
  const double rounding = 4 * std::abs(mean) * std::numeric_limits<double>::epsilon();
  if (variance <= rounding * rounding) return kUndefined;
  return cubes.value() / n / (variance * std::sqrt(variance));
}

double Lag1Autocorrelation(std::span<const double> values) {
  if (values.size() < 3) return kUndefined;
  const double mean = Mean(values);
  Sum squares;
  Sum products;
  for (size_t i = 0; i < values.size(); ++i) {
    squares.Add((values[i] - mean) * (values[i] - mean));
    if (i > 0) products.Add((values[i - 1] - mean) * (values[i] - mean));
  }
  const double rounding = 4 * std::abs(mean) * std::numeric_limits<double>::epsilon();
  if (squares.value() <= Count(values.size()) * rounding * rounding) return kUndefined;
  return products.value() / squares.value();
}

Estimate MeanEstimate(std::span<const double> values, double confidence) {
  const double n = Count(values.size());
  return StudentEstimate(Mean(values), std::sqrt(Variance(values) / n), n - 1, confidence);
}

Estimate RatioEstimate(std::span<const double> values, std::span<const double> weights,
                       double confidence) {
  RAM_CHECK(!values.empty() && values.size() == weights.size());
  const double total = SumOf(weights);
  RAM_CHECK(total > 0);
  const double ratio = SumOf(values) / total;
  Sum squares;
  for (size_t i = 0; i < values.size(); ++i) {
    const double residual = values[i] - ratio * weights[i];
    squares.Add(residual * residual);
  }
  const double n = Count(values.size());
  const double error = std::sqrt(n / (n - 1) * squares.value()) / total;
  return StudentEstimate(ratio, error, n - 1, confidence);
}

Estimate LogRatioEstimate(std::span<const double> a, std::span<const double> b, double confidence) {
  RAM_CHECK(!a.empty() && a.size() == b.size());
  const double sum_a = SumOf(a);
  const double sum_b = SumOf(b);
  if (!(sum_a > 0 && sum_b > 0)) return {};
  Sum squares;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = a[i] / sum_a - b[i] / sum_b;
    squares.Add(difference * difference);
  }
  const double n = Count(a.size());
  return StudentEstimate(std::log(sum_a / sum_b), std::sqrt(n / (n - 1) * squares.value()), n - 1,
                         confidence);
}

Estimate TrimmedMeanEstimate(std::span<const double> values, double cut, double confidence) {
  const std::vector<double> ascending = Sorted(values);
  const double n = Count(values.size());
  const double h = n - 2 * Count(CutCount(values.size(), cut));
  const double error = std::sqrt(WinsorizedVariance(ascending, cut) * n) / h;
  return StudentEstimate(TrimmedMean(ascending, cut), error, h - 1, confidence);
}

Estimate MedianEstimate(std::span<const double> values, double confidence) {
  const std::vector<double> ascending = Sorted(values);
  const auto n = static_cast<int64_t>(ascending.size());
  const double tail = (1 - confidence) / 2;
  Estimate estimate;
  estimate.value = Median(ascending);
  estimate.p = SignTest(values).p;
  // The largest k with P(X <= k - 1) <= tail, by bisection.
  int64_t k = 0;
  int64_t too_large = n / 2 + 1;
  while (too_large - k > 1) {
    const int64_t middle = k + (too_large - k) / 2;
    (BinomialCdf(middle - 1, n, 0.5) <= tail ? k : too_large) = middle;
  }
  if (k == 0) {
    estimate.interval = {-kInfinity, kInfinity};
  } else {
    estimate.interval = {ascending[static_cast<size_t>(k - 1)],
                         ascending[static_cast<size_t>(n - k)]};
  }
  return estimate;
}

TailIndex HillTailIndex(std::span<const double> logs, size_t k, double confidence) {
  RAM_CHECK(k >= 1 && k < logs.size());
  const std::vector<double> ascending = Sorted(logs);
  const std::span<const double> largest = std::span(ascending).last(k);
  const double threshold = ascending[ascending.size() - 1 - k];
  Sum excess;
  for (const double value : largest) excess.Add(value - threshold);
  TailIndex tail;
  tail.k = k;
  tail.alpha = excess.value() > 0 ? Count(k) / excess.value() : kInfinity;
  const double reach = NormalQuantile((1 + confidence) / 2) / std::sqrt(Count(k));
  tail.interval = {std::max(0.0, tail.alpha * (1 - reach)), tail.alpha * (1 + reach)};
  if (std::isinf(tail.alpha)) tail.interval = {kInfinity, kInfinity};
  return tail;
}

}  // namespace ram
