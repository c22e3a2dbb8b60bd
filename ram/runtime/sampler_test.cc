#include "ram/runtime/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace ram {
namespace {

TEST(SamplerTest, GreedyTakesTheFirstOfEquals) {
  EXPECT_EQ(SampleToken(std::vector<float>{1, 3, 2, 3}, {}, 0, 0), 1);
}

TEST(SamplerTest, FrequenciesFollowTheTemperature) {
  const std::vector<float> logits = {0, 1, 2};
  const Sampling sampling{.temperature = 2, .seed = 5};
  std::vector<double> count(3);
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i) {
    ++count[static_cast<size_t>(SampleToken(logits, sampling, 3, static_cast<uint64_t>(i)))];
  }
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit / 2);
  for (size_t i = 0; i < 3; ++i) {
    const double p = std::exp(logits[i] / 2) / sum;
    EXPECT_NEAR(count[i] / kDraws, p, 4 * std::sqrt(p * (1 - p) / kDraws));
  }
}

TEST(SamplerTest, TopKAndTopPCutTheTail) {
  const std::vector<float> logits = {0, 5, 4.9F, 1};
  for (uint64_t i = 0; i < 500; ++i) {
    const int32_t of_two = SampleToken(logits, {.temperature = 9, .top_k = 2, .seed = i}, 0, i);
    EXPECT_TRUE(of_two == 1 || of_two == 2);
    EXPECT_EQ(SampleToken(logits, {.temperature = 1, .top_p = 0.3, .seed = i}, 0, i), 1);
  }
}

TEST(SamplerTest, DependsOnSeedSequenceAndPositionAlone) {
  const std::vector<float> logits(1000, 0.5F);
  const Sampling sampling{.temperature = 1, .seed = 7};
  const int32_t id = SampleToken(logits, sampling, 1, 2);
  EXPECT_EQ(SampleToken(logits, sampling, 1, 2), id);
  EXPECT_NE(SampleToken(logits, sampling, 1, 3), id);
  EXPECT_NE(SampleToken(logits, sampling, 2, 2), id);
}

}  // namespace
}  // namespace ram
