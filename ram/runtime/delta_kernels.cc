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

// sum[r][j] += sum over i < n of x[r * row_pitch + i * pitch] * rows[i * rows_pitch + j * kN].
template <size_t kRows, size_t kCols>
HWY_INLINE void AddProducts(const float* HWY_RESTRICT x, size_t row_pitch, size_t pitch,
                            const float* HWY_RESTRICT rows, size_t rows_pitch, size_t n,
                            FV (&sum)[kRows][kCols]) {
  const F f;
  for (size_t i = 0; i < n; ++i) {
    FV row[kCols];
#pragma GCC unroll 4
    for (size_t j = 0; j < kCols; ++j) row[j] = hn::Load(f, rows + i * rows_pitch + j * kN);
#pragma GCC unroll 8
    for (size_t r = 0; r < kRows; ++r) {
      const FV factor = hn::Set(f, x[r * row_pitch + i * pitch]);
#pragma GCC unroll 4
      for (size_t j = 0; j < kCols; ++j) sum[r][j] = hn::MulAdd(factor, row[j], sum[r][j]);
    }
  }
}

void TurnKeys(const float* HWY_RESTRICT k, size_t tokens, size_t key_dim,
              float* HWY_RESTRICT keys) {
  for (size_t t = 0; t < tokens; t += kN) {
    Transpose(k + t * key_dim, key_dim, key_dim, keys + t, kDeltaChunk);
  }
}

void MultiplyKeys(const float* HWY_RESTRICT x, const float* HWY_RESTRICT keys, size_t tokens,
                  size_t key_dim, float* HWY_RESTRICT out) {
  constexpr size_t kCols = 2;
  static_assert(kDeltaChunk % (kCols * kN) == 0 && kDeltaChunk % kDeltaRows == 0);
  const F f;
  for (size_t t = 0; t < tokens; t += kDeltaRows) {
    for (size_t s = 0; s < t + kDeltaRows; s += kCols * kN) {
      FV sum[kDeltaRows][kCols];
      for (auto& row : sum) row[0] = row[1] = hn::Zero(f);
      AddProducts(x + t * key_dim, key_dim, 1, keys + s, kDeltaChunk, key_dim, sum);
      for (size_t r = 0; r < kDeltaRows; ++r) {
        for (size_t j = 0; j < kCols; ++j) {
          hn::Store(sum[r][j], f, out + (t + r) * kDeltaChunk + s + j * kN);
        }
      }
    }
  }
}

// What has decayed to less than e^-60 is gone: products with smaller numbers would be subnormal,
// which costs a hundred cycles each.
constexpr float kLeastLogDecay = -60.0f;

// exp(l[t] - l[s]) of kN tokens s; 1 where s > t. The differences are taken in f64: they keep their
// digits when the sums are large.
HWY_INLINE FV Decay(double to, const double* HWY_RESTRICT from) {
  const F f;
  HWY_ALIGN float difference[kN];
  for (size_t i = 0; i < kN; ++i) difference[i] = static_cast<float>(to - from[i]);
  const FV x = AtMost(f, 0.0f, hn::Load(f, difference));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(f, kLeastLogDecay)), Exp(f, x));
}

void Weigh(const DeltaWeights& w) {
  const F f;
  const size_t padded = (w.tokens + kDeltaRows - 1) / kDeltaRows * kDeltaRows;
  const double last = w.log_decay[w.tokens - 1];
  HWY_ALIGN double l[kDeltaChunk];
  for (size_t t = 0; t < kDeltaChunk; ++t) l[t] = t < w.tokens ? w.log_decay[t] : last;
  const double zero[kN] = {};
  for (size_t t = 0; t < padded; ++t) {
    const FV beta = hn::Set(f, t < w.tokens ? -w.beta[t] : 0.0f);
    for (size_t s = 0; s <= t; s += kN) {
      const size_t at = t * kDeltaChunk + s;
      const FV decay = Decay(l[t], l + s);
      hn::Store(hn::Mul(hn::Mul(beta, decay), hn::Load(f, w.key_products + at)), f, w.change + at);
      hn::Store(hn::Mul(decay, hn::Load(f, w.query_products + at)), f, w.result + at);
    }
    w.begin[t] = hn::GetLane(Decay(l[t], zero));
  }
  for (size_t t = 0; t < padded; t += kN) hn::Store(Decay(last, l + t), f, w.end + t);
}

// State rows [i, i + kRows): S = decay * S + sum over t of k[t][i] * changes[t].
template <size_t kRows>
HWY_INLINE void AddChanges(const DeltaChunk& c, FV decay, size_t i) {
  const F f;
  FV sum[kRows][kVectors];
  float* HWY_RESTRICT state = c.state + i * kSlab;
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (size_t j = 0; j < kVectors; ++j) {
      sum[r][j] = hn::Mul(decay, hn::Load(f, state + r * kSlab + j * kN));
    }
  }
  AddProducts(c.keys + i * kDeltaChunk, kDeltaChunk, 1, c.changes, kSlab, c.tokens, sum);
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (size_t j = 0; j < kVectors; ++j) hn::Store(sum[r][j], f, state + r * kSlab + j * kN);
  }
}

// The chunk's start is S0, its changes d. For each token in turn
//   d[t] = beta[t] (v[t] - begin[t] S0 k[t]) + sum over s < t of change[t][s] d[s]
//   y[t] = begin[t] S0 q[t] + sum over s <= t of result[t][s] d[s]
// and then S = begin[last] S0 + sum over t of k[t] * (end[t] d[t]).
void RunChunk(const DeltaChunk& c) {
  const F f;
  const size_t dim = c.key_dim;
  for (size_t t = 0; t < c.tokens; t += kDeltaRows) {
    FV sum[kDeltaRows][kVectors];
    const auto start = [&](const float* x) HWY_ATTR {
      for (auto& row : sum) {
        for (FV& column : row) column = hn::Zero(f);
      }
      AddProducts(x + t * dim, dim, 1, c.state, kSlab, dim, sum);
    };
    start(c.k);
#pragma GCC unroll 8
    for (size_t r = 0; r < kDeltaRows; ++r) {
      const FV begin = hn::Set(f, c.begin[t + r]), beta = hn::Set(f, c.beta[t + r]);
#pragma GCC unroll 4
      for (size_t j = 0; j < kVectors; ++j) {
        const FV v = hn::Load(f, c.v + (t + r) * c.value_pitch + j * kN);
        sum[r][j] = hn::Mul(beta, hn::NegMulAdd(begin, sum[r][j], v));
      }
    }
    AddProducts(c.change + t * kDeltaChunk, kDeltaChunk, 1, c.changes, kSlab, t, sum);
#pragma GCC unroll 8
    for (size_t r = 0; r < kDeltaRows; ++r) {
#pragma GCC unroll 8
      for (size_t s = 0; s < r; ++s) {
        const FV change = hn::Set(f, c.change[(t + r) * kDeltaChunk + t + s]);
#pragma GCC unroll 4
        for (size_t j = 0; j < kVectors; ++j) sum[r][j] = hn::MulAdd(change, sum[s][j], sum[r][j]);
      }
#pragma GCC unroll 4
      for (size_t j = 0; j < kVectors; ++j) {
        hn::Store(sum[r][j], f, c.changes + (t + r) * kSlab + j * kN);
      }
    }
    start(c.q);
#pragma GCC unroll 8
    for (size_t r = 0; r < kDeltaRows; ++r) {
      const FV begin = hn::Set(f, c.begin[t + r]);
#pragma GCC unroll 4
      for (size_t j = 0; j < kVectors; ++j) sum[r][j] = hn::Mul(begin, sum[r][j]);
    }
    AddProducts(c.result + t * kDeltaChunk, kDeltaChunk, 1, c.changes, kSlab, t, sum);
#pragma GCC unroll 8
    for (size_t r = 0; r < kDeltaRows; ++r) {
#pragma GCC unroll 8
      for (size_t s = 0; s <= r; ++s) {
        const FV result = hn::Set(f, c.result[(t + r) * kDeltaChunk + t + s]);
#pragma GCC unroll 4
        for (size_t j = 0; j < kVectors; ++j) {
          const FV change = hn::Load(f, c.changes + (t + s) * kSlab + j * kN);
          sum[r][j] = hn::MulAdd(result, change, sum[r][j]);
        }
      }
#pragma GCC unroll 4
      for (size_t j = 0; j < kVectors; ++j) {
        hn::Store(sum[r][j], f, c.out + (t + r) * c.value_pitch + j * kN);
      }
    }
  }
  for (size_t t = 0; t < c.tokens; ++t) {
    const FV end = hn::Set(f, c.end[t]);
    for (size_t j = 0; j < kVectors; ++j) {
      float* change = c.changes + t * kSlab + j * kN;
      hn::Store(hn::Mul(end, hn::Load(f, change)), f, change);
    }
  }
  const FV decay = hn::Set(f, c.begin[c.tokens - 1]);
  size_t i = 0;
  for (; i + kDeltaRows <= dim; i += kDeltaRows) AddChanges<kDeltaRows>(c, decay, i);
  for (; i < dim; ++i) AddChanges<1>(c, decay, i);
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
  static constexpr DeltaKernels kKernels = {kSlab,      &Convolve,     &Dot,   &Recur,
                                            &TurnKeys,  &MultiplyKeys, &Weigh, &RunChunk,
                                            &LoadState, &StoreState};
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
