#include "ram/quant/opt.h"

#include <algorithm>
#include <limits>

#include "ram/quant/simd_targets.h"

// Compiles the rest of this file once per instruction set.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ram/quant/opt.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "hwy/highway.h"
#include "ram/quant/group_grid-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ram {
namespace HWY_NAMESPACE {
namespace {

constexpr float kCuts[] = {.02f, .04f, .06f, .08f, .10f, .13f, .16f, .20f, .25f};
constexpr int kRounds = 3;
constexpr float kSmallestRange = 0x1p-30f;
constexpr float kLargestWeight = 0x1p30f;

// 16 groups side by side, weight i of group j at 16 * i + j: every sum over a group stays in its
// lane, in the order of the weights, whatever the length of vectors.
struct SixteenGroups {
  HWY_ALIGN float x[128 * kLanes];
  HWY_ALIGN float importance[128 * kLanes];  // w below
  HWY_ALIGN float wx[128 * kLanes];
};

using V = FV;
using M = hn::Mask<F>;

struct Grids {
  V scale, bias;
};

// The search for N of the 16 groups, at the lanes where its pointers begin.
template <Dtype kDtype>
class Search {
 public:
  Search(const SixteenGroups& groups, size_t first, size_t group_size, int bits)
      : x_(groups.x + first),
        w_(groups.importance + first),
        wx_(groups.wx + first),
        end_(group_size * kLanes),
        n_(hn::Set(F(), static_cast<float>((1 << bits) - 1))),
        best_{n_, n_} {}

  // rule_scale is that of the range rule, `stored` the grid of kRtnPlus.
  Grids Run(V rule_scale, Grids stored) {
    const F f;
    V low = hn::Load(f, x_), high = low;
    sum_w_ = sum_wx_ = hn::Zero(f);
    for (size_t k = 0; k < end_; k += kLanes) {
      const auto x = hn::Load(f, x_ + k);
      low = hn::Min(low, x);
      high = hn::Max(high, x);
      sum_w_ = hn::Add(sum_w_, hn::Load(f, w_ + k));
      sum_wx_ = hn::Add(sum_wx_, hn::Load(f, wx_ + k));
    }
    const auto range = hn::Sub(high, low);
    const auto largest = hn::Max(hn::Abs(low), hn::Abs(high));
    const auto searchable = hn::And(hn::Ge(range, hn::Set(f, kSmallestRange)),
                                    hn::Le(largest, hn::Set(f, kLargestWeight)));
    best_ = stored;
    // Nothing is smaller than -infinity: such groups stay as they are.
    smallest_ = hn::IfThenElse(searchable, WeightedError(stored),
                               hn::Set(f, -std::numeric_limits<float>::infinity()));

    TryStart({rule_scale, stored.bias});
    for (const float cut : kCuts) {
      const auto cut_off = hn::Mul(hn::Set(f, cut), range);
      const auto low_cut = hn::Add(low, cut_off);
      const auto high_cut = hn::Sub(high, cut_off);
      TryStart({hn::Div(hn::Sub(high_cut, low_cut), n_), low_cut});
      TryStart({hn::Div(hn::Sub(high, low_cut), n_), low_cut});
      TryStart({hn::Div(hn::Sub(high_cut, low), n_), low});
    }
    return best_;
  }

 private:
  static constexpr bool kExact = kDtype != Dtype::kF32;

  void TryStart(Grids grids) {
    const F f;
    const auto limit = hn::Set(f, hwy::HighestValue<float>());
    for (int round = 0; round < kRounds; ++round) {
      grids = LeastSquares(grids);
      const Grids candidate = {Stored<kDtype>(grids.scale), Stored<kDtype>(grids.bias)};
      const auto usable = hn::And(Usable(candidate.scale), hn::Le(hn::Abs(candidate.bias), limit));
      const auto error = WeightedError(candidate);
      const auto better = hn::And(usable, hn::Lt(error, smallest_));
      smallest_ = hn::IfThenElse(better, error, smallest_);
      best_.scale = hn::IfThenElse(better, candidate.scale, best_.scale);
      best_.bias = hn::IfThenElse(better, candidate.bias, best_.bias);
    }
  }

  HWY_INLINE V NearestCode(V above_bias, V inverse) const {
    const auto t = hn::Mul(above_bias, inverse);
    return RoundHalfToEven(hn::Min(hn::Max(t, hn::Zero(F())), n_));
  }

  HWY_INLINE V WeightedError(Grids grids) const {
    const F f;
    const auto inverse = hn::Div(hn::Set(f, 1.0f), grids.scale);
    auto sum = hn::Zero(f);
    for (size_t k = 0; k < end_; k += kLanes) {
      const auto above_bias = hn::Sub(hn::Load(f, x_ + k), grids.bias);
      const auto q = NearestCode(above_bias, inverse);
      const auto e = kExact ? hn::NegMulAdd(q, grids.scale, above_bias)
                            : hn::Sub(above_bias, hn::Mul(q, grids.scale));
      sum = hn::Add(sum, hn::Mul(hn::Load(f, w_ + k), hn::Mul(e, e)));
    }
    return sum;
  }

  HWY_INLINE Grids LeastSquares(Grids grids) const {
    const F f;
    const auto inverse = hn::Div(hn::Set(f, 1.0f), grids.scale);
    auto sum_wq = hn::Zero(f), sum_wqq = hn::Zero(f), sum_wxq = hn::Zero(f);
    for (size_t k = 0; k < end_; k += kLanes) {
      const auto q = NearestCode(hn::Sub(hn::Load(f, x_ + k), grids.bias), inverse);
      const auto wq = hn::Mul(hn::Load(f, w_ + k), q);
      sum_wq = hn::Add(sum_wq, wq);
      sum_wqq = hn::Add(sum_wqq, hn::Mul(wq, q));
      sum_wxq = hn::Add(sum_wxq, hn::Mul(hn::Load(f, wx_ + k), q));
    }
    const Grids solution = Solve(sum_wq, sum_wqq, sum_wxq);
    const auto magnitude = hn::Abs(solution.scale);
    const auto large = hn::Set(f, 0x1p100f);
    const auto sane =
        hn::And(hn::And(hn::Ge(magnitude, hn::Set(f, 0x1p-100f)), hn::Le(magnitude, large)),
                hn::Le(hn::Abs(solution.bias), large));
    return {hn::IfThenElse(sane, solution.scale, grids.scale),
            hn::IfThenElse(sane, solution.bias, grids.bias)};
  }

  // In f64. Scale 0 where there is no solution.
  HWY_INLINE Grids Solve(V sum_wq, V sum_wqq, V sum_wxq) const {
    const F f;
    const hn::CappedTag<double, 8> d;
    const hn::Rebind<float, decltype(d)> half;
    HWY_ALIGN float sums[5][kLanes];
    HWY_ALIGN float scale[kLanes];
    HWY_ALIGN float bias[kLanes];
    hn::Store(sum_w_, f, sums[0]);
    hn::Store(sum_wx_, f, sums[1]);
    hn::Store(sum_wq, f, sums[2]);
    hn::Store(sum_wqq, f, sums[3]);
    hn::Store(sum_wxq, f, sums[4]);
    for (size_t i = 0; i < hn::Lanes(f); i += hn::Lanes(d)) {
      const auto w = hn::PromoteTo(d, hn::Load(half, sums[0] + i));
      const auto wx = hn::PromoteTo(d, hn::Load(half, sums[1] + i));
      const auto wq = hn::PromoteTo(d, hn::Load(half, sums[2] + i));
      const auto wqq = hn::PromoteTo(d, hn::Load(half, sums[3] + i));
      const auto wxq = hn::PromoteTo(d, hn::Load(half, sums[4] + i));
      const auto product = hn::Mul(w, wqq);
      const auto determinant = hn::Sub(product, hn::Mul(wq, wq));
      const auto solvable = hn::Gt(determinant, hn::Mul(hn::Set(d, 1e-12), product));
      const auto inverse = hn::Div(hn::Set(d, 1.0), determinant);
      const auto s = hn::Mul(hn::Sub(hn::Mul(w, wxq), hn::Mul(wx, wq)), inverse);
      const auto z = hn::Mul(hn::Sub(hn::Mul(wqq, wx), hn::Mul(wq, wxq)), inverse);
      hn::Store(hn::DemoteTo(half, hn::IfThenElseZero(solvable, s)), half, scale + i);
      hn::Store(hn::DemoteTo(half, hn::IfThenElseZero(solvable, z)), half, bias + i);
    }
    return {hn::Load(f, scale), hn::Load(f, bias)};
  }

  const float* HWY_RESTRICT x_;
  const float* HWY_RESTRICT w_;
  const float* HWY_RESTRICT wx_;
  const size_t end_;
  const V n_;
  V sum_w_, sum_wx_;
  Grids best_;
  V smallest_;
};

// Sets importance and wx from the weights or, if there are column weights, from what importance
// holds.
void FindImportance(size_t group_size, bool has_columns, SixteenGroups& groups) {
  const F f;
  const U u;
  const size_t end = group_size * kLanes;
  for (size_t first = 0; first < kLanes; first += hn::Lanes(f)) {
    if (!has_columns) {
      auto sum = hn::Zero(f);
      for (size_t k = first; k < end; k += kLanes) {
        const auto x = hn::Load(f, groups.x + k);
        sum = hn::Add(sum, hn::Mul(x, x));
      }
      const auto rms = hn::Sqrt(hn::Div(sum, hn::Set(f, static_cast<float>(group_size))));
      for (size_t k = first; k < end; k += kLanes) {
        hn::Store(hn::Add(rms, hn::Abs(hn::Load(f, groups.x + k))), f, groups.importance + k);
      }
    }
    auto largest = hn::Zero(f);
    for (size_t k = first; k < end; k += kLanes) {
      largest = hn::Max(largest, hn::Load(f, groups.importance + k));
    }
    const auto exponent = hn::And(hn::BitCast(u, largest), hn::Set(u, 0x7F800000u));
    const auto factor = hn::BitCast(f, hn::Sub(hn::Set(u, 0x7F000000u), exponent));
    for (size_t k = first; k < end; k += kLanes) {
      const auto w = hn::Mul(hn::Load(f, groups.importance + k), factor);
      hn::Store(w, f, groups.importance + k);
      hn::Store(hn::Mul(w, hn::Load(f, groups.x + k)), f, groups.wx + k);
    }
  }
}

// `count` groups, side by side; zeros beside them.
void Transpose(const float* HWY_RESTRICT from, size_t group_size, size_t count,
               float* HWY_RESTRICT to) {
  if (count < kLanes) std::fill(to, to + group_size * kLanes, 0.0f);
  for (size_t lane = 0; lane < count; ++lane) {
    for (size_t i = 0; i < group_size; ++i) to[i * kLanes + lane] = from[lane * group_size + i];
  }
}

template <Dtype kDtype>
void SearchAll(const OptBatch& batch) {
  const F f;
  SixteenGroups groups;
  for (size_t begin = 0; begin < batch.num_groups; begin += kLanes) {
    const size_t count = HWY_MIN(kLanes, batch.num_groups - begin);
    const size_t at = begin * batch.group_size;
    Transpose(batch.weights + at, batch.group_size, count, groups.x);
    if (batch.column_weights != nullptr) {
      Transpose(batch.column_weights + at, batch.group_size, count, groups.importance);
    }
    FindImportance(batch.group_size, batch.column_weights != nullptr, groups);
    for (size_t first = 0; first < kLanes; first += hn::Lanes(f)) {
      const size_t group = begin + first;
      Search<kDtype> search(groups, first, batch.group_size, batch.bits);
      const Grids best =
          search.Run(hn::Load(f, batch.rule_scale + group),
                     {hn::Load(f, batch.scale + group), hn::Load(f, batch.bias + group)});
      hn::Store(best.scale, f, batch.scale + group);
      hn::Store(best.bias, f, batch.bias + group);
    }
  }
}

void SearchBatch(const OptBatch& batch) {
  switch (batch.dtype) {
    case Dtype::kBF16:
      return SearchAll<Dtype::kBF16>(batch);
    case Dtype::kF16:
      return SearchAll<Dtype::kF16>(batch);
    default:
      return SearchAll<Dtype::kF32>(batch);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ram
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ram {

HWY_EXPORT(SearchBatch);

void SearchGrids(const OptBatch& batch) { HWY_DYNAMIC_DISPATCH(SearchBatch)(batch); }

}  // namespace ram
#endif  // HWY_ONCE
