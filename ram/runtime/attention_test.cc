#include "ram/runtime/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "ram/base/half.h"
#include "ram/runtime/isa.h"
#include "ram/runtime/ops_reference.h"

namespace ram {
namespace {

std::vector<float> Random(size_t n, uint32_t seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0, 1);
  std::vector<float> values(n);
  for (float& value : values) value = normal(engine);
  return values;
}

// Queries, keys and values of one sequence of `tokens`, in memory of exactly their size.
struct Sequence {
  Sequence(const AttentionSpec& spec, uint64_t num_tokens, Dtype cache_dtype, uint32_t seed)
      : tokens(num_tokens),
        dtype(cache_dtype),
        q(Random(num_tokens * spec.heads * spec.head_dim, seed)),
        k(Random(num_tokens * spec.kv_heads * spec.head_dim, seed + 1)),
        v(Random(num_tokens * spec.kv_heads * spec.value_dim, seed + 2)) {
    for (const float x : k) k16.push_back(Bf16FromFloat(x));
    for (const float x : v) v16.push_back(Bf16FromFloat(x));
  }

  // Rows [first, first + num) at `first_row` of a batch; the cache begins at first_position.
  AttentionInput Input(const AttentionSpec& spec, uint64_t first, uint64_t num, uint64_t first_row,
                       uint64_t first_position = 0) const {
    const uint64_t k_pitch = spec.kv_heads * spec.head_dim;
    const uint64_t v_pitch = spec.kv_heads * spec.value_dim;
    const auto view = [&](const auto& f32, const auto& bf16, uint64_t pitch) {
      const uint64_t at = first_position * pitch;
      const bool wide = dtype == Dtype::kF32;
      return CacheView{wide ? static_cast<const void*>(f32.data() + at) : bf16.data() + at, dtype,
                       pitch};
    };
    return {{first_row, num, first}, view(k, k16, k_pitch), view(v, v16, v_pitch), first_position};
  }

  uint64_t tokens;
  Dtype dtype;
  std::vector<float> q, k, v;
  std::vector<uint16_t> k16, v16;
};

Rows View(std::vector<float>& values, uint64_t cols) {
  return {values.data(), values.size() / cols, cols, cols};
}

// Runs each test once per level the CPU has.
class AttentionTest : public testing::TestWithParam<std::string> {
 protected:
  // Of tokens [first, first + num) of a sequence.
  std::vector<float> Attend(const AttentionSpec& spec, const Sequence& sequence, uint64_t first,
                            uint64_t num, uint64_t first_position = 0, size_t threads = 1) {
    const uint64_t cols = spec.heads * spec.head_dim;
    std::vector<float> q(sequence.q.begin() + static_cast<ptrdiff_t>(first * cols),
                         sequence.q.begin() + static_cast<ptrdiff_t>((first + num) * cols));
    std::vector<float> out(num * spec.heads * spec.value_dim);
    ThreadPool pool(threads);
    const AttentionInput input = sequence.Input(spec, first, num, 0, first_position);
    attention_->Attend(View(q, cols), {&input, 1}, spec, View(out, spec.heads * spec.value_dim),
                       pool);
    return out;
  }

  std::vector<float> Attend(const AttentionSpec& spec, const Sequence& sequence) {
    return Attend(spec, sequence, 0, sequence.tokens);
  }

  void ExpectReference(const AttentionSpec& spec, uint64_t tokens, Dtype dtype, uint64_t first = 0,
                       uint64_t first_position = 0) {
    SCOPED_TRACE(testing::Message()
                 << tokens << " tokens from " << first << ", heads " << spec.heads << "/"
                 << spec.kv_heads << " of " << spec.head_dim << "/" << spec.value_dim << ", window "
                 << spec.window << ", chunk " << spec.chunk << ", softcap " << spec.softcap);
    Sequence sequence(spec, tokens, dtype, 7);
    const std::vector<float> got = Attend(spec, sequence, first, tokens - first, first_position);
    std::vector<float> want(got.size());
    const uint64_t cols = spec.heads * spec.head_dim;
    Rows q = View(sequence.q, cols).slice(first, tokens - first);
    const AttentionInput input = sequence.Input(spec, first, tokens - first, 0, first_position);
    AttendReference(q, {&input, 1}, spec, View(want, spec.heads * spec.value_dim));
    // A score of standard deviation 1 is a chain of head_dim steps and moves its weight by as much;
    // weights and values, of at most 5, are summed over the tokens. Rounding errors add up as a
    // random walk.
    const double units = 8 * (std::sqrt(static_cast<double>(spec.head_dim)) + 8);
    for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], units * 0x1p-24) << i;
  }

  // Tiles leave sequences of few rows to the f32 attention: not the same bits.
  bool SameBits(uint64_t num_rows) const { return !IsAmx(GetParam()) || num_rows >= 16; }

  static bool IsAmx(const std::string& level) { return level.starts_with("amx-"); }

  static std::unique_ptr<Attention> Make(const std::string& level) {
    return IsAmx(level) ? MakeAmxAttention(level, Precision::kF32) : MakeFmaAttention(level);
  }

  std::unique_ptr<Attention> attention_ = Make(GetParam());

 public:
  // Levels of vectors, and those of tiles that this CPU has.
  static std::vector<std::string> Levels() {
    std::vector<std::string> levels = SimdLevels();
    for (const std::string level : {"amx-f16", "amx-bf16"}) {
      if (Make(level) != nullptr) levels.push_back(level);
    }
    return levels;
  }
};

AttentionSpec Spec(uint64_t heads, uint64_t kv_heads, uint64_t dim, uint64_t value_dim) {
  AttentionSpec spec = {.heads = heads, .kv_heads = kv_heads, .head_dim = dim};
  spec.value_dim = value_dim;
  spec.scale = 1 / std::sqrt(static_cast<float>(dim));
  return spec;
}

TEST_P(AttentionTest, EveryLengthAroundTheTiles) {
  const AttentionSpec spec = Spec(2, 1, 16, 16);
  for (uint64_t tokens = 1; tokens <= 40; ++tokens) ExpectReference(spec, tokens, Dtype::kF32);
  for (const uint64_t tokens : {127U, 128U, 129U, 255U, 300U}) {
    ExpectReference(spec, tokens, Dtype::kF32);
  }
}

TEST_P(AttentionTest, HeadsOfEverySize) {
  for (const auto& [dim, value_dim] : std::vector<std::pair<uint64_t, uint64_t>>{{64, 64},
                                                                                 {128, 128},
                                                                                 {256, 256},
                                                                                 {192, 128},
                                                                                 {576, 512},
                                                                                 {80, 80},
                                                                                 {96, 64},
                                                                                 {1, 1},
                                                                                 {7, 5},
                                                                                 {33, 70}}) {
    for (const Dtype dtype : {Dtype::kF32, Dtype::kBF16}) {
      ExpectReference(Spec(2, 2, dim, value_dim), 70, dtype);
    }
  }
}

TEST_P(AttentionTest, HeadsThatShareKeys) {
  for (const auto& [heads, kv_heads] :
       std::vector<std::pair<uint64_t, uint64_t>>{{8, 2}, {6, 1}, {7, 1}, {5, 5}, {128, 1}}) {
    ExpectReference(Spec(heads, kv_heads, 32, 32), 45, Dtype::kF32);
    ExpectReference(Spec(heads, kv_heads, 32, 32), 45, Dtype::kBF16, 44);
  }
  // More queries of a token than a block has rows.
  ExpectReference(Spec(400, 1, 8, 8), 3, Dtype::kF32);
}

TEST_P(AttentionTest, WindowsAndChunks) {
  for (const uint64_t size : {1U, 2U, 31U, 128U, 200U, 1000U}) {
    AttentionSpec window = Spec(3, 1, 16, 16);
    window.window = size;
    ExpectReference(window, 400, Dtype::kF32);
    ExpectReference(window, 400, Dtype::kBF16, 390);
    AttentionSpec chunk = Spec(3, 1, 16, 16);
    chunk.chunk = size;
    ExpectReference(chunk, 400, Dtype::kF32);
    ExpectReference(chunk, 400, Dtype::kBF16, 390);
  }
}

TEST_P(AttentionTest, SinksAndSoftcap) {
  const std::vector<float> sinks = {-3, 0.5f, 12, 0};
  AttentionSpec spec = Spec(4, 2, 64, 64);
  spec.sinks = sinks;
  ExpectReference(spec, 140, Dtype::kF32);
  spec.softcap = 5;
  ExpectReference(spec, 140, Dtype::kF32);
  spec.sinks = {};
  ExpectReference(spec, 140, Dtype::kBF16);
  spec.window = 20;
  spec.sinks = sinks;
  ExpectReference(spec, 140, Dtype::kBF16);
}

TEST_P(AttentionTest, LongContextsOfSeveralRanges) {
  ExpectReference(Spec(2, 1, 16, 16), 2200, Dtype::kF32, 2190);
  AttentionSpec window = Spec(2, 1, 16, 16);
  window.window = 1500;
  ExpectReference(window, 3100, Dtype::kF32, 3050);
  ExpectReference(window, 3100, Dtype::kBF16, 3090, 1580);
}

// Large scores: only their differences count.
TEST_P(AttentionTest, LargeScoresDoNotOverflow) {
  AttentionSpec spec = Spec(1, 1, 16, 16);
  Sequence sequence(spec, 50, Dtype::kF32, 3);
  for (float& x : sequence.q) x *= 1000;
  for (const float x : Attend(spec, sequence)) EXPECT_TRUE(std::isfinite(x));
}

TEST_P(AttentionTest, WhatIsNotANumberShows) {
  const AttentionSpec spec = Spec(1, 1, 16, 16);
  Sequence sequence(spec, 50, Dtype::kF32, 3);
  sequence.k[20 * 16 + 3] = NAN;
  const std::vector<float> out = Attend(spec, sequence);
  EXPECT_TRUE(std::isnan(out.back()));
  EXPECT_TRUE(std::isfinite(out.front()));
}

// ---------------------------------------------------------------------------------------------
// To the bit.

std::vector<float> RowsOf(const std::vector<float>& all, uint64_t first, uint64_t num,
                          uint64_t cols) {
  return {all.begin() + static_cast<ptrdiff_t>(first * cols),
          all.begin() + static_cast<ptrdiff_t>((first + num) * cols)};
}

std::vector<AttentionSpec> SpecsOfAllKinds() {
  AttentionSpec plain = Spec(4, 2, 8, 12);
  AttentionSpec window = plain;
  window.window = 150;
  AttentionSpec chunk = plain;
  chunk.chunk = 300;
  AttentionSpec capped = plain;
  capped.softcap = 3;
  return {plain, window, chunk, capped};
}

TEST_P(AttentionTest, PiecesAndSingleTokensGiveTheBitsOfTheWhole) {
  for (const AttentionSpec& spec : SpecsOfAllKinds()) {
    const uint64_t cols = spec.heads * spec.value_dim;
    const Sequence sequence(spec, 1100, Dtype::kBF16, 11);
    const std::vector<float> whole = Attend(spec, sequence);
    for (const auto& [first, num] : std::vector<std::pair<uint64_t, uint64_t>>{
             {0, 1}, {0, 100}, {100, 29}, {129, 500}, {1023, 1}, {1024, 1}, {1050, 50}}) {
      if (!SameBits(num)) continue;
      EXPECT_EQ(Attend(spec, sequence, first, num), RowsOf(whole, first, num, cols)) << first;
    }
  }
}

TEST_P(AttentionTest, ACacheOfTheWindowGivesTheBitsOfTheWhole) {
  AttentionSpec spec = Spec(4, 2, 16, 16);
  spec.window = 200;
  const Sequence sequence(spec, 1300, Dtype::kF32, 12);
  const std::vector<float> whole = Attend(spec, sequence);
  for (const auto& [first, num] :
       std::vector<std::pair<uint64_t, uint64_t>>{{1000, 1}, {1023, 2}, {1290, 10}, {500, 300}}) {
    if (!SameBits(num)) continue;
    EXPECT_EQ(Attend(spec, sequence, first, num, first - 199),
              RowsOf(whole, first, num, spec.heads * spec.value_dim));
  }
}

TEST_P(AttentionTest, ThreadsDoNotChangeABit) {
  for (const AttentionSpec& spec : SpecsOfAllKinds()) {
    const Sequence sequence(spec, 2100, Dtype::kF32, 13);
    for (const auto& [first, num] :
         std::vector<std::pair<uint64_t, uint64_t>>{{0, 300}, {2099, 1}, {2000, 100}}) {
      const std::vector<float> one = Attend(spec, sequence, first, num, 0, 1);
      for (const size_t threads : {2U, 5U, 16U}) {
        EXPECT_EQ(Attend(spec, sequence, first, num, 0, threads), one) << threads;
      }
    }
  }
}

TEST_P(AttentionTest, OtherSequencesDoNotChangeABit) {
  const AttentionSpec spec = Spec(4, 2, 32, 32);
  const uint64_t q_cols = spec.heads * spec.head_dim, cols = spec.heads * spec.value_dim;
  std::vector<Sequence> sequences;
  std::vector<AttentionInput> inputs;
  std::vector<float> q;
  uint64_t row = 0;
  for (const uint64_t tokens : {5U, 300U, 1U, 64U}) {
    sequences.emplace_back(spec, tokens, Dtype::kF32, static_cast<uint32_t>(tokens));
  }
  for (const Sequence& sequence : sequences) {
    inputs.push_back(sequence.Input(spec, 0, sequence.tokens, row));
    q.insert(q.end(), sequence.q.begin(), sequence.q.end());
    row += sequence.tokens;
  }
  std::vector<float> out(row * cols);
  ThreadPool pool(2);
  attention_->Attend(View(q, q_cols), inputs, spec, View(out, cols), pool);
  for (size_t i = 0; i < sequences.size(); ++i) {
    EXPECT_EQ(RowsOf(out, inputs[i].segment.first_row, sequences[i].tokens, cols),
              Attend(spec, sequences[i]));
  }
}

// Views into columns: a pitch larger than the row, and data of no alignment.
TEST_P(AttentionTest, RowsMayBeColumnsOfWiderRows) {
  const AttentionSpec spec = Spec(2, 1, 20, 12);
  const Sequence sequence(spec, 33, Dtype::kF32, 5);
  const std::vector<float> want = Attend(spec, sequence);
  std::vector<float> q(33 * 50 + 1), out(33 * 30 + 1, -1.0f);
  for (uint64_t r = 0; r < 33; ++r) {
    std::copy_n(sequence.q.data() + r * 40, 40, q.data() + 1 + r * 50);
  }
  ThreadPool pool(1);
  const AttentionInput input = sequence.Input(spec, 0, 33, 0);
  attention_->Attend({q.data() + 1, 33, 40, 50}, {&input, 1}, spec, {out.data() + 1, 33, 24, 30},
                     pool);
  for (uint64_t r = 0; r < 33; ++r) {
    EXPECT_TRUE(
        std::equal(want.data() + r * 24, want.data() + (r + 1) * 24, out.data() + 1 + r * 30));
    for (uint64_t c = 24; c < 30; ++c) EXPECT_EQ(out[1 + r * 30 + c], -1);
  }
}

INSTANTIATE_TEST_SUITE_P(Levels, AttentionTest, testing::ValuesIn(AttentionTest::Levels()),
                         [](const auto& level) {
                           std::string name = level.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace ram
