#include "ram/stats/describe.h"

#include <gtest/gtest.h>

#include <cmath>

#include "ram/base/random.h"
#include "ram/stats/distributions.h"
#include "ram/stats/sum.h"
#include "ram/stats/testing.h"

namespace ram {
namespace {

TEST(SumTest, KeepsWhatHugeValuesHide) {
  EXPECT_EQ(SumOf(std::vector<double>{1, 1e100, 1, -1e100}), 2);
  const std::vector<double> tenths(10'000'000, 0.1);
  EXPECT_EQ(SumOf(tenths), 1e6);
}

// Known answers of Random123, kat_vectors, philox4x32 10.
TEST(RandomTest, PhiloxIsPhilox) {
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(Philox({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomTest, StreamsAreWordsOfPhiloxInOrder) {
  RandomStream stream(/*seed=*/(uint64_t{5} << 32) + 42, /*stream=*/(uint64_t{7} << 32) + 3);
  for (uint32_t block = 0; block < 3; ++block) {
    for (const uint32_t word : Philox({block, 0, 3, 7}, {42, 5})) EXPECT_EQ(stream.Next(), word);
  }
}

TEST(RandomTest, BelowIsUniform) {
  RandomStream stream(1, 2);
  std::vector<int> count(7);
  for (int i = 0; i < 70'000; ++i) ++count[stream.Below(7)];
  for (const int c : count) EXPECT_NEAR(c, 10'000, 400);  // 4 standard deviations.
}

TEST(DistributionsTest, KnownValues) {
  EXPECT_NEAR(NormalQuantile(0.975), 1.959963984540054, 1e-14);
  EXPECT_NEAR(NormalCdf(-10) / 7.619853024160527e-24, 1, 1e-12);
  EXPECT_NEAR(StudentQuantile(0.975, 5), 2.570581835636314, 1e-13);
  EXPECT_NEAR(StudentTwoSided(-1, 1), 0.5, 1e-15);
  EXPECT_NEAR(StudentTwoSided(1e9, 1) / (2e-9 / M_PI), 1, 1e-12);
  EXPECT_EQ(StudentTwoSided(INFINITY, 3), 0);
  EXPECT_EQ(BinomialCdf(-1, 5, 0.5), 0);
  EXPECT_NEAR(BinomialCdf(1, 5, 0.5), 6.0 / 32, 1e-15);
  EXPECT_EQ(BinomialCdf(5, 5, 0.5), 1);
  EXPECT_NEAR(BetaQuantile(0.5, 2, 2), 0.5, 1e-14);
}

TEST(DescribeTest, QuantilesAreLinearBetweenNeighbours) {
  const std::vector<double> x = {1, 2, 4, 8};
  EXPECT_EQ(Quantile(x, 0), 1);
  EXPECT_EQ(Quantile(x, 1), 8);
  EXPECT_DOUBLE_EQ(Quantile(x, 0.5), 3);
  EXPECT_DOUBLE_EQ(Quantile(x, 0.95), 4 + 0.85 * 4);
  EXPECT_EQ(Median(x), 3);
  EXPECT_EQ(Median(std::vector<double>{1, 2, 9}), 2);
  // Infinite values at the end stay there.
  EXPECT_EQ(Quantile(std::vector<double>{1, INFINITY, INFINITY}, 0.75), INFINITY);
}

TEST(DescribeTest, OneNumber) {
  const std::vector<double> x = {3};
  EXPECT_EQ(Median(x), 3);
  EXPECT_EQ(TrimmedMean(x, 0.25), 3);
  EXPECT_TRUE(std::isnan(Variance(x)));
  const Estimate mean = MeanEstimate(x);
  EXPECT_EQ(mean.value, 3);
  EXPECT_TRUE(std::isnan(mean.standard_error) && std::isnan(mean.p) &&
              std::isnan(mean.interval.low));
  EXPECT_TRUE(std::isinf(MedianEstimate(x).interval.low));
  EXPECT_TRUE(std::isnan(TrimmedMeanEstimate(x, 0.1).p));
}

TEST(DescribeTest, Constants) {
  const std::vector<double> zeros(9, 0.0);
  EXPECT_EQ(MeanEstimate(zeros).p, 1);
  EXPECT_EQ(MeanEstimate(zeros).interval.high, 0);
  EXPECT_EQ(TrimmedMeanEstimate(zeros, 0.25).p, 1);
  const std::vector<double> ones(9, 1.0);
  EXPECT_EQ(MeanEstimate(ones).p, 0);
  EXPECT_EQ(Variance(std::vector<double>(7, 0.1)), 0);
  EXPECT_TRUE(std::isnan(Skewness(std::vector<double>(7, 0.1))));
  EXPECT_TRUE(std::isnan(Lag1Autocorrelation(std::vector<double>(7, 0.1))));
}

// Nothing is cut: Student. Everything but the middle is cut: the extremes do not matter.
TEST(DescribeTest, TrimmedMean) {
  const std::vector<double> x = {2, -1, 4, 0.5, 3};
  const Estimate mean = MeanEstimate(x);
  const Estimate uncut = TrimmedMeanEstimate(x, 0.1);
  EXPECT_DOUBLE_EQ(uncut.value, mean.value);
  EXPECT_DOUBLE_EQ(uncut.standard_error, mean.standard_error);
  EXPECT_DOUBLE_EQ(uncut.p, mean.p);
  const std::vector<double> wild = {2, -1e9, 4e30, 0.5, 3};
  EXPECT_EQ(TrimmedMeanEstimate(wild, 0.2).value, (2 + 0.5 + 3) / 3);
  // Winsorized: 0.5 0.5 2 3 3, mean 1.8, variance 6.3 / 4; h = 3.
  EXPECT_NEAR(TrimmedMeanEstimate(wild, 0.2).standard_error, std::sqrt(6.3 / 4 * 5) / 3, 1e-14);
}

TEST(DescribeTest, RatioOfEqualClustersIsTheMean) {
  const std::vector<double> y = {2, 5, 3, 8};
  const Estimate mean = MeanEstimate(y);
  std::vector<double> sums = y;
  for (double& value : sums) value *= 7;
  const Estimate ratio = RatioEstimate(sums, std::vector<double>(4, 7.0));
  EXPECT_DOUBLE_EQ(ratio.value, mean.value);
  EXPECT_DOUBLE_EQ(ratio.standard_error, mean.standard_error);
  EXPECT_DOUBLE_EQ(ratio.p, mean.p);
}

TEST(DescribeTest, MedianIntervalOfTen) {  // P(X <= 1) = 11/1024 <= 0.025 < P(X <= 2) = 56/1024.
  const std::vector<double> x = {10, 9, 8, 7, 6, 5, 4, 3, 2, 1};
  const Estimate median = MedianEstimate(x);
  EXPECT_EQ(median.value, 5.5);
  EXPECT_EQ(median.interval.low, 2);
  EXPECT_EQ(median.interval.high, 9);
  EXPECT_TRUE(std::isinf(MedianEstimate(std::vector<double>{1, 2, 3, 4, 5}).interval.high));
  EXPECT_EQ(MedianEstimate(std::vector<double>{1, 2, 3, 4, 5, 6}).interval.high, 6);
}

TEST(DescribeTest, TailIndexOfAParetoTail) {
  std::vector<double> logs;
  RandomStream random(3, 1);
  for (int i = 0; i < 20'000; ++i) logs.push_back(-std::log(random.Uniform()) / 1.5);
  const TailIndex tail = HillTailIndex(logs, 2000);
  EXPECT_TRUE(tail.interval.Contains(1.5)) << tail.alpha;
  EXPECT_NEAR(tail.interval.high - tail.interval.low, 2 * 1.96 * tail.alpha / std::sqrt(2000),
              1e-4);
  EXPECT_DOUBLE_EQ(HillTailIndex(std::vector<double>{0, 1, 2, 4}, 2).alpha, 1 / (3.0 - 1));
  EXPECT_TRUE(std::isinf(HillTailIndex(std::vector<double>{1, 1, 1}, 2).alpha));
}

}  // namespace
}  // namespace ram
