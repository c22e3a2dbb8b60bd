// Compiled for AVX-512, as amx_product.cc is: the same caution about inline functions.

#include "ram/runtime/amx_attention.h"

#if defined(__x86_64__)

#include "ram/runtime/amx_product-inl.h"

namespace ram {
namespace {

constexpr TileFormat kBf16 = TileFormat::kBf16;

constexpr float kLog2E = 1.44269504F;

// 2^x for finite x <= 0. The series of exp up to r^6 after the integer is taken out; relative error
// below 2e-7.
RAM_TILE_INLINE __m512 Exp2(__m512 x) {
  const __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 r = _mm512_sub_ps(x, n);
  __m512 p = _mm512_set1_ps(1.54035304e-4F);  // ln(2)^k / k!.
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.33335581e-3F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(9.61812911e-3F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.55041087e-2F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.40226507e-1F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.93147181e-1F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1));
  return _mm512_scalef_ps(p, n);
}

// By its series below 0.3, where 1 - 2 / (exp(2x) + 1) would lose digits.
RAM_TILE_INLINE __m512 Tanh(__m512 x) {
  const __m512 magnitude = _mm512_abs_ps(x);
  const __m512 square = _mm512_mul_ps(x, x);
  __m512 series = _mm512_set1_ps(-1382.0F / 155925);
  series = _mm512_fmadd_ps(series, square, _mm512_set1_ps(62.0F / 2835));
  series = _mm512_fmadd_ps(series, square, _mm512_set1_ps(-17.0F / 315));
  series = _mm512_fmadd_ps(series, square, _mm512_set1_ps(2.0F / 15));
  series = _mm512_fmadd_ps(series, square, _mm512_set1_ps(-1.0F / 3));
  series = _mm512_fmadd_ps(_mm512_mul_ps(series, square), x, x);
  const __m512 one = _mm512_set1_ps(1);
  const __m512 e = Exp2(_mm512_mul_ps(magnitude, _mm512_set1_ps(-2 * kLog2E)));
  const __m512 large = _mm512_div_ps(_mm512_sub_ps(one, e), _mm512_add_ps(one, e));
  const __m512 sign = _mm512_and_ps(x, _mm512_set1_ps(-0.0F));
  const __mmask16 small = _mm512_cmp_ps_mask(magnitude, _mm512_set1_ps(0.3F), _CMP_LT_OQ);
  return _mm512_mask_mov_ps(_mm512_or_ps(large, sign), small, series);
}

// Lanes of keys [key, key + 16) that lie in [begin, end).
RAM_TILE_INLINE __mmask16 KeyMask(int32_t key, int32_t begin, int32_t end) {
  const __m512i keys =
      _mm512_add_epi32(_mm512_set1_epi32(key),
                       _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  return _mm512_cmpge_epi32_mask(keys, _mm512_set1_epi32(begin)) &
         _mm512_cmplt_epi32_mask(keys, _mm512_set1_epi32(end));
}

// Vector i of row `row`, keys 16 i ... 16 i + 15.
RAM_TILE_INLINE float* ScoreVector(const TileSoftmax& block, size_t row, size_t i) {
  return block.scores + i / 2 * 1024 + row / 16 * 512 + i % 2 * 256 + row % 16 * 16;
}

// Scores of a row, capped and masked in place; the largest of them.
template <bool kCap>
RAM_TILE_INLINE float PrepareScores(const TileSoftmax& block, size_t row) {
  const __m512 unseen = _mm512_set1_ps(kUnseenScore);
  const __m512 scale = _mm512_set1_ps(block.scale / block.softcap);
  const __m512 cap = _mm512_set1_ps(block.softcap);
  const auto num_keys = static_cast<int32_t>(block.num_keys);
  const int32_t begin = block.begin[row];
  const int32_t end = block.end[row];
  __m512 max = unseen;
  for (int32_t key = 0; key < num_keys; key += 16) {
    float* at = ScoreVector(block, row, static_cast<size_t>(key) / 16);
    __m512 score = _mm512_load_ps(at);
    if constexpr (kCap) score = _mm512_mul_ps(Tanh(_mm512_mul_ps(score, scale)), cap);
    if (key < begin || key + 16 > end) {
      score = _mm512_mask_mov_ps(unseen, KeyMask(key, begin, end), score);
      _mm512_store_ps(at, score);
    } else if constexpr (kCap) {
      _mm512_store_ps(at, score);
    }
    max = _mm512_max_ps(max, score);
  }
  return _mm512_reduce_max_ps(max);
}

// Parts of numbers in [0, 1] that are pairs, v.low[i] and v.high[i] side by side. Cut off rather
// than rounded where three parts hold all bits anyway.
template <size_t kParts>
RAM_TILE_INLINE void StorePairParts(Pair v, uint8_t* to) {
  const __m512i high_half = _mm512_set1_epi32(static_cast<int32_t>(0xFFFF0000));
  const __m512i half_unit = _mm512_set1_epi32(0x8000);
#pragma GCC unroll 3
  for (size_t p = 0; p < kParts; ++p) {
    __m512i low = _mm512_castps_si512(v.low);
    __m512i high = _mm512_castps_si512(v.high);
    if constexpr (kParts < 3) {
      low = _mm512_add_epi32(low, half_unit);
      high = _mm512_add_epi32(high, half_unit);
    }
    high = _mm512_and_si512(high, high_half);
    _mm512_store_si512(to + p * 2 * kTileBytes, _mm512_or_si512(_mm512_srli_epi32(low, 16), high));
    if (p + 1 == kParts) break;
    v.low = _mm512_sub_ps(v.low, _mm512_castsi512_ps(_mm512_and_si512(low, high_half)));
    v.high = _mm512_sub_ps(v.high, _mm512_castsi512_ps(high));
  }
}

template <size_t kParts, bool kCap>
RAM_TILE_INLINE void SoftmaxRows(const TileSoftmax& block) {
  const size_t steps = block.num_keys / kTileStep;
  const float unit = kCap ? kLog2E : block.scale * kLog2E;
  for (size_t row = 0; row < kTileRows; ++row) {
    uint8_t* to = block.packed + row / 16 * kTileBytes + row % 16 * 64;
    if (row < block.rows) block.rescale[row] = 1;
    if (row >= block.rows || block.begin[row] >= block.end[row]) {  // Weights are zero.
      for (size_t s = 0; s < steps; ++s, to += kParts * 2 * kTileBytes) {
        for (size_t p = 0; p < kParts; ++p) {
          _mm512_store_si512(to + p * 2 * kTileBytes, _mm512_setzero_si512());
        }
      }
      continue;
    }
    const float top = PrepareScores<kCap>(block, row) * unit;
    if (!(top <= block.max[row])) {
      block.rescale[row] = _mm512_cvtss_f32(Exp2(_mm512_set1_ps(block.max[row] - top)));
      block.max[row] = top;
    }
    const __m512 max = _mm512_set1_ps(block.max[row]);
    const __m512 scale = _mm512_set1_ps(unit);
    __m512 sum = _mm512_setzero_ps();
    for (size_t s = 0; s < steps; ++s, to += kParts * 2 * kTileBytes) {
      const float* scores = ScoreVector(block, row, 2 * s);
      const Pair weights = {Exp2(_mm512_fmsub_ps(_mm512_load_ps(scores), scale, max)),
                            Exp2(_mm512_fmsub_ps(_mm512_load_ps(scores + 256), scale, max))};
      sum = _mm512_add_ps(sum, _mm512_add_ps(weights.low, weights.high));
      StorePairParts<kParts>(weights, to);
    }
    block.sum[row] = block.sum[row] * block.rescale[row] + _mm512_reduce_add_ps(sum);
  }
}

template <size_t kParts>
void Softmax(const TileSoftmax& block) {
  block.softcap > 0 ? SoftmaxRows<kParts, true>(block) : SoftmaxRows<kParts, false>(block);
}

// 16 values of one key from `column` on; zero where there are none.
RAM_TILE_INLINE __m512 LoadValues(const TileValues& values, size_t key, size_t column) {
  if (key < values.first_key || key >= values.end_key || column >= values.columns) {
    return _mm512_setzero_ps();
  }
  return LoadFloats(values.bf16 ? TileWeights::kBf16 : TileWeights::kF32,
                    values.values + key * values.row_bytes + column * (values.bf16 ? 2 : 4),
                    values.columns - column);
}

// Rows of operand B are pairs of keys: value c of key i and of key i + 16 side by side.
template <size_t kParts>
void PackValuesOf(const TileValues& values) {
  const size_t steps = values.num_keys / kTileStep;
  const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i high =
      _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  const size_t padded = (values.columns + kTileColumns - 1) / kTileColumns * kTileColumns;
  for (size_t column = 0; column < padded; column += 16) {
    for (size_t pair = 0; pair < values.num_keys / 2; ++pair) {
      const size_t key = pair / 16 * kTileStep + pair % 16;
      const __m512 a = LoadValues(values, key, column);
      const __m512 b = LoadValues(values, key + 16, column);
      Pair v = {_mm512_permutex2var_ps(a, low, b), _mm512_permutex2var_ps(a, high, b)};
      uint8_t* to =
          values.packed +
          ((column / kTileColumns * steps + key / kTileStep) * kParts * 2 + column / 16 % 2) *
              kTileBytes +
          pair % 16 * 64;
#pragma GCC unroll 3
      for (size_t p = 0; p < kParts; ++p) {
        _mm512_store_si512(to + p * 2 * kTileBytes,
                           p + 1 < kParts ? TakePart<kBf16>(&v) : Narrow<kBf16>(v));
      }
    }
  }
}

void Add(const float* x, const float* factor, size_t rows, size_t blocks, float* sums) {
  for (size_t r = 0; r < rows; ++r) {
    const __m512 f = _mm512_set1_ps(factor[r]);
    for (size_t i = 0; i < 2 * blocks; ++i) {
      const size_t at = i / 2 * 1024 + r / 16 * 512 + i % 2 * 256 + r % 16 * 16;
      const __m512 before = _mm512_mul_ps(_mm512_load_ps(sums + at), f);
      _mm512_store_ps(sums + at, _mm512_add_ps(before, _mm512_load_ps(x + at)));
    }
  }
}

template <size_t kWeightParts, size_t kValueParts>
constexpr TileAttentionKernels MakeKernels() {
  return {PackValuesOf<kValueParts>, Softmax<kWeightParts>, Add};
}

}  // namespace

const TileAttentionKernels* FindTileAttentionKernels(size_t weight_parts, size_t value_parts) {
  static constexpr TileAttentionKernels kKernels[3][3] = {
      {MakeKernels<1, 1>(), MakeKernels<1, 2>(), MakeKernels<1, 3>()},
      {MakeKernels<2, 1>(), MakeKernels<2, 2>(), MakeKernels<2, 3>()},
      {MakeKernels<3, 1>(), MakeKernels<3, 2>(), MakeKernels<3, 3>()}};
  return &kKernels[weight_parts - 1][value_parts - 1];
}

}  // namespace ram

#else

namespace ram {

const TileAttentionKernels* FindTileAttentionKernels(size_t, size_t) { return nullptr; }

}  // namespace ram

#endif
