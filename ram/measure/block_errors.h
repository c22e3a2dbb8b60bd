#pragma once

// What every affine choice would cost, for a block of rows: the kernel of `ram measure`.
//
// For each of the 18 choices: the error of the nearest codes on the stored grid (scale and bias of
// MLX's range rule as on the CPU, rounded to the storage type), i.e. of Quantizer::kRtnPlus.
// Nearest is found by multiplying with the reciprocal of the scale; at a tie, where that can pick
// the other neighbour, both have the same error. e = (weight - bias) - code * scale, in f32.
// Reference implementation, to be read first: ram/measure/block_errors_reference.h.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "ram/base/result.h"
#include "ram/quant/choice.h"
#include "ram/quant/quantize.h"

namespace ram {

struct ChoiceErrors {
  double sum_squares = 0;           // sum of e^2
  double weighted_sum_squares = 0;  // sum of row_weight * column_weight * e^2
  float largest = 0;                // max |e|; sqrt of the largest f32 e^2
};

// Sums over some rows; add them up in the order of the rows.
struct BlockErrors {
  // By AffineIndex(). Choices that are not legal for the columns stay zero.
  std::array<ChoiceErrors, kAffineChoices.size()> choices = {};
  double sum = 0;          // of the weights
  double sum_squares = 0;  // of the weights
  double weighted_sum_squares = 0;
  double sum_fourths = 0;  // sum of w^4
  float largest = 0;       // max |w|
  uint64_t num_nan = 0;
  uint64_t num_inf = 0;
  uint64_t num_weights = 0;

  void Add(const BlockErrors& rows_below);
};

// Importance of rows and columns; an empty span means 1 everywhere.
struct ErrorWeights {
  std::span<const float> rows = {};     // [rows]
  std::span<const float> columns = {};  // [cols]
};

// Rows that make one block for a matrix of `cols` columns, at least 1: a fixed function of cols, so
// that sums do not depend on how a caller reads or threads.
size_t RowsPerBlock(size_t cols);

// Measures one block (at most RowsPerBlock rows). If the block holds a NaN or an infinity, only the
// counts are meaningful. cols that no group size divides: statistics of the weights only.
// Sums: f32 in 16 lanes over 2048 weights, then f64; the same bits on every instruction set.
// Squares are f32, so weights above 1e19 make sums infinite (above 4e9 sum_fourths). Thread-safe,
// single-threaded, allocates nothing; 50 KiB of stack. kInvalidArgument if the sizes or the dtype
// do not fit; kCorrupt names the row and column where a group is too large for a scale (a range
// above 3e38, a constant above 3e31).
Result<BlockErrors> MeasureBlock(const MatrixView& rows, const ErrorWeights& weights);

// Name of the instruction set in use, for reports.
std::string_view MeasureTarget();

}  // namespace ram
