#include "ram/text/jinja_builtins.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "ram/text/jinja_text_methods.h"

namespace ram::jinja {
namespace {

constexpr int kMaxFilterNesting = 20;  // map("map", "map", ...)

Error UndefinedError(const Value& value) {
  return Mistake(fmt::format("{} is undefined", value.undefined().name.empty()
                                                    ? "a value"
                                                    : "'" + value.undefined().name + "'"));
}

Error WrongType(std::string_view what, const Value& value) {
  if (value.is_undefined()) return UndefinedError(value);
  return Mistake(fmt::format("{} of a value of type {}", what, value.TypeName()));
}

// ---- Lists ----

// "a.b.0": fields of fields.
Result<Value> GetPath(const Value& value, const std::string& path) {
  Value found = value;
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('.', begin), path.size());
    const std::string part = path.substr(begin, end - begin);
    const bool is_index =
        !part.empty() && part.size() < 10 &&
        std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
    RAM_ASSIGN_OR_RETURN(found,
                         GetItem(found, is_index ? Value(int64_t{std::stoi(part)}) : Value(part)));
    begin = end + 1;
  }
  return found;
}

std::string TextOr(const Value* value, std::string_view otherwise) {
  return value != nullptr && value->is_text() ? value->text() : std::string(otherwise);
}

bool FlagOf(const Value* value, bool otherwise) {
  return value == nullptr ? otherwise : value->IsTrue();
}

// The arguments behind the first `count`.
Arguments Rest(const Arguments& arguments, size_t count) {
  Arguments rest = arguments;
  rest.positional.erase(
      rest.positional.begin(),
      rest.positional.begin() + static_cast<ptrdiff_t>(std::min(count, rest.positional.size())));
  return rest;
}

Result<Value> Map(const Value& input, const Arguments& arguments) {
  RAM_ASSIGN_OR_RETURN(std::vector<Value> items, ItemsOf(input));
  const Value* attribute = arguments.Get(SIZE_MAX, "attribute");
  const Value* filter = arguments.Get(0, "");
  if (attribute == nullptr && (filter == nullptr || !filter->is_text())) {
    return Mistake("map without attribute or filter");
  }
  const Value* otherwise = arguments.Get(SIZE_MAX, "default");
  for (Value& item : items) {
    if (attribute != nullptr) {
      RAM_ASSIGN_OR_RETURN(item, GetPath(item, TextOr(attribute, "")));
      if (item.is_undefined() && otherwise != nullptr) item = *otherwise;
    } else {
      RAM_ASSIGN_OR_RETURN(item, ApplyFilter(filter->text(), item, Rest(arguments, 1)));
    }
  }
  return Value::OfList(std::move(items));
}

// select, reject, selectattr, rejectattr.
Result<Value> Select(const Value& input, const Arguments& arguments, bool wanted,
                     bool by_attribute) {
  RAM_ASSIGN_OR_RETURN(std::vector<Value> items, ItemsOf(input));
  const Value* attribute = by_attribute ? arguments.Get(0, "") : nullptr;
  if (by_attribute && (attribute == nullptr || !attribute->is_text())) {
    return Mistake("selectattr without the name of an attribute");
  }
  const size_t num_names = by_attribute ? 1 : 0;
  const Value* test = arguments.Get(num_names, "");
  std::vector<Value> selected;
  for (Value& item : items) {
    Value value = item;
    if (attribute != nullptr) {
      RAM_ASSIGN_OR_RETURN(value, GetPath(item, attribute->text()));
    }
    bool holds = value.IsTrue();
    if (test != nullptr) {
      RAM_ASSIGN_OR_RETURN(holds,
                           ApplyTest(TextOr(test, ""), value, Rest(arguments, num_names + 1)));
    }
    if (holds == wanted) selected.push_back(std::move(item));
  }
  return Value::OfList(std::move(selected));
}

Result<Value> Join(const Value& input, const Arguments& arguments) {
  RAM_ASSIGN_OR_RETURN(const std::vector<Value> items, ItemsOf(input));
  Value separator("");
  if (const Value* given = arguments.Get(0, "d"); given != nullptr) separator = *given;
  RAM_ASSIGN_OR_RETURN(const std::string between, ToText(separator));
  const Value* attribute = arguments.Get(1, "attribute");
  std::string text;
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) text += between;
    Value item = items[i];
    if (attribute != nullptr && attribute->is_text()) {
      RAM_ASSIGN_OR_RETURN(item, GetPath(item, attribute->text()));
    }
    RAM_ASSIGN_OR_RETURN(const std::string part, ToText(item));
    text += part;
    if (text.size() > kMaxTextBytes) return NotSupported("a text of more than 32 MiB");
  }
  return Value(std::move(text));
}

// What a sort compares: an attribute, without case.
Result<Value> SortKey(const Value& item, const Value* attribute, bool with_case) {
  Value key = item;
  if (attribute != nullptr && attribute->is_text()) {
    RAM_ASSIGN_OR_RETURN(key, GetPath(item, attribute->text()));
  }
  return key.is_text() && !with_case ? Value(Lower(key.text())) : key;
}

Result<Value> Sort(std::vector<Value> items, const Value* attribute, bool reverse, bool with_case) {
  std::vector<std::pair<Value, size_t>> keys;
  for (size_t i = 0; i < items.size(); ++i) {
    RAM_ASSIGN_OR_RETURN(Value key, SortKey(items[i], attribute, with_case));
    keys.push_back({std::move(key), i});
  }
  // Where two have no order, the sort must not go on asking.
  std::optional<Error> error;
  for (size_t i = 1; i < keys.size(); ++i) {
    const Result<bool> less = IsLess(keys[0].first, keys[i].first);
    if (!less) return less.error();
  }
  std::stable_sort(keys.begin(), keys.end(), [&](const auto& a, const auto& b) {
    const Result<bool> less = reverse ? IsLess(b.first, a.first) : IsLess(a.first, b.first);
    if (!less) error = less.error();
    return less && *less;
  });
  if (error) return *error;
  std::vector<Value> sorted;
  for (const auto& [key, index] : keys) sorted.push_back(items[index]);
  return Value::OfList(std::move(sorted));
}

Result<Value> Unique(const Value& input, const Arguments& arguments) {
  RAM_ASSIGN_OR_RETURN(const std::vector<Value> items, ItemsOf(input));
  if (items.size() > 2000) return NotSupported("unique of more than 2000 items");
  const Value* attribute = arguments.Get(1, "attribute");
  const bool with_case = FlagOf(arguments.Get(0, "case_sensitive"), false);
  std::vector<Value> keys, unique;
  for (const Value& item : items) {
    RAM_ASSIGN_OR_RETURN(Value key, SortKey(item, attribute, with_case));
    const bool is_new = std::none_of(keys.begin(), keys.end(),
                                     [&](const Value& other) { return AreEqual(key, other); });
    if (!is_new) continue;
    keys.push_back(std::move(key));
    unique.push_back(item);
  }
  return Value::OfList(std::move(unique));
}

Result<Value> EntriesOf(const Value& input) {
  if (input.is_undefined()) return Value::OfList({});
  if (!input.is_dict()) return WrongType("items", input);
  std::vector<Value> pairs;
  for (const auto& [key, value] : input.dict().entries) {
    RAM_ASSIGN_OR_RETURN(Value pair, Value::OfList({Value(key), value}, /*is_tuple=*/true));
    pairs.push_back(std::move(pair));
  }
  return Value::OfList(std::move(pairs));
}

Result<Value> Sum(const Value& input) {
  RAM_ASSIGN_OR_RETURN(const std::vector<Value> items, ItemsOf(input));
  Value sum(int64_t{0});
  for (const Value& item : items) {
    RAM_ASSIGN_OR_RETURN(sum, ApplyOperator("+", sum, item));
  }
  return sum;
}

Result<Value> Extreme(const Value& input, bool largest) {
  RAM_ASSIGN_OR_RETURN(const std::vector<Value> items, ItemsOf(input));
  if (items.empty()) return Value(Undefined{"an item of nothing"});
  Value best = items[0];
  for (const Value& item : items) {
    RAM_ASSIGN_OR_RETURN(const bool is_better, largest ? IsLess(best, item) : IsLess(item, best));
    if (is_better) best = item;
  }
  return best;
}

// ---- Numbers and texts ----

Result<Value> Json(const Value& input, const Arguments& arguments) {
  JsonStyle style;
  if (const Value* ascii = arguments.Get(0, "ensure_ascii"); ascii != nullptr) {
    style.ascii = ascii->IsTrue();
  }
  const Value* indent = arguments.Get(1, "indent");
  if (indent != nullptr && indent->is_int()) {
    style.indent = static_cast<int>(std::clamp<int64_t>(indent->AsInt(), 0, 100));
  }
  const Value* separators = arguments.Get(2, "separators");
  if (separators != nullptr && separators->is_list() && separators->list().size() == 2) {
    style.item_separator = TextOr(&separators->list()[0], ", ");
    style.key_separator = TextOr(&separators->list()[1], ": ");
  }
  style.sorted = FlagOf(arguments.Get(3, "sort_keys"), false);
  RAM_ASSIGN_OR_RETURN(std::string text, ToJson(input, style));
  return Value(std::move(text));
}

Result<Value> ToInteger(const Value& input, const Arguments& arguments) {
  const Value* otherwise = arguments.Get(0, "default");
  if (input.is_float()) {
    if (!(std::abs(input.AsDouble()) < 9e18)) return Mistake("a number that is too large");
    return Value(static_cast<int64_t>(input.AsDouble()));
  }
  if (input.is_number()) return Value(input.AsInt());
  if (input.is_text()) {
    if (const std::optional<double> number = ParseNumber(input.text());
        number && std::abs(*number) < 9e18) {
      return Value(static_cast<int64_t>(*number));
    }
  }
  return otherwise == nullptr ? Value(int64_t{0}) : *otherwise;
}

Result<Value> ToFloat(const Value& input, const Arguments& arguments) {
  const Value* otherwise = arguments.Get(0, "default");
  if (input.is_number()) return Value(input.AsDouble());
  if (input.is_text()) {
    if (const std::optional<double> number = ParseNumber(input.text())) return Value(*number);
  }
  return otherwise == nullptr ? Value(0.0) : *otherwise;
}

Result<Value> Round(const Value& input, const Arguments& arguments) {
  if (!input.is_number()) return WrongType("round", input);
  const Value* digits = arguments.Get(0, "precision");
  if (arguments.Get(1, "method") != nullptr) return NotSupported("round with a method");
  const double factor =
      digits != nullptr && digits->is_int()
          ? std::pow(10.0, static_cast<double>(std::clamp<int64_t>(digits->AsInt(), -20, 20)))
          : 1;
  return Value(std::nearbyint(input.AsDouble() * factor) / factor);
}

Result<Value> Length(const Value& input) {
  if (input.is_undefined()) return Value(int64_t{0});
  if (input.is_text()) return Value(static_cast<int64_t>(NumCharacters(input.text())));
  if (input.is_list()) return Value(static_cast<int64_t>(input.list().size()));
  if (input.is_dict()) return Value(static_cast<int64_t>(input.dict().entries.size()));
  return WrongType("length", input);
}

// The first or last item.
Result<Value> End(const Value& input, bool last) {
  RAM_ASSIGN_OR_RETURN(const std::vector<Value> items, ItemsOf(input));
  if (items.empty()) return Value(Undefined{"an item of nothing"});
  return last ? items.back() : items.front();
}

Result<Value> Reversed(const Value& input) {
  if (input.is_text()) return GetSlice(input, nullptr, nullptr, int64_t{-1});
  RAM_ASSIGN_OR_RETURN(std::vector<Value> items, ItemsOf(input));
  std::reverse(items.begin(), items.end());
  return Value::OfList(std::move(items));
}

Result<Value> Default(const Value& input, const Arguments& arguments) {
  const bool also_false = FlagOf(arguments.Get(1, "boolean"), false);
  if (!input.is_undefined() && (!also_false || input.IsTrue())) return input;
  const Value* otherwise = arguments.Get(0, "default_value");
  return otherwise == nullptr ? Value("") : *otherwise;
}

// Filters of texts: the input becomes text first.
std::optional<Result<Value>> TextFilter(std::string_view name, const Value& input,
                                        const Arguments& arguments) {
  constexpr std::pair<std::string_view, std::string_view> kMethods[] = {
      {"upper", "upper"}, {"lower", "lower"},     {"title", ""},  {"capitalize", "capitalize"},
      {"trim", "strip"},  {"replace", "replace"}, {"indent", ""}, {"escape", ""},
      {"e", ""},          {"forceescape", ""},    {"string", ""}, {"safe", ""},
      {"wordcount", ""}};
  const auto* method = std::find_if(std::begin(kMethods), std::end(kMethods),
                                    [&](const auto& entry) { return entry.first == name; });
  if (method == std::end(kMethods)) return std::nullopt;
  Result<std::string> text = ToText(input);
  if (!text) return Result<Value>(std::move(text).error());
  if (name == "indent") return Indent(*text, arguments);
  if (name == "title") return Result<Value>(Value(TitleWords(*text)));
  if (name == "string" || name == "safe") return Result<Value>(Value(*std::move(text)));
  if (name == "wordcount") return Result<Value>(NotSupported("the filter wordcount"));
  if (method->second.empty()) return Result<Value>(Value(EscapeHtml(*text)));
  return CallTextMethod(*text, std::string(method->second), arguments);
}

thread_local int g_filter_nesting = 0;

struct FilterNesting {
  FilterNesting() { ++g_filter_nesting; }
  ~FilterNesting() { --g_filter_nesting; }
  FilterNesting(const FilterNesting&) = delete;
  FilterNesting& operator=(const FilterNesting&) = delete;
};

}  // namespace

Result<Value> ApplyFilter(std::string_view name, const Value& input, const Arguments& arguments) {
  const FilterNesting nesting;
  if (g_filter_nesting > kMaxFilterNesting) return NotSupported("filters in filters in filters");
  if (std::optional<Result<Value>> result = TextFilter(name, input, arguments)) {
    return *std::move(result);
  }
  const auto reverse = [&](size_t i) { return FlagOf(arguments.Get(i, "reverse"), false); };
  if (name == "tojson") return Json(input, arguments);
  if (name == "length" || name == "count") return Length(input);
  if (name == "default" || name == "d") return Default(input, arguments);
  if (name == "join") return Join(input, arguments);
  if (name == "map") return Map(input, arguments);
  if (name == "select") return Select(input, arguments, true, false);
  if (name == "reject") return Select(input, arguments, false, false);
  if (name == "selectattr") return Select(input, arguments, true, true);
  if (name == "rejectattr") return Select(input, arguments, false, true);
  if (name == "first") return End(input, /*last=*/false);
  if (name == "last") return End(input, /*last=*/true);
  if (name == "items") return EntriesOf(input);
  if (name == "int") return ToInteger(input, arguments);
  if (name == "float") return ToFloat(input, arguments);
  if (name == "round") return Round(input, arguments);
  if (name == "reverse") return Reversed(input);
  if (name == "unique") return Unique(input, arguments);
  if (name == "sum") return Sum(input);
  if (name == "min") return Extreme(input, /*largest=*/false);
  if (name == "max") return Extreme(input, /*largest=*/true);
  if (name == "list") {
    RAM_ASSIGN_OR_RETURN(std::vector<Value> items, ItemsOf(input));
    return Value::OfList(std::move(items));
  }
  if (name == "sort") {
    RAM_ASSIGN_OR_RETURN(std::vector<Value> items, ItemsOf(input));
    return Sort(std::move(items), arguments.Get(2, "attribute"), reverse(0),
                FlagOf(arguments.Get(1, "case_sensitive"), false));
  }
  if (name == "dictsort") {
    if (!input.is_dict()) return WrongType("dictsort", input);
    if (arguments.Get(1, "by") != nullptr) return NotSupported("dictsort by values");
    RAM_ASSIGN_OR_RETURN(const Value pairs, EntriesOf(input));
    const Value by_key("0");
    return Sort(pairs.list(), &by_key, reverse(2),
                FlagOf(arguments.Get(0, "case_sensitive"), false));
  }
  if (name == "abs") {
    if (!input.is_number()) return WrongType("abs", input);
    if (input.is_float()) return Value(std::abs(input.AsDouble()));
    return input.AsInt() < 0 ? ApplyOperator("-", int64_t{0}, input) : Value(input.AsInt());
  }
  return NotSupported(fmt::format("the filter {} is not supported", name.substr(0, 60)));
}

Result<bool> ApplyTest(std::string_view name, const Value& input, const Arguments& arguments) {
  if (name == "defined") return !input.is_undefined();
  if (name == "undefined") return input.is_undefined();
  if (name == "none") return input.is_none();
  if (name == "string") return input.is_text();
  if (name == "mapping") return input.is_dict() && !input.dict().is_namespace;
  if (name == "sequence") {
    return input.is_text() || input.is_list() || input.is_undefined() ||
           (input.is_dict() && !input.dict().is_namespace);
  }
  if (name == "iterable") {
    return input.is_text() || input.is_list() || input.is_undefined() ||
           (input.is_dict() && !input.dict().is_namespace);
  }
  if (name == "number") return input.is_number();
  if (name == "integer") return input.is_int();
  if (name == "float") return input.is_float();
  if (name == "boolean") return input.is_bool();
  if (name == "true") return input.is_bool() && input.boolean();
  if (name == "false") return input.is_bool() && !input.boolean();
  if (name == "callable") return input.is_function();
  if (name == "odd" || name == "even") {
    if (!input.is_number()) return WrongType(name, input);
    RAM_ASSIGN_OR_RETURN(const Value rest, ApplyOperator("%", input, int64_t{2}));
    return AreEqual(rest, int64_t{name == "odd" ? 1 : 0});
  }
  if (name == "lower" || name == "upper") {
    RAM_ASSIGN_OR_RETURN(const std::string text, ToText(input));
    return IsCased(text, name == "upper");
  }
  const Value* other = arguments.Get(0, "");
  constexpr std::string_view kComparing[] = {
      "eq", "equalto", "==",          "ne", "!=", "lt", "lessthan", "<",           "le",
      "<=", "gt",      "greaterthan", ">",  "ge", ">=", "in",       "divisibleby", "sameas"};
  if (std::find(std::begin(kComparing), std::end(kComparing), name) == std::end(kComparing)) {
    return NotSupported(fmt::format("the test {} is not supported", name.substr(0, 60)));
  }
  if (other == nullptr) return Mistake(fmt::format("the test {} needs an argument", name));
  if (name == "eq" || name == "equalto" || name == "==") return AreEqual(input, *other);
  if (name == "sameas") {
    return input.TypeName() == other->TypeName() && AreEqual(input, *other);
  }
  if (name == "ne" || name == "!=") return !AreEqual(input, *other);
  if (name == "in") return IsIn(input, *other);
  if (name == "lt" || name == "lessthan" || name == "<") return IsLess(input, *other);
  if (name == "gt" || name == "greaterthan" || name == ">") return IsLess(*other, input);
  if (name == "divisibleby") {
    RAM_ASSIGN_OR_RETURN(const Value rest, ApplyOperator("%", input, *other));
    return !rest.IsTrue();
  }
  RAM_ASSIGN_OR_RETURN(const bool is_beyond, name == "le" || name == "<=" ? IsLess(*other, input)
                                                                          : IsLess(input, *other));
  return !is_beyond;
}

namespace {

// Methods of dictionaries; nullopt if there is none of this name.
std::optional<Value> DictMethod(const Value& object, const std::string& name) {
  if (name != "get" && name != "items" && name != "keys" && name != "values" && name != "copy") {
    return std::nullopt;
  }
  return Value(Function{name, [object, name](const Arguments& arguments) -> Result<Value> {
                          const Dict& dict = object.dict();
                          if (name == "items") return EntriesOf(object);
                          if (name == "copy") return object;
                          if (name == "get") {
                            const Value* key = arguments.Get(0, "key");
                            const Value* otherwise = arguments.Get(1, "default");
                            const Value* found =
                                key != nullptr && key->is_text() ? dict.Find(key->text()) : nullptr;
                            if (found != nullptr) return *found;
                            return otherwise == nullptr ? Value() : *otherwise;
                          }
                          std::vector<Value> values;
                          for (const auto& [key, value] : dict.entries) {
                            values.push_back(name == "keys" ? Value(key) : value);
                          }
                          return Value::OfList(std::move(values));
                        }});
}

std::optional<Value> ListMethod(const Value& object, const std::string& name) {
  if (name != "index" && name != "count") return std::nullopt;
  return Value(Function{name, [object, name](const Arguments& arguments) -> Result<Value> {
                          const Value* wanted = arguments.Get(0, "");
                          if (wanted == nullptr) return Mistake(name + " needs an argument");
                          int64_t count = 0;
                          for (size_t i = 0; i < object.list().size(); ++i) {
                            if (!AreEqual(object.list()[i], *wanted)) continue;
                            if (name == "index") return Value(static_cast<int64_t>(i));
                            ++count;
                          }
                          if (name == "index") return Mistake("index: it is not in the list");
                          return Value(count);
                        }});
}

}  // namespace

Result<Value> GetField(const Value& object, const std::string& name) {
  if (object.is_undefined()) return UndefinedError(object);
  if (object.is_dict()) {
    if (!object.dict().is_namespace) {
      if (std::optional<Value> method = DictMethod(object, name)) return *method;
    }
    const Value* found = object.dict().Find(name);
    return found == nullptr ? Value(Undefined{name}) : *found;
  }
  if (object.is_list()) {
    if (std::optional<Value> method = ListMethod(object, name)) return *method;
  }
  if (object.is_text() && IsTextMethod(name)) {
    return Value(Function{name, [object, name](const Arguments& arguments) {
                            return CallTextMethod(object.text(), name, arguments);
                          }});
  }
  return Value(Undefined{name});
}

Result<Value> GetItem(const Value& object, const Value& key) {
  if (object.is_undefined()) return UndefinedError(object);
  if (object.is_dict() && key.is_text()) {
    if (object.dict().is_namespace) return NotSupported("[...] of a namespace");
    const Value* found = object.dict().Find(key.text());
    return found == nullptr ? Value(Undefined{key.text()}) : *found;
  }
  if ((object.is_list() || object.is_text()) && (key.is_int() || key.is_bool())) {
    RAM_ASSIGN_OR_RETURN(const Value length, Length(object));
    int64_t index = key.AsInt();
    if (index < 0) index += length.AsInt();
    if (index < 0 || index >= length.AsInt()) {
      return Value(Undefined{fmt::format("item {}", key.AsInt())});
    }
    if (object.is_list()) return object.list()[static_cast<size_t>(index)];
    return Value(Characters(object.text())[static_cast<size_t>(index)]);
  }
  if (key.is_text() && !object.is_dict()) return GetField(object, key.text());
  RAM_ASSIGN_OR_RETURN(const std::string shown, ToRepr(key));
  return Value(Undefined{"item " + shown.substr(0, 60)});
}

Result<Value> GetSlice(const Value& object, const Value& begin, const Value& end,
                       const Value& step) {
  if (!object.is_list() && !object.is_text()) return WrongType("slice", object);
  for (const Value* bound : {&begin, &end, &step}) {
    if (!bound->is_none() && !bound->is_int()) return WrongType("slice by a bound", *bound);
  }
  const std::vector<std::string_view> characters =
      object.is_text() ? Characters(object.text()) : std::vector<std::string_view>();
  const auto size =
      static_cast<int64_t>(object.is_text() ? characters.size() : object.list().size());
  const int64_t stride = step.is_none() ? 1 : step.AsInt();
  if (stride == 0) return Mistake("a slice with step 0");
  const int64_t lowest = stride > 0 ? 0 : -1, highest = stride > 0 ? size : size - 1;
  const auto bound = [&](const Value& value, int64_t otherwise) {
    if (value.is_none()) return otherwise;
    const int64_t place =
        value.AsInt() < 0 ? std::max(value.AsInt(), -size - 1) + size : value.AsInt();
    return std::clamp(place, lowest, highest);
  };
  const int64_t first = bound(begin, stride > 0 ? 0 : size - 1);
  const int64_t last = bound(end, stride > 0 ? size : -1);
  const int64_t step_size = std::clamp<int64_t>(stride, -size - 1, size + 1);
  std::string text;
  std::vector<Value> items;
  for (int64_t i = first; stride > 0 ? i < last : i > last; i += step_size) {
    const auto index = static_cast<size_t>(i);
    if (object.is_text()) {
      text += characters[index];
    } else {
      items.push_back(object.list()[index]);
    }
  }
  if (object.is_text()) return Value(std::move(text));
  return Value::OfList(std::move(items), object.is_tuple());
}

Result<bool> IsIn(const Value& item, const Value& container) {
  if (container.is_undefined()) return false;
  if (container.is_text()) {
    if (!item.is_text()) return WrongType("in a text", item);
    return container.text().find(item.text()) != std::string::npos;
  }
  if (container.is_list()) {
    return std::any_of(container.list().begin(), container.list().end(),
                       [&](const Value& other) { return AreEqual(item, other); });
  }
  if (container.is_dict() && !container.dict().is_namespace) {
    return item.is_text() && container.dict().Find(item.text()) != nullptr;
  }
  return WrongType("in", container);
}

Result<std::vector<Value>> ItemsOf(const Value& value) {
  if (value.is_undefined()) return std::vector<Value>();
  if (value.is_list()) return value.list();
  std::vector<Value> items;
  if (value.is_text()) {
    for (const std::string_view character : Characters(value.text())) items.push_back(character);
    if (items.size() > kMaxItems) return NotSupported("a loop over more than a million characters");
    return items;
  }
  if (value.is_dict() && !value.dict().is_namespace) {
    for (const auto& [key, unused] : value.dict().entries) items.push_back(Value(key));
    return items;
  }
  return WrongType("a loop over the items", value);
}

namespace {

Result<Value> Arithmetic(std::string_view name, const Value& left, const Value& right) {
  if (name == "/") {
    if (right.AsDouble() == 0) return Mistake("division by zero");
    return Value(left.AsDouble() / right.AsDouble());
  }
  if (left.is_float() || right.is_float() || name == "**") {
    const double a = left.AsDouble(), b = right.AsDouble();
    if (name == "+") return Value(a + b);
    if (name == "-") return Value(a - b);
    if (name == "*") return Value(a * b);
    if (name == "**") {
      const double power = std::pow(a, b);
      const bool is_whole = !left.is_float() && !right.is_float() && b >= 0;
      if (!is_whole) return Value(power);
      if (std::abs(power) > 9e15) return NotSupported("a power beyond 9e15");
      return Value(static_cast<int64_t>(power));
    }
    if (b == 0) return Mistake("division by zero");
    const double quotient = std::floor(a / b);
    return Value(name == "//" ? quotient : a - quotient * b);
  }
  const int64_t a = left.AsInt(), b = right.AsInt();
  int64_t result = 0;
  bool overflows = false;
  if (name == "+") {
    overflows = __builtin_add_overflow(a, b, &result);
  } else if (name == "-") {
    overflows = __builtin_sub_overflow(a, b, &result);
  } else if (name == "*") {
    overflows = __builtin_mul_overflow(a, b, &result);
  } else {
    if (b == 0) return Mistake("division by zero");
    overflows = a == INT64_MIN && b == -1;
    if (!overflows) {
      const bool rounds = a % b != 0 && (a < 0) != (b < 0);  // Python rounds down.
      result = name == "//" ? a / b - (rounds ? 1 : 0) : a % b + (rounds ? b : 0);
    }
  }
  if (overflows) return NotSupported("a number of more than 64 bits");
  return Value(result);
}

// text * count, list * count.
Result<Value> Repeat(const Value& value, int64_t count) {
  const auto times = static_cast<size_t>(std::max<int64_t>(count, 0));
  const size_t size = value.is_text() ? value.text().size() : value.list().size();
  const size_t limit = value.is_text() ? kMaxTextBytes : kMaxItems;
  if (size > 0 && times > limit / size) return NotSupported("a repetition that is too long");
  std::string text;
  std::vector<Value> items;
  for (size_t i = 0; size > 0 && i < times; ++i) {
    if (value.is_text()) {
      text += value.text();
    } else {
      items.insert(items.end(), value.list().begin(), value.list().end());
    }
  }
  if (value.is_text()) return Value(std::move(text));
  return Value::OfList(std::move(items), value.is_tuple());
}

}  // namespace

Result<Value> ApplyOperator(std::string_view name, const Value& left, const Value& right) {
  if (name == "~") {
    RAM_ASSIGN_OR_RETURN(std::string text, ToText(left));
    RAM_ASSIGN_OR_RETURN(const std::string more, ToText(right));
    if (text.size() + more.size() > kMaxTextBytes) {
      return NotSupported("a text of more than 32 MiB");
    }
    return Value(text + more);
  }
  for (const Value* side : {&left, &right}) {
    if (side->is_undefined()) return UndefinedError(*side);
  }
  if (left.is_number() && right.is_number()) return Arithmetic(name, left, right);
  if (name == "+" && left.is_text() && right.is_text()) {
    if (left.text().size() + right.text().size() > kMaxTextBytes) {
      return NotSupported("a text of more than 32 MiB");
    }
    return Value(left.text() + right.text());
  }
  if (name == "+" && left.is_list() && right.is_list() && left.is_tuple() == right.is_tuple()) {
    std::vector<Value> items = left.list();
    items.insert(items.end(), right.list().begin(), right.list().end());
    return Value::OfList(std::move(items), left.is_tuple());
  }
  if (name == "*" && (left.is_text() || left.is_list()) && right.is_int()) {
    return Repeat(left, right.AsInt());
  }
  if (name == "*" && (right.is_text() || right.is_list()) && left.is_int()) {
    return Repeat(right, left.AsInt());
  }
  if (name == "%" && left.is_text()) return NotSupported("% on a text");
  return Mistake(fmt::format("{} between {} and {}", name, left.TypeName(), right.TypeName()));
}

}  // namespace ram::jinja
