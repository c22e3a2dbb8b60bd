// The text of a model.safetensors.index.json. Whatever it is, it is refused or names files that lie
// beside it.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "ram/checkpoint/shard_index.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const ram::Result<ram::ShardIndex> index = ram::ParseShardIndex(text, "index");
  if (!index) {
    RAM_CHECK(index.error().code == ram::ErrorCode::kCorrupt && !index.error().message.empty());
    return 0;
  }
  const std::filesystem::path directory = "/model";
  for (const std::string& file : index->files) {
    const std::filesystem::path path = (directory / file).lexically_normal();
    RAM_CHECK(path.parent_path() == directory && path.filename() == file);
  }
  RAM_CHECK(!index->entries.empty() && !index->files.empty());
  std::vector<bool> used(index->files.size(), false);
  for (const ram::ShardIndex::Entry& entry : index->entries) used.at(entry.file) = true;
  RAM_CHECK(std::find(used.begin(), used.end(), false) == used.end());
  const auto by_name = [](const auto& a, const auto& b) { return a.tensor < b.tensor; };
  RAM_CHECK(std::is_sorted(index->entries.begin(), index->entries.end(), by_name));
  RAM_CHECK(std::is_sorted(index->files.begin(), index->files.end()));
  return 0;
}
