// What is kept of a sequence, and what is refused before a model runs.

#include "ram/runtime/state.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "ram/base/half.h"
#include "ram/base/thread_pool.h"
#include "ram/family/fixtures.h"
#include "ram/runtime/layer.h"
#include "ram/runtime/ops_reference.h"

namespace ram {
namespace {

LayerGraph WindowLayer(uint64_t window) {
  AttentionGraph attention;
  attention.heads = 2;
  attention.kv_heads = 1;
  attention.head_dim = 4;
  attention.window = window;
  LayerGraph layer;
  layer.mixer = attention;
  return layer;
}

// Token t: keys t + 0.25, values -t.
void AppendTokens(LayerState& state, uint64_t num) {
  std::vector<float> keys(num * 4);
  std::vector<float> values(num * 4);
  for (uint64_t i = 0; i < num * 4; ++i) {
    const auto token = static_cast<float>(state.position() + i / 4);
    keys[i] = token + 0.25F;
    values[i] = -token;
  }
  state.Append({keys.data(), num, 4, 4}, {values.data(), num, 4, 4});
}

TEST(LayerStateTest, AWindowKeepsWhatItMaySeeInBoundedMemory) {
  LayerState state(WindowLayer(24), Dtype::kF32);
  uint64_t most_bytes = 0;
  for (uint64_t step = 0; step < 400; ++step) {
    AppendTokens(state, 1 + step % 3);
    const uint64_t first = state.first_position();
    const uint64_t last = state.position() - 1;
    // The oldest token of the last call sees 23 before it.
    const uint64_t oldest = last - step % 3;
    ASSERT_LE(first, oldest < 23 ? 0 : oldest - 23) << step;
    const auto* keys = static_cast<const float*>(state.keys().data);
    const auto* values = static_cast<const float*>(state.values().data);
    for (uint64_t t = first; t <= last; ++t) {
      ASSERT_EQ(keys[(t - first) * state.keys().pitch + 3], static_cast<float>(t) + 0.25F);
      ASSERT_EQ(values[(t - first) * state.values().pitch], -static_cast<float>(t));
    }
    most_bytes = std::max(most_bytes, state.bytes());
  }
  EXPECT_EQ(most_bytes, 64U * 8 * sizeof(float));
}

TEST(LayerStateTest, MemoryOfALongCallIsGivenBack) {
  LayerState state(WindowLayer(24), Dtype::kF32);
  AppendTokens(state, 5000);
  EXPECT_EQ(state.first_position(), 0U);
  AppendTokens(state, 1);
  EXPECT_EQ(state.position() - state.first_position(), 24U);
  EXPECT_EQ(state.bytes(), 64U * 8 * sizeof(float));
  EXPECT_EQ(static_cast<const float*>(state.keys().data)[0], 4977.25F);
}

TEST(LayerStateTest, Bf16RoundsToNearest) {
  LayerState state(WindowLayer(0), Dtype::kBF16);
  AppendTokens(state, 300);
  const auto* keys = static_cast<const uint16_t*>(state.keys().data);
  EXPECT_EQ(FloatFromBf16(keys[299 * 4]), 300.0F);  // 299.25 lies between 298 and 300.
  EXPECT_EQ(state.bytes(), 512U * 8 * sizeof(uint16_t));
}

TEST(LayerStateTest, BytesOfASequenceAreKnownBefore) {
  for (const std::string_view family : {"llama", "gemma3_text", "deepseek_v3", "qwen3_next"}) {
    const Graph graph = Must(BuildGraph(OpenFixture(family).config(), Numerics::kHf));
    SequenceState state = MakeSequenceState(graph, Dtype::kBF16);
    std::vector<float> row(4096, 0);
    for (size_t token = 0; token < 200; ++token) {
      for (size_t layer = 0; layer < state.size(); ++layer) {
        const auto* attention = std::get_if<AttentionGraph>(&graph.layers[layer].mixer);
        const auto* latent = std::get_if<LatentGraph>(&graph.layers[layer].mixer);
        const uint64_t cols = attention != nullptr ? attention->kv_heads * attention->head_dim
                              : latent != nullptr  ? latent->kv_rank + latent->rope_dim
                                                   : 0;
        const Rows rows = {row.data(), 1, cols, cols};
        if (cols == 0) {
          state[layer].Advance(1);
        } else {
          state[layer].Append(rows, latent != nullptr ? Rows{} : rows);
        }
      }
    }
    uint64_t bytes = 0;
    for (const LayerState& layer : state) bytes += layer.bytes();
    EXPECT_EQ(bytes, SequenceStateBytes(graph, Dtype::kBF16, 200)) << family;
  }
}

// ---- Before a model runs ----

TEST(LayerTest, AMissingTensorIsNamed) {
  const Graph graph = Must(BuildGraph(OpenFixture("llama").config(), Numerics::kHf));
  const LoadedWeights nothing;
  const Result<BoundLayer> layer =
      BoundLayer::Bind(graph.layers[0], graph.hidden, nothing, "model.safetensors: layer 0");
  ASSERT_FALSE(layer.ok());
  EXPECT_EQ(layer.error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(layer.error().message, "model.safetensors: layer 0: tensor input_layernorm is missing");
}

TEST(LayerTest, AGraphOfOtherSizesIsRefused) {
  const Checkpoint checkpoint = OpenFixture("llama");
  Graph graph = Must(BuildGraph(checkpoint.config(), Numerics::kHf));
  const auto source = Must(WeightSource::Open(checkpoint, Numerics::kHf));
  const LoadedWeights weights = Must(source->Load(0, nullptr));
  std::get<AttentionGraph>(graph.layers[0].mixer).kv_heads = 4;
  const Result<BoundLayer> layer =
      BoundLayer::Bind(graph.layers[0], graph.hidden, weights, "layer 0");
  ASSERT_FALSE(layer.ok());
  EXPECT_EQ(layer.error().message,
            "layer 0: tensor self_attn.k_proj has shape [1, 64, 128], expected [1, 128, 128]");
}

TEST(LayerTest, IdsOutOfRangeAndLongTextsAreRefused) {
  const Graph graph = Must(BuildGraph(OpenFixture("llama").config(), Numerics::kHf));
  const std::vector<int32_t> ids = {5, 384};
  const Status outside = CheckIds(graph, ids);
  ASSERT_FALSE(outside.ok());
  EXPECT_EQ(outside.error().message,
            "token 1 of the text has id 384, but the model's vocabulary has 384 entries");
  EXPECT_FALSE(CheckIds(graph, std::vector<int32_t>{-1}).ok());
  EXPECT_TRUE(CheckIds(graph, std::vector<int32_t>(1024, 7)).ok());
  EXPECT_EQ(CheckIds(graph, std::vector<int32_t>(1025, 7)).error().message,
            "1025 tokens are more than the model's context of 1024 (max_position_embeddings)");
}

TEST(ScratchTest, FramesUseTheSameMemoryAgain) {
  ThreadPool pool(1);
  const auto engine = MakeReferenceEngine(&pool);
  Scratch scratch(*engine);
  const float* first = nullptr;
  {
    const Scratch::Frame frame(scratch);
    first = scratch.Take(10, 100).data;
    EXPECT_NE(scratch.Take(10, 100).data, first);
  }
  const uint64_t bytes = scratch.bytes();
  const Scratch::Frame frame(scratch);
  const Rows smaller = scratch.Take(3, 50);
  EXPECT_EQ(smaller.data, first);
  EXPECT_EQ(smaller.pitch % 16, 0U);
  EXPECT_EQ(scratch.bytes(), bytes);
}

// ---- Routers, where transformers and mlx-lm part ----

TEST(RouteReferenceTest, RejectedGroupsAreOutOfReachOrZero) {
  // Scores: group 0 best; its second expert has a negative corrected score.
  const std::vector<float> logits = {2, -1, 0.5F, 0.4F};
  const std::vector<float> correction = {1, -0.6F, -0.3F, -0.3F};
  RouterSpec spec;
  spec.kind = RouterKind::kSigmoid;
  spec.experts = 4;
  spec.top_k = 2;
  spec.groups = 2;
  spec.top_groups = 1;
  spec.correction = correction;
  uint32_t expert[2];
  float weight[2];
  RouteReference(logits.data(), spec, expert, weight);
  EXPECT_EQ(expert[0], 0U);
  EXPECT_EQ(expert[1], 1U);
  EXPECT_EQ(weight[1], SigmoidReference(-1));
  spec.rejected_are_zero = true;
  RouteReference(logits.data(), spec, expert, weight);
  EXPECT_EQ(expert[0], 0U);
  EXPECT_EQ(expert[1], 2U);
}

TEST(RouteReferenceTest, OfEqualScoresTheLowerExpertIsChosen) {
  const std::vector<float> logits = {1, 3, 3, 3};
  RouterSpec spec;
  spec.kind = RouterKind::kSoftmax;
  spec.experts = 4;
  spec.top_k = 2;
  spec.renormalize = true;
  uint32_t expert[2];
  float weight[2];
  RouteReference(logits.data(), spec, expert, weight);
  EXPECT_EQ(expert[0], 1U);
  EXPECT_EQ(expert[1], 2U);
  EXPECT_EQ(weight[0], 0.5F);
}

}  // namespace
}  // namespace ram
