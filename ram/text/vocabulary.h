#pragma once

// The strings of a vocabulary and their ids.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ram/base/result.h"

namespace ram {

inline constexpr int32_t kNoToken = -1;
inline constexpr int32_t kMaxTokenId = (1 << 22) - 1;

class Vocabulary {
 public:
  // `max_tokens`: how many will be added.
  explicit Vocabulary(size_t max_tokens);

  // kCorrupt if the id is negative or above kMaxTokenId, or the token or its id is there already.
  Status Add(std::string_view token, int64_t id, std::string_view where);

  // kNoToken if it is not there.
  int32_t Find(std::string_view token) const;
  bool Has(int32_t id) const {
    return id >= 0 && static_cast<size_t>(id) < spans_.size() && spans_[size_t(id)].begin != kNone;
  }
  // Only if Has(id).
  std::string_view Token(int32_t id) const {
    const Span& span = spans_[static_cast<size_t>(id)];
    return std::string_view(text_).substr(span.begin, span.size);
  }
  // One more than the largest id.
  int32_t end_id() const { return static_cast<int32_t>(spans_.size()); }
  size_t num_tokens() const { return num_tokens_; }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;

  struct Span {
    uint32_t begin = kNone;
    uint32_t size = 0;
  };

  std::string text_;            // All tokens, one after the other.
  std::vector<Span> spans_;     // By id.
  std::vector<int32_t> slots_;  // Ids by hash, open addressing; kNoToken is free.
  size_t num_tokens_ = 0;
};

}  // namespace ram
