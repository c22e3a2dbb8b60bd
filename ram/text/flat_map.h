#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "ram/base/result.h"

namespace ram {

// From 64-bit keys to 64-bit values, built once and then read: open addressing, at most half full,
// one cache line per look-up. The key ~0 is not allowed.
class FlatMap {
 public:
  explicit FlatMap(size_t max_entries)
      : entries_(std::bit_ceil(2 * max_entries + 2), {kFree, 0}), mask_(entries_.size() - 1) {}

  // Replaces the value of a key that is there already.
  void Set(uint64_t key, uint64_t value) {
    RAM_CHECK(key != kFree);
    size_t i = Hash(key) & mask_;
    while (entries_[i].key != kFree && entries_[i].key != key) i = (i + 1) & mask_;
    if (entries_[i].key == kFree) {
      RAM_CHECK(2 * ++num_entries_ <= entries_.size());
    }
    entries_[i] = {key, value};
  }

  // Null if it is not there.
  const uint64_t* Find(uint64_t key) const {
    for (size_t i = Hash(key) & mask_; entries_[i].key != kFree; i = (i + 1) & mask_) {
      if (entries_[i].key == key) return &entries_[i].value;
    }
    return nullptr;
  }

 private:
  static constexpr uint64_t kFree = ~uint64_t{0};

  struct Entry {
    uint64_t key, value;
  };

  static size_t Hash(uint64_t key) {
    key *= 0x9E3779B97F4A7C15u;
    return static_cast<size_t>(key ^ (key >> 32));
  }

  std::vector<Entry> entries_;
  size_t mask_;
  size_t num_entries_ = 0;
};

}  // namespace ram
