#pragma once

// What chat templates find ready: filters, tests, methods of texts and dictionaries, operators.
// Errors say what is wrong; the caller adds where.

#include <string_view>

#include "ram/base/result.h"
#include "ram/text/jinja_value.h"

namespace ram::jinja {

// kUnsupported if there is no such filter or test.
Result<Value> ApplyFilter(std::string_view name, const Value& input, const Arguments& arguments);
Result<bool> ApplyTest(std::string_view name, const Value& input, const Arguments& arguments);

// object.name: a method (of a text, list or dictionary), an entry, or undefined.
Result<Value> GetField(const Value& object, const std::string& name);
// object[key]: an entry, item or character; undefined if there is none.
Result<Value> GetItem(const Value& object, const Value& key);
// object[begin:end:step]; None where left out.
Result<Value> GetSlice(const Value& object, const Value& begin, const Value& end,
                       const Value& step);

// + - * / // % ** ~
Result<Value> ApplyOperator(std::string_view name, const Value& left, const Value& right);
// `item` in `container`.
Result<bool> IsIn(const Value& item, const Value& container);
// What a loop over it sees: items, keys, characters.
Result<std::vector<Value>> ItemsOf(const Value& value);

}  // namespace ram::jinja
