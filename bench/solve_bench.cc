// Budget curve and exact solver on instances of the size of real models.
//
//   solve_bench                          all
//   solve_bench --benchmark_filter=Solve
//
// Solve: one iteration solves 199 budgets from the lightest plan to the heaviest. worst_ms is the
// slowest budget, median_ms the middle one, each budget by the best of its iterations, in CPU time
// of the thread. Every answer is checked before the clock counts.

#include <time.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "benchmark/benchmark.h"
#include "ram/allocate/allocate.h"

namespace ram {
namespace {

constexpr uint64_t kNumBudgets = 199;

// SplitMix64, and what we need on top of it: std:: distributions differ by library.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t Next() {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  double Uniform() { return static_cast<double>(Next() >> 11) * 0x1p-53; }
  // Sum of 12 uniforms: variance 1.
  double Normal() {
    double sum = -6;
    for (int i = 0; i < 12; ++i) sum += Uniform();
    return sum;
  }
  double LogNormal() { return std::exp(Normal()); }

 private:
  uint64_t state_;
};

class InstanceMaker {
 public:
  // A tensor of 20 choices: {2, 3, 4, 5, 6, 8} bits in groups of 32, 64, 128, a format of 4.5 bits
  // without groups to choose, and 16 bits at no cost. Errors fall by 4.3 per bit and rise by 12 to
  // 35 % per doubling of the group, as they do between Gaussian and heavy-tailed weights.
  void Add(uint64_t num_weights, double sensitivity) {
    const double per_doubling = 1.12 + 0.23 * random_.Uniform();
    const double scale = sensitivity * std::exp(0.05 * random_.Normal()) * 2.5 / kCostUnit;
    Item item;
    int choice = 0;
    for (const int bits : {2, 3, 4, 5, 6, 8}) {
      for (const int doublings : {0, 1, 2}) {
        const double error = std::pow(4.3, -bits) * std::pow(per_doubling, doublings);
        const uint64_t group = uint64_t{32} << doublings;
        item.options.push_back(
            {num_weights * static_cast<uint64_t>(bits) / 8 + num_weights / group * 4,
             static_cast<Cost>(scale * error), choice++});
      }
    }
    item.options.push_back(
        {num_weights / 2 + num_weights / 16, static_cast<Cost>(scale * 0.0046), choice++});
    item.options.push_back({num_weights * 2, 0, choice++});
    items_.push_back(std::move(item));
  }

  Random& random() { return random_; }
  std::vector<Item> Take() { return std::move(items_); }

 private:
  Random random_{1};
  std::vector<Item> items_;
};

enum Instance { kStacked, kDense, kSingle, kEqual, kSizes, kRagged };

// Qwen3-30B-A3B: 48 layers of q k v o and 128 experts x 3, as 3 stacks or apart; embedding, head.
void AddMixtureOfExperts(InstanceMaker& maker, bool stacked) {
  for (int layer = 0; layer < 48; ++layer) {
    for (const uint64_t rows : {4096u, 512u, 512u, 4096u}) {
      maker.Add(rows * 2048, maker.random().LogNormal());
    }
    for (int expert = 0; expert < (stacked ? 3 : 3 * 128); ++expert) {
      maker.Add((stacked ? 128u : 1u) * uint64_t{768} * 2048,
                (stacked ? 3 : 0.02) * maker.random().LogNormal());
    }
  }
  for (int i = 0; i < 2; ++i) maker.Add(uint64_t{151936} * 2048, 1);
}

// Qwen3-8B: 36 layers of q k v o, gate, up and down; embedding, head.
void AddDense(InstanceMaker& maker) {
  for (int layer = 0; layer < 36; ++layer) {
    for (const uint64_t rows : {4096u, 1024u, 1024u, 4096u, 12288u, 12288u, 12288u}) {
      maker.Add(rows * 4096, maker.random().LogNormal());
    }
  }
  for (int i = 0; i < 2; ++i) maker.Add(uint64_t{151936} * 4096, 1);
}

std::vector<Item> MakeInstance(Instance instance) {
  InstanceMaker maker;
  switch (instance) {
    case kStacked:
      AddMixtureOfExperts(maker, /*stacked=*/true);
      break;
    case kSingle:
      AddMixtureOfExperts(maker, /*stacked=*/false);
      break;
    case kDense:
      AddDense(maker);
      break;
    default: {
      constexpr uint64_t kSizesOfModels[] = {2048 * 768,  2048 * 4096, 2048 * 512,   2048 * 2048,
                                             5120 * 1536, 4096 * 4096, 14336 * 4096, 4096 * 1024};
      for (int i = 0; i < 20000; ++i) {
        const uint64_t draw = maker.random().Next();
        const uint64_t size = instance == kEqual   ? 2048 * 768
                              : instance == kSizes ? kSizesOfModels[draw % 8]
                                                   : 500'000 + draw % 60'000'000;
        maker.Add(size, maker.random().LogNormal());
      }
    }
  }
  return maker.Take();
}

constexpr const char* kNames[] = {"stacked experts", "dense",           "single experts",
                                  "one size",        "a model's sizes", "any size"};

// Nothing of the solver is trusted: the plan is summed again and so is the dual bound.
bool IsRight(const std::vector<Item>& items, uint64_t budget, const Solution& s) {
  uint64_t bytes = 0;
  WideInt cost = 0, dual = -WideInt{s.lambda.num} * budget;
  for (size_t i = 0; i < items.size(); ++i) {
    WideInt least = WideInt{1} << 126;
    for (const Option& option : items[i].options) {
      least = std::min(least,
                       WideInt{s.lambda.den} * option.cost + WideInt{s.lambda.num} * option.bytes);
      if (option.choice != s.choices[i]) continue;
      bytes += option.bytes;
      cost += option.cost;
    }
    dual += least;
  }
  // The bound is the dual divided by den, rounded up.
  const WideInt rounding = WideInt{s.lambda.den} * s.lower_bound - dual;
  return bytes == s.bytes && bytes <= budget && cost == s.cost && s.lower_bound <= cost &&
         rounding >= 0 && rounding < s.lambda.den && s.proven_by_search;
}

double ThreadMilliseconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) * 1e-6;
}

void BM_BuildCurve(benchmark::State& state) {
  const auto instance = static_cast<Instance>(state.range(0));
  const std::vector<Item> items = MakeInstance(instance);
  size_t num_increments = 0;
  for (auto _ : state) {
    const Result<Curve> curve = BuildCurve(items);
    if (!curve.ok()) return state.SkipWithError(curve.error().message.c_str());
    num_increments = curve->increments.size();
    benchmark::DoNotOptimize(num_increments);
  }
  state.counters["increments"] = static_cast<double>(num_increments);
  state.SetLabel(std::to_string(items.size()) + " items, " + kNames[instance]);
}

void BM_Solve(benchmark::State& state, double relative_gap) {
  const auto instance = static_cast<Instance>(state.range(0));
  const std::vector<Item> items = MakeInstance(instance);
  const Result<Curve> curve = BuildCurve(items);
  if (!curve.ok()) return state.SkipWithError(curve.error().message.c_str());
  const uint64_t lightest = curve->bytes.front(), heaviest = curve->bytes.back();
  const SolveOptions options{.relative_gap = relative_gap};
  const auto budget_at = [&](uint64_t q) {
    return lightest + (heaviest - lightest) / (kNumBudgets + 1) * (q + 1);
  };

  size_t most_states = 0;
  double worst_gap = 0;
  for (uint64_t q = 0; q < kNumBudgets; ++q) {
    const Result<Solution> s = Solve(items, *curve, budget_at(q), options);
    if (!s.ok()) return state.SkipWithError(s.error().message.c_str());
    if (!IsRight(items, budget_at(q), *s)) return state.SkipWithError("wrong answer");
    most_states = std::max(most_states, s->states);
    worst_gap = std::max(
        worst_gap, static_cast<double>(s->cost - s->lower_bound) / static_cast<double>(s->cost));
  }

  std::vector<double> best(kNumBudgets, 1e300);
  for (auto _ : state) {
    for (uint64_t q = 0; q < kNumBudgets; ++q) {
      const double start = ThreadMilliseconds();
      benchmark::DoNotOptimize(Solve(items, *curve, budget_at(q), options));
      best[q] = std::min(best[q], ThreadMilliseconds() - start);
    }
  }
  std::sort(best.begin(), best.end());
  state.counters["worst_ms"] = best.back();
  state.counters["median_ms"] = best[kNumBudgets / 2];
  state.counters["most_states"] = static_cast<double>(most_states);
  state.counters["worst_certified_gap"] = worst_gap;
  state.SetLabel(std::to_string(items.size()) + " items, " + kNames[instance]);
}

BENCHMARK(BM_BuildCurve)->DenseRange(kStacked, kRagged)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(BM_Solve, proven_optimal, 0.0)
    ->DenseRange(kStacked, kRagged)
    ->Iterations(3)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(BM_Solve, within_1e_6, 1e-6)
    ->DenseRange(kSingle, kRagged)
    ->Iterations(3)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace ram

BENCHMARK_MAIN();
