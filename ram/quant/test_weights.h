#pragma once

// Weights for tests and benchmarks: the same on every machine.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <numbers>
#include <vector>

#include "ram/base/dtype.h"
#include "ram/base/half.h"
#include "ram/quant/quantize.h"

namespace ram {

// A counter-based generator (splitmix64): number `index` of stream `seed`.
inline uint64_t RandomBits(uint64_t seed, uint64_t index) {
  uint64_t z = (seed << 40) + (index + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// In (0, 1).
inline double RandomUniform(uint64_t seed, uint64_t index) {
  return (static_cast<double>(RandomBits(seed, index) >> 12) + 0.5) * 0x1p-52;
}

// Standard normal (Box-Muller); std::normal_distribution differs between libraries.
inline double RandomNormal(uint64_t seed, uint64_t index) {
  const double radius = std::sqrt(-2 * std::log(RandomUniform(seed, 2 * index)));
  return radius * std::cos(2 * std::numbers::pi * RandomUniform(seed, 2 * index + 1));
}

// A matrix that owns its bytes: an allocation of exactly the size needed, so that a sanitizer sees
// any access outside, and `misalign` bytes in front of the weights.
class TestMatrix {
 public:
  using ValueAt = std::function<double(size_t row, size_t col)>;

  TestMatrix(Dtype dtype, size_t rows, size_t cols, const ValueAt& value_at, size_t misalign = 0)
      : dtype_(dtype), rows_(rows), cols_(cols), misalign_(misalign) {
    const size_t size = static_cast<size_t>(BitsOf(dtype)) / 8;
    bytes_.resize(misalign + rows * cols * size);
    for (size_t i = 0; i < rows * cols; ++i) {
      const auto value = static_cast<float>(value_at(i / cols, i % cols));
      const uint16_t half = dtype == Dtype::kF16 ? F16FromFloat(value) : Bf16FromFloat(value);
      uint8_t* out = bytes_.data() + misalign + i * size;
      if (dtype == Dtype::kF32) {
        std::memcpy(out, &value, size);
      } else {
        std::memcpy(out, &half, size);
      }
    }
  }

  MatrixView View() const { return {bytes_.data() + misalign_, dtype_, rows_, cols_}; }

 private:
  Dtype dtype_;
  size_t rows_, cols_, misalign_;
  std::vector<uint8_t> bytes_;
};

inline TestMatrix NormalMatrix(Dtype dtype, size_t rows, size_t cols, double sigma = 0.02,
                               uint64_t seed = 1, size_t misalign = 0) {
  const auto value = [&](size_t row, size_t col) {
    return sigma * RandomNormal(seed, row * cols + col);
  };
  return TestMatrix(dtype, rows, cols, value, misalign);
}

inline constexpr size_t kNumSpecialRows = 18;

// Row r holds groups of kind r % kNumSpecialRows: each a corner of the range rule.
inline TestMatrix SpecialMatrix(Dtype dtype, size_t rows, size_t cols, size_t misalign = 0) {
  const double huge = dtype == Dtype::kF16 ? 3e4 : 1e38;
  const auto value = [&](size_t row, size_t col) -> double {
    const size_t i = row * cols + col;
    const double normal = RandomNormal(2, i);
    const double uniform = RandomUniform(3, i);
    switch (row % kNumSpecialRows) {
      case 0:
        return normal;
      case 1:
        return 0.0;
      case 2:
        return i % 2 == 0 ? 0.0 : -0.0;
      case 3:
        return 0.5;
      case 4:
        return -0.25;
      case 5:
        return -uniform - 0.01;
      case 6:
        return uniform + 1.0;
      case 7:
        return (uniform - 0.5) * 1e-40;
      case 8:
        return (uniform - 0.5) * huge;
      case 9:
        return (uniform - 0.5) * 1e-6;
      case 10:
        return (uniform - 0.5) * 1e-9;
      case 11:  // Ties.
        return static_cast<double>(RandomBits(4, i) % 17) - 8.0;
      case 12:
        return (static_cast<double>(RandomBits(5, i) % 129) - 64.0) / 64;
      case 13:  // Largest and smallest of equal magnitude.
        return col % 32 == 3 ? 0.7 : col % 32 == 17 ? -0.7 : 0.1 * normal;
      case 14:  // Constants around half of 1e-7, where the code of zero turns from 0 to 1.
        return 1e-9 * static_cast<double>(i / 32 % 128);
      case 15:
        return -1e-9 * static_cast<double>(i / 32 % 128);
      case 16:  // One outlier.
        return col % 32 == 5 ? 40 * normal : normal;
      default:  // Scales that change every 32.
        return std::ldexp(normal, static_cast<int>(col / 32 % 20) - 14);
    }
  };
  return TestMatrix(dtype, rows, cols, value, misalign);
}

}  // namespace ram
