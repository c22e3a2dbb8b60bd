#pragma once

// Weights as they lie in memory while a model runs: dense, or packed as they are stored.

#include <cstdint>

#include "ram/base/dtype.h"

namespace ram {

// A weight matrix [rows, cols] (out x in), or a stack of `count` of them (experts, heads) one after
// the other. A view: somebody else owns the memory. Every pointer is aligned to 64 bytes.
struct Matrix {
  enum class Form : uint8_t {
    kDense,   // values [count, rows, cols] of `dtype`: kF32, kF16 or kBF16.
    kAffine,  // weight = code * scale + bias in f32. values: per row a little-endian bit stream of
              // codes, cols * bits / 8 bytes; scales and biases [count, rows, cols / group_size] of
              // `dtype` (docs/format.md).
    kMxfp4,   // values: two E2M1 codes per byte, low nibble first; scales [count, rows, cols / 32]
              // E8M0 bytes; no biases.
  };

  Form form = Form::kDense;
  Dtype dtype = Dtype::kF32;  // Of dense values; of scales and biases.
  int bits = 0;
  int group_size = 0;
  uint64_t count = 1;
  uint64_t rows = 0;
  uint64_t cols = 0;
  const uint8_t* values = nullptr;
  const uint8_t* scales = nullptr;
  const uint8_t* biases = nullptr;

  bool empty() const { return values == nullptr; }
  // Bytes of one row of values; of scales (and of biases).
  uint64_t row_bytes() const;
  uint64_t scale_row_bytes() const;
  // One matrix of the stack.
  Matrix at(uint64_t index) const;
  // Rows [first, first + num) of one matrix (count = 1). Pointers may lose their alignment.
  Matrix slice(uint64_t first, uint64_t num) const;
  // Bytes in memory, all of the stack.
  uint64_t bytes() const;
};

// Decodes rows [first, first + num) of a matrix (count = 1) to f32: the weights that the model
// means, `out` [num, cols]. Scalar and exact: the reference for every fast decoder.
void DecodeRows(const Matrix& matrix, uint64_t first, uint64_t num, float* out);

}  // namespace ram
