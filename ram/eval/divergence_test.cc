#include "ram/eval/divergence.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace ram {
namespace {

using Floats = std::vector<float>;

Floats Logs(const std::vector<double>& probabilities) {
  Floats logs;
  for (const double p : probabilities) logs.push_back(static_cast<float>(std::log(p)));
  return logs;
}

LogProbs Of(const Floats& logits) { return {logits, LogTotal(logits).value()}; }

TEST(DivergenceTest, LogTotal) {
  EXPECT_DOUBLE_EQ(*LogTotal(Floats{0, 0}), std::log(2.0));
  EXPECT_DOUBLE_EQ(*LogTotal(Floats{1000, 1000, 1000, 1000}), 1000 + std::log(4.0));
  EXPECT_DOUBLE_EQ(*LogTotal(Floats{-3}), -3);
  EXPECT_FALSE(LogTotal(Floats{1, std::nanf("")}).has_value());
  EXPECT_FALSE(LogTotal(Floats{1, HUGE_VALF, 2}).has_value());
  EXPECT_FALSE(LogTotal(Floats{-HUGE_VALF, 1}).has_value());
}

// p = (1/2, 1/4, 1/4), q = (1/4, 1/4, 1/2):
//   KL = ln 2 / 2 - ln 2 / 4 = ln 2 / 4, the same in reverse; m = (3/8, 1/4, 3/8):
//   KL(p || m) = ln(4/3) / 2 + ln(2/3) / 4.
TEST(DivergenceTest, ByHand) {
  const Floats p = Logs({0.5, 0.25, 0.25});
  const Floats q = Logs({0.25, 0.25, 0.5});
  const TokenDivergence found = Diverge(Of(p), Of(q), 2);
  EXPECT_NEAR(found.kl, std::log(2.0) / 4, 1e-7);
  EXPECT_NEAR(found.reverse_kl, std::log(2.0) / 4, 1e-7);
  EXPECT_NEAR(found.jensen_shannon, std::log(4.0 / 3) / 2 + std::log(2.0 / 3) / 4, 1e-7);
  EXPECT_NEAR(found.delta_p, 0.25, 1e-7);
  EXPECT_NEAR(found.base_nll, std::log(4.0), 1e-6);
  EXPECT_NEAR(found.nll, std::log(2.0), 1e-6);
  EXPECT_FALSE(found.same_top);
  EXPECT_EQ(found.top5, 1);
}

TEST(DivergenceTest, IsNotSymmetric) {
  const Floats p = Logs({0.9, 0.1});
  const Floats q = Logs({0.5, 0.5});
  const TokenDivergence found = Diverge(Of(p), Of(q), 0);
  EXPECT_NEAR(found.kl, 0.9 * std::log(1.8) + 0.1 * std::log(0.2), 1e-7);
  EXPECT_NEAR(found.reverse_kl, 0.5 * std::log(5 / 9.0) + 0.5 * std::log(5.0), 1e-7);
  EXPECT_TRUE(found.same_top);  // Of equals the lowest id.
}

// Shifted logits are the same distribution; equal logits are so to the bit.
TEST(DivergenceTest, EqualModelsGiveExactlyZero) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0, 8);
  Floats logits(5000);
  for (float& logit : logits) logit = normal(random);
  const TokenDivergence found = Diverge(Of(logits), Of(logits), 4999);
  EXPECT_EQ(found.kl, 0);
  EXPECT_EQ(found.reverse_kl, 0);
  EXPECT_EQ(found.jensen_shannon, 0);
  EXPECT_EQ(found.delta_p, 0);
  EXPECT_TRUE(found.same_top);
  EXPECT_EQ(found.top5, 1);
  Floats shifted = logits;
  for (float& logit : shifted) logit += 64;
  EXPECT_LT(Diverge(Of(logits), Of(shifted), 0).kl, 1e-9);
}

// Distributions that hardly share anything: Jensen-Shannon ends at ln 2, nothing overflows.
TEST(DivergenceTest, FarApart) {
  const Floats p = {1000, 0, -1000};
  const Floats q = {-1000, 0, 1000};
  const TokenDivergence found = Diverge(Of(p), Of(q), 1);
  EXPECT_NEAR(found.kl, 2000, 1e-6);
  EXPECT_NEAR(found.reverse_kl, 2000, 1e-6);
  EXPECT_NEAR(found.jensen_shannon, std::log(2.0), 1e-12);
  EXPECT_NEAR(found.nll, 1000, 1e-9);
}

TEST(DivergenceTest, CutoffLeavesOutWhatIsUnlikely) {
  const Floats p = {std::log(0.75F), -16, std::log(0.25F)};
  const Floats q = {std::log(0.5F), -1, std::log(0.5F)};
  const TokenDivergence found = Diverge({p, 0, -16}, {q, 0}, 0);
  EXPECT_NEAR(found.kl, 0.75 * std::log(1.5) + 0.25 * std::log(0.5), 1e-7);
  EXPECT_GT(found.reverse_kl, std::exp(-1) * 14);  // Kept there: the model's mass is real.
}

TEST(DivergenceTest, TopFive) {
  const Floats p = {9, 8, 7, 6, 5, 4, 3, 2, 1, 0};
  const Floats q = {8, 9, 7, 0, 0, 6, 5, 2, 1, 0};  // Its five: 1 0 2 5 6.
  const TokenDivergence found = Diverge(Of(p), Of(q), 0);
  EXPECT_FALSE(found.same_top);
  EXPECT_DOUBLE_EQ(found.top5, 3.0 / 5);
  const Floats ties = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1};  // The lowest ids.
  EXPECT_DOUBLE_EQ(Diverge(Of(p), Of(ties), 0).top5, 1);
}

TEST(DivergenceTest, Summary) {
  std::vector<TokenDivergence> tokens(6);
  const double kl[] = {1, 2, 3, 4, 5, 9};
  for (size_t i = 0; i < 6; ++i) {
    tokens[i].kl = kl[i];
    tokens[i].delta_p = i % 2 == 0 ? 0.3 : -0.3;
    tokens[i].base_nll = kl[i];
    tokens[i].nll = 2 * kl[i] + 1;
    tokens[i].same_top = i < 3;
    tokens[i].top5 = 0.5;
  }
  const std::vector<uint64_t> windows = {2, 4};
  const DivergenceSummary summary = SummarizeDivergence(tokens, windows);
  EXPECT_EQ(summary.num_tokens, 6u);
  EXPECT_DOUBLE_EQ(summary.kl.mean.value, 4);
  EXPECT_EQ(summary.window_kl, (std::vector<double>{1.5, 5.25}));
  // Cochran: sqrt(2 / 1 * ((3 - 8)^2 + (21 - 16)^2)) / 6.
  EXPECT_DOUBLE_EQ(summary.kl.mean.standard_error, 10.0 / 6);
  EXPECT_DOUBLE_EQ(summary.kl.token_standard_error, std::sqrt(40.0 / 5 / 6));
  EXPECT_DOUBLE_EQ(summary.kl.max, 9);
  EXPECT_DOUBLE_EQ(summary.kl.quantiles[5], 3.5);  // The median.
  EXPECT_DOUBLE_EQ(summary.rms_delta_p, 0.3);
  EXPECT_DOUBLE_EQ(summary.delta_p.mean.value, 0);
  EXPECT_DOUBLE_EQ(summary.same_top.value, 0.5);
  EXPECT_DOUBLE_EQ(summary.top5.value, 0.5);
  EXPECT_DOUBLE_EQ(summary.log_ratio.value, 5);
  EXPECT_DOUBLE_EQ(summary.correlation, 1);
  EXPECT_DOUBLE_EQ(CompareDivergence(tokens, tokens, windows).value, 0);
}

TEST(DivergenceTest, OneWindowHasNoStandardError) {
  const std::vector<TokenDivergence> tokens(3, TokenDivergence{.kl = 0.5});
  const DivergenceSummary summary = SummarizeDivergence(tokens, std::vector<uint64_t>{3});
  EXPECT_DOUBLE_EQ(summary.kl.mean.value, 0.5);
  EXPECT_TRUE(std::isnan(summary.kl.mean.standard_error));
}

}  // namespace
}  // namespace ram
