// Weights of any stored form as panels for the f32 product: one vector holds the same column of as
// many rows of the matrix as there are lanes, so a panel is the transpose of a strip of rows.
//
// The 32-bit words of the rows are transposed first (4 x 4 within 128-bit blocks); then the codes
// of all lanes sit at the same bits, and are shifted out by constants, whatever their width.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "ram/base/half.h"
#include "ram/base/result.h"
#include "ram/quant/simd_targets.h"
#include "ram/runtime/matrix.h"
// After simd_targets.h.
#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "ram/quant/group_grid-inl.h"

// Compiled once for each instruction set: foreach_target.h toggles this include guard.
#if defined(RAM_RUNTIME_PANEL_DECODE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RAM_RUNTIME_PANEL_DECODE_INL_H_
#undef RAM_RUNTIME_PANEL_DECODE_INL_H_
#else
#define RAM_RUNTIME_PANEL_DECODE_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace ram {
namespace HWY_NAMESPACE {

// Columns that are decoded at a time: a multiple of every group size.
inline constexpr size_t kDepth = 256;

// Rows of the matrix as lanes of a vector (kLanes is the most that a vector has), and what is known
// of them. Lanes beyond the last row repeat it.
struct LaneRows {
  std::array<const uint8_t*, kLanes> row;
  HWY_ALIGN uint32_t words[kDepth * kLanes];
  HWY_ALIGN float scales[kDepth / 32 * kLanes];
  HWY_ALIGN float biases[kDepth / 32 * kLanes];
};

#if HWY_TARGET != HWY_SCALAR
// Block b of the vector is 16 bytes at `offset` of row first + 4 * b.
template <class D>
HWY_INLINE hn::Vec<D> LoadBlocks(D d, const LaneRows& lanes, size_t first, size_t offset) {
  if constexpr (hn::MaxLanes(d) == 4) {
    return hn::LoadU(d, reinterpret_cast<const uint32_t*>(lanes.row[first] + offset));
  } else {
    const hn::Half<D> half;
    return hn::Combine(d, LoadBlocks(half, lanes, first + hn::MaxLanes(d) / 2, offset),
                       LoadBlocks(half, lanes, first, offset));
  }
}
#endif

// Asks for the bytes that will be transposed after the ones at `offset`.
HWY_INLINE void PrefetchNext(const LaneRows& lanes, size_t offset, size_t num_bytes) {
  for (size_t lane = 0; lane < hn::Lanes(U()); ++lane) {
    const uint8_t* next = lanes.row[lane] + offset + num_bytes;
    for (size_t i = 0; i < num_bytes; i += 64) hwy::Prefetch(next + i);
  }
}

// words[w * N + lane] = 32-bit word w of the row of that lane, from `offset`. A last word may be
// half a word.
HWY_INLINE void TransposeWords(LaneRows& lanes, size_t offset, size_t num_bytes) {
  const U u;
  const size_t n = hn::Lanes(u);
  size_t word = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::Repartition<uint64_t, U> u64;
  for (; (word + 4) * 4 <= num_bytes; word += 4) {
    const auto r0 = LoadBlocks(u, lanes, 0, offset + 4 * word);
    const auto r1 = LoadBlocks(u, lanes, 1, offset + 4 * word);
    const auto r2 = LoadBlocks(u, lanes, 2, offset + 4 * word);
    const auto r3 = LoadBlocks(u, lanes, 3, offset + 4 * word);
    const auto low01 = hn::BitCast(u64, hn::InterleaveLower(u, r0, r1));
    const auto low23 = hn::BitCast(u64, hn::InterleaveLower(u, r2, r3));
    const auto high01 = hn::BitCast(u64, hn::InterleaveUpper(u, r0, r1));
    const auto high23 = hn::BitCast(u64, hn::InterleaveUpper(u, r2, r3));
    uint32_t* to = lanes.words + word * n;
    hn::Store(hn::BitCast(u, hn::InterleaveLower(u64, low01, low23)), u, to);
    hn::Store(hn::BitCast(u, hn::InterleaveUpper(u64, low01, low23)), u, to + n);
    hn::Store(hn::BitCast(u, hn::InterleaveLower(u64, high01, high23)), u, to + 2 * n);
    hn::Store(hn::BitCast(u, hn::InterleaveUpper(u64, high01, high23)), u, to + 3 * n);
  }
#endif
  for (; word * 4 < num_bytes; ++word) {
    for (size_t lane = 0; lane < n; ++lane) {
      uint32_t value = 0;
      std::memcpy(&value, lanes.row[lane] + offset + 4 * word, HWY_MIN(4, num_bytes - 4 * word));
      lanes.words[word * n + lane] = value;
    }
  }
}

// Code kCode of 32, which are kBits words of each lane.
template <int kBits, size_t kCode>
HWY_INLINE UV UnpackCode(const uint32_t* HWY_RESTRICT words) {
  const U u;
  constexpr int kFirst = static_cast<int>(kCode) * kBits;
  constexpr int kShift = kFirst % 32;
  const uint32_t* word = words + kFirst / 32 * hn::Lanes(u);
  auto code = hn::Load(u, word);
  if constexpr (kShift != 0) code = hn::ShiftRight<kShift>(code);
  if constexpr (kShift + kBits > 32) {
    code = hn::Or(code, hn::ShiftLeft<32 - kShift>(hn::Load(u, word + hn::Lanes(u))));
  }
  return kShift + kBits == 32 ? code : hn::And(code, hn::Set(u, (1U << kBits) - 1));
}

HWY_INLINE void StoreWeight(UV code, FV scale, FV bias, float* HWY_RESTRICT out) {
  const F f;
  hn::Store(hn::MulAdd(hn::ConvertTo(f, hn::BitCast(I(), code)), scale, bias), f, out);
}

template <int kBits>
HWY_INLINE void DecodeUnit(const uint32_t* HWY_RESTRICT words, FV scale, FV bias,
                           float* HWY_RESTRICT out, size_t pitch) {
  [&]<size_t... kCode>(std::index_sequence<kCode...>) HWY_ATTR {
    (StoreWeight(UnpackCode<kBits, kCode>(words), scale, bias, out + kCode * pitch), ...);
  }
  (std::make_index_sequence<32>());
}

// The values of E2M1 codes, doubled, plus 12: 0 to 24, so that MXFP4 decodes as an affine format.
// Every step is exact.
alignas(16) inline constexpr uint8_t kE2M1Times2Plus12[16] = {12, 13, 14, 15, 16, 18, 20, 24,
                                                              12, 11, 10, 9,  8,  6,  4,  0};

// Four codes, each in the low bits of a byte, to four table values.
HWY_INLINE UV LookUpE2M1(UV nibbles) {
#if HWY_TARGET == HWY_SCALAR
  const U u;
  const uint32_t from = hn::GetLane(nibbles);
  uint32_t to = 0;
  for (uint32_t i = 0; i < 32; i += 8) {
    to |= static_cast<uint32_t>(kE2M1Times2Plus12[(from >> i) & 15U]) << i;
  }
  return hn::Set(u, to);
#else
  const hn::Repartition<uint8_t, U> u8;
  return hn::BitCast(
      U(), hn::TableLookupBytes(hn::LoadDup128(u8, kE2M1Times2Plus12), hn::BitCast(u8, nibbles)));
#endif
}

// Codes 2i (even) and 2i + 1 (odd) of a word as table values in byte i.
struct E2M1Bytes {
  HWY_INLINE E2M1Bytes() {}  // NOLINT: what g++ generates on ARM lacks the instruction set.
  HWY_INLINE E2M1Bytes(UV evens, UV odds) : even(evens), odd(odds) {}

  UV even, odd;
};
HWY_INLINE E2M1Bytes UnpackE2M1(UV word) {
  const auto mask = hn::Set(U(), 0x0F0F0F0F);
  return {LookUpE2M1(hn::And(word, mask)), LookUpE2M1(hn::And(hn::ShiftRight<4>(word), mask))};
}

template <size_t kByte>
HWY_INLINE UV ByteOf(UV word) {
  if constexpr (kByte == 3) return hn::ShiftRight<24>(word);
  const auto mask = hn::Set(U(), 0xFF);
  if constexpr (kByte == 0) return hn::And(word, mask);
  return hn::And(hn::ShiftRight<8 * kByte>(word), mask);
}

HWY_INLINE void DecodeMxfp4Unit(const uint32_t* HWY_RESTRICT words, FV scale, FV bias,
                                float* HWY_RESTRICT out, size_t pitch) {
  const U u;
  for (size_t word = 0; word < 4; ++word, out += 8 * pitch) {
    const E2M1Bytes bytes = UnpackE2M1(hn::Load(u, words + word * hn::Lanes(u)));
    [&]<size_t... kByte>(std::index_sequence<kByte...>) HWY_ATTR {
      (StoreWeight(ByteOf<kByte>(bytes.even), scale, bias, out + 2 * kByte * pitch), ...);
      (StoreWeight(ByteOf<kByte>(bytes.odd), scale, bias, out + (2 * kByte + 1) * pitch), ...);
    }
    (std::make_index_sequence<4>());
  }
}

// Scales and biases of groups [first, first + num), one vector of lanes per group.
inline void LoadGroups(const Matrix& matrix, size_t first_row, size_t num_rows, size_t first,
                       size_t num, LaneRows& lanes) {
  const size_t n = hn::Lanes(F());
  for (size_t lane = 0; lane < n; ++lane) {
    const size_t row = first_row + HWY_MIN(lane, num_rows - 1);
    const uint8_t* scales = matrix.scales + row * matrix.scale_row_bytes();
    if (matrix.form == Matrix::Form::kMxfp4) {
      for (size_t i = 0; i < num; ++i) {
        const float scale = FloatFromE8M0(scales[first + i]);
        lanes.scales[i * n + lane] = scale * 0.5F;
        lanes.biases[i * n + lane] = scale * -6.0F;
      }
      continue;
    }
    const uint8_t* biases = matrix.biases + row * matrix.scale_row_bytes();
    for (size_t i = 0; i < num; ++i) {
      lanes.scales[i * n + lane] = FloatAt(scales, matrix.dtype, first + i);
      lanes.biases[i * n + lane] = FloatAt(biases, matrix.dtype, first + i);
    }
  }
}

template <Dtype kDtype>
HWY_INLINE void DecodeHalves(const uint32_t* HWY_RESTRICT words, size_t num_cols,
                             float* HWY_RESTRICT out, size_t pitch) {
  const F f;
  const U u;
  for (size_t col = 0; col < num_cols; col += 2, words += hn::Lanes(u)) {
    const auto word = hn::Load(u, words);
    hn::Store(FloatFromBits<kDtype>(hn::And(word, hn::Set(u, 0xFFFF))), f, out + col * pitch);
    if (col + 1 == num_cols) break;
    hn::Store(FloatFromBits<kDtype>(hn::ShiftRight<16>(word)), f, out + (col + 1) * pitch);
  }
}

// Decodes columns [first_col, first_col + num_cols), at most kDepth, of up to N rows of a matrix
// (count = 1): column c goes to the N floats at out + c * pitch, one per row. first_col is a
// multiple of kDepth; num_cols of the group size.
HWY_INLINE void DecodeLanes(const Matrix& matrix, size_t first_row, size_t num_rows,
                            size_t first_col, size_t num_cols, LaneRows& lanes,
                            float* HWY_RESTRICT out, size_t pitch) {
  const F f;
  const size_t n = hn::Lanes(f);
  const size_t row_bytes = matrix.row_bytes();
  for (size_t lane = 0; lane < n; ++lane) {
    lanes.row[lane] = matrix.values + (first_row + HWY_MIN(lane, num_rows - 1)) * row_bytes;
  }
  if (matrix.form == Matrix::Form::kDense) {
    const size_t bytes = matrix.dtype == Dtype::kF32 ? 4 : 2;
    PrefetchNext(lanes, first_col * bytes, num_cols * bytes);
    TransposeWords(lanes, first_col * bytes, num_cols * bytes);
    if (matrix.dtype == Dtype::kBF16) {
      DecodeHalves<Dtype::kBF16>(lanes.words, num_cols, out, pitch);
    } else if (matrix.dtype == Dtype::kF16) {
      DecodeHalves<Dtype::kF16>(lanes.words, num_cols, out, pitch);
    } else {
      for (size_t col = 0; col < num_cols; ++col) {
        hn::Store(hn::BitCast(f, hn::Load(U(), lanes.words + col * n)), f, out + col * pitch);
      }
    }
    return;
  }
  const bool mxfp4 = matrix.form == Matrix::Form::kMxfp4;
  const size_t bits = mxfp4 ? 4 : static_cast<size_t>(matrix.bits);
  const size_t group_size = mxfp4 ? 32 : static_cast<size_t>(matrix.group_size);
  PrefetchNext(lanes, first_col * bits / 8, num_cols * bits / 8);
  TransposeWords(lanes, first_col * bits / 8, num_cols * bits / 8);
  LoadGroups(matrix, first_row, num_rows, first_col / group_size, num_cols / group_size, lanes);
  for (size_t col = 0; col < num_cols; col += 32) {
    const uint32_t* words = lanes.words + col / 32 * bits * n;
    const auto scale = hn::Load(f, lanes.scales + col / group_size * n);
    const auto bias = hn::Load(f, lanes.biases + col / group_size * n);
    float* to = out + col * pitch;
    if (mxfp4) {
      DecodeMxfp4Unit(words, scale, bias, to, pitch);
      continue;
    }
    switch (bits) {
      case 2:
        DecodeUnit<2>(words, scale, bias, to, pitch);
        break;
      case 3:
        DecodeUnit<3>(words, scale, bias, to, pitch);
        break;
      case 4:
        DecodeUnit<4>(words, scale, bias, to, pitch);
        break;
      case 5:
        DecodeUnit<5>(words, scale, bias, to, pitch);
        break;
      case 6:
        DecodeUnit<6>(words, scale, bias, to, pitch);
        break;
      default:
        DecodeUnit<8>(words, scale, bias, to, pitch);
        break;
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace ram
HWY_AFTER_NAMESPACE();

#endif  // RAM_RUNTIME_PANEL_DECODE_INL_H_
