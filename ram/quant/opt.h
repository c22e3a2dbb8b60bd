#pragma once

// The search of Quantizer::kOpt: better scales and biases for the groups of one batch.
// Reference implementation, to be read first: ram/quant/opt_reference.h.

#include <cstddef>

#include "ram/base/dtype.h"

namespace ram {

// Arrays of one value per group are aligned to 64 bytes and readable up to a multiple of 16.
struct OptBatch {
  int bits;
  size_t group_size;
  size_t num_groups;
  Dtype dtype;                  // Of the stored scale and bias: kBF16, kF16 or kF32.
  const float* weights;         // [num_groups * group_size], finite
  const float* column_weights;  // The same size, 0 to 1e30; null: rms of the group + |weight|.
  const float* rule_scale;      // [num_groups], of the range rule, not rounded to dtype
  float* scale;                 // [num_groups], in: as kRtnPlus stores it; out: the best found
  float* bias;                  // as scale
};

// Weighted squared errors never rise. Thread-safe, allocates nothing. About 28 * 3 * 22 vector
// operations for 16 weights.
void SearchGrids(const OptBatch& batch);

}  // namespace ram
