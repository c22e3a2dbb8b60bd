#pragma once

// Values of chat templates, which behave as Python's: ordered dictionaries with text keys, text
// measured in code points, None, and what was never defined.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "ram/base/json.h"
#include "ram/base/result.h"

namespace ram::jinja {

inline constexpr int kMaxValueDepth = 64;
inline constexpr size_t kMaxTextBytes = size_t{32} << 20;  // Of one text, and of the output.
inline constexpr size_t kMaxItems = size_t{1} << 20;       // Of one list.

class Value;

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;

  // The argument at `index` or called `name`; null if it was not given.
  const Value* Get(size_t index, std::string_view name) const;
};

struct Undefined {
  std::string name;  // What was looked for.
};
struct List {
  std::vector<Value> items;
  bool is_tuple = false;
  int depth = 1;
};
struct Dict {
  std::vector<std::pair<std::string, Value>> entries;  // In the order of their first setting.
  bool is_namespace = false;                           // `set` may change it.
  int depth = 1;

  const Value* Find(std::string_view key) const;
  void Set(std::string_view key, Value value);
};
struct Function {
  std::string name;
  std::function<Result<Value>(const Arguments&)> call;
};

class Value {
 public:
  Value() : data_(nullptr) {}                // None.
  Value(std::nullptr_t) : data_(nullptr) {}  // NOLINT: implicit on purpose, as are
  Value(bool value) : data_(value) {}        // NOLINT: those that follow
  Value(int64_t value) : data_(value) {}     // NOLINT
  Value(double value) : data_(value) {}      // NOLINT
  Value(std::string value);                  // NOLINT
  Value(std::string_view value) : Value(std::string(value)) {}  // NOLINT
  Value(const char* value) : Value(std::string(value)) {}       // NOLINT
  Value(Undefined value) : data_(std::move(value)) {}           // NOLINT
  Value(Function function)                                      // NOLINT
      : data_(std::make_shared<const Function>(std::move(function))) {}

  // kUnsupported if that nests deeper than kMaxValueDepth or has more than kMaxItems.
  static Result<Value> OfList(std::vector<Value> items, bool is_tuple = false);
  static Result<Value> OfDict(std::vector<std::pair<std::string, Value>> entries);
  static Value OfNamespace(Dict dict);
  static Value OfJson(const OrderedJson& json);

  bool is_undefined() const { return std::holds_alternative<Undefined>(data_); }
  bool is_none() const { return std::holds_alternative<std::nullptr_t>(data_); }
  bool is_bool() const { return std::holds_alternative<bool>(data_); }
  bool is_int() const { return std::holds_alternative<int64_t>(data_); }
  bool is_float() const { return std::holds_alternative<double>(data_); }
  // Booleans are numbers too.
  bool is_number() const { return is_bool() || is_int() || is_float(); }
  bool is_text() const { return std::holds_alternative<Text>(data_); }
  bool is_list() const { return std::holds_alternative<std::shared_ptr<const List>>(data_); }
  bool is_dict() const { return std::holds_alternative<std::shared_ptr<Dict>>(data_); }
  bool is_function() const {
    return std::holds_alternative<std::shared_ptr<const Function>>(data_);
  }

  // Each only if it is one.
  const Undefined& undefined() const { return std::get<Undefined>(data_); }
  bool boolean() const { return std::get<bool>(data_); }
  const std::string& text() const { return *std::get<Text>(data_); }
  const std::vector<Value>& list() const {
    return std::get<std::shared_ptr<const List>>(data_)->items;
  }
  bool is_tuple() const { return std::get<std::shared_ptr<const List>>(data_)->is_tuple; }
  const Dict& dict() const { return *std::get<std::shared_ptr<Dict>>(data_); }
  Dict& space() const { return *std::get<std::shared_ptr<Dict>>(data_); }  // A namespace.
  const Function& function() const { return *std::get<std::shared_ptr<const Function>>(data_); }
  // Of a number.
  int64_t AsInt() const;
  double AsDouble() const;

  // Python's bool().
  bool IsTrue() const;
  // "str", "list", as Python calls the type.
  const char* TypeName() const;
  int depth() const;

 private:
  using Text = std::shared_ptr<const std::string>;

  std::variant<std::nullptr_t, Undefined, bool, int64_t, double, Text, std::shared_ptr<const List>,
               std::shared_ptr<Dict>, std::shared_ptr<const Function>>
      data_;
};

// Python's str() and repr(); at most kMaxTextBytes, else kUnsupported.
Result<std::string> ToText(const Value& value);
Result<std::string> ToRepr(const Value& value);

// Python's json.dumps. `indent` < 0: on one line.
struct JsonStyle {
  int indent = -1;
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool ascii = false;
  bool sorted = false;
};
Result<std::string> ToJson(const Value& value, const JsonStyle& style);

// Python's ==.
bool AreEqual(const Value& a, const Value& b);
// Python's <; kInvalidArgument for types that have no order.
Result<bool> IsLess(const Value& a, const Value& b);

// Characters of a text.
std::vector<std::string_view> Characters(std::string_view text);

Error Mistake(std::string message);       // kInvalidArgument.
Error NotSupported(std::string message);  // kUnsupported.

}  // namespace ram::jinja
