// Constructed experiments whose verdict is known.

#include "ram/eval/noise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "ram/base/random.h"

namespace ram {
namespace {

constexpr size_t kWindows = 40;

// Window scores: levels that vary by window, a shift of the model, and scatter of its own.
WindowScores Scored(double shift, double scatter, uint64_t seed) {
  WindowScores scores(kWindows);
  RandomStream random(7, seed);
  for (size_t s = 0; s < kWindows; ++s) {
    scores[s] = 2 + 0.3 * std::sin(static_cast<double>(s)) + shift;
    scores[s] += scatter * (random.Uniform() - 0.5);
  }
  return scores;
}

// Noise moves the loss by `noise_mean` +- 0.001 from seed to seed.
NoiseExperiment Experiment(double compressed, double antithetic, double noise_mean) {
  NoiseExperiment experiment;
  experiment.tokens.assign(kWindows, 100);
  experiment.original = Scored(0, 0, 0);
  experiment.compressed = Scored(compressed, 0.002, 1);
  experiment.antithetic = Scored(antithetic, 0.002, 2);
  NoiseControl control{.name = "permuted", .dose = 1, .seeds = {}};
  for (uint64_t k = 0; k < 8; ++k) {
    const double shift = noise_mean + (k % 2 == 0 ? 0.001 : -0.001);
    control.seeds.push_back(Scored(shift, 0, 0));
  }
  experiment.controls.push_back(control);
  return experiment;
}

NoiseResult Analyzed(const NoiseExperiment& experiment) {
  const Result<NoiseResult> result = AnalyzeNoise(experiment);
  EXPECT_TRUE(result) << result.error().message;
  return *result;
}

TEST(Noise, EachVerdict) {
  EXPECT_EQ(Analyzed(Experiment(-0.02, 0.03, 0.005)).verdict, NoiseVerdict::kImproves);
  EXPECT_EQ(Analyzed(Experiment(0.0055, 0.0045, 0.005)).verdict, NoiseVerdict::kEquivalent);
  EXPECT_EQ(Analyzed(Experiment(0.03, -0.02, 0.005)).verdict, NoiseVerdict::kDamage);
  // Far below noise, yet above the original: not an improvement.
  EXPECT_EQ(Analyzed(Experiment(0.03, 0.03, 0.05)).verdict, NoiseVerdict::kMilder);
  // Below the original for sure, but so is noise: nothing that quantization does.
  const NoiseResult calmed = Analyzed(Experiment(-0.02, -0.02, -0.02));
  EXPECT_EQ(calmed.verdict, NoiseVerdict::kEquivalent);
  EXPECT_LT(calmed.compressed.trimmed.interval.high, 0);
}

TEST(Noise, ZCountsTheUncertaintyOfItsMean) {
  const NoiseResult result = Analyzed(Experiment(0.01, 0.01, 0));
  const ControlEffect& control = result.controls[0];
  EXPECT_NEAR(control.mean.corpus, 0, 1e-12);
  const double deviation = 0.001 * std::sqrt(8.0 / 7.0);
  EXPECT_NEAR(control.deviation.corpus, deviation, 1e-12);
  EXPECT_NEAR(control.z.corpus, result.compressed.corpus.value / (deviation * std::sqrt(9.0 / 8.0)),
              1e-6);
  EXPECT_NEAR(control.z.median_shift,
              result.compressed.median_shift / (deviation * std::sqrt(9.0 / 8.0)), 1e-6);
}

TEST(Noise, JudgesByIntervalAndZ) {
  const Estimate below{
      .value = -0.01, .standard_error = 0.001, .interval = {-0.012, -0.008}, .p = 0};
  const Estimate unsure{.value = -0.01, .standard_error = 0.1, .interval = {-0.2, 0.2}, .p = 0.9};
  EXPECT_EQ(JudgeNoise(below, -2.1), NoiseVerdict::kImproves);
  EXPECT_EQ(JudgeNoise(unsure, -2.1), NoiseVerdict::kMilder);
  EXPECT_EQ(JudgeNoise(below, -2.0), NoiseVerdict::kEquivalent);
  EXPECT_EQ(JudgeNoise(below, 2.0), NoiseVerdict::kEquivalent);
  EXPECT_EQ(JudgeNoise(below, 2.1), NoiseVerdict::kDamage);
  EXPECT_EQ(JudgeNoise(unsure, -std::numeric_limits<double>::infinity()), NoiseVerdict::kMilder);
}

TEST(Noise, SplitsDirectionFromSize) {
  // g.E = 0.01, E'HE / 2 = 0.004.
  NoiseExperiment experiment = Experiment(0, 0, 0.004);
  experiment.compressed = Scored(0.014, 0, 0);
  experiment.antithetic = Scored(-0.006, 0, 0);
  const NoiseResult result = Analyzed(experiment);
  EXPECT_NEAR(result.first_order.trimmed.value, 0.01, 1e-12);
  EXPECT_NEAR(result.second_order.trimmed.value, 0.004, 1e-12);
  EXPECT_NEAR(result.second_order.corpus.value, result.controls[0].mean.corpus, 1e-12);
}

TEST(Noise, JudgesByTheFirstControlOfTheSameSize) {
  NoiseExperiment experiment = Experiment(0.0055, 0.0045, 0.005);
  NoiseControl strong = experiment.controls[0];
  strong.dose = 4;
  experiment.controls.insert(experiment.controls.begin(), strong);
  const NoiseResult result = Analyzed(experiment);
  EXPECT_EQ(result.judged_by, 1u);
  EXPECT_TRUE(std::isnan(result.controls[0].z.corpus));
  EXPECT_NEAR(result.controls[0].mean.trimmed, 0.005, 1e-12);
}

TEST(Noise, OneOutlierTurnsTheCorpusOnly) {
  NoiseExperiment experiment = Experiment(0.0055, 0.0045, 0.005);
  experiment.compressed[3] -= 2;
  const NoiseResult result = Analyzed(experiment);
  EXPECT_EQ(result.verdict, NoiseVerdict::kEquivalent);
  EXPECT_EQ(result.corpus_verdict, NoiseVerdict::kMilder);  // One window of 40 is no proof.
  const std::vector<std::string> sentences = NoiseSentences(result);
  EXPECT_NE(sentences[0].find("noise-equivalent"), std::string::npos);
  EXPECT_NE(sentences[1].find("The corpus says otherwise"), std::string::npos);
}

TEST(Noise, FewSeedsAreSaidToBeFew) {
  NoiseExperiment experiment = Experiment(0.0055, 0.0045, 0.005);
  experiment.controls[0].seeds.resize(4);
  EXPECT_NE(NoiseSentences(Analyzed(experiment)).back().find("4 seeds are few"), std::string::npos);
}

TEST(Noise, RefusesWhatItCannotJudge) {
  const NoiseExperiment good = Experiment(0, 0, 0);
  NoiseExperiment bad = good;
  bad.controls[0].seeds.resize(1);
  EXPECT_FALSE(AnalyzeNoise(bad));
  bad = good;
  bad.controls[0].dose = 2;
  EXPECT_FALSE(AnalyzeNoise(bad));
  bad = good;
  bad.controls.clear();
  EXPECT_FALSE(AnalyzeNoise(bad));
  bad = good;
  bad.controls[0].seeds[2].pop_back();
  EXPECT_FALSE(AnalyzeNoise(bad));
  bad = good;
  bad.antithetic[1] = std::nan("");
  EXPECT_FALSE(AnalyzeNoise(bad));
  bad = good;
  bad.tokens.resize(1);
  bad.original.resize(1);
  EXPECT_FALSE(AnalyzeNoise(bad));
}

}  // namespace
}  // namespace ram
