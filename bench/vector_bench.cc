// The vector steps of the CPU engine on one core, at every level the CPU has. Answers are checked
// before the clock starts.
//
// Gelements/s: inputs of one operand; of_bandwidth (steps that memory bounds): bytes read and
// written, as a share of what one core reads from memory; delta net (convolution, gates
// and norms included): ns per token and value head; of_peak: the three multiply-adds per element of
// the state that any order needs, as a share of the peak of the fused multiply-adds.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "bench/machine_limits.h"
#include "ram/runtime/elementwise.h"
#include "ram/runtime/isa.h"
#include "ram/runtime/ops_reference.h"

namespace ram {
namespace {

constexpr size_t kCols = 2816;
constexpr size_t kRows = 64;  // 720 KB: in the second-level cache.

std::vector<float> Random(size_t n, uint32_t seed, float scale = 1) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(n);
  for (float& value : values) value = normal(engine);
  return values;
}

bool Near(const float* got, const float* want, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    if (!(std::fabs(got[i] - want[i]) <= 2e-5f * (1 + std::fabs(want[i])))) return false;
  }
  return true;
}

struct Operands {
  std::vector<float> x = Random(kRows * kCols, 1, 4), y = Random(kRows * kCols, 2);
  std::vector<float> weight = Random(kCols, 3), out = std::vector<float>(kRows * kCols);
};

// A step of one row, and what it means.
struct Step {
  const char* name;
  double floats;  // Read and written per element, for the bandwidth; 0: not bound by it.
  void (*run)(const Elementwise& kernels, Operands& o, size_t row);
  void (*reference)(Operands& o, size_t row);
};

float* Row(std::vector<float>& rows, size_t row) { return rows.data() + row * kCols; }

template <Activation kActivation>
void Glu(const Elementwise& kernels, Operands& o, size_t row) {
  kernels.Glu(Row(o.x, row), Row(o.y, row), kCols, {.activation = kActivation}, Row(o.out, row));
}
template <Activation kActivation>
void GluMeaning(Operands& o, size_t row) {
  for (size_t i = row * kCols; i < (row + 1) * kCols; ++i) {
    o.out[i] = GluReference(o.x[i], o.y[i], {.activation = kActivation});
  }
}

void Reduce(const Elementwise& kernels, Operands& o, size_t row) {
  const LogitBlock block = kernels.ReduceLogits(Row(o.x, row), kCols, 0);
  Row(o.out, row)[0] = block.max + std::log(block.sum);
  Row(o.out, row)[1] = static_cast<float>(block.argmax);
}
void ReduceMeaning(Operands& o, size_t row) {
  const HeadResult result = ReduceLogitsReference({Row(o.x, row), kCols}, -1);
  Row(o.out, row)[0] = result.logsumexp;
  Row(o.out, row)[1] = static_cast<float>(result.argmax);
}

HeadSpec Heads() {
  static const std::vector<float> kFreq = [] {
    std::vector<float> values(64);
    for (size_t i = 0; i < 64; ++i) values[i] = std::pow(1e6f, -static_cast<float>(i) / 64);
    return values;
  }();
  static const std::vector<float> kWeight(128, 1.25f);
  HeadSpec spec = {.heads = kCols / 128, .head_dim = 128, .norm = HeadSpec::Norm::kPerHead};
  spec.norm_weight = kWeight;
  spec.norm_eps = 1e-6f;
  spec.inv_freq = kFreq;
  return spec;
}

const Step kSteps[] = {
    {"glu silu", 0, Glu<Activation::kSilu>, GluMeaning<Activation::kSilu>},
    {"glu gelu_tanh", 0, Glu<Activation::kGeluTanh>, GluMeaning<Activation::kGeluTanh>},
    {"glu clipped", 0, Glu<Activation::kClippedSwiglu>, GluMeaning<Activation::kClippedSwiglu>},
    {"reduce logits", 0, Reduce, ReduceMeaning},
    {"rms norm", 2,
     [](const Elementwise& k, Operands& o, size_t row) {
       k.RmsNorm(Row(o.x, row), o.weight.data(), kCols, 1e-6f, Row(o.out, row));
     },
     [](Operands& o, size_t row) {
       RmsNormReference(Row(o.x, row), o.weight.data(), kCols, 1e-6f, Row(o.out, row));
     }},
    {"scale, add", 3,
     [](const Elementwise& k, Operands& o, size_t row) {
       std::copy_n(Row(o.x, row), kCols, Row(o.out, row));
       k.AddScaled(Row(o.y, row), 0.5f, kCols, Row(o.out, row));
     },
     [](Operands& o, size_t row) {
       for (size_t i = row * kCols; i < (row + 1) * kCols; ++i) o.out[i] = o.x[i] + 0.5f * o.y[i];
     }},
    {"norm and rotate heads", 0,
     [](const Elementwise& k, Operands& o, size_t row) {
       std::copy_n(Row(o.x, row), kCols, Row(o.out, row));
       k.PrepareHeads(Row(o.out, row), row + 1000, Heads());
     },
     [](Operands& o, size_t row) {
       std::copy_n(Row(o.x, row), kCols, Row(o.out, row));
       PrepareHeadsReference(Row(o.out, row), row + 1000, Heads());
     }},
};

void RunStep(benchmark::State& state, const std::string& level, const Step& step) {
  const std::unique_ptr<Elementwise> kernels = MakeElementwise(level);
  Operands got, want;
  const auto run = [&] {
    for (size_t row = 0; row < kRows; ++row) step.run(*kernels, got, row);
  };
  run();
  for (size_t row = 0; row < kRows; ++row) step.reference(want, row);
  if (!Near(got.out.data(), want.out.data(), want.out.size())) {
    state.SkipWithError("differs from the reference");
    return;
  }
  double best = 1e30;
  for (auto _ : state) {
    const double seconds = BestSeconds(1, run);
    state.SetIterationTime(seconds);
    best = std::min(best, seconds);
  }
  const double elements = static_cast<double>(kRows * kCols);
  state.counters["Gelements/s"] = 1e-9 * elements / best;
  if (step.floats > 0) {
    state.counters["of_bandwidth"] = 4 * step.floats * elements / best / ReadBandwidth();
  }
}

void Route(benchmark::State& state, const std::string& level) {
  constexpr size_t kTokens = 256, kExperts = 128, kTopK = 8;
  const std::unique_ptr<Elementwise> kernels = MakeElementwise(level);
  const std::vector<float> logits = Random(kTokens * kExperts, 5);
  const RouterSpec spec = {.kind = RouterSpec::Kind::kSoftmax, .experts = kExperts, .top_k = kTopK};
  uint32_t expert[kTopK], want_expert[kTopK];
  float weight[kTopK], want_weight[kTopK];
  for (size_t t = 0; t < kTokens; ++t) {
    kernels->Route(&logits[t * kExperts], spec, expert, weight);
    RouteReference(&logits[t * kExperts], spec, want_expert, want_weight);
    if (!std::equal(expert, expert + kTopK, want_expert) || !Near(weight, want_weight, kTopK)) {
      state.SkipWithError("differs from the reference");
      return;
    }
  }
  double best = 1e30;
  for (auto _ : state) {
    const double seconds = BestSeconds(1, [&] {
      for (size_t t = 0; t < kTokens; ++t) {
        kernels->Route(&logits[t * kExperts], spec, expert, weight);
        benchmark::DoNotOptimize(expert);
      }
    });
    state.SetIterationTime(seconds);
    best = std::min(best, seconds);
  }
  state.counters["ns/token"] = 1e9 * best / kTokens;
}

// A layer of Qwen3.5-35B-A3B, a quarter of its heads.
class DeltaLayer {
 public:
  explicit DeltaLayer(uint64_t num_tokens)
      : tokens_(num_tokens),
        conv_(Random(kChannels * 4, 1, 0.5f)),
        a_log_(Random(kValueHeads, 2)),
        dt_bias_(Random(kValueHeads, 3)),
        norm_(Random(kDim, 4)),
        qkv_(Random(num_tokens * kChannels, 5)),
        z_(Random(num_tokens * kValues, 6)),
        b_(Random(num_tokens * kValueHeads, 7)),
        a_(Random(num_tokens * kValueHeads, 8)) {
    spec_.key_heads = kKeyHeads;
    spec_.value_heads = kValueHeads;
    spec_.key_dim = spec_.value_dim = kDim;
    spec_.conv = conv_;
    spec_.a_log = a_log_;
    spec_.dt_bias = dt_bias_;
    spec_.norm_weight = norm_;
    Clear();
  }

  void Clear() {
    past_.assign(3 * kChannels, 0.0f);
    state_.assign(kValues * kDim, 0.0f);
    out_.assign(tokens_ * kValues, 0.0f);
  }

  template <class Function>
  void Run(const Function& f) {
    const DeltaInput input = {{0, tokens_, 0}, {past_.data(), state_.data()}};
    const auto view = [&](std::vector<float>& values, uint64_t cols) {
      return Rows{values.data(), tokens_, cols, cols};
    };
    f(view(qkv_, kChannels), view(z_, kValues), view(b_, kValueHeads), view(a_, kValueHeads),
      std::span(&input, 1), spec_, view(out_, kValues));
  }

  const std::vector<float>& out() const { return out_; }
  uint64_t heads() const { return kValueHeads; }
  double Operations() const { return 2.0 * 3 * static_cast<double>(tokens_ * kValues * kDim); }

 private:
  static constexpr uint64_t kKeyHeads = 4, kValueHeads = 8, kDim = 128;
  static constexpr uint64_t kValues = kValueHeads * kDim;
  static constexpr uint64_t kChannels = 2 * kKeyHeads * kDim + kValues;
  uint64_t tokens_;
  DeltaSpec spec_;
  std::vector<float> conv_, a_log_, dt_bias_, norm_, qkv_, z_, b_, a_, past_, state_, out_;
};

void Delta(benchmark::State& state, const std::string& level, uint64_t tokens) {
  const std::unique_ptr<DeltaNet> delta = MakeDeltaNet(level);
  ThreadPool pool(1);
  DeltaLayer layer(tokens), want(tokens);
  const auto run = [&] {
    layer.Run([&](Rows qkv, Rows z, Rows b, Rows a, std::span<const DeltaInput> inputs,
                  const DeltaSpec& spec,
                  Rows out) { delta->Run(qkv, z, b, a, inputs, spec, out, pool); });
  };
  run();
  want.Run(DeltaReference);
  if (!Near(layer.out().data(), want.out().data(), want.out().size())) {
    state.SkipWithError("differs from the reference");
    return;
  }
  double best = 1e30;
  for (auto _ : state) {
    const double seconds = BestSeconds(1, run);
    state.SetIterationTime(seconds);
    best = std::min(best, seconds);
  }
  state.counters["ns/token/head"] =
      1e9 * best / static_cast<double>(tokens) / static_cast<double>(layer.heads());
  state.counters["of_peak"] = layer.Operations() / best / FusedFloatOperations();
}

template <class Function>
void Register(const std::string& name, const Function& function) {
  benchmark::RegisterBenchmark(name.c_str(), function)->UseManualTime();
}

}  // namespace
}  // namespace ram

int main(int argc, char** argv) {
  using ram::Register;
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  for (const std::string& level : ram::SimdLevels()) {
    for (const ram::Step& step : ram::kSteps) {
      Register(level + " " + step.name,
               [level, &step](benchmark::State& state) { ram::RunStep(state, level, step); });
    }
    Register(level + " route 8 of 128",
             [level](benchmark::State& state) { ram::Route(state, level); });
    for (const uint64_t tokens : {2048U, 16U, 1U}) {
      Register(level + " delta net, tokens " + std::to_string(tokens),
               [level, tokens](benchmark::State& state) { ram::Delta(state, level, tokens); });
    }
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
