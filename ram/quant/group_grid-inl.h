// Weights of three storage types as f32, and MLX's range rule for many groups at once: what the
// quantizers and the measuring kernel share. Scalar definitions: quantize_reference.h.
//
// Everything here is exact or one IEEE operation at a time: the same bits on every target.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "ram/base/dtype.h"
#include "ram/base/result.h"
#include "ram/quant/quantize.h"
#include "ram/quant/simd_targets.h"
// After simd_targets.h.
#include "hwy/highway.h"

// Compiled once for each instruction set: foreach_target.h toggles this include guard.
#if defined(RAM_QUANT_GROUP_GRID_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RAM_QUANT_GROUP_GRID_INL_H_
#undef RAM_QUANT_GROUP_GRID_INL_H_
#else
#define RAM_QUANT_GROUP_GRID_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace ram {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Kernels take a row in batches that stay in the first-level cache: 16 groups of 128, 32 of 64, 64
// of 32. So there are at least 16 grids to compute at a time.
inline constexpr size_t kBatch = 2048;
inline constexpr size_t kMaxGroups = kBatch / 32;

// Sums have 16 logical lanes. A kernel that keeps sums runs once for every `first` in {0, N, ...}
// below 16, over the vectors at first + 16 * k; N = 16 with AVX-512, 4 with SSE4, 1 without SIMD.
inline constexpr size_t kLanes = 16;
using F = hn::CappedTag<float, kLanes>;
using I = hn::RebindToSigned<F>;
using U = hn::RebindToUnsigned<F>;
using FV = hn::Vec<F>;
using UV = hn::Vec<U>;

// ---------------------------------------------------------------------------------------------
// Storage types.

// `bits` holds one value of kDtype per lane, zero-extended.
template <Dtype kDtype>
HWY_INLINE FV FloatFromBits(UV bits) {
  const F f;
  const I i;
  const U u;
  if constexpr (kDtype == Dtype::kF32) {
    return hn::BitCast(f, bits);
  } else if constexpr (kDtype == Dtype::kBF16) {
    return hn::BitCast(f, hn::ShiftLeft<16>(bits));
  } else {
    // Not PromoteTo, which in Highway 1.0.3 is inexact without F16C.
    const auto magnitude = hn::And(bits, hn::Set(u, 0x7FFF));
    const auto sign = hn::ShiftLeft<16>(hn::Xor(bits, magnitude));
    const auto m = hn::BitCast(i, magnitude);
    const auto subnormal = hn::Mul(hn::ConvertTo(f, m), hn::Set(f, 0x1p-24f));  // Exact.
    const auto rebias = hn::Set(i, 112 << 23);
    const auto twice = hn::IfThenElseZero(hn::Gt(m, hn::Set(i, 0x7BFF)), rebias);  // Inf, NaN.
    const auto normal = hn::Add(hn::Add(hn::ShiftLeft<13>(m), rebias), twice);
    const auto is_subnormal = hn::RebindMask(f, hn::Lt(m, hn::Set(i, 0x400)));
    return hn::Or(hn::IfThenElse(is_subnormal, subnormal, hn::BitCast(f, normal)),
                  hn::BitCast(f, sign));
  }
}

// Rounds to nearest even, overflow becomes infinity. `value` is not NaN.
template <Dtype kDtype>
HWY_INLINE UV BitsFromFloat(FV value) {
  const F f;
  const I i;
  const U u;
  const auto bits = hn::BitCast(u, value);
  if constexpr (kDtype == Dtype::kF32) {
    return bits;
  } else if constexpr (kDtype == Dtype::kBF16) {
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(u, 1));
    return hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(u, 0x7FFF))));
  } else {  // As F16FromFloat in ram/base/half.h.
    const auto magnitude = hn::And(bits, hn::Set(u, 0x7FFFFFFF));
    const auto sign = hn::ShiftRight<16>(hn::Xor(bits, magnitude));
    const auto m = hn::BitCast(i, magnitude);
    const auto shifted = hn::Add(hn::BitCast(f, magnitude), hn::Set(f, 0.5f));
    const auto subnormal = hn::Sub(hn::BitCast(i, shifted), hn::Set(i, 0x3F000000));
    const auto odd = hn::And(hn::ShiftRight<13>(m), hn::Set(i, 1));
    const auto normal =
        hn::ShiftRight<13>(hn::Add(m, hn::Add(odd, hn::Set(i, 0xFFF - (112 << 23)))));
    const auto is_subnormal = hn::Lt(m, hn::Set(i, 0x38800000));
    const auto finite = hn::IfThenElse(is_subnormal, subnormal, normal);
    const auto is_infinite = hn::Gt(m, hn::Set(i, 0x477FFFFF));  // 65536 and above.
    const auto half = hn::IfThenElse(is_infinite, hn::Set(i, 0x7C00), finite);
    return hn::Or(hn::BitCast(u, half), sign);
  }
}

// `value` as it reads after it was stored.
template <Dtype kDtype>
HWY_INLINE FV Stored(FV value) {
  return FloatFromBits<kDtype>(BitsFromFloat<kDtype>(value));
}

// Reads `count` values of kDtype from `bytes`, of any alignment, into `weights` [kBatch], and fills
// up with zeros: groups of zeros that decode to zero.
template <Dtype kDtype>
HWY_NOINLINE void LoadWeights(const uint8_t* HWY_RESTRICT bytes, size_t count,
                              float* HWY_RESTRICT weights) {
  if constexpr (kDtype == Dtype::kF32) {
    std::memcpy(weights, bytes, count * sizeof(float));
  } else {
    const F f;
    const hn::Rebind<uint16_t, F> u16;
    constexpr size_t kN = hn::MaxLanes(f);
    HWY_ALIGN uint16_t halves[kN] = {};
    size_t k = 0;
    for (; k + kN <= count; k += kN) {
      std::memcpy(halves, bytes + 2 * k, sizeof(halves));
      const auto bits = hn::PromoteTo(U(), hn::Load(u16, halves));
      hn::Store(FloatFromBits<kDtype>(bits), f, weights + k);
    }
    if (k < count) {
      std::memcpy(halves, bytes + 2 * k, 2 * (count - k));
      const auto bits = hn::PromoteTo(U(), hn::Load(u16, halves));
      hn::Store(FloatFromBits<kDtype>(bits), f, weights + k);
    }
  }
  std::fill(weights + count, weights + kBatch, 0.0f);
}

// ---------------------------------------------------------------------------------------------
// Ranges.

struct RangeVectors {
  FV min, max;
};

// Ranges of kCount groups that begin `stride` weights apart: as many equal parts of the vectors, in
// order, hold what is left to compare of each; with kCount = N, one lane each. `not_finite` becomes
// NaN in some lane if a weight is NaN or infinite.
template <size_t kCount = hn::MaxLanes(F())>
HWY_INLINE RangeVectors RangesOfGroups(const float* HWY_RESTRICT weights, size_t group_size,
                                       [[maybe_unused]] size_t stride, FV& not_finite) {
  const F f;
#if HWY_TARGET != HWY_SCALAR
  if constexpr (kCount > 1) {
    constexpr size_t kHalf = kCount / 2;
    const auto a = RangesOfGroups<kHalf>(weights, group_size, stride, not_finite);
    const auto b = RangesOfGroups<kHalf>(weights + kHalf * stride, group_size, stride, not_finite);
    return {hn::Min(hn::ConcatEven(f, b.min, a.min), hn::ConcatOdd(f, b.min, a.min)),
            hn::Max(hn::ConcatEven(f, b.max, a.max), hn::ConcatOdd(f, b.max, a.max))};
  }
#endif
  auto min = hn::Load(f, weights), max = min;
  for (size_t k = 0; k < group_size; k += hn::Lanes(f)) {
    const auto w = hn::Load(f, weights + k);
    min = hn::Min(min, w);
    max = hn::Max(max, w);
    not_finite = hn::Or(not_finite, hn::Sub(w, w));  // 0 for finite weights, otherwise NaN.
  }
  return {min, max};
}

// ---------------------------------------------------------------------------------------------
// The range rule.

// |t| < 2^22 to the nearest integer, ties to even: around 1.5 * 2^23 there are no fraction bits.
HWY_INLINE FV RoundHalfToEven(FV t) {
  const auto magic = hn::Set(F(), 0x1.8p23f);
  return hn::Sub(hn::Add(t, magic), magic);
}

// t >= 0 to the nearest integer, ties away from zero. The largest float below 0.5: with 0.5 itself,
// 0.49999997 would become 1.
HWY_INLINE FV RoundHalfUp(FV t) { return hn::Floor(hn::Add(t, hn::Set(F(), 0x1.fffffep-2f))); }

struct GridVectors {
  FV scale, bias;  // Not rounded to the storage type yet; the bias needs no rounding.
};

// `n` is the largest code, 2^bits - 1. The rounding of MLX on Metal expects max >= 0.
HWY_INLINE GridVectors RangeRule(FV min, FV max, FV n, Rounding rounding) {
  const F f;
  const auto low_is_edge = hn::Gt(hn::Abs(min), hn::Abs(max));
  const auto edge = hn::IfThenElse(low_is_edge, min, max);
  const auto range_step = hn::Max(hn::Div(hn::Sub(max, min), n), hn::Set(f, 1e-7f));
  // Signs do not change magnitudes, and rounding is symmetric: divide without, sign at the end.
  const auto ratio = hn::Div(hn::Abs(edge), range_step);
  const auto steps = rounding == Rounding::kCpu ? hn::Round(ratio) : RoundHalfUp(ratio);
  const auto no_steps = hn::Eq(steps, hn::Zero(f));
  const auto step = hn::IfThenElse(no_steps, range_step, hn::Div(hn::Abs(edge), steps));
  return {hn::IfThenElse(low_is_edge, step, hn::Neg(step)), hn::IfThenZeroElse(no_steps, edge)};
}

// False in lanes where f32 overflowed in the range rule.
HWY_INLINE hn::Mask<F> Usable(FV stored_scale) {
  const F f;
  const auto magnitude = hn::Abs(stored_scale);
  return hn::And(hn::Gt(magnitude, hn::Zero(f)),
                 hn::Le(magnitude, hn::Set(f, hwy::HighestValue<float>())));
}

}  // namespace HWY_NAMESPACE
}  // namespace ram
HWY_AFTER_NAMESPACE();

#endif  // include guard
