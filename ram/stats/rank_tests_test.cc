#include "ram/stats/rank_tests.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "ram/stats/testing.h"

namespace ram {
namespace {

// All 2^n sign patterns of the given ranks: P(W+ as far from the middle as observed).
double EnumeratedP(const std::vector<double>& ranks, double w_plus) {
  double total = 0;
  for (const double rank : ranks) total += rank;
  size_t as_far = 0;
  const size_t patterns = size_t{1} << ranks.size();
  for (size_t pattern = 0; pattern < patterns; ++pattern) {
    double w = 0;
    for (size_t i = 0; i < ranks.size(); ++i) w += (pattern >> i & 1) != 0 ? ranks[i] : 0;
    as_far += std::abs(w - total / 2) >= std::abs(w_plus - total / 2);
  }
  return static_cast<double>(as_far) / static_cast<double>(patterns);
}

TEST(SignTest, CountsOut) {
  EXPECT_EQ(SignTest(std::vector<double>{0, 0}).p, 1);
  const SignTestResult result = SignTest(std::vector<double>{1, 2, 3, 4, -1, 0});
  EXPECT_EQ(result.num_positive, 4u);
  EXPECT_EQ(result.num_negative, 1u);
  EXPECT_EQ(result.num_zero, 1u);
  EXPECT_DOUBLE_EQ(result.p, 12.0 / 32);
}

TEST(SignedRankTest, WithoutTies) {
  const std::vector<double> d = {1.1, -2.2, 3.3, 4.4, 5.5, -0.6, 7.7};
  const SignedRankResult result = SignedRankTest(d, ZeroRule::kDrop);
  EXPECT_EQ(result.w_plus, 2 + 4 + 5 + 6 + 7);
  EXPECT_TRUE(result.exact);
  EXPECT_DOUBLE_EQ(result.p, EnumeratedP({1, 2, 3, 4, 5, 6, 7}, 24));
}

TEST(SignedRankTest, TiesAndZeros) {
  const std::vector<double> d = {0, 1, -1, 1, 2, 3, 3, -4, 0, 5};
  const SignedRankResult dropped = SignedRankTest(d, ZeroRule::kDrop);
  EXPECT_EQ(dropped.n, 8u);
  EXPECT_EQ(dropped.w_plus, 2 + 2 + 4 + 5.5 + 5.5 + 8);
  EXPECT_DOUBLE_EQ(dropped.p, EnumeratedP({2, 2, 2, 4, 5.5, 5.5, 7, 8}, dropped.w_plus));
  const SignedRankResult pratt = SignedRankTest(d, ZeroRule::kPratt);
  EXPECT_EQ(pratt.n, 8u);
  EXPECT_EQ(pratt.w_plus, 4 + 4 + 6 + 7.5 + 7.5 + 10);
  EXPECT_DOUBLE_EQ(pratt.p, EnumeratedP({4, 4, 4, 6, 7.5, 7.5, 9, 10}, pratt.w_plus));
  EXPECT_EQ(SignedRankTest(std::vector<double>{0, 0, 0}, ZeroRule::kPratt).p, 1);
}

TEST(SignedRankTest, NormalAgreesWithExactWhereTheyMeet) {
  NormalStream random(11, 0);
  std::vector<double> d = random.Sample(kMaxExactSignedRank);
  for (double& value : d) value += 0.1;
  const SignedRankResult exact = SignedRankTest(d, ZeroRule::kDrop);
  d.push_back(1e-9);  // Rank 1: hardly moves W.
  const SignedRankResult normal = SignedRankTest(d, ZeroRule::kDrop);
  EXPECT_TRUE(exact.exact);
  EXPECT_FALSE(normal.exact);
  EXPECT_NEAR(exact.p, normal.p, 0.1 * exact.p);
}

TEST(HodgesLehmannTest, SelectsAmongAllPairMeans) {
  for (uint64_t stream = 0; stream < 40; ++stream) {
    NormalStream random(5, stream);
    std::vector<double> x = random.Sample(1 + stream % 60);
    if (stream % 3 == 1) {
      for (double& value : x) value = std::round(2 * value);  // Ties, zeros.
    }
    if (stream % 3 == 2) x.back() = 1e300;
    std::vector<double> means;
    for (size_t i = 0; i < x.size(); ++i) {
      for (size_t j = i; j < x.size(); ++j) means.push_back(x[i] / 2 + x[j] / 2);
    }
    std::sort(means.begin(), means.end());
    const Estimate estimate = HodgesLehmann(x);
    EXPECT_EQ(estimate.value, Median(means)) << stream;
    if (x.size() >= 6) {
      const auto low = std::lower_bound(means.begin(), means.end(), estimate.interval.low);
      const auto high = std::lower_bound(means.begin(), means.end(), estimate.interval.high);
      EXPECT_EQ(*low, estimate.interval.low);
      EXPECT_EQ(*high, estimate.interval.high);
    } else {
      EXPECT_TRUE(std::isinf(estimate.interval.low));
    }
  }
}

// n = 10: P(W <= 8) = 25/1024 <= 0.025 < P(W <= 9) = 33/1024, so the 9th smallest mean.
TEST(HodgesLehmannTest, IntervalOfTen) {
  std::vector<double> x;
  for (int i = 0; i < 10; ++i) x.push_back(std::ldexp(1.0, i));
  std::vector<double> means;
  for (size_t i = 0; i < x.size(); ++i) {
    for (size_t j = i; j < x.size(); ++j) means.push_back((x[i] + x[j]) / 2);
  }
  std::sort(means.begin(), means.end());
  const Interval interval = HodgesLehmann(x).interval;
  EXPECT_EQ(interval.low, means[8]);
  EXPECT_EQ(interval.high, means[means.size() - 9]);
}

TEST(HolmTest, StepsDown) {
  const std::vector<double> adjusted = Holm(std::vector<double>{0.01, 0.04, 0.03, NAN, 0.5});
  EXPECT_DOUBLE_EQ(adjusted[0], 0.04);
  EXPECT_DOUBLE_EQ(adjusted[2], 0.09);
  EXPECT_DOUBLE_EQ(adjusted[1], 0.09);
  EXPECT_DOUBLE_EQ(adjusted[4], 0.5);
  EXPECT_TRUE(std::isnan(adjusted[3]));
  EXPECT_EQ(Holm(std::vector<double>{0.9, 0.8})[0], 1);
}

TEST(KendallTest, Orders) {
  const std::vector<double> x = {1, 2, 3, 4};
  EXPECT_EQ(KendallTau(x, std::vector<double>{10, 20, 30, 40}), 1);
  EXPECT_EQ(KendallTau(x, std::vector<double>{4, 3, 2, 1}), -1);
  EXPECT_TRUE(std::isnan(KendallTau(x, std::vector<double>(4, 1.0))));
  EXPECT_DOUBLE_EQ(KendallTau(x, std::vector<double>{1, 1, 2, 3}), 5 / std::sqrt(30.0));
}

}  // namespace
}  // namespace ram
