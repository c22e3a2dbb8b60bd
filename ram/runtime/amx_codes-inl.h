// Products with affine weights, groups of 64 and 128, on tiles of integers (amx_product.h has the
// arithmetic), for the tile unit or for a model of it (`Unit`). Included by what includes
// amx_product-inl.h, and compiled as that is.

#ifndef RAM_RUNTIME_AMX_CODES_INL_H_
#define RAM_RUNTIME_AMX_CODES_INL_H_

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "ram/runtime/amx_product-inl.h"
#include "ram/runtime/amx_product.h"

namespace ram {
namespace {

// ---------------------------------------------------------------------------------------------
// Activations.

// What makes an integer of 8 * kParts bits of every value, given the largest magnitude, and its
// inverse: NaN where some value is not finite.
struct IntegerScale {
  float scale;
  float inverse;
};

template <size_t kParts>
RAM_TILE_INLINE IntegerScale IntegerScaleFor(uint32_t top_bits) {
  constexpr auto kMost = static_cast<float>((1 << (8 * kParts - 1)) - 1);
  if (top_bits >= 0x7F800000) return {0, __builtin_nanf("")};
  float top;
  __builtin_memcpy(&top, &top_bits, 4);
  constexpr float kLeast = 0x1p-100F;  // The scale and its inverse are normal numbers.
  if (top < kLeast) top = kLeast;
  return {kMost / top, top / kMost};
}

// Bytes of 64 integers, in order: byte i < 32 of a part is byte 4 * i + part of two vectors.
// `fours`: 4 * i.
RAM_TILE_INLINE __m512i BytesOf(const __m512i integers[4], __m512i fours, size_t part) {
  const __m512i index = _mm512_add_epi8(fours, _mm512_set1_epi8(static_cast<char>(part)));
  const __m512i low = _mm512_permutex2var_epi8(integers[0], index, integers[1]);
  const __m512i high = _mm512_permutex2var_epi8(integers[2], index, integers[3]);
  return _mm512_inserti64x4(low, _mm512_castsi512_si256(high), 1);
}

template <size_t kParts>
void SplitToIntegers(const TileIntegerRows& rows) {
  constexpr size_t kStepBytes = 2 * kParts * kTileBytes;
  const __m512i most = _mm512_set1_epi32((1 << (8 * kParts - 1)) - 1);
  alignas(64) uint8_t places[64];
  for (size_t i = 0; i < 64; ++i) places[i] = static_cast<uint8_t>(4 * (i % 32));
  const __m512i fours = _mm512_load_si512(places);
  for (size_t r = 0; r < kTileRows; ++r) {
    uint8_t* to = rows.packed + r / 16 * kParts * kTileBytes + r % 16 * 64;
    const float* x = rows.x + r * rows.pitch;
    for (size_t s = 0; s < rows.cols / kIntegerStep; ++s, to += kStepBytes) {
      __m512 v[4];
      __m512i top = _mm512_setzero_si512();
#pragma GCC unroll 4
      for (size_t i = 0; i < 4; ++i) {
        v[i] = r < rows.rows ? _mm512_loadu_ps(x + s * kIntegerStep + 16 * i) : _mm512_setzero_ps();
        top = _mm512_max_epu32(top, _mm512_castps_si512(_mm512_abs_ps(v[i])));
      }
      const IntegerScale scale = IntegerScaleFor<kParts>(_mm512_reduce_max_epu32(top));
      rows.scales[s * kTileRows + r] = scale.inverse;
      const __m512 factor = _mm512_set1_ps(scale.scale);
      __m512i integers[4];
#pragma GCC unroll 4
      for (size_t i = 0; i < 4; ++i) {
        integers[i] = _mm512_min_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(v[i], factor)), most);
      }
#pragma GCC unroll 3
      for (size_t p = 0; p < kParts; ++p) {
        _mm512_store_si512(to + p * kTileBytes, BytesOf(integers, fours, p));
      }
    }
  }
}

inline void SumSteps(const TileStepSums& rows) {
  for (size_t r = 0; r < rows.rows; ++r) {
    const float* x = rows.x + r * rows.pitch;
    for (size_t s = 0; s < rows.cols / rows.step; ++s, x += rows.step) {
      __m512 sum = _mm512_add_ps(_mm512_loadu_ps(x), _mm512_loadu_ps(x + 16));
      if (rows.step == kIntegerStep) {
        sum = _mm512_add_ps(sum, _mm512_add_ps(_mm512_loadu_ps(x + 32), _mm512_loadu_ps(x + 48)));
      }
      rows.sums[s * kTileRows + r] = _mm512_reduce_add_ps(sum);
    }
  }
}

// ---------------------------------------------------------------------------------------------
// Weights.

inline void PackIntegers(const TileWeightBlock& block) {
  PackCodeTiles<kIntegerStep>(
      block, [](__m512i codes) __attribute__((always_inline)) { return codes; });
}

// ---------------------------------------------------------------------------------------------
// Products. A unit of work is one step for 16 rows and 32 columns: tiles 2p and 2p + 1 hold the
// sums of part p of x, 6 a tile of x and 7 a tile of weights.

// 256 * v as a shuffle: beside tile products, shifts and everything of floating point have one port
// of the two, shuffles and additions of integers the other.
RAM_TILE_INLINE __m512i TimesByte(__m512i v) {
  const __m512i places =
      _mm512_broadcast_i32x4(_mm_setr_epi8(-1, 0, 1, 2, -1, 4, 5, 6, -1, 8, 9, 10, -1, 12, 13, 14));
  return _mm512_shuffle_epi8(v, places);
}

// A unit whose sums are in memory, [2 * parts tiles][16 rows][16 columns]: result += s * scale
// of x * sums + b' * (sums of x); after the last step of the block of k to the sink.
template <size_t kParts>
struct FinishedUnit {
  RowSink sink;
  size_t first_row;
  const float* terms;        // s and b', [2][32 columns]
  const float* step_scales;  // [16 rows]
  const float* step_sums;    // [16 rows]
  const int32_t* sums;
  float* result;  // [2 tiles], the next 16 columns 256 on.
  bool last;

  RAM_TILE_INLINE __m512 Take(size_t row, size_t half) const {
    const auto load = [&](size_t part) __attribute__((always_inline)) {
      return _mm512_load_si512(sums + (2 * part + half) * 256 + row * 16);
    };
    // The lowest parts together stay below 2^31.
    __m512i low = load(0);
    if constexpr (kParts == 3) low = _mm512_add_epi32(low, TimesByte(load(1)));
    const __m512 sum =
        _mm512_fmadd_ps(_mm512_cvtepi32_ps(load(kParts - 1)),
                        _mm512_set1_ps(kParts == 3 ? 65536.0F : 256.0F), _mm512_cvtepi32_ps(low));
    const __m512 scaled = _mm512_mul_ps(sum, _mm512_set1_ps(step_scales[row]));
    const __m512 before = _mm512_fmadd_ps(_mm512_load_ps(terms + kTileColumns + 16 * half),
                                          _mm512_set1_ps(step_sums[row]),
                                          _mm512_load_ps(result + row * 16 + half * 256));
    return _mm512_fmadd_ps(_mm512_load_ps(terms + 16 * half), scaled, before);
  }

  RAM_TILE_INLINE void TakeRow(size_t row) const {
    __m512 low = Take(row, 0);
    __m512 high = Take(row, 1);
    if (last) {  // The next block begins at zero.
      sink.Take(first_row + row, low, high);
      low = high = _mm512_setzero_ps();
    }
    _mm512_store_ps(result + row * 16, low);
    _mm512_store_ps(result + row * 16 + 256, high);
  }
};

// The tile products of a unit. The sums of the unit before are stored one by one as late as
// possible, for each has to wait for its last product, and between them the rows of the unit before
// that are taken. (Loading early, before the rows instead of after them, was slower.) Halves of the
// columns go 0 1, 1 0, ...: every second product finds its weights there.
template <class Unit, size_t kParts, size_t kDot = 0>
RAM_TILE_INLINE void MultiplyUnit(const uint8_t* x, const uint8_t* w, int32_t* stored,
                                  const FinishedUnit<kParts>& before, bool take) {
  constexpr size_t kDots = kParts * 2;
  constexpr size_t kPart = kDot / 2;
  constexpr size_t kHalf = (kDot % 2) ^ (kPart % 2);
  constexpr int kSum = static_cast<int>(2 * kPart + kHalf);
  if constexpr (kDot % 2 == 0) {
    Unit::template Load<6>(x + kPart * kTileBytes);
  }
  if constexpr (kDot % 2 == 1 || kPart == 0) {
    Unit::template Load<7>(w + kHalf * kTileBytes);
  }
  Unit::template Store<kSum>(stored + kSum * 256);
  Unit::template Zero<kSum>();
  if constexpr (kPart + 1 == kParts) {
    Unit::template DotSigned<kSum, 6, 7>();
  } else {
    Unit::template DotUnsigned<kSum, 6, 7>();
  }
  if (take) {
#pragma GCC unroll 16
    for (size_t row = 16 * kDot / kDots; row < 16 * (kDot + 1) / kDots; ++row) before.TakeRow(row);
  }
  if constexpr (kDot + 1 < kDots) {
    MultiplyUnit<Unit, kParts, kDot + 1>(x, w, stored, before, take);
  }
}

template <class Unit, size_t kParts, int kTile = 0>
RAM_TILE_INLINE void StoreUnit(int32_t* sums) {
  Unit::template Store<kTile>(sums + kTile * 256);
  if constexpr (kTile + 1 < static_cast<int>(2 * kParts)) StoreUnit<Unit, kParts, kTile + 1>(sums);
}

// A step is multiplied for kWide blocks of columns before the next one, so that its x comes from L2
// once for them; their results (16 KiB) stay in L1.
template <class Unit, size_t kParts>
void MultiplyIntegers(const TileProduct& product) {
  constexpr size_t kWide = 4;
  constexpr size_t kXStep = 2 * kParts * kTileBytes;
  alignas(64) int32_t sums[2][2 * kParts * 256];
  alignas(64) float results[kWide][1024] = {};
  const size_t blocks = (product.columns + kTileColumns - 1) / kTileColumns;
  const size_t halves = product.rows > 16 ? 2 : 1;
  const size_t block_bytes = product.steps * 2 * kTileBytes;
  const size_t groups = product.steps / product.group_steps;
  // The two units before: the last one is in the tiles.
  FinishedUnit<kParts> before = {RowSink(product, 0), 0,    nullptr, nullptr, nullptr, sums[0],
                                 results[0],          false};
  FinishedUnit<kParts> in_tiles = before;
  size_t unit = 0;
  for (size_t first = 0; first < blocks; first += kWide) {
    const size_t end = first + kWide < blocks ? first + kWide : blocks;
    for (size_t step = 0; step < product.steps; ++step) {
      const bool last = step + 1 == product.steps;
      const size_t group = product.group_steps == 1 ? step : step / product.group_steps;
      for (size_t block = first; block < end; ++block) {
        const RowSink sink(product, block);
        const uint8_t* w = product.w + block * block_bytes + step * 2 * kTileBytes;
        for (size_t row = 0; last && row < 16 * halves; ++row) sink.Fetch(row);
        for (size_t half = 0; half < halves; ++half, ++unit) {
          const uint8_t* x = product.x + step * kXStep + half * kParts * kTileBytes;
          int32_t* stored = sums[(unit + 1) % 2];
          MultiplyUnit<Unit, kParts>(x, w, stored, before, unit >= 2);
          before = in_tiles;
          before.sums = stored;
          in_tiles = {sink,
                      16 * half,
                      product.terms + (block * groups + group) * 2 * kTileColumns,
                      product.step_scales + step * kTileRows + 16 * half,
                      product.step_sums + step * kTileRows + 16 * half,
                      nullptr,
                      results[block - first] + 512 * half,
                      last};
        }
      }
    }
  }
  int32_t* stored = sums[(unit + 1) % 2];
  StoreUnit<Unit, kParts>(stored);
  in_tiles.sums = stored;
  for (size_t row = 0; row < 16 && unit >= 2; ++row) before.TakeRow(row);
  for (size_t row = 0; row < 16; ++row) in_tiles.TakeRow(row);
}

template <class Unit, size_t kParts>
constexpr TileIntegerKernels MakeIntegerKernels() {
  return {.x_parts = kParts,
          .split = SplitToIntegers<kParts>,
          .sum_steps = SumSteps,
          .pack = PackIntegers,
          .multiply = MultiplyIntegers<Unit, kParts>};
}

}  // namespace
}  // namespace ram

#endif  // RAM_RUNTIME_AMX_CODES_INL_H_
