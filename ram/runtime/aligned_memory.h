#pragma once

// Large pieces of memory: of weights, where running out is an error with a name, and of the CPU
// engine, where it is the end.

#include <cstdint>
#include <memory>

#include "ram/base/result.h"

namespace ram {

// Memory aligned to 64 bytes; from 2 MiB on to 2 MiB, in huge pages where the system likes that.
class AlignedMemory {
 public:
  AlignedMemory() = default;
  // At least `bytes`, contents undefined. kNoSpace if the system has none.
  static Result<AlignedMemory> Allocate(uint64_t bytes);
  // size() of what Allocate(bytes) gives.
  static uint64_t SizeFor(uint64_t bytes);

  uint8_t* data() const { return data_.get(); }
  uint64_t size() const { return data_ == nullptr ? 0 : size_; }  // Nothing after a move.

 private:
  struct Free {
    void operator()(uint8_t* data) const;
  };
  std::unique_ptr<uint8_t, Free> data_;
  uint64_t size_ = 0;
};

// The same for working memory that grows when it must. Ends the program where memory runs out.
class AlignedBytes {
 public:
  AlignedBytes() = default;
  explicit AlignedBytes(uint64_t bytes);

  uint8_t* data() const { return memory_.data(); }
  float* floats() const { return reinterpret_cast<float*>(memory_.data()); }
  uint64_t size() const { return memory_.size(); }
  // Makes room for `bytes`; contents are lost when it grows.
  void Reserve(uint64_t bytes);

 private:
  AlignedMemory memory_;
};

}  // namespace ram
