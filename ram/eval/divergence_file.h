#pragma once

// Divergences of every scored token, on disk: NAME.kl.safetensors (docs/format.md).

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "ram/base/result.h"
#include "ram/eval/divergence.h"

namespace ram {

struct DivergenceFile {
  std::string base;
  std::string text;   // What was scored, in words.
  std::string model;  // Its name.
  // What else is to be kept with it, by name; may be empty.
  std::map<std::string, std::string> facts;
  std::vector<TokenDivergence> tokens;
  std::vector<uint64_t> window_tokens;  // Sum: tokens.size().
};

// The same contents give the same bytes. Replaces what was there in one step.
Status WriteDivergence(const DivergenceFile& contents, const std::filesystem::path& path);

// kCorrupt: not such a file, bytes missing, numbers that are not finite, sizes that contradict each
// other.
Result<DivergenceFile> ReadDivergence(const std::filesystem::path& path);

}  // namespace ram
