// Pricing 18 choices: GB/s of source. The answer is checked before the clock starts: a fast wrong
// kernel is not a result.
//
// of_bandwidth: share of what one core can read. of_float_ops: share of the f32 operations that one
// core can do, counting 8 for each weight and choice.

#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "bench/machine_limits.h"
#include "ram/measure/block_errors.h"
#include "ram/measure/block_errors_reference.h"
#include "ram/quant/test_weights.h"

namespace ram {
namespace {

bool EqualsReference(Dtype dtype, bool weighted) {
  const TestMatrix matrix = NormalMatrix(dtype, 3, 2048 + 128);
  const std::vector<float> columns(weighted ? matrix.View().cols : 0, 0.5f);
  const ErrorWeights weights = {.columns = columns};
  const auto got = MeasureBlock(matrix.View(), weights);
  const BlockErrors want = reference::MeasureBlock(matrix.View(), weights);
  if (!got.ok()) return false;
  for (size_t i = 0; i < kAffineChoices.size(); ++i) {
    if (got->choices[i].sum_squares != want.choices[i].sum_squares) return false;
    if (got->choices[i].weighted_sum_squares != want.choices[i].weighted_sum_squares) return false;
  }
  return true;
}

void MeasureBlocks(benchmark::State& state, Dtype dtype, bool weighted) {
  constexpr size_t kCols = 4096, kBlocks = 64;
  if (!EqualsReference(dtype, weighted)) {
    state.SkipWithError("differs from the reference");
    return;
  }
  const size_t rows = RowsPerBlock(kCols);
  const TestMatrix matrix = NormalMatrix(dtype, rows * kBlocks, kCols);
  const MatrixView all = matrix.View();
  const size_t block_bytes = rows * kCols * static_cast<size_t>(BitsOf(dtype)) / 8;
  const std::vector<float> columns(weighted ? kCols : 0, 0.5f);

  double best = 1e30;
  for (auto _ : state) {
    const double seconds = BestSeconds(1, [&] {
      for (size_t block = 0; block < kBlocks; ++block) {
        const MatrixView view = {all.data + block * block_bytes, dtype, rows, kCols};
        benchmark::DoNotOptimize(MeasureBlock(view, {.columns = columns}));
      }
    });
    state.SetIterationTime(seconds);
    best = std::min(best, seconds);
  }
  const double bytes = static_cast<double>(kBlocks * block_bytes);
  const double weights = static_cast<double>(all.rows * all.cols);
  const double choices = static_cast<double>(kAffineChoices.size());
  state.counters["GB/s"] = 1e-9 * bytes / best;
  state.counters["of_bandwidth"] = bytes / best / ReadBandwidth();
  state.counters["of_float_ops"] = weights * choices * 8 / best / FloatOperations();
  state.SetLabel(std::string(MeasureTarget()));
}

BENCHMARK_CAPTURE(MeasureBlocks, BF16, Dtype::kBF16, false)->UseManualTime();
BENCHMARK_CAPTURE(MeasureBlocks, F16, Dtype::kF16, false)->UseManualTime();
BENCHMARK_CAPTURE(MeasureBlocks, F32, Dtype::kF32, false)->UseManualTime();
BENCHMARK_CAPTURE(MeasureBlocks, BF16_weighted, Dtype::kBF16, true)->UseManualTime();

}  // namespace
}  // namespace ram

BENCHMARK_MAIN();
