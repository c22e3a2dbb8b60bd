#include "ram/stats/accuracy.h"

#include <gtest/gtest.h>

#include <cmath>

#include "ram/base/random.h"

namespace ram {
namespace {

// Points that 1172 ... 14042 questions can show, for a discordance of 2, 5, 10, 15 %, and unpaired.
TEST(AccuracyTest, PowerTable) {
  struct Row {
    double n;
    double points[4];
    double unpaired;
  };
  constexpr Row kRows[] = {{1172, {1.16, 1.83, 2.59, 3.17}, 5.30},
                           {1267, {1.11, 1.76, 2.49, 3.05}, 5.10},
                           {10042, {.40, .63, .88, 1.08}, 1.81},
                           {14042, {.33, .53, .75, .92}, 1.53}};
  constexpr double kDiscordance[] = {0.02, 0.05, 0.10, 0.15};
  for (const Row& row : kRows) {
    for (size_t i = 0; i < 4; ++i) {
      EXPECT_NEAR(100 * DetectableAccuracy(row.n, kDiscordance[i]), row.points[i], 0.005 + 1e-9)
          << row.n << " " << kDiscordance[i];
    }
    EXPECT_NEAR(100 * DetectableAccuracyUnpaired(row.n, 0.7), row.unpaired, 0.006) << row.n;
  }
}

TEST(AccuracyTest, QuestionsNeededInvertsDetectable) {
  const double delta = DetectableAccuracy(1172, 0.1);
  EXPECT_NEAR(QuestionsNeeded(delta, 0.1), 1172, 1e-6);
  EXPECT_TRUE(std::isnan(DetectableAccuracy(100, 0.01)));
}

// The detectable difference is found in 80 % of runs.
TEST(AccuracyTest, PowerIsWhatItSays) {
  const double delta = DetectableAccuracy(1172, 0.1);
  const auto win = static_cast<uint32_t>((0.1 + delta) / 2 * 0x1p32);
  const auto lose = static_cast<uint32_t>(0.1 * 0x1p32);
  int found = 0;
  constexpr int kRuns = 4000;
  for (int run = 0; run < kRuns; ++run) {
    RandomStream random(9, static_cast<uint64_t>(run));
    PairedAnswers answers;
    for (int i = 0; i < 1172; ++i) {
      const uint32_t draw = random.Next();
      ++(draw < win ? answers.only_a : draw < lose ? answers.only_b : answers.both);
    }
    found += McNemarMidP(answers) < 0.05;
  }
  EXPECT_NEAR(static_cast<double>(found) / kRuns, 0.8, 0.02);  // 3 standard deviations.
}

TEST(AccuracyTest, McNemar) {
  EXPECT_EQ(McNemarExact({50, 0, 0, 50}), 1);
  EXPECT_EQ(McNemarMidP({50, 0, 0, 50}), 1);
  EXPECT_DOUBLE_EQ(McNemarExact({50, 1, 5, 44}), 14.0 / 64);
  EXPECT_DOUBLE_EQ(McNemarMidP({50, 1, 5, 44}), 8.0 / 64);
  EXPECT_EQ(McNemarMidP({0, 3, 3, 0}), 1);
}

TEST(AccuracyTest, Verdicts) {
  // 16 of 1267 questions: significant only if few others moved.
  EXPECT_LT(CompareAccuracy({900, 41, 25, 301}).mid_p, 0.05);
  EXPECT_GT(CompareAccuracy({900, 42, 26, 299}).mid_p, 0.05);
  EXPECT_TRUE(CompareAccuracy({900, 31, 9, 327}).different);
  EXPECT_FALSE(CompareAccuracy({900, 50, 34, 283}).different);
  const AccuracyResult arc = CompareAccuracy({800, 15, 14, 343});
  EXPECT_TRUE(arc.equivalent && !arc.different);
  const AccuracyResult noisy = CompareAccuracy({600, 90, 89, 393});
  EXPECT_TRUE(noisy.underpowered && !noisy.equivalent);
  EXPECT_GT(noisy.questions_needed, 1172);
}

TEST(AccuracyTest, SharesAtTheEnds) {
  EXPECT_EQ(ShareInterval(0, 10).low, 0);
  EXPECT_NEAR(ShareInterval(0, 10).high, 1 - std::pow(0.025, 0.1), 1e-12);
  EXPECT_EQ(ShareInterval(10, 10).high, 1);
}

}  // namespace
}  // namespace ram
