#include "ram/study/study.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "ram/base/random.h"
#include "ram/checkpoint/testing.h"
#include "ram/stats/rank_tests.h"
#include "ram/study/study_folder.h"

namespace ram {
namespace {

constexpr size_t kWindows = 24;

// An arm whose KL is about `kl` in every window and whose NLL is higher than the original's by
// about `harm`.
StudyArm MakeArm(const std::string& method, const std::string& size, uint64_t bytes, double kl,
                 double harm, uint64_t seed) {
  StudyArm arm;
  arm.method = method;
  arm.size = size;
  arm.name = size.empty() ? method : method + "@" + size;
  arm.kind = size.empty() ? ArmSpec::Kind::kUniform : ArmSpec::Kind::kPlanned;
  arm.is_null = method == "flat";
  arm.is_original = method == "original";
  arm.bytes = bytes;
  RandomStream common(1, 0);
  RandomStream own(2, seed);
  for (size_t w = 0; w < kWindows; ++w) {
    const double level = 0.8 + 0.4 * common.Uniform();
    arm.kl.push_back(kl * level * (0.95 + 0.1 * own.Uniform()));
    arm.nll.push_back(4 * level + (harm == 0 ? 0 : harm * (0.9 + 0.2 * own.Uniform())));
  }
  return arm;
}

Study MakeStudy() {
  Study study;
  study.margin = 0.005;
  for (size_t w = 0; w < kWindows; ++w) study.window_tokens.push_back(w % 2 == 0 ? 255 : 127);
  study.arms = {MakeArm("original", "", 1000, 0, 0, 1),
                MakeArm("uniform", "", 300, 0.02, 0.02, 2),
                MakeArm("ram", "uniform", 299, 0.018, 0.02, 3),
                MakeArm("weights", "uniform", 300, 0.01, 0.01, 4),
                MakeArm("flat", "uniform", 300, 0.016, 0.01, 5),
                MakeArm("weights", "6bpw", 500, 0.001, 0.001, 6),
                MakeArm("weights", "2bpw", 200, 0.1, 0.1, 7)};
  study.sizes = {{"2bpw", 200, std::nullopt}, {"uniform", 300, 1}, {"6bpw", 500, std::nullopt}};
  AnalyzeStudy(&study);
  return study;
}

double MeanKl(const Study& study, size_t arm) {
  double sum = 0;
  double tokens = 0;
  for (size_t w = 0; w < kWindows; ++w) {
    sum += study.window_tokens[w] * study.arms[arm].kl[w];
    tokens += study.window_tokens[w];
  }
  return sum / tokens;
}

TEST(AnalyzeStudy, PairsWhatHasTheSameBytes) {
  const Study study = MakeStudy();
  EXPECT_EQ(study.ours, "weights");
  std::vector<std::pair<size_t, size_t>> pairs;
  for (const StudyPair& pair : study.pairs) pairs.emplace_back(pair.a, pair.b);
  // Plans against the baseline, then the other plans against ours.
  const std::vector<std::pair<size_t, size_t>> expected = {{2, 1}, {3, 1}, {4, 1}, {2, 3}, {4, 3}};
  EXPECT_EQ(pairs, expected);
  std::vector<double> p;
  for (const StudyPair& pair : study.pairs) {
    EXPECT_NEAR(pair.kl.value, std::log(MeanKl(study, pair.a) / MeanKl(study, pair.b)), 1e-12);
    EXPECT_LT(pair.kl.interval.low, pair.kl.value);
    p.push_back(pair.kl.p);
  }
  const std::vector<double> holm = Holm(p);
  for (size_t i = 0; i < holm.size(); ++i) EXPECT_EQ(study.pairs[i].kl_p, holm[i]);
  EXPECT_NEAR(study.pairs[1].kl.value, std::log(0.5), 0.03);
  EXPECT_LT(study.pairs[1].kl_p, 1e-6);
}

TEST(AnalyzeStudy, LadderAscendsToTheOriginal) {
  const Study study = MakeStudy();
  EXPECT_EQ(study.ladder, (std::vector<size_t>{6, 3, 5, 0}));
  ASSERT_EQ(study.steps.size(), 2U);
  EXPECT_EQ(study.steps[0].smaller, 6U);
  EXPECT_EQ(study.steps[0].larger, 3U);
  for (const StudyStep& step : study.steps) EXPECT_LT(step.kl_p, 1e-6);
  EXPECT_NEAR(study.steps[1].kl.value, std::log(10), 0.05);
}

TEST(AnalyzeStudy, SaturatesByEitherMeasure) {
  const Study study = MakeStudy();
  EXPECT_EQ(study.by_perplexity.smallest, 2U);  // 0.001 above the original; 0.01 is too much.
  EXPECT_EQ(study.by_divergence.smallest, 2U);
  EXPECT_EQ(study.by_perplexity.rungs[0].state, RungState::kBuys);
  EXPECT_EQ(study.by_divergence.rungs[1].state, RungState::kBuys);
}

TEST(AnalyzeStudy, ArmsAgainstTheOriginal) {
  const Study study = MakeStudy();
  EXPECT_EQ(study.arms[0].typical.value, 0);
  EXPECT_NEAR(study.arms[1].typical.value, 0.02, 0.001);
  double sum = 0;
  double tokens = 0;
  for (size_t w = 0; w < kWindows; ++w) {
    sum += study.window_tokens[w] * (study.arms[1].nll[w] - study.arms[0].nll[w]);
    tokens += study.window_tokens[w];
  }
  EXPECT_NEAR(study.arms[1].corpus.value, sum / tokens, 1e-12);
}

TEST(AnalyzeStudy, WithoutPlansThereIsNoLadder) {
  Study study = MakeStudy();
  study.arms.resize(2);
  study.sizes = {{"uniform", 300, 1}};
  AnalyzeStudy(&study);
  EXPECT_FALSE(study.ours.has_value());
  EXPECT_TRUE(study.ladder.empty() && study.pairs.empty() && study.steps.empty());
}

TEST(StudyJson, NamesEverything) {
  const Study study = MakeStudy();
  const OrderedJson json = StudyJson(study);
  EXPECT_EQ(json["format"], "ram.study.v1");
  EXPECT_EQ(json["arms"].size(), 7U);
  EXPECT_EQ(json["arms"][0]["kind"], "original");
  EXPECT_EQ(json["arms"][4]["kind"], "null");
  EXPECT_EQ(json["pairs"][1]["a"], "weights@uniform");
  EXPECT_EQ(json["saturation"]["by_perplexity"]["arm"], "weights@6bpw");
  EXPECT_EQ(json["saturation"]["by_perplexity"]["bytes"], 500);
}

// ---- The folder ----

std::vector<StudyInput> Inputs(const std::string& text) {
  return {{"the model's files", "abc"}, {"the text", text}};
}

ArmResult MakeResult() {
  ArmResult result;
  result.key = "key";
  result.content = "content";
  result.bytes = 123;
  result.bits_per_weight = 4.517;
  result.seconds = 1.5;
  for (const double x : {1.0, 2.0}) {
    TokenDivergence token;
    token.kl = token.nll = token.base_nll = x;
    result.tokens.push_back(token);
  }
  return result;
}

Status KeepOne(const StudyFolder& folder) {
  Scores scores;
  scores.model.name = "arm";
  const std::vector<float> nll = {1, 2};
  AddWindow(&scores, 0, nll, {});
  return folder.Keep("arm", MakeResult(), "original", {2}, scores);
}

TEST(StudyFolder, FindsWhatWasKeptUnderItsKeyOnly) {
  const TempDirectory directory("study");
  const auto folder = StudyFolder::Open(directory.path() / "s", Inputs("x"), false);
  ASSERT_TRUE(folder.ok()) << folder.error().message;
  EXPECT_FALSE(folder->Has("arm"));
  ASSERT_TRUE(KeepOne(*folder).ok());
  const auto found = folder->Find("arm", "key");
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->content, "content");
  EXPECT_EQ(found->bytes, 123U);
  EXPECT_EQ(found->bits_per_weight, 4.517);
  EXPECT_EQ(found->seconds, 1.5);
  EXPECT_EQ(found->tokens[1].nll, 2);
  EXPECT_FALSE(folder->Find("arm", "other").has_value());
  EXPECT_FALSE(folder->Find("other", "key").has_value());
  EXPECT_TRUE(folder->Has("arm"));
  // Half of a pair is none.
  std::filesystem::remove(folder->scores("arm"));
  EXPECT_FALSE(folder->Find("arm", "key").has_value());
}

TEST(StudyFolder, NoticesOtherInputs) {
  const TempDirectory directory("study");
  const auto path = directory.path() / "s";
  {
    const auto folder = StudyFolder::Open(path, Inputs("x"), false);
    ASSERT_TRUE(folder.ok());
    ASSERT_TRUE(KeepOne(*folder).ok());
  }
  ASSERT_TRUE(StudyFolder::Open(path, Inputs("x"), false)->Find("arm", "key").has_value());
  const auto other = StudyFolder::Open(path, Inputs("y"), false);
  ASSERT_FALSE(other.ok());
  EXPECT_EQ(other.error().message,
            path.string() +
                " holds a study of something else: the text changed; --restart replaces "
                "it, another -o keeps it");
  const auto restarted = StudyFolder::Open(path, Inputs("y"), true);
  ASSERT_TRUE(restarted.ok());
  EXPECT_FALSE(restarted->Has("arm"));
  EXPECT_TRUE(StudyFolder::Open(path, Inputs("y"), false).ok());
}

TEST(StudyFolder, LeavesOtherFoldersAlone) {
  const TempDirectory directory("study");
  std::ofstream(directory.path() / "thesis.txt") << "years of work";
  for (const bool restart : {false, true}) {
    const auto folder = StudyFolder::Open(directory.path(), Inputs("x"), restart);
    ASSERT_FALSE(folder.ok());
    EXPECT_NE(folder.error().message.find("not empty, and no study"), std::string::npos);
  }
  EXPECT_TRUE(std::filesystem::exists(directory.path() / "thesis.txt"));
}

TEST(HashModelFiles, SeesNamesAndEveryByte) {
  const TempDirectory directory("study");
  const auto write = [&](const char* name, const std::string& text) {
    std::ofstream(directory.path() / name, std::ios::binary) << text;
  };
  const auto hash = [&] { return *HashModelFiles(directory.path()); };
  write("config.json", "{}");
  write("model.safetensors", std::string(20 << 20, 'x'));
  const std::string first = hash();
  EXPECT_EQ(hash(), first);
  write("README.md", "no part of the model");
  EXPECT_EQ(hash(), first);
  std::string changed(20 << 20, 'x');
  changed[17 << 20] = 'y';
  write("model.safetensors", changed);
  const std::string second = hash();
  EXPECT_NE(second, first);
  std::filesystem::rename(directory.path() / "model.safetensors",
                          directory.path() / "other.safetensors");
  EXPECT_NE(hash(), second);
}

}  // namespace
}  // namespace ram
