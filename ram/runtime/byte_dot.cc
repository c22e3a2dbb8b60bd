// Compiled for AVX-512 F, DQ, BW, VL, VBMI, VNNI and GFNI: include nothing here that has inline
// functions of its own, or the linker might choose this file's copy of them for other CPUs.

#include "ram/runtime/byte_dot.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <type_traits>
#include <utility>

#define RAM_BYTE_INLINE inline __attribute__((always_inline))

namespace ram {
namespace {

constexpr size_t kVectorBytes = 64;
constexpr size_t kLanes = 16;
constexpr size_t kDigits = 3;  // Bytes of q, the highest first.
// 127 * (2^16 + 2^8 + 1), the largest of three signed bytes, is 8,355,711; less what divisions
// round. Times 128, the largest sum of |code - kCenter| of a lane, it is within 31 bits and a sign;
// on the way sums may wrap around.
constexpr float kMostOfX = 8355000.0F;

// Calls body(i) for i = 0 ... kNum - 1 as constants, so that arrays of vectors become registers.
template <size_t kNum, class Body>
RAM_BYTE_INLINE void Unroll(const Body& body) {
  [&]<size_t... kIndex>(std::index_sequence<kIndex...>) __attribute__((always_inline)) {
    (body(std::integral_constant<size_t, kIndex>()), ...);
  }
  (std::make_index_sequence<kNum>());
}

// ---------------------------------------------------------------------------------------------
// How codes become bytes. A step is kCols codes, kBytes bytes of a row, and reads 64; Unpack makes
// kVectors vectors of them. Byte b of vector v is column kVectors * b + v of the step, so a lane,
// 4 bytes of each vector, is 4 * kVectors neighbours. kCenter, the middle of the codes, is taken
// from all of them before the sum of a lane is rounded.

// Bits [first, first + kBits) of every byte.
template <int kBits>
RAM_BYTE_INLINE __m512i Field(__m512i bytes, int first) {
  if (first == 0) return _mm512_and_si512(bytes, _mm512_set1_epi8((1 << kBits) - 1));
  uint64_t matrix = 0;  // Row 7 - i makes bit i.
  for (int i = 0; i < kBits; ++i) matrix |= uint64_t{1} << (8 * (7 - i) + first + i);
  return _mm512_gf2p8affine_epi64_epi8(bytes, _mm512_set1_epi64(static_cast<int64_t>(matrix)), 0);
}

// kVectors fields of each byte.
template <int kBits, size_t kVectors>
RAM_BYTE_INLINE void SplitBytes(__m512i bytes, __m512i* codes) {
  Unroll<kVectors>([&](auto v) __attribute__((always_inline)) {
    codes[v] = Field<kBits>(bytes, static_cast<int>(v) * kBits);
  });
}

// 2 and 4 bits: bytes stay where they are.
template <int kBits>
struct WholeBytes {
  static constexpr size_t kVectors = 8 / kBits;
  static constexpr size_t kCols = kVectors * kVectorBytes;
  static constexpr size_t kBytes = kCols * kBits / 8;
  static constexpr int kCenter = 1 << (kBits - 1);
  static RAM_BYTE_INLINE void Unpack(__m512i stored, __m512i* codes) {
    SplitBytes<kBits, kVectors>(stored, codes);
  }
};

// 3, 5 and 6 bits: the bytes of eight fields (two codes of 3 bits, or one) in each 64 bits, out of
// which one instruction takes what begins at any bit.
template <int kBits>
struct BitFields {
  static constexpr size_t kVectors = kBits == 3 ? 2 : 1;
  static constexpr size_t kCols = kVectors * kVectorBytes;
  static constexpr size_t kBytes = kCols * kBits / 8;
  static constexpr int kCenter = 1 << (kBits - 1);
  struct Places {
    alignas(64) uint8_t byte[kVectorBytes];
  };
  static constexpr Places kPlaces = [] {
    Places places = {};
    for (size_t i = 0; i < kVectorBytes; ++i) {
      places.byte[i] = static_cast<uint8_t>((i / 8 * (kBytes / 8) + i % 8) % kVectorBytes);
    }
    return places;
  }();
  static constexpr uint64_t kFields = [] {
    uint64_t fields = 0;
    for (uint64_t i = 0; i < 8; ++i) fields |= i * kVectors * kBits << (8 * i);
    return fields;
  }();
  static RAM_BYTE_INLINE void Unpack(__m512i stored, __m512i* codes) {
    const __m512i words = _mm512_permutexvar_epi8(_mm512_load_si512(kPlaces.byte), stored);
    const __m512i fields = _mm512_set1_epi64(static_cast<int64_t>(kFields));
    SplitBytes<kBits, kVectors>(_mm512_multishift_epi64_epi8(fields, words), codes);
  }
};

// The values of E2M1 codes, doubled, plus 12: 0 to 24, so that MXFP4 is an affine format of scale
// s / 2 without biases. Lookups take six bits of a byte, so the table is there four times, and what
// lies above the code does not matter.
struct Mxfp4Codes {
  static constexpr size_t kVectors = 2;
  static constexpr size_t kCols = 128;
  static constexpr size_t kBytes = 64;
  static constexpr int kCenter = 12;
  static RAM_BYTE_INLINE void Unpack(__m512i stored, __m512i* codes) {
    const __m512i table = _mm512_broadcast_i32x4(
        _mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0));
    codes[0] = _mm512_permutexvar_epi8(stored, table);
    codes[1] = _mm512_permutexvar_epi8(_mm512_srli_epi32(stored, 4), table);
  }
};

// Calls visit(codes) with those of a matrix.
template <class Visit>
RAM_BYTE_INLINE auto WithCodes(const ByteMatrix& matrix, const Visit& visit) {
  switch (matrix.codes) {
    case ByteCodes::k2:
      return visit(WholeBytes<2>());
    case ByteCodes::k3:
      return visit(BitFields<3>());
    case ByteCodes::k4:
      return visit(WholeBytes<4>());
    case ByteCodes::k5:
      return visit(BitFields<5>());
    case ByteCodes::k6:
      return visit(BitFields<6>());
    default:
      return visit(Mxfp4Codes());
  }
}

// ---------------------------------------------------------------------------------------------
// Packed x: [step][row]{s [lane], what sums begin with [lane], q [3 bytes][vector][64]}; then, for
// biases and for what sums began with, the LaneSums of groups: [row][2][group], zeros up to a whole
// vector.

RAM_BYTE_INLINE size_t RoundUp(size_t value, size_t to) { return (value + to - 1) / to * to; }

// Rows are packed, and kernels exist, for 1, 2 and 4.
RAM_BYTE_INLINE size_t PaddedRows(size_t rows) { return rows <= 2 ? rows : 4; }

RAM_BYTE_INLINE size_t PaddedGroups(const ByteMatrix& matrix) {
  return RoundUp(matrix.cols / matrix.group_size, kLanes);
}

template <class Codes>
constexpr size_t kPackedFloats = (2 + kDigits * Codes::kVectors) * kLanes;

template <class Codes>
RAM_BYTE_INLINE size_t NumSteps(size_t cols) {
  return (cols + Codes::kCols - 1) / Codes::kCols;
}

// Sums of codes begin with -2^16 t, where 2^16 t is about kCenter * (sum of q); so t can begin the
// sum of the highest bytes. Of the lanes of a step: s * (sum of q), and s * (2^16 t - kCenter *
// (sum of q)).
struct LaneSums {
  double x[kLanes];
  double excess[kLanes];
};

// One row of one step; `cols` exist.
template <class Codes>
RAM_BYTE_INLINE void PackStep(const float* x, size_t cols, float* packed, LaneSums& sums) {
  constexpr size_t kColsOfLane = 4 * Codes::kVectors;
  const __m512i lanes =
      _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                         _mm512_set1_epi32(kColsOfLane));
  __m512 values[kColsOfLane];
  __m512 max = _mm512_setzero_ps();
  __m512 not_finite = _mm512_setzero_ps();  // 0, or NaN.
  for (size_t i = 0; i < kColsOfLane; ++i) {
    const __m512i at = _mm512_add_epi32(
        lanes, _mm512_set1_epi32(static_cast<int>(Codes::kVectors * (i % 4) + i / 4)));
    const __mmask16 exist = _mm512_cmplt_epi32_mask(at, _mm512_set1_epi32(static_cast<int>(cols)));
    values[i] = _mm512_mask_i32gather_ps(_mm512_setzero_ps(), exist, at, x, 4);
    max = _mm512_max_ps(max, _mm512_abs_ps(values[i]));
    not_finite = _mm512_fmadd_ps(values[i], _mm512_setzero_ps(), not_finite);
  }
  // Not below the smallest normal number; 1 for zeros, as products with denormals are slow.
  __m512 scale = _mm512_div_ps(max, _mm512_set1_ps(kMostOfX));
  scale = _mm512_max_ps(scale, _mm512_set1_ps(0x1p-126F));
  scale = _mm512_mask_mov_ps(scale, _mm512_cmp_ps_mask(max, _mm512_setzero_ps(), _CMP_EQ_OQ),
                             _mm512_set1_ps(1));
  scale = _mm512_add_ps(scale, not_finite);
  _mm512_store_ps(packed, scale);

  __m512i sum = _mm512_setzero_si512();
  __m512i digits[kDigits][Codes::kVectors] = {};
  for (size_t i = 0; i < kColsOfLane; ++i) {
    __m512i q = _mm512_cvtps_epi32(_mm512_div_ps(values[i], scale));
    sum = _mm512_add_epi32(sum, q);
    for (size_t digit = kDigits; digit-- > 0;) {
      const __m512i byte = _mm512_and_si512(q, _mm512_set1_epi32(255));
      digits[digit][i / 4] = _mm512_or_si512(
          digits[digit][i / 4], _mm512_slli_epi32(byte, static_cast<unsigned>(i % 4 * 8)));
      q = _mm512_srai_epi32(_mm512_add_epi32(q, _mm512_set1_epi32(128)), 8);
    }
  }
  const __m512i center = _mm512_mullo_epi32(sum, _mm512_set1_epi32(Codes::kCenter));
  const __m512i t = _mm512_srai_epi32(_mm512_add_epi32(center, _mm512_set1_epi32(1 << 15)), 16);
  _mm512_store_si512(packed + kLanes, _mm512_sub_epi32(_mm512_setzero_si512(), t));
  for (size_t i = 0; i < kDigits * Codes::kVectors; ++i) {
    _mm512_store_si512(packed + (2 + i) * kLanes, digits[i / Codes::kVectors][i % Codes::kVectors]);
  }
  // Exact: 24 bits times 29.
  const auto store = [&](__m512i q, double* to) __attribute__((always_inline)) {
    const __m256 low = _mm512_castps512_ps256(scale);
    const __m256 high = _mm512_extractf32x8_ps(scale, 1);
    const __m512d low_q = _mm512_cvtepi32_pd(_mm512_castsi512_si256(q));
    const __m512d high_q = _mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(q, 1));
    _mm512_storeu_pd(to, _mm512_mul_pd(_mm512_cvtps_pd(low), low_q));
    _mm512_storeu_pd(to + 8, _mm512_mul_pd(_mm512_cvtps_pd(high), high_q));
  };
  store(sum, sums.x);
  store(_mm512_sub_epi32(_mm512_slli_epi32(t, 16), center), sums.excess);
}

template <class Codes>
void PackRows(const ByteMatrix& matrix, const float* x, size_t pitch, size_t num_rows,
              float* packed) {
  const size_t rows = PaddedRows(num_rows);
  const size_t steps = NumSteps<Codes>(matrix.cols);
  const size_t padded = PaddedGroups(matrix);
  float* group_sums = packed + steps * rows * kPackedFloats<Codes>;
  for (size_t i = 0; i < rows * 2 * padded; ++i) group_sums[i] = 0;
  for (size_t row = 0; row < rows; ++row) {
    double group_x = 0;
    double group_excess = 0;
    size_t group = 0;
    for (size_t step = 0; step < steps; ++step) {
      const size_t first = step * Codes::kCols;
      const bool exists = row < num_rows;
      LaneSums sums;
      PackStep<Codes>(exists ? x + row * pitch + first : x, exists ? matrix.cols - first : 0,
                      packed + (step * rows + row) * kPackedFloats<Codes>, sums);
      for (size_t lane = 0; lane < kLanes; ++lane) {
        const size_t col = first + lane * 4 * Codes::kVectors;
        if (col >= matrix.cols) break;
        if (col / matrix.group_size != group) {
          group_x = 0;
          group_excess = 0;
          group = col / matrix.group_size;
        }
        group_x += sums.x[lane];
        group_excess += sums.excess[lane];
        group_sums[row * 2 * padded + group] = static_cast<float>(group_x);
        group_sums[(row * 2 + 1) * padded + group] = static_cast<float>(group_excess);
      }
    }
  }
}

// ---------------------------------------------------------------------------------------------
// The product.

// Rows of weights that are multiplied at a time.
constexpr size_t kDotCols = 4;

// 16 scales or biases as f32, from element `first` on; fewer (kWhole: false), then zeros.
template <ByteScales kForm, bool kWhole>
RAM_BYTE_INLINE __m512 LoadScales(const uint8_t* from, size_t first, size_t num) {
  const auto exist = static_cast<__mmask16>((1U << num) - 1);
  if constexpr (kForm == ByteScales::kF32) {
    from += 4 * first;
    return kWhole ? _mm512_loadu_ps(from) : _mm512_maskz_loadu_ps(exist, from);
  } else if constexpr (kForm == ByteScales::kE8M0) {
    from += first;
    const __m128i bytes = kWhole ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(from))
                                 : _mm_maskz_loadu_epi8(exist, from);
    const __m512i power = _mm512_cvtepu8_epi32(bytes);
    return _mm512_castsi512_ps(_mm512_mask_mov_epi32(_mm512_slli_epi32(power, 23),
                                                     _mm512_testn_epi32_mask(power, power),
                                                     _mm512_set1_epi32(0x00400000)));
  } else {
    from += 2 * first;
    const __m256i bits = kWhole ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))
                                : _mm256_maskz_loadu_epi16(exist, from);
    return kForm == ByteScales::kF16
               ? _mm512_cvtph_ps(bits)
               : _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
}

// Scales of one row as f32 into `scales`, beyond the last a vector that is finite. sums [kRows]
// begin with what the codes `center` mean, times the sums of x. Not inlined, for it is there for
// every form of scales.
template <ByteScales kForm, size_t kRows>
void AddBiases(const ByteMatrix& matrix, float center, size_t row, const float* x_sums,
               float* scales, __m512* sums) {
  const size_t groups = matrix.cols / matrix.group_size;
  const size_t padded = PaddedGroups(matrix);
  const uint8_t* from = matrix.scales + row * matrix.scale_row_bytes;
  const uint8_t* from_biases = matrix.biases + row * matrix.scale_row_bytes;
  __m512 totals[kRows];
  Unroll<kRows>([&](auto r) __attribute__((always_inline)) { totals[r] = _mm512_setzero_ps(); });
  const auto add = [&](auto whole, size_t g, size_t num) __attribute__((always_inline)) {
    __m512 scale = LoadScales<kForm, whole>(from, g, num);
    __m512 bias = _mm512_setzero_ps();
    if constexpr (kForm == ByteScales::kE8M0) {
      scale = _mm512_mul_ps(scale, _mm512_set1_ps(0.5F));
    } else {
      bias = LoadScales<kForm, whole>(from_biases, g, num);
      bias = _mm512_fmadd_ps(scale, _mm512_set1_ps(center), bias);
    }
    _mm512_storeu_ps(scales + g, scale);
    Unroll<kRows>([&](auto r) __attribute__((always_inline)) {
      const float* x = x_sums + r * 2 * padded + g;
      if constexpr (kForm != ByteScales::kE8M0) {
        totals[r] = _mm512_fmadd_ps(bias, _mm512_load_ps(x), totals[r]);
      }
      totals[r] = _mm512_fmadd_ps(scale, _mm512_load_ps(x + padded), totals[r]);
    });
  };
  size_t g = 0;
  for (; g + kLanes <= groups; g += kLanes) add(std::true_type(), g, kLanes);
  if (g < groups) add(std::false_type(), g, groups - g);
  _mm512_storeu_ps(scales + padded, _mm512_setzero_ps());
  Unroll<kRows>([&](auto r) __attribute__((always_inline)) { sums[r] = totals[r]; });
}

template <size_t kRows>
auto AddBiasesOf(ByteScales form) {
  switch (form) {
    case ByteScales::kF32:
      return AddBiases<ByteScales::kF32, kRows>;
    case ByteScales::kF16:
      return AddBiases<ByteScales::kF16, kRows>;
    case ByteScales::kBf16:
      return AddBiases<ByteScales::kBf16, kRows>;
    default:
      return AddBiases<ByteScales::kE8M0, kRows>;
  }
}

// Adds one step to the sums [kCols][kRows]. `scales` are those of the step's first group, `room`
// floats apart.
template <class Codes, size_t kRows, size_t kCols>
RAM_BYTE_INLINE void AddStep(const __m512i* stored, const float* x, const float* scales,
                             size_t room, __m512i lane_groups, __m512* sums) {
  constexpr size_t kVectors = Codes::kVectors;
  __m512i codes[kCols * kVectors];
  __m512 scale[kCols];
  Unroll<kCols>([&](auto col) __attribute__((always_inline)) {
    Codes::Unpack(stored[col], codes + col * kVectors);
    scale[col] = _mm512_permutexvar_ps(lane_groups, _mm512_loadu_ps(scales + col * room));
  });
  Unroll<kRows>([&](auto row) __attribute__((always_inline)) {
    const float* from = x + row * kPackedFloats<Codes>;
    __m512i dots[kCols];
    Unroll<kDigits>([&](auto digit) __attribute__((always_inline)) {
      Unroll<kVectors>([&](auto v) __attribute__((always_inline)) {
        const __m512i bytes = _mm512_load_si512(from + (2 + digit * kVectors + v) * kLanes);
        Unroll<kCols>([&](auto col) __attribute__((always_inline)) {
          if constexpr (v == 0) {
            dots[col] =
                digit == 0 ? _mm512_load_si512(from + kLanes) : _mm512_slli_epi32(dots[col], 8);
          }
          dots[col] = _mm512_dpbusd_epi32(dots[col], codes[col * kVectors + v], bytes);
        });
      });
    });
    const __m512 x_scale = _mm512_load_ps(from);
    Unroll<kCols>([&](auto col) __attribute__((always_inline)) {
      __m512& sum = sums[col * kRows + row];
      sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[col]), _mm512_mul_ps(scale[col], x_scale), sum);
    });
  });
}

// Steps whose sums are added up before they join the others: short sums have smaller errors.
constexpr size_t kStepsOfSum = 32;

// Columns [col, col + kCols) of the task.
template <class Codes, size_t kRows, size_t kCols>
RAM_BYTE_INLINE void MultiplyCols(const ByteTask& task, size_t col, __m512i lane_groups) {
  const ByteMatrix& matrix = task.matrix;
  const size_t row_bytes = matrix.row_bytes;
  const size_t steps = NumSteps<Codes>(matrix.cols);
  const size_t room = PaddedGroups(matrix) + kLanes;
  const size_t first_row = task.first_col + col;
  const float* x_sums = task.packed_x + steps * kRows * kPackedFloats<Codes>;
  const int group_shift = __builtin_ctzll(matrix.group_size);
  __m512 totals[kCols * kRows];
  const auto add_biases = AddBiasesOf<kRows>(matrix.scale_form);
  for (size_t c = 0; c < kCols; ++c) {
    add_biases(matrix, Codes::kCenter, first_row + c, x_sums, task.scratch + c * room,
               totals + c * kRows);
  }

  // Steps that would read beyond the row read a copy that ends in zeros.
  const size_t whole =
      row_bytes < kVectorBytes ? 0 : (row_bytes - kVectorBytes) / Codes::kBytes + 1;
  alignas(64) uint8_t rest[kCols][2 * kVectorBytes];
  const uint8_t* values = matrix.values + first_row * row_bytes;
  size_t pitch = row_bytes;
  const float* x = task.packed_x;
  for (size_t first = 0; first < steps; first += kStepsOfSum) {
    const size_t end = first + kStepsOfSum < steps ? first + kStepsOfSum : steps;
    __m512 sums[kCols * kRows];
    Unroll<kCols * kRows>([&](auto i)
                              __attribute__((always_inline)) { sums[i] = _mm512_setzero_ps(); });
    for (size_t step = first; step < end; ++step) {
      if (step == whole) {
        const uint64_t exist = (uint64_t{1} << (row_bytes - step * Codes::kBytes)) - 1;
        for (size_t c = 0; c < kCols; ++c) {
          _mm512_store_si512(rest[c], _mm512_maskz_loadu_epi8(exist, values + c * row_bytes));
          _mm512_store_si512(rest[c] + kVectorBytes, _mm512_setzero_si512());
        }
        values = rest[0];
        pitch = sizeof rest[0];
      }
      __m512i stored[kCols];
      Unroll<kCols>([&](auto c) __attribute__((always_inline)) {
        // The next rows. Without it, waiting and computing take turns.
        _mm_prefetch(values + (c + kCols) * pitch, _MM_HINT_T0);
        stored[c] = _mm512_loadu_si512(values + c * pitch);
      });
      const float* scales = task.scratch + ((step * Codes::kCols) >> group_shift);
      AddStep<Codes, kRows, kCols>(stored, x, scales, room, lane_groups, sums);
      values += Codes::kBytes;
      x += kRows * kPackedFloats<Codes>;
    }
    Unroll<kCols * kRows>([&](auto i) __attribute__((always_inline)) {
      totals[i] = _mm512_add_ps(totals[i], sums[i]);
    });
  }

  Unroll<kCols>([&](auto c) __attribute__((always_inline)) {
    const float bias = task.bias == nullptr ? 0.0F : task.bias[first_row + c];
    Unroll<kRows>([&](auto r) __attribute__((always_inline)) {
      if (r >= task.rows) return;
      task.out[r * task.pitch + col + c] = _mm512_reduce_add_ps(totals[c * kRows + r]) + bias;
    });
  });
}

template <class Codes, size_t kRows>
void MultiplyRows(const ByteTask& task) {
  alignas(64) int32_t groups[kLanes];
  for (size_t lane = 0; lane < kLanes; ++lane) {
    groups[lane] = static_cast<int32_t>(lane * 4 * Codes::kVectors / task.matrix.group_size);
  }
  const __m512i lane_groups = _mm512_load_si512(groups);
  size_t col = 0;
  for (; col + kDotCols <= task.num_cols; col += kDotCols) {
    MultiplyCols<Codes, kRows, kDotCols>(task, col, lane_groups);
  }
  for (; col < task.num_cols; ++col) MultiplyCols<Codes, kRows, 1>(task, col, lane_groups);
}

}  // namespace

bool HasByteDots() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512dq") != 0 &&
         __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512vl") != 0 &&
         __builtin_cpu_supports("avx512vbmi") != 0 && __builtin_cpu_supports("avx512vnni") != 0 &&
         __builtin_cpu_supports("gfni") != 0;
}

size_t ByteDotPackedFloats(const ByteMatrix& matrix, size_t rows) {
  const size_t per_row = WithCodes(matrix, [&](auto codes) {
    using Codes = decltype(codes);
    return NumSteps<Codes>(matrix.cols) * kPackedFloats<Codes>;
  });
  return PaddedRows(rows) * (per_row + 2 * PaddedGroups(matrix));
}

void PackForByteDots(const ByteMatrix& matrix, const float* x, size_t pitch, size_t rows,
                     float* packed) {
  WithCodes(matrix, [&](auto codes) { PackRows<decltype(codes)>(matrix, x, pitch, rows, packed); });
}

size_t ByteDotScratchFloats(const ByteMatrix& matrix) {
  return kDotCols * (PaddedGroups(matrix) + kLanes);
}

void MultiplyByByteDots(const ByteTask& task) {
  WithCodes(task.matrix, [&](auto codes) {
    using Codes = decltype(codes);
    switch (PaddedRows(task.rows)) {
      case 1:
        return MultiplyRows<Codes, 1>(task);
      case 2:
        return MultiplyRows<Codes, 2>(task);
      default:
        return MultiplyRows<Codes, 4>(task);
    }
  });
}

}  // namespace ram

#else

#include "ram/base/result.h"

namespace ram {

bool HasByteDots() { return false; }
size_t ByteDotPackedFloats(const ByteMatrix&, size_t) {
  RAM_CHECK(HasByteDots());
  return 0;
}
void PackForByteDots(const ByteMatrix&, const float*, size_t, size_t, float*) {
  RAM_CHECK(HasByteDots());
}
size_t ByteDotScratchFloats(const ByteMatrix&) {
  RAM_CHECK(HasByteDots());
  return 0;
}
void MultiplyByByteDots(const ByteTask&) { RAM_CHECK(HasByteDots()); }

}  // namespace ram

#endif
