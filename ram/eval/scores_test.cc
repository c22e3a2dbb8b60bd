#include "ram/eval/scores.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "ram/base/hash.h"

namespace ram {
namespace {

Scores Example() {
  Scores scores;
  scores.model = {"Qwen3 \"4B\", 4-bit", 2'345'678, 4.51, "abcd", ""};
  scores.numerics = {"ram-cpu", "f32", "avx512"};
  scores.text = {"wikitext-2 test", std::string(64, 'e'), 1'290'590, 241'211};
  scores.protocol = "ram-wikitext2";
  scores.settings = "windows of 4, 2 of 2, seed 42, no BOS";
  AddWindow(&scores, 4, std::vector<float>{1, 2, 3.5F},
            HashTokens(std::vector<int32_t>{5, 6, 7, 8}), "zweites Fenster, größer");
  AddWindow(&scores, 0, std::vector<float>{0.25F, 0, 12},
            HashTokens(std::vector<int32_t>{1, 2, 3, 4}), "first\nwindow");
  return scores;
}

TEST(ScoresTest, HashOfTokensIsThatOfTheirBytes) {
  const std::string bytes("\x01\0\0\0\xFF\xFF\xFF\xFF", 8);
  const TokenHash hash = HashTokens(std::vector<int32_t>{1, -1});
  std::string hex;
  for (const uint8_t byte : hash) {
    constexpr const char* kDigits = "0123456789abcdef";
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  EXPECT_EQ(hex, Sha256Hex(bytes));
}

TEST(ScoresTest, ReadsWhatItWrote) {
  const Scores scores = Example();
  const std::string bytes = ToScoresBytes(scores);
  const auto read = ParseScores(bytes, "x.scores");
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(read->model.name, scores.model.name);
  EXPECT_EQ(read->model.bytes, scores.model.bytes);
  EXPECT_EQ(read->model.bits_per_weight, 4.51);
  EXPECT_EQ(read->numerics.precision, "f32");
  EXPECT_EQ(read->text.words, 241'211u);
  EXPECT_EQ(read->settings, scores.settings);
  ASSERT_EQ(read->windows.size(), 2u);
  EXPECT_EQ(read->windows[0].start, 4u);
  EXPECT_EQ(read->windows[0].num_tokens, 3u);
  EXPECT_DOUBLE_EQ(read->windows[0].nll, 6.5 / 3);
  EXPECT_EQ(read->windows[0].text, scores.windows[0].text);
  EXPECT_EQ(read->windows[1].text, "first\nwindow");
  EXPECT_EQ(read->token_nll, scores.token_nll);
  EXPECT_EQ(read->token_hashes, scores.token_hashes);
  EXPECT_EQ(ToScoresBytes(*read), bytes);
}

// Words, bytes and the weights' hash are younger than the format: files without them stay as they
// were (GoldenBytes), files with them say so.
TEST(ScoresTest, WordsBytesAndWeights) {
  Scores scores = Example();
  scores.model.weights_hash = "0123456789abcdef0123456789abcdef";
  for (size_t w = 0; w < 2; ++w) {
    scores.windows[w].words = 3 + w;
    scores.windows[w].bytes = 20 + w;
  }
  const std::string bytes = ToScoresBytes(scores);
  const auto read = ParseScores(bytes, "x.scores");
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(read->model.weights_hash, scores.model.weights_hash);
  EXPECT_EQ(read->windows[0].words, 3);
  EXPECT_EQ(read->windows[1].bytes, 21);
  EXPECT_EQ(ToScoresBytes(*read), bytes);
  EXPECT_EQ(ParseScores(ToScoresBytes(Example()), "x.scores")->windows[1].words, 0);
}

// The format is part of the contract: other readers exist.
TEST(ScoresTest, GoldenBytes) {
  const std::string bytes = ToScoresBytes(Example());
  EXPECT_EQ(Sha256Hex(bytes), "3e8518c9dd967588e30fc3ea41a84fa9c5842c08f74c4538b3ab4715eb68c086");
  // Its own hash is that of the file with zeros in its place.
  std::string zeroed = bytes;
  const size_t at = bytes.find(R"("sha256":")") + 10;
  zeroed.replace(at, 64, 64, '0');
  EXPECT_EQ(bytes.substr(at, 64), Sha256Hex(zeroed));
}

TEST(ScoresTest, WithoutTokensLabelsTexts) {
  Scores scores;
  scores.model.name = "log";
  scores.resolution = 0.01;
  for (int i = 0; i < 3; ++i) {
    ScoredWindow window;
    window.num_tokens = 255;
    window.nll = 2 + 0.1 * i;
    window.label = i == 1 ? "middle" : "";
    scores.windows.push_back(window);
  }
  const auto read = ParseScores(ToScoresBytes(scores), "x.scores");
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(read->windows[1].label, "middle");
  EXPECT_EQ(read->windows[2].nll, 2.2);
  EXPECT_EQ(read->resolution, 0.01);
  EXPECT_TRUE(read->token_hashes.empty() && TokensSha256(*read).empty());
}

TEST(ScoresTest, EveryTruncationIsAnError) {
  const std::string bytes = ToScoresBytes(Example());
  for (size_t size = 0; size < bytes.size(); ++size) {
    const std::vector<char> cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
    const auto read = ParseScores({cut.data(), cut.size()}, "x.scores");
    ASSERT_FALSE(read.ok()) << size;
    EXPECT_TRUE(read.error().message.starts_with("x.scores: ")) << read.error().message;
  }
  EXPECT_FALSE(ParseScores(bytes + '\0', "x.scores").ok());
}

TEST(ScoresTest, EveryChangedByteIsAnError) {
  const std::string bytes = ToScoresBytes(Example());
  for (size_t at = 0; at < bytes.size(); ++at) {
    for (const char mask : {'\x01', '\x80'}) {
      std::string damaged = bytes;
      damaged[at] = static_cast<char>(damaged[at] ^ mask);
      EXPECT_FALSE(ParseScores(damaged, "x.scores").ok()) << at;
    }
  }
}

// A file that is whole and hashed, with one thing in it that cannot be.
std::string MessageOf(const Scores& scores) {
  const auto read = ParseScores(ToScoresBytes(scores), "x.scores");
  return read.ok() ? "accepted" : read.error().message;
}

TEST(ScoresTest, ContradictionsAreNamed) {
  Scores scores = Example();
  scores.windows[1].nll = 3;
  EXPECT_EQ(MessageOf(scores),
            "x.scores: window 1: its tokens have the mean 4.08333, the window 3");
  scores = Example();
  scores.token_nll.clear();
  scores.windows[0].nll = NAN;
  EXPECT_EQ(MessageOf(scores), "x.scores: window 0 has the score nan, which no model can have");
  scores.windows[0].nll = 1;
  scores.windows[0].num_tokens = 0;
  EXPECT_EQ(MessageOf(scores), "x.scores: window 0 has 0 tokens");
}

TEST(ScoresTest, OtherFilesAreRefused) {
  const auto message = [](std::string bytes) {
    const auto read = ParseScores(bytes, "x");
    return read.ok() ? std::string("accepted") : read.error().message;
  };
  EXPECT_EQ(message(""), "x: not a score file: it has 0 bytes");
  EXPECT_EQ(message("window,tokens,A\n0,1,2\n"),
            "x: not a score file, or cut short: its header would take 8371197127684942199 bytes, "
            "the file has 22");
  EXPECT_EQ(message(std::string("\x02\0\0\0\0\0\0\0{}", 10)),
            "x: not a score file: its metadata lacks the format ram.scores.v1");
}

TEST(ScoresTest, FilesOnDisk) {
  const auto path = std::filesystem::path(testing::TempDir()) / "scores_test.scores";
  ASSERT_TRUE(WriteScores(Example(), path).ok());
  const auto read = ReadScores(path);
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->windows.size(), 2u);
  std::filesystem::remove(path);
  EXPECT_EQ(ReadScores(path).error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace ram
