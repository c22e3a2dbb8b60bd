#include "ram/base/json.h"

#include <fmt/format.h>

#include <utility>
#include <vector>

#include "ram/base/file.h"

namespace ram {
namespace {

constexpr size_t kMaxDepth = 64;

Error WrongKey(std::string_view key, std::string_view where, std::string_view expected) {
  return Error{ErrorCode::kCorrupt,
               fmt::format("{}: key \"{}\": expected {}", where, key, expected)};
}

// Builds the document as the parser goes, so that mistakes stop it at once. (The parser's own
// callback costs a pass over the parent for every object it ends.)
class Builder : public nlohmann::json_sax<Json> {
 public:
  Json& root() { return root_; }
  const std::string& mistake() const { return mistake_; }

  bool null() override { return Add(nullptr) != nullptr; }
  bool boolean(bool value) override { return Add(value) != nullptr; }
  bool number_integer(int64_t value) override { return Add(value) != nullptr; }
  bool number_unsigned(uint64_t value) override { return Add(value) != nullptr; }
  bool number_float(double value, const std::string&) override { return Add(value) != nullptr; }
  bool string(std::string& value) override { return Add(std::move(value)) != nullptr; }
  bool binary(Json::binary_t&) override { return Fail("binary data"); }
  bool start_object(size_t) override { return Open(Json::object()); }
  bool start_array(size_t) override { return Open(Json::array()); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }

  bool key(std::string& name) override {
    auto& object = open_.back()->get_ref<Json::object_t&>();
    const auto [entry, is_new] = object.try_emplace(name);
    if (!is_new) {
      return Fail(fmt::format("key \"{}\" appears twice in one object", name.substr(0, 200)));
    }
    value_ = &entry->second;
    return true;
  }

  bool parse_error(size_t, const std::string&, const Json::exception& error) override {
    std::string reason = error.what();  // "[json.exception.parse_error.101] parse error at ..."
    if (const size_t end = reason.find("] "); end != std::string::npos) reason.erase(0, end + 2);
    // The rest quotes the text, which may be long and may be anything.
    if (const size_t quote = reason.find("; last read"); quote != std::string::npos) {
      reason.erase(quote);
    }
    return Fail("not JSON: " + reason.substr(0, 300));
  }

 private:
  bool Fail(std::string mistake) {
    if (mistake_.empty()) mistake_ = std::move(mistake);
    return false;
  }

  template <typename T>
  Json* Add(T&& value) {
    if (open_.empty()) {
      root_ = std::forward<T>(value);
      return &root_;
    }
    if (open_.back()->is_array()) {
      auto& array = open_.back()->get_ref<Json::array_t&>();
      return &array.emplace_back(std::forward<T>(value));
    }
    *value_ = std::forward<T>(value);
    return value_;
  }

  bool Open(Json container) {
    if (open_.size() >= kMaxDepth) return Fail(fmt::format("nested deeper than {}", kMaxDepth));
    open_.push_back(Add(std::move(container)));  // Its parents do not move while it is open.
    return true;
  }

  bool Close() {
    open_.pop_back();
    return true;
  }

  Json root_;
  std::vector<Json*> open_;  // The containers around the place where the parser is.
  Json* value_ = nullptr;    // Of the key that was read last.
  std::string mistake_;
};

}  // namespace

Result<Json> ParseJson(std::string_view text, std::string_view where) {
  // The parser takes a NUL for the end and would not look behind it.
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos) {
    return Error{ErrorCode::kCorrupt, fmt::format("{}: NUL byte at {}", where, nul)};
  }
  Builder builder;
  if (!Json::sax_parse(text, &builder)) {
    return Error{ErrorCode::kCorrupt, fmt::format("{}: {}", where, builder.mistake())};
  }
  return std::move(builder.root());
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
