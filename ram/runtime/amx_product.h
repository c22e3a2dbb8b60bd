#pragma once

// Kernels of the products on AMX tiles (products_amx.cc calls them): splitting activations and
// weights into 16-bit parts, packing them as tiles, multiplying, writing the result. Plain
// pointers, so that the file that is compiled for AVX-512 shares no inline function with others.
//
// Parts. x = x1 + x2 (+ x3), each part the rounding to 16 bits of what those before left over
// (three parts of bf16: its upper half, which is exact as well). A product of two 16-bit numbers is
// exact in f32 and tiles sum in f32, so the parts decide how exact a product is:
//   bf16: 1 part 2^-8 of x, 2 parts 2^-17, 3 parts exact;
//   f16:  1 part 2^-11, 2 parts 2^-23 (of x within 2^16 of the largest of its row; below that,
//         2^-39 of the largest).
// Weights are split likewise where they need it. Part j of the weights meets the first (x parts -
// j) parts of x: what is left out is smaller than what the last part leaves out.
//
// f16 has a small range: rows of x and rows of weights are multiplied by powers of two that put
// their largest magnitude into [2^14, 2^15); the result is multiplied by the inverses. All exact.
//
// Affine weights, w = s * q + b = s * (q - c) + b' with c = 2^(bits - 1), b' = b + c * s: the
// integers q - c are exact in one part. Each group is summed from zero, and then result += s * sum
// + b' * (the group's sum of x), while what comes next is multiplied. For every number of bits and
// every type of scales, and without the cancellation of large c * s.
//   Groups of 32: parts of 16 bits, as above.
//   Groups of 64 and 128: tile products of bytes are exact too, and take half the time. 64 numbers
//   of x share a scale that makes integers of 24 bits of them (an error of 2^-24 of the largest;
//   9e-8 of the rms of a normal distribution). Their three bytes, the upper one with a sign, are
//   the parts, and their sums are put together after the 64. That is more work for the vector
//   units, which makes it too slow for groups of 32; a scale for each 128 would be faster, but less
//   exact than f32 where x has outliers.
//
// Packed activations (operand A): [block of 32 rows][step of 32 k][part][2 tiles of 16 rows].
// Packed weights (operand B): [block of 32 columns][step][part][2 tiles of 16 columns], pairs of k
// side by side. (A column of the result is a row of the matrix.) Sums: [block of 32 columns][4
// tiles: rows 0-15 x columns 0-15, rows 0-15 x columns 16-31, rows 16-31 x ...], f32.
// Integers: steps of 64 k. A: [block of 32 rows][step][2 tiles of 16 rows][part]; B: [block of 32
// columns][step][2 tiles of 16 columns], four k side by side.

#include <cstddef>
#include <cstdint>

#include "ram/runtime/amx.h"

namespace ram {

inline constexpr size_t kTileBytes = 1024;  // 16 rows of 64 bytes.
inline constexpr size_t kTileRows = 32;     // Rows of a block of activations.
inline constexpr size_t kTileColumns = 32;  // Columns of a block of weights.
inline constexpr size_t kTileStep = 32;     // k of a step.
inline constexpr size_t kIntegerStep = 64;  // k of a step of integers.

// How the weights of a matrix are stored.
enum class TileWeights : uint8_t { kF32, kF16, kBf16, kMxfp4, kCodes };

// Up to 32 rows of activations to split and pack, for one block of k.
struct TileSplit {
  const float* x = nullptr;  // [rows, num_k]: the first k of the block.
  size_t pitch = 0;
  size_t rows = 0;
  size_t num_k = 0;
  const float* unscale = nullptr;  // [32]; f16 only.
  uint8_t* packed = nullptr;  // [steps][parts][2 tiles]; rows and k that do not exist become zero.
};

// Up to 32 whole rows of activations to become integers.
struct TileIntegerRows {
  const float* x = nullptr;  // [rows, cols]
  size_t pitch = 0;
  size_t rows = 0;
  size_t cols = 0;            // A multiple of 64.
  uint8_t* packed = nullptr;  // [steps][2 tiles][parts]
  float* scales = nullptr;    // [steps][32 rows]: of an integer; NaN: x is not finite.
};

// Sums of x over the k of steps, for the biases.
struct TileStepSums {
  const float* x = nullptr;  // [rows, cols]
  size_t pitch = 0;
  size_t rows = 0;        // Up to 32.
  size_t cols = 0;        // A multiple of the step.
  size_t step = 0;        // 32 or 64.
  float* sums = nullptr;  // [steps][32 rows]
};

// A block of weights to pack: columns [0, columns) of the block, k in [first_k, first_k + num_k).
struct TileWeightBlock {
  TileWeights form = TileWeights::kBf16;
  TileWeights scale_form = TileWeights::kBf16;  // kCodes: type of scales and biases.
  int bits = 0;
  size_t group_size = 0;
  const uint8_t* values = nullptr;  // Row of column 0, whole rows of cols.
  const uint8_t* scales = nullptr;
  const uint8_t* biases = nullptr;
  size_t row_bytes = 0;
  size_t scale_row_bytes = 0;
  size_t first_column = 0;  // Columns before are not read, and become zero.
  size_t columns = 0;
  size_t cols = 0;  // k of the matrix.
  size_t first_k = 0;
  size_t num_k = 0;  // Up to the next multiple of 32 is packed.
  // f16, not kCodes: the power of two of each column, from find_powers.
  float* powers = nullptr;
  uint8_t* packed = nullptr;  // [block][steps][parts][2 tiles]
  // kCodes: s and b' of each group, [block][groups][2][32 columns].
  float* group_terms = nullptr;
};

// A product of up to 32 rows with a block of weights, over one block of k. Blocks of k are summed
// one by one, and then added: shorter sums have smaller errors.
struct TileProduct {
  const uint8_t* x = nullptr;  // From the first step on.
  const uint8_t* w = nullptr;  // [block of 32 columns][steps][parts][2 tiles]
  size_t steps = 0;
  size_t rows = 0;
  size_t columns = 0;
  // kCodes. Integers: steps are of 64 k.
  size_t group_steps = 1;              // Steps of a group.
  const float* terms = nullptr;        // [block of 32 columns][groups][2][32]
  const float* step_sums = nullptr;    // Of x: [steps][32 rows].
  const float* step_scales = nullptr;  // Integers: [steps][32 rows].
  // Sums of all blocks of k but the last: [block of 32 columns][4 tiles].
  float* sums = nullptr;
  bool first = true;  // Of the blocks of k.
  bool last = true;
  // Where the last block goes: result * unscale_row * unscale_column + bias.
  float* out = nullptr;  // [rows, columns]
  size_t pitch = 0;
  const float* unscale_row = nullptr;     // [32]; null: neither.
  const float* unscale_column = nullptr;  // [columns]
  const float* bias = nullptr;            // [columns]; null: none.
  // Rows that come next, which are split meanwhile: the tile products leave the vector units idle.
  // Null: none.
  const TileSplit* ahead = nullptr;
};

// Products with affine weights in groups of 64 or 128, on integers of 8 * x_parts bits. `multiply`
// needs a TileScope.
struct TileIntegerKernels {
  size_t x_parts = 0;
  void (*split)(const TileIntegerRows& rows) = nullptr;
  void (*sum_steps)(const TileStepSums& rows) = nullptr;
  void (*pack)(const TileWeightBlock& block) = nullptr;
  void (*multiply)(const TileProduct& product) = nullptr;
};

// One way of multiplying other weights: a format and a number of parts. `multiply` needs a
// TileScope.
struct TileKernels {
  TileFormat format = TileFormat::kBf16;
  size_t x_parts = 0;

  // f16: unscale [32] of whole rows.
  void (*find_row_powers)(const TileSplit& rows, float* unscale) = nullptr;
  void (*split)(const TileSplit& rows) = nullptr;
  // Fills block.powers, [columns].
  void (*find_powers)(const TileWeightBlock& block) = nullptr;
  // In 1, 2 or 3 parts (index + 1); kCodes, with groups of 32, always in one.
  void (*pack[3])(const TileWeightBlock& block) = {};
  // Weights in 1, 2 or 3 parts, at most as many as x has.
  void (*multiply[3])(const TileProduct& product) = {};
  void (*multiply_codes)(const TileProduct& product) = nullptr;  // Groups of 32.
};

// Kernels for the tile unit; x in 1, 2 or 3 parts. Null where this build has none (other CPUs than
// x86-64).
const TileKernels* FindTileKernels(TileFormat format, size_t x_parts);
// x in integers of 16 or 24 bits: 2 or 3 parts.
const TileIntegerKernels* FindTileIntegerKernels(size_t x_parts);

}  // namespace ram
