#include "ram/eval/windows.h"

#include <gtest/gtest.h>

#include <numeric>

#include "ram/eval/numpy_random.h"

namespace ram {
namespace {

std::vector<int32_t> Ids(size_t n) {
  std::vector<int32_t> ids(n);
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

// numpy.random.RandomState(42).permutation(146)[:12].
TEST(NumpyRandomTest, PermutationIsNumpys) {
  const std::vector<uint32_t> order = NumpyRandomState(42).Permutation(146);
  const std::vector<uint32_t> first(order.begin(), order.begin() + 12);
  EXPECT_EQ(first, (std::vector<uint32_t>{45, 97, 27, 19, 42, 120, 29, 80, 66, 18, 12, 115}));
}

TEST(WindowsTest, RamTakesTheFirstOfASeededOrder) {
  const auto protocol = FindProtocol("ram-wikitext2");
  ASSERT_TRUE(protocol);
  const auto set = CutWindows(Ids(146 * 2048 + 70), *protocol, {}, std::nullopt);
  ASSERT_TRUE(set);
  EXPECT_EQ(set->num_available, 146);
  ASSERT_EQ(set->windows.size(), 128);
  EXPECT_EQ(set->windows[0].ids[0], 45 * 2048);
  EXPECT_EQ(set->windows[0].num_scored(), 2047);
  EXPECT_EQ(set->windows[1].text_first, 97 * 2048 + 1);
}

TEST(WindowsTest, FewerThanAskedForAreAllThereAre) {
  Protocol protocol = *FindProtocol("ram-wikitext2");
  protocol.max_windows = 256;
  const auto set = CutWindows(Ids(146 * 2048), protocol, {}, std::nullopt);
  ASSERT_TRUE(set);
  EXPECT_EQ(set->windows.size(), 146);
}

TEST(WindowsTest, LlamaCppScoresTheSecondHalf) {
  Protocol protocol = *FindProtocol("llama.cpp");
  protocol.bos = Protocol::Bos::kReplace;
  const auto set = CutWindows(Ids(3 * 512 + 5), protocol, {}, 9999);
  ASSERT_TRUE(set);
  ASSERT_EQ(set->windows.size(), 3);
  const Window& window = set->windows[1];
  EXPECT_EQ(window.ids[0], 9999);
  EXPECT_EQ(window.ids[1], 513);
  EXPECT_EQ(window.first_scored, 257);
  EXPECT_EQ(window.num_scored(), 255);
}

TEST(WindowsTest, StridesOfAContextLeaveOutFirstTokens) {
  Protocol protocol = *FindProtocol("hf-strided");
  protocol.context = protocol.stride = 256;
  // The last token would be a window of its own.
  const auto set = CutWindows(Ids(513), protocol, {}, std::nullopt);
  ASSERT_TRUE(set);
  ASSERT_EQ(set->windows.size(), 2);
  for (const Window& window : set->windows) {
    EXPECT_EQ(window.first_scored, 1);
    EXPECT_EQ(window.num_scored(), 255);
  }
  EXPECT_EQ(set->windows[1].ids[0], 256);
  EXPECT_EQ(set->windows[1].text_first, 257);
}

TEST(WindowsTest, StridedScoresEveryTokenOnce) {
  const Protocol protocol = *FindProtocol("hf-strided");
  const auto set = CutWindows(Ids(5000), protocol, {}, std::nullopt);
  ASSERT_TRUE(set);
  uint64_t expected = 1;
  for (const Window& window : set->windows) {
    EXPECT_EQ(window.text_first, expected);
    EXPECT_EQ(window.ids[window.first_scored], static_cast<int32_t>(expected));
    EXPECT_LE(window.ids.size(), 2048);
    expected = window.text_end;
  }
  EXPECT_EQ(expected, 5000);
  EXPECT_EQ(set->windows[0].num_scored(), 2047);
  EXPECT_EQ(set->windows[1].num_scored(), 512);
}

TEST(WindowsTest, APrefixDoesNotChangeWhatIsScored) {
  Protocol protocol = *FindProtocol("gptq");
  protocol.context = 8;
  protocol.bos = Protocol::Bos::kPrepend;
  const std::vector<int32_t> prefix = {100, 101};
  const auto set = CutWindows(Ids(16), protocol, prefix, 77);
  ASSERT_TRUE(set);
  const Window& window = set->windows[1];
  EXPECT_EQ(window.ids, (std::vector<int32_t>{77, 100, 101, 8, 9, 10, 11, 12, 13, 14, 15}));
  EXPECT_EQ(window.num_scored(), 7);
  EXPECT_EQ(window.ids[window.first_scored], 9);
}

TEST(WindowsTest, RefusesWhatCannotBe) {
  EXPECT_FALSE(FindProtocol("c4"));
  Protocol protocol = *FindProtocol("ram-wikitext2");
  const auto too_short = CutWindows(Ids(100), protocol, {}, std::nullopt);
  ASSERT_FALSE(too_short);
  EXPECT_EQ(too_short.error().message,
            "the text has 100 tokens; protocol ram-wikitext2 needs at least 2048");
  protocol.bos = Protocol::Bos::kPrepend;
  EXPECT_FALSE(CutWindows(Ids(5000), protocol, {}, std::nullopt));
}

// get_rolling_token_windows(range(1, 98), 0, max_seq_len, 1), each through make_disjoint_window, of
// lm_eval/utils.py 0.4.11: the context and the predicted tokens of every window.
TEST(WindowsTest, LmEvalCutsDocumentsAsTheHarnessDoes) {
  std::vector<Document> documents(2);
  documents[0].ids = Ids(98);
  documents[0].ids.erase(documents[0].ids.begin());
  documents[0].words = 12;
  documents[0].bytes = 345;
  documents[1].ids = {7};
  Protocol protocol = *FindProtocol("lm-eval");
  protocol.context = 40;
  const auto set = CutDocuments(documents, protocol, {}, 0);
  ASSERT_TRUE(set);
  EXPECT_EQ(set->num_available, 2);
  ASSERT_EQ(set->windows.size(), 4);
  struct Expected {
    int32_t first_context, first_scored, last;
  };
  // ([0], 1..40), ([40], 41..80), ([57..80], 81..97): the last keeps 40 tokens of input.
  constexpr Expected kExpected[] = {{0, 1, 40}, {40, 41, 80}, {57, 81, 97}};
  for (size_t w = 0; w < 3; ++w) {
    const Window& window = set->windows[w];
    EXPECT_EQ(window.ids.size(), 41);
    EXPECT_EQ(window.ids[0], kExpected[w].first_context);
    EXPECT_EQ(window.ids[window.first_scored], kExpected[w].first_scored);
    EXPECT_EQ(window.ids.back(), kExpected[w].last);
    EXPECT_EQ(window.text_first, static_cast<uint64_t>(kExpected[w].first_scored - 1));
    EXPECT_EQ(window.text_end, static_cast<uint64_t>(kExpected[w].last));
    EXPECT_EQ(window.continues, w > 0);
    EXPECT_EQ(window.words, w == 0 ? 12 : 0);
    EXPECT_EQ(window.bytes, w == 0 ? 345 : 0);
  }
  EXPECT_EQ(set->windows[3].ids, (std::vector<int32_t>{0, 7}));
  EXPECT_EQ(set->windows[3].text_first, 97);
  EXPECT_EQ(UnitBounds(set->windows), (std::vector<size_t>{0, 3, 4}));
}

TEST(WindowsTest, LmEvalLimitsDocumentsAndTakesNoBos) {
  std::vector<Document> documents(3);
  for (Document& document : documents) document.ids = Ids(10);
  Protocol protocol = *FindProtocol("lm-eval");
  protocol.context = 4;
  protocol.max_windows = 2;
  const std::vector<int32_t> prefix = {50, 51};
  const auto set = CutDocuments(documents, protocol, prefix, 99);
  ASSERT_TRUE(set);
  EXPECT_EQ(set->num_available, 3);
  ASSERT_EQ(set->windows.size(), 6);
  EXPECT_EQ(set->windows[0].ids, (std::vector<int32_t>{50, 51, 99, 0, 1, 2, 3}));
  EXPECT_EQ(set->windows[0].first_scored, 3);
  EXPECT_EQ(set->windows[2].ids, (std::vector<int32_t>{50, 51, 5, 6, 7, 8, 9}));
  EXPECT_EQ(set->windows[2].num_scored(), 2);

  protocol.bos = Protocol::Bos::kReplace;
  EXPECT_FALSE(CutDocuments(documents, protocol, {}, 99));
  protocol.bos = Protocol::Bos::kNone;
  documents[1].ids.clear();
  const auto empty = CutDocuments(documents, protocol, {}, 99);
  ASSERT_FALSE(empty);
  EXPECT_EQ(empty.error().message, "document 1 has no tokens");
}

}  // namespace
}  // namespace ram
