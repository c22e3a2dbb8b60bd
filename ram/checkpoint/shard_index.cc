#include "ram/checkpoint/shard_index.h"

#include <fmt/format.h>

#include <algorithm>

#include "ram/base/json.h"
#include "ram/checkpoint/model_files.h"
#include "ram/checkpoint/text.h"

namespace ram {
namespace {

// A name starting with a dot would be hidden, "." or "..", none of which a shard is.
bool IsShardName(std::string_view name) {
  return name.size() > kSafetensorsSuffix.size() && name.ends_with(kSafetensorsSuffix) &&
         name.front() != '.' && name.find_first_of(std::string_view("/\\\0", 3)) == name.npos;
}

}  // namespace

Result<ShardIndex> ParseShardIndex(std::string_view text, std::string_view where) {
  if (IsLfsPointer(text)) return LfsPointerError(where);
  RAM_ASSIGN_OR_RETURN(const Json json, ParseJson(text, where));
  RAM_ASSIGN_OR_RETURN(const Json* weight_map, GetObject(json, "weight_map", where));
  if (weight_map->empty()) {
    return Error{ErrorCode::kCorrupt, fmt::format("{}: weight_map names no tensor", where)};
  }

  ShardIndex index;
  for (const auto& [tensor, file] : weight_map->items()) {
    if (!file.is_string() || !IsShardName(file.get_ref<const std::string&>())) {
      return Error{ErrorCode::kCorrupt,
                   fmt::format("{}: weight_map of tensor {}: expected the name of a .safetensors "
                               "file in the same directory, found {}",
                               where, Shown(tensor),
                               file.is_string() ? Shown(file.get_ref<const std::string&>())
                                                : std::string(file.type_name()))};
    }
    index.files.push_back(file.get_ref<const std::string&>());
  }
  std::sort(index.files.begin(), index.files.end());
  index.files.erase(std::unique(index.files.begin(), index.files.end()), index.files.end());

  index.entries.reserve(weight_map->size());
  for (const auto& [tensor, file] : weight_map->items()) {  // Sorted: Json keeps its keys so.
    const auto found = std::lower_bound(index.files.begin(), index.files.end(),
                                        file.get_ref<const std::string&>());
    index.entries.push_back({tensor, static_cast<size_t>(found - index.files.begin())});
  }
  return index;
}

}  // namespace ram
