#pragma once

// Tests and estimates that no outlier can bend: signs and signed ranks of paired differences, and
// what to do about many tests at once.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "ram/stats/describe.h"

namespace ram {

// Two-sided exact binomial test that positive and negative differences are equally likely. Zeros
// say nothing and are left out; p = 1 if nothing is left. Source: Dixon and Mood (1946).
struct SignTestResult {
  size_t num_positive = 0;
  size_t num_negative = 0;
  size_t num_zero = 0;
  double p = 1;
};
SignTestResult SignTest(std::span<const double> differences);

enum class ZeroRule : uint8_t {
  kDrop,   // Wilcoxon (1945): zeros are left out before ranking.
  kPratt,  // Pratt (1959): zeros are ranked with the others, then left out.
};

// Up to this many non-zero differences the null distribution is counted out: with ties too, given
// the ties. Counts of sign patterns stay whole in doubles up to 2^53.
inline constexpr size_t kMaxExactSignedRank = 50;

// Wilcoxon's signed-rank test that the differences are symmetric about 0. Equal |d| share the mean
// of their ranks. Above kMaxExactSignedRank: normal, mean and variance given the ranks
//   mu = sum r / 2,  sigma^2 = sum r^2 / 4   (= n(n+1)(2n+1)/24 - sum(t^3 - t)/48 under kDrop),
// with continuity correction 1/2. p = 1 if all are zero.
struct SignedRankResult {
  size_t n = 0;       // Without zeros.
  double w_plus = 0;  // Sum of the ranks of positive differences.
  double p = 1;       // Two-sided.
  bool exact = true;
};
SignedRankResult SignedRankTest(std::span<const double> differences, ZeroRule zeros);

// Hodges-Lehmann estimate: median of the n (n + 1) / 2 means of pairs (x_i + x_j) / 2, i <= j; with
// the interval that inverts the signed-rank test (Hodges and Lehmann 1963): the c-th smallest and
// largest mean, c from the exact null distribution up to n = 50, above that the whole part of
// mu + 1/2 - z sigma. Zeros and ties count like all others. p is that of SignedRankTest(kDrop).
// For n < 6 there is no 95 % interval. Exact selection in O(n) memory and O(64 n) time.
Estimate HodgesLehmann(std::span<const double> values, double confidence = kConfidence);

// Holm's adjusted p (1979): with the p in ascending order, max over j <= i of (m - j) p_j, at most
// 1. The probability of one false claim among those with adjusted p <= a is at most a.
// NaN stays NaN and is not counted.
std::vector<double> Holm(std::span<const double> p);

// Kendall's tau-b of two orderings: (concordant - discordant) / sqrt((pairs - ties in x) (pairs -
// ties in y)). 1: the same order, -1: the reverse. NaN if either is constant. O(n^2).
double KendallTau(std::span<const double> x, std::span<const double> y);

}  // namespace ram
