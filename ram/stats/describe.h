#pragma once

// One sample of numbers: location, spread, tails.
//
// Everywhere in ram/stats: numbers are finite (readers of files see to that), samples are not
// empty, sums are compensated (sum.h), and what is not defined (the standard deviation of one
// number) is NaN. Interval levels are two-sided; the default is 95 %.

#include <cstddef>
#include <limits>
#include <span>
#include <vector>

namespace ram {

inline constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();
inline constexpr double kConfidence = 0.95;

struct Interval {
  double low = kUndefined;  // -inf and inf: the sample is too small for any bound.
  double high = kUndefined;

  bool Contains(double value) const { return low <= value && value <= high; }
};

// An estimate with what is known about it; p is two-sided, for the hypothesis that the truth is 0.
struct Estimate {
  double value = kUndefined;
  double standard_error = kUndefined;
  Interval interval;
  double p = kUndefined;
};

std::vector<double> Sorted(std::span<const double> values);

double Mean(std::span<const double> values);
// sum (x - mean)^2 / (n - 1), in two passes. NaN for n = 1.
double Variance(std::span<const double> values);
double StandardDeviation(std::span<const double> values);

// Quantile q in [0, 1] of ascending numbers: linear between the two values around position
// q (n - 1), counted from 0. Type 7 of Hyndman and Fan (1996); numpy's and llama.cpp's rule.
double Quantile(std::span<const double> ascending, double q);
// Quantile 1/2: the middle value, or the mean of the two middle ones.
double Median(std::span<const double> ascending);

// Values cut from each end by a share c: floor(c n).
size_t CutCount(size_t n, double cut);
// Arithmetic mean of what is left when floor(c n) values are cut from each end; 0 <= c < 1/2.
double TrimmedMean(std::span<const double> ascending, double cut);
// Variance after the cut values are set to the nearest value that is kept.
double WinsorizedVariance(std::span<const double> ascending, double cut);

// sqrt(b) = m3 / m2^1.5 with moments over n. NaN for a constant.
double Skewness(std::span<const double> values);
// Correlation of each value with the next one: sum (x_i - m)(x_{i+1} - m) / sum (x_i - m)^2, values
// in the order given. NaN for a constant or n < 3.
double Lag1Autocorrelation(std::span<const double> values);

// Mean with Student's interval and test: SE = sd / sqrt(n), n - 1 degrees of freedom. A constant
// that is not 0 has p = 0, the constant 0 has p = 1.
Estimate MeanEstimate(std::span<const double> values, double confidence = kConfidence);

// sum(values) / sum(weights) with clusters (windows) as the unit that was drawn at random: value i
// is the sum over cluster i, weight i its size. Linearized ratio estimator (Cochran 1977, 6.3):
//   SE^2 = n / (n - 1) * sum (y_i - r w_i)^2 / (sum w)^2,  n - 1 degrees of freedom.
// With equal weights this is MeanEstimate of y / w. Weights are > 0.
Estimate RatioEstimate(std::span<const double> values, std::span<const double> weights,
                       double confidence = kConfidence);

// ln(sum(a) / sum(b)) for two quantities of the same clusters (paired), e.g. divergences of two
// models, by linearization:
//   SE^2 = n / (n - 1) * sum (a_i / sum a - b_i / sum b)^2,  n - 1 degrees of freedom.
// NaN where a sum is not positive.
Estimate LogRatioEstimate(std::span<const double> a, std::span<const double> b,
                          double confidence = kConfidence);

// Trimmed mean with the interval of Tukey and McLaughlin (1963):
//   g = floor(c n),  h = n - 2 g;  SE = s_w sqrt(n) / h,  h - 1 degrees of freedom
// with the winsorized standard deviation s_w. Where c n is whole, h / n = 1 - 2 c, as the formula
// is usually written; where nothing is cut this is Student's interval.
Estimate TrimmedMeanEstimate(std::span<const double> values, double cut,
                             double confidence = kConfidence);

// Median with the interval between two order statistics x_(k) and x_(n+1-k), k the largest with
// P(Binomial(n, 1/2) < k) <= (1 - confidence) / 2; its level is at least `confidence`. No standard
// error; p is that of the sign test (rank_tests.h). For n < 6 there is no 95 % interval.
Estimate MedianEstimate(std::span<const double> values, double confidence = kConfidence);

// How fast the upper tail of p falls, P(p > x) ~ x^-alpha, from the k + 1 largest ln p:
//   1 / alpha = (1/k) sum_{i<=k} ln p_(i) - ln p_(k+1);  interval alpha (1 -+ z / sqrt(k)).
// alpha <= 1: p has no mean; alpha <= 2: no variance. Source: Hill (1975).
// `logs` are ln p in any order; 1 <= k < n. Infinite where the k + 1 largest are equal.
struct TailIndex {
  double alpha = kUndefined;
  Interval interval;
  size_t k = 0;
};
TailIndex HillTailIndex(std::span<const double> logs, size_t k, double confidence = kConfidence);

}  // namespace ram
