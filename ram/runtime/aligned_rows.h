#pragma once

// Memory of the CPU engine.

#include <cstddef>
#include <cstdint>
#include <memory>

#include "ram/runtime/engine.h"

namespace ram {

// At least `bytes`, aligned to 64 bytes, to 2 MiB where the memory is that large: then the system
// is asked for huge pages. Contents are undefined. Ends the program where memory runs out.
class AlignedBytes {
 public:
  AlignedBytes() = default;
  explicit AlignedBytes(uint64_t bytes);

  uint8_t* data() const { return data_.get(); }
  float* floats() const { return reinterpret_cast<float*>(data_.get()); }
  uint64_t size() const { return size_; }
  // Makes room for `bytes`; contents are lost when it grows.
  void Reserve(uint64_t bytes);

 private:
  struct Free {
    void operator()(uint8_t* data) const;
  };
  std::unique_ptr<uint8_t, Free> data_;
  uint64_t size_ = 0;
};

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
