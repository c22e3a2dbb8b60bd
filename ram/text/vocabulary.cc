#include "ram/text/vocabulary.h"

#include <fmt/format.h>

#include <bit>
#include <functional>

namespace ram {

Vocabulary::Vocabulary(size_t max_tokens) : slots_(std::bit_ceil(2 * max_tokens + 2), kNoToken) {}

Status Vocabulary::Add(std::string_view token, int64_t id, std::string_view where) {
  RAM_CHECK(2 * num_tokens_ + 2 < slots_.size() + 2);
  if (id < 0 || id > kMaxTokenId) {
    return Error{ErrorCode::kCorrupt,
                 fmt::format("{}: a token has id {}, expected 0 to {}", where, id, kMaxTokenId)};
  }
  const auto index = static_cast<size_t>(id);
  if (index >= spans_.size()) spans_.resize(index + 1);
  if (spans_[index].begin != kNone) {
    return Error{ErrorCode::kCorrupt, fmt::format("{}: two tokens have id {}", where, id)};
  }
  const size_t mask = slots_.size() - 1;
  size_t slot = std::hash<std::string_view>()(token) & mask;
  for (; slots_[slot] != kNoToken; slot = (slot + 1) & mask) {
    if (Token(slots_[slot]) == token) {
      return Error{ErrorCode::kCorrupt,
                   fmt::format("{}: ids {} and {} are the same token", where, slots_[slot], id)};
    }
  }
  slots_[slot] = static_cast<int32_t>(id);
  spans_[index] = {static_cast<uint32_t>(text_.size()), static_cast<uint32_t>(token.size())};
  text_ += token;
  ++num_tokens_;
  return Done{};
}

int32_t Vocabulary::Find(std::string_view token) const {
  const size_t mask = slots_.size() - 1;
  for (size_t slot = std::hash<std::string_view>()(token) & mask; slots_[slot] != kNoToken;
       slot = (slot + 1) & mask) {
    if (Token(slots_[slot]) == token) return slots_[slot];
  }
  return kNoToken;
}

}  // namespace ram
