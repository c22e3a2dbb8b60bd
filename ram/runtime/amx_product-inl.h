// The kernels of amx_product.h, for the tile unit or for a model of it (`Unit`). Compiled for
// AVX-512 F, DQ, BW, VL, VBMI and BF16: include nothing here that has inline functions of its own,
// or the linker might choose this file's copy of them for other CPUs.

#ifndef RAM_RUNTIME_AMX_PRODUCT_INL_H_
#define RAM_RUNTIME_AMX_PRODUCT_INL_H_

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "ram/runtime/amx_product.h"
#include "ram/runtime/amx_tiles-inl.h"

namespace ram {
namespace {

// ---------------------------------------------------------------------------------------------
// Numbers.

// 32 values of f32, k in order.
struct Pair {
  __m512 low;
  __m512 high;
};

// 32 values of 16 bits.
template <TileFormat kFormat>
RAM_TILE_INLINE __m512i Narrow(Pair v) {
  if constexpr (kFormat == TileFormat::kBf16) {
    return (__m512i)_mm512_cvtne2ps_pbh(v.high, v.low);
  } else {
    const __m256i low = _mm512_cvtps_ph(v.low, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m256i high = _mm512_cvtps_ph(v.high, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
  }
}

RAM_TILE_INLINE __m512 WidenBf16(__m256i h) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

template <TileFormat kFormat>
RAM_TILE_INLINE Pair Widen(__m512i h) {
  const __m256i low = _mm512_castsi512_si256(h);
  const __m256i high = _mm512_extracti64x4_epi64(h, 1);
  if constexpr (kFormat == TileFormat::kBf16) {
    return {WidenBf16(low), WidenBf16(high)};
  } else {
    return {_mm512_cvtph_ps(low), _mm512_cvtph_ps(high)};
  }
}

// The next part of v; v becomes what it leaves over (exact).
template <TileFormat kFormat>
RAM_TILE_INLINE __m512i TakePart(Pair* v) {
  const __m512i part = Narrow<kFormat>(*v);
  const Pair taken = Widen<kFormat>(part);
  v->low = _mm512_sub_ps(v->low, taken.low);
  v->high = _mm512_sub_ps(v->high, taken.high);
  return part;
}

// 2^(14 - floor(log2 top)), which brings `top` into [2^14, 2^15); 1 for zero. Clamped where that
// power or its inverse would not be a normal number.
RAM_TILE_INLINE float PowerFor(float top) {
  const int32_t exponent = _mm_cvtsi128_si32(_mm_castps_si128(_mm_set_ss(top))) >> 23 & 255;
  if (top == 0) return 1;
  int32_t power = 14 + 127 - exponent;
  if (power > 125) power = 125;
  if (power < -125) power = -125;
  return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128((power + 127) << 23)));
}

// Mask of the lanes [0, num) of n.
RAM_TILE_INLINE __mmask16 Mask16(size_t num) {
  return num >= 16 ? __mmask16(0xFFFF) : __mmask16((1U << num) - 1);
}
RAM_TILE_INLINE __mmask32 Mask32(size_t num) {
  return num >= 32 ? __mmask32(0xFFFFFFFF) : __mmask32((1U << num) - 1);
}

RAM_TILE_INLINE __mmask64 Mask64(size_t num) {
  return num >= 64 ? ~__mmask64{0} : (__mmask64{1} << num) - 1;
}

// ---------------------------------------------------------------------------------------------
// Activations.

RAM_TILE_INLINE Pair LoadX(const float* x, size_t num) {
  if (num >= 32) return {_mm512_loadu_ps(x), _mm512_loadu_ps(x + 16)};
  const size_t rest = num < 16 ? 0 : num - 16;
  return {_mm512_maskz_loadu_ps(Mask16(num), x), _mm512_maskz_loadu_ps(Mask16(rest), x + 16)};
}

RAM_TILE_INLINE float LargestMagnitude(const float* x, size_t num) {
  __m512 top = _mm512_setzero_ps();
  for (size_t k = 0; k < num; k += 32) {
    const Pair v = LoadX(x + k, num - k);
    top = _mm512_max_ps(top, _mm512_max_ps(_mm512_abs_ps(v.low), _mm512_abs_ps(v.high)));
  }
  return _mm512_reduce_max_ps(top);
}

// f16: what undoes the power of two of each row.
inline void FindRowPowers(const TileSplit& rows, float* unscale) {
  for (size_t r = 0; r < rows.rows; ++r) {
    unscale[r] = 1 / PowerFor(LargestMagnitude(rows.x + r * rows.pitch, rows.num_k));
  }
}

// Three parts of bf16 without rounding: the upper halves of what is left over each time. Also
// exact, and cheaper. v: the even and the odd k.
RAM_TILE_INLINE void StoreThreeParts(__m512i even, __m512i odd, uint8_t* to) {
  const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xFFFF0000));
  // The upper half goes to the lower one by a shuffle: shifts have the port that subtractions need.
  const __m512i lower = _mm512_broadcast_i32x4(
      _mm_setr_epi8(2, 3, -1, -1, 6, 7, -1, -1, 10, 11, -1, -1, 14, 15, -1, -1));
  const auto subtract = [](__m512i a, __m512i b) __attribute__((always_inline)) {
    return _mm512_castps_si512(_mm512_sub_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b)));
  };
#pragma GCC unroll 3
  for (size_t p = 0; p < 3; ++p) {
    const __m512i odd_part = _mm512_and_si512(odd, upper);
    _mm512_store_si512(to + p * 2 * kTileBytes,
                       _mm512_or_si512(odd_part, _mm512_shuffle_epi8(even, lower)));
    if (p == 2) break;
    even = subtract(even, _mm512_and_si512(even, upper));
    odd = subtract(odd, odd_part);
  }
}

// Splits rows piece by piece: 32 k of one row, then the next 32.
template <TileFormat kFormat, size_t kParts>
class Splitter {
 public:
  // Nothing to do without `split`.
  RAM_TILE_INLINE explicit Splitter(const TileSplit* split) : split_(split) {
    if (split == nullptr) return;
    row_ = 0;
    BeginRow();
  }

  RAM_TILE_INLINE size_t pieces() const {
    return split_ == nullptr ? 0 : kTileRows * ((split_->num_k + kTileStep - 1) / kTileStep);
  }

  RAM_TILE_INLINE void Advance(size_t num) {
    for (; num > 0 && row_ < kTileRows; --num) {
      SplitPiece();
      x_ += kTileStep;
      to_ += kParts * 2 * kTileBytes;
      left_ -= kTileStep;
      if (left_ > 0) continue;
      ++row_;
      BeginRow();
    }
  }

 private:
  RAM_TILE_INLINE void BeginRow() {
    left_ = static_cast<ptrdiff_t>(split_->num_k);
    x_ = split_->x + row_ * split_->pitch;
    to_ = split_->packed + row_ / 16 * kTileBytes + row_ % 16 * 64;
  }

  RAM_TILE_INLINE void SplitPiece() const {
    constexpr size_t kAhead = 256;  // 1 KiB
    _mm_prefetch(x_ + kAhead, _MM_HINT_T0);
    _mm_prefetch(x_ + kAhead + 16, _MM_HINT_T0);
    Pair v = LoadX(x_, row_ < split_->rows ? static_cast<size_t>(left_) : 0);
    if constexpr (kFormat == TileFormat::kBf16 && kParts == 3) {
      const __m512i evens =
          _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
      const __m512i odds = _mm512_add_epi32(evens, _mm512_set1_epi32(1));
      const __m512i low = _mm512_castps_si512(v.low);
      const __m512i high = _mm512_castps_si512(v.high);
      StoreThreeParts(_mm512_permutex2var_epi32(low, evens, high),
                      _mm512_permutex2var_epi32(low, odds, high), to_);
      return;
    }
    if constexpr (kFormat == TileFormat::kF16) {
      const __m512 power = _mm512_set1_ps(1 / split_->unscale[row_]);
      v = {_mm512_mul_ps(v.low, power), _mm512_mul_ps(v.high, power)};
    }
    for (size_t p = 0; p < kParts; ++p) {
      _mm512_store_si512(to_ + p * 2 * kTileBytes,
                         p + 1 < kParts ? TakePart<kFormat>(&v) : Narrow<kFormat>(v));
    }
  }

  const TileSplit* split_;
  size_t row_ = kTileRows;
  const float* x_ = nullptr;
  uint8_t* to_ = nullptr;
  ptrdiff_t left_ = 0;  // k of the row.
};

template <TileFormat kFormat, size_t kParts>
void Split(const TileSplit& split) {
  Splitter<kFormat, kParts> splitter(&split);
  splitter.Advance(splitter.pieces());
}

// ---------------------------------------------------------------------------------------------
// Weights.

// Rows and columns of 16 x 16 dwords change places.
RAM_TILE_INLINE void Transpose(__m512i v[16]) {
  __m512i t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {  // v[i + j]: dword j of every quarter, rows i ... i + 3.
    v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const __m512i a = _mm512_shuffle_i32x4(v[j], v[j + 4], 0x88);       // Quarters 0, 2.
    const __m512i b = _mm512_shuffle_i32x4(v[j], v[j + 4], 0xDD);       // Quarters 1, 3.
    const __m512i c = _mm512_shuffle_i32x4(v[j + 8], v[j + 12], 0x88);  // The same of rows 8-15.
    const __m512i d = _mm512_shuffle_i32x4(v[j + 8], v[j + 12], 0xDD);
    t[j] = _mm512_shuffle_i32x4(a, c, 0x88);
    t[j + 4] = _mm512_shuffle_i32x4(b, d, 0x88);
    t[j + 8] = _mm512_shuffle_i32x4(a, c, 0xDD);
    t[j + 12] = _mm512_shuffle_i32x4(b, d, 0xDD);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) v[i] = t[i];
}

RAM_TILE_INLINE __m512i LoadHalves(const uint8_t* p, size_t num) {
  return num >= 32 ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi16(Mask32(num), p);
}

// Up to 16 numbers of a stored type as f32.
RAM_TILE_INLINE __m512 LoadFloats(TileWeights form, const uint8_t* p, size_t num) {
  const __mmask16 mask = Mask16(num);
  if (form == TileWeights::kF32) return _mm512_maskz_loadu_ps(mask, p);
  const __m256i half = _mm256_maskz_loadu_epi16(mask, p);
  return form == TileWeights::kBf16 ? WidenBf16(half) : _mm512_cvtph_ps(half);
}

// Weights [k, k + 32) of a row that is not kCodes, as f32.
template <TileWeights kForm>
RAM_TILE_INLINE Pair LoadWeights(const TileWeightBlock& block, size_t row, size_t k) {
  const uint8_t* values = block.values + row * block.row_bytes;
  const size_t num = block.cols - k;
  if constexpr (kForm == TileWeights::kF32) {
    return LoadX(reinterpret_cast<const float*>(values) + k, num);
  } else if constexpr (kForm == TileWeights::kMxfp4) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(values + k / 2));
    const __m128i low = _mm_and_si128(bytes, _mm_set1_epi8(15));
    const __m128i high = _mm_and_si128(_mm_srli_epi16(bytes, 4), _mm_set1_epi8(15));
    const __m512 table =
        _mm512_setr_ps(0.0F, 0.5F, 1, 1.5F, 2, 3, 4, 6, -0.0F, -0.5F, -1, -1.5F, -2, -3, -4, -6);
    const int32_t e8m0 = block.scales[row * block.scale_row_bytes + k / 32];
    const __m512 scale =
        _mm512_castsi512_ps(_mm512_set1_epi32(e8m0 == 0 ? 0x00400000 : e8m0 << 23));
    const auto value = [&](__m128i codes) __attribute__((always_inline)) {
      return _mm512_mul_ps(_mm512_permutexvar_ps(_mm512_cvtepu8_epi32(codes), table), scale);
    };
    return {value(_mm_unpacklo_epi8(low, high)), value(_mm_unpackhi_epi8(low, high))};
  } else {
    return Widen < kForm == TileWeights::kBf16
               ? TileFormat::kBf16
               : TileFormat::kF16 > (LoadHalves(values + 2 * k, num));
  }
}

template <TileWeights kForm>
void FindPowersOf(const TileWeightBlock& block) {
  for (size_t row = 0; row < block.columns; ++row) {
    __m512 top = _mm512_setzero_ps();
    for (size_t k = 0; k < block.cols; k += kTileStep) {
      const Pair v = LoadWeights<kForm>(block, row, k);
      top = _mm512_max_ps(top, _mm512_max_ps(_mm512_abs_ps(v.low), _mm512_abs_ps(v.high)));
    }
    block.powers[row] = PowerFor(_mm512_reduce_max_ps(top));
  }
}

inline void FindPowers(const TileWeightBlock& block) {
  if (block.form == TileWeights::kF32) FindPowersOf<TileWeights::kF32>(block);
  if (block.form == TileWeights::kF16) FindPowersOf<TileWeights::kF16>(block);
  if (block.form == TileWeights::kBf16) FindPowersOf<TileWeights::kBf16>(block);
  if (block.form == TileWeights::kMxfp4) FindPowersOf<TileWeights::kMxfp4>(block);
}

// Where the two tiles of 16 columns that begin at `column`, of one step and part, lie.
RAM_TILE_INLINE uint8_t* PackedTile(const TileWeightBlock& block, size_t column, size_t step,
                                    size_t parts) {
  const size_t steps = (block.num_k + kTileStep - 1) / kTileStep;
  return block.packed +
         ((column / kTileColumns * steps + step) * parts * 2 + column / 16 % 2) * kTileBytes;
}

template <TileFormat kFormat, size_t kParts, TileWeights kForm>
void PackValues(const TileWeightBlock& block) {
  const size_t steps = (block.num_k + kTileStep - 1) / kTileStep;
  const size_t padded = (block.columns + kTileColumns - 1) / kTileColumns * kTileColumns;
  for (size_t column = 0; column < padded; column += 16) {
    for (size_t s = 0; s < steps; ++s) {
      const size_t k = block.first_k + s * kTileStep;
      __m512i parts[kParts][16];
#pragma GCC unroll 16
      for (size_t i = 0; i < 16; ++i) {
        const size_t row = column + i;
        if (row < block.first_column || row >= block.columns) {
          for (size_t p = 0; p < kParts; ++p) parts[p][i] = _mm512_setzero_si512();
          continue;
        }
        if constexpr (kFormat == TileFormat::kBf16 && kForm == TileWeights::kBf16) {
          parts[0][i] = LoadHalves(block.values + row * block.row_bytes + 2 * k, block.cols - k);
          continue;
        }
        Pair v = LoadWeights<kForm>(block, row, k);
        if constexpr (kFormat == TileFormat::kF16) {
          const __m512 power = _mm512_set1_ps(block.powers[row]);
          v = {_mm512_mul_ps(v.low, power), _mm512_mul_ps(v.high, power)};
        }
        for (size_t p = 0; p < kParts; ++p) {
          parts[p][i] = p + 1 < kParts ? TakePart<kFormat>(&v) : Narrow<kFormat>(v);
        }
      }
      uint8_t* to = PackedTile(block, column, s, kParts);
#pragma GCC unroll 3
      for (size_t p = 0; p < kParts; ++p) {
        Transpose(parts[p]);
#pragma GCC unroll 16
        for (size_t i = 0; i < 16; ++i) {
          _mm512_store_si512(to + p * 2 * kTileBytes + i * 64, parts[p][i]);
        }
      }
    }
  }
}

// ---------------------------------------------------------------------------------------------
// Codes.

// 64 codes of a bit stream become bytes: a permutation brings the bytes of 8 codes into one lane of
// 64 bits, a shift for each byte its bits to where they belong.
struct CodeReader {
  __m512i bytes;   // Of vpermb.
  __m512i shifts;  // Of vpmultishiftqb.
  __m512i mask;
  __m512i center;  // c
  size_t bits;

  // q - c of `num` codes, 32 or 64.
  RAM_TILE_INLINE __m512i CenteredCodes(const uint8_t* p, size_t num) const {
    const __m512i stream = _mm512_maskz_loadu_epi8(Mask64(num * bits / 8), p);
    const __m512i lanes = _mm512_permutexvar_epi8(bytes, stream);
    const __m512i q = _mm512_and_si512(_mm512_multishift_epi64_epi8(shifts, lanes), mask);
    return _mm512_sub_epi8(q, center);
  }
};

inline CodeReader MakeCodeReader(size_t bits) {
  alignas(64) uint8_t bytes[64];
  alignas(64) uint8_t shifts[64];
  for (size_t i = 0; i < 64; ++i) {
    bytes[i] = static_cast<uint8_t>(i % 8 < bits ? i / 8 * bits + i % 8 : 0);
    shifts[i] = static_cast<uint8_t>(i % 8 * bits);
  }
  return {_mm512_load_si512(bytes), _mm512_load_si512(shifts),
          _mm512_set1_epi8(static_cast<char>((1U << bits) - 1)),
          _mm512_set1_epi8(static_cast<char>(1U << (bits - 1))), bits};
}

// s and b' = b + c * s of the groups of num_k, 16 columns at a time.
inline void PackGroupTerms(const TileWeightBlock& block, size_t column) {
  const size_t groups = block.num_k / block.group_size;
  const size_t first_group = block.first_k / block.group_size;
  const size_t scale_bytes = block.scale_form == TileWeights::kF32 ? 4 : 2;
  const __m512 center = _mm512_set1_ps(static_cast<float>(1 << (block.bits - 1)));
  float* to = block.group_terms + column / kTileColumns * groups * 2 * kTileColumns + column % 32;
  for (size_t g = 0; g < groups; g += 16) {
    __m512i s[16];
    __m512i b[16];
    for (size_t i = 0; i < 16; ++i) {
      s[i] = b[i] = _mm512_setzero_si512();
      if (column + i >= block.columns) continue;
      const size_t offset = (column + i) * block.scale_row_bytes + (first_group + g) * scale_bytes;
      const __m512 scale = LoadFloats(block.scale_form, block.scales + offset, groups - g);
      const __m512 bias = LoadFloats(block.scale_form, block.biases + offset, groups - g);
      s[i] = _mm512_castps_si512(scale);
      b[i] = _mm512_castps_si512(_mm512_fmadd_ps(center, scale, bias));
    }
    Transpose(s);
    Transpose(b);
    const size_t end = groups - g < 16 ? groups - g : 16;
    for (size_t i = 0; i < end; ++i) {
      _mm512_store_si512(to + (g + i) * 2 * kTileColumns, s[i]);
      _mm512_store_si512(to + ((g + i) * 2 + 1) * kTileColumns, b[i]);
    }
  }
}

// Codes as tiles, with the terms of their groups. `operand`: 64 bytes of a tile from kStep centered
// codes.
template <size_t kStep, class Operand>
RAM_TILE_INLINE void PackCodeTiles(const TileWeightBlock& block, const Operand& operand) {
  const CodeReader reader = MakeCodeReader(static_cast<size_t>(block.bits));
  const size_t steps = block.num_k / kStep;
  const size_t padded = (block.columns + kTileColumns - 1) / kTileColumns * kTileColumns;
  for (size_t column = 0; column < padded; column += 16) {
    PackGroupTerms(block, column);
    const size_t rows = column >= block.columns ? 0 : block.columns - column;
    const uint8_t* from = block.values + column * block.row_bytes + block.first_k * reader.bits / 8;
    uint8_t* to = block.packed + (column / kTileColumns * steps * 2 + column / 16 % 2) * kTileBytes;
    for (size_t s = 0; s < steps; ++s, from += kStep * reader.bits / 8, to += 2 * kTileBytes) {
      __m512i v[16];
#pragma GCC unroll 16
      for (size_t i = 0; i < 16; ++i) {
        v[i] = i < rows ? operand(reader.CenteredCodes(from + i * block.row_bytes, kStep))
                        : _mm512_setzero_si512();
      }
      Transpose(v);
#pragma GCC unroll 16
      for (size_t i = 0; i < 16; ++i) _mm512_store_si512(to + i * 64, v[i]);
    }
  }
}

// Groups of 32: q - c in one part of 16 bits, exact.
template <TileFormat kFormat>
void PackCodes(const TileWeightBlock& block) {
  PackCodeTiles<kTileStep>(
      block, [](__m512i codes) __attribute__((always_inline)) {
        const auto number = [](__m128i bytes) __attribute__((always_inline)) {
          return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
        };
        return Narrow<kFormat>(
            {number(_mm512_castsi512_si128(codes)), number(_mm512_extracti32x4_epi32(codes, 1))});
      });
}

template <TileFormat kFormat, size_t kParts>
void Pack(const TileWeightBlock& block) {
  if constexpr (kParts == 1) {
    if (block.form == TileWeights::kCodes) return PackCodes<kFormat>(block);
    // Exact in one part in both formats, if f16 is scaled.
    if (block.form == TileWeights::kBf16) return PackValues<kFormat, 1, TileWeights::kBf16>(block);
    if (block.form == TileWeights::kMxfp4)
      return PackValues<kFormat, 1, TileWeights::kMxfp4>(block);
  }
  if (block.form == TileWeights::kF16) return PackValues<kFormat, kParts, TileWeights::kF16>(block);
  if (block.form == TileWeights::kF32) return PackValues<kFormat, kParts, TileWeights::kF32>(block);
}

// ---------------------------------------------------------------------------------------------
// Products. Tiles 0-3 are sums of 32 x 32, 4 and 5 two tiles of weights, 6 and 7 of activations.

template <class Unit, bool kBoth>
RAM_TILE_INLINE void ZeroSums() {
  Unit::template Zero<0>();
  Unit::template Zero<1>();
  if constexpr (kBoth) {
    Unit::template Zero<2>();
    Unit::template Zero<3>();
  }
}

template <class Unit, bool kBoth>
RAM_TILE_INLINE void StoreSums(float* sums) {
  Unit::template Store<0>(sums);
  Unit::template Store<1>(sums + 256);
  if constexpr (kBoth) {
    Unit::template Store<2>(sums + 512);
    Unit::template Store<3>(sums + 768);
  }
}

// The sums of a tile go to memory and begin at zero again.
template <class Unit, int kTile>
RAM_TILE_INLINE void Restart(float* finished) {
  Unit::template Store<kTile>(finished + kTile * 256);
  Unit::template Zero<kTile>();
}

// One part of x times one part of w, 32 k. kRestart: of new sums; those before are stored one by
// one as late as possible, for each has to wait for its last product.
// `beside` is called after each tile product, with its number. What is not loaded is that of the
// pass before.
template <class Unit, TileFormat kFormat, bool kBoth, bool kLoadWeights, bool kRestart,
          bool kLoadX = true, class Beside>
RAM_TILE_INLINE void PassBeside(const uint8_t* x, const uint8_t* w, float* finished,
                                const Beside& beside) {
  if constexpr (kLoadWeights) Unit::template Load<4>(w);
  if constexpr (kLoadX) Unit::template Load<6>(x);
  if constexpr (kRestart) Restart<Unit, 0>(finished);
  Unit::template Dot<kFormat, 0, 6, 4>();
  beside(std::integral_constant<size_t, 0>());
  if constexpr (kLoadWeights) Unit::template Load<5>(w + kTileBytes);
  if constexpr (kRestart) Restart<Unit, 1>(finished);
  Unit::template Dot<kFormat, 1, 6, 5>();
  beside(std::integral_constant<size_t, 1>());
  if constexpr (kBoth) {
    if constexpr (kLoadX) Unit::template Load<7>(x + kTileBytes);
    if constexpr (kRestart) Restart<Unit, 2>(finished);
    Unit::template Dot<kFormat, 2, 7, 4>();
    beside(std::integral_constant<size_t, 2>());
    if constexpr (kRestart) Restart<Unit, 3>(finished);
    Unit::template Dot<kFormat, 3, 7, 5>();
    beside(std::integral_constant<size_t, 3>());
  }
}

// All parts of w times the parts of x that they meet: parts [kPart, kXParts - kWeight) of x and so
// on. `beside` is called after each tile product, with its number.
template <class Unit, TileFormat kFormat, size_t kXParts, size_t kWParts, bool kBoth, bool kRestart,
          size_t kWeight = 0, size_t kPart = 0, size_t kFirst = 0, class Beside>
RAM_TILE_INLINE void Step(const uint8_t* x, const uint8_t* w, float* finished,
                          const Beside& beside) {
  constexpr size_t kNext = kFirst + (kBoth ? 4 : 2);
  PassBeside<Unit, kFormat, kBoth, kPart == 0, kRestart>(
      x + kPart * 2 * kTileBytes, w + kWeight * 2 * kTileBytes,
      finished, [&](auto dot) __attribute__((always_inline)) {
        beside(std::integral_constant<size_t, kFirst + decltype(dot)::value>());
      });
  if constexpr (kPart + 1 < kXParts - kWeight) {
    Step<Unit, kFormat, kXParts, kWParts, kBoth, false, kWeight, kPart + 1, kNext>(x, w, finished,
                                                                                   beside);
  } else if constexpr (kWeight + 1 < kWParts) {
    Step<Unit, kFormat, kXParts, kWParts, kBoth, false, kWeight + 1, 0, kNext>(x, w, finished,
                                                                               beside);
  }
}

// Takes rows of finished sums of 32 columns to where they belong: onto the sums of the blocks of k
// before, or to the result.
class RowSink {
 public:
  RAM_TILE_INLINE RowSink(const TileProduct& product, size_t block) : product_(&product) {
    column_ = block * kTileColumns;
    const size_t columns = product.columns - column_;
    mask_[0] = Mask16(columns);
    mask_[1] = columns > 16 ? Mask16(columns - 16) : __mmask16(0);
    sums_ = product.sums + block * 1024;
  }

  // The lines that the result will need.
  RAM_TILE_INLINE void Fetch(size_t row) const {
    if (!product_->last || row >= product_->rows) return;
    const float* out = product_->out + row * product_->pitch + column_;
    __builtin_prefetch(out, /*write=*/1, /*locality=*/2);
    __builtin_prefetch(out + 16, 1, 2);
  }

  RAM_TILE_INLINE void Take(size_t row, __m512 low, __m512 high) const {
    const size_t at = row / 16 * 512 + row % 16 * 16;
    if (!product_->first) {
      low = _mm512_add_ps(low, _mm512_load_ps(sums_ + at));
      high = _mm512_add_ps(high, _mm512_load_ps(sums_ + at + 256));
    }
    if (!product_->last) {
      _mm512_store_ps(sums_ + at, low);
      _mm512_store_ps(sums_ + at + 256, high);
    } else if (row < product_->rows) {
      float* out = product_->out + row * product_->pitch + column_;
      _mm512_mask_storeu_ps(out, mask_[0], Finish(row, 0, low));
      _mm512_mask_storeu_ps(out + 16, mask_[1], Finish(row, 1, high));
    }
  }

 private:
  RAM_TILE_INLINE __m512 Finish(size_t row, size_t half, __m512 v) const {
    const size_t column = column_ + 16 * half;
    if (product_->unscale_row != nullptr) {
      v = _mm512_mul_ps(v, _mm512_set1_ps(product_->unscale_row[row]));
      v = _mm512_mul_ps(v, _mm512_maskz_loadu_ps(mask_[half], product_->unscale_column + column));
    }
    if (product_->bias != nullptr) {
      v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask_[half], product_->bias + column));
    }
    return v;
  }

  const TileProduct* product_;
  size_t column_;
  __mmask16 mask_[2];
  float* sums_;
};

// Hands finished sums to their sink, some rows at a time.
struct FinishedRows {
  RowSink sink;
  const float* sums;
  size_t row;
  size_t end;

  RAM_TILE_INLINE void Advance(size_t num) {
    for (; num > 0 && row < end; --num, ++row) {
      const float* from = sums + row / 16 * 512 + row % 16 * 16;
      sink.Take(row, _mm512_load_ps(from), _mm512_load_ps(from + 256));
    }
  }
};

// While one block of columns is multiplied, the one before is taken away, row by row between the
// tile products, which leave the vector units idle, and the rows of x that come next are split.
template <class Unit, TileFormat kFormat, size_t kXParts, size_t kWParts, bool kBoth>
RAM_TILE_INLINE void MultiplyRows(const TileProduct& product) {
  constexpr size_t kRows = kBoth ? 32 : 16;
  constexpr size_t kXStep = kXParts * 2 * kTileBytes;
  constexpr size_t kWStep = kWParts * 2 * kTileBytes;
  alignas(64) float sums[1024];
  const size_t blocks = (product.columns + kTileColumns - 1) / kTileColumns;
  const size_t rows_per_step = (kRows + product.steps - 1) / product.steps;
  constexpr size_t kPasses = kWParts * kXParts - kWParts * (kWParts - 1) / 2;
  constexpr size_t kDots = kPasses * (kBoth ? 4 : 2);  // Of a step.
  constexpr size_t kTurns = (kDots + 2) / 3;           // Of splitting.
  Splitter<kFormat, kXParts> ahead(product.ahead);
  const size_t turns = blocks * product.steps * kTurns;
  const size_t pieces_per_turn = (ahead.pieces() + turns - 1) / turns;
  const auto split = [&](auto dot) __attribute__((always_inline)) {
    if constexpr (decltype(dot)::value % 3 == 0) ahead.Advance(pieces_per_turn);
  };
  FinishedRows before = {RowSink(product, 0), sums, kRows, kRows};
  ZeroSums<Unit, kBoth>();
  for (size_t block = 0; block < blocks; ++block) {
    const RowSink sink(product, block);
    const uint8_t* w = product.w + block * product.steps * kWStep;
    for (size_t s = 0; s < product.steps; ++s) {
      for (size_t i = 0; i < rows_per_step; ++i) sink.Fetch(s * rows_per_step + i);
      if (s == 0 && block != 0) {
        Step<Unit, kFormat, kXParts, kWParts, kBoth, /*kRestart=*/true>(product.x, w, sums, split);
        before = {RowSink(product, block - 1), sums, 0, kRows};
      } else {
        Step<Unit, kFormat, kXParts, kWParts, kBoth, /*kRestart=*/false>(
            product.x + s * kXStep, w + s * kWStep, nullptr, split);
      }
      before.Advance(rows_per_step);
    }
  }
  StoreSums<Unit, kBoth>(sums);
  before = {RowSink(product, blocks - 1), sums, 0, kRows};
  before.Advance(kRows);
}

template <class Unit, TileFormat kFormat, size_t kXParts, size_t kWParts>
void Multiply(const TileProduct& product) {
  product.rows > 16 ? MultiplyRows<Unit, kFormat, kXParts, kWParts, true>(product)
                    : MultiplyRows<Unit, kFormat, kXParts, kWParts, false>(product);
}

// A group whose sums are finished: result += s * sums + b' * (sums of x); after the last group of
// the block of k to the sink.
struct FinishedGroup {
  RowSink sink;
  __m512 scale[2];
  __m512 bias[2];
  const float* group_sums;  // [32 rows]
  const float* sums;        // [4 tiles]
  float* result;            // [4 tiles]
  bool last;

  RAM_TILE_INLINE void TakeRow(size_t row) const {
    const size_t at = row / 16 * 512 + row % 16 * 16;
    const __m512 sum_of_x = _mm512_set1_ps(group_sums[row]);
    __m512 low = _mm512_fmadd_ps(bias[0], sum_of_x, _mm512_load_ps(result + at));
    __m512 high = _mm512_fmadd_ps(bias[1], sum_of_x, _mm512_load_ps(result + at + 256));
    low = _mm512_fmadd_ps(scale[0], _mm512_load_ps(sums + at), low);
    high = _mm512_fmadd_ps(scale[1], _mm512_load_ps(sums + at + 256), high);
    if (last) {  // The next block begins at zero.
      sink.Take(row, low, high);
      low = high = _mm512_setzero_ps();
    }
    _mm512_store_ps(result + at, low);
    _mm512_store_ps(result + at + 256, high);
  }
};

// The passes of one group. The first one stores the sums of the group before; from the second on
// some rows of those are taken after each tile product. `after` is called after each pass.
template <class Unit, TileFormat kFormat, size_t kXParts, bool kBoth, size_t kPass = 0, class After>
RAM_TILE_INLINE void MultiplyGroup(const uint8_t* x, const uint8_t* w, float* finished,
                                   const FinishedGroup& before, bool take, const After& after) {
  constexpr size_t kRows = kBoth ? 32 : 16;
  constexpr size_t kDots = kBoth ? 4 : 2;                              // Of a pass.
  constexpr size_t kTurns = kXParts == 1 ? 1 : (kXParts - 1) * kDots;  // Of taking rows.
  PassBeside<Unit, kFormat, kBoth, kPass == 0, kPass == 0>(
      x + kPass * 2 * kTileBytes, w, finished, [&](auto dot) __attribute__((always_inline)) {
        constexpr size_t kTurn = kPass * kDots + decltype(dot)::value + kTurns - kXParts * kDots;
        if constexpr (kTurn < kTurns) {  // Wraps before the first.
          if (take) {
#pragma GCC unroll 32
            for (size_t row = kRows * kTurn / kTurns; row < kRows * (kTurn + 1) / kTurns; ++row) {
              before.TakeRow(row);
            }
          }
        }
      });
  after();
  if constexpr (kPass + 1 < kXParts) {
    MultiplyGroup<Unit, kFormat, kXParts, kBoth, kPass + 1>(x, w, finished, before, take, after);
  }
}

template <class Unit, TileFormat kFormat, size_t kXParts, bool kBoth>
RAM_TILE_INLINE void MultiplyCodeRows(const TileProduct& product) {
  constexpr size_t kRows = kBoth ? 32 : 16;
  constexpr size_t kStepBytes = kXParts * 2 * kTileBytes;
  alignas(64) float sums[1024];
  alignas(64) float result[1024] = {};
  const size_t blocks = (product.columns + kTileColumns - 1) / kTileColumns;
  Splitter<kFormat, kXParts> ahead(product.ahead);
  const size_t passes = blocks * product.steps * kXParts;
  const size_t pieces_per_pass = (ahead.pieces() + passes - 1) / passes;
  const auto split = [&]() __attribute__((always_inline)) { ahead.Advance(pieces_per_pass); };
  FinishedGroup before = {RowSink(product, 0), {}, {}, nullptr, sums, result, false};
  const uint8_t* w = product.w;
  const float* terms = product.terms;
  ZeroSums<Unit, kBoth>();
  for (size_t block = 0; block < blocks; ++block) {
    const RowSink sink(product, block);
    for (size_t g = 0; g < product.steps; ++g, terms += 2 * kTileColumns) {
      if (g + 1 == product.steps) {
        for (size_t row = 0; row < kRows; ++row) sink.Fetch(row);
      }
      MultiplyGroup<Unit, kFormat, kXParts, kBoth>(product.x + g * kStepBytes, w, sums, before,
                                                   /*take=*/block != 0 || g != 0, split);
      w += 2 * kTileBytes;
      before.sink = sink;
      before.scale[0] = _mm512_load_ps(terms);
      before.scale[1] = _mm512_load_ps(terms + 16);
      before.bias[0] = _mm512_load_ps(terms + 32);
      before.bias[1] = _mm512_load_ps(terms + 48);
      before.group_sums = product.step_sums + g * kTileRows;
      before.last = g + 1 == product.steps;
    }
  }
  StoreSums<Unit, kBoth>(sums);
  for (size_t row = 0; row < kRows; ++row) before.TakeRow(row);
}

template <class Unit, TileFormat kFormat, size_t kXParts>
void MultiplyCodes(const TileProduct& product) {
  product.rows > 16 ? MultiplyCodeRows<Unit, kFormat, kXParts, true>(product)
                    : MultiplyCodeRows<Unit, kFormat, kXParts, false>(product);
}

// ---------------------------------------------------------------------------------------------

template <class Unit, TileFormat kFormat, size_t kXParts>
constexpr TileKernels MakeTileKernels() {
  TileKernels kernels = {
      .format = kFormat,
      .x_parts = kXParts,
      .find_row_powers = FindRowPowers,
      .split = Split<kFormat, kXParts>,
      .find_powers = FindPowers,
      .pack = {Pack<kFormat, 1>, Pack<kFormat, 2>, Pack<kFormat, 3>},
      .multiply = {Multiply<Unit, kFormat, kXParts, 1>},
      .multiply_codes = MultiplyCodes<Unit, kFormat, kXParts>,
  };
  if constexpr (kXParts >= 2) {
    kernels.multiply[1] = Multiply<Unit, kFormat, kXParts, 2>;
  }
  if constexpr (kXParts >= 3) {
    kernels.multiply[2] = Multiply<Unit, kFormat, kXParts, 3>;
  }
  return kernels;
}

}  // namespace
}  // namespace ram

#endif  // RAM_RUNTIME_AMX_PRODUCT_INL_H_
