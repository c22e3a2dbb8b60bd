// Quantizing and packing BF16 weights: GB/s of source, for every choice. The answer is checked
// before the clock starts: a fast wrong kernel is not a result.
//
// of_bandwidth: share of what one core can read.

#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "bench/machine_limits.h"
#include "ram/quant/quantize.h"
#include "ram/quant/quantize_reference.h"
#include "ram/quant/test_weights.h"

namespace ram {
namespace {

// Codes, scales and biases in vectors of the right sizes.
struct Output {
  Output(const MatrixView& matrix, const Choice& choice)
      : codes(matrix.rows * matrix.cols / 8 * static_cast<size_t>(choice.bits)),
        scales(matrix.rows * matrix.cols / static_cast<size_t>(choice.group_size) * 2),
        biases(scales.size()) {}

  PackedMatrix View() { return {codes, scales, biases}; }

  std::vector<uint8_t> codes, scales, biases;
};

bool EqualsReference(const QuantizeOptions& options) {
  const TestMatrix matrix = NormalMatrix(Dtype::kBF16, 2, 2048 + 128);
  Output got(matrix.View(), options.choice);
  if (!Quantize(matrix.View(), options, got.View()).ok()) return false;
  const reference::Quantized want = reference::Quantize(matrix.View(), options);
  return got.codes == want.codes && got.scales == want.scales && got.biases == want.biases;
}

void QuantizeMatrix(benchmark::State& state, Quantizer quantizer) {
  const QuantizeOptions options = {.choice = kAffineChoices[static_cast<size_t>(state.range(0))],
                                   .quantizer = quantizer};
  if (!EqualsReference(options)) {
    state.SkipWithError("differs from the reference");
    return;
  }
  static const TestMatrix matrix = NormalMatrix(Dtype::kBF16, 4096, 4096);
  MatrixView view = matrix.View();
  if (quantizer == Quantizer::kOpt) view.rows /= 64;  // A hundredth of the speed.
  Output out(view, options.choice);

  double best = 1e30;
  for (auto _ : state) {
    const double seconds =
        BestSeconds(1, [&] { benchmark::DoNotOptimize(Quantize(view, options, out.View())); });
    state.SetIterationTime(seconds);
    best = std::min(best, seconds);
  }
  const double weights = static_cast<double>(view.rows * view.cols);
  state.counters["GB/s"] = 2e-9 * weights / best;
  state.counters["Gweights/s"] = 1e-9 * weights / best;
  state.counters["of_bandwidth"] = 2 * weights / best / ReadBandwidth();
  state.SetLabel(ChoiceName(options.choice) + " " + std::string(QuantizeTarget()));
}

constexpr int64_t kLastChoice = static_cast<int64_t>(kAffineChoices.size()) - 1;
BENCHMARK_CAPTURE(QuantizeMatrix, rtn, Quantizer::kRtn)
    ->DenseRange(0, kLastChoice)
    ->UseManualTime();
BENCHMARK_CAPTURE(QuantizeMatrix, rtn_plus, Quantizer::kRtnPlus)
    ->DenseRange(0, kLastChoice)
    ->UseManualTime();
BENCHMARK_CAPTURE(QuantizeMatrix, opt, Quantizer::kOpt)
    ->DenseRange(0, kLastChoice)
    ->UseManualTime();

}  // namespace
}  // namespace ram

BENCHMARK_MAIN();
