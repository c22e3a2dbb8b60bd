// Both formats of a base's logits: round trips, golden rows, and every truncation.

#include "ram/eval/logit_cache.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <numeric>
#include <random>

#include "ram/checkpoint/testing.h"
#include "ram/eval/llama_logits.h"
#include "ram/eval/scored_logits.h"

namespace ram {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kVocabulary = 11;

// As --protocol llama.cpp cuts them: 5 tokens, of which 2 are scored.
std::vector<Window> MakeWindows() {
  std::vector<Window> windows(3);
  for (size_t w = 0; w < windows.size(); ++w) {
    for (int32_t i = 0; i < 5; ++i) windows[w].ids.push_back(static_cast<int32_t>(w) * 2 + i);
    windows[w].first_scored = 3;
  }
  return windows;
}

std::vector<std::vector<float>> MakeLogits(uint64_t rows) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal(1, 4);
  std::vector<std::vector<float>> logits(rows, std::vector<float>(kVocabulary));
  for (auto& row : logits) {
    for (float& logit : row) logit = normal(random);
  }
  return logits;
}

LogitCacheInfo MakeInfo(LogitForm form) {
  LogitCacheInfo info;
  info.model = {"base", 1234, 4.5, "abcd", ""};
  info.numerics = {"ram, numerics hf", "f32", "scalar"};
  info.settings = "windows of 5";
  info.form = form;
  info.top_k = form == LogitForm::kTopK ? 5 : 0;
  info.vocabulary = kVocabulary;
  return info;
}

std::string ReadAll(const fs::path& path) { return *ReadFile(path, uint64_t{1} << 20); }

void WriteAll(const fs::path& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

void WriteCache(const fs::path& path, LogitForm form) {
  const std::vector<Window> windows = MakeWindows();
  const auto logits = MakeLogits(NumScored(windows));
  const auto file = File::CreateNew(path);
  ASSERT_TRUE(file) << file.error().message;
  auto writer = LogitCacheWriter::Start(*file, MakeInfo(form), windows);
  ASSERT_TRUE(writer) << writer.error().message;
  for (size_t row = 0; row < logits.size(); ++row) {
    ASSERT_TRUE(writer->WriteRow(row, logits[row]));
  }
  ASSERT_TRUE(writer->Finish());
}

void WriteLlama(const fs::path& path) {
  const std::vector<Window> windows = MakeWindows();
  const auto logits = MakeLogits(NumScored(windows));
  const auto file = File::CreateNew(path);
  ASSERT_TRUE(file) << file.error().message;
  const auto writer = LlamaLogitsWriter::Start(*file, windows, kVocabulary);
  ASSERT_TRUE(writer) << writer.error().message;
  for (size_t row = 0; row < logits.size(); ++row) {
    ASSERT_TRUE(writer->WriteRow(row, logits[row]));
  }
}

void ExpectSameWindows(const BaseLogits& logits) {
  const std::vector<Window> windows = MakeWindows();
  ASSERT_EQ(logits.windows().size(), windows.size());
  for (size_t w = 0; w < windows.size(); ++w) {
    EXPECT_EQ(logits.windows()[w].ids, windows[w].ids);
    EXPECT_EQ(logits.windows()[w].first_scored, windows[w].first_scored);
  }
  EXPECT_EQ(logits.num_rows(), 6u);
  EXPECT_EQ(logits.vocabulary(), kVocabulary);
}

TEST(LogitCacheTest, F32IsExact) {
  const TempDirectory directory("logits");
  const fs::path path = directory.path() / "base.logits";
  WriteCache(path, LogitForm::kF32);
  EXPECT_EQ(fs::file_size(path), LogitCacheBytes(MakeInfo(LogitForm::kF32), MakeWindows()));
  const auto cache = LogitCache::Open(path);
  ASSERT_TRUE(cache) << cache.error().message;
  ExpectSameWindows(**cache);
  EXPECT_EQ((*cache)->info().model.structure_hash, "abcd");
  EXPECT_EQ((*cache)->info().settings, "windows of 5");
  const auto logits = MakeLogits(6);
  std::vector<float> buffer;
  for (size_t row = 0; row < 6; ++row) {
    const auto read = (*cache)->ReadRow(row, {}, &buffer);
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(buffer, logits[row]);
    EXPECT_EQ(read->log_total, *LogTotal(logits[row]));
  }
  EXPECT_EQ((*cache)->own_kl_max(), 0);
}

TEST(LogitCacheTest, U16KnowsItsOwnError) {
  const TempDirectory directory("logits");
  const fs::path path = directory.path() / "base.logits";
  WriteCache(path, LogitForm::kU16);
  EXPECT_EQ(fs::file_size(path), LogitCacheBytes(MakeInfo(LogitForm::kU16), MakeWindows()));
  const auto cache = LogitCache::Open(path);
  ASSERT_TRUE(cache) << cache.error().message;
  ExpectSameWindows(**cache);
  const auto logits = MakeLogits(6);
  std::vector<float> buffer;
  double sum = 0;
  for (size_t row = 0; row < 6; ++row) {
    const auto read = (*cache)->ReadRow(row, {}, &buffer);
    ASSERT_TRUE(read) << read.error().message;
    const auto [least, largest] = std::minmax_element(logits[row].begin(), logits[row].end());
    const float half_step = (*largest - *least) / 65535 * 0.51F;
    for (size_t i = 0; i < kVocabulary; ++i) EXPECT_NEAR(buffer[i], logits[row][i], half_step);
    sum += Diverge({logits[row], *LogTotal(logits[row])}, *read, 0).kl;
  }
  EXPECT_NEAR((*cache)->own_kl_mean(), sum / 6, 1e-15);
  EXPECT_GT((*cache)->own_kl_mean(), 0);
  EXPECT_LT((*cache)->own_kl_max(), 1e-7);
}

// Against sums over two parts: what was kept, and the others as one outcome.
TEST(LogitCacheTest, TopKTakesTheOthersAsOne) {
  const TempDirectory directory("logits");
  const fs::path path = directory.path() / "base.logits";
  WriteCache(path, LogitForm::kTopK);
  EXPECT_EQ(fs::file_size(path), LogitCacheBytes(MakeInfo(LogitForm::kTopK), MakeWindows()));
  const auto cache = LogitCache::Open(path);
  ASSERT_TRUE(cache) << cache.error().message;
  ExpectSameWindows(**cache);
  EXPECT_EQ((*cache)->info().top_k, 5);
  EXPECT_EQ((*cache)->whole_every(), kWholeEvery);
  const auto logits = MakeLogits(6);
  const auto others = MakeLogits(7);  // Rows 1 to 6 are another model's.
  const std::vector<int32_t> targets = {3, 4, 5, 6, 7, 8};
  std::vector<float> buffer;
  for (size_t row = 0; row < 6; ++row) {
    const LogProbs base = {logits[row], *LogTotal(logits[row])};
    const LogProbs model = {others[row + 1], *LogTotal(others[row + 1])};
    std::vector<size_t> order(kVocabulary);
    std::iota(order.begin(), order.end(), size_t{0});
    std::ranges::sort(order, [&](size_t a, size_t b) { return logits[row][a] > logits[row][b]; });
    const auto came = static_cast<size_t>(targets[row]);
    if (std::ranges::find(order.begin(), order.begin() + 5, came) == order.begin() + 5) {
      std::iter_swap(order.begin() + 5, std::ranges::find(order, came));
    }
    const auto ln_p = [&](size_t i) { return base.values[i] - base.log_total; };
    const auto ln_q = [&](size_t i) { return model.values[i] - model.log_total; };
    double kl = 0;
    double p_tail = 0;
    double q_tail = 0;
    for (size_t i = 0; i < kVocabulary; ++i) {
      if (i < 6) kl += std::exp(ln_p(order[i])) * (ln_p(order[i]) - ln_q(order[i]));
      if (i >= 6) p_tail += std::exp(ln_p(order[i]));
      if (i >= 6) q_tail += std::exp(ln_q(order[i]));
    }
    kl += p_tail * std::log(p_tail / q_tail);

    const auto read = (*cache)->ReadRow(row, model, &buffer);
    ASSERT_TRUE(read) << read.error().message;
    const TokenDivergence found = Diverge(*read, model, targets[row]);
    const TokenDivergence exact = Diverge(base, model, targets[row]);
    EXPECT_NEAR(found.kl, kl, 1e-6);
    EXPECT_LT(found.kl, exact.kl + 1e-6);
    EXPECT_LT(found.reverse_kl, exact.reverse_kl + 1e-6);
    EXPECT_LT(found.jensen_shannon, exact.jensen_shannon + 1e-6);
    EXPECT_NEAR(found.base_nll, exact.base_nll, 1e-6);
    EXPECT_NEAR(found.delta_p, exact.delta_p, 1e-6);
    EXPECT_EQ(found.top5, exact.top5);
    EXPECT_EQ(found.same_top, exact.same_top);
    // A model like the base does not diverge from it.
    EXPECT_NEAR(Diverge(*(*cache)->ReadRow(row, base, &buffer), base, targets[row]).kl, 0, 1e-6);
  }
  const auto whole = (*cache)->ReadWholeRow(0, &buffer);
  ASSERT_TRUE(whole);
  EXPECT_EQ(buffer, logits[0]);
}

TEST(LogitCacheTest, TopKRefusesProbabilitiesThatAreNone) {
  const TempDirectory directory("logits");
  const fs::path path = directory.path() / "base.logits";
  WriteCache(path, LogitForm::kTopK);
  const std::string bytes = ReadAll(path);
  // From the end: a whole row of 11 logits, 6 x 6 logarithms, 6 x 6 ids.
  const size_t ln_p = bytes.size() - 4 * (11 + 36);
  const size_t ids = ln_p - size_t{4} * 36;
  const auto message_with = [&](size_t at, auto value) -> std::string {
    std::string changed = bytes;
    std::memcpy(changed.data() + at, &value, sizeof value);
    WriteAll(path, changed);
    const auto cache = LogitCache::Open(path);
    if (!cache) return cache.error().message;
    std::vector<float> buffer;
    const std::vector<float> model(kVocabulary, 0);
    const auto row = (*cache)->ReadRow(0, {model, std::log(11.0)}, &buffer);
    return row ? "" : row.error().message;
  };
  EXPECT_EQ(message_with(0, bytes[0]), "");
  EXPECT_NE(message_with(ids, int32_t{11}).find("scored token 0: the token 11"), std::string::npos);
  EXPECT_NE(message_with(ln_p, 0.5F).find("sum to"), std::string::npos);
  EXPECT_NE(message_with(ln_p, std::nanf("")).find("sum to"), std::string::npos);
}

TEST(LogitCacheTest, RefusesWhatIsNotANumber) {
  const TempDirectory directory("logits");
  const auto file = File::CreateNew(directory.path() / "base.logits");
  auto writer = LogitCacheWriter::Start(*file, MakeInfo(LogitForm::kF32), MakeWindows());
  ASSERT_TRUE(writer);
  std::vector<float> row(kVocabulary, 1);
  row[4] = std::nanf("");
  const Status status = writer->WriteRow(5, row);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().message, "the base gives scored token 5 a logit that is not a number");

  // Nor when the file was changed later.
  const fs::path path = directory.path() / "changed.logits";
  WriteCache(path, LogitForm::kF32);
  std::string bytes = ReadAll(path);
  std::memcpy(bytes.data() + bytes.size() - sizeof(float), &row[4], sizeof(float));
  WriteAll(path, bytes);
  const auto cache = LogitCache::Open(path);
  ASSERT_TRUE(cache);
  std::vector<float> buffer;
  EXPECT_TRUE((*cache)->ReadRow(4, {}, &buffer));
  const auto read = (*cache)->ReadRow(5, {}, &buffer);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, ErrorCode::kCorrupt);
}

TEST(LogitCacheTest, EveryTruncationIsAnError) {
  const TempDirectory directory("logits");
  for (const LogitForm form : {LogitForm::kF32, LogitForm::kU16, LogitForm::kTopK}) {
    const fs::path whole = directory.path() / fmt::format("form{}", static_cast<int>(form));
    WriteCache(whole, form);
    const std::string bytes = ReadAll(whole);
    const fs::path cut = directory.path() / "cut";
    for (size_t size = 0; size < bytes.size(); ++size) {
      WriteAll(cut, std::string_view(bytes).substr(0, size));
      const auto cache = LogitCache::Open(cut);
      ASSERT_FALSE(cache) << size;
      EXPECT_EQ(cache.error().message.find(cut.string()), 0u) << cache.error().message;
    }
    WriteAll(cut, bytes + "x");
    EXPECT_FALSE(LogitCache::Open(cut));
  }
}

TEST(LogitCacheTest, OtherTokensThanItStates) {
  const TempDirectory directory("logits");
  const fs::path path = directory.path() / "base.logits";
  WriteCache(path, LogitForm::kF32);
  std::string bytes = ReadAll(path);
  const std::string tokens("\x00\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00", 12);
  const size_t at = bytes.find(tokens);
  ASSERT_NE(at, std::string::npos);
  bytes[at] = 7;
  WriteAll(path, bytes);
  const auto cache = LogitCache::Open(path);
  ASSERT_FALSE(cache);
  EXPECT_NE(cache.error().message.find("hash"), std::string::npos) << cache.error().message;
  bytes[at] = 99;  // Not in the vocabulary.
  WriteAll(path, bytes);
  EXPECT_FALSE(LogitCache::Open(path));
}

TEST(LlamaLogitsTest, RoundTrip) {
  const TempDirectory directory("logits");
  const fs::path path = directory.path() / "base.kld";
  WriteLlama(path);
  // 20 bytes, 15 tokens, 6 rows of 12 + 4 codes.
  EXPECT_EQ(fs::file_size(path), 20u + 15 * 4 + 6 * 16 * 2);
  EXPECT_EQ(*LlamaLogitsBytes(MakeWindows(), kVocabulary), fs::file_size(path));
  const auto base = LlamaLogits::Open(path);
  ASSERT_TRUE(base) << base.error().message;
  ExpectSameWindows(**base);
  const auto logits = MakeLogits(6);
  std::vector<float> buffer;
  for (size_t row = 0; row < 6; ++row) {
    const auto read = (*base)->ReadRow(row, {}, &buffer);
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(read->log_total, 0);
    EXPECT_EQ(read->cutoff, -16);
    const double total = *LogTotal(logits[row]);
    const float largest = *std::max_element(logits[row].begin(), logits[row].end());
    for (size_t i = 0; i < kVocabulary; ++i) {
      const double kept = std::max(logits[row][i], largest - 16);
      EXPECT_NEAR(buffer[i], kept - total, 16.0 / 65535);
    }
  }
}

// A row by hand: logits 0 and -32. ln p of the first is 0, the second is cut at -16.
TEST(LlamaLogitsTest, GoldenRow) {
  const TempDirectory directory("logits");
  const fs::path path = directory.path() / "base.kld";
  Window window{.ids = {0, 1, 0}, .first_scored = 2};
  {
    const auto file = File::CreateNew(path);
    const auto writer = LlamaLogitsWriter::Start(*file, std::span(&window, 1), 2);
    ASSERT_TRUE(writer) << writer.error().message;
    ASSERT_TRUE(writer->WriteRow(0, std::vector<float>{0, -32}));
  }
  std::string expected("_logits_\3\0\0\0\2\0\0\0\1\0\0\0", 20);
  expected += std::string("\0\0\0\0\1\0\0\0\0\0\0\0", 12);
  const float scale = 16.0F / 65535;
  const float least = -16;
  expected.append(reinterpret_cast<const char*>(&scale), 4);
  expected.append(reinterpret_cast<const char*>(&least), 4);
  expected += std::string("\xFF\xFF\0\0", 4);
  EXPECT_EQ(ReadAll(path), expected);
}

TEST(LlamaLogitsTest, EveryTruncationIsAnError) {
  const TempDirectory directory("logits");
  const fs::path whole = directory.path() / "base.kld";
  WriteLlama(whole);
  const std::string bytes = ReadAll(whole);
  const fs::path cut = directory.path() / "cut";
  for (size_t size = 0; size < bytes.size(); ++size) {
    WriteAll(cut, std::string_view(bytes).substr(0, size));
    const auto base = LlamaLogits::Open(cut);
    ASSERT_FALSE(base) << size;
    EXPECT_EQ(base.error().code, ErrorCode::kCorrupt);
  }
  WriteAll(cut, bytes + "xy");
  EXPECT_FALSE(LlamaLogits::Open(cut));
}

TEST(LlamaLogitsTest, RefusesNonsense) {
  const TempDirectory directory("logits");
  const fs::path path = directory.path() / "base.kld";
  WriteLlama(path);
  const std::string bytes = ReadAll(path);
  const auto message_with = [&](size_t at, auto value) -> std::string {
    std::string changed = bytes;
    std::memcpy(changed.data() + at, &value, sizeof value);
    WriteAll(path, changed);
    const auto base = LlamaLogits::Open(path);
    if (!base) return base.error().message;
    std::vector<float> buffer;
    const auto row = (*base)->ReadRow(0, {}, &buffer);
    return row ? "" : row.error().message;
  };
  EXPECT_EQ(message_with(0, '_'), "");
  EXPECT_NE(message_with(0, 'x').find("does not begin with"), std::string::npos);
  EXPECT_NE(message_with(8, int32_t{-5}).find("expected chunks"), std::string::npos);
  EXPECT_NE(message_with(12, INT32_MAX).find("cut short"), std::string::npos);
  EXPECT_NE(message_with(16, INT32_MAX).find("cut short"), std::string::npos);
  EXPECT_NE(message_with(24, int32_t{11}).find("token 1 of chunk 0 is 11"), std::string::npos);
  EXPECT_NE(message_with(80, std::nanf("")).find("not a distribution"), std::string::npos);
  EXPECT_NE(message_with(80, -1.0F).find("not a distribution"), std::string::npos);
  EXPECT_NE(message_with(84, 3.0F).find("not a distribution"), std::string::npos);
}

TEST(LlamaLogitsTest, HoldsOnlyItsOwnProtocol) {
  std::vector<Window> windows = MakeWindows();
  windows[1].first_scored = 1;
  const auto bytes = LlamaLogitsBytes(windows, kVocabulary);
  ASSERT_FALSE(bytes);
  EXPECT_EQ(bytes.error().code, ErrorCode::kInvalidArgument);
  windows = MakeWindows();
  windows[2].ids.push_back(1);
  EXPECT_FALSE(LlamaLogitsBytes(windows, kVocabulary));
}

}  // namespace
}  // namespace ram
