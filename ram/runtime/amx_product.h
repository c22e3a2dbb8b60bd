#pragma once

// Kernels of the products on AMX tiles (products_amx.cc calls them): splitting activations and
// weights into 16-bit parts, packing them as tiles, multiplying, writing the result. Plain
// pointers, so that the file that is compiled for AVX-512 shares no inline function with others.
//
// Parts. x = x1 + x2 (+ x3), each part the rounding to 16 bits of what those before left over. A
// product of two 16-bit numbers is exact in f32 and tiles sum in f32, so the parts decide how exact
// a product is:
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
// integers q - c are exact in one part of either format. Each group is summed from zero, and then
// result += s * sum + b' * (the group's sum of x), while the next group is multiplied. Exact for
// every number of bits and every type of scales, and without the cancellation of large c * s.
//
// Packed activations (operand A): [block of 32 rows][step of 32 k][part][2 tiles of 16 rows].
// Packed weights (operand B): [block of 32 columns][step][part][2 tiles of 16 columns], pairs of k
// side by side. (A column of the result is a row of the matrix.) Sums: [block of 32 columns][4
// tiles: rows 0-15 x columns 0-15, rows 0-15 x columns 16-31, rows 16-31 x ...], f32.

#include <cstddef>
#include <cstdint>

#include "ram/runtime/amx.h"

namespace ram {

inline constexpr size_t kTileBytes = 1024;  // 16 rows of 64 bytes.
inline constexpr size_t kTileRows = 32;     // Rows of a block of activations.
inline constexpr size_t kTileColumns = 32;  // Columns of a block of weights.
inline constexpr size_t kTileStep = 32;     // k of a step.

// How the weights of a matrix are stored.
enum class TileWeights : uint8_t { kF32, kF16, kBf16, kMxfp4, kCodes };

// What has to be known of up to 32 whole rows of activations before they are split.
struct TileRowTerms {
  const float* x = nullptr;  // [rows, cols]
  size_t pitch = 0;
  size_t rows = 0;
  size_t cols = 0;
  float* unscale = nullptr;  // [32]: what undoes the row's power of two; f16 only.
  // Sums of groups of 32, 64, 128 of the (scaled) x: [cols / size][32 rows]; null: not needed.
  float* group_sums[3] = {};
};

// Up to 32 rows of activations to split and pack, for one block of k.
struct TileSplit {
  const float* x = nullptr;  // [rows, num_k]: the first k of the block.
  size_t pitch = 0;
  size_t rows = 0;
  size_t num_k = 0;
  const float* unscale = nullptr;  // [32]; f16 only.
  uint8_t* packed = nullptr;  // [steps][parts][2 tiles]; rows and k that do not exist become zero.
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
  // kCodes.
  const float* terms = nullptr;       // [block of 32 columns][groups][2][32]
  const float* group_sums = nullptr;  // [groups][32 rows]
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

// One way of multiplying: a format and a number of parts. `multiply` and `multiply_codes` need a
// TileScope.
struct TileKernels {
  TileFormat format = TileFormat::kBf16;
  size_t x_parts = 0;

  void (*find_row_terms)(const TileRowTerms& rows) = nullptr;
  void (*split)(const TileSplit& rows) = nullptr;
  // Fills block.powers, [columns].
  void (*find_powers)(const TileWeightBlock& block) = nullptr;
  // In 1, 2 or 3 parts (index + 1); kCodes always in one.
  void (*pack[3])(const TileWeightBlock& block) = {};
  // Weights in 1, 2 or 3 parts, at most as many as x has.
  void (*multiply[3])(const TileProduct& product) = {};
  // kCodes with groups of 32, 64, 128.
  void (*multiply_codes[3])(const TileProduct& product) = {};
};

// Kernels for the tile unit; x in 1, 2 or 3 parts. Null where this build has none (other CPUs than
// x86-64).
const TileKernels* FindTileKernels(TileFormat format, size_t x_parts);

}  // namespace ram
