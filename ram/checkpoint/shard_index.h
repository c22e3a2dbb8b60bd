#pragma once

// model.safetensors.index.json: which file of a model holds which tensor.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "ram/base/result.h"

namespace ram {

struct ShardIndex {
  struct Entry {
    std::string tensor;
    size_t file;  // Index into `files`.
  };
  std::vector<std::string> files;  // Names inside the directory of the index, sorted, each once.
  std::vector<Entry> entries;      // In byte order of the tensor names; not empty.
};

// Reads the text of an index; `where` names it in messages. Only "weight_map" matters; its values
// must be plain names of .safetensors files, so that an index cannot point outside its directory.
// kCorrupt names the key and what was expected. What the fuzz target runs.
Result<ShardIndex> ParseShardIndex(std::string_view text, std::string_view where);

}  // namespace ram
