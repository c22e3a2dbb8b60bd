// A study in words and as a page: what it says follows from the numbers, and nothing breaks out.

#include "ram/report/study_page.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "ram/base/random.h"
#include "ram/report/study_text.h"

namespace ram {
namespace {

constexpr size_t kWindows = 20;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// An arm of nearly constant losses; `kl` and `harm` are its means.
StudyArm MakeArm(const std::string& name, const std::string& method, const std::string& size,
                 double kl, double harm, uint64_t bytes) {
  StudyArm arm;
  arm.name = name;
  arm.method = method;
  arm.size = size;
  arm.about = "about " + name;
  arm.bytes = bytes;
  arm.bits_per_weight = static_cast<double>(bytes) / 1e6;
  RandomStream random(7, bytes + method.size());
  std::vector<double> weights;
  for (size_t w = 0; w < kWindows; ++w) {
    const double noise = 1 + 0.1 * (random.Uniform() - 0.5);
    arm.kl.push_back(kl * noise);
    arm.nll.push_back(4 + 0.1 * static_cast<double>(w % 5) + harm * noise);
    weights.push_back(100);
  }
  arm.perplexity = *SummarizePerplexity(arm.nll, weights);
  arm.token_kl.mean = MeanEstimate(arm.kl);
  arm.same_top.value = 0.9;
  return arm;
}

Study MakeStudy(const std::string& model = "model") {
  Study study;
  study.model = model;
  study.text = "a text";
  study.margin = std::log1p(0.005);
  study.window_tokens.assign(kWindows, 100);
  study.arms.push_back(MakeArm("original", "original", "", 0, 0, 16'000'000));
  study.arms.back().is_original = true;
  study.arms.push_back(MakeArm("fp16", "fp16", "", 1e-6, 0, 16'000'001));
  study.arms.push_back(MakeArm("uniform-4-64", "uniform-4-64", "", 0.02, 0.02, 4'500'000));
  study.arms.back().kind = ArmSpec::Kind::kUniform;
  const auto plan = [&](const std::string& method, const std::string& size, double kl, double harm,
                        uint64_t bytes) {
    study.arms.push_back(MakeArm(method + "@" + size, method, size, kl, harm, bytes));
    study.arms.back().kind = ArmSpec::Kind::kPlanned;
    study.arms.back().is_null = method == "flat";
  };
  plan("weights", "uniform-4-64", 0.01, 0.01, 4'499'000);
  plan("flat", "uniform-4-64", 0.018, 0.02, 4'499'000);
  plan("weights", "6bpw", 0.002, 0.001, 6'000'000);
  study.sizes = {{"uniform-4-64", 4'500'000, 2}, {"6bpw", 6'000'000, std::nullopt}};
  AnalyzeStudy(&study);
  return study;
}

bool Says(const std::vector<std::string>& sentences, const std::string& part) {
  for (const std::string& sentence : sentences) {
    if (sentence.find(part) != std::string::npos) return true;
  }
  return false;
}

TEST(StudyVerdict, SaysWhatTheNumbersSay) {
  const Study study = MakeStudy();
  const std::vector<std::string> verdict = StudyVerdict(study);
  EXPECT_TRUE(Says(verdict, "At the bytes of uniform-4-64 (4.3 MiB, 4.50 bpw) weights diverges"));
  EXPECT_TRUE(
      Says(verdict, "With every sensitivity 1 (flat) the divergence is " +
                        RatioText(std::log(Mean(study.arms[4].kl) / Mean(study.arms[3].kl))) +
                        " times that of weights"));
  EXPECT_TRUE(Says(verdict, "(higher at 1 of 1 size)"));
  EXPECT_TRUE(Says(verdict, "of the gain is the sensitivities"));
  EXPECT_TRUE(Says(verdict, "the step is one that the paired test supports"));
  EXPECT_TRUE(Says(verdict, "Saturation by perplexity in the typical window: weights@6bpw"));
  EXPECT_TRUE(Says(verdict, "Neither a larger plan nor the original is better by 0.5 %"));
  EXPECT_TRUE(Says(verdict, "Saturation by divergence: weights@6bpw"));
  EXPECT_TRUE(Says(verdict, "fp16: KL " + DivergenceText(Mean(study.arms[1].kl))));
}

TEST(StudyVerdict, ClaimsNothingThatChanceMayHaveMade) {
  Study study = MakeStudy();
  // The same windows, half of them better and half worse.
  for (size_t w = 0; w < kWindows; ++w) {
    study.arms[3].kl[w] = study.arms[2].kl[w] * (w % 2 == 0 ? 1.3 : 0.7);
  }
  AnalyzeStudy(&study);
  const std::vector<std::string> verdict = StudyVerdict(study);
  EXPECT_TRUE(Says(verdict, "no difference between weights and it was shown"));
  EXPECT_FALSE(Says(verdict, "of the gain is the sensitivities"));
}

TEST(StudyVerdict, SaturationThatIsNotThere) {
  Study study = MakeStudy();
  for (double& nll : study.arms[5].nll) nll += 0.1;
  AnalyzeStudy(&study);
  EXPECT_TRUE(Says(StudyVerdict(study),
                   "in the typical window: above the largest plan. The original is better than "
                   "weights@6bpw (5.7 MiB, 6.00 bpw) by more than 0.5 %"));
  for (size_t w = 0; w < kWindows; ++w) study.arms[5].nll[w] -= w % 2 == 0 ? 0.2 : 0;
  AnalyzeStudy(&study);
  EXPECT_TRUE(Says(StudyVerdict(study), "these windows cannot tell"));
}

TEST(StudyText, FitsEveryWidth) {
  Study study = MakeStudy();
  study.notes = {"mixed_4_6: a note that is long enough to be wrapped at whatever width there is"};
  for (const int width : {20, 40, 80, 120, 200}) {
    const Style style{.width = width};
    const std::string text = StudyText(study, style);
    for (size_t at = 0; at < text.size();) {
      const size_t end = text.find('\n', at);
      EXPECT_LE(DisplayWidth(text.substr(at, end - at)), width);
      at = end + 1;
    }
    EXPECT_EQ(text, StudyText(study, style));
  }
}

TEST(StudyPage, HasEverySectionOnce) {
  const std::string page = StudyPage(MakeStudy());
  for (const char* id : {"verdict", "divergence", "ratios", "perplexity", "saturation", "arms"}) {
    const std::string heading = "<h2 id=\"" + std::string(id) + "\">";
    const size_t at = page.find(heading);
    ASSERT_NE(at, std::string::npos) << id;
    EXPECT_EQ(page.find(heading, at + 1), std::string::npos);
  }
  EXPECT_EQ(page.find("<script"), std::string::npos);
  EXPECT_EQ(page.find("http"), std::string::npos);
  EXPECT_EQ(page, StudyPage(MakeStudy()));
}

TEST(StudyPage, WhatComesFromFilesStaysText) {
  Study study = MakeStudy("</title><script>alert('\"&')</script>");
  study.notes = {"<img src=x>"};
  for (StudyArm& arm : study.arms) arm.name = arm.about = "<b>" + arm.name + "</b>";
  study.arms[2].kl.back() = 0.5;
  AnalyzeStudy(&study);
  const std::string page = StudyPage(study);
  for (const char* part : {"<script", "<img", "<b>"}) {
    EXPECT_EQ(page.find(part), std::string::npos) << part;
  }
}

TEST(StudyPage, NumbersAreFinite) {
  // Two windows have endless intervals, equal arms a ratio of 1, and the original nothing to
  // divide.
  Study study = MakeStudy();
  study.window_tokens.resize(2);
  for (StudyArm& arm : study.arms) {
    arm.kl.resize(2);
    arm.nll.resize(2);
    arm.token_kl.mean = MeanEstimate(arm.kl);
    arm.token_kl.mean.interval = {-kInfinity, kInfinity};
  }
  study.arms[3].kl = study.arms[2].kl;
  study.arms[5].kl = {0, 0};
  study.arms[5].token_kl.mean.value = 0;
  AnalyzeStudy(&study);
  const std::string page = StudyPage(study);
  const std::string text = StudyText(study, Style{});
  for (const char* part : {"nan", "inf"}) {
    EXPECT_EQ(page.find("\"" + std::string(part)), std::string::npos);
    EXPECT_EQ(text.find(" " + std::string(part) + " "), std::string::npos);
  }
}

TEST(StudyPage, WithoutPlansItIsALeaderboard) {
  Study study = MakeStudy();
  study.arms.resize(3);
  study.sizes = {{"uniform-4-64", 4'500'000, 2}};
  AnalyzeStudy(&study);
  const std::string page = StudyPage(study);
  EXPECT_NE(page.find("uniform-4-64"), std::string::npos);
  EXPECT_EQ(page.find("id=\"saturation\""), std::string::npos);
}

}  // namespace
}  // namespace ram
