#include "ram/report/compare_table.h"

#include <gtest/gtest.h>

#include <cmath>

namespace ram {
namespace {

TEST(CompareTableTest, Perplexities) {
  EXPECT_EQ(PerplexityText(8.706), "8.706");
  EXPECT_EQ(PerplexityText(99.94), "99.940");
  EXPECT_EQ(PerplexityText(363.24), "363.2");
  EXPECT_EQ(PerplexityText(81000.2), "81,000");
  EXPECT_EQ(PerplexityText(1e300), "1.00e+300");
  EXPECT_EQ(PerplexityText(INFINITY), "inf");
  EXPECT_EQ(PerplexityText(NAN), "-");
}

// Decimals are those that the interval leaves meaning to.
TEST(CompareTableTest, Changes) {
  EXPECT_EQ(ChangeText(std::log(1.00033), 0.0006), "+0.033 %");
  EXPECT_EQ(ChangeText(std::log(0.988), 0.006), "-1.20 %");
  EXPECT_EQ(ChangeText(std::log(0.88), 0.19), "-12 %");
  EXPECT_EQ(ChangeText(std::log(1.079), 0.017), "+7.9 %");
  EXPECT_EQ(ChangeText(0, 0), "+0.000 %");
  EXPECT_EQ(ChangeText(std::log(1200), 1), "×1,200");
  EXPECT_EQ(ChangeText(std::log(12.34), 1), "×12.3");
  EXPECT_EQ(ChangeText(600, 1), "×4e+260");
  EXPECT_EQ(ChangeText(NAN, 1), "-");
}

TEST(CompareTableTest, PValues) {
  EXPECT_EQ(PValueText(1), "1.00");
  EXPECT_EQ(PValueText(0.0996), "0.10");
  EXPECT_EQ(PValueText(0.0412), "0.041");
  EXPECT_EQ(PValueText(0.00031), "0.0003");
  EXPECT_EQ(PValueText(3.2e-12), "3e-12");
  EXPECT_EQ(PValueText(9.7e-12), "1e-11");
  EXPECT_EQ(PValueText(0), "<1e-300");
  EXPECT_EQ(PValueText(NAN), "-");
}

// Each finding has its sentence, which names the better model and never the worse one as such.
TEST(CompareTableTest, Sentences) {
  std::vector<double> base;
  std::vector<double> worse;
  std::vector<double> noisy;
  std::vector<double> tail;
  for (size_t s = 0; s < 40; ++s) {
    const double wiggle = 0.001 * static_cast<double>(s % 7) - 0.003;
    base.push_back(2 + 0.1 * static_cast<double>(s % 5));
    worse.push_back(base[s] + 0.02 + wiggle);
    noisy.push_back(base[s] + 10 * wiggle * (s % 2 == 0 ? 1 : -1));
    tail.push_back(base[s] + 0.001 * wiggle +
                   (s % 10 == 3 ? 0.5 + 0.01 * static_cast<double>(s) : 0));
  }
  ComparedWindows windows;
  windows.what = "test";
  for (size_t s = 0; s < 40; ++s) windows.labels.push_back("w" + std::to_string(s));
  windows.texts.resize(40);
  const auto sentence = [&](const std::vector<double>& nll) {
    const std::vector<ModelScores> models = {{"base", base}, {"other", nll}};
    const auto comparison = CompareModels(models, std::vector<double>(40, 1.0));
    EXPECT_TRUE(comparison.ok());
    return VerdictSentences(models, *comparison, windows).front();
  };
  EXPECT_TRUE(sentence(worse).starts_with("base is better than other, whose perplexity is"))
      << sentence(worse);
  EXPECT_TRUE(sentence(noisy).starts_with("other against base: unresolved.")) << sentence(noisy);
  EXPECT_NE(sentence(tail).find("windows w33, w23, w13, w3"), std::string::npos) << sentence(tail);
  EXPECT_EQ(sentence(base), "other and base have the same score in every window.");
}

}  // namespace
}  // namespace ram
