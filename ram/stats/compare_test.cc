#include "ram/stats/compare.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "ram/stats/testing.h"

namespace ram {
namespace {

std::vector<double> Ones(size_t n) { return std::vector<double>(n, 1.0); }

TEST(PerplexityTest, ThreeWindows) {
  const std::vector<double> nll = {std::log(2), std::log(4), std::log(1000)};
  const auto summary = SummarizePerplexity(nll, std::vector<double>{10, 10, 20});
  ASSERT_TRUE(summary.ok());
  EXPECT_NEAR(summary->corpus, std::pow(8.0, 0.25) * std::sqrt(1000), 1e-9);
  EXPECT_EQ(summary->num_tokens, 40);
  EXPECT_DOUBLE_EQ(summary->median, 4);
  EXPECT_NEAR(summary->arithmetic_mean, 1006.0 / 3, 1e-9);
  EXPECT_EQ(summary->num_outliers, 1u);
  EXPECT_NEAR(summary->corpus_without_outliers, std::sqrt(8.0), 1e-12);
  EXPECT_EQ(summary->most_influential, 2u);
  EXPECT_NEAR(summary->corpus_without_it, std::sqrt(8.0), 1e-12);
  EXPECT_TRUE(summary->heavy_tailed);
  EXPECT_TRUE(std::isnan(summary->tail.alpha));
}

TEST(PerplexityTest, SaysWhatIsWrong) {
  const auto message = [](std::vector<double> nll, std::vector<double> tokens) {
    const auto summary = SummarizePerplexity(nll, tokens);
    return summary.ok() ? std::string("accepted") : summary.error().message;
  };
  EXPECT_EQ(message({}, {}), "perplexity: no windows");
  EXPECT_EQ(message({1, 2}, {1}), "perplexity: 2 windows but 1 token counts");
  EXPECT_EQ(message({1, NAN}, {1, 1}),
            "perplexity: window 1 has the score nan, expected a finite number");
  EXPECT_EQ(message({1, 1}, {1, 0}), "perplexity: window 1 has 0 tokens, expected at least one");
}

TEST(FlipSetTest, RemovesLargestFirst) {
  const std::vector<double> d = {5, -1, -1, 3, -1, -1};  // Sum 4: without the 5 it is -1.
  const FlipSet flip = SmallestFlipSet(d, Ones(6));
  EXPECT_EQ(flip.windows, std::vector<size_t>{0});
  EXPECT_DOUBLE_EQ(flip.log_ratio_without, -0.2);
  EXPECT_TRUE(flip.fragile);
  // Tokens weigh.
  EXPECT_EQ(SmallestFlipSet(d, std::vector<double>{1, 1, 1, 9, 1, 1}).windows,
            (std::vector<size_t>{3, 0}));
  EXPECT_TRUE(SmallestFlipSet(std::vector<double>{1, -1}, Ones(2)).windows.empty());
  const FlipSet all = SmallestFlipSet(std::vector<double>{-1, -2}, Ones(2));
  EXPECT_EQ(all.windows, (std::vector<size_t>{1, 0}));
  EXPECT_FALSE(all.fragile);
  EXPECT_TRUE(std::isnan(all.log_ratio_without));
}

// Greedy is exact: no smaller set of any windows turns the sign.
TEST(FlipSetTest, NoSmallerSetExists) {
  for (uint64_t stream = 0; stream < 50; ++stream) {
    NormalStream random(21, stream);
    std::vector<double> d = random.Sample(12);
    std::vector<double> tokens = random.Sample(12);
    for (double& t : tokens) t = 1 + std::abs(t);
    double sum = 0;
    for (size_t i = 0; i < 12; ++i) sum += tokens[i] * d[i];
    int smallest = 12;
    for (unsigned set = 0; set < 1u << 12; ++set) {
      double rest = 0;
      for (size_t i = 0; i < 12; ++i) rest += (set >> i & 1) != 0 ? 0 : tokens[i] * d[i];
      if (rest * sum <= 0) smallest = std::min(smallest, __builtin_popcount(set));
    }
    EXPECT_EQ(SmallestFlipSet(d, tokens).windows.size(), static_cast<size_t>(smallest)) << stream;
  }
}

TEST(InversionTest, ResolvedAndApparent) {
  const auto estimate = [](double value, double reach) {
    Estimate e;
    e.value = value;
    e.interval = {value - reach, value + reach};
    return e;
  };
  EXPECT_EQ(FindInversion(estimate(1, 0.5), estimate(2, 0.5)), Inversion::kNone);
  EXPECT_EQ(FindInversion(estimate(1, 2), estimate(-2, 0.5)), Inversion::kApparent);
  EXPECT_EQ(FindInversion(estimate(1, 0.5), estimate(-2, 0.5)), Inversion::kResolved);
}

TEST(PairTest, DetectableDifference) {
  // About 2.80 standard errors for many windows; more where the standard error itself is a guess.
  EXPECT_NEAR(DetectableDifference(1, 100'000), 2.8016, 1e-3);
  EXPECT_NEAR(DetectableDifference(1, 10), 2.262157 + 0.883404, 1e-5);
  EXPECT_NEAR(WindowsNeeded(1, 100'000, 2.8016), 1e5, 2);
  EXPECT_TRUE(std::isinf(WindowsNeeded(1, 10, 0)));
}

TEST(PairTest, ModelsThatAreEqual) {
  const std::vector<double> nll = {1, 2, 3, 4, 5, 6, 7, 8};
  const auto comparison = CompareModels({{"a", nll}, {"b", nll}}, Ones(8));
  ASSERT_TRUE(comparison.ok());
  const PairComparison& pair = comparison->pairs[0];
  EXPECT_EQ(pair.finding, Finding::kIdentical);
  EXPECT_EQ(pair.result.trimmed.p, 1);
  EXPECT_EQ(pair.result.wilcoxon.p, 1);
  EXPECT_TRUE(pair.result.flip.windows.empty());
  EXPECT_EQ(pair.result.bootstrap.low, 0);
}

TEST(CompareTest, PairsAndBase) {
  const std::vector<ModelScores> models = {{"a", {1, 2, 3}}, {"b", {1, 2, 4}}, {"c", {1, 3, 3}}};
  auto comparison = CompareModels(models, Ones(3));
  ASSERT_TRUE(comparison.ok());
  ASSERT_EQ(comparison->pairs.size(), 3u);
  EXPECT_EQ(comparison->pairs[2].a, 2u);
  EXPECT_EQ(comparison->pairs[2].b, 1u);
  CompareOptions options;
  options.base = 1;
  comparison = CompareModels(models, Ones(3), options);
  ASSERT_EQ(comparison->pairs.size(), 2u);
  EXPECT_EQ(comparison->pairs[0].a, 0u);
  EXPECT_EQ(comparison->pairs[0].b, 1u);
  EXPECT_EQ(comparison->pairs[1].a, 2u);
  const auto wrong = CompareModels({{"a", {1, 2, 3}}, {"b", {1, 2}}}, Ones(3));
  ASSERT_FALSE(wrong.ok());
  EXPECT_EQ(wrong.error().message, "b: 2 windows but 3 token counts");
}

// The published table: corpus perplexity ranks Q4 and the 15.8 GiB model before BF16, the typical
// window after it, and the five catastrophic windows are why.
class GlmReplay : public testing::Test {
 protected:
  void SetUp() override {
    auto columns = ReadColumns(RAM_TEST_DATA_DIR "/stats/glm_replay.csv");
    std::vector<ModelScores> models;
    for (const char* name : {"BF16", "FP16", "Q4", "RAM-15.8"}) {
      models.push_back({name, columns[name]});
    }
    auto result = CompareModels(models, columns["tokens"]);
    ASSERT_TRUE(result.ok());
    comparison = *std::move(result);
    for (size_t s = 0; s < models[0].nll.size(); ++s) {
      if (models[0].nll[s] > std::log(kOutlierPerplexity)) outliers.insert(s);
    }
  }

  Comparison comparison;
  std::set<size_t> outliers;
};

TEST_F(GlmReplay, HasThePublishedNumbers) {
  const auto& s = comparison.summaries;
  const double published[4][4] = {{11.344, 8.706, 8.6895, 5},
                                  {11.208, 8.609, 8.6475, 5},
                                  {9.930, 9.084, 9.1774, 4},
                                  {9.427, 9.210, NAN, 0}};
  for (size_t m = 0; m < 4; ++m) {
    EXPECT_NEAR(s[m].corpus, published[m][0], 5e-7);
    EXPECT_NEAR(s[m].median, published[m][1], 5e-7);
    if (m < 3) {
      EXPECT_NEAR(s[m].trimmed_10, published[m][2], 5e-7);
    }
    EXPECT_EQ(static_cast<double>(s[m].num_outliers), published[m][3]);
    EXPECT_EQ(s[m].heavy_tailed, m < 3);
  }
  EXPECT_GT(s[0].arithmetic_mean, 700);
  EXPECT_LT(s[0].tail.alpha, 1);
  EXPECT_NEAR(s[0].max, 81000, 0.01);
  EXPECT_LT(s[0].corpus_without_outliers, s[2].corpus_without_outliers);
}

TEST_F(GlmReplay, FindsTheInversionAndItsWindows) {
  const PairComparison* q4 = nullptr;
  for (const PairComparison& pair : comparison.pairs) {
    if (pair.a == 2 && pair.b == 0) q4 = &pair;
  }
  ASSERT_NE(q4, nullptr);
  EXPECT_LT(q4->result.log_ratio.value, 0);       // By the mean Q4 is better than the original,
  EXPECT_GT(q4->result.trimmed.interval.low, 0);  // by the typical window worse.
  EXPECT_LT(q4->trimmed_p_holm, 1e-4);
  EXPECT_EQ(q4->finding, Finding::kInverted);
  EXPECT_EQ(q4->result.inversion, Inversion::kApparent);  // The mean is not even sure of itself.
  EXPECT_TRUE(q4->result.flip.fragile);
  EXPECT_GE(q4->result.flip.windows.size(), 3u);
  EXPECT_LE(q4->result.flip.windows.size(), 5u);
  for (const size_t window : q4->result.flip.windows) EXPECT_TRUE(outliers.contains(window));
  EXPECT_GT(q4->result.flip.log_ratio_without, 0);
  EXPECT_LT(comparison.tau_corpus_median, 0);
}

TEST(CompareTest, Qwen3MediansAreUnresolved) {
  auto columns = ReadColumns(RAM_TEST_DATA_DIR "/stats/qwen3_replay.csv");
  const auto comparison =
      CompareModels({{"A", columns["A"]}, {"B", columns["B"]}}, columns["tokens"]);
  ASSERT_TRUE(comparison.ok());
  EXPECT_NEAR(comparison->summaries[0].median, 8.971, 5e-7);
  EXPECT_NEAR(comparison->summaries[1].median, 8.974, 5e-7);
  const PairComparison& pair = comparison->pairs[0];
  EXPECT_EQ(pair.finding, Finding::kUnresolved);
  EXPECT_TRUE(pair.result.trimmed.interval.Contains(0));
  EXPECT_TRUE(pair.result.bootstrap.Contains(0));
  // What could have been seen: about a tenth of a percent, three times the difference of medians.
  EXPECT_NEAR(pair.result.detectable, 0.0010, 0.0003);
  EXPECT_FALSE(comparison->summaries[0].heavy_tailed);
}

}  // namespace
}  // namespace ram
