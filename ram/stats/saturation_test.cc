#include "ram/stats/saturation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "ram/stats/testing.h"

namespace ram {
namespace {

// Losses of a ladder: levels above the original, the same windows for all, `noise` of each rung.
std::vector<std::vector<double>> MakeLadder(const std::vector<double>& levels, double noise,
                                            size_t windows, uint64_t seed) {
  const std::vector<double> common = NormalStream(seed, 0).Sample(windows);
  std::vector<std::vector<double>> losses;
  for (size_t rung = 0; rung < levels.size(); ++rung) {
    const std::vector<double> own = NormalStream(seed, rung + 1).Sample(windows);
    std::vector<double>& loss = losses.emplace_back();
    for (size_t w = 0; w < windows; ++w) {
      loss.push_back(4 + common[w] + levels[rung] + noise * own[w]);
    }
  }
  return losses;
}

Saturation Find(const std::vector<std::vector<double>>& losses, double margin,
                LossMean mean = LossMean::kTypical) {
  std::vector<std::span<const double>> spans(losses.begin(), losses.end());
  const std::vector<double> weights(losses.front().size(), 511);
  return FindSaturation(spans, weights, margin, mean);
}

TEST(Saturation, IsWhereLossesStopFalling) {
  for (const LossMean mean : {LossMean::kTypical, LossMean::kCorpus}) {
    const auto losses = MakeLadder({0.10, 0.03, 0.002, 0.001, 0}, 0.002, 64, 1);
    const Saturation found = Find(losses, 0.005, mean);
    ASSERT_EQ(found.rungs.size(), 4U);
    EXPECT_EQ(found.rungs[0].state, RungState::kBuys);
    EXPECT_EQ(found.rungs[1].state, RungState::kBuys);
    EXPECT_EQ(found.rungs[2].state, RungState::kSaturated);
    EXPECT_EQ(found.rungs[3].state, RungState::kSaturated);
    EXPECT_EQ(found.smallest, 2U);
    EXPECT_NEAR(found.rungs[0].difference.value, 0.1, 0.002);
    EXPECT_EQ(found.rungs[0].against, 4U);
  }
}

TEST(Saturation, FewWindowsCannotTell) {
  // The true differences are 0, but the noise is above the margin.
  const Saturation found = Find(MakeLadder({0, 0, 0}, 0.05, 8, 2), 0.005);
  EXPECT_EQ(found.rungs[0].state, RungState::kUnresolved);
  EXPECT_EQ(found.rungs[1].state, RungState::kUnresolved);
  EXPECT_FALSE(found.smallest.has_value());
}

TEST(Saturation, ASaturatedRungBelowOneThatBuysIsNone) {
  // By how losses are made, rung 1 is worse than both of its neighbours.
  const Saturation found = Find(MakeLadder({0, 0.1, 0}, 0.001, 32, 3), 0.005);
  EXPECT_EQ(found.rungs[0].state, RungState::kSaturated);
  EXPECT_EQ(found.rungs[1].state, RungState::kBuys);
  EXPECT_FALSE(found.smallest.has_value());
}

TEST(Saturation, BetterThanLargerOnesIsEnough) {
  const Saturation found = Find(MakeLadder({-0.1, 0, 0}, 0.0005, 32, 4), 0.005);
  EXPECT_EQ(found.smallest, 0U);
}

TEST(Saturation, OriginalAlone) {
  const Saturation found = Find(MakeLadder({0}, 0, 4, 5), 0.005);
  EXPECT_TRUE(found.rungs.empty());
  EXPECT_FALSE(found.smallest.has_value());
}

// At a true difference of exactly the margin, saturation is claimed in 5 % of the studies.
TEST(Saturation, LevelIsFivePercent) {
  for (const LossMean mean : {LossMean::kTypical, LossMean::kCorpus}) {
    constexpr int kStudies = 4000;
    int claims = 0;
    for (uint64_t seed = 0; seed < kStudies; ++seed) {
      const auto losses = MakeLadder({0.005, 0}, 0.01, 24, seed);
      if (Find(losses, 0.005, mean).smallest.has_value()) ++claims;
    }
    EXPECT_NEAR(claims / double{kStudies}, 0.05, 0.0125);  // 3.6 standard deviations.
  }
}

TEST(LogRatio, IsThatOfTheMeansAndCovers) {
  const std::vector<double> a = {1, 2, 3, 6};
  const std::vector<double> b = {2, 2, 4, 8};
  const Estimate ratio = LogRatioEstimate(a, b);
  EXPECT_NEAR(ratio.value, std::log(12.0 / 16), 1e-15);
  // sum (a / 12 - b / 16)^2 = (1/24)^2 + (1/24)^2 + 0 + 0, times 4 / 3.
  EXPECT_NEAR(ratio.standard_error, std::sqrt(4.0 / 3 * 2 / 576), 1e-15);
  EXPECT_LT(ratio.interval.low, ratio.value);
  const std::vector<double> zeros = {0, 0, 0, 0};
  EXPECT_TRUE(std::isnan(LogRatioEstimate(zeros, b).value));

  // Two paired samples with common windows and a true ratio of 0.6.
  int covered = 0;
  constexpr int kSamples = 4000;
  for (uint64_t seed = 0; seed < kSamples; ++seed) {
    NormalStream random(seed, 9);
    std::vector<double> x;
    std::vector<double> y;
    for (int w = 0; w < 24; ++w) {
      const double common = std::exp(0.3 * random.Next());
      x.push_back(0.6 * common * std::exp(0.1 * random.Next()));
      y.push_back(common * std::exp(0.1 * random.Next()));
    }
    if (LogRatioEstimate(x, y).interval.Contains(std::log(0.6))) ++covered;
  }
  EXPECT_NEAR(covered / double{kSamples}, 0.95, 0.015);
}

}  // namespace
}  // namespace ram
