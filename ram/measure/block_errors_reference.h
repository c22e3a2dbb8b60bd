#pragma once

// What MeasureBlock means, written to be read. Tests and benchmarks compare the vector code with
// this, bit for bit.
//
// Sums: batches of 2048 weights are summed in f32, in 16 lanes; each lane of each batch is then
// added to the lane's sum in f64; a tree adds up the lanes. A batch begins where the block does or,
// with error weights, where a row does.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include "ram/measure/block_errors.h"
#include "ram/quant/quantize_reference.h"

namespace ram::reference {

class LaneSum {
 public:
  void Add(float value) { batch_[at_++ % 16] += value; }

  void EndBatch(double factor) {
    for (size_t i = 0; i < 16; ++i) {
      total_[i] += static_cast<double>(batch_[i]) * factor;
      batch_[i] = 0;
    }
    at_ = 0;
  }

  double Total() const {
    std::array<double, 16> lanes = total_;
    for (size_t half = 8; half != 0; half /= 2) {
      for (size_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
    }
    return lanes[0];
  }

 private:
  size_t at_ = 0;
  std::array<float, 16> batch_ = {};
  std::array<double, 16> total_ = {};
};

// Error of a weight on a stored grid, at the code that the reciprocal of the scale finds. There is
// no lower limit: weight - bias has the sign of the scale, or is less than half of it.
inline float NearestError(float weight, const Grid& stored, int bits) {
  const float n = static_cast<float>((1 << bits) - 1);
  const float above_bias = weight - stored.bias;
  const float inverse = 1.0f / stored.scale;
  const float code = std::nearbyint(std::min(above_bias * inverse, n));
  const float product = code * stored.scale;
  return above_bias - product;
}

// All weights finite, all grids usable.
inline BlockErrors MeasureBlock(const MatrixView& rows, const ErrorWeights& weights) {
  const size_t num_weights = rows.rows * rows.cols;
  const bool weighted = !weights.rows.empty() || !weights.columns.empty();
  const auto row_weight = [&](size_t row) {
    return weights.rows.empty() ? 1.0f : weights.rows[row];
  };
  const auto column_weight = [&](size_t col) {
    return weights.columns.empty() ? 1.0f : weights.columns[col];
  };
  // Calls add(w, i) for every weight, and end(factor) after each batch.
  const auto for_each = [&](auto add, auto end) {
    const size_t span = weighted ? rows.cols : num_weights;
    for (size_t begin = 0; begin < num_weights; begin += span) {
      for (size_t i = 0; i < span; ++i) {
        add(LoadWeight(rows, begin + i), begin + i);
        if ((i + 1) % 2048 == 0 || i + 1 == span) end(row_weight(begin / rows.cols));
      }
    }
  };

  BlockErrors result;
  result.num_weights = num_weights;
  LaneSum sum, squares, weighted_squares, fourths;
  for_each(
      [&](float w, size_t i) {
        const float square = w * w;
        sum.Add(w);
        squares.Add(square);
        weighted_squares.Add(square * column_weight(i % rows.cols));
        fourths.Add(square * square);
        result.largest = std::max(result.largest, std::fabs(w));
      },
      [&](float factor) {
        sum.EndBatch(1);
        squares.EndBatch(1);
        weighted_squares.EndBatch(static_cast<double>(factor));
        fourths.EndBatch(1);
      });
  result.sum = sum.Total();
  result.sum_squares = squares.Total();
  result.weighted_sum_squares = weighted_squares.Total();
  result.sum_fourths = fourths.Total();

  for (const Choice& choice : kAffineChoices) {
    if (!IsLegal(choice, rows.cols)) continue;
    const auto group_size = static_cast<size_t>(choice.group_size);
    ChoiceErrors& errors = result.choices[AffineIndex(choice)];
    LaneSum error_squares, weighted_error_squares;
    float largest_square = 0;
    Grid stored = {};
    for_each(
        [&](float w, size_t i) {
          if (i % group_size == 0) {
            std::vector<float> group;
            for (size_t k = 0; k < group_size; ++k) group.push_back(LoadWeight(rows, i + k));
            const Grid grid = RangeRule(group, choice.bits, Rounding::kCpu);
            stored = {Stored(grid.scale, rows.dtype), grid.bias};
          }
          const float e = NearestError(w, stored, choice.bits);
          const float square = e * e;
          error_squares.Add(square);
          weighted_error_squares.Add(square * column_weight(i % rows.cols));
          largest_square = std::max(largest_square, square);
        },
        [&](float factor) {
          error_squares.EndBatch(1);
          weighted_error_squares.EndBatch(static_cast<double>(factor));
        });
    errors.sum_squares = error_squares.Total();
    errors.weighted_sum_squares = weighted_error_squares.Total();
    errors.largest = std::sqrt(largest_square);
  }
  return result;
}

}  // namespace ram::reference
