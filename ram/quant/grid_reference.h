#pragma once

// The grid of a group, written to be read: MLX's range rule, the code nearest to a weight, and the
// storage types. Part of quantize_reference.h.
//
// All arithmetic is f32, one IEEE operation at a time: correctly rounded division, no fused
// multiply-add (we compile with -ffp-contract=off).

#include <algorithm>
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
    float value = 0;
    std::memcpy(&value, matrix.data + 4 * index, 4);
    return value;
  }
  uint16_t bits = 0;
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

}  // namespace ram::reference
