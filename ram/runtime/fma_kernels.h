#pragma once

// What the f32 product asks of its kernels (products_fma.cc plans and dispatches). A kernel does
// one task of one thread; sums are ordered by k alone, so a result does not depend on how the
// products were cut into tasks.

#include <cstddef>
#include <cstdint>

#include "ram/runtime/engine.h"
#include "ram/runtime/matrix.h"

namespace ram {

// At most this many rows are taken by the packed dot products.
inline constexpr size_t kFewRows = 4;

// Columns [first_col, first_col + out.cols) of x * matrix^T + bias, many rows of x.
struct PanelTask {
  const Matrix* matrix = nullptr;  // count = 1.
  const float* bias = nullptr;     // [matrix.rows]; null: none.
  Rows x;
  uint64_t first_col = 0;  // First row of the matrix.
  Rows out;
};

// The same for 1 to kFewRows rows: weights are used as they are stored.
struct DotTask {
  const Matrix* matrix = nullptr;
  const float* bias = nullptr;
  const float* packed_x = nullptr;  // From PackForDot, of out.rows rows.
  uint64_t first_col = 0;
  Rows out;
};

}  // namespace ram
