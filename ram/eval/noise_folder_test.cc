#include "ram/eval/noise_folder.h"

#include <gtest/gtest.h>

#include "ram/checkpoint/testing.h"

namespace ram {
namespace {

// Two windows; `reversed`: in the other order.
Scores MakeScores(const std::string& name, float first, float second, bool reversed = false) {
  Scores scores;
  scores.model.name = name;
  scores.numerics = {"ram-cpu", "f32", "scalar"};
  const std::vector<int32_t> ids[] = {{1, 2}, {3, 4}};
  const float nll[] = {first, second};
  for (const size_t w : reversed ? std::vector<size_t>{1, 0} : std::vector<size_t>{0, 1}) {
    AddWindow(&scores, w, std::vector<float>{nll[w]}, HashTokens(ids[w]));
  }
  return scores;
}

std::vector<Scores> MakeAll() {
  return {MakeScores("antithetic", 5, 6),           MakeScores("gaussian-x2-seed1", 30, 31),
          MakeScores("compressed", 3, 4, true),     MakeScores("original", 1, 2),
          MakeScores("gaussian-x1-seed10", 22, 23), MakeScores("gaussian-x1-seed2", 20, 21),
          MakeScores("permuted-x1-seed1", 10, 11)};
}

TEST(NoiseFolderTest, NamesOfConditions) {
  EXPECT_EQ(NoiseConditionName({"gaussian", 0.5, 3}), "gaussian-x0.5-seed3");
  const auto parsed = ParseNoiseCondition("group-x0.5-seed12");
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(parsed->kind, "group");
  EXPECT_EQ(parsed->dose, 0.5);
  EXPECT_EQ(parsed->seed, 12);
  for (const char* other : {"", "original", "gaussian", "gaussian-x1", "gaussian-x1-seed",
                            "gaussian-xy-seed1", "other-x1-seed1", "gaussian-x1-seed1x"}) {
    EXPECT_FALSE(ParseNoiseCondition(other).has_value()) << other;
  }
}

TEST(NoiseFolderTest, ConditionsInTheirOrderWindowsByTheirTokens) {
  const auto experiment = MakeNoiseExperiment(MakeAll());
  ASSERT_TRUE(experiment) << experiment.error().message;
  EXPECT_EQ(experiment->tokens, (std::vector<double>{1, 1}));
  EXPECT_EQ(experiment->original, (WindowScores{1, 2}));
  EXPECT_EQ(experiment->compressed, (WindowScores{3, 4}));
  EXPECT_EQ(experiment->antithetic, (WindowScores{5, 6}));
  ASSERT_EQ(experiment->controls.size(), 3);
  EXPECT_EQ(experiment->controls[0].name, "permuted");
  EXPECT_EQ(experiment->controls[1].seeds, (std::vector<WindowScores>{{20, 21}, {22, 23}}));
  EXPECT_EQ(experiment->controls[2].dose, 2);
}

TEST(NoiseFolderTest, RefusesWhatIsNoExperiment) {
  std::vector<Scores> scores = MakeAll();
  scores.push_back(MakeScores("original", 1, 2));
  EXPECT_NE(MakeNoiseExperiment(scores).error().message.find("\"original\" once, here 2"),
            std::string::npos);
  scores = MakeAll();
  scores.erase(scores.begin());
  EXPECT_NE(MakeNoiseExperiment(scores).error().message.find("\"antithetic\" once, here 0"),
            std::string::npos);
  scores = MakeAll();
  scores.push_back(MakeScores("stranger", 1, 2));
  EXPECT_NE(MakeNoiseExperiment(scores).error().message.find("\"stranger\""), std::string::npos);
  scores = MakeAll();
  scores[0].token_hashes[0] = {};
  EXPECT_NE(MakeNoiseExperiment(scores).error().message.find("cannot be paired"),
            std::string::npos);
}

TEST(NoiseFolderTest, ReadsAFolder) {
  const TempDirectory directory("noise");
  EXPECT_FALSE(IsNoiseFolder(directory.path()));
  for (const Scores& scores : MakeAll()) {
    ASSERT_TRUE(WriteScores(scores, directory.path() / (scores.model.name + ".scores")));
  }
  WriteText(directory.path() / "notes.txt", "not scores");
  EXPECT_TRUE(IsNoiseFolder(directory.path()));
  const auto scores = ReadNoiseFolder(directory.path());
  ASSERT_TRUE(scores) << scores.error().message;
  EXPECT_EQ(scores->size(), 7);
  WriteText(directory.path() / "broken.scores", "x");
  EXPECT_FALSE(ReadNoiseFolder(directory.path()));
}

}  // namespace
}  // namespace ram
