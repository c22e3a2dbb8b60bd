#include "ram/base/json.h"

#include <fmt/format.h>

#include <set>
#include <vector>

#include "ram/base/file.h"

namespace ram {
namespace {

constexpr size_t kMaxDepth = 64;

// Thrown out of the parser and caught in ParseJson: the only way to stop it early.
struct Mistake {
  std::string text;
};

Error WrongKey(std::string_view key, std::string_view where, std::string_view expected) {
  return Error{ErrorCode::kCorrupt,
               fmt::format("{}: key \"{}\": expected {}", where, key, expected)};
}

}  // namespace

Result<Json> ParseJson(std::string_view text, std::string_view where) {
  // The parser takes a NUL for the end and would not look behind it.
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos) {
    return Error{ErrorCode::kCorrupt, fmt::format("{}: NUL byte at {}", where, nul)};
  }
  std::vector<std::set<std::string>> keys;
  const auto check = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (static_cast<size_t>(depth) > kMaxDepth) {
      throw Mistake{fmt::format("nested deeper than {}", kMaxDepth)};
    }
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (!keys.back().insert(key).second) {
        throw Mistake{fmt::format("key \"{}\" appears twice in one object", key.substr(0, 200))};
      }
    }
    return true;
  };
  try {
    return Json::parse(text, check);
  } catch (const Mistake& mistake) {
    return Error{ErrorCode::kCorrupt, fmt::format("{}: {}", where, mistake.text)};
  } catch (const Json::exception& error) {
    std::string reason = error.what();  // "[json.exception.parse_error.101] parse error at ..."
    if (const size_t end = reason.find("] "); end != std::string::npos) reason.erase(0, end + 2);
    // The rest quotes the text, which may be long and may be anything.
    if (const size_t quote = reason.find("; last read"); quote != std::string::npos) {
      reason.erase(quote);
    }
    return Error{ErrorCode::kCorrupt,
                 fmt::format("{}: not JSON: {}", where, reason.substr(0, 300))};
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
