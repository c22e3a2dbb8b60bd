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

// `model_context`: the most tokens that the model reads, for protocols that take as many; 0: 2048,
// as lm-evaluation-harness takes where a model does not say. Errors: those of the tokenizer,
// WikitextPages, CutWindows and CutDocuments; a tokenizer that lacks the token the protocol begins
// documents with.
Result<CutText> CutTextFor(const Text& text, const CutRequest& request, const Tokenizer& tokenizer,
                           uint64_t model_context = 0);

}  // namespace ram
