#include "ram/base/json.h"

#include <fmt/format.h>

#include <set>
#include <vector>

#include "ram/base/file.h"

namespace ram {
namespace {

constexpr size_t kMaxDepth = 64;

Error WrongKey(std::string_view key, std::string_view where, std::string_view expected) {
  return Error{ErrorCode::kCorrupt,
               fmt::format("{}: key \"{}\": expected {}", where, key, expected)};
}

}  // namespace

Result<Json> ParseJson(std::string_view text, std::string_view where) {
  std::string mistake;
  std::vector<std::set<std::string>> keys;
  const auto check = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (static_cast<size_t>(depth) > kMaxDepth && mistake.empty()) {
      mistake = fmt::format("nested deeper than {}", kMaxDepth);
    }
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key && mistake.empty() &&
        !keys.back().insert(parsed.get<std::string>()).second) {
      mistake = fmt::format("key \"{}\" appears twice in one object", parsed.get<std::string>());
    }
    return true;
  };
  try {
    Json json = Json::parse(text, check);
    if (!mistake.empty()) {
      return Error{ErrorCode::kCorrupt, fmt::format("{}: {}", where, mistake)};
    }
    return json;
  } catch (const Json::exception& error) {
    std::string reason = error.what();  // "[json.exception.parse_error.101] parse error at ..."
    if (const size_t end = reason.find("] "); end != std::string::npos) reason.erase(0, end + 2);
    return Error{ErrorCode::kCorrupt, fmt::format("{}: not JSON: {}", where, reason)};
  }
}

Result<Json> ReadJsonFile(const std::filesystem::path& path, uint64_t max_bytes) {
  RAM_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, max_bytes));
  return ParseJson(text, path.string());
}

const Json* Find(const Json& object, std::string_view key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return nullptr;
  return &*found;
}

Result<int64_t> GetInt(const Json& object, std::string_view key, std::string_view where) {
  const Json* value = Find(object, key);
  if (value == nullptr || !value->is_number_integer() ||
      (value->is_number_unsigned() && value->get<uint64_t>() > INT64_MAX)) {
    return WrongKey(key, where, "a whole number");
  }
  return value->get<int64_t>();
}

Result<double> GetNumber(const Json& object, std::string_view key, std::string_view where) {
  const Json* value = Find(object, key);
  if (value == nullptr || !value->is_number()) return WrongKey(key, where, "a number");
  return value->get<double>();
}

Result<bool> GetBool(const Json& object, std::string_view key, std::string_view where) {
  const Json* value = Find(object, key);
  if (value == nullptr || !value->is_boolean()) return WrongKey(key, where, "true or false");
  return value->get<bool>();
}

Result<std::string> GetString(const Json& object, std::string_view key, std::string_view where) {
  const Json* value = Find(object, key);
  if (value == nullptr || !value->is_string()) return WrongKey(key, where, "a string");
  return value->get<std::string>();
}

Result<const Json*> GetArray(const Json& object, std::string_view key, std::string_view where) {
  const Json* value = Find(object, key);
  if (value == nullptr || !value->is_array()) return WrongKey(key, where, "an array");
  return value;
}

Result<const Json*> GetObject(const Json& object, std::string_view key, std::string_view where) {
  const Json* value = Find(object, key);
  if (value == nullptr || !value->is_object()) return WrongKey(key, where, "an object");
  return value;
}

}  // namespace ram
