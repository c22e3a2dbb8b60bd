#pragma once

// Tokens that are found in text before anything else happens to it: "<|im_start|>", "<think>".

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ram/base/json.h"
#include "ram/base/result.h"
#include "ram/text/flat_map.h"
#include "ram/text/normalizer.h"
#include "ram/text/vocabulary.h"

namespace ram {

struct AddedToken {
  int32_t id = kNoToken;
  std::string content;
  std::string in_text = {};    // What it looks like in text: `content`, normalized if it is to be.
  bool single_word = false;    // Only where no word character is next to it.
  bool strips_left = false;    // White space before it belongs to it,
  bool strips_right = false;   // behind it.
  bool is_normalized = false;  // Looked for in normalized text, itself normalized.
  bool is_special = false;     // Decoding can leave it out.
};

// "added_tokens": a list of objects. kCorrupt if one lacks its id or content.
Result<std::vector<AddedToken>> ParseAddedTokens(const Json& json, const Normalizer& normalizer,
                                                 std::string_view where);

// Finds strings in text: leftmost, of those the longest, without overlap.
class AddedTokenFinder {
 public:
  // Looks for the tokens' `in_text`; empty ones are never found. Tokens outlive the finder.
  explicit AddedTokenFinder(std::span<const AddedToken* const> tokens);

  // Calls on_text(begin, end) for what lies between tokens (not empty) and on_token(token) for each
  // of them, from left to right.
  void Split(std::string_view text, const std::function<void(size_t, size_t)>& on_text,
             const std::function<void(const AddedToken&)>& on_token) const;

 private:
  struct Match {
    const AddedToken* token = nullptr;
    size_t end = 0;
  };

  Match LongestAt(std::string_view text, size_t at) const;

  std::vector<bool> begins_;             // Bytes that a token begins with.
  FlatMap children_;                     // Of a trie: node and byte to node.
  std::vector<const AddedToken*> ends_;  // By node: the token that ends there, or null.
};

}  // namespace ram
