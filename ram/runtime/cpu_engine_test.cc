// Every operation of the CPU engine against the reference engine, on every instruction set of this
// machine; the same bits with any number of threads; what an instruction set may be called.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "ram/base/half.h"
#include "ram/runtime/engine.h"
#include "ram/runtime/test_matrix.h"

namespace ram {
namespace {

constexpr Matrix kBf16 = {.dtype = Dtype::kBF16};
constexpr Matrix kFourBits = {
    .form = Matrix::Form::kAffine, .dtype = Dtype::kBF16, .bits = 4, .group_size = 32};

std::unique_ptr<Engine> MakeEngine(ThreadPool* pool, const std::string& isa) {
  auto engine = MakeCpuEngine(pool, {.precision = Precision::kF32, .isa = isa});
  if (!engine) ADD_FAILURE() << engine.error().message;
  return *std::move(engine);
}

std::vector<float> RandomVector(uint64_t size, uint32_t seed) {
  TestRows row = TestRows::Random(1, size, seed);
  return {row.view().data, row.view().data + size};
}

// Relative to the root mean square of what is expected.
void ExpectNear(Rows got, Rows expected, double limit) {
  double difference = 0;
  double power = 0;
  for (uint64_t r = 0; r < expected.rows; ++r) {
    for (uint64_t c = 0; c < expected.cols; ++c) {
      const double d = double{got.row(r)[c]} - double{expected.row(r)[c]};
      difference = std::max(difference, std::isfinite(d) ? std::fabs(d) : 1e30);
      power += double{expected.row(r)[c]} * double{expected.row(r)[c]};
    }
  }
  EXPECT_GT(power, 0);
  EXPECT_LE(difference, limit * std::sqrt(power / static_cast<double>(got.rows * got.cols)));
}

// One operation on an engine: what it leaves behind.
using Operation = std::function<TestRows(Engine&)>;

class CpuEngineTest : public testing::TestWithParam<std::string> {
 protected:
  // The reference's result within `limit`, and the same bits on 1 and on 5 threads.
  void Check(const Operation& operation, double limit) {
    TestRows expected = operation(*reference_);
    TestRows got = operation(*engine_);
    ExpectNear(got.view(), expected.view(), limit);
    EXPECT_TRUE(got.BetweenIsUntouched());
    ThreadPool one(1);
    EXPECT_TRUE(operation(*MakeEngine(&one, GetParam())) == got);
    ThreadPool five(5);
    EXPECT_TRUE(operation(*MakeEngine(&five, GetParam())) == got);
  }

  ThreadPool pool_{2};
  std::unique_ptr<Engine> reference_ = MakeReferenceEngine(&pool_);
  std::unique_ptr<Engine> engine_ = MakeEngine(&pool_, GetParam());
};

TEST_P(CpuEngineTest, IsNamedAfterItsInstructions) {
  EXPECT_EQ(engine_->name().find("cpu " + GetParam()), 0U);
}

TEST_P(CpuEngineTest, AllocatesAlignedRowsOfAnOddNumberOfCacheLines) {
  for (const uint64_t cols : {1U, 16U, 17U, 1024U, 2816U, 4096U}) {
    const std::unique_ptr<Activations> memory = engine_->Allocate(3, cols);
    const Rows rows = memory->rows();
    EXPECT_EQ(reinterpret_cast<uintptr_t>(rows.data) % 64, 0U);
    EXPECT_EQ(rows.pitch % 16, 0U);
    EXPECT_EQ(rows.pitch / 16 % 2, 1U);
    EXPECT_GE(rows.pitch, cols);
    EXPECT_EQ(rows.rows, 3U);
    EXPECT_EQ(rows.cols, cols);
  }
}

TEST_P(CpuEngineTest, Embed) {
  const std::vector<int32_t> ids = {3, 0, 39, 3, 17};
  for (const Matrix& form : {kBf16, kFourBits}) {
    const TestMatrix table = RandomMatrix(form, 1, 40, 96);
    for (const float scale : {1.0F, 9.5F}) {
      Check(
          [&](Engine& engine) {
            TestRows out(ids.size(), 96);
            engine.Embed(table.view(), ids, scale, out.view());
            return out;
          },
          1e-6);
    }
  }
}

TEST_P(CpuEngineTest, RmsNorm) {
  const std::vector<float> weight = RandomVector(300, 3);
  Check(
      [&](Engine& engine) {
        TestRows x = TestRows::Random(70, 300);
        engine.RmsNorm(x.view(), weight, 1e-5F, x.view());
        return x;
      },
      1e-5);
}

TEST_P(CpuEngineTest, Linear) {
  const TestMatrix first = RandomMatrix(kFourBits, 1, 70, 128, 3);
  const TestMatrix second = RandomMatrix(kBf16, 1, 30, 128, 4);
  const std::vector<float> bias = RandomVector(30, 5);
  for (const uint64_t rows : {1U, 3U, 40U}) {
    Check(
        [&](Engine& engine) {
          TestRows x = TestRows::Random(rows, 128);
          TestRows out(rows, 100);
          const std::vector<LinearTerm> terms = {
              {.matrix = first.view(), .out = out.view().columns(0, 70)},
              {.matrix = second.view(), .bias = bias, .out = out.view().columns(70, 30)}};
          engine.Linear(x.view(), terms);
          return out;
        },
        5e-6);
  }
}

TEST_P(CpuEngineTest, HeadLinear) {
  const TestMatrix matrix = RandomMatrix(kFourBits, 3, 20, 64);
  for (const uint64_t rows : {2U, 30U}) {
    Check(
        [&](Engine& engine) {
          TestRows x = TestRows::Random(rows, 3 * 64);
          TestRows out(rows, 3 * 20);
          engine.HeadLinear(x.view(), matrix.view(), out.view());
          return out;
        },
        5e-6);
  }
}

TEST_P(CpuEngineTest, HeadLinearTransposed) {
  const TestMatrix matrix = RandomMatrix(kFourBits, 3, 48, 64);
  for (const uint64_t rows : {2U, 30U}) {
    Check(
        [&](Engine& engine) {
          TestRows x = TestRows::Random(rows, 48);
          TestRows out(rows, 2 * 80 + 64);
          for (uint64_t r = 0; r < rows; ++r) {  // Columns between the heads stay.
            std::fill_n(out.view().row(r), out.view().cols, 0.25F);
          }
          engine.HeadLinearTransposed(x.view(), matrix.view(), 80, out.view());
          return out;
        },
        5e-6);
  }
}

TEST_P(CpuEngineTest, PrepareHeads) {
  const std::vector<float> inv_freq = {1.0F, 0.3F, 0.1F, 0.03F, 0.01F, 0.003F, 0.001F, 0.0003F};
  const std::vector<float> weight = RandomVector(24, 6);
  const std::vector<Segment> segments = {{0, 20, 100}, {20, 1, 7}, {21, 9, 0}};
  HeadSpec spec;
  spec.heads = 5;
  spec.head_dim = 24;
  spec.norm = HeadNorm::kPerHead;
  spec.norm_weight = weight;
  spec.norm_eps = 1e-6F;
  spec.inv_freq = inv_freq;
  spec.rope_first = 4;
  for (const bool interleaved : {false, true}) {
    spec.interleaved = interleaved;
    Check(
        [&](Engine& engine) {
          TestRows x = TestRows::Random(30, 5 * 24);
          engine.PrepareHeads(x.view(), segments, spec);
          return x;
        },
        1e-5);
  }
}

TEST_P(CpuEngineTest, Attend) {
  TestRows keys = TestRows::Random(60, 2 * 16, 7);
  TestRows values = TestRows::Random(60, 2 * 8, 8);
  const AttentionSpec spec = {
      .heads = 4, .kv_heads = 2, .head_dim = 16, .value_dim = 8, .scale = 0.25F, .window = 20};
  Check(
      [&](Engine& engine) {
        TestRows q = TestRows::Random(40, 4 * 16);
        TestRows out(40, 4 * 8);
        std::vector<AttentionInput> inputs(2);
        inputs[0].segment = {0, 30, 5};
        inputs[1].segment = {30, 10, 0};
        for (size_t i = 0; i < 2; ++i) {
          inputs[i].keys = {keys.view().row(i * 35), Dtype::kF32, keys.view().pitch};
          inputs[i].values = {values.view().row(i * 35), Dtype::kF32, values.view().pitch};
        }
        engine.Attend(q.view(), inputs, spec, out.view());
        return out;
      },
      1e-5);
}

TEST_P(CpuEngineTest, Delta) {
  DeltaSpec spec;
  spec.key_heads = 2;
  spec.value_heads = 4;
  spec.key_dim = 16;
  spec.value_dim = 16;
  const std::vector<float> conv = RandomVector(spec.channels() * 4, 1);
  const std::vector<float> a_log = RandomVector(4, 2);
  const std::vector<float> dt_bias = RandomVector(4, 3);
  const std::vector<float> norm = RandomVector(16, 4);
  spec.conv = conv;
  spec.a_log = a_log;
  spec.dt_bias = dt_bias;
  spec.norm_weight = norm;
  Check(
      [&](Engine& engine) {
        TestRows qkv = TestRows::Random(70, spec.channels(), 5);
        TestRows z = TestRows::Random(70, 64, 6);
        TestRows b = TestRows::Random(70, 4, 7);
        TestRows a = TestRows::Random(70, 4, 8);
        TestRows out(70, 64);
        std::vector<float> past(2 * 3 * spec.channels(), 0.0F);
        std::vector<float> state(2 * 4 * 16 * 16, 0.0F);
        std::vector<DeltaInput> inputs(2);
        inputs[0] = {{0, 65, 0}, {past.data(), state.data()}};
        inputs[1] = {{65, 5, 0}, {past.data() + past.size() / 2, state.data() + state.size() / 2}};
        engine.Delta(qkv.view(), z.view(), b.view(), a.view(), inputs, spec, out.view());
        return out;
      },
      2e-4);
}

TEST_P(CpuEngineTest, GluAddGate) {
  for (const Activation activation :
       {Activation::kSilu, Activation::kGeluTanh, Activation::kClippedSwiglu}) {
    Check(
        [&](Engine& engine) {
          TestRows gate = TestRows::Random(60, 301, 1);
          TestRows up = TestRows::Random(60, 301, 2);
          TestRows column = TestRows::Random(60, 1, 3);
          engine.Glu(gate.view(), up.view(), {.activation = activation}, gate.view());
          engine.Add(up.view(), gate.view());
          engine.Gate(up.view(), gate.view());
          engine.Gate(column.view(), gate.view());
          return gate;
        },
        1e-5);
  }
}

RouterSpec SomeRouter() {
  RouterSpec spec;
  spec.kind = RouterKind::kSoftmax;
  spec.experts = 6;
  spec.top_k = 3;
  spec.renormalize = true;
  return spec;
}

TEST_P(CpuEngineTest, Route) {
  Check(
      [&](Engine& engine) {
        TestRows logits = TestRows::Random(50, 6, 1);
        Routes routes;
        engine.Route(logits.view(), SomeRouter(), &routes);
        EXPECT_EQ(routes.top_k, 3U);
        TestRows out(50, 6);
        for (uint64_t i = 0; i < 150; ++i) {
          out.view().row(i / 3)[i % 3] = static_cast<float>(routes.expert.at(i));
          out.view().row(i / 3)[3 + i % 3] = routes.weight.at(i);
        }
        return out;
      },
      1e-5);
}

TEST_P(CpuEngineTest, Experts) {
  const TestMatrix gate = RandomMatrix(kFourBits, 6, 64, 96, 1);
  const TestMatrix up = RandomMatrix(kFourBits, 6, 64, 96, 2);
  const TestMatrix down = RandomMatrix(kBf16, 6, 96, 64, 3);
  const std::vector<float> gate_bias = RandomVector(6 * 64, 4);
  const std::vector<float> up_bias = RandomVector(6 * 64, 5);
  const std::vector<float> down_bias = RandomVector(6 * 96, 6);
  ExpertSpec spec;
  spec.gate = gate.view();
  spec.up = up.view();
  spec.down = down.view();
  for (const bool biases : {false, true}) {
    if (biases) {
      spec.gate_bias = gate_bias;
      spec.up_bias = up_bias;
      spec.down_bias = down_bias;
    }
    for (const uint64_t rows : {1U, 60U}) {
      TestRows logits = TestRows::Random(rows, 6, 7);
      Routes routes;
      reference_->Route(logits.view(), SomeRouter(), &routes);
      for (const bool weight_input : {false, true}) {
        spec.weight_input = weight_input;
        Check(
            [&](Engine& engine) {
              TestRows x = TestRows::Random(rows, 96, 8);
              TestRows out(rows, 96);
              engine.Experts(x.view(), routes, spec, out.view());
              return out;
            },
            1e-5);
      }
    }
  }
}

TEST_P(CpuEngineTest, HeadAndLogits) {
  const TestMatrix head = RandomMatrix(kBf16, 1, 600, 64);
  for (const float softcap : {0.0F, 0.7F}) {
    for (const uint64_t rows : {3U, 40U}) {
      std::vector<int32_t> targets(rows, -1);
      for (size_t r = 1; r < rows; ++r) targets[r] = static_cast<int32_t>((r * 257) % 600);
      targets[2] = 599;
      Check(
          [&](Engine& engine) {
            TestRows x = TestRows::Random(rows, 64);
            std::fill_n(x.view().row(1), 64, 0.0F);  // All logits equal: the first of them wins.
            std::vector<HeadResult> results(rows);
            engine.Head(x.view(), head.view(), softcap, targets, results);
            EXPECT_EQ(results[1].argmax, 0U);
            EXPECT_NEAR(results[1].nll, std::log(600.0), 1e-5);
            EXPECT_EQ(results[0].nll, 0.0F);
            TestRows out(rows, 4);
            for (uint64_t r = 0; r < rows; ++r) {
              const HeadResult& result = results[r];
              float* to = out.view().row(r);
              to[0] = result.nll;
              to[1] = result.logsumexp;
              to[2] = 100 * static_cast<float>(result.argmax);  // A wrong one shows.
              to[3] = result.max_logit;
            }
            return out;
          },
          1e-6);
      Check(
          [&](Engine& engine) {
            TestRows x = TestRows::Random(rows, 64);
            TestRows out(rows, 600);
            engine.Logits(x.view(), head.view(), softcap, out.view());
            return out;
          },
          1e-5);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Levels, CpuEngineTest, testing::ValuesIn(CpuInstructionSets()),
                         [](const auto& level) {
                           std::string name = level.param;
                           std::erase(name, '-');
                           return name;
                         });

// 600 visits of 2 experts, of which 511 fit into the buffers: the second expert is cut.
TEST(CpuEngineSlabTest, ExpertsInSeveralSlabs) {
  constexpr uint64_t kInner = 16384;
  constexpr uint64_t kTokens = 300;
  const TestMatrix gate = RandomMatrix(kBf16, 2, kInner, 8, 1);
  const TestMatrix up = RandomMatrix(kBf16, 2, kInner, 8, 2);
  const TestMatrix down = RandomMatrix(kBf16, 2, 8, kInner, 3);
  ExpertSpec spec;
  spec.gate = gate.view();
  spec.up = up.view();
  spec.down = down.view();
  Routes routes;
  routes.top_k = 2;
  for (uint64_t t = 0; t < kTokens; ++t) {
    routes.expert.insert(routes.expert.end(), {0, 1});
    routes.weight.insert(routes.weight.end(), {0.25F + static_cast<float>(t % 3), 0.5F});
  }
  ThreadPool pool(2);
  TestRows x = TestRows::Random(kTokens, 8);
  TestRows expected(kTokens, 8);
  TestRows got(kTokens, 8);
  MakeReferenceEngine(&pool)->Experts(x.view(), routes, spec, expected.view());
  MakeEngine(&pool, "")->Experts(x.view(), routes, spec, got.view());
  ExpectNear(got.view(), expected.view(), 1e-5);
}

TEST(CpuInstructionSetsTest, NamesThatDoNotExistAreRefused) {
  ThreadPool pool(1);
  const auto engine = MakeCpuEngine(&pool, {.precision = Precision::kF32, .isa = "avx9"});
  ASSERT_FALSE(engine.ok());
  EXPECT_EQ(engine.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(engine.error().message.find("\"avx9\""), std::string::npos);
  EXPECT_NE(engine.error().message.find(CpuInstructionSets().back()), std::string::npos);
}

TEST(CpuInstructionSetsTest, ThoseOfOtherCpusAreRefused) {
  ThreadPool pool(1);
  const std::vector<std::string> here = CpuInstructionSets();
  size_t refused = 0;
  for (const char* isa :
       {"amx-f16", "amx-bf16", "avx3_dl", "avx3", "avx2", "sse4", "neon", "scalar"}) {
    const bool is_here = std::ranges::find(here, isa) != here.end();
    const auto engine = MakeCpuEngine(&pool, {.precision = Precision::kF32, .isa = isa});
    EXPECT_EQ(engine.ok(), is_here) << isa;
    refused += engine.ok() ? 0 : 1;
  }
  EXPECT_GT(refused, 0U);  // No machine has all.
}

TEST(CpuInstructionSetsTest, TheEnvironmentNamesTheDefault) {
  ThreadPool pool(1);
  const std::string slowest = CpuInstructionSets().back();
  ASSERT_EQ(setenv("RAM_ISA", slowest.c_str(), 1), 0);
  const auto engine = MakeCpuEngine(&pool, {});
  const auto asked =
      MakeCpuEngine(&pool, {.precision = Precision::kF32, .isa = CpuInstructionSets().front()});
  unsetenv("RAM_ISA");
  ASSERT_TRUE(engine.ok() && asked.ok());
  EXPECT_EQ((*engine)->name(), "cpu " + slowest);
  EXPECT_EQ((*asked)->name().find("cpu " + CpuInstructionSets().front()), 0U);
}

}  // namespace
}  // namespace ram
