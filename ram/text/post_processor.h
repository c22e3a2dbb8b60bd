#pragma once

// The "post_processor" of a tokenizer.json: the special tokens around a text.

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "ram/base/json.h"
#include "ram/base/result.h"

namespace ram {

struct PostProcessor {
  // `json`: an object with a "type", or null for none. kUnsupported names a type that is not
  // supported. Templates for pairs of texts are not read.
  static Result<PostProcessor> Parse(const Json& json, std::string_view where);

  std::vector<int32_t> prefix, suffix;
};

}  // namespace ram
