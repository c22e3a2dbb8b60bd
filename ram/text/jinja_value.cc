#include "ram/text/jinja_value.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "ram/text/unicode.h"

namespace ram::jinja {
namespace {

int DepthOver(int depth, const Value& item) { return std::max(depth, item.depth() + 1); }

// Nothing holds a namespace, so that no value can hold itself.
bool IsNamespace(const Value& value) { return value.is_dict() && value.dict().is_namespace; }

Status CheckContainer(size_t size, int depth) {
  if (size > kMaxItems) return NotSupported(fmt::format("a list of {} items", size));
  if (depth > kMaxValueDepth) {
    return NotSupported(fmt::format("values nested deeper than {}", kMaxValueDepth));
  }
  return Done{};
}

// repr(float): the shortest digits that read back the same, with an exponent below 1e-4 and from
// 1e16.
std::string FloatText(double value, bool as_json) {
  if (std::isnan(value)) return as_json ? "NaN" : "nan";
  if (std::isinf(value)) {
    return std::string(value < 0 ? "-" : "") + (as_json ? "Infinity" : "inf");
  }
  std::array<char, 64> buffer;
  const double size = std::abs(value);
  const bool is_plain = size == 0 || (size >= 1e-4 && size < 1e16);
  const auto end =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                    is_plain ? std::chars_format::fixed : std::chars_format::scientific);
  std::string text(buffer.data(), end.ptr);
  if (is_plain && text.find('.') == std::string::npos) text += ".0";
  return text;
}

// Writes values as Python's repr() or json.dumps() would.
class Writer {
 public:
  Writer(bool is_json, const JsonStyle& style) : is_json_(is_json), style_(style) {}

  Status Write(const Value& value, int level) {
    if (out_.size() > kMaxTextBytes) return NotSupported("a text of more than 32 MiB");
    if (value.is_none()) {
      out_ += is_json_ ? "null" : "None";
    } else if (value.is_bool()) {
      out_ +=
          is_json_ ? (value.boolean() ? "true" : "false") : (value.boolean() ? "True" : "False");
    } else if (value.is_int()) {
      out_ += fmt::format("{}", value.AsInt());
    } else if (value.is_float()) {
      out_ += FloatText(value.AsDouble(), is_json_);
    } else if (value.is_text()) {
      is_json_ ? WriteJsonText(value.text()) : WriteReprText(value.text());
    } else if (value.is_list()) {
      return WriteList(value, level);
    } else if (value.is_dict() && !value.dict().is_namespace) {
      return WriteDict(value.dict(), level);
    } else if (is_json_) {
      return Mistake(fmt::format("{} is not JSON serializable", value.TypeName()));
    } else {
      out_ += value.is_undefined() ? "Undefined" : fmt::format("<{}>", value.TypeName());
    }
    return Done{};
  }

  std::string Take() { return std::move(out_); }

 private:
  void NewLine(int level) {
    out_ += '\n';
    out_.append(static_cast<size_t>(level) * static_cast<size_t>(style_.indent), ' ');
  }

  // What is between items, and around the first and the last.
  void Separate(bool is_first, int level) {
    const bool has_lines = is_json_ && style_.indent >= 0;
    if (!is_first) {
      std::string_view separator = is_json_ ? std::string_view(style_.item_separator) : ", ";
      if (has_lines && separator == ", ") separator = ",";
      out_ += separator;
    }
    if (has_lines) NewLine(level);
  }

  Status WriteList(const Value& value, int level) {
    const bool as_tuple = !is_json_ && value.is_tuple();
    const std::vector<Value>& items = value.list();
    out_ += as_tuple ? '(' : '[';
    for (size_t i = 0; i < items.size(); ++i) {
      Separate(i == 0, level + 1);
      RAM_RETURN_IF_ERROR(Write(items[i], level + 1));
    }
    if (as_tuple && items.size() == 1) out_ += ',';
    if (is_json_ && style_.indent >= 0 && !items.empty()) NewLine(level);
    out_ += as_tuple ? ')' : ']';
    return Done{};
  }

  Status WriteDict(const Dict& dict, int level) {
    std::vector<const std::pair<std::string, Value>*> entries;
    for (const auto& entry : dict.entries) entries.push_back(&entry);
    if (is_json_ && style_.sorted) {
      std::stable_sort(entries.begin(), entries.end(),
                       [](const auto* a, const auto* b) { return a->first < b->first; });
    }
    out_ += '{';
    for (size_t i = 0; i < entries.size(); ++i) {
      Separate(i == 0, level + 1);
      RAM_RETURN_IF_ERROR(Write(Value(entries[i]->first), level + 1));
      out_ += is_json_ ? std::string_view(style_.key_separator) : ": ";
      RAM_RETURN_IF_ERROR(Write(entries[i]->second, level + 1));
    }
    if (is_json_ && style_.indent >= 0 && !entries.empty()) NewLine(level);
    out_ += '}';
    return Done{};
  }

  void WriteJsonText(const std::string& text) {
    const std::string quoted =
        OrderedJson(text).dump(-1, ' ', style_.ascii, OrderedJson::error_handler_t::replace);
    // Python leaves DEL alone, as the library does, and writes \u00XX in lower case, as it does
    // too.
    out_ += quoted;
  }

  void WriteReprText(const std::string& text) {
    const bool has_single = text.find('\'') != std::string::npos;
    const char quote = has_single && text.find('"') == std::string::npos ? '"' : '\'';
    out_ += quote;
    for (const char c : text) {
      if (c == quote || c == '\\') {
        out_ += '\\';
        out_ += c;
      } else if (c == '\n') {
        out_ += "\\n";
      } else if (c == '\r') {
        out_ += "\\r";
      } else if (c == '\t') {
        out_ += "\\t";
      } else if (static_cast<uint8_t>(c) < 0x20 || c == 0x7F) {
        out_ += fmt::format("\\x{:02x}", static_cast<uint8_t>(c));
      } else {
        out_ += c;
      }
    }
    out_ += quote;
  }

  bool is_json_;
  const JsonStyle& style_;
  std::string out_;
};

}  // namespace

Error Mistake(std::string message) {
  return Error{ErrorCode::kInvalidArgument, std::move(message)};
}
Error NotSupported(std::string message) {
  return Error{ErrorCode::kUnsupported, std::move(message)};
}

const Value* Arguments::Get(size_t index, std::string_view name) const {
  if (index < positional.size()) return &positional[index];
  for (const auto& [key, value] : named) {
    if (key == name) return &value;
  }
  return nullptr;
}

const Value* Dict::Find(std::string_view key) const {
  for (const auto& [name, value] : entries) {
    if (name == key) return &value;
  }
  return nullptr;
}

void Dict::Set(std::string_view key, Value value) {
  depth = DepthOver(depth, value);
  for (auto& [name, old] : entries) {
    if (name == key) {
      old = std::move(value);
      return;
    }
  }
  entries.push_back({std::string(key), std::move(value)});
}

Value::Value(std::string value) : data_(std::make_shared<const std::string>(std::move(value))) {}

Result<Value> Value::OfList(std::vector<Value> items, bool is_tuple) {
  int depth = 1;
  for (const Value& item : items) {
    if (IsNamespace(item)) return NotSupported("a namespace in a list");
    depth = DepthOver(depth, item);
  }
  RAM_RETURN_IF_ERROR(CheckContainer(items.size(), depth));
  Value value;
  value.data_ = std::make_shared<const List>(List{std::move(items), is_tuple, depth});
  return value;
}

Result<Value> Value::OfDict(std::vector<std::pair<std::string, Value>> entries) {
  auto dict = std::make_shared<Dict>();
  for (auto& [key, item] : entries) {
    if (IsNamespace(item)) return NotSupported("a namespace in a dictionary");
    dict->Set(key, std::move(item));
  }
  RAM_RETURN_IF_ERROR(CheckContainer(dict->entries.size(), dict->depth));
  Value value;
  value.data_ = std::move(dict);
  return value;
}

Value Value::OfNamespace(Dict dict) {
  dict.is_namespace = true;
  Value value;
  value.data_ = std::make_shared<Dict>(std::move(dict));
  return value;
}

// The parser of JSON limits the depth.
Value Value::OfJson(const OrderedJson& json) {
  switch (json.type()) {
    case OrderedJson::value_t::boolean:
      return json.get<bool>();
    case OrderedJson::value_t::number_unsigned:
      if (json.get<uint64_t>() > INT64_MAX) return json.get<double>();
      return json.get<int64_t>();
    case OrderedJson::value_t::number_integer:
      return json.get<int64_t>();
    case OrderedJson::value_t::number_float:
      return json.get<double>();
    case OrderedJson::value_t::string:
      return json.get_ref<const std::string&>();
    case OrderedJson::value_t::array: {
      auto list = std::make_shared<List>();
      for (const OrderedJson& item : json) {
        list->items.push_back(OfJson(item));
        list->depth = DepthOver(list->depth, list->items.back());
      }
      Value value;
      value.data_ = std::shared_ptr<const List>(std::move(list));
      return value;
    }
    case OrderedJson::value_t::object: {
      auto dict = std::make_shared<Dict>();
      for (const auto& [key, item] : json.items()) {
        dict->entries.push_back({key, OfJson(item)});
        dict->depth = DepthOver(dict->depth, dict->entries.back().second);
      }
      Value value;
      value.data_ = std::move(dict);
      return value;
    }
    default:
      return nullptr;
  }
}

int64_t Value::AsInt() const {
  if (is_bool()) return boolean() ? 1 : 0;
  return is_int() ? std::get<int64_t>(data_) : static_cast<int64_t>(std::get<double>(data_));
}

double Value::AsDouble() const {
  return is_float() ? std::get<double>(data_) : static_cast<double>(AsInt());
}

bool Value::IsTrue() const {
  if (is_undefined() || is_none()) return false;
  if (is_number()) return AsDouble() != 0;
  if (is_text()) return !text().empty();
  if (is_list()) return !list().empty();
  if (is_dict()) return dict().is_namespace || !dict().entries.empty();
  return true;
}

const char* Value::TypeName() const {
  constexpr std::array<const char*, 9> kNames = {"None", "Undefined", "bool", "int",     "float",
                                                 "str",  "list",      "dict", "function"};
  return kNames[data_.index()];
}

int Value::depth() const {
  if (is_list()) return std::get<std::shared_ptr<const List>>(data_)->depth;
  return is_dict() ? dict().depth : 0;
}

Result<std::string> ToText(const Value& value) {
  if (value.is_text()) return value.text();
  if (value.is_undefined()) return std::string();
  return ToRepr(value);
}

Result<std::string> ToRepr(const Value& value) {
  const JsonStyle unused;
  Writer writer(/*is_json=*/false, unused);
  RAM_RETURN_IF_ERROR(writer.Write(value, 0));
  return writer.Take();
}

Result<std::string> ToJson(const Value& value, const JsonStyle& style) {
  Writer writer(/*is_json=*/true, style);
  RAM_RETURN_IF_ERROR(writer.Write(value, 0));
  return writer.Take();
}

bool AreEqual(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    return a.is_float() || b.is_float() ? a.AsDouble() == b.AsDouble() : a.AsInt() == b.AsInt();
  }
  if (a.is_text() && b.is_text()) return a.text() == b.text();
  if (a.is_none() || a.is_undefined()) {
    return a.is_none() == b.is_none() && a.is_undefined() == b.is_undefined();
  }
  if (a.is_list() && b.is_list()) {
    return a.is_tuple() == b.is_tuple() &&
           std::equal(a.list().begin(), a.list().end(), b.list().begin(), b.list().end(), AreEqual);
  }
  if (a.is_dict() && b.is_dict()) {
    if (&a.dict() == &b.dict()) return true;
    if (a.dict().is_namespace || b.dict().is_namespace) return false;
    const auto& entries = a.dict().entries;
    return entries.size() == b.dict().entries.size() &&
           std::all_of(entries.begin(), entries.end(), [&](const auto& entry) {
             const Value* other = b.dict().Find(entry.first);
             return other != nullptr && AreEqual(entry.second, *other);
           });
  }
  return false;
}

Result<bool> IsLess(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    return a.is_float() || b.is_float() ? a.AsDouble() < b.AsDouble() : a.AsInt() < b.AsInt();
  }
  if (a.is_text() && b.is_text()) return a.text() < b.text();  // UTF-8 sorts as code points do.
  if (a.is_list() && b.is_list()) {
    const size_t size = std::min(a.list().size(), b.list().size());
    for (size_t i = 0; i < size; ++i) {
      if (!AreEqual(a.list()[i], b.list()[i])) return IsLess(a.list()[i], b.list()[i]);
    }
    return a.list().size() < b.list().size();
  }
  return Mistake(fmt::format("{} and {} have no order", a.TypeName(), b.TypeName()));
}

std::vector<std::string_view> Characters(std::string_view text) {
  std::vector<std::string_view> characters;
  for (size_t at = 0; at < text.size();) {
    const size_t num_bytes = CharacterAt(text, at).num_bytes;
    characters.push_back(text.substr(at, num_bytes));
    at += num_bytes;
  }
  return characters;
}

}  // namespace ram::jinja
