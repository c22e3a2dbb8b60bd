#pragma once

// Rows of activations of the CPU engine.

#include <cstdint>

#include "ram/runtime/aligned_memory.h"
#include "ram/runtime/engine.h"

namespace ram {

// Floats from one row to the next: a multiple of 16, and an odd number of cache lines, so that the
// rows of a column do not fall into the same set of a cache.
inline constexpr uint64_t PitchOf(uint64_t cols) { return ((cols + 15) / 16 | 1) * 16; }

// Activations of the engines that run on the CPU.
class OwnedRows : public Activations {
 public:
  OwnedRows(uint64_t rows, uint64_t cols)
      : bytes_(rows * PitchOf(cols) * sizeof(float)),
        rows_{bytes_.floats(), rows, cols, PitchOf(cols)} {}
  Rows rows() const override { return rows_; }

 private:
  AlignedBytes bytes_;
  Rows rows_;
};

// Rows that are used again and again and grow when they must.
class ScratchRows {
 public:
  // A view of [rows, cols]; the one before is gone.
  Rows Take(uint64_t rows, uint64_t cols) {
    bytes_.Reserve(rows * PitchOf(cols) * sizeof(float));
    return {bytes_.floats(), rows, cols, PitchOf(cols)};
  }

 private:
  AlignedBytes bytes_;
};

}  // namespace ram
