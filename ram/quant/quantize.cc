#include "ram/quant/quantize.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "ram/base/half.h"
#include "ram/quant/opt.h"
#include "ram/quant/simd_targets.h"

// Compiles the rest of this file once per instruction set.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ram/quant/quantize.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "hwy/highway.h"
#include "ram/quant/group_grid-inl.h"

#ifndef RAM_QUANT_QUANTIZE_CC_ONCE_
#define RAM_QUANT_QUANTIZE_CC_ONCE_
namespace ram {

static_assert(std::endian::native == std::endian::little, "stored bytes are little-endian");

// The error of what was written; or where a group has no grid or, up to kBatch columns further on,
// a weight is not finite.
struct QuantizeOutcome {
  StoredError error;
  bool refused = false;
  size_t row = 0;
  size_t col = 0;
};

}  // namespace ram
#endif

HWY_BEFORE_NAMESPACE();
namespace ram {
namespace HWY_NAMESPACE {
namespace {

// Up to kBatch weights of a row, and one value per group.
struct Batch {
  size_t group_size;
  size_t num_groups;
  HWY_ALIGN float weights[kBatch];
  HWY_ALIGN uint8_t codes[kBatch];
  // Beyond num_groups, where vectors end later: of groups of zeros.
  HWY_ALIGN float min[kMaxGroups];
  HWY_ALIGN float max[kMaxGroups];
  HWY_ALIGN float rule_scale[kMaxGroups] = {};  // Of the range rule, not rounded yet.
  HWY_ALIGN float scale[kMaxGroups] = {};       // As stored.
  HWY_ALIGN float bias[kMaxGroups] = {};        // As stored; the range rule needs no rounding here.
};

// Sums of one row.
struct RowError {
  HWY_ALIGN float sum_squares[kLanes] = {};
  HWY_ALIGN float largest[kLanes] = {};
};

// Fills in min and max; returns whether all weights are finite.
bool FindRanges(Batch& batch, Rounding rounding) {
  const F f;
  auto not_finite = hn::Zero(f);
  for (size_t group = 0; group < batch.num_groups; group += hn::Lanes(f)) {
    const auto range = RangesOfGroups(batch.weights + group * batch.group_size, batch.group_size,
                                      batch.group_size, not_finite);
    hn::Store(range.min, f, batch.min + group);
    hn::Store(rounding == Rounding::kCpu ? range.max : hn::Max(range.max, hn::Zero(f)), f,
              batch.max + group);
  }
  return hn::AllTrue(f, hn::Eq(not_finite, hn::Zero(f)));
}

// Fills in the grids; returns whether every group has one.
template <Dtype kDtype>
bool FindGrids(Batch& batch, const QuantizeOptions& options) {
  const F f;
  const auto n = hn::Set(f, static_cast<float>((1 << options.choice.bits) - 1));
  bool usable = true;
  for (size_t group = 0; group < batch.num_groups; group += hn::Lanes(f)) {
    const auto grid = RangeRule(hn::Load(f, batch.min + group), hn::Load(f, batch.max + group), n,
                                options.rounding);
    const auto stored = Stored<kDtype>(grid.scale);
    usable &= hn::AllTrue(f, Usable(stored));
    hn::Store(grid.scale, f, batch.rule_scale + group);
    hn::Store(stored, f, batch.scale + group);
    hn::Store(grid.bias, f, batch.bias + group);
  }
  return usable;
}

// Column, within the batch, of the first group without a grid; 0 if all have one.
size_t FirstUnusable(const Batch& batch) {
  for (size_t group = 0; group < batch.num_groups; ++group) {
    if (!std::isfinite(batch.scale[group]) || batch.scale[group] == 0) {
      return group * batch.group_size;
    }
  }
  return 0;
}

// Integers from 0 to 255: at 2^23 the lowest bit of an f32 counts ones. Not TruncateTo, which is
// wrong for AVX3_DL in Highway 1.0.3.
HWY_INLINE hn::Vec<hn::Rebind<uint8_t, F>> LowBytes(FV integers) {
  const auto shifted = hn::BitCast(U(), hn::Add(integers, hn::Set(F(), 0x1p23f)));
  return hn::U8FromU32(hn::And(shifted, hn::Set(U(), 0xFF)));
}

// Fills in the codes, nearest on the grid of `code_scales`, and adds their errors on the stored
// grid to `error`. kExact: code * scale is exact in f32, as it is for 16-bit scales, so that a
// fused multiply-add gives the same bits.
template <Rounding kRounding, bool kExact>
void ChooseCodes(const float* HWY_RESTRICT code_scales, int bits, Batch& batch, RowError& error) {
  const F f;
  const hn::Rebind<uint8_t, F> u8;
  const auto zero = hn::Zero(f);
  const auto n = hn::Set(f, static_cast<float>((1 << bits) - 1));
  for (size_t first = 0; first < kLanes; first += hn::Lanes(f)) {
    auto sum_squares = hn::Load(f, error.sum_squares + first);
    auto largest = hn::Load(f, error.largest + first);
    for (size_t group = 0; group < batch.num_groups; ++group) {
      const auto code_scale = hn::Set(f, code_scales[group]);
      const auto scale = hn::Set(f, batch.scale[group]);
      const auto bias = hn::Set(f, batch.bias[group]);
      const size_t begin = group * batch.group_size;
      for (size_t k = begin + first; k < begin + batch.group_size; k += kLanes) {
        const auto w = hn::Load(f, batch.weights + k);
        // Division, not multiplication by a reciprocal: ties are common, and MLX divides.
        const auto t = hn::Min(hn::Max(hn::Div(hn::Sub(w, bias), code_scale), zero), n);
        const auto q = kRounding == Rounding::kCpu ? RoundHalfToEven(t) : RoundHalfUp(t);
        hn::Store(LowBytes(q), u8, batch.codes + k);
        const auto decoded = kExact ? hn::MulAdd(q, scale, bias) : hn::Add(hn::Mul(q, scale), bias);
        const auto e = hn::Sub(w, decoded);
        sum_squares = hn::Add(sum_squares, hn::Mul(e, e));
        largest = hn::Max(largest, hn::Abs(e));
      }
    }
    hn::Store(sum_squares, f, error.sum_squares + first);
    hn::Store(largest, f, error.largest + first);
  }
}

// Moves the upper half of every 2 * kHalf bits down by kShift.
template <int kHalf, int kShift, class V>
V CloseGap(V v) {
  const hn::DFromV<V> d;
  constexpr uint64_t kLower = ~uint64_t{0} / ((uint64_t{1} << kHalf) + 1);  // E.g. 0x00FF00FF...
  const auto lower = hn::Set(d, kLower);
  return hn::Or(hn::And(v, lower), hn::ShiftRight<kShift>(hn::AndNot(lower, v)));
}

// Packs codes [num_codes], a multiple of 32, to num_codes * kBits / 8 bytes. Neighbours are joined
// three times, which brings the 8 codes of a 64-bit lane to its low 8 * kBits bits.
template <int kBits>
void JoinCodes(const uint8_t* HWY_RESTRICT codes, size_t num_codes, uint8_t* HWY_RESTRICT packed) {
  const hn::ScalableTag<uint64_t> d;
  HWY_ALIGN uint64_t joined[kBatch / 8];
  std::memcpy(joined, codes, num_codes);
  for (size_t i = 0; i < num_codes / 8; i += hn::Lanes(d)) {
    auto v = CloseGap<8, 8 - kBits>(hn::Load(d, joined + i));
    v = CloseGap<16, 16 - 2 * kBits>(v);
    v = CloseGap<32, 32 - 4 * kBits>(v);
    hn::Store(v, d, joined + i);
  }
  for (size_t i = 0; i < num_codes / 8; ++i) std::memcpy(packed + i * kBits, joined + i, kBits);
}

void StoreCodes(const Batch& batch, int bits, uint8_t* HWY_RESTRICT packed) {
  const size_t num_codes = batch.num_groups * batch.group_size;
  switch (bits) {
    case 2:
      return JoinCodes<2>(batch.codes, num_codes, packed);
    case 3:
      return JoinCodes<3>(batch.codes, num_codes, packed);
    case 4:
      return JoinCodes<4>(batch.codes, num_codes, packed);
    case 5:
      return JoinCodes<5>(batch.codes, num_codes, packed);
    case 6:
      return JoinCodes<6>(batch.codes, num_codes, packed);
    default:
      std::memcpy(packed, batch.codes, num_codes);
  }
}

// Writes one value per group; kDtype holds it exactly.
template <Dtype kDtype>
void StoreValues(const float* HWY_RESTRICT values, size_t count, uint8_t* HWY_RESTRICT out) {
  const F f;
  HWY_ALIGN uint32_t bits[kMaxGroups];
  for (size_t i = 0; i < count; i += hn::Lanes(f)) {
    hn::Store(BitsFromFloat<kDtype>(hn::Load(f, values + i)), U(), bits + i);
  }
  constexpr size_t kBytes = kDtype == Dtype::kF32 ? 4 : 2;
  for (size_t i = 0; i < count; ++i) std::memcpy(out + i * kBytes, bits + i, kBytes);
}

// Lanes are added up in a tree.
void AddRow(RowError row, StoredError& error) {
  for (size_t half = kLanes / 2; half != 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) {
      row.sum_squares[i] += row.sum_squares[i + half];
      row.largest[i] = HWY_MAX(row.largest[i], row.largest[i + half]);
    }
  }
  error.sum_squares += static_cast<double>(row.sum_squares[0]);
  error.largest = HWY_MAX(error.largest, row.largest[0]);
}

template <Dtype kDtype>
QuantizeOutcome QuantizeRows(const MatrixView& matrix, const QuantizeOptions& options,
                             const PackedMatrix* out) {
  constexpr bool kExact = kDtype != Dtype::kF32;
  constexpr size_t kBytes = kExact ? 2 : 4;
  const auto bits = static_cast<size_t>(options.choice.bits);
  const auto group_size = static_cast<size_t>(options.choice.group_size);
  const auto choose_codes = options.rounding == Rounding::kCpu
                                ? ChooseCodes<Rounding::kCpu, kExact>
                                : ChooseCodes<Rounding::kMetal, kExact>;
  Batch batch;
  batch.group_size = group_size;

  QuantizeOutcome outcome;
  for (size_t row = 0; row < matrix.rows; ++row) {
    RowError error;
    for (size_t col = 0; col < matrix.cols; col += kBatch) {
      const size_t at = row * matrix.cols + col;
      const size_t count = HWY_MIN(kBatch, matrix.cols - col);
      batch.num_groups = count / group_size;
      LoadWeights<kDtype>(matrix.data + at * kBytes, count, batch.weights);
      const bool finite = FindRanges(batch, options.rounding);
      if (!FindGrids<kDtype>(batch, options) || !finite) {
        return {.error = {}, .refused = true, .row = row, .col = col + FirstUnusable(batch)};
      }
      if (options.quantizer == Quantizer::kOpt) {
        SearchGrids({.bits = options.choice.bits,
                     .group_size = group_size,
                     .num_groups = batch.num_groups,
                     .dtype = kDtype,
                     .weights = batch.weights,
                     .column_weights =
                         options.column_weights.empty() ? nullptr : &options.column_weights[col],
                     .rule_scale = batch.rule_scale,
                     .scale = batch.scale,
                     .bias = batch.bias});
      }
      choose_codes(options.quantizer == Quantizer::kRtn ? batch.rule_scale : batch.scale,
                   options.choice.bits, batch, error);
      if (out == nullptr) continue;
      StoreCodes(batch, options.choice.bits, out->codes.data() + at * bits / 8);
      StoreValues<kDtype>(batch.scale, batch.num_groups,
                          out->scales.data() + at / group_size * kBytes);
      StoreValues<kDtype>(batch.bias, batch.num_groups,
                          out->biases.data() + at / group_size * kBytes);
    }
    AddRow(error, outcome.error);
  }
  return outcome;
}

QuantizeOutcome QuantizeMatrix(const MatrixView& matrix, const QuantizeOptions& options,
                               const PackedMatrix* out) {
  switch (matrix.dtype) {
    case Dtype::kBF16:
      return QuantizeRows<Dtype::kBF16>(matrix, options, out);
    case Dtype::kF16:
      return QuantizeRows<Dtype::kF16>(matrix, options, out);
    default:
      return QuantizeRows<Dtype::kF32>(matrix, options, out);
  }
}

const char* Target() { return hwy::TargetName(HWY_TARGET); }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ram
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ram {

HWY_EXPORT(QuantizeMatrix);
HWY_EXPORT(Target);

namespace {

constexpr std::array<std::string_view, 3> kQuantizerNames = {"rtn", "rtn+", "opt"};
constexpr std::array<std::string_view, 2> kRoundingNames = {"cpu", "metal"};

// Column weights beyond this could overflow the sums of kOpt.
constexpr float kLargestColumnWeight = 1e30f;

size_t BytesOf(Dtype dtype) { return static_cast<size_t>(BitsOf(dtype)) / 8; }

Error Invalid(std::string message) { return {ErrorCode::kInvalidArgument, std::move(message)}; }

Status CheckFormat(Dtype dtype, const Choice& choice, size_t cols) {
  if (dtype != Dtype::kBF16 && dtype != Dtype::kF16 && dtype != Dtype::kF32) {
    return Invalid(fmt::format("dtype {}: expected BF16, F16 or F32", DtypeName(dtype)));
  }
  if (std::ranges::find(kAffineChoices, choice) == kAffineChoices.end()) {
    return Invalid(fmt::format("{} bits in groups of {} are not an affine choice", choice.bits,
                               choice.group_size));
  }
  if (!IsLegal(choice, cols)) {
    return Invalid(fmt::format("{} columns are not a positive multiple of the group size {}", cols,
                               choice.group_size));
  }
  return Done{};
}

Status CheckBytes(std::string_view what, size_t bytes, size_t expected) {
  if (bytes == expected) return Done{};
  return Invalid(fmt::format("{}: {} bytes where {} are needed", what, bytes, expected));
}

Status CheckBits(int bits) {
  if (std::ranges::find(kBits, bits) != kBits.end()) return Done{};
  return Invalid(fmt::format("{} bits: expected 2, 3, 4, 5, 6 or 8", bits));
}

// The sizes of codes, scales and biases.
Status CheckStored(size_t codes, size_t scales, size_t biases, Dtype dtype, const Choice& choice,
                   size_t num_weights) {
  const size_t num_groups = num_weights / static_cast<size_t>(choice.group_size);
  const size_t code_bytes = num_weights / 8 * static_cast<size_t>(choice.bits);
  RAM_RETURN_IF_ERROR(CheckBytes("codes", codes, code_bytes));
  RAM_RETURN_IF_ERROR(CheckBytes("scales", scales, num_groups * BytesOf(dtype)));
  return CheckBytes("biases", biases, num_groups * BytesOf(dtype));
}

Status CheckColumnWeights(const QuantizeOptions& options, size_t cols) {
  if (options.quantizer != Quantizer::kOpt || options.column_weights.empty()) return Done{};
  if (options.column_weights.size() != cols) {
    return Invalid(
        fmt::format("{} column weights for {} columns", options.column_weights.size(), cols));
  }
  for (size_t col = 0; col < cols; ++col) {
    const float weight = options.column_weights[col];
    if (!(weight >= 0 && weight <= kLargestColumnWeight)) {
      return Invalid(fmt::format("column weight {} is {}: expected 0 to {}", col, weight,
                                 kLargestColumnWeight));
    }
  }
  return Done{};
}

// Says what is wrong in the row that was refused.
Error Refusal(const MatrixView& matrix, const QuantizeOptions& options,
              const QuantizeOutcome& outcome) {
  for (size_t col = 0; col < matrix.cols; ++col) {
    const float weight = FloatAt(matrix.data, matrix.dtype, outcome.row * matrix.cols + col);
    if (!std::isfinite(weight)) {
      return {ErrorCode::kCorrupt, fmt::format("row {}, column {} is {}", outcome.row, col,
                                               std::isnan(weight) ? "NaN" : "infinite")};
    }
  }
  return {ErrorCode::kCorrupt,
          fmt::format("row {}, column {}: the group of {} weights that starts here is too large "
                      "for a scale",
                      outcome.row, outcome.col, options.choice.group_size)};
}

Result<StoredError> CheckAndQuantize(const MatrixView& matrix, const QuantizeOptions& options,
                                     const PackedMatrix* out) {
  RAM_RETURN_IF_ERROR(CheckFormat(matrix.dtype, options.choice, matrix.cols));
  RAM_RETURN_IF_ERROR(CheckColumnWeights(options, matrix.cols));
  if (out != nullptr) {
    RAM_RETURN_IF_ERROR(CheckStored(out->codes.size(), out->scales.size(), out->biases.size(),
                                    matrix.dtype, options.choice, matrix.rows * matrix.cols));
  }
  const QuantizeOutcome outcome = HWY_DYNAMIC_DISPATCH(QuantizeMatrix)(matrix, options, out);
  if (outcome.refused) return Refusal(matrix, options, outcome);
  return outcome.error;
}

template <class Value, size_t kCount>
Result<Value> ParseName(const std::array<std::string_view, kCount>& names, std::string_view name,
                        std::string_view what) {
  const auto found = std::ranges::find(names, name);
  if (found != names.end()) return static_cast<Value>(found - names.begin());
  return Invalid(
      fmt::format("\"{}\" is not a {}: expected {}", name, what, fmt::join(names, ", ")));
}

}  // namespace

std::string_view QuantizerName(Quantizer quantizer) {
  return kQuantizerNames[static_cast<size_t>(quantizer)];
}

Result<Quantizer> ParseQuantizer(std::string_view name) {
  return ParseName<Quantizer>(kQuantizerNames, name, "quantizer");
}

std::string_view RoundingName(Rounding rounding) {
  return kRoundingNames[static_cast<size_t>(rounding)];
}

Result<Rounding> ParseRounding(std::string_view name) {
  return ParseName<Rounding>(kRoundingNames, name, "rounding");
}

Result<StoredError> Quantize(const MatrixView& weights, const QuantizeOptions& options,
                             const PackedMatrix& out) {
  return CheckAndQuantize(weights, options, &out);
}

Result<StoredError> QuantizeError(const MatrixView& weights, const QuantizeOptions& options) {
  return CheckAndQuantize(weights, options, nullptr);
}

// A byte at a time: these serve tools and tests, Quantize has its own.
Status PackCodes(std::span<const uint8_t> codes, int bits, std::span<uint8_t> packed) {
  RAM_RETURN_IF_ERROR(CheckBits(bits));
  const auto width = static_cast<size_t>(bits);
  if (codes.size() * width != packed.size() * 8) {
    return Invalid(
        fmt::format("{} codes of {} bits do not fill {} bytes", codes.size(), bits, packed.size()));
  }
  uint32_t pending = 0;
  size_t num_pending = 0;
  size_t at = 0;
  for (size_t i = 0; i < codes.size(); ++i) {
    if (codes[i] >> width != 0) {
      return Invalid(fmt::format("code {} is {}: more than {} bits", i, codes[i], bits));
    }
    pending |= static_cast<uint32_t>(codes[i]) << num_pending;
    num_pending += width;
    if (num_pending >= 8) {
      packed[at++] = static_cast<uint8_t>(pending);
      pending >>= 8;
      num_pending -= 8;
    }
  }
  return Done{};
}

Status UnpackCodes(std::span<const uint8_t> packed, int bits, std::span<uint8_t> codes) {
  RAM_RETURN_IF_ERROR(CheckBits(bits));
  const auto width = static_cast<size_t>(bits);
  if (codes.size() * width != packed.size() * 8) {
    return Invalid(
        fmt::format("{} bytes do not hold {} codes of {} bits", packed.size(), codes.size(), bits));
  }
  uint32_t pending = 0;
  size_t num_pending = 0;
  size_t at = 0;
  for (uint8_t& code : codes) {
    if (num_pending < width) {
      pending |= static_cast<uint32_t>(packed[at++]) << num_pending;
      num_pending += 8;
    }
    code = static_cast<uint8_t>(pending & ((1u << width) - 1));
    pending >>= width;
    num_pending -= width;
  }
  return Done{};
}

Status Dequantize(std::span<const uint8_t> codes, std::span<const uint8_t> scales,
                  std::span<const uint8_t> biases, Dtype dtype, const Choice& choice, size_t rows,
                  size_t cols, std::span<float> values) {
  RAM_RETURN_IF_ERROR(CheckFormat(dtype, choice, cols));
  RAM_RETURN_IF_ERROR(
      CheckStored(codes.size(), scales.size(), biases.size(), dtype, choice, rows * cols));
  if (values.size() != rows * cols) {
    return Invalid(fmt::format("{} values for {} x {} weights", values.size(), rows, cols));
  }
  const auto group_size = static_cast<size_t>(choice.group_size);
  const size_t group_bytes = group_size / 8 * static_cast<size_t>(choice.bits);
  std::array<uint8_t, 128> unpacked;
  const auto group_codes = std::span(unpacked).first(group_size);
  for (size_t group = 0; group < values.size() / group_size; ++group) {
    RAM_RETURN_IF_ERROR(
        UnpackCodes(codes.subspan(group * group_bytes, group_bytes), choice.bits, group_codes));
    const float scale = FloatAt(scales.data(), dtype, group);
    const float bias = FloatAt(biases.data(), dtype, group);
    for (size_t i = 0; i < group_size; ++i) {
      values[group * group_size + i] = static_cast<float>(group_codes[i]) * scale + bias;
    }
  }
  return Done{};
}

std::string_view QuantizeTarget() { return HWY_DYNAMIC_DISPATCH(Target)(); }

}  // namespace ram
#endif  // HWY_ONCE
