#pragma once

// Cuts a template into text and tokens, with Jinja's rules for white space around tags.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ram/base/result.h"

namespace ram::jinja {

struct Token {
  enum class Kind : uint8_t {
    kText,        // Between tags; never empty.
    kPrintBegin,  // {{
    kPrintEnd,
    kBlockBegin,  // {%
    kBlockEnd,
    kName,
    kInteger,
    kFloat,
    kString,    // text: its value
    kOperator,  // text: "+", "==", "(", ...
    kEnd,
  };

  Kind kind;
  std::string text;
  uint32_t line, column;  // From 1; columns in bytes.
};

// Ends with kEnd.
Result<std::vector<Token>> CutIntoTokens(std::string_view text, std::string_view where);

}  // namespace ram::jinja
