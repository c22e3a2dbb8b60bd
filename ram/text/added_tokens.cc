#include "ram/text/added_tokens.h"

#include <fmt/format.h>

#include "ram/text/pre_tokenizer.h"
#include "ram/text/unicode.h"

namespace ram {
namespace {

uint64_t Edge(uint64_t node, char byte) { return node << 8 | static_cast<uint8_t>(byte); }

size_t TotalBytes(std::span<const AddedToken* const> tokens) {
  size_t num_bytes = 0;
  for (const AddedToken* token : tokens) num_bytes += token->in_text.size();
  return num_bytes;
}

bool IsWithinWord(std::string_view text, size_t begin, size_t end) {
  return (begin > 0 &&
          IsWordCharacter(CharacterAt(text, PreviousCharacter(text, begin)).code_point)) ||
         (end < text.size() && IsWordCharacter(CharacterAt(text, end).code_point));
}

size_t SpaceBefore(std::string_view text, size_t begin) {
  while (begin > 0) {
    const size_t previous = PreviousCharacter(text, begin);
    if (!IsWhiteSpace(CharacterAt(text, previous).code_point)) break;
    begin = previous;
  }
  return begin;
}

size_t SpaceBehind(std::string_view text, size_t end) {
  while (end < text.size()) {
    const Character c = CharacterAt(text, end);
    if (!IsWhiteSpace(c.code_point)) break;
    end += c.num_bytes;
  }
  return end;
}

}  // namespace

Result<std::vector<AddedToken>> ParseAddedTokens(const Json& json, const Normalizer& normalizer,
                                                 std::string_view where) {
  std::vector<AddedToken> tokens;
  if (json.is_null()) return tokens;
  if (!json.is_array()) {
    return Error{ErrorCode::kCorrupt, fmt::format("{}: added_tokens is no array", where)};
  }
  for (const Json& entry : json) {
    AddedToken token;
    const std::string here = fmt::format("{}: added_tokens", where);
    RAM_ASSIGN_OR_RETURN(const int64_t id, GetInt(entry, "id", here));
    RAM_ASSIGN_OR_RETURN(token.content, GetString(entry, "content", here));
    if (id < 0 || id > kMaxTokenId) {
      return Error{ErrorCode::kCorrupt,
                   fmt::format("{}: id {}, expected 0 to {}", here, id, kMaxTokenId)};
    }
    token.id = static_cast<int32_t>(id);
    RAM_ASSIGN_OR_RETURN(token.single_word, GetBoolOr(entry, "single_word", false, here));
    RAM_ASSIGN_OR_RETURN(token.strips_left, GetBoolOr(entry, "lstrip", false, here));
    RAM_ASSIGN_OR_RETURN(token.strips_right, GetBoolOr(entry, "rstrip", false, here));
    RAM_ASSIGN_OR_RETURN(token.is_special, GetBoolOr(entry, "special", false, here));
    RAM_ASSIGN_OR_RETURN(token.is_normalized,
                         GetBoolOr(entry, "normalized", !token.is_special, here));
    token.in_text = token.content;
    if (token.is_normalized) {
      TextArena arena;
      RAM_ASSIGN_OR_RETURN(token.in_text, normalizer.Run(token.content, arena));
    }
    tokens.push_back(std::move(token));
  }
  return tokens;
}

AddedTokenFinder::AddedTokenFinder(std::span<const AddedToken* const> tokens)
    : begins_(256), children_(TotalBytes(tokens)), ends_(1, nullptr) {
  for (const AddedToken* token : tokens) {
    if (token->in_text.empty()) continue;
    begins_[static_cast<uint8_t>(token->in_text[0])] = true;
    uint64_t node = 0;
    for (const char byte : token->in_text) {
      const uint64_t* child = children_.Find(Edge(node, byte));
      if (child != nullptr) {
        node = *child;
        continue;
      }
      children_.Set(Edge(node, byte), ends_.size());
      node = ends_.size();
      ends_.push_back(nullptr);
    }
    if (ends_[node] == nullptr) ends_[node] = token;
  }
}

AddedTokenFinder::Match AddedTokenFinder::LongestAt(std::string_view text, size_t at) const {
  Match longest;
  uint64_t node = 0;
  while (at < text.size()) {
    const uint64_t* child = children_.Find(Edge(node, text[at]));
    if (child == nullptr) break;
    node = *child;
    ++at;
    if (ends_[node] != nullptr) longest = {ends_[node], at};
  }
  return longest;
}

void AddedTokenFinder::Split(std::string_view text,
                             const std::function<void(size_t, size_t)>& on_text,
                             const std::function<void(const AddedToken&)>& on_token) const {
  size_t done = 0;
  const bool has_tokens = ends_.size() > 1;
  for (size_t at = 0; has_tokens && at < text.size();) {
    if (!begins_[static_cast<uint8_t>(text[at])]) {
      ++at;
      continue;
    }
    const Match match = LongestAt(text, at);
    if (match.token == nullptr) {
      ++at;
      continue;
    }
    size_t begin = at, end = match.end;
    at = match.end;
    if (match.token->single_word && IsWithinWord(text, begin, end)) continue;
    if (match.token->strips_left) begin = std::max(SpaceBefore(text, begin), done);
    if (match.token->strips_right) end = SpaceBehind(text, end);
    if (done < begin) on_text(done, begin);
    on_token(*match.token);
    done = end;  // As the official library has it, even if this goes back into stripped space.
  }
  if (done < text.size()) on_text(done, text.size());
}

}  // namespace ram
