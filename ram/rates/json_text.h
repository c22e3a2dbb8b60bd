#pragma once

// Pieces of JSON text, for the files that are written line by line: rate tables and plans. The same
// value gives the same characters everywhere.

#include <string>
#include <string_view>

namespace ram {

// The shortest decimal that every reader turns into the same double again. `value` is finite.
std::string JsonNumberText(double value);

// Quoted and escaped. Bytes that are no UTF-8 become U+FFFD.
std::string JsonStringText(std::string_view text);

}  // namespace ram
