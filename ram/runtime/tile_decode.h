#pragma once

// Weights of any stored form as f32, in plain C++: fast enough for table look-ups and for the few
// matrices that a forward pass needs the other way round. The same bits as DecodeRows. Products
// decode in their own vector code (panel_decode-inl.h).

#include <cstdint>

#include "ram/runtime/matrix.h"

namespace ram {

// Decodes rows [first_row, first_row + num_rows) and columns [first_col, first_col + num_cols) of a
// matrix (count = 1): element (r, c) of the block goes to out[r * pitch + c]. first_col is a
// multiple of 32, num_cols too unless the block ends with the row. About 1 G weights/s.
void DecodeTile(const Matrix& matrix, uint64_t first_row, uint64_t num_rows, uint64_t first_col,
                uint64_t num_cols, float* out, uint64_t pitch);

// Decodes a matrix [rows, cols] (count = 1) to its transpose, out [cols, rows] with that pitch.
void DecodeTransposed(const Matrix& matrix, float* out, uint64_t pitch);

}  // namespace ram
