#pragma once

// JSON of files that people or other programs wrote: nothing here throws, and every complaint names
// the file and the key.

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "ram/base/result.h"

namespace ram {

using Json = nlohmann::json;                 // Keys sorted.
using OrderedJson = nlohmann::ordered_json;  // Keys in the order of writing.

inline constexpr uint64_t kMaxJsonBytes = uint64_t{1} << 30;

// kCorrupt names `where` and the position of the first mistake. Duplicate keys and nesting deeper
// than 64 are mistakes.
Result<Json> ParseJson(std::string_view text, std::string_view where);
Result<Json> ReadJsonFile(const std::filesystem::path& path, uint64_t max_bytes = kMaxJsonBytes);

// Typed access. A missing key or another type is kCorrupt: "plan.json: key "budget_bytes": expected
// a whole number". `where` names the file, or the file and the object in it.
Result<int64_t> GetInt(const Json& object, std::string_view key, std::string_view where);
Result<double> GetNumber(const Json& object, std::string_view key, std::string_view where);
Result<bool> GetBool(const Json& object, std::string_view key, std::string_view where);
Result<std::string> GetString(const Json& object, std::string_view key, std::string_view where);
Result<const Json*> GetArray(const Json& object, std::string_view key, std::string_view where);
Result<const Json*> GetObject(const Json& object, std::string_view key, std::string_view where);

// Null when `object` is no object, has no such key, or holds null there.
const Json* Find(const Json& object, std::string_view key);

}  // namespace ram
