#pragma once

// Vector kernels of the attention on AMX tiles (attention_amx.cc), for what happens between its two
// products. bf16 parts; see amx_product.h for the forms of packed operands.

#include <cstddef>
#include <cstdint>

namespace ram {

// Values of a block of keys as operand B of the second product: k is the key, columns are those of
// a value. In each step of 32 keys, key i and key i + 16 are a pair: so weights need no permutation
// across lanes.
struct TileValues {
  const uint8_t* values = nullptr;  // Of key 0 of the block, whether it is there or not.
  bool bf16 = false;                // Otherwise f32.
  size_t row_bytes = 0;             // From one key to the next.
  size_t first_key = 0;             // Keys [first_key, end_key) are there; others become zero.
  size_t end_key = 0;
  size_t num_keys = 0;  // Of the block; a multiple of 32.
  size_t columns = 0;
  uint8_t* packed = nullptr;  // [block of 32 columns][num_keys / 32][parts][2 tiles]
};

// Far below all scores, and finite: a maximum of none.
inline constexpr float kUnseenScore = -1e30F;

// One step of the softmax of up to 32 rows over a block of keys: scores become weights
// 2^(score - max), split and packed as operand A.
struct TileSoftmax {
  float* scores = nullptr;  // [block of 32 keys][4 tiles]; overwritten.
  size_t rows = 0;
  size_t num_keys = 0;             // A multiple of 32.
  const int32_t* begin = nullptr;  // [rows]: row r sees keys [begin[r], end[r]) of the block.
  const int32_t* end = nullptr;
  float scale = 1;  // Positive.
  float softcap = 0;
  // Scores count in units of ln 2: weights are powers of two.
  float* max = nullptr;       // [rows]: of the scores so far; at first kUnseenScore.
  float* sum = nullptr;       // [rows]: of the weights so far, relative to max.
  float* rescale = nullptr;   // [rows] out: what weights before this block are multiplied by.
  uint8_t* packed = nullptr;  // [num_keys / 32][parts][2 tiles]; rows that do not exist are zero.
};

struct TileAttentionKernels {
  void (*pack_values)(const TileValues& values) = nullptr;
  void (*softmax)(const TileSoftmax& block) = nullptr;
  // sums[r] = sums[r] * factor[r] + x[r] for all rows, both [block of 32 columns][4 tiles].
  void (*add)(const float* x, const float* factor, size_t rows, size_t blocks,
              float* sums) = nullptr;
};

// Parts of the weights: 1, 2 or 3; parts of the values: 1, 2 or 3. Null where this build has none.
const TileAttentionKernels* FindTileAttentionKernels(size_t weight_parts, size_t value_parts);

}  // namespace ram
