#pragma once

// tokenizer.json as read: its vocabulary and merges, which are nearly all of it, as flat lists, and
// the rest as JSON.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ram/base/json.h"
#include "ram/base/result.h"
#include "ram/text/vocabulary.h"

namespace ram {

// "model" of type BPE.
struct BpeDescription {
  struct Token {
    std::string text;
    int64_t id;
  };
  struct Merge {
    std::string left, right;
  };

  std::vector<Token> tokens;
  std::vector<Merge> merges;
  std::string unknown_token;  // Empty: none.
  bool byte_fallback = false;
  bool fuse_unknown = false;
  bool ignore_merges = false;
};

struct TokenizerFile {
  BpeDescription bpe;
  Json rest;  // Without model.vocab and model.merges.
};

// kCorrupt names `where` and the position of the first mistake (duplicate keys and nesting deeper
// than 64 are mistakes), kUnsupported a model that is not BPE and options of BPE that no known
// family uses. 11 MB take some 0.2 s.
Result<TokenizerFile> ReadTokenizerFile(std::string_view text, std::string_view where);

}  // namespace ram
