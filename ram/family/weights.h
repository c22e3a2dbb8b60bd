#pragma once

// Reading the weights of a catalog tensor: any view, any source encoding, a bounded number of rows
// at a time.

#include <cstdint>
#include <span>
#include <vector>

#include "ram/base/result.h"
#include "ram/checkpoint/checkpoint.h"
#include "ram/family/catalog.h"

namespace ram {

// Reads rows [first_row, first_row + num_rows) of view `view` of a bound tensor as `tensor.dtype`
// (exact where the source has that precision or less; otherwise rounded to nearest even) into
// `out` [num_rows * cols * element size]. Consecutive rows that need no conversion are one read
// straight into `out`; rows whose columns lie far apart in the source (llama4) are read by columns,
// the faster the more rows at once. Scratch memory: at most a few MiB beyond `out`.
// GPTQ and AWQ decode to F32; the more rows at once, the larger their reads.
// Thread-safe; keeps no state. kNotFound for an unbound tensor; kCorrupt or kIo from the file.
Status ReadRows(const Checkpoint& checkpoint, const CatalogTensor& tensor, size_t view,
                uint64_t first_row, uint64_t num_rows, std::span<uint8_t> out);

// The codes and E8M0 scales of MXFP4 rows as MLX stores them: codes [num_rows * cols / 2] low
// nibble first, scales [num_rows * cols / 32]. Only for encoding kMxfp4.
Status ReadMxfp4Rows(const Checkpoint& checkpoint, const CatalogTensor& tensor, size_t view,
                     uint64_t first_row, uint64_t num_rows, std::span<uint8_t> codes,
                     std::span<uint8_t> scales);

// The codes, scales and biases of MLX affine rows as they are stored (docs/format.md). Only for
// encoding kAffine.
struct AffineRows {
  std::span<uint8_t> codes;   // [num_rows * cols * bits / 8]
  std::span<uint8_t> scales;  // [num_rows * cols / group_size] of tensor.dtype
  std::span<uint8_t> biases;  // as scales
};
Status ReadAffineRows(const Checkpoint& checkpoint, const CatalogTensor& tensor, size_t view,
                      uint64_t first_row, uint64_t num_rows, const AffineRows& out);

}  // namespace ram
