#pragma once

// What Quantizer::kOpt means, written to be read: a search over clipped ranges, each refined by
// weighted least squares, judged as it will be stored. After llama.cpp's make_qkx2_quants, with a
// free bias and cuts at both ends.
//
// Sums run in the order of the weights, in f32; the system of two equations is solved in f64. Codes
// are found with the reciprocal of the scale here, which is faster than the division that chooses
// the codes that are written; at a tie the two can pick different neighbours of equal error.

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "ram/quant/grid_reference.h"

namespace ram::reference {

// Fractions of the range that a start cuts off: at both ends, at the low end, at the high end.
inline constexpr std::array<float, 9> kCuts = {.02f, .04f, .06f, .08f, .10f,
                                               .13f, .16f, .20f, .25f};
inline constexpr int kRounds = 3;

// Groups with a smaller range or larger weights keep the grid of kRtnPlus: no sum can overflow or
// vanish.
inline constexpr float kSmallestRange = 0x1p-30f;
inline constexpr float kLargestWeight = 0x1p30f;

inline float NearestCode(float x, const Grid& grid, int bits) {
  const float n = static_cast<float>((1 << bits) - 1);
  const float inverse = 1.0f / grid.scale;
  return std::nearbyint(std::clamp((x - grid.bias) * inverse, 0.0f, n));
}

// How much the error of each weight counts: rms of the group + |weight| where no columns are given.
// A power of two brings the largest to [1, 2).
inline std::vector<float> Importance(std::span<const float> x, std::span<const float> columns) {
  std::vector<float> importance(columns.begin(), columns.end());
  if (columns.empty()) {
    float sum = 0;
    for (const float v : x) sum += v * v;
    const float rms = std::sqrt(sum / static_cast<float>(x.size()));
    for (const float v : x) importance.push_back(rms + std::fabs(v));
  }
  const float largest = std::ranges::max(importance);
  const uint32_t exponent = std::bit_cast<uint32_t>(largest) & 0x7F800000u;
  const float factor = std::bit_cast<float>(0x7F000000u - exponent);
  for (float& v : importance) v *= factor;
  return importance;
}

inline float WeightedError(std::span<const float> x, std::span<const float> importance,
                           const Grid& grid, int bits) {
  float sum = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const float product = NearestCode(x[i], grid, bits) * grid.scale;
    const float e = (x[i] - grid.bias) - product;
    sum += importance[i] * (e * e);
  }
  return sum;
}

// The grid that is best for the codes that `grid` gives; `grid` itself where there is none, e.g.
// if all codes are equal.
inline Grid LeastSquares(std::span<const float> x, std::span<const float> importance,
                         const Grid& grid, int bits) {
  float sum_w = 0, sum_wx = 0, sum_wq = 0, sum_wqq = 0, sum_wxq = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const float q = NearestCode(x[i], grid, bits);
    const float wq = importance[i] * q;
    const float wx = importance[i] * x[i];
    sum_w += importance[i];
    sum_wx += wx;
    sum_wq += wq;
    sum_wqq += wq * q;
    sum_wxq += wx * q;
  }
  const double w = sum_w, wx = sum_wx, wq = sum_wq, wqq = sum_wqq, wxq = sum_wxq;
  const double determinant = w * wqq - wq * wq;
  if (!(determinant > 1e-12 * (w * wqq))) return grid;
  const double inverse = 1 / determinant;
  const Grid solution = {static_cast<float>((w * wxq - wx * wq) * inverse),
                         static_cast<float>((wqq * wx - wq * wxq) * inverse)};
  const float magnitude = std::fabs(solution.scale);
  const bool sane =
      magnitude >= 0x1p-100f && magnitude <= 0x1p100f && std::fabs(solution.bias) <= 0x1p100f;
  return sane ? solution : grid;
}

// `rule` is the grid of the range rule. Returns a grid as it is stored; never one with a larger
// weighted error than the rule's.
inline Grid SearchGrid(std::span<const float> x, std::span<const float> columns, int bits,
                       Dtype dtype, const Grid& rule) {
  const auto stored = [&](const Grid& grid) {
    return Grid{Stored(grid.scale, dtype), Stored(grid.bias, dtype)};
  };
  Grid best = stored(rule);
  const auto [low, high] = std::ranges::minmax(x);
  const float range = high - low;
  if (!(range >= kSmallestRange && std::max(-low, high) <= kLargestWeight)) return best;

  std::vector<Grid> starts = {rule};
  const float n = static_cast<float>((1 << bits) - 1);
  for (const float cut : kCuts) {
    const float low_cut = low + cut * range;
    const float high_cut = high - cut * range;
    starts.push_back({(high_cut - low_cut) / n, low_cut});
    starts.push_back({(high - low_cut) / n, low_cut});
    starts.push_back({(high_cut - low) / n, low});
  }

  const std::vector<float> importance = Importance(x, columns);
  float smallest = WeightedError(x, importance, best, bits);
  for (Grid grid : starts) {
    for (int round = 0; round < kRounds; ++round) {
      grid = LeastSquares(x, importance, grid, bits);
      const Grid candidate = stored(grid);
      if (!Usable(candidate) || !std::isfinite(candidate.bias)) continue;
      const float error = WeightedError(x, importance, candidate, bits);
      if (error < smallest) {
        smallest = error;
        best = candidate;
      }
    }
  }
  return best;
}

}  // namespace ram::reference
