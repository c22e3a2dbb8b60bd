#pragma once

// The "decoder" of a tokenizer.json: from tokens back to text.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ram/base/json.h"
#include "ram/base/result.h"

namespace ram {

class Decoder {
 public:
  // `json`: an object with a "type", or null for none: tokens are then words. kUnsupported names a
  // type or option that is not supported.
  static Result<Decoder> Parse(const Json& json, std::string_view where);

  // Text of consecutive tokens, valid UTF-8: bytes that are none become U+FFFD. A sequence can be
  // decoded in parts that CanEndPart; `is_first` and `is_last` say which part this is.
  std::string Decode(std::vector<std::string> tokens, bool is_first, bool is_last) const;

  // Whether the text of these tokens, if it is not empty, stays the same whatever follows: the
  // texts of such parts together are the text of all.
  bool CanEndPart(const std::vector<std::string>& tokens) const;

  // The bytes that a token adds in the middle of a text; they may be a part of a character.
  std::string BytesOf(std::string token) const;

 private:
  struct Step {
    enum class Kind : uint8_t { kReplace, kByteFallback, kFuse, kStrip, kMetaspace, kByteLevel };

    Kind kind;
    std::string from = {}, to = {};      // kReplace; kStrip, kMetaspace: `from`.
    size_t num_start = 0, num_stop = 0;  // kStrip: at most how many.
    bool drops_first = false;            // kMetaspace: marks of the first token are dropped.
  };

  Status Append(const Json& json, std::string_view where);

  std::vector<Step> steps_;
};

}  // namespace ram
