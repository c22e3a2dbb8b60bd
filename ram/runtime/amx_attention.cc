// Compiled for AVX-512, as amx_product.cc is: the same caution about inline functions.

#include "ram/runtime/amx_attention.h"

#if defined(__x86_64__)

#include "ram/runtime/amx_product-inl.h"

namespace ram {
namespace {

constexpr TileFormat kBf16 = TileFormat::kBf16;

constexpr float kLog2E = 1.44269504F;

// 2^x for x <= 0: 2^r for the r in [0, 1] above the next integer below. The polynomial is exact at
// 0 and otherwise has the least largest relative error, 8.2e-8; with rounding 2e-7, 7e-8 (rms). Few
// instructions, and a short chain of them: this is what attention spends its time on.
RAM_TILE_INLINE __m512 Exp2(__m512 x) {
  const __m512 r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  const __m512 square = _mm512_mul_ps(r, r);
  const __m512 a = _mm512_fmadd_ps(_mm512_set1_ps(0.693151295F), r, _mm512_set1_ps(1));
  const __m512 b = _mm512_fmadd_ps(_mm512_set1_ps(0.0557999127F), r, _mm512_set1_ps(0.240164444F));
  const __m512 c =
      _mm512_fmadd_ps(_mm512_set1_ps(0.00186713086F), r, _mm512_set1_ps(0.00901702885F));
  const __m512 p = _mm512_fmadd_ps(_mm512_fmadd_ps(c, square, b), square, a);
  return _mm512_scalef_ps(p, x);  // Which rounds x down, too.
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

// The 16 rows of queries that are one vector.
RAM_TILE_INLINE float* ScoresOf(const TileSoftmax& block, size_t group, size_t key) {
  return block.scores + key / 32 * 1024 + key % 32 / 16 * 512 + group * 256 + key % 16 * 16;
}

// Which of 16 rows see a key.
class SeenKeys {
 public:
  RAM_TILE_INLINE SeenKeys(const TileSoftmax& block, size_t group)
      : begin_(_mm512_load_si512(block.begin + group * 16)),
        end_(_mm512_load_si512(block.end + group * 16)) {}

  RAM_TILE_INLINE __mmask16 Rows(size_t key) const {
    const __m512i keys = _mm512_set1_epi32(static_cast<int32_t>(key));
    return _mm512_cmpge_epi32_mask(keys, begin_) & _mm512_cmplt_epi32_mask(keys, end_);
  }

 private:
  __m512i begin_;
  __m512i end_;
};

// Whether all rows see the keys [first, first + num).
RAM_TILE_INLINE bool AllSee(const TileSoftmax& block, size_t first, size_t num) {
  return static_cast<int32_t>(first) >= block.first_common &&
         static_cast<int32_t>(first + num) <= block.end_common;
}

constexpr size_t kWeighedKeys = TileSoftmax::kWeighedKeys;

// The maximum of 16 rows over 32 keys; scores are capped in place.
template <bool kCap, bool kMask>
RAM_TILE_INLINE void FindMaximum(const TileSoftmax& block, size_t group, size_t step) {
  const __m512 unseen = _mm512_set1_ps(kUnseenScore);
  const __m512 scale = _mm512_set1_ps(block.scale / block.softcap);
  const __m512 cap = _mm512_set1_ps(block.softcap);
  const SeenKeys seen(block, group);
  float* const scores = ScoresOf(block, group, step * kTileStep);
  __m512 top[4] = {unseen, unseen, unseen, unseen};
  for (size_t key = 0; key < kTileStep; key += 4) {
    float* const at = scores + key / 16 * 512 + key % 16 * 16;
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; ++i) {
      __m512 score = _mm512_load_ps(at + i * 16);
      if constexpr (kCap) {
        score = _mm512_mul_ps(Tanh(_mm512_mul_ps(score, scale)), cap);
        _mm512_store_ps(at + i * 16, score);
      }
      if constexpr (kMask) {
        score = _mm512_mask_mov_ps(unseen, seen.Rows(step * kTileStep + key + i), score);
      }
      top[i] = _mm512_max_ps(top[i], score);
    }
  }
  _mm512_store_ps(block.most + step * kTileRows + group * 16,
                  _mm512_max_ps(_mm512_max_ps(top[0], top[1]), _mm512_max_ps(top[2], top[3])));
}

// After the last of these: what the maximum does to the sums before.
RAM_TILE_INLINE void Rescale(const TileSoftmax& block, size_t group, float unit) {
  __m512 most = _mm512_set1_ps(kUnseenScore);
  for (size_t step = 0; step < block.num_keys / kTileStep; ++step) {
    most = _mm512_max_ps(most, _mm512_load_ps(block.most + step * kTileRows + group * 16));
  }
  const __m512 before = _mm512_load_ps(block.max + group * 16);
  const __m512 max = _mm512_max_ps(before, _mm512_mul_ps(most, _mm512_set1_ps(unit)));
  const __m512 rescale = Exp2(_mm512_sub_ps(before, max));
  _mm512_store_ps(block.max + group * 16, max);
  _mm512_store_ps(block.rescale + group * 16, rescale);
  float* sum = block.sum + group * 16;
  _mm512_store_ps(sum, _mm512_mul_ps(_mm512_load_ps(sum), rescale));
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
    // (high & high_half) | low >> 16.
    const __m512i both =
        _mm512_ternarylogic_epi32(high, high_half, _mm512_srli_epi32(low, 16), 0xEA);
    _mm512_store_si512(to + p * 2 * kTileBytes, both);
    if (p + 1 == kParts) break;
    v.low = _mm512_sub_ps(v.low, _mm512_castsi512_ps(_mm512_and_si512(low, high_half)));
    v.high = _mm512_sub_ps(v.high, _mm512_castsi512_ps(_mm512_and_si512(high, high_half)));
  }
}

// Weights of 16 rows and kWeighedKeys keys.
template <size_t kParts, bool kMask>
RAM_TILE_INLINE void WeighKeys(const TileSoftmax& block, size_t group, size_t first_key,
                               float unit) {
  const __m512 max = _mm512_load_ps(block.max + group * 16);
  const __m512 scale = _mm512_set1_ps(unit);
  const float* scores = ScoresOf(block, group, first_key);
  uint8_t* to = block.packed + first_key / kTileStep * kParts * 2 * kTileBytes +
                group * kTileBytes + first_key % kTileStep / 2 * 64;
  float* const sum = block.sum + group * 16;
  __m512 sums = _mm512_load_ps(sum);
#pragma GCC unroll 2
  for (size_t pair = 0; pair < kWeighedKeys / 2; ++pair) {
    const float* at = scores + pair * 32;
    Pair weights = {Exp2(_mm512_fmsub_ps(_mm512_load_ps(at), scale, max)),
                    Exp2(_mm512_fmsub_ps(_mm512_load_ps(at + 16), scale, max))};
    if constexpr (kMask) {
      const SeenKeys seen(block, group);
      weights.low = _mm512_maskz_mov_ps(seen.Rows(first_key + 2 * pair), weights.low);
      weights.high = _mm512_maskz_mov_ps(seen.Rows(first_key + 2 * pair + 1), weights.high);
    }
    sums = _mm512_add_ps(sums, _mm512_add_ps(weights.low, weights.high));
    StorePairParts<kParts>(weights, to + pair * 64);
  }
  _mm512_store_ps(sum, sums);
}

// The pieces of 16 rows: maxima of 32 keys each, then weights of kWeighedKeys each.
template <size_t kParts, bool kCap>
RAM_TILE_INLINE void SoftmaxPiece(const TileSoftmax& block, size_t piece) {
  const float unit = kCap ? kLog2E : block.scale * kLog2E;
  const size_t pieces = block.num_pieces() / 2;
  const size_t group = piece < pieces ? 0 : 1;
  const size_t place = piece - group * pieces;
  const size_t steps = block.num_keys / kTileStep;
  if (place < steps) {
    AllSee(block, place * kTileStep, kTileStep) ? FindMaximum<kCap, false>(block, group, place)
                                                : FindMaximum<kCap, true>(block, group, place);
    if (place + 1 == steps) Rescale(block, group, unit);
    return;
  }
  const size_t key = (place - steps) * kWeighedKeys;
  AllSee(block, key, kWeighedKeys) ? WeighKeys<kParts, false>(block, group, key, unit)
                                   : WeighKeys<kParts, true>(block, group, key, unit);
}

template <size_t kParts>
void Softmax(const TileSoftmax& block, size_t first, size_t end) {
  for (size_t piece = first; piece < end; ++piece) {
    block.softcap > 0 ? SoftmaxPiece<kParts, true>(block, piece)
                      : SoftmaxPiece<kParts, false>(block, piece);
  }
}

// Deals out the pieces of a softmax evenly among the passes of a product: some 100 vector
// instructions after every four tile products, as many as fit beside them in the window in which
// the CPU looks for work.
template <size_t kParts>
class SoftmaxBeside {
 public:
  RAM_TILE_INLINE SoftmaxBeside(const TileSoftmax& block, size_t first, size_t end, size_t passes)
      : block_(block),
        next_(first),
        end_(end),
        until_(first << 32),
        rate_(passes == 0 ? 0 : ((end - first) << 32) / passes) {}

  RAM_TILE_INLINE void Turn() {
    until_ += rate_;
    const size_t until = until_ >> 32;
    if (next_ < until) Softmax<kParts>(block_, next_, until);
    next_ = until;
  }
  // What rounding left.
  RAM_TILE_INLINE void Finish() { Softmax<kParts>(block_, next_, end_); }

 private:
  const TileSoftmax& block_;
  size_t next_;
  size_t end_;
  uint64_t until_;  // 32 bits after the point.
  uint64_t rate_;
};

// Parts i of a and j of b with i + j < parts of b.
template <size_t kAParts, size_t kBParts, bool kRestart, size_t kA = 0, size_t kB = 0, class Beside>
RAM_TILE_INLINE void AttentionStep(const uint8_t* a, const uint8_t* b, float* finished,
                                   Beside* beside) {
  PassBeside<TileUnit, kBf16, /*kBoth=*/true, /*kLoadWeights=*/true, kRestart, /*kLoadX=*/kB == 0>(
      a + kA * 2 * kTileBytes, b + kB * 2 * kTileBytes, finished, [](auto) {});
  beside->Turn();
  if constexpr (kA + kB + 1 < kBParts) {
    AttentionStep<kAParts, kBParts, false, kA, kB + 1>(a, b, finished, beside);
  } else if constexpr (kA + 1 < kAParts) {
    AttentionStep<kAParts, kBParts, false, kA + 1, 0>(a, b, finished, beside);
  }
}

template <size_t kParts, size_t kCacheParts>
void MultiplyBeside(const TileAttentionProduct& product, const TileSoftmax& softmax, size_t first,
                    size_t end) {
  constexpr size_t kAStep = kCacheParts * 2 * kTileBytes;
  constexpr size_t kBStep = kParts * 2 * kTileBytes;
  constexpr size_t kPasses = kCacheParts == 1 ? kParts : kParts * (kParts + 1) / 2;
  SoftmaxBeside<kParts> beside(softmax, first, end, product.blocks * product.steps * kPasses);
  float* sums = product.sums;
  ZeroSums<TileUnit, true>();
  for (size_t block = 0; block < product.blocks; ++block) {
    const uint8_t* a = product.a + block * product.a_steps * kAStep;
    for (size_t s = 0; s < product.steps; ++s) {
      if (s == 0 && block != 0) {
        AttentionStep<kCacheParts, kParts, true>(a, product.b, sums, &beside);
        sums += 1024;
      } else {
        AttentionStep<kCacheParts, kParts, false>(a + s * kAStep, product.b + s * kBStep, nullptr,
                                                  &beside);
      }
    }
  }
  StoreSums<TileUnit, true>(sums);
  beside.Finish();
}

// 16 values of a position from `col` on; zero where there are none.
RAM_TILE_INLINE __m512 LoadCache(const TileCache& cache, size_t position, size_t col) {
  if (position < cache.first || position >= cache.end || col >= cache.cols) {
    return _mm512_setzero_ps();
  }
  return LoadFloats(cache.bf16 ? TileWeights::kBf16 : TileWeights::kF32,
                    cache.values + position * cache.row_bytes + col * (cache.bf16 ? 2 : 4),
                    cache.cols - col);
}

template <size_t kParts>
RAM_TILE_INLINE void StoreParts(Pair v, uint8_t* to) {
#pragma GCC unroll 3
  for (size_t p = 0; p < kParts; ++p) {
    _mm512_store_si512(to + p * 2 * kTileBytes,
                       p + 1 < kParts ? TakePart<kBf16>(&v) : Narrow<kBf16>(v));
  }
}

template <size_t kParts>
void PackKeys(const TileCache& keys) {
  const size_t steps = (keys.cols + kTileStep - 1) / kTileStep;
  for (size_t position = 0; position < keys.positions; ++position) {
    for (size_t s = 0; s < steps; ++s) {
      const size_t col = s * kTileStep;
      StoreParts<kParts>({LoadCache(keys, position, col), LoadCache(keys, position, col + 16)},
                         keys.packed +
                             (position / kTileRows * steps + s) * kParts * 2 * kTileBytes +
                             position % kTileRows / 16 * kTileBytes + position % 16 * 64);
    }
  }
}

template <size_t kParts>
void PackValues(const TileCache& values) {
  const size_t steps = values.positions / kTileStep;
  const size_t padded = (values.cols + kTileRows - 1) / kTileRows * kTileRows;
  for (size_t col = 0; col < padded; col += 16) {
    for (size_t s = 0; s < steps; ++s) {
      __m512i halves[2][16];  // [col][position]
#pragma GCC unroll 2
      for (size_t half = 0; half < 2; ++half) {
#pragma GCC unroll 16
        for (size_t i = 0; i < 16; ++i) {
          halves[half][i] =
              _mm512_castps_si512(LoadCache(values, s * kTileStep + half * 16 + i, col));
        }
        Transpose(halves[half]);
      }
      uint8_t* to = values.packed + (col / kTileRows * steps + s) * kParts * 2 * kTileBytes +
                    col % kTileRows / 16 * kTileBytes;
      for (size_t i = 0; i < 16; ++i) {
        StoreParts<kParts>({_mm512_castsi512_ps(halves[0][i]), _mm512_castsi512_ps(halves[1][i])},
                           to + i * 64);
      }
    }
  }
}

void Add(const float* x, const float* factor, size_t blocks, float* sums) {
  const __m512 factors[2] = {_mm512_load_ps(factor), _mm512_load_ps(factor + 16)};
  for (size_t i = 0; i < blocks * 1024; i += 16) {
    const __m512 before = _mm512_mul_ps(_mm512_load_ps(sums + i), factors[i / 256 % 2]);
    _mm512_store_ps(sums + i, _mm512_add_ps(before, _mm512_load_ps(x + i)));
  }
}

void Finish(const TileResult& result) {
  for (size_t row = 0; row < result.rows; row += 16) {
    const __m512 sum = _mm512_load_ps(result.sum + row);
    for (size_t col = 0; col < result.cols; col += 16) {
      const float* from = result.sums + col / 32 * 1024 + col % 32 / 16 * 512 + row / 16 * 256;
      __m512i v[16];
#pragma GCC unroll 16
      for (size_t i = 0; i < 16; ++i) {
        v[i] = _mm512_castps_si512(_mm512_div_ps(_mm512_load_ps(from + i * 16), sum));
      }
      Transpose(v);
      for (size_t i = 0; i < 16 && row + i < result.rows; ++i) {
        _mm512_mask_storeu_ps(result.out + (row + i) * result.pitch + col,
                              Mask16(result.cols - col), _mm512_castsi512_ps(v[i]));
      }
    }
  }
}

template <size_t kParts, size_t kCacheParts>
constexpr TileAttentionKernels MakeKernels() {
  return {PackKeys<kCacheParts>,
          PackValues<kCacheParts>,
          Softmax<kParts>,
          MultiplyBeside<kParts, kCacheParts>,
          Add,
          Finish};
}

}  // namespace

const TileAttentionKernels* FindTileAttentionKernels(size_t parts, size_t cache_parts) {
  static constexpr TileAttentionKernels kKernels[3][2] = {
      {MakeKernels<1, 1>(), MakeKernels<1, 1>()},
      {MakeKernels<2, 1>(), MakeKernels<2, 2>()},
      {MakeKernels<3, 1>(), MakeKernels<3, 3>()}};
  return &kKernels[parts - 1][cache_parts == 1 ? 0 : 1];
}

}  // namespace ram

#else

namespace ram {

const TileAttentionKernels* FindTileAttentionKernels(size_t, size_t) { return nullptr; }

}  // namespace ram

#endif
