#include "ram/measure/block_errors.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "ram/quant/simd_targets.h"

// Compiles the rest of this file once per instruction set.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ram/measure/block_errors.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "ram/quant/group_grid-inl.h"

#ifndef RAM_MEASURE_BLOCK_ERRORS_CC_ONCE_
#define RAM_MEASURE_BLOCK_ERRORS_CC_ONCE_
namespace ram {

struct BlockOutcome {
  BlockErrors errors;
  bool overflow = false;  // The group that starts at weight `at` has no scale.
  size_t at = 0;
};

}  // namespace ram
#endif

HWY_BEFORE_NAMESPACE();
namespace ram {
namespace HWY_NAMESPACE {
namespace {

// A batch is 16 runs of 128 weights: 1 group of 128, 2 of 64 and 4 of 32 each. Part p of run r is
// at p * 16 + r in arrays with one value per group, so that the ranges of larger groups follow from
// those of smaller ones lane by lane.
constexpr size_t kRun = 128;
constexpr size_t kRuns = kBatch / kRun;
constexpr size_t kNumBits = kBits.size();
constexpr size_t kNumChoices = kAffineChoices.size();

// Sums over the block, in f64, of the 16 lanes in which each batch was summed.
struct LaneSums {
  HWY_ALIGN double lanes[kLanes] = {};

  double Total() const {
    double tree[kLanes];
    std::copy(lanes, lanes + kLanes, tree);
    for (size_t half = kLanes / 2; half != 0; half /= 2) {
      for (size_t i = 0; i < half; ++i) tree[i] += tree[i + half];
    }
    return tree[0];
  }
};

struct LaneMax {
  HWY_ALIGN float lanes[kLanes] = {};

  float Total() const { return *std::max_element(lanes, lanes + kLanes); }
};

// All that a block adds up; by AffineIndex().
struct Sums {
  LaneSums squares[kNumChoices];
  LaneSums weighted[kNumChoices];
  LaneMax largest_square[kNumChoices];
  LaneSums weights, weights2, weighted_weights2, weights4;
  LaneMax largest_weight;
};

struct Batch {
  size_t num_runs;  // The last one may end in zeros, which add nothing.
  HWY_ALIGN float weights[kBatch];
  HWY_ALIGN float column_weights[kBatch];
  // Of the groups of one size.
  HWY_ALIGN float min[kMaxGroups];
  HWY_ALIGN float max[kMaxGroups];
  HWY_ALIGN float bias[kMaxGroups];
  HWY_ALIGN float scale[kNumBits][kMaxGroups];
  HWY_ALIGN float inverse[kNumBits][kMaxGroups];  // 1 / scale
};

// lanes [first, first + N) += factor * sums
void AddLanes(FV sums, double factor, size_t first, LaneSums& total) {
  const F f;
  const hn::CappedTag<double, 8> d;
  const hn::Rebind<float, decltype(d)> half;
  HWY_ALIGN float lanes[kLanes];
  hn::Store(sums, f, lanes);
  for (size_t i = 0; i < hn::Lanes(f); i += hn::Lanes(d)) {
    double* to = total.lanes + first + i;
    const auto sum = hn::Mul(hn::PromoteTo(d, hn::Load(half, lanes + i)), hn::Set(d, factor));
    hn::Store(hn::Add(hn::Load(d, to), sum), d, to);
  }
}

void MaxLanes(FV values, size_t first, LaneMax& total) {
  const F f;
  hn::Store(hn::Max(values, hn::Load(f, total.lanes + first)), f, total.lanes + first);
}

// Ranges of the groups of 32; returns whether all weights are finite.
bool FindRanges(Batch& batch) {
  const F f;
  auto not_finite = hn::Zero(f);
  for (size_t part = 0; part < 4; ++part) {
    for (size_t run = 0; run < kRuns; run += hn::Lanes(f)) {
      const auto range =
          RangesOfGroups(batch.weights + run * kRun + part * 32, 32, kRun, not_finite);
      hn::Store(range.min, f, batch.min + part * kRuns + run);
      hn::Store(range.max, f, batch.max + part * kRuns + run);
    }
  }
  return hn::AllTrue(f, hn::Eq(not_finite, hn::Zero(f)));
}

// Ranges of groups of twice the size.
void MergeRanges(size_t num_parts, Batch& batch) {
  const F f;
  for (size_t part = 0; part < num_parts; ++part) {
    for (size_t run = 0; run < kRuns; run += hn::Lanes(f)) {
      const size_t to = part * kRuns + run;
      const size_t a = 2 * part * kRuns + run;
      const size_t b = a + kRuns;
      hn::Store(hn::Min(hn::Load(f, batch.min + a), hn::Load(f, batch.min + b)), f, batch.min + to);
      hn::Store(hn::Max(hn::Load(f, batch.max + a), hn::Load(f, batch.max + b)), f, batch.max + to);
    }
  }
}

// Grids of all bit widths for the ranges at hand; returns whether every group has them.
//
// The bias is the same for all of them: it is 0 where edge / step rounds to 0, and otherwise the
// edge. The step is max(range / n, 1e-7), and range <= 2 |edge|. Either range / n is larger: then
// edge / step >= n / 2 >= 1.5, which does not round to 0. Or the step is 1e-7, and the quotient
// edge / 1e-7 knows nothing of n. If it rounds to 0, then range <= 1e-7, and the step is 1e-7 for
// every n.
template <Dtype kDtype>
bool FindGrids(size_t num_parts, Batch& batch) {
  const F f;
  bool usable = true;
  for (size_t group = 0; group < num_parts * kRuns; group += hn::Lanes(f)) {
    const auto min = hn::Load(f, batch.min + group);
    const auto max = hn::Load(f, batch.max + group);
    for (size_t bit = 0; bit < kNumBits; ++bit) {
      const auto n = hn::Set(f, static_cast<float>((1 << kBits[bit]) - 1));
      const auto grid = RangeRule(min, max, n, Rounding::kCpu);
      const auto scale = Stored<kDtype>(grid.scale);
      usable &= hn::AllTrue(f, Usable(scale));
      hn::Store(scale, f, batch.scale[bit] + group);
      hn::Store(hn::Div(hn::Set(f, 1.0f), scale), f, batch.inverse[bit] + group);
      hn::Store(grid.bias, f, batch.bias + group);
    }
  }
  return usable;
}

// Where, within the batch, the first group without a scale begins; one bit width speaks for all.
size_t FirstWithoutScale(const Batch& batch, size_t group_size) {
  for (size_t k = 0; k < kBatch; k += group_size) {
    const float scale = batch.scale[0][k % kRun / group_size * kRuns + k / kRun];
    if (!std::isfinite(scale) || scale == 0) return k;
  }
  return 0;
}

// Lanes [first, first + N) of the weights themselves.
template <bool kWeighted>
void AddStatistics(const Batch& batch, double row_weight, size_t first, Sums& sums) {
  const F f;
  auto sum = hn::Zero(f), sum2 = hn::Zero(f), weighted2 = hn::Zero(f), sum4 = hn::Zero(f);
  auto largest = hn::Zero(f);
  for (size_t k = first; k < batch.num_runs * kRun; k += kLanes) {
    const auto w = hn::Load(f, batch.weights + k);
    const auto square = hn::Mul(w, w);
    sum = hn::Add(sum, w);
    sum2 = hn::Add(sum2, square);
    if constexpr (kWeighted) {
      weighted2 = hn::Add(weighted2, hn::Mul(square, hn::Load(f, batch.column_weights + k)));
    }
    sum4 = hn::Add(sum4, hn::Mul(square, square));
    largest = hn::Max(largest, hn::Abs(w));
  }
  AddLanes(sum, 1, first, sums.weights);
  AddLanes(sum2, 1, first, sums.weights2);
  if constexpr (kWeighted) AddLanes(weighted2, row_weight, first, sums.weighted_weights2);
  AddLanes(sum4, 1, first, sums.weights4);
  MaxLanes(largest, first, sums.largest_weight);
}

// Errors of one group size, all bit widths, in lanes [first, first + N) of a batch.
template <bool kExact, bool kWeighted>
class GroupErrors {
 public:
  GroupErrors() {
    for (size_t bit = 0; bit < kNumBits; ++bit) {
      sum_[bit] = weighted_[bit] = largest_[bit] = hn::Zero(F());
    }
  }

  HWY_INLINE void AddBatch(const Batch& batch, size_t group_size, size_t first) {
    const F f;
    for (size_t run = 0; run < batch.num_runs; ++run) {
      for (size_t part = 0; part < kRun / group_size; ++part) {
        const size_t group = part * kRuns + run;
        const size_t begin = run * kRun + part * group_size;
        const auto bias = hn::Set(f, batch.bias[group]);
        for (size_t k = begin + first; k < begin + group_size; k += kLanes) {
          const auto u = hn::Sub(hn::Load(f, batch.weights + k), bias);
          AddVector(batch, group, k, u, std::make_index_sequence<kNumBits>());
        }
      }
    }
  }

  void AddTo(Sums& sums, size_t group_size, double row_weight, size_t first) const {
    for (size_t bit = 0; bit < kNumBits; ++bit) {
      const size_t choice = 3 * bit + (group_size == 128 ? 0 : group_size == 64 ? 1 : 2);
      AddLanes(sum_[bit], 1, first, sums.squares[choice]);
      if constexpr (kWeighted) AddLanes(weighted_[bit], row_weight, first, sums.weighted[choice]);
      MaxLanes(largest_[bit], first, sums.largest_square[choice]);
    }
  }

 private:
  template <size_t... kBit>
  HWY_INLINE void AddVector(const Batch& batch, size_t group, size_t k, FV u,
                            std::index_sequence<kBit...>) {
    (AddBit<kBit>(batch, group, k, u), ...);
  }

  // u is the weight minus the bias, i.e. code * scale. About 8 vector operations.
  template <size_t kBit>
  HWY_INLINE void AddBit(const Batch& batch, size_t group, size_t k, FV u) {
    const F f;
    const auto n = hn::Set(f, static_cast<float>((1 << kBits[kBit]) - 1));
    const auto scale = hn::Set(f, batch.scale[kBit][group]);
    const auto t = hn::Mul(u, hn::Set(f, batch.inverse[kBit][group]));
    const auto q = RoundHalfToEven(hn::Min(t, n));  // t > -0.51: rounds to 0 or more.
    const auto e = kExact ? hn::NegMulAdd(q, scale, u) : hn::Sub(u, hn::Mul(q, scale));
    const auto square = hn::Mul(e, e);
    sum_[kBit] = hn::Add(sum_[kBit], square);
    if constexpr (kWeighted) {
      const auto weight = hn::Load(f, batch.column_weights + k);
      weighted_[kBit] = hn::Add(weighted_[kBit], hn::Mul(square, weight));
    }
    largest_[kBit] = hn::Max(largest_[kBit], square);
  }

  FV sum_[kNumBits], weighted_[kNumBits], largest_[kNumBits];
};

// The span of weights that one call sums: a whole block, or one row if there are error weights.
struct Span {
  const uint8_t* data;
  size_t num_weights;
  size_t cols;
  const float* column_weights;  // [num_weights]; null: 1
  double row_weight;
};

template <Dtype kDtype, bool kWeighted>
void MeasureBatch(Batch& batch, const Span& span, BlockOutcome& outcome, Sums& sums) {
  constexpr bool kExact = kDtype != Dtype::kF32;  // code * scale needs 16 or 19 bits of 24.
  for (size_t first = 0; first < kLanes; first += hn::Lanes(F())) {
    AddStatistics<kWeighted>(batch, span.row_weight, first, sums);
  }
  for (size_t group_size = 32; group_size <= kRun; group_size *= 2) {
    if (span.cols % group_size != 0) return;
    const size_t num_parts = kRun / group_size;
    if (group_size > 32) MergeRanges(num_parts, batch);
    if (!FindGrids<kDtype>(num_parts, batch)) {
      outcome.overflow = true;
      outcome.at = FirstWithoutScale(batch, group_size);
      return;
    }
    for (size_t first = 0; first < kLanes; first += hn::Lanes(F())) {
      GroupErrors<kExact, kWeighted> errors;
      errors.AddBatch(batch, group_size, first);
      errors.AddTo(sums, group_size, span.row_weight, first);
    }
  }
}

void CountNotFinite(const Batch& batch, size_t count, BlockErrors& errors) {
  for (size_t k = 0; k < count; ++k) {
    errors.num_nan += std::isnan(batch.weights[k]) ? 1 : 0;
    errors.num_inf += std::isinf(batch.weights[k]) ? 1 : 0;
  }
}

void LoadColumnWeights(const Span& span, size_t at, size_t count, Batch& batch) {
  if (span.column_weights == nullptr) {
    std::fill(batch.column_weights, batch.column_weights + count, 1.0f);
  } else {
    std::copy(span.column_weights + at, span.column_weights + at + count, batch.column_weights);
  }
  std::fill(batch.column_weights + count, batch.column_weights + batch.num_runs * kRun, 0.0f);
}

// The next batch arrives while this one is being measured.
void PrefetchBytes(const uint8_t* bytes, size_t count) {
  for (size_t i = 0; i < count; i += 64) hwy::Prefetch(bytes + i);
}

template <Dtype kDtype, bool kWeighted>
void MeasureSpan(const Span& span, Batch& batch, BlockOutcome& outcome, Sums& sums) {
  constexpr size_t kBytes = kDtype == Dtype::kF32 ? 4 : 2;
  for (size_t at = 0; at < span.num_weights; at += kBatch) {
    const size_t count = HWY_MIN(kBatch, span.num_weights - at);
    batch.num_runs = (count + kRun - 1) / kRun;
    LoadWeights<kDtype>(span.data + at * kBytes, count, batch.weights);
    PrefetchBytes(span.data + (at + count) * kBytes,
                  HWY_MIN(kBatch, span.num_weights - at - count) * kBytes);
    if constexpr (kWeighted) {
      LoadColumnWeights(span, at, count, batch);
    }
    if (!FindRanges(batch)) {
      CountNotFinite(batch, count, outcome.errors);
      continue;
    }
    MeasureBatch<kDtype, kWeighted>(batch, span, outcome, sums);
    if (outcome.overflow) {
      outcome.at += at;
      return;
    }
  }
}

// Without error weights a block is one run of groups: rows do not matter, and short rows leave no
// short batches. With them, rows are summed one by one.
template <Dtype kDtype>
BlockOutcome MeasureRows(const MatrixView& rows, const ErrorWeights& weights) {
  const size_t num_weights = rows.rows * rows.cols;
  const bool weighted = !weights.rows.empty() || !weights.columns.empty();
  Batch batch;
  Sums sums;
  BlockOutcome outcome;
  if (weighted) {
    for (size_t row = 0; row < rows.rows && !outcome.overflow; ++row) {
      const Span span = {
          .data = rows.data + row * rows.cols * static_cast<size_t>(BitsOf(kDtype)) / 8,
          .num_weights = rows.cols,
          .cols = rows.cols,
          .column_weights = weights.columns.empty() ? nullptr : weights.columns.data(),
          .row_weight = weights.rows.empty() ? 1.0 : static_cast<double>(weights.rows[row])};
      MeasureSpan<kDtype, true>(span, batch, outcome, sums);
      if (outcome.overflow) outcome.at += row * rows.cols;
    }
  } else {
    const Span span = {rows.data, num_weights, rows.cols, nullptr, 1.0};
    MeasureSpan<kDtype, false>(span, batch, outcome, sums);
  }

  BlockErrors& errors = outcome.errors;
  for (size_t i = 0; i < kNumChoices; ++i) {
    ChoiceErrors& choice = errors.choices[i];
    choice.sum_squares = sums.squares[i].Total();
    choice.weighted_sum_squares = weighted ? sums.weighted[i].Total() : choice.sum_squares;
    choice.largest = std::sqrt(sums.largest_square[i].Total());
  }
  errors.sum = sums.weights.Total();
  errors.sum_squares = sums.weights2.Total();
  errors.weighted_sum_squares = weighted ? sums.weighted_weights2.Total() : errors.sum_squares;
  errors.sum_fourths = sums.weights4.Total();
  errors.largest = sums.largest_weight.Total();
  errors.num_weights = num_weights;
  return outcome;
}

BlockOutcome MeasureMatrix(const MatrixView& rows, const ErrorWeights& weights) {
  switch (rows.dtype) {
    case Dtype::kBF16:
      return MeasureRows<Dtype::kBF16>(rows, weights);
    case Dtype::kF16:
      return MeasureRows<Dtype::kF16>(rows, weights);
    default:
      return MeasureRows<Dtype::kF32>(rows, weights);
  }
}

const char* Target() { return hwy::TargetName(HWY_TARGET); }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ram
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ram {

HWY_EXPORT(MeasureMatrix);
HWY_EXPORT(Target);

void BlockErrors::Add(const BlockErrors& rows_below) {
  for (size_t i = 0; i < choices.size(); ++i) {
    choices[i].sum_squares += rows_below.choices[i].sum_squares;
    choices[i].weighted_sum_squares += rows_below.choices[i].weighted_sum_squares;
    choices[i].largest = std::max(choices[i].largest, rows_below.choices[i].largest);
  }
  sum += rows_below.sum;
  sum_squares += rows_below.sum_squares;
  weighted_sum_squares += rows_below.weighted_sum_squares;
  sum_fourths += rows_below.sum_fourths;
  largest = std::max(largest, rows_below.largest);
  num_nan += rows_below.num_nan;
  num_inf += rows_below.num_inf;
  num_weights += rows_below.num_weights;
}

size_t RowsPerBlock(size_t cols) {
  constexpr size_t kWeightsPerBlock = size_t{1} << 18;  // Half a MiB of BF16.
  return std::max<size_t>(1, kWeightsPerBlock / std::max<size_t>(1, cols));
}

Result<BlockErrors> MeasureBlock(const MatrixView& rows, const ErrorWeights& weights) {
  const auto invalid = [](std::string message) {
    return Error{ErrorCode::kInvalidArgument, std::move(message)};
  };
  if (rows.dtype != Dtype::kBF16 && rows.dtype != Dtype::kF16 && rows.dtype != Dtype::kF32) {
    return invalid(fmt::format("dtype {}: expected BF16, F16 or F32", DtypeName(rows.dtype)));
  }
  if (rows.rows > RowsPerBlock(rows.cols)) {
    return invalid(fmt::format("{} rows in one block: at most {} of {} columns", rows.rows,
                               RowsPerBlock(rows.cols), rows.cols));
  }
  if (!weights.rows.empty() && weights.rows.size() != rows.rows) {
    return invalid(fmt::format("{} row weights for {} rows", weights.rows.size(), rows.rows));
  }
  if (!weights.columns.empty() && weights.columns.size() != rows.cols) {
    return invalid(
        fmt::format("{} column weights for {} columns", weights.columns.size(), rows.cols));
  }
  const BlockOutcome outcome = HWY_DYNAMIC_DISPATCH(MeasureMatrix)(rows, weights);
  if (outcome.overflow) {
    return Error{ErrorCode::kCorrupt,
                 fmt::format("row {} of the block, column {}: the group of weights that starts "
                             "here is too large for a scale",
                             outcome.at / rows.cols, outcome.at % rows.cols)};
  }
  return outcome.errors;
}

std::string_view MeasureTarget() { return HWY_DYNAMIC_DISPATCH(Target)(); }

}  // namespace ram
#endif  // HWY_ONCE
