// Rows to columns, a vector of rows at a time: how keys are packed and states are turned.

#include <cstddef>

#include "ram/runtime/vector_math-inl.h"

// Compiled once for each instruction set: foreach_target.h toggles this include guard.
#if defined(RAM_RUNTIME_TRANSPOSE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RAM_RUNTIME_TRANSPOSE_INL_H_
#undef RAM_RUNTIME_TRANSPOSE_INL_H_
#else
#define RAM_RUNTIME_TRANSPOSE_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace ram {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR
// Four consecutive elements of rows 0, 4, 8, ..., one block of 128 bits each.
template <class D>
HWY_INLINE hn::Vec<D> LoadEveryFourth(D d, const float* rows, size_t pitch) {
  if constexpr (hn::MaxLanes(D()) <= 4) {
    return hn::LoadU(d, rows);
  } else {
    const hn::Half<D> half;
    return hn::Combine(d, LoadEveryFourth(half, rows + hn::MaxLanes(half) * pitch, pitch),
                       LoadEveryFourth(half, rows, pitch));
  }
}
#endif

// out[i * out_pitch + j] = rows[j * pitch + i], j < kVectorLanes, i < num.
HWY_INLINE void Transpose(const float* HWY_RESTRICT rows, size_t pitch, size_t num,
                          float* HWY_RESTRICT out, size_t out_pitch) {
  constexpr size_t kN = kVectorLanes;
  size_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const F f;
  const hn::Repartition<double, F> pairs;
  for (; i + 4 <= num; i += 4) {
    const FV r0 = LoadEveryFourth(f, rows + i, pitch);
    const FV r1 = LoadEveryFourth(f, rows + i + pitch, pitch);
    const FV r2 = LoadEveryFourth(f, rows + i + 2 * pitch, pitch);
    const FV r3 = LoadEveryFourth(f, rows + i + 3 * pitch, pitch);
    const auto low01 = hn::BitCast(pairs, hn::InterleaveLower(f, r0, r1));
    const auto low23 = hn::BitCast(pairs, hn::InterleaveLower(f, r2, r3));
    const auto high01 = hn::BitCast(pairs, hn::InterleaveUpper(f, r0, r1));
    const auto high23 = hn::BitCast(pairs, hn::InterleaveUpper(f, r2, r3));
    float* to = out + i * out_pitch;
    hn::StoreU(hn::BitCast(f, hn::InterleaveLower(pairs, low01, low23)), f, to);
    hn::StoreU(hn::BitCast(f, hn::InterleaveUpper(pairs, low01, low23)), f, to + out_pitch);
    hn::StoreU(hn::BitCast(f, hn::InterleaveLower(pairs, high01, high23)), f, to + 2 * out_pitch);
    hn::StoreU(hn::BitCast(f, hn::InterleaveUpper(pairs, high01, high23)), f, to + 3 * out_pitch);
  }
#endif
  for (; i < num; ++i) {
    for (size_t j = 0; j < kN; ++j) out[i * out_pitch + j] = rows[j * pitch + i];
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace ram
HWY_AFTER_NAMESPACE();

#endif  // include guard
