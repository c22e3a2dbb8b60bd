#pragma once

// Small floating-point formats, one value at a time: BF16, F16, FP8 E4M3 and E8M0. All conversions
// to f32 are exact; all conversions from f32 round to nearest, ties to even, as every MLX back end
// does. These are the definitions that the vector code is tested against.

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "ram/base/dtype.h"

namespace ram {

inline float FloatFromBf16(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

// NaN becomes 0x7FC0.
inline uint16_t Bf16FromFloat(float value) {
  if (std::isnan(value)) return 0x7FC0;
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

inline float FloatFromF16(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1Fu;
  const uint32_t mantissa = bits & 0x3FFu;
  if (exponent == 0x1F) return std::bit_cast<float>(sign | 0x7F800000u | (mantissa << 13));
  if (exponent != 0)
    return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (mantissa << 13));
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;  // Exact.
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
}

// Overflow becomes infinity, NaN 0x7E00 with the sign kept.
inline uint16_t F16FromFloat(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return static_cast<uint16_t>(sign | 0x7E00u);
  if (magnitude >= 0x47800000u) return static_cast<uint16_t>(sign | 0x7C00u);  // >= 65536.
  if (magnitude < 0x38800000u) {  // Below 2^-14: adding 0.5 leaves the subnormal in the low bits.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3F000000u));
  }
  const uint32_t odd = (magnitude >> 13) & 1u;
  return static_cast<uint16_t>(sign | ((magnitude - 0x38000000u + 0xFFFu + odd) >> 13));
}

// E4M3 ("e4m3fn"): bias 7, largest 448, no infinities, NaN at 0x7F and 0xFF.
inline float FloatFromF8E4M3(uint8_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x80u) << 24;
  const uint32_t exponent = (bits >> 3) & 0xFu;
  const uint32_t mantissa = bits & 7u;
  if (exponent == 0xF && mantissa == 7) return std::bit_cast<float>(sign | 0x7FC00000u);
  if (exponent != 0)
    return std::bit_cast<float>(sign | ((exponent + 120u) << 23) | (mantissa << 20));
  const float magnitude = static_cast<float>(mantissa) * 0x1p-9f;  // Exact.
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
}

// E8M0, a power of two: 2^(bits - 127); 0 is 2^-127, 255 infinity (as MLX decodes it).
inline float FloatFromE8M0(uint8_t bits) {
  return std::bit_cast<float>(bits == 0 ? 0x00400000u : static_cast<uint32_t>(bits) << 23);
}

// E2M1, the codes of MXFP4: bit 3 is the sign, the rest indexes 0 .5 1 1.5 2 3 4 6.
inline float FloatFromE2M1(uint8_t code) {
  constexpr float kMagnitude[8] = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f};
  const float magnitude = kMagnitude[code & 7u];
  return (code & 8u) != 0 ? -magnitude : magnitude;
}

// Element `index` of packed values of `dtype`: kF32, kF16 or kBF16. Unaligned is fine.
inline float FloatAt(const uint8_t* data, Dtype dtype, size_t index) {
  if (dtype == Dtype::kF32) {
    float value;
    std::memcpy(&value, data + 4 * index, sizeof(value));
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, data + 2 * index, sizeof(bits));
  return dtype == Dtype::kBF16 ? FloatFromBf16(bits) : FloatFromF16(bits);
}

}  // namespace ram
