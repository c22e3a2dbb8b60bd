// The statistics of a large comparison: 10 models on 256 windows.
//
//   stats_bench
//
// Bootstrap: 10,000 resamples of all columns in one pass; bytes_per_second counts the scores that
// are added up. Compare: everything `ram compare` computes, 45 pairs. Answers are checked before
// the clock counts: resampled means have the mean and the standard error of the windows.

#include <cmath>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include "benchmark/benchmark.h"
#include "ram/base/random.h"
#include "ram/stats/bootstrap.h"
#include "ram/stats/compare.h"

namespace ram {
namespace {

constexpr size_t kModels = 10;
constexpr size_t kWindows = 256;

// Levels that vary by 30 %, models that differ by half a percent.
std::vector<ModelScores> Models() {
  std::vector<ModelScores> models(kModels);
  for (size_t m = 0; m < kModels; ++m) {
    models[m].name = "model " + std::to_string(m);
    RandomStream level(1, 0);
    RandomStream noise(2, m);
    for (size_t s = 0; s < kWindows; ++s) {
      models[m].nll.push_back(2.2 + level.Uniform() - 0.5 + 0.01 * noise.Uniform());
    }
  }
  return models;
}

void Check(bool condition) {
  if (!condition) std::abort();
}

void Bootstrap(benchmark::State& state) {
  const std::vector<ModelScores> models = Models();
  std::vector<std::span<const double>> columns;
  for (const ModelScores& model : models) columns.emplace_back(model.nll);
  const std::vector<double> tokens(kWindows, 2047.0);
  const BootstrapOptions options;
  for (size_t c = 0; c < kModels; ++c) {
    const std::vector<double> means = BootstrapMeans({&columns[c], 1}, tokens, options);
    const Estimate mean = MeanEstimate(columns[c]);
    Check(std::abs(Mean(means) - mean.value) < 0.05 * mean.standard_error);
    Check(std::abs(StandardDeviation(means) / mean.standard_error - 1) < 0.03);
  }
  for (auto _ : state) {
    benchmark::DoNotOptimize(BootstrapMeans(columns, tokens, options));
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * options.num_resamples *
                                               kWindows * kModels * sizeof(double)));
}
BENCHMARK(Bootstrap)->Unit(benchmark::kMillisecond);

void Compare(benchmark::State& state) {
  const std::vector<ModelScores> models = Models();
  const std::vector<double> tokens(kWindows, 2047.0);
  const auto checked = CompareModels(models, tokens);
  Check(checked.ok() && checked->pairs.size() == kModels * (kModels - 1) / 2);
  for (auto _ : state) benchmark::DoNotOptimize(CompareModels(models, tokens));
}
BENCHMARK(Compare)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace ram

BENCHMARK_MAIN();
