// Elementary functions on vectors of f32, shared by the kernels of the CPU engine.
//
// Additions and multiplications are not fused (but for what asks for it), and whole numbers are
// made by adding 1.5 * 2^23: every target gives the same bits. A NaN gives a NaN.

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "ram/quant/simd_targets.h"
// After simd_targets.h.
#include "hwy/highway.h"

// Compiled once for each instruction set: foreach_target.h toggles this include guard.
#if defined(RAM_RUNTIME_VECTOR_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RAM_RUNTIME_VECTOR_MATH_INL_H_
#undef RAM_RUNTIME_VECTOR_MATH_INL_H_
#else
#define RAM_RUNTIME_VECTOR_MATH_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace ram {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Largest vectors in use: 16 lanes.
using F = hn::CappedTag<float, 16>;
using FV = hn::Vec<F>;
inline constexpr size_t kVectorLanes = hn::MaxLanes(F());

// The smaller, the larger of x and a constant; NaN where x is.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V AtMost(D d, hn::TFromD<D> high, V x) {
  const V limit = hn::Set(d, high);
#if HWY_ARCH_X86 && HWY_TARGET != HWY_EMU128 && HWY_TARGET != HWY_SCALAR
  return hn::Min(limit, x);  // Of a number and NaN x86 takes the second, NEON the number.
#else
  return hn::IfThenElse(hn::Gt(x, limit), limit, x);
#endif
}
template <class D, class V = hn::Vec<D>>
HWY_INLINE V AtLeast(D d, hn::TFromD<D> low, V x) {
  const V limit = hn::Set(d, low);
#if HWY_ARCH_X86 && HWY_TARGET != HWY_EMU128 && HWY_TARGET != HWY_SCALAR
  return hn::Max(limit, x);
#else
  return hn::IfThenElse(hn::Lt(x, limit), limit, x);
#endif
}

// a * b + c, rounded twice; once where kFused asks for it and the CPU can.
template <bool kFused = false, class V>
HWY_INLINE V MultiplyAdd(V a, V b, V c) {
  return kFused ? hn::MulAdd(a, b, c) : hn::Add(hn::Mul(a, b), c);
}

// ((c[0] * x + c[1]) * x + ...) + last.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Polynomial(D d, V x, V sum) {
  (void)d;
  (void)x;
  return sum;
}
template <class D, class V = hn::Vec<D>, typename... Rest>
HWY_INLINE V Polynomial(D d, V x, V sum, hn::TFromD<D> next, Rest... rest) {
  return Polynomial(d, x, MultiplyAdd(sum, x, hn::Set(d, next)), rest...);
}

// e^x. Relative error at most 1.2e-7 for x in [-87.6, 88.3]; 0 below -87.7, infinite above 88.4.
// kFused: a third faster, with bits that depend on the CPU.
//
// e^x = 2^i * e^r, i = round(x / ln 2), |r| <= ln 2 / 2: the minimax polynomial for e^r with two
// exact coefficients and an error of 3.1e-9, summed as a tree, which halves its latency.
template <bool kFused = false, class D, class V = hn::Vec<D>>
HWY_INLINE V Exp(D d, V x) {
  const hn::RebindToSigned<D> di;
  x = AtLeast(d, -88.0f, AtMost(d, 89.0f, x));
  const V magic = hn::Set(d, 0x1.8p23f);
  const V shifted = MultiplyAdd<kFused>(x, hn::Set(d, 1.44269504f), magic);
  const V i = hn::Sub(shifted, magic);
  // ln 2 in two parts: the first has 10 bits, so its product with i is exact.
  const V r = MultiplyAdd<kFused>(i, hn::Set(d, 2.12194440e-4f),
                                  MultiplyAdd<kFused>(i, hn::Set(d, -0.693359375f), x));
  const V square = hn::Mul(r, r);
  const V c4 = MultiplyAdd<kFused>(r, hn::Set(d, 8.36874516e-3f), hn::Set(d, 4.16683908e-2f));
  const V c2 = MultiplyAdd<kFused>(r, hn::Set(d, 1.66665204e-1f), hn::Set(d, 4.99999934e-1f));
  const V high = MultiplyAdd<kFused>(square, hn::Set(d, 1.38145396e-3f), c4);
  const V tail = MultiplyAdd<kFused>(square, MultiplyAdd<kFused>(square, high, c2), r);
  const V p = hn::Add(hn::Set(d, 1.0f), tail);
  // 2^i; 0 for i = -127, infinite for 128.
  const auto exponent = hn::Add(hn::BitCast(di, shifted), hn::Set(di, 127));
  return hn::Mul(p, hn::BitCast(d, hn::ShiftLeft<23>(exponent)));
}

// 1 / (1 + e^-x). Relative error at most 3e-7 where x > -87, then 0.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Sigmoid(D d, V x) {
  const V one = hn::Set(d, 1.0f);
  return hn::Div(one, hn::Add(one, Exp(d, hn::Neg(x))));
}

// x * sigmoid(x).
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Silu(D d, V x) {
  return hn::Div(x, hn::Add(hn::Set(d, 1.0f), Exp(d, hn::Neg(x))));
}

// Relative error at most 3e-7.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Tanh(D d, V x) {
  const V one = hn::Set(d, 1.0f);
  const V magnitude = hn::Abs(x);
  // 1 - 2 / (e^2|x| + 1) loses digits near 0, where an odd polynomial serves.
  const V square = hn::Mul(x, x);
  const V p = Polynomial(d, square, hn::Set(d, -5.70422450e-3f), 2.06384319e-2f, -5.37395232e-2f,
                         1.33314400e-1f, -3.33332819e-1f);
  const V near_zero = hn::Add(x, hn::Mul(hn::Mul(x, square), p));
  const V e = Exp(d, hn::Add(magnitude, magnitude));
  const V far = hn::Sub(one, hn::Div(hn::Set(d, 2.0f), hn::Add(e, one)));
  return hn::IfThenElse(hn::Lt(magnitude, hn::Set(d, 0.625f)), near_zero, hn::CopySign(far, x));
}

// Sine and cosine of angles [radians] below 2^20 in magnitude, computed in f64 and rounded once or,
// rarely, one unit beside. D: f64.
template <class D, class VF>
HWY_INLINE void SinCos(D d, VF angle, VF& sine, VF& cosine) {
  using V = hn::Vec<D>;
  const hn::RebindToSigned<D> di;
  const hn::Rebind<float, D> df;
  const V x = hn::PromoteTo(d, angle);
  // x = quarter * pi / 2 + r; the first of two parts of pi / 2 has 33 bits.
  const V magic = hn::Set(d, 0x1.8p52);
  const V shifted = hn::Add(hn::Mul(x, hn::Set(d, 0.63661977236758134308)), magic);
  const V quarter = hn::Sub(shifted, magic);
  const V r = hn::Sub(hn::Sub(x, hn::Mul(quarter, hn::Set(d, 0x1.921fb544p0))),
                      hn::Mul(quarter, hn::Set(d, 0x1.0b4611a626331p-34)));
  const V square = hn::Mul(r, r);
  const V s = hn::Add(
      r, hn::Mul(hn::Mul(r, square),
                 Polynomial(d, square, hn::Set(d, 2.718114089329892e-06), -1.9839311481867916e-4,
                            8.333329302403726e-3, -1.6666666640776082e-1)));
  const V c = Polynomial(d, square, hn::Set(d, -2.720568245785105e-07), 2.4799459280993053e-05,
                         -1.388888349673451e-3, 4.1666666619452e-2, -0.5, 1.0);
  // Odd quarters exchange the two; bit 1 of the quarter is the sign of the sine, and bit 1 of the
  // next quarter that of the cosine.
  const auto n = hn::BitCast(di, shifted);
  const auto one = hn::Set(di, 1);
  const auto odd = hn::MaskFromVec(hn::BitCast(d, hn::Neg(hn::And(n, one))));
  const auto sine_sign = hn::ShiftLeft<62>(hn::AndNot(one, n));
  const auto cosine_sign = hn::ShiftLeft<62>(hn::AndNot(one, hn::Add(n, one)));
  const auto sign_bit = hn::BitCast(di, hn::Set(d, -0.0));
  sine = hn::DemoteTo(
      df, hn::Xor(hn::IfThenElse(odd, c, s), hn::BitCast(d, hn::And(sine_sign, sign_bit))));
  cosine = hn::DemoteTo(
      df, hn::Xor(hn::IfThenElse(odd, s, c), hn::BitCast(d, hn::And(cosine_sign, sign_bit))));
}

// `count` < Lanes(d) elements, `fill` beside them.
template <class D>
HWY_INLINE hn::Vec<D> LoadPart(D d, const hn::TFromD<D>* HWY_RESTRICT from, size_t count,
                               hn::TFromD<D> fill = 0) {
  HWY_ALIGN hn::TFromD<D> lanes[hn::MaxLanes(D())];
  hn::Store(hn::Set(d, fill), d, lanes);
  std::memcpy(lanes, from, count * sizeof(lanes[0]));
  return hn::Load(d, lanes);
}
template <class D>
HWY_INLINE void StorePart(hn::Vec<D> v, D d, size_t count, hn::TFromD<D>* HWY_RESTRICT to) {
  HWY_ALIGN hn::TFromD<D> lanes[hn::MaxLanes(D())];
  hn::Store(v, d, lanes);
  std::memcpy(to, lanes, count * sizeof(lanes[0]));
}

}  // namespace HWY_NAMESPACE
}  // namespace ram
HWY_AFTER_NAMESPACE();

#endif  // include guard
