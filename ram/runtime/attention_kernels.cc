#include "ram/runtime/attention_kernels.h"

#include <cstring>
#include <limits>

#include "ram/base/half.h"
#include "ram/quant/simd_targets.h"
#include "ram/runtime/aligned_rows.h"
#include "ram/runtime/isa.h"

// Compiles the rest of this file once per instruction set.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ram/runtime/attention_kernels.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "ram/runtime/simd_dispatch.h"
#include "ram/runtime/transpose-inl.h"
#include "ram/runtime/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ram {
namespace HWY_NAMESPACE {
namespace {

constexpr size_t kN = kVectorLanes;
// Rows and vectors of a product that is kept in registers.
#if HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM_A64
constexpr size_t kRows = 12;
#else
constexpr size_t kRows = 6;
#endif
constexpr size_t kPanel = 2 * kN;

// ---------------------------------------------------------------------------------------------
// Packing.

HWY_INLINE FV LoadWide(const float* from) { return hn::LoadU(F(), from); }
HWY_INLINE FV LoadWide(const uint16_t* from) {  // BF16.
  const hn::RebindToUnsigned<F> u;
  const hn::Rebind<uint16_t, F> u16;
  return hn::BitCast(F(), hn::ShiftLeft<16>(hn::PromoteTo(u, hn::LoadU(u16, from))));
}
HWY_INLINE float Wide(float from) { return from; }
HWY_INLINE float Wide(uint16_t from) { return FloatFromBf16(from); }

// Not memcpy: rows are short, and a call would cost as much as the copy.
template <typename T>
HWY_INLINE void CopyWide(const T* HWY_RESTRICT from, size_t n, float* HWY_RESTRICT out) {
  size_t i = 0;
  for (; i + kN <= n; i += kN) hn::StoreU(LoadWide(from + i), F(), out + i);
  for (; i < n; ++i) out[i] = Wide(from[i]);
}

// A head's rows lie a page apart in a cache, too far for the CPU to see a pattern.
constexpr size_t kRowsAhead = 16;
constexpr size_t kLineBytes = 64;

template <typename T>
HWY_INLINE void FetchRow(const T* row, size_t n) {
  for (size_t i = 0; i < n; i += kLineBytes / sizeof(T)) hwy::Prefetch(row + i);
}

template <typename T>
void PackKeysOf(const CacheTile& tile, float* HWY_RESTRICT scratch, float* HWY_RESTRICT out) {
  const size_t dim = tile.dim;
  // Rows are copied first: in a cache they often lie whole pages apart, all in one set of the
  // first-level cache.
  const size_t pitch = PitchOf(dim);
  const T* const keys = static_cast<const T*>(tile.keys.data);
  for (size_t first = tile.begin / kPanel * kPanel; first < tile.end; first += kPanel) {
    for (size_t j = 0; j < kPanel; ++j) {
      const size_t token = first + j;
      float* row = scratch + j * pitch;
      if (token < tile.begin || token >= tile.end) {
        std::memset(row, 0, dim * sizeof(float));
      } else {
        if (token + kRowsAhead < tile.end) {
          FetchRow(keys + (token + kRowsAhead) * tile.keys.pitch, dim);
        }
        CopyWide(keys + token * tile.keys.pitch, dim, row);
      }
    }
    Transpose(scratch, pitch, dim, out + first * dim, kPanel);
    Transpose(scratch + kN * pitch, pitch, dim, out + first * dim + kN, kPanel);
  }
}

void PackKeys(const CacheTile& tile, float* scratch, float* out) {
  if (tile.keys.dtype == Dtype::kF32) return PackKeysOf<float>(tile, scratch, out);
  PackKeysOf<uint16_t>(tile, scratch, out);
}

template <typename T>
void PackValuesOf(const CacheTile& tile, float* HWY_RESTRICT out) {
  const size_t first = tile.begin / kPanel * kPanel;
  const size_t last = (tile.end + kPanel - 1) / kPanel * kPanel;
  for (size_t token = first; token < last; ++token) {
    const bool exists = token >= tile.begin && token < tile.end;
    const T* from = static_cast<const T*>(tile.values.data) + token * tile.values.pitch;
    if (token + kRowsAhead < tile.end) {
      FetchRow(from + kRowsAhead * tile.values.pitch, tile.value_dim);
    }
    for (size_t c = 0; c < tile.value_dim; c += kPanel) {
      float* to = out + c * kTileKeys + token * kPanel;
      const size_t n = exists ? HWY_MIN(kPanel, tile.value_dim - c) : 0;
      if (n == kPanel) {
        hn::Store(LoadWide(from + c), F(), to);
        hn::Store(LoadWide(from + c + kN), F(), to + kN);
      } else {
        CopyWide(from + c, n, to);
        std::memset(to + n, 0, (kPanel - n) * sizeof(float));
      }
    }
  }
}

void PackValues(const CacheTile& tile, float* out) {
  if (tile.values.dtype == Dtype::kF32) return PackValuesOf<float>(tile, out);
  PackValuesOf<uint16_t>(tile, out);
}

void Scale(const float* HWY_RESTRICT x, float factor, size_t n, float* HWY_RESTRICT out) {
  const F f;
  size_t i = 0;
  for (; i + kN <= n; i += kN) {
    hn::StoreU(hn::Mul(hn::LoadU(f, x + i), hn::Set(f, factor)), f, out + i);
  }
  for (; i < n; ++i) out[i] = x[i] * factor;
}

void Merge(const float* HWY_RESTRICT x, float x_factor, float y_factor, size_t n,
           float* HWY_RESTRICT y) {
  const F f;
  for (size_t i = 0; i < n; i += kN) {
    const FV sum = hn::Mul(hn::Load(f, y + i), hn::Set(f, y_factor));
    hn::Store(hn::MulAdd(hn::Load(f, x + i), hn::Set(f, x_factor), sum), f, y + i);
  }
}

// ---------------------------------------------------------------------------------------------
// Products. Both keep kNum rows and a panel in registers.

// sums[r][j] += sum over k < n of a[r * a_pitch + k] * b[k * kPanel + j].
template <size_t kNum>
HWY_INLINE void MultiplyPanel(const float* HWY_RESTRICT a, size_t a_pitch,
                              const float* HWY_RESTRICT b, size_t n, FV (&sums)[kNum][2]) {
  const F f;
  for (size_t k = 0; k < n; ++k, b += kPanel) {
    const FV b0 = hn::Load(f, b), b1 = hn::Load(f, b + kN);
#pragma GCC unroll 12
    for (size_t r = 0; r < kNum; ++r) {
      const FV factor = hn::Set(f, a[r * a_pitch + k]);
      sums[r][0] = hn::MulAdd(factor, b0, sums[r][0]);
      sums[r][1] = hn::MulAdd(factor, b1, sums[r][1]);
    }
  }
}

// Scores of rows and keys [begin, end), multiples of kPanel: scores [kNum, kTileKeys].
template <size_t kNum>
HWY_NOINLINE void Scores(const PackedTile& tile, const float* HWY_RESTRICT queries, size_t begin,
                         size_t end, float* HWY_RESTRICT scores) {
  const F f;
  for (size_t key = begin; key < end; key += kPanel) {
    FV sums[kNum][2];
#pragma GCC unroll 12
    for (size_t r = 0; r < kNum; ++r) sums[r][0] = sums[r][1] = hn::Zero(f);
    MultiplyPanel<kNum>(queries, tile.dim, tile.keys + key * tile.dim, tile.dim, sums);
#pragma GCC unroll 12
    for (size_t r = 0; r < kNum; ++r) {
      hn::Store(sums[r][0], f, scores + r * kTileKeys + key);
      hn::Store(sums[r][1], f, scores + r * kTileKeys + key + kN);
    }
  }
}

// values [kNum, value_pitch] = values * shrink + weights * values of keys [begin, end).
template <size_t kNum>
HWY_NOINLINE void AddValues(const PackedTile& tile, const float* HWY_RESTRICT weights,
                            const float* HWY_RESTRICT shrink, size_t begin, size_t end,
                            float* HWY_RESTRICT values) {
  const F f;
  const size_t pitch = tile.value_pitch;
  for (size_t c = 0; c < pitch; c += kPanel) {
    FV sums[kNum][2];
#pragma GCC unroll 12
    for (size_t r = 0; r < kNum; ++r) {
      const FV factor = hn::Set(f, shrink[r]);
      sums[r][0] = hn::Mul(hn::Load(f, values + r * pitch + c), factor);
      sums[r][1] = hn::Mul(hn::Load(f, values + r * pitch + c + kN), factor);
    }
    MultiplyPanel<kNum>(weights + begin, kTileKeys, tile.values + c * kTileKeys + begin * kPanel,
                        end - begin, sums);
#pragma GCC unroll 12
    for (size_t r = 0; r < kNum; ++r) {
      hn::Store(sums[r][0], f, values + r * pitch + c);
      hn::Store(sums[r][1], f, values + r * pitch + c + kN);
    }
  }
}

// ---------------------------------------------------------------------------------------------
// The running softmax.

// Largest score of keys [begin, end) of a row, after the softcap and after keys outside [low, high)
// became minus infinity.
HWY_INLINE float MaskRow(float softcap, int64_t low, int64_t high, size_t begin, size_t end,
                         float* HWY_RESTRICT scores) {
  const F f;
  const hn::RebindToSigned<F> i;
  const FV lowest = hn::Set(f, -std::numeric_limits<float>::infinity());
  if (softcap > 0) {
    const FV cap = hn::Set(f, softcap);
    const FV inverse = hn::Set(f, 1.0f / softcap);
    for (size_t k = begin; k < end; k += kN) {
      const FV capped = hn::Mul(cap, Tanh(f, hn::Mul(hn::Load(f, scores + k), inverse)));
      hn::Store(capped, f, scores + k);
    }
  }
  if (low > static_cast<int64_t>(begin) || high < static_cast<int64_t>(end)) {
    constexpr int64_t kEnd = kTileKeys;
    const auto first = hn::Set(i, static_cast<int32_t>(HWY_MIN(HWY_MAX(low, 0), kEnd)));
    const auto last = hn::Set(i, static_cast<int32_t>(HWY_MIN(HWY_MAX(high, 0), kEnd)));
    for (size_t k = begin; k < end; k += kN) {
      const auto key = hn::Iota(i, static_cast<int32_t>(k));
      const auto hidden = hn::Or(hn::VecFromMask(i, hn::Gt(first, key)),
                                 hn::Not(hn::VecFromMask(i, hn::Gt(last, key))));
      const FV score = hn::Load(f, scores + k);
      hn::Store(hn::IfThenElse(hn::MaskFromVec(hn::BitCast(f, hidden)), lowest, score), f,
                scores + k);
    }
  }
  FV max0 = lowest, max1 = lowest;
  for (size_t k = begin; k < end; k += kPanel) {
    max0 = hn::Max(hn::Load(f, scores + k), max0);
    max1 = hn::Max(hn::Load(f, scores + k + kN), max1);
  }
  return hn::GetLane(hn::MaxOfLanes(f, hn::Max(max1, max0)));
}

// Scores become exp(score - max); yields their sum.
HWY_INLINE float ExponentRow(float max, size_t begin, size_t end, float* HWY_RESTRICT scores) {
  const F f;
  const FV top = hn::Set(f, max);
  FV sum0 = hn::Zero(f), sum1 = sum0;
  for (size_t k = begin; k < end; k += kPanel) {
    const FV e0 = Exp<true>(f, hn::Sub(hn::Load(f, scores + k), top));
    const FV e1 = Exp<true>(f, hn::Sub(hn::Load(f, scores + k + kN), top));
    hn::Store(e0, f, scores + k);
    hn::Store(e1, f, scores + k + kN);
    sum0 = hn::Add(sum0, e0);
    sum1 = hn::Add(sum1, e1);
  }
  return hn::GetLane(hn::SumOfLanes(f, hn::Add(sum0, sum1)));
}

// Rows [row, row + kNum) of a block, of which `count` exist.
template <size_t kNum>
void AttendRows(const PackedTile& tile, const RowBlock& block, size_t row, size_t count) {
  int64_t low = std::numeric_limits<int64_t>::max(), high = 0;
  for (size_t r = row; r < row + count; ++r) {
    low = HWY_MIN(low, block.low[r]);
    high = HWY_MAX(high, block.high[r]);
  }
  low = HWY_MAX(low - tile.first, int64_t{0});
  high = HWY_MIN(high - tile.first, static_cast<int64_t>(kTileKeys));
  if (low >= high) return;
  const size_t begin = static_cast<size_t>(low) / kPanel * kPanel;
  const size_t end = (static_cast<size_t>(high) + kPanel - 1) / kPanel * kPanel;

  HWY_ALIGN float scores[kNum * kTileKeys];
  Scores<kNum>(tile, block.queries + row * tile.dim, begin, end, scores);

  const F f;
  HWY_ALIGN float shrink[16] = {};
  HWY_ALIGN float top[16] = {};
  for (size_t r = 0; r < kNum; ++r) {
    const float old = block.max[row + r];
    const float largest =
        MaskRow(tile.softcap, block.low[row + r] - tile.first, block.high[row + r] - tile.first,
                begin, end, scores + r * kTileKeys);
    const float max = HWY_MAX(old, largest);
    // A row that has seen nothing yet: exp(-infinity - 0) = 0.
    top[r] = max == -std::numeric_limits<float>::infinity() ? 0.0f : max;
    shrink[r] = old - top[r];
    block.max[row + r] = max;
  }
  for (size_t r = 0; r < kNum; r += kN)
    hn::Store(Exp<true>(f, hn::Load(f, shrink + r)), f, shrink + r);
  for (size_t r = 0; r < kNum; ++r) {
    const float sum = ExponentRow(top[r], begin, end, scores + r * kTileKeys);
    block.sum[row + r] = block.sum[row + r] * shrink[r] + sum;
  }
  AddValues<kNum>(tile, scores, shrink, begin, end, block.values + row * tile.value_pitch);
}

void AttendTile(const PackedTile& tile, const RowBlock& block) {
  for (size_t row = 0; row < block.rows;) {
    const size_t left = block.rows - row;
    if (left > 4) {
      AttendRows<kRows>(tile, block, row, HWY_MIN(left, kRows));
      row += kRows;
    } else if (left > 1) {
      AttendRows<4>(tile, block, row, left);
      row += 4;
    } else {
      AttendRows<1>(tile, block, row, 1);
      row += 1;
    }
  }
}

const AttentionKernels& GetAttentionKernels() {
  static constexpr AttentionKernels kKernels = {kPanel,      kRows,  &PackKeys, &PackValues,
                                                &AttendTile, &Scale, &Merge};
  static_assert(kTileKeys % kPanel == 0);
  return kKernels;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ram
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ram {

HWY_EXPORT(GetAttentionKernels);

const AttentionKernels& AttentionKernelsOf(std::string_view level) {
  return RAM_SIMD_DISPATCH(GetAttentionKernels, SimdTargets(level))();
}

}  // namespace ram
#endif  // HWY_ONCE
