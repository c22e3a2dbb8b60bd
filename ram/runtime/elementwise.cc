#include "ram/runtime/elementwise.h"

#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "ram/base/result.h"
#include "ram/quant/simd_targets.h"
#include "ram/runtime/isa.h"
#include "ram/runtime/router.h"

// Compiles the rest of this file once per instruction set.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ram/runtime/elementwise.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "hwy/highway.h"
#include "ram/runtime/simd_dispatch.h"
#include "ram/runtime/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ram {
namespace HWY_NAMESPACE {
namespace {

constexpr size_t kN = kVectorLanes;

// out[i] = op(a[i]).
template <class Op>
HWY_INLINE void Map(const float* a, size_t n, float* out, const Op& op) {
  const F f;
  size_t i = 0;
  for (; i + kN <= n; i += kN) hn::StoreU(op(hn::LoadU(f, a + i)), f, out + i);
  if (i < n) StorePart(op(LoadPart(f, a + i, n - i)), f, n - i, out + i);
}

// out[i] = op(a[i], b[i]). out may be a or b.
template <class Op>
HWY_INLINE void Map(const float* a, const float* b, size_t n, float* out, const Op& op) {
  const F f;
  size_t i = 0;
  for (; i + kN <= n; i += kN) {
    hn::StoreU(op(hn::LoadU(f, a + i), hn::LoadU(f, b + i)), f, out + i);
  }
  if (i < n) {
    StorePart(op(LoadPart(f, a + i, n - i), LoadPart(f, b + i, n - i)), f, n - i, out + i);
  }
}

// Sum of op(x[i]) in 32 logical lanes and a fixed tree: the same on every target. `fill` is an x
// for which op is 0.
template <class Op>
HWY_INLINE float Sum(const float* x, size_t n, float fill, const Op& op) {
  const F f;
  constexpr size_t kLanes = 32;
  constexpr size_t kParts = kLanes / kN;
  FV sums[kParts];
  for (size_t p = 0; p < kParts; ++p) sums[p] = hn::Zero(f);
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (size_t p = 0; p < kParts; ++p) {
      sums[p] = hn::Add(sums[p], op(hn::LoadU(f, x + i + p * kN)));
    }
  }
  for (size_t p = 0; i < n; ++p, i += kN) {
    const FV v = i + kN <= n ? hn::LoadU(f, x + i) : LoadPart(f, x + i, n - i, fill);
    sums[p] = hn::Add(sums[p], op(v));
  }
  HWY_ALIGN float lanes[kLanes];
  for (size_t p = 0; p < kParts; ++p) hn::Store(sums[p], f, lanes + p * kN);
  for (size_t half = kLanes / 2; half > 0; half /= 2) {
    for (size_t j = 0; j < half; ++j) lanes[j] += lanes[j + half];
  }
  return lanes[0];
}

// Largest of x [n], NaNs aside; minus infinity if there is none.
HWY_INLINE float Largest(const float* x, size_t n) {
  const F f;
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  FV a = hn::Set(f, kLowest), b = a;
  size_t i = 0;
  // The running maximum comes second: x86 keeps it where the other is NaN.
  for (; i + 2 * kN <= n; i += 2 * kN) {
    a = hn::Max(hn::LoadU(f, x + i), a);
    b = hn::Max(hn::LoadU(f, x + i + kN), b);
  }
  for (; i < n; i += kN) {
    a = hn::Max(i + kN <= n ? hn::LoadU(f, x + i) : LoadPart(f, x + i, n - i, kLowest), a);
  }
  return hn::GetLane(hn::MaxOfLanes(f, hn::Max(b, a)));
}

// Index of the first element of x [n] that equals `value`; 0 if there is none.
HWY_INLINE uint32_t Find(const float* x, size_t n, float value) {
  const F f;
  size_t i = 0;
  while (i + kN <= n && hn::AllFalse(f, hn::Eq(hn::LoadU(f, x + i), hn::Set(f, value)))) i += kN;
  while (i < n && x[i] != value) ++i;
  return i < n ? static_cast<uint32_t>(i) : 0;
}

HWY_INLINE float RmsFactor(const float* x, size_t n, float eps) {
  const float sum = Sum(x, n, 0, [](FV v) HWY_ATTR { return hn::Mul(v, v); });
  return 1.0f / std::sqrt(sum / static_cast<float>(n) + eps);
}

HWY_INLINE void ScaleRow(float scale, size_t n, float* x) {
  const FV s = hn::Set(F(), scale);
  Map(x, n, x, [s](FV v) HWY_ATTR { return hn::Mul(v, s); });
}

HWY_INLINE void NormRow(const float* x, const float* weight, size_t n, float eps, float* out) {
  const FV factor = hn::Set(F(), RmsFactor(x, n, eps));
  Map(x, weight, n, out, [factor](FV v, FV w) HWY_ATTR { return hn::Mul(hn::Mul(v, factor), w); });
}

// ---------------------------------------------------------------------------------------------
// Rotation.

constexpr size_t kMaxPairs = 1024;

struct Angles {
  HWY_ALIGN float cosine[kMaxPairs];
  HWY_ALIGN float sine[kMaxPairs];
};

// Angle i: position * inv_freq[i], rounded to f32 as transformers does.
void FindAngles(uint64_t position, const HeadSpec& spec, Angles& angles) {
  const hn::CappedTag<double, 8> d;
  const hn::Rebind<float, decltype(d)> f;
  constexpr size_t kStep = hn::MaxLanes(f);
  const auto p = hn::Set(f, static_cast<float>(position));
  const auto scale = hn::Set(f, spec.rope_scale);
  const size_t n = spec.inv_freq.size();
  for (size_t i = 0; i < n; i += kStep) {  // Writes whole vectors: kMaxPairs is a multiple.
    const float* from = spec.inv_freq.data() + i;
    const auto freq = i + kStep <= n ? hn::LoadU(f, from) : LoadPart(f, from, n - i);
    auto sine = hn::Zero(f), cosine = sine;
    SinCos(d, hn::Mul(p, freq), sine, cosine);
    hn::Store(hn::Mul(sine, scale), f, angles.sine + i);
    hn::Store(hn::Mul(cosine, scale), f, angles.cosine + i);
  }
}

struct Pair {
  FV first, second;
};

HWY_INLINE Pair RotatePair(Pair x, FV c, FV s) {
  return {hn::Sub(hn::Mul(x.first, c), hn::Mul(x.second, s)),
          hn::Add(hn::Mul(x.second, c), hn::Mul(x.first, s))};
}

HWY_INLINE void RotateScalar(float c, float s, float& first, float& second) {
  const float a = first, b = second;
  first = a * c - b * s;
  second = b * c + a * s;
}

// Pairs (i, i + n) of x [2 * n].
HWY_INLINE void RotateHalves(const Angles& angles, size_t n, float* x) {
  const F f;
  size_t i = 0;
  for (; i + kN <= n; i += kN) {
    const Pair pair = {hn::LoadU(f, x + i), hn::LoadU(f, x + n + i)};
    const Pair y = RotatePair(pair, hn::Load(f, angles.cosine + i), hn::Load(f, angles.sine + i));
    hn::StoreU(y.first, f, x + i);
    hn::StoreU(y.second, f, x + n + i);
  }
  for (; i < n; ++i) RotateScalar(angles.cosine[i], angles.sine[i], x[i], x[n + i]);
}

// Pairs (2 * i, 2 * i + 1) of x [2 * n].
HWY_INLINE void RotateInterleaved(const Angles& angles, size_t n, float* x) {
  const F f;
  size_t i = 0;
  for (; i + kN <= n; i += kN) {
    Pair pair = {hn::Zero(f), hn::Zero(f)};
    hn::LoadInterleaved2(f, x + 2 * i, pair.first, pair.second);
    const Pair y = RotatePair(pair, hn::Load(f, angles.cosine + i), hn::Load(f, angles.sine + i));
    hn::StoreInterleaved2(y.first, y.second, f, x + 2 * i);
  }
  for (; i < n; ++i) RotateScalar(angles.cosine[i], angles.sine[i], x[2 * i], x[2 * i + 1]);
}

// llama4: grows with the logarithm of the position.
float TemperatureAt(uint64_t position, const HeadSpec& spec) {
  const double steps =
      std::floor(static_cast<double>(position + 1) / static_cast<double>(spec.floor_scale));
  return static_cast<float>(1 + static_cast<double>(spec.temperature) * std::log1p(steps));
}

// ---------------------------------------------------------------------------------------------

class VectorElementwise final : public Elementwise {
 public:
  explicit VectorElementwise(std::string name) : name_(std::move(name)) {}

  std::string name() const override { return name_; }

  void RmsNorm(const float* x, const float* weight, uint64_t n, float eps,
               float* out) const override {
    NormRow(x, weight, n, eps, out);
  }

  void PrepareHeads(float* row, uint64_t position, const HeadSpec& spec) const override {
    using Norm = HeadSpec::Norm;
    const size_t dim = spec.head_dim;
    const size_t pairs = spec.inv_freq.size();
    RAM_CHECK(pairs <= kMaxPairs && spec.rope_first + 2 * pairs <= dim);
    Angles angles;
    FindAngles(position, spec, angles);
    const float* weight = spec.norm_weight.data();
    if (spec.norm == Norm::kWholeRow) NormRow(row, weight, spec.heads * dim, spec.norm_eps, row);
    for (size_t h = 0; h < spec.heads; ++h) {
      float* head = row + h * dim;
      if (spec.norm == Norm::kPerHead) NormRow(head, weight, dim, spec.norm_eps, head);
      float* rotated = head + spec.rope_first;
      if (spec.interleaved) {
        RotateInterleaved(angles, pairs, rotated);
      } else {
        RotateHalves(angles, pairs, rotated);
      }
      if (spec.norm == Norm::kAfter) ScaleRow(RmsFactor(head, dim, spec.norm_eps), dim, head);
    }
    if (spec.temperature != 0) ScaleRow(TemperatureAt(position, spec), spec.heads * dim, row);
  }

  void Glu(const float* gate, const float* up, uint64_t n, const GluSpec& spec,
           float* out) const override {
    const F f;
    switch (spec.activation) {
      case Activation::kSilu:
        return Map(gate, up, n, out, [f](FV g, FV u) HWY_ATTR { return hn::Mul(Silu(f, g), u); });
      case Activation::kGeluTanh:
        return Map(gate, up, n, out, [f](FV g, FV u) HWY_ATTR {
          // (1 + tanh(t)) / 2 = sigmoid(2 * t).
          const FV cubic = hn::Mul(hn::Mul(g, g), hn::Set(f, 0.044715f));
          const FV t = hn::Mul(hn::Set(f, 1.5957691216f), hn::Add(g, hn::Mul(g, cubic)));
          return hn::Mul(hn::Mul(g, ram::HWY_NAMESPACE::Sigmoid(f, t)), u);
        });
      case Activation::kClippedSwiglu:
        return Map(gate, up, n, out, [f, &spec](FV g, FV u) HWY_ATTR {
          g = AtMost(f, spec.limit, g);
          u = AtLeast(f, -spec.limit, AtMost(f, spec.limit, u));
          const FV s = ram::HWY_NAMESPACE::Sigmoid(f, hn::Mul(hn::Set(f, spec.alpha), g));
          return hn::Mul(hn::Mul(g, s), hn::Add(u, hn::Set(f, 1.0f)));
        });
    }
  }

  void Add(const float* y, uint64_t n, float* x) const override {
    Map(y, x, n, x, [](FV a, FV b) HWY_ATTR { return hn::Add(b, a); });
  }

  void AddScaled(const float* y, float scale, uint64_t n, float* x) const override {
    const FV s = hn::Set(F(), scale);
    Map(y, x, n, x, [s](FV a, FV b) HWY_ATTR { return hn::Add(b, hn::Mul(s, a)); });
  }

  void Scale(float scale, uint64_t n, float* x) const override { ScaleRow(scale, n, x); }

  void Gate(const float* gate, uint64_t n, float* x) const override {
    const F f;
    Map(gate, x, n, x,
        [f](FV g, FV v) HWY_ATTR { return hn::Mul(v, ram::HWY_NAMESPACE::Sigmoid(f, g)); });
  }

  void Route(const float* logits, const RouterSpec& spec, uint32_t* expert,
             float* weight) const override {
    using Kind = RouterSpec::Kind;
    const F f;
    std::vector<float> scores(spec.experts);
    if (spec.kind == Kind::kSigmoid || spec.kind == Kind::kSigmoidInput) {
      Map(logits, spec.experts, scores.data(),
          [f](FV v) HWY_ATTR { return ram::HWY_NAMESPACE::Sigmoid(f, v); });
    } else {
      const FV max = hn::Set(f, Largest(logits, spec.experts));
      Map(logits, spec.experts, scores.data(),
          [f, max](FV v) HWY_ATTR { return Exp(f, hn::Sub(v, max)); });
    }
    ChooseExperts(logits, scores.data(), spec, expert, weight);
  }

  LogitBlock ReduceLogits(float* logits, uint64_t n, float softcap) const override {
    const F f;
    if (softcap > 0) {
      const FV cap = hn::Set(f, softcap);
      const FV inverse = hn::Set(f, 1.0f / softcap);
      Map(logits, n, logits,
          [&](FV v) HWY_ATTR { return hn::Mul(cap, Tanh(f, hn::Mul(v, inverse))); });
    }
    LogitBlock block;
    block.max = Largest(logits, n);
    block.argmax = Find(logits, n, block.max);
    const FV max = hn::Set(f, block.max);
    block.sum = Sum(logits, n, -std::numeric_limits<float>::infinity(),
                    [&](FV v) HWY_ATTR { return Exp(f, hn::Sub(v, max)); });
    return block;
  }

 private:
  std::string name_;
};

std::unique_ptr<Elementwise> MakeVectorElementwise(std::string name) {
  return std::make_unique<VectorElementwise>(std::move(name));
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ram
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ram {

HWY_EXPORT(MakeVectorElementwise);

std::unique_ptr<Elementwise> MakeElementwise(const std::string& isa) {
  const std::string level = SimdLevelOf(isa);
  return RAM_SIMD_DISPATCH(MakeVectorElementwise, SimdTargets(level))(level);
}

}  // namespace ram
#endif  // HWY_ONCE
