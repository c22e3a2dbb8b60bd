// Attention of the f32 engine on one core: prefill and decode of the shapes that models have. The
// answer is checked before the clock starts.
//
// Gscores/s: scores of keys that are seen; of_peak: their multiplications and additions, with keys
// and with values, as a share of the fused multiply-adds of one core.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "bench/machine_limits.h"
#include "ram/base/half.h"
#include "ram/runtime/attention.h"
#include "ram/runtime/isa.h"
#include "ram/runtime/ops_reference.h"

namespace ram {
namespace {

struct Shape {
  const char* name;
  uint64_t tokens, first;  // Queries of tokens [first, tokens).
  uint64_t heads, kv_heads, head_dim, value_dim;
  Dtype dtype;
};

constexpr Shape kShapes[] = {
    {"prefill 16x64", 2048, 0, 16, 16, 64, 64, Dtype::kF32},
    {"prefill 16x64 bf16", 2048, 0, 16, 16, 64, 64, Dtype::kBF16},
    {"prefill 8x128", 2048, 0, 8, 8, 128, 128, Dtype::kF32},
    {"prefill 32:4x128", 2048, 0, 32, 4, 128, 128, Dtype::kF32},
    {"prefill 4:1x256", 2048, 0, 4, 1, 256, 256, Dtype::kF32},
    {"prefill 4x192/128", 2048, 0, 4, 4, 192, 128, Dtype::kF32},
    {"prefill 512 of 16x64", 512, 0, 16, 16, 64, 64, Dtype::kF32},
    {"decode 16x64 at 2048", 2048, 2047, 16, 16, 64, 64, Dtype::kF32},
    {"decode 32:4x128 at 8192", 8192, 8191, 32, 4, 128, 128, Dtype::kF32},
    {"decode 32:4x128 at 8192 bf16", 8192, 8191, 32, 4, 128, 128, Dtype::kBF16},
    {"decode 20:1x576/512 at 2048", 2048, 2047, 20, 1, 576, 512, Dtype::kF32},
};

std::vector<float> Random(size_t n, uint32_t seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0, 1);
  std::vector<float> values(n);
  for (float& value : values) value = normal(engine);
  return values;
}

struct Problem {
  explicit Problem(const Shape& shape)
      : rows(shape.tokens - shape.first),
        q(Random(rows * shape.heads * shape.head_dim, 1)),
        k(Random(shape.tokens * shape.kv_heads * shape.head_dim, 2)),
        v(Random(shape.tokens * shape.kv_heads * shape.value_dim, 3)),
        out(rows * shape.heads * shape.value_dim) {
    for (const float x : k) k16.push_back(Bf16FromFloat(x));
    for (const float x : v) v16.push_back(Bf16FromFloat(x));
    spec.heads = shape.heads;
    spec.kv_heads = shape.kv_heads;
    spec.head_dim = shape.head_dim;
    spec.value_dim = shape.value_dim;
    spec.scale = 1 / std::sqrt(static_cast<float>(shape.head_dim));
    const bool wide = shape.dtype == Dtype::kF32;
    input.segment = {0, rows, shape.first};
    input.keys = {wide ? static_cast<const void*>(k.data()) : k16.data(), shape.dtype,
                  shape.kv_heads * shape.head_dim};
    input.values = {wide ? static_cast<const void*>(v.data()) : v16.data(), shape.dtype,
                    shape.kv_heads * shape.value_dim};
  }

  Rows Queries() {
    return {q.data(), rows, spec.heads * spec.head_dim, spec.heads * spec.head_dim};
  }
  Rows Out() {
    return {out.data(), rows, spec.heads * spec.value_dim, spec.heads * spec.value_dim};
  }

  // The last two tokens against the reference.
  bool EqualsReference() {
    const uint64_t num = std::min<uint64_t>(rows, 2);
    std::vector<float> want(num * Out().cols);
    AttentionInput last = input;
    last.segment = {0, num, input.segment.position + rows - num};
    AttendReference(Queries().slice(rows - num, num), {&last, 1}, spec,
                    {want.data(), num, Out().cols, Out().cols});
    const float* got = Out().row(rows - num);
    for (size_t i = 0; i < want.size(); ++i) {
      if (!(std::fabs(got[i] - want[i]) < 2e-5f)) return false;
    }
    return true;
  }

  uint64_t rows;
  std::vector<float> q, k, v, out;
  std::vector<uint16_t> k16, v16;
  AttentionSpec spec;
  AttentionInput input;
};

void Attend(benchmark::State& state, const std::string& level, const Shape& shape) {
  Problem problem(shape);
  const std::unique_ptr<Attention> attention = MakeFmaAttention(level);
  ThreadPool pool(1);
  const auto run = [&] {
    attention->Attend(problem.Queries(), {&problem.input, 1}, problem.spec, problem.Out(), pool);
  };
  run();
  if (!problem.EqualsReference()) {
    state.SkipWithError("differs from the reference");
    return;
  }
  double best = 1e30;
  for (auto _ : state) {
    const double seconds = BestSeconds(1, run);
    state.SetIterationTime(seconds);
    best = std::min(best, seconds);
  }
  const double keys = 0.5 * static_cast<double>(shape.first + 1 + shape.tokens);
  const double scores = keys * static_cast<double>(problem.rows * shape.heads);
  const double operations = 2 * scores * static_cast<double>(shape.head_dim + shape.value_dim);
  const double bytes = static_cast<double>(shape.tokens * shape.kv_heads) *
                       static_cast<double>(shape.head_dim + shape.value_dim) *
                       (shape.dtype == Dtype::kF32 ? 4 : 2);
  state.counters["Gscores/s"] = 1e-9 * scores / best;
  state.counters["of_peak"] = operations / best / FusedFloatOperations();
  if (problem.rows == 1) state.counters["of_bandwidth"] = bytes / best / ReadBandwidth();
}

}  // namespace
}  // namespace ram

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  for (const std::string& level : ram::SimdLevels()) {
    for (const ram::Shape& shape : ram::kShapes) {
      const std::string name = level + " " + shape.name;
      benchmark::RegisterBenchmark(name.c_str(), [level, &shape](benchmark::State& state) {
        ram::Attend(state, level, shape);
      })->UseManualTime();
    }
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
