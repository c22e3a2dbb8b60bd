#include "ram/runtime/delta_kernels.h"

#include "ram/quant/simd_targets.h"
#include "ram/runtime/isa.h"

// Compiles the rest of this file once per instruction set.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ram/runtime/delta_kernels.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "hwy/highway.h"
#include "ram/runtime/simd_dispatch.h"
#include "ram/runtime/transpose-inl.h"
#include "ram/runtime/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ram {
namespace HWY_NAMESPACE {
namespace {

constexpr size_t kN = kVectorLanes;
// Vectors of a slab: two sums and an update for each are kept in registers.
#if HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM_A64
constexpr size_t kVectors = 4;
#else
constexpr size_t kVectors = kN == 1 ? 4 : 2;
#endif
constexpr size_t kSlab = kVectors * kN;

void Convolve(const float* const* rows, const float* HWY_RESTRICT weights, size_t taps, size_t n,
              float* HWY_RESTRICT out) {
  const F f;
  size_t c = 0;
  for (; c + kN <= n; c += kN) {
    FV sum = hn::Zero(f);
    for (size_t tap = 0; tap < taps; ++tap) {
      sum = hn::MulAdd(hn::LoadU(f, rows[tap] + c), hn::LoadU(f, weights + tap * n + c), sum);
    }
    hn::StoreU(Silu(f, sum), f, out + c);
  }
  if (c == n) return;
  FV sum = hn::Zero(f);
  for (size_t tap = 0; tap < taps; ++tap) {
    sum = hn::MulAdd(LoadPart(f, rows[tap] + c, n - c), LoadPart(f, weights + tap * n + c, n - c),
                     sum);
  }
  StorePart(Silu(f, sum), f, n - c, out + c);
}

float Dot(const float* HWY_RESTRICT a, const float* HWY_RESTRICT b, size_t n) {
  const F f;
  FV sum = hn::Zero(f);
  size_t i = 0;
  for (; i + kN <= n; i += kN) sum = hn::MulAdd(hn::LoadU(f, a + i), hn::LoadU(f, b + i), sum);
  if (i < n) sum = hn::MulAdd(LoadPart(f, a + i, n - i), LoadPart(f, b + i, n - i), sum);
  return hn::GetLane(hn::SumOfLanes(f, sum));
}

// One pass over the state per token: what the token before adds to it is added while it is read.
//   S = decay * S' + k' * d'          of the token before
//   d = beta * (v - decay * S k)      y = decay * S q + (k * q) * d
void Recur(const DeltaSlab& slab) {
  const F f;
  const size_t dim = slab.key_dim;
  FV change[kVectors];
  for (size_t j = 0; j < kVectors; ++j) change[j] = hn::Zero(f);
  FV decay = hn::Set(f, 1.0f);
  const float* HWY_RESTRICT k_before = slab.k;
  float* HWY_RESTRICT state = slab.state;
  for (size_t t = 0; t < slab.tokens; ++t) {
    const float* HWY_RESTRICT k = slab.k + t * dim;
    const float* HWY_RESTRICT q = slab.q + t * dim;
    FV sum_k[kVectors], sum_q[kVectors];
    for (size_t j = 0; j < kVectors; ++j) sum_k[j] = sum_q[j] = hn::Zero(f);
    for (size_t i = 0; i < dim; ++i) {
      const FV before = hn::Set(f, k_before[i]), key = hn::Set(f, k[i]), query = hn::Set(f, q[i]);
#pragma GCC unroll 4
      for (size_t j = 0; j < kVectors; ++j) {
        float* at = state + i * kSlab + j * kN;
        const FV s = hn::MulAdd(before, change[j], hn::Mul(hn::Load(f, at), decay));
        hn::Store(s, f, at);
        sum_k[j] = hn::MulAdd(s, key, sum_k[j]);
        sum_q[j] = hn::MulAdd(s, query, sum_q[j]);
      }
    }
    decay = hn::Set(f, slab.decay[t]);
    const FV beta = hn::Set(f, slab.beta[t]), kq = hn::Set(f, slab.kq[t]);
    for (size_t j = 0; j < kVectors; ++j) {
      const FV v = hn::Load(f, slab.v + t * slab.value_pitch + j * kN);
      change[j] = hn::Mul(beta, hn::NegMulAdd(decay, sum_k[j], v));
      hn::Store(hn::MulAdd(kq, change[j], hn::Mul(decay, sum_q[j])), f,
                slab.out + t * slab.value_pitch + j * kN);
    }
    k_before = k;
  }
  for (size_t i = 0; i < dim; ++i) {
    const FV before = hn::Set(f, k_before[i]);
    for (size_t j = 0; j < kVectors; ++j) {
      float* at = state + i * kSlab + j * kN;
      hn::Store(hn::MulAdd(before, change[j], hn::Mul(hn::Load(f, at), decay)), f, at);
    }
  }
}

void LoadState(const float* HWY_RESTRICT state, size_t num, size_t key_dim,
               float* HWY_RESTRICT slab) {
  size_t j = 0;
  for (; j + kN <= num; j += kN) {
    Transpose(state + j * key_dim, key_dim, key_dim, slab + j, kSlab);
  }
  for (; j < kSlab; ++j) {
    for (size_t i = 0; i < key_dim; ++i) {
      slab[i * kSlab + j] = j < num ? state[j * key_dim + i] : 0.0f;
    }
  }
}

void StoreState(const float* HWY_RESTRICT slab, size_t num, size_t key_dim,
                float* HWY_RESTRICT state) {
  size_t i = 0;
  for (; i + kN <= key_dim; i += kN) Transpose(slab + i * kSlab, kSlab, num, state + i, key_dim);
  for (; i < key_dim; ++i) {
    for (size_t j = 0; j < num; ++j) state[j * key_dim + i] = slab[i * kSlab + j];
  }
}

const DeltaKernels& GetDeltaKernels() {
  static constexpr DeltaKernels kKernels = {kSlab,  &Convolve,  &Dot,
                                            &Recur, &LoadState, &StoreState};
  return kKernels;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ram
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ram {

HWY_EXPORT(GetDeltaKernels);

const DeltaKernels& DeltaKernelsOf(std::string_view level) {
  return RAM_SIMD_DISPATCH(GetDeltaKernels, SimdTargets(level))();
}

}  // namespace ram
#endif  // HWY_ONCE
