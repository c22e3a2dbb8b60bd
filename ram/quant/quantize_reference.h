#pragma once

// What quantize.h means, written to be read. Tests and benchmarks compare the vector code with
// this, bit for bit.
//
// All arithmetic is f32, one IEEE operation at a time: correctly rounded division, no fused
// multiply-add (we compile with -ffp-contract=off).

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <vector>

#include "ram/base/half.h"
#include "ram/quant/quantize.h"

namespace ram::reference {

// ---------------------------------------------------------------------------------------------
// Storage types.

inline float LoadWeight(const MatrixView& matrix, size_t index) {
  if (matrix.dtype == Dtype::kF32) {
    float value;
    std::memcpy(&value, matrix.data + 4 * index, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, matrix.data + 2 * index, 2);
  return matrix.dtype == Dtype::kBF16 ? FloatFromBf16(bits) : FloatFromF16(bits);
}

// `value` as it reads after it was stored.
inline float Stored(float value, Dtype dtype) {
  if (dtype == Dtype::kF32) return value;
  return dtype == Dtype::kBF16 ? FloatFromBf16(Bf16FromFloat(value))
                               : FloatFromF16(F16FromFloat(value));
}

inline void AppendStored(float value, Dtype dtype, std::vector<uint8_t>& bytes) {
  const uint32_t bits = dtype == Dtype::kF32    ? std::bit_cast<uint32_t>(value)
                        : dtype == Dtype::kBF16 ? Bf16FromFloat(value)
                                                : F16FromFloat(value);
  for (int i = 0; i < BitsOf(dtype) / 8; ++i) bytes.push_back(static_cast<uint8_t>(bits >> 8 * i));
}

// ---------------------------------------------------------------------------------------------
// The grid of a group: decoded value = code * scale + bias.

struct Grid {
  float scale;
  float bias;
};

inline float Round(float x, Rounding rounding) {
  return rounding == Rounding::kCpu ? std::nearbyint(x) : std::round(x);
}

// MLX's range rule. The weight of largest magnitude, the edge, gets code 0 and, as the bias, is
// stored without loss; the scale is chosen so that zero has a code too.
inline Grid RangeRule(std::span<const float> weights, int bits, Rounding rounding) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float n = static_cast<float>((1 << bits) - 1);
  float max = rounding == Rounding::kCpu ? -kInfinity : 0.0f;
  float min = kInfinity;
  for (const float w : weights) {
    max = std::max(max, w);
    min = std::min(min, w);
  }
  const bool low_is_edge = std::fabs(min) > std::fabs(max);
  const float edge = low_is_edge ? min : max;
  float scale = std::max((max - min) / n, 1e-7f);
  if (!low_is_edge) scale = -scale;
  const float zero_code = Round(edge / scale, rounding);
  if (zero_code == 0) return {scale, 0.0f};
  return {edge / zero_code, edge};
}

// False where f32 overflowed in the range rule: a range above 3.4e38, or a constant above 3.4e31.
inline bool Usable(const Grid& grid) { return std::isfinite(grid.scale) && grid.scale != 0; }

inline float Code(float weight, const Grid& grid, int bits, Rounding rounding) {
  const float n = static_cast<float>((1 << bits) - 1);
  return Round(std::clamp((weight - grid.bias) / grid.scale, 0.0f, n), rounding);
}

inline float Decode(float code, const Grid& grid) {
  const float product = code * grid.scale;
  return product + grid.bias;
}

// ---------------------------------------------------------------------------------------------
// Packing.

// Code i takes bits [i * bits, (i + 1) * bits) of a little-endian bit stream.
inline std::vector<uint8_t> Pack(std::span<const uint8_t> codes, int bits) {
  std::vector<uint8_t> packed(codes.size() * static_cast<size_t>(bits) / 8);
  for (size_t i = 0; i < packed.size() * 8; ++i) {
    const int bit = codes[i / static_cast<size_t>(bits)] >> i % static_cast<size_t>(bits) & 1;
    packed[i / 8] = static_cast<uint8_t>(packed[i / 8] | bit << i % 8);
  }
  return packed;
}

inline std::vector<uint8_t> Unpack(std::span<const uint8_t> packed, int bits) {
  std::vector<uint8_t> codes(packed.size() * 8 / static_cast<size_t>(bits));
  for (size_t i = 0; i < packed.size() * 8; ++i) {
    uint8_t& code = codes[i / static_cast<size_t>(bits)];
    code =
        static_cast<uint8_t>(code | (packed[i / 8] >> i % 8 & 1) << i % static_cast<size_t>(bits));
  }
  return codes;
}

// ---------------------------------------------------------------------------------------------
// Sums. An f32 sum depends on its order; ours is that of 16 lanes, whatever vectors a CPU has:
// value i is added to lane i % 16, and the lanes are added up in a tree.

inline float SumOfLanes(std::array<float, 16> lanes) {
  for (size_t half = 8; half != 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

// ---------------------------------------------------------------------------------------------
// All of it.

struct Quantized {
  std::vector<uint8_t> codes, scales, biases;  // As in PackedMatrix.
  StoredError error;
};

// The grid as it is stored and the codes of one group.
struct GroupCodes {
  Grid stored;
  std::vector<float> codes;
};

inline GroupCodes QuantizeGroup(std::span<const float> weights, Dtype dtype,
                                const QuantizeOptions& options) {
  const int bits = options.choice.bits;
  const Grid rule = RangeRule(weights, bits, options.rounding);
  GroupCodes group = {{Stored(rule.scale, dtype), Stored(rule.bias, dtype)}, {}};
  const Grid& for_codes = options.quantizer == Quantizer::kRtn ? rule : group.stored;
  for (const float w : weights) group.codes.push_back(Code(w, for_codes, bits, options.rounding));
  return group;
}

// All weights finite, all grids usable.
inline Quantized Quantize(const MatrixView& matrix, const QuantizeOptions& options) {
  Quantized result;
  const auto group_size = static_cast<size_t>(options.choice.group_size);
  std::vector<uint8_t> codes;
  for (size_t row = 0; row < matrix.rows; ++row) {
    std::array<float, 16> lanes = {};
    for (size_t first = 0; first < matrix.cols; first += group_size) {
      std::vector<float> weights;
      for (size_t i = 0; i < group_size; ++i) {
        weights.push_back(LoadWeight(matrix, row * matrix.cols + first + i));
      }
      const GroupCodes group = QuantizeGroup(weights, matrix.dtype, options);
      AppendStored(group.stored.scale, matrix.dtype, result.scales);
      AppendStored(group.stored.bias, matrix.dtype, result.biases);
      for (size_t i = 0; i < group_size; ++i) {
        codes.push_back(static_cast<uint8_t>(group.codes[i]));
        const float e = weights[i] - Decode(group.codes[i], group.stored);
        lanes[i % 16] += e * e;
        result.error.largest = std::max(result.error.largest, std::fabs(e));
      }
    }
    result.error.sum_squares += static_cast<double>(SumOfLanes(lanes));
  }
  result.codes = Pack(codes, options.choice.bits);
  return result;
}

}  // namespace ram::reference
