// The benchmark on tiny shapes: it measures everything, and refuses wrong answers. Models of random
// numbers.

#include "ram/runtime/benchmark.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <string>

#include "ram/base/json.h"
#include "ram/family/catalog.h"
#include "ram/runtime/random_weights.h"
#include "ram/runtime/state.h"

namespace ram {
namespace {

constexpr char kConfig[] = R"({"model_type": "qwen3_moe", "hidden_size": 64,
  "intermediate_size": 96, "moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2,
  "norm_topk_prob": true, "decoder_sparse_step": 1, "mlp_only_layers": [], "num_hidden_layers": 2,
  "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "vocab_size": 100,
  "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
  "tie_word_embeddings": false, "torch_dtype": "bfloat16"})";

KernelBenchmark Tiny() {
  KernelBenchmark tiny;
  tiny.rows = 8;
  tiny.hidden = 128;
  tiny.inner = 128;
  tiny.decode_bytes = 128 * 1024;
  tiny.least_seconds = 0;
  return tiny;
}

TEST(BenchmarkTest, MachineHasRates) {
  ThreadPool pool(2);
  const MachineRates machine = MeasureMachine(pool);
  EXPECT_GT(machine.fma_flops, 1e8);
  EXPECT_GT(machine.read_bytes, 1e7);
  EXPECT_GE(machine.tile_flops, 0);
}

TEST(BenchmarkTest, MeasuresEveryKernelOnce) {
  ThreadPool pool(2);
  const auto engine = MakeCpuEngine(&pool, {});
  ASSERT_TRUE(engine.ok());
  const MachineRates machine = {.fma_flops = 1e9, .tile_flops = 0, .read_bytes = 1e9};
  const auto speeds = BenchmarkKernels(**engine, machine, Tiny(), {});
  ASSERT_TRUE(speeds.ok()) << speeds.error().message;
  std::set<std::string> names;
  for (const KernelSpeed& speed : *speeds) {
    EXPECT_TRUE(names.insert(speed.section + ", " + speed.name).second);
    EXPECT_GT(speed.rate, 0);
    EXPECT_TRUE(std::isfinite(speed.rate));
    EXPECT_EQ(speed.limit.empty(), speed.share == 0);
  }
  EXPECT_TRUE(names.contains("products, 8 rows, 4,64"));
  EXPECT_TRUE(names.contains("decoding, 1 row, mxfp4"));
  EXPECT_TRUE(names.contains("vector steps, 8 x 128, swiglu"));
}

TEST(BenchmarkTest, RefusesWrongAnswers) {
  ThreadPool pool(1);
  const auto engine = MakeCpuEngine(&pool, {});
  ASSERT_TRUE(engine.ok());
  KernelBenchmark strict = Tiny();
  strict.tolerance = 0;  // Nothing in f32 is that exact.
  const auto speeds = BenchmarkKernels(**engine, {}, strict, {});
  ASSERT_FALSE(speeds.ok());
  EXPECT_EQ(speeds.error().code, ErrorCode::kCorrupt);
  EXPECT_NE(speeds.error().message.find("product, f32"), std::string::npos);
}

TEST(BenchmarkTest, RandomModelsRunInEveryForm) {
  ThreadPool pool(2);
  const auto engine = MakeCpuEngine(&pool, {});
  const auto json = ParseJson(kConfig, "config");
  ASSERT_TRUE(engine.ok() && json.ok());
  for (const char* text : {"16", "4,32", "mxfp4"}) {
    const auto choice = ParseChoice(text);
    auto catalog = BuildCatalog(*json);
    auto graph = BuildGraph(*json, Numerics::kHf);
    ASSERT_TRUE(choice.ok() && catalog.ok() && graph.ok());
    const RandomWeights source(*catalog, *choice);
    ModelBenchmark tiny = {.context = 12, .new_tokens = 3, .sequences = 2, .runs = 1};
    const auto speed = BenchmarkModel(**engine, *graph, source, tiny, {});
    ASSERT_TRUE(speed.ok()) << speed.error().message;
    EXPECT_GT(speed->score_tokens, 0);
    EXPECT_GT(speed->decode_tokens, 0);
    EXPECT_GT(speed->flops_per_token, 0);
    // One token needs two of four experts, and no embedding.
    EXPECT_LT(speed->bytes_per_step, speed->weight_bytes);
    EXPECT_EQ(speed->state_bytes_per_step, SequenceReadBytes(*graph, Dtype::kF32, 13));
    tiny.context = 65;
    EXPECT_FALSE(BenchmarkModel(**engine, *graph, source, tiny, {}).ok());
  }
}

TEST(RandomWeightsTest, TheSameForTheSameLayer) {
  ThreadPool pool(2);
  const auto json = ParseJson(kConfig, "config");
  ASSERT_TRUE(json.ok());
  const auto catalog = BuildCatalog(*json);
  ASSERT_TRUE(catalog.ok());
  const RandomWeights source(*catalog, Choice::Affine(4, 32));
  const auto one = source.Load(1, nullptr);
  const auto other = source.Load(1, &pool);
  ASSERT_TRUE(one.ok() && other.ok());
  const Matrix* experts = one->matrix("mlp.switch_mlp.gate_proj");
  const Matrix* again = other->matrix("mlp.switch_mlp.gate_proj");
  ASSERT_TRUE(experts != nullptr && again != nullptr);
  EXPECT_EQ(experts->form, Matrix::Form::kAffine);
  EXPECT_EQ(experts->count, 4U);
  EXPECT_EQ(std::memcmp(experts->values, again->values, 4 * 32 * experts->row_bytes()), 0);
  const Matrix* router = one->matrix("mlp.gate");
  ASSERT_NE(router, nullptr);
  EXPECT_EQ(router->form, Matrix::Form::kDense);
  std::vector<float> row(router->cols);
  DecodeRows(*router, 0, 1, row.data());
  for (const float weight : row) EXPECT_LE(std::fabs(weight), 0.0352F);
}

}  // namespace
}  // namespace ram
