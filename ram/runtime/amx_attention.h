#pragma once

// Kernels of the attention on AMX tiles (attention_amx.cc). bf16 parts and packed operands are
// those of amx_product.h. Scores stand as [key][row]: 16 rows of queries are the lanes of a vector,
// so maxima and sums over keys need nothing across lanes, and two keys side by side are what the
// second product wants.
//
//   scores [keys, rows] = keys [keys, d] * queries^T [d, rows]          operands A, B
//   result [d, rows]    = values^T [d, keys] * weights^T [keys, rows]   operands A, B

#include <cstddef>
#include <cstdint>

#include "ram/runtime/amx_product.h"

namespace ram {

// A block of positions of a cache, keys or values of one head.
struct TileCache {
  const uint8_t* values = nullptr;  // Of position 0 of the block, whether it is there or not.
  bool bf16 = false;                // Otherwise f32.
  size_t row_bytes = 0;             // From one position to the next.
  size_t first = 0;                 // Positions [first, end) are there; others become zero.
  size_t end = 0;
  size_t positions = 0;  // Of the block; a multiple of 32.
  size_t cols = 0;       // Values of a position.
  // Keys: [block of 32 positions][step of 32 cols][parts][2 tiles]; values, transposed: [block of
  // 32 cols][step of 32 positions][parts][2 tiles].
  uint8_t* packed = nullptr;
};

// A product with 32 columns; the result stays as tiles.
struct TileAttentionProduct {
  const uint8_t* a = nullptr;  // [blocks of 32 rows][a_steps][parts][2 tiles]
  const uint8_t* b = nullptr;  // [steps][parts][2 tiles]
  size_t blocks = 0;
  size_t steps = 0;
  size_t a_steps = 0;     // Of which the first `steps` are used.
  float* sums = nullptr;  // [blocks][4 tiles]
};

// Far below all scores, and finite: a maximum of none.
inline constexpr float kUnseenScore = -1e30F;

// One step of the softmax of 32 rows over a block of keys: scores become weights 2^(score - max),
// split and packed as operand B. Arrays of rows are aligned to 64 bytes.
struct TileSoftmax {
  float* scores = nullptr;  // [block of 32 keys][4 tiles]; overwritten.
  size_t num_keys = 0;      // A multiple of 32.
  // [32]: row r sees keys [begin[r], end[r]) of the block.
  const int32_t* begin = nullptr;
  const int32_t* end = nullptr;
  int32_t first_common = 0;  // All rows see keys [first_common, end_common).
  int32_t end_common = 0;
  float scale = 1;  // Positive.
  float softcap = 0;
  // Scores count in units of ln 2: weights are powers of two.
  float* max = nullptr;       // [32]: of the scores so far; at first kUnseenScore.
  float* sum = nullptr;       // [32]: of the weights so far, relative to max.
  float* rescale = nullptr;   // [32] out: what weights before this block are multiplied by.
  float* most = nullptr;      // [num_keys / 32][32]: for its own use.
  uint8_t* packed = nullptr;  // [num_keys / 32][parts][2 tiles]

  // It is done in pieces, in their order, each for 16 rows: maxima of 32 keys, then weights of 8.
  static constexpr size_t kWeighedKeys = 8;
  size_t num_pieces() const { return 2 * (num_keys / 32 + num_keys / kWeighedKeys); }
};

// Of 32 rows.
struct TileResult {
  const float* sums = nullptr;  // [block of 32 cols][4 tiles]
  const float* sum = nullptr;   // [32] weights
  size_t rows = 0;
  size_t cols = 0;
  float* out = nullptr;  // [rows, cols]
  size_t pitch = 0;
};

// Queries and weights have `parts` parts; keys and values the same, or one if they are bf16.
struct TileAttentionKernels {
  void (*pack_keys)(const TileCache& keys) = nullptr;
  void (*pack_values)(const TileCache& values) = nullptr;
  void (*softmax)(const TileSoftmax& block, size_t first_piece, size_t end_piece) = nullptr;
  // A product, and between its tile products, which leave the vector units idle, pieces of a
  // softmax that it has nothing to do with. Needs a TileScope.
  void (*multiply)(const TileAttentionProduct& product, const TileSoftmax& softmax,
                   size_t first_piece, size_t end_piece) = nullptr;
  // sums = sums * factor[row] + x, both [blocks][4 tiles]. factor: [32].
  void (*add)(const float* x, const float* factor, size_t blocks, float* sums) = nullptr;
  // out = sums / sum.
  void (*finish)(const TileResult& result) = nullptr;
};

// parts: 1, 2 or 3. cache_parts, of keys or values: 1 or `parts`. Null where this build has none.
const TileAttentionKernels* FindTileAttentionKernels(size_t parts, size_t cache_parts);

}  // namespace ram
