#pragma once

// Vector kernels of the f32 attention (attention_fma.cc has the design): packing a tile of keys and
// values, and what a block of rows makes of it.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "ram/runtime/engine.h"

namespace ram {

// Keys of one tile.
inline constexpr size_t kTileKeys = 128;

// Keys and values of tokens [begin, end) of a tile that begins at a multiple of kTileKeys; others
// are zero. Only the panels that hold one of those tokens are written and read.
struct CacheTile {
  CacheView keys, values;  // data: of the first token of the tile, whether it is there or not.
  size_t begin = 0, end = 0;
  size_t dim = 0, value_dim = 0;
};

// What a block of rows has seen so far. Arrays are padded: kernels read and write a few rows more.
struct RowBlock {
  size_t rows = 0;
  float* queries = nullptr;  // [rows, dim], times the scale.
  int64_t* low = nullptr;    // Row r sees positions [low[r], high[r]).
  int64_t* high = nullptr;
  float* max = nullptr;     // [rows]: largest score.
  float* sum = nullptr;     // [rows]: of exp(score - max).
  float* values = nullptr;  // [rows, value_pitch]: sum of exp(score - max) * value.
};

struct PackedTile {
  const float* keys = nullptr;    // [panels, dim, panel]
  const float* values = nullptr;  // [value panels, kTileKeys, panel]
  size_t dim = 0, value_pitch = 0;
  int64_t first = 0;  // Position of its first key.
  float softcap = 0;
};

struct AttentionKernels {
  size_t panel;    // Columns that are multiplied at a time; divides kTileKeys.
  size_t padding;  // Rows beyond the end of a block.
  void (*pack_keys)(const CacheTile& tile, float* scratch,
                    float* out);  // scratch: [panel, PitchOf(dim)].
  void (*pack_values)(const CacheTile& tile, float* out);
  void (*attend)(const PackedTile& tile, const RowBlock& block);
  // out = x * factor.
  void (*scale)(const float* x, float factor, size_t n, float* out);
  // y = x * x_factor + y * y_factor; n is a multiple of `panel`.
  void (*merge)(const float* x, float x_factor, float y_factor, size_t n, float* y);
};

// `level`: one of SimdLevels().
const AttentionKernels& AttentionKernelsOf(std::string_view level);

}  // namespace ram
