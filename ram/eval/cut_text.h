#pragma once

// A text, and the windows that a protocol and one model's tokenizer make of it.

#include <cstdint>
#include <string>
#include <vector>

#include "ram/base/result.h"
#include "ram/eval/windows.h"
#include "ram/text/tokenizer.h"

namespace ram {

struct Text {
  std::string name;
  std::string bytes;  // Not empty.
};

struct CutRequest {
  Protocol protocol;
  std::vector<int32_t> prefix;  // Token ids in front of every window.
};

struct CutText {
  Protocol protocol;
  WindowSet set;
  std::string settings;  // "windows of 2048, 146 of 146, seed 42, no BOS"
};

// Errors: those of the tokenizer and of CutWindows.
Result<CutText> CutTextFor(const Text& text, const CutRequest& request, const Tokenizer& tokenizer);

}  // namespace ram
