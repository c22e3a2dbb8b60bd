#pragma once

// The "normalizer" of a tokenizer.json: what happens to text before it is cut.
//
// NFC, NFD, NFKC, NFKD and StripAccents are those of Unicode 9, as in the official library: younger
// code points stay as they are and nothing combines across them. Lowercase maps character by
// character, as far as utf8proc knows their case.

#include <functional>
#include <string_view>
#include <vector>

#include "ram/base/json.h"
#include "ram/base/result.h"
#include "ram/text/text_arena.h"

namespace ram {

class Normalizer {
 public:
  // `json`: an object with a "type", or null for none. kUnsupported names a type or option that is
  // not supported.
  static Result<Normalizer> Parse(const Json& json, std::string_view where);

  // `text` (valid UTF-8), if nothing changes, or a text in `arena`. Fails only where a regex does.
  // Thread-safe.
  Result<std::string_view> Run(std::string_view text, TextArena& arena) const;

 private:
  using Step = std::function<Result<std::string_view>(std::string_view text, TextArena& arena)>;

  Status Append(const Json& json, std::string_view where);

  std::vector<Step> steps_;
};

}  // namespace ram
