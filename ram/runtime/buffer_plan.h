#pragma once

// Cuts a buffer into pieces.

#include <cstddef>
#include <cstdint>

namespace ram {

// Hands out the pieces of a buffer one after the other, each aligned to 64 bytes. With a null base
// it only counts; so the same code says how large the buffer must be and where things lie in it.
class BufferPlan {
 public:
  explicit BufferPlan(uint8_t* base) : base_(base) {}

  template <class T>
  T* Take(size_t count) {
    uint8_t* const piece = base_ == nullptr ? nullptr : base_ + bytes_;
    bytes_ += (count * sizeof(T) + 63) / 64 * 64;
    return reinterpret_cast<T*>(piece);
  }

  size_t bytes() const { return bytes_; }

 private:
  uint8_t* base_;
  size_t bytes_ = 0;
};

}  // namespace ram
