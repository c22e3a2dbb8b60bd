// The f32 product of up to kFewRows rows (decoding text): weights are used as they are stored, read
// once from memory, and multiplied by all rows of x.
//
// A step takes one vector of 32-bit lanes with kCodes weights each. Code i stays at its bits of the
// lane, where it is worth code * 2^Power(i): x is packed in the order of the codes and times
// 2^-Power(i), which is exact, so nothing is shifted. Scales multiply the sums of a step (a lane
// lies within one group); biases multiply the sums of x over groups. Each row of x has its own
// sums, so its result does not depend on how many there are.

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "ram/quant/simd_targets.h"
#include "ram/runtime/fma_kernels.h"
// After simd_targets.h.
#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "ram/runtime/panel_decode-inl.h"

// Compiled once for each instruction set: foreach_target.h toggles this include guard.
#if defined(RAM_RUNTIME_PACKED_DOT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RAM_RUNTIME_PACKED_DOT_INL_H_
#undef RAM_RUNTIME_PACKED_DOT_INL_H_
#else
#define RAM_RUNTIME_PACKED_DOT_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace ram {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR  // There, panels of one column serve few rows too.

inline constexpr size_t kDotLanes = hn::MaxLanes(F());

// ---------------------------------------------------------------------------------------------
// How lanes hold weights. 4 lanes are kBlockBytes bytes of a row; a step reads kSlack bytes more
// than it uses. Load gives the words of a step, Value weight i of each lane, times 2^Power.

template <Dtype kDtype>
struct DenseLanes {
  static constexpr size_t kCodes = kDtype == Dtype::kF32 ? 1 : 2;
  static constexpr size_t kBlockBytes = 16;
  static constexpr size_t kSlack = 0;
  static constexpr bool kGroups = false;
  static constexpr int Power(size_t /*code*/, size_t /*lane*/) { return 0; }
  static HWY_INLINE UV Load(const uint8_t* row) {
    return hn::LoadU(U(), reinterpret_cast<const uint32_t*>(row));
  }
  template <size_t kCode>
  static HWY_INLINE FV Value(UV word) {
    if constexpr (kDtype == Dtype::kF32) {
      return hn::BitCast(F(), word);
    } else if constexpr (kDtype == Dtype::kBF16) {
      return hn::BitCast(
          F(), kCode == 0 ? hn::ShiftLeft<16>(word) : hn::And(word, hn::Set(U(), 0xFFFF0000)));
    } else {
      return FloatFromBits<kDtype>(kCode == 0 ? hn::And(word, hn::Set(U(), 0xFFFF))
                                              : hn::ShiftRight<16>(word));
    }
  }
};

// 2, 4 and 8 bits: a lane is a 32-bit word of the stream. The last code is shifted down: at its
// place it would make the word negative.
template <int kBits>
struct WordLanes {
  static constexpr size_t kCodes = 32 / kBits;
  static constexpr size_t kBlockBytes = 16;
  static constexpr size_t kSlack = 0;
  static constexpr bool kGroups = true;
  static constexpr int Power(size_t code, size_t /*lane*/) {
    return code + 1 == kCodes ? 0 : static_cast<int>(code) * kBits;
  }
  static HWY_INLINE UV Load(const uint8_t* row) {
    return hn::LoadU(U(), reinterpret_cast<const uint32_t*>(row));
  }
  template <size_t kCode>
  static HWY_INLINE FV Value(UV word) {
    constexpr uint32_t kMask = ((1U << kBits) - 1) << (kCode * kBits);
    const auto code =
        kCode + 1 == kCodes ? hn::ShiftRight<32 - kBits>(word) : hn::And(word, hn::Set(U(), kMask));
    return hn::ConvertTo(F(), hn::BitCast(I(), code));
  }
};

// 3, 5 and 6 bits: three bytes in the low bits of a lane. 3 bits: 8 codes; 6 bits: 4 codes; 5 bits:
// 4 codes, which begin at bit 4 in odd lanes, for 5 bytes are two lanes.
template <int kBits>
struct ByteLanes {
  static constexpr size_t kCodes = kBits == 3 ? 8 : 4;
  static constexpr size_t kBlockBytes = kBits == 5 ? 10 : 12;
  static constexpr size_t kSlack = 16 - kBlockBytes;
  static constexpr bool kGroups = true;
  static constexpr int Power(size_t code, size_t lane) {
    return static_cast<int>(code) * kBits + (kBits == 5 && lane % 2 == 1 ? 4 : 0);
  }
  // 16-byte block b of the vector is read from row + b * kBlockBytes.
  template <class D>
  static HWY_INLINE hn::Vec<D> LoadBlocks(D d, const uint8_t* row) {
    if constexpr (hn::MaxLanes(d) == 16) {
      return hn::LoadU(d, row);
    } else {
      const hn::Half<D> half;
      constexpr size_t kHalfBytes = hn::MaxLanes(d) / 32 * kBlockBytes;
      return hn::Combine(d, LoadBlocks(half, row + kHalfBytes), LoadBlocks(half, row));
    }
  }
  static HWY_INLINE UV Load(const uint8_t* row) {
    constexpr uint8_t kNone = 0x80;
    alignas(16) static constexpr uint8_t kThrees[16] = {0, 1, 2, kNone, 3, 4,  5,  kNone,
                                                        6, 7, 8, kNone, 9, 10, 11, kNone};
    alignas(16) static constexpr uint8_t kFives[16] = {0, 1, 2, kNone, 2, 3, 4, kNone,
                                                       5, 6, 7, kNone, 7, 8, 9, kNone};
    const hn::Repartition<uint8_t, U> u8;
    const auto bytes = hn::LoadDup128(u8, kBits == 5 ? kFives : kThrees);
    return hn::BitCast(U(), hn::TableLookupBytesOr0(LoadBlocks(u8, row), bytes));
  }
  template <size_t kCode>
  static HWY_INLINE FV Value(UV word) {
    const U u;
    constexpr uint32_t kMask = ((1U << kBits) - 1) << (kCode * kBits);
    auto mask = hn::Set(u, kMask);
    if constexpr (kBits == 5) {  // Odd lanes are the upper halves of 64 bits.
      const hn::Repartition<uint64_t, U> u64;
      mask = hn::BitCast(u, hn::Set(u64, (uint64_t{kMask} << 36) | kMask));
    }
    return hn::ConvertTo(F(), hn::BitCast(I(), hn::And(word, mask)));
  }
};

// Bytes of table values: even codes in one word, odd ones in another.
struct Mxfp4Lanes {
  static constexpr size_t kCodes = 8;
  static constexpr size_t kBlockBytes = 16;
  static constexpr size_t kSlack = 0;
  static constexpr bool kGroups = true;
  static constexpr int Power(size_t code, size_t /*lane*/) {
    return code / 2 == 3 ? 0 : static_cast<int>(code / 2) * 8;
  }
  static HWY_INLINE E2M1Bytes Load(const uint8_t* row) {
    return UnpackE2M1(hn::LoadU(U(), reinterpret_cast<const uint32_t*>(row)));
  }
  template <size_t kCode>
  static HWY_INLINE FV Value(const E2M1Bytes& bytes) {
    return WordLanes<8>::Value<kCode / 2>(kCode % 2 == 0 ? bytes.even : bytes.odd);
  }
};

// Calls visit(lanes) with the lanes of a matrix.
template <class Visit>
auto WithLanes(const Matrix& matrix, const Visit& visit) {
  if (matrix.form == Matrix::Form::kMxfp4) return visit(Mxfp4Lanes());
  if (matrix.form == Matrix::Form::kDense) {
    if (matrix.dtype == Dtype::kBF16) return visit(DenseLanes<Dtype::kBF16>());
    if (matrix.dtype == Dtype::kF16) return visit(DenseLanes<Dtype::kF16>());
    return visit(DenseLanes<Dtype::kF32>());
  }
  switch (matrix.bits) {
    case 2:
      return visit(WordLanes<2>());
    case 3:
      return visit(ByteLanes<3>());
    case 4:
      return visit(WordLanes<4>());
    case 5:
      return visit(ByteLanes<5>());
    case 6:
      return visit(ByteLanes<6>());
    default:
      return visit(WordLanes<8>());
  }
}

// ---------------------------------------------------------------------------------------------
// Packing x: [step][code][row][lane], zeros beyond the last column; then, for grouped forms, the
// sums of the groups [row][group], zeros up to a whole vector.

// Rows are packed, and kernels exist, for 1, 2 and 4.
inline size_t PaddedRows(size_t rows) { return rows <= 2 ? rows : 4; }

inline size_t GroupSize(const Matrix& matrix) {
  return matrix.form == Matrix::Form::kMxfp4 ? 32 : static_cast<size_t>(matrix.group_size);
}

inline size_t RoundUp(size_t value, size_t to) { return (value + to - 1) / to * to; }

// Groups of a row, up to a whole vector; 0 for dense matrices.
inline size_t PaddedGroups(const Matrix& matrix) {
  if (matrix.form == Matrix::Form::kDense) return 0;
  return RoundUp(matrix.cols / GroupSize(matrix), kDotLanes);
}

template <class Lanes>
size_t NumSteps(size_t cols) {
  return (cols + kDotLanes * Lanes::kCodes - 1) / (kDotLanes * Lanes::kCodes);
}

// Floats of the packed x of `rows` rows.
inline size_t PackedFloats(const Matrix& matrix, size_t rows) {
  const size_t per_row = WithLanes(matrix, [&](auto lanes) {
    using Lanes = decltype(lanes);
    return NumSteps<Lanes>(matrix.cols) * kDotLanes * Lanes::kCodes;
  });
  return RoundUp(PaddedRows(rows) * (per_row + PaddedGroups(matrix)), kLanes);
}

template <class Lanes>
void PackRows(const Matrix& matrix, Rows x, float* HWY_RESTRICT packed) {
  constexpr size_t kCodes = Lanes::kCodes;
  const size_t rows = PaddedRows(x.rows);
  const size_t steps = NumSteps<Lanes>(matrix.cols);
  for (size_t step = 0; step < steps; ++step) {
    for (size_t row = 0; row < rows; ++row) {
      for (size_t code = 0; code < kCodes; ++code) {
        float* to = packed + ((step * kCodes + code) * rows + row) * kDotLanes;
        for (size_t lane = 0; lane < kDotLanes; ++lane) {
          const size_t col = (step * kDotLanes + lane) * kCodes + code;
          const auto power = static_cast<uint32_t>(127 - Lanes::Power(code, lane)) << 23;
          const bool exists = row < x.rows && col < matrix.cols;
          to[lane] = exists ? x.row(row)[col] * std::bit_cast<float>(power) : 0.0F;
        }
      }
    }
  }
  if constexpr (!Lanes::kGroups) return;
  const size_t group_size = GroupSize(matrix);
  const size_t groups = matrix.cols / group_size;
  float* sums = packed + steps * kCodes * rows * kDotLanes;
  std::fill_n(sums, rows * PaddedGroups(matrix), 0.0F);
  const F f;
  for (size_t row = 0; row < x.rows; ++row) {
    for (size_t group = 0; group < groups; ++group) {
      const float* from = x.row(row) + group * group_size;
      auto sum = hn::Zero(f);
      for (size_t i = 0; i < group_size; i += kDotLanes) sum = hn::Add(sum, hn::LoadU(f, from + i));
      sums[row * PaddedGroups(matrix) + group] = hn::GetLane(hn::SumOfLanes(f, sum));
    }
  }
}

// Packs 1 to kFewRows rows of x for products with matrices of this form, group size and width.
inline void PackForDot(const Matrix& matrix, Rows x, float* packed) {
  WithLanes(matrix, [&](auto lanes) { PackRows<decltype(lanes)>(matrix, x, packed); });
}

// ---------------------------------------------------------------------------------------------
// The product.

// Scales or biases of one row as f32; beyond the last, two vectors of zeros.
template <Dtype kDtype>
HWY_INLINE void WidenValues(const uint8_t* from, size_t num, float* HWY_RESTRICT to) {
  const F f;
  size_t i = 0;
  if constexpr (kDtype == Dtype::kF32) {
    std::memcpy(to, from, 4 * num);
    i = num;
  } else {
    const hn::Rebind<uint16_t, F> u16;
    for (; i + kDotLanes <= num; i += kDotLanes) {
      const auto bits = hn::LoadU(u16, reinterpret_cast<const uint16_t*>(from) + i);
      hn::StoreU(FloatFromBits<kDtype>(hn::PromoteTo(U(), bits)), f, to + i);
    }
  }
  for (; i < num; ++i) to[i] = FloatAt(from, kDtype, i);
  std::fill_n(to + num, 2 * kDotLanes, 0.0F);
}

HWY_INLINE void WidenGroups(const Matrix& matrix, size_t row, float* HWY_RESTRICT scales,
                            float* HWY_RESTRICT biases) {
  const size_t groups = matrix.cols / GroupSize(matrix);
  const uint8_t* from = matrix.scales + row * matrix.scale_row_bytes();
  if (matrix.form == Matrix::Form::kMxfp4) {
    for (size_t i = 0; i < groups; ++i) {
      const float scale = FloatFromE8M0(from[i]);
      scales[i] = scale * 0.5F;
      biases[i] = scale * -6.0F;
    }
    std::fill_n(scales + groups, 2 * kDotLanes, 0.0F);
    std::fill_n(biases + groups, 2 * kDotLanes, 0.0F);
    return;
  }
  const uint8_t* from_biases = matrix.biases + row * matrix.scale_row_bytes();
  if (matrix.dtype == Dtype::kBF16) {
    WidenValues<Dtype::kBF16>(from, groups, scales);
    WidenValues<Dtype::kBF16>(from_biases, groups, biases);
  } else if (matrix.dtype == Dtype::kF16) {
    WidenValues<Dtype::kF16>(from, groups, scales);
    WidenValues<Dtype::kF16>(from_biases, groups, biases);
  } else {
    WidenValues<Dtype::kF32>(from, groups, scales);
    WidenValues<Dtype::kF32>(from_biases, groups, biases);
  }
}

// Calls body(i) for i = 0 ... kNum - 1 as constants, so that arrays of vectors become registers.
template <size_t kNum, class Body>
HWY_INLINE void Unroll(const Body& body) {
  [&]<size_t... kIndex>(std::index_sequence<kIndex...>) HWY_ATTR {
    (body(std::integral_constant<size_t, kIndex>()), ...);
  }
  (std::make_index_sequence<kNum>());
}

// Rows of weights that are multiplied at a time, for they share the reads of x.
template <size_t kRows>
inline constexpr size_t kDotCols = kRows == 2 ? 2 : 4;

// Scales and biases of kDotCols rows of weights, `room` floats each.
struct DotGroups {
  float* scales;
  float* biases;
  size_t room;
  int shift;  // log2 of the group size.
};

// Adds steps [first, first + num) to the sums [kCols][kRows]. `values` and `x` belong to `first`;
// rows of weights are `pitch` bytes apart.
template <class Lanes, size_t kRows, size_t kCols, class Indices>
HWY_INLINE void AddSteps(const uint8_t* HWY_RESTRICT values, size_t pitch, size_t first, size_t num,
                         const float* HWY_RESTRICT x, const DotGroups& groups,
                         const Indices& lane_groups, FV* sums) {
  const F f;
  constexpr size_t kCodes = Lanes::kCodes;
  constexpr size_t kBytes = kDotLanes / 4 * Lanes::kBlockBytes;
  for (size_t step = first; step < first + num; ++step) {
    decltype(Lanes::Load(values)) words[kCols];
    Unroll<kCols>([&](auto col) HWY_ATTR {
      // Without it, waiting and computing take turns: 4 bits at 6.6 instead of 12.5 GB/s.
      hwy::Prefetch(values + (col + kCols) * pitch);
      words[col] = Lanes::Load(values + col * pitch);
    });
    values += kBytes;
    FV dots[kCols * kRows];
    Unroll<kCodes>([&](auto code) HWY_ATTR {
      FV weights[kCols];
      Unroll<kCols>([&](auto col)
                        HWY_ATTR { weights[col] = Lanes::template Value<code>(words[col]); });
      Unroll<kCols * kRows>([&](auto i) HWY_ATTR {
        const auto value = hn::Load(f, x + (code * kRows + i % kRows) * kDotLanes);
        dots[i] = code == 0 ? hn::Mul(weights[i / kRows], value)
                            : hn::MulAdd(weights[i / kRows], value, dots[i]);
      });
    });
    x += kCodes * kRows * kDotLanes;
    if constexpr (Lanes::kGroups) {
      Unroll<kCols>([&](auto col) HWY_ATTR {
        const float* from = groups.scales + col * groups.room;
        from += (step * kDotLanes * kCodes) >> groups.shift;
        const auto scale = hn::TableLookupLanes(hn::LoadU(f, from), lane_groups);
        Unroll<kRows>([&](auto row) HWY_ATTR {
          constexpr size_t kAt = col * kRows + row;
          sums[kAt] = hn::MulAdd(dots[kAt], scale, sums[kAt]);
        });
      });
    } else {
      Unroll<kCols * kRows>([&](auto i) HWY_ATTR { sums[i] = hn::Add(sums[i], dots[i]); });
    }
  }
}

// Elements [first_col + col, first_col + col + kCols) of every row of the result.
template <class Lanes, size_t kRows, size_t kCols, class Indices>
HWY_INLINE void MultiplyDotCols(const DotTask& task, size_t col, const DotGroups& groups,
                                const Indices& lane_groups) {
  const F f;
  const Matrix& matrix = *task.matrix;
  constexpr size_t kBytes = kDotLanes / 4 * Lanes::kBlockBytes;
  constexpr size_t kPackedStep = Lanes::kCodes * kRows * kDotLanes;
  const size_t row_bytes = matrix.row_bytes();
  const size_t steps = NumSteps<Lanes>(matrix.cols);
  // Steps whose reads stay within the row; the others read a copy that ends in zeros.
  const size_t whole =
      row_bytes < kBytes + Lanes::kSlack ? 0 : (row_bytes - Lanes::kSlack) / kBytes;
  const size_t row = task.first_col + col;
  const uint8_t* values = matrix.values + row * row_bytes;
  FV sums[kCols * kRows];
  for (size_t i = 0; i < kCols * kRows; ++i) sums[i] = hn::Zero(f);
  if constexpr (Lanes::kGroups) {
    const float* x_sums = task.packed_x + steps * kPackedStep;
    const size_t padded_groups = PaddedGroups(matrix);
    for (size_t i = 0; i < kCols; ++i) {
      float* biases = groups.biases + i * groups.room;
      WidenGroups(matrix, row + i, groups.scales + i * groups.room, biases);
      for (size_t g = 0; g < padded_groups; g += kDotLanes) {
        const auto bias = hn::LoadU(f, biases + g);
        for (size_t r = 0; r < kRows; ++r) {
          const auto x_sum = hn::LoadU(f, x_sums + r * padded_groups + g);
          sums[i * kRows + r] = hn::MulAdd(bias, x_sum, sums[i * kRows + r]);
        }
      }
    }
  }
  AddSteps<Lanes, kRows, kCols>(values, row_bytes, 0, whole, task.packed_x, groups, lane_groups,
                                sums);
  if (whole < steps) {
    constexpr size_t kRest = 3 * 64 + 16;
    HWY_ALIGN std::array<uint8_t, kCols* kRest> rest = {};
    for (size_t i = 0; i < kCols; ++i) {
      std::memcpy(rest.data() + i * kRest, values + i * row_bytes + whole * kBytes,
                  row_bytes - whole * kBytes);
    }
    AddSteps<Lanes, kRows, kCols>(rest.data(), kRest, whole, steps - whole,
                                  task.packed_x + whole * kPackedStep, groups, lane_groups, sums);
  }
  for (size_t i = 0; i < kCols; ++i) {
    const float bias = task.bias == nullptr ? 0.0F : task.bias[row + i];
    for (size_t r = 0; r < HWY_MIN(kRows, task.out.rows); ++r) {
      task.out.row(r)[col + i] = hn::GetLane(hn::SumOfLanes(f, sums[i * kRows + r])) + bias;
    }
  }
}

template <class Lanes, size_t kRows>
void MultiplyDotRows(const DotTask& task, std::vector<float>& scratch) {
  constexpr size_t kCols = kDotCols<kRows>;
  const size_t room = PaddedGroups(*task.matrix) + 2 * kDotLanes;
  if (scratch.size() < 2 * kCols * room) scratch.resize(2 * kCols * room);
  DotGroups groups = {scratch.data(), scratch.data() + kCols * room, room, 0};
  HWY_ALIGN std::array<int32_t, kDotLanes> groups_of_lanes = {};
  if constexpr (Lanes::kGroups) {
    groups.shift = std::countr_zero(GroupSize(*task.matrix));
    for (size_t lane = 0; lane < kDotLanes; ++lane) {
      groups_of_lanes[lane] = static_cast<int32_t>((lane * Lanes::kCodes) >> groups.shift);
    }
  }
  const auto lane_groups = hn::SetTableIndices(F(), groups_of_lanes.data());
  size_t col = 0;
  for (; col + kCols <= task.out.cols; col += kCols) {
    MultiplyDotCols<Lanes, kRows, kCols>(task, col, groups, lane_groups);
  }
  for (; kCols > 1 && col < task.out.cols; ++col) {
    MultiplyDotCols<Lanes, kRows, 1>(task, col, groups, lane_groups);
  }
}

inline void MultiplyDots(const DotTask& task, std::vector<float>& scratch) {
  WithLanes(*task.matrix, [&](auto lanes) {
    using Lanes = decltype(lanes);
    switch (PaddedRows(task.out.rows)) {
      case 1:
        return MultiplyDotRows<Lanes, 1>(task, scratch);
      case 2:
        return MultiplyDotRows<Lanes, 2>(task, scratch);
      default:
        return MultiplyDotRows<Lanes, 4>(task, scratch);
    }
  });
}

#endif  // HWY_TARGET != HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace ram
HWY_AFTER_NAMESPACE();

#endif  // RAM_RUNTIME_PACKED_DOT_INL_H_
