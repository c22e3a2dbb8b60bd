// Compiled for AVX-512, as amx_product.cc is: the same caution about inline functions.

#include "ram/runtime/amx_attention.h"

#if defined(__x86_64__)

#include "ram/runtime/amx_product-inl.h"

namespace ram {
namespace {

constexpr TileFormat kBf16 = TileFormat::kBf16;

// exp(x) for x <= 0; 0 for -inf. Degree 6 after 2^n is taken out; relative error below 2e-7.
RAM_TILE_INLINE __m512 Exp(__m512 x) {
  x = _mm512_max_ps(_mm512_set1_ps(-104), x);  // NaN stays.
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504F)),
                                        _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.62e4p-1F), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.7f7d1cp-20F), r);
  __m512 p = _mm512_set1_ps(1.0F / 720);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0F / 120));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0F / 24));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0F / 6));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1));
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
  const __m512 e = Exp(_mm512_mul_ps(magnitude, _mm512_set1_ps(-2)));
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

template <bool kCap>
RAM_TILE_INLINE __m512 Score(const TileSoftmax& block, __m512 dot) {
  const __m512 score = _mm512_mul_ps(dot, _mm512_set1_ps(block.scale));
  if constexpr (!kCap) return score;
  const __m512 cap = _mm512_set1_ps(block.softcap);
  return _mm512_mul_ps(cap, Tanh(_mm512_div_ps(score, cap)));
}

// Scores of a row, scaled and masked, in place; the largest.
template <bool kCap>
RAM_TILE_INLINE float PrepareScores(const TileSoftmax& block, size_t row) {
  float* scores = block.scores + row * block.pitch;
  const __m512 lowest = _mm512_set1_ps(-__builtin_inff());
  const auto num_keys = static_cast<int32_t>(block.num_keys);
  const int32_t begin = block.begin[row];
  const int32_t end = block.end[row];
  __m512 max = lowest;
  for (int32_t key = 0; key < num_keys; key += 16) {
    __m512 score = Score<kCap>(block, _mm512_load_ps(scores + key));
    if (key < begin || key + 16 > end) {
      score = _mm512_mask_mov_ps(lowest, KeyMask(key, begin, end), score);
    }
    _mm512_store_ps(scores + key, score);
    max = _mm512_max_ps(max, score);
  }
  return _mm512_reduce_max_ps(max);
}

template <size_t kParts>
RAM_TILE_INLINE void StoreParts(Pair v, uint8_t* to) {
#pragma GCC unroll 3
  for (size_t p = 0; p < kParts; ++p) {
    _mm512_store_si512(to + p * 2 * kTileBytes,
                       p + 1 < kParts ? TakePart<kBf16>(&v) : Narrow<kBf16>(v));
  }
}

template <size_t kParts, bool kCap>
RAM_TILE_INLINE void SoftmaxRows(const TileSoftmax& block) {
  const size_t steps = block.num_keys / kTileStep;
  for (size_t row = 0; row < kTileRows; ++row) {
    uint8_t* to = block.packed + row / 16 * kTileBytes + row % 16 * 64;
    const float top = row < block.rows ? PrepareScores<kCap>(block, row) : -__builtin_inff();
    if (row < block.rows) block.rescale[row] = 1;
    if (top == -__builtin_inff()) {  // Nothing to see here: weights are zero.
      for (size_t s = 0; s < steps; ++s, to += kParts * 2 * kTileBytes) {
        for (size_t p = 0; p < kParts; ++p) {
          _mm512_store_si512(to + p * 2 * kTileBytes, _mm512_setzero_si512());
        }
      }
      continue;
    }
    if (top > block.max[row]) {
      block.rescale[row] = _mm512_cvtss_f32(Exp(_mm512_set1_ps(block.max[row] - top)));
      block.max[row] = top;
    }
    const __m512 max = _mm512_set1_ps(block.max[row]);
    const float* scores = block.scores + row * block.pitch;
    __m512 sum = _mm512_setzero_ps();
    for (size_t s = 0; s < steps; ++s, to += kParts * 2 * kTileBytes) {
      const Pair weights = {Exp(_mm512_sub_ps(_mm512_load_ps(scores + s * 32), max)),
                            Exp(_mm512_sub_ps(_mm512_load_ps(scores + s * 32 + 16), max))};
      sum = _mm512_add_ps(sum, _mm512_add_ps(weights.low, weights.high));
      StoreParts<kParts>(weights, to);
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

// Rows of operand B are pairs of keys: value c of key 2p and of key 2p + 1 side by side.
template <size_t kParts>
void PackValuesOf(const TileValues& values) {
  const size_t steps = values.num_keys / kTileStep;
  const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i high =
      _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  const size_t padded = (values.columns + kTileColumns - 1) / kTileColumns * kTileColumns;
  for (size_t column = 0; column < padded; column += 16) {
    for (size_t key = 0; key < values.num_keys; key += 2) {
      const __m512 even = LoadValues(values, key, column);
      const __m512 odd = LoadValues(values, key + 1, column);
      uint8_t* to =
          values.packed +
          ((column / kTileColumns * steps + key / kTileStep) * kParts * 2 + column / 16 % 2) *
              kTileBytes +
          key / 2 % 16 * 64;
      StoreParts<kParts>(
          {_mm512_permutex2var_ps(even, low, odd), _mm512_permutex2var_ps(even, high, odd)}, to);
    }
  }
}

void Add(const float* x, size_t x_pitch, const float* factor, size_t rows, size_t cols, float* sums,
         size_t pitch) {
  for (size_t r = 0; r < rows; ++r) {
    const __m512 f = _mm512_set1_ps(factor[r]);
    for (size_t c = 0; c < cols; c += 16) {
      float* to = sums + r * pitch + c;
      const __m512 before = _mm512_mul_ps(_mm512_load_ps(to), f);
      _mm512_store_ps(
          to, x == nullptr ? before : _mm512_add_ps(before, _mm512_load_ps(x + r * x_pitch + c)));
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
