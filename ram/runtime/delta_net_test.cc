#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "ram/runtime/delta_kernels.h"
#include "ram/runtime/elementwise.h"
#include "ram/runtime/isa.h"
#include "ram/runtime/ops_reference.h"

namespace ram {
namespace {

std::vector<float> Random(size_t n, uint32_t seed, float scale = 1) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(n);
  for (float& value : values) value = normal(engine);
  return values;
}

// Weights and shape of a layer.
struct Layer {
  Layer(uint64_t key_heads, uint64_t value_heads, uint64_t key_dim, uint64_t value_dim,
        uint64_t taps = 4)
      : a_log(Random(value_heads, 1)),
        dt_bias(Random(value_heads, 2)),
        norm(Random(value_dim, 3)),
        conv(Random((2 * key_heads * key_dim + value_heads * value_dim) * taps, 4, 0.5f)) {
    spec.key_heads = key_heads;
    spec.value_heads = value_heads;
    spec.key_dim = key_dim;
    spec.value_dim = value_dim;
    spec.taps = taps;
    spec.conv = conv;
    spec.a_log = a_log;
    spec.dt_bias = dt_bias;
    spec.norm_weight = norm;
  }
  Layer(const Layer&) = delete;

  DeltaSpec spec;
  std::vector<float> a_log, dt_bias, norm, conv;
};

Rows View(std::vector<float>& values, uint64_t cols) {
  return {values.data(), values.size() / cols, cols, cols};
}

// Inputs, state and output of a batch of one or several sequences, in memory of exactly their size.
struct Batch {
  Batch(const DeltaSpec& delta_spec, const std::vector<uint64_t>& lengths, uint32_t seed)
      : spec(delta_spec) {
    uint64_t tokens = 0;
    for (const uint64_t length : lengths) {
      segments.push_back({tokens, length, 0});
      tokens += length;
      const uint32_t salt = seed + static_cast<uint32_t>(length);
      conv.push_back(Random((spec.taps - 1) * spec.channels(), salt));
      state.push_back(Random(spec.value_heads * spec.value_dim * spec.key_dim, salt + 1, 0.1f));
      const auto append = [&](std::vector<float>& to, uint64_t cols, uint32_t more) {
        const std::vector<float> rows = Random(length * cols, salt + more);
        to.insert(to.end(), rows.begin(), rows.end());
      };
      append(qkv, spec.channels(), 2);
      append(z, spec.value_heads * spec.value_dim, 3);
      append(b, spec.value_heads, 4);
      append(a, spec.value_heads, 5);
    }
    out.assign(z.size(), NAN);
  }

  std::vector<DeltaInput> Inputs() {
    std::vector<DeltaInput> inputs;
    for (size_t i = 0; i < segments.size(); ++i) {
      inputs.push_back({segments[i], {conv[i].data(), state[i].data()}});
    }
    return inputs;
  }

  // f(qkv, z, b, a, inputs, out).
  template <class Function>
  void Run(const Function& f) {
    f(View(qkv, spec.channels()), View(z, spec.value_heads * spec.value_dim),
      View(b, spec.value_heads), View(a, spec.value_heads), Inputs(),
      View(out, spec.value_heads * spec.value_dim));
  }

  DeltaSpec spec;
  std::vector<Segment> segments;
  std::vector<std::vector<float>> conv, state;  // Of each sequence.
  std::vector<float> qkv, z, b, a, out;
};

// Runs each test once per level the CPU has.
class DeltaNetTest : public testing::TestWithParam<std::string> {
 protected:
  void Run(Batch& batch, size_t threads = 1) const {
    ThreadPool pool(threads);
    batch.Run([&](Rows qkv, Rows z, Rows b, Rows a, std::span<const DeltaInput> inputs, Rows out) {
      delta_->Run(qkv, z, b, a, inputs, batch.spec, out, pool);
    });
  }

  void ExpectReference(const DeltaSpec& spec, const std::vector<uint64_t>& lengths) const {
    SCOPED_TRACE(testing::Message()
                 << spec.key_heads << "/" << spec.value_heads << " heads of " << spec.key_dim << "/"
                 << spec.value_dim << ", " << spec.taps << " taps, " << lengths[0] << " tokens");
    Batch got(spec, lengths, 20), want(spec, lengths, 20);
    Run(got);
    RunReference(want);
    ExpectNear(got, want);
  }

  static void ExpectNear(const Batch& got, const Batch& want) {
    // What a token adds is forgotten within tens of tokens; each of those rounds a dozen times, in
    // units of the largest element. The norm of the output enlarges what is small.
    const double tolerance = 100 * 0x1p-24;
    double largest = 1;
    for (const float x : want.out) largest = std::max(largest, std::fabs(static_cast<double>(x)));
    for (size_t i = 0; i < got.out.size(); ++i) {
      ASSERT_NEAR(got.out[i], want.out[i], largest * tolerance) << i;
    }
    for (size_t s = 0; s < want.state.size(); ++s) {
      EXPECT_EQ(got.conv[s], want.conv[s]);
      for (size_t i = 0; i < got.state[s].size(); ++i) {
        ASSERT_NEAR(got.state[s][i], want.state[s][i], tolerance) << i;
      }
    }
  }

  // The root mean square of the error, relative to that of the result.
  static double RelativeError(const std::vector<float>& got, const std::vector<float>& want) {
    double error = 0, size = 0;
    for (size_t i = 0; i < want.size(); ++i) {
      const double w = want[i], e = got[i] - w;
      error += e * e;
      size += w * w;
    }
    return std::sqrt(error / size);
  }

  static void RunReference(Batch& batch) {
    batch.Run([&](Rows qkv, Rows z, Rows b, Rows a, std::span<const DeltaInput> inputs, Rows out) {
      DeltaReference(qkv, z, b, a, inputs, batch.spec, out);
    });
  }

  std::unique_ptr<DeltaNet> delta_ = MakeDeltaNet(GetParam());
};

TEST_P(DeltaNetTest, ShapesOfTheModels) {
  for (const bool eps_is_mean : {false, true}) {
    Layer layer(2, 4, 128, 128);
    layer.spec.l2_eps_is_mean = eps_is_mean;
    ExpectReference(layer.spec, {70});
    ExpectReference(layer.spec, {1});
  }
}

TEST_P(DeltaNetTest, EveryShape) {
  for (const auto& [key_dim, value_dim] : std::vector<std::pair<uint64_t, uint64_t>>{
           {64, 64}, {16, 24}, {5, 7}, {33, 70}, {1, 1}, {20, 130}}) {
    const Layer layer(1, 2, key_dim, value_dim);
    ExpectReference(layer.spec, {40});
  }
  ExpectReference(Layer(3, 3, 16, 16).spec, {30});
  ExpectReference(Layer(1, 5, 16, 16).spec, {30});
}

TEST_P(DeltaNetTest, EveryNumberOfTaps) {
  for (uint64_t taps = 1; taps <= 6; ++taps) {
    const Layer layer(1, 1, 8, 8, taps);
    for (const uint64_t tokens : {1U, 2U, 3U, 4U, 7U, 64U, 65U, 200U}) {
      ExpectReference(layer.spec, {tokens});
    }
  }
}

// What is left of a chunk, from every place within one.
TEST_P(DeltaNetTest, EveryNumberOfTokensFromEveryPosition) {
  const Layer layer(1, 2, 12, 20);
  for (uint64_t tokens = 1; tokens <= 2 * kDeltaChunk + 3; ++tokens) {
    ExpectReference(layer.spec, {tokens});
  }
  for (uint64_t position = 1; position <= kDeltaChunk; ++position) {
    Batch got(layer.spec, {kDeltaChunk + 7}, 20), want(layer.spec, {kDeltaChunk + 7}, 20);
    got.segments[0].position = 1000 + position;
    Run(got);
    RunReference(want);
    ExpectNear(got, want);
  }
}

// As accurate as f32 allows over a long sequence: the error is a few roundings of 6e-8, whether
// states live for thousands of tokens, for some, or for less than one.
TEST_P(DeltaNetTest, ErrorsAreThoseOfF32) {
  for (const float dt_bias : {-9.0f, -4.0f, 0.0f, 3.0f, 9.0f}) {
    Layer layer(1, 2, 128, 128);
    layer.a_log = {0, 1};
    layer.dt_bias = {dt_bias, dt_bias};
    Batch got(layer.spec, {1000}, 3), want(layer.spec, {1000}, 3);
    Run(got);
    RunReference(want);
    EXPECT_LE(RelativeError(got.out, want.out), 1e-6) << dt_bias;
    EXPECT_LE(RelativeError(got.state[0], want.state[0]), 1e-6) << dt_bias;
  }
}

// Gates that differ from token to token by all they can: decays from 1 to 0, changes from none to
// all. Sums of their logarithms reach 1e5, where f32 would have no digits left behind the point.
TEST_P(DeltaNetTest, GatesThatJump) {
  Layer layer(1, 2, 16, 24);
  layer.a_log = {3, 5};
  for (const uint32_t seed : {1U, 2U, 3U}) {
    Batch got(layer.spec, {150}, seed), want(layer.spec, {150}, seed);
    for (Batch* batch : {&got, &want}) {
      for (size_t i = 0; i < batch->a.size(); ++i) {
        batch->a[i] = batch->a[i] > 0.5f ? 30 * batch->a[i] : -9 - 3 * batch->a[i];
        batch->b[i] *= 60;
      }
    }
    Run(got);
    RunReference(want);
    ExpectNear(got, want);
    EXPECT_LE(RelativeError(got.out, want.out), 2e-6);
  }
}

// A gate of infinite strength forgets, and is no more than that.
TEST_P(DeltaNetTest, GatesWithoutLimit) {
  Layer layer(1, 1, 8, 8);
  layer.a_log = {60};
  Batch got(layer.spec, {50}, 1), want(layer.spec, {50}, 1);
  for (Batch* batch : {&got, &want}) {
    for (size_t i = 0; i < batch->a.size(); ++i) batch->a[i] = i % 3 == 0 ? 3e38f : -400.0f;
  }
  Run(got);
  RunReference(want);
  ExpectNear(got, want);
}

// What is no number stays where it is and behind; tokens in front of it keep their bits.
TEST_P(DeltaNetTest, NanDoesNotGoBackInTime) {
  const Layer layer(1, 2, 16, 16);
  const uint64_t cols = layer.spec.value_heads * layer.spec.value_dim;
  Batch clean(layer.spec, {90}, 9);
  Run(clean);
  for (const uint64_t bad : {0U, 1U, 30U, 33U, 62U, 63U, 89U}) {
    for (const auto member : {&Batch::qkv, &Batch::a, &Batch::b}) {
      Batch batch(layer.spec, {90}, 9);
      std::vector<float>& values = batch.*member;
      std::fill_n(values.begin() + static_cast<ptrdiff_t>(bad * (values.size() / 90)),
                  values.size() / 90, NAN);
      Run(batch);
      EXPECT_TRUE(std::equal(batch.out.begin(),
                             batch.out.begin() + static_cast<ptrdiff_t>(bad * cols),
                             clean.out.begin()));
      for (size_t i = bad * cols; i < batch.out.size(); ++i) {
        ASSERT_TRUE(std::isnan(batch.out[i])) << bad << " " << i;
      }
    }
  }
}

// Gates at their ends: a state that is kept, and one that is gone.
TEST_P(DeltaNetTest, ExtremeGates) {
  Layer layer(1, 2, 16, 16);
  layer.dt_bias = {-30, 40};
  layer.a_log = {-5, 3};
  ExpectReference(layer.spec, {30});
}

// The eps that mlx adds to the mean is key_dim times as large.
TEST_P(DeltaNetTest, TheEpsOfTheKeysMatters) {
  Layer layer(1, 1, 16, 16);
  layer.spec.l2_eps = 0.5f;
  ExpectReference(layer.spec, {20});
  layer.spec.l2_eps_is_mean = true;
  ExpectReference(layer.spec, {20});
}

// Cut where chunks begin a sequence gives the bits of one call, elsewhere the same to rounding.
TEST_P(DeltaNetTest, PiecesEqualTheWhole) {
  const Layer layer(2, 4, 16, 24);
  const uint64_t cols = layer.spec.value_heads * layer.spec.value_dim;
  Batch whole(layer.spec, {150}, 9);
  Run(whole);
  std::vector<std::vector<uint64_t>> cuts = {{1, 149},  {2, 1, 1, 146}, {63, 1, 86}, {149, 1},
                                             {128, 22}, {64, 86},       {32, 32, 86}};
  cuts.emplace_back(150, 1);
  for (const std::vector<uint64_t>& pieces : cuts) {
    Batch parts(layer.spec, {150}, 9);
    const std::vector<float> qkv = parts.qkv, z = parts.z, b = parts.b, a = parts.a;
    std::vector<float> out;
    uint64_t at = 0;
    bool at_chunks = true;
    for (const uint64_t piece : pieces) {
      const auto cut = [&](const std::vector<float>& all, uint64_t width) {
        return std::vector<float>(all.begin() + static_cast<ptrdiff_t>(at * width),
                                  all.begin() + static_cast<ptrdiff_t>((at + piece) * width));
      };
      at_chunks = at_chunks && at % kDeltaChunk == 0;
      parts.qkv = cut(qkv, layer.spec.channels());
      parts.z = cut(z, cols);
      parts.b = cut(b, layer.spec.value_heads);
      parts.a = cut(a, layer.spec.value_heads);
      parts.out.assign(piece * cols, NAN);
      parts.segments[0] = {0, piece, at};
      Run(parts);
      out.insert(out.end(), parts.out.begin(), parts.out.end());
      at += piece;
    }
    if (at_chunks) {
      EXPECT_EQ(out, whole.out);
      EXPECT_EQ(parts.state, whole.state);
      EXPECT_EQ(parts.conv, whole.conv);
    }
    parts.out = out;
    ExpectNear(parts, whole);
  }
}

TEST_P(DeltaNetTest, OtherSequencesAndThreadsDoNotChangeABit) {
  const Layer layer(2, 4, 16, 16);
  const uint64_t cols = layer.spec.value_heads * layer.spec.value_dim;
  const std::vector<uint64_t> lengths = {5, 70, 1, 3};
  Batch all(layer.spec, lengths, 6);
  Run(all);
  for (const size_t threads : {2U, 5U}) {
    Batch again(layer.spec, lengths, 6);
    Run(again, threads);
    EXPECT_EQ(again.out, all.out);
    EXPECT_EQ(again.state, all.state);
  }
  for (size_t i = 0; i < lengths.size(); ++i) {
    Batch one(layer.spec, {lengths[i]}, 6);
    Run(one);
    EXPECT_EQ(one.state[0], all.state[i]);
    EXPECT_EQ(one.conv[0], all.conv[i]);
    EXPECT_TRUE(
        std::equal(one.out.begin(), one.out.end(),
                   all.out.begin() + static_cast<ptrdiff_t>(all.segments[i].first_row * cols)));
  }
}

TEST_P(DeltaNetTest, NoTokensChangeNothing) {
  const Layer layer(1, 2, 16, 16);
  Batch batch(layer.spec, {0}, 6), before(layer.spec, {0}, 6);
  Run(batch);
  EXPECT_EQ(batch.state, before.state);
  EXPECT_EQ(batch.conv, before.conv);
}

INSTANTIATE_TEST_SUITE_P(Levels, DeltaNetTest, testing::ValuesIn(SimdLevels()),
                         [](const auto& level) { return level.param; });

}  // namespace
}  // namespace ram
