#pragma once

// Python's methods of str, as far as chat templates use them.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "ram/base/result.h"
#include "ram/text/jinja_value.h"

namespace ram::jinja {

bool IsTextMethod(std::string_view name);
// Only if IsTextMethod(name).
Result<Value> CallTextMethod(const std::string& text, const std::string& name,
                             const Arguments& arguments);

// Code points.
size_t NumCharacters(std::string_view text);
std::string Lower(std::string_view text);
// str.isupper() or str.islower().
bool IsCased(std::string_view text, bool upper);
// float(text).
std::optional<double> ParseNumber(std::string_view text);
// The filter: indent(width=4, first=False, blank=False).
Result<Value> Indent(const std::string& text, const Arguments& arguments);
// The filter title: "they're HERE" as "They're Here", where the method says "They'Re Here".
std::string TitleWords(std::string_view text);
std::string EscapeHtml(std::string_view text);

}  // namespace ram::jinja
