#pragma once

// Strings that come from files of unknown origin, on their way into messages and into JSON.

#include <string>
#include <string_view>
#include <vector>

namespace ram {

// As it may appear in a message: control characters and bytes that are not UTF-8 as \xNN, at most
// some 160 bytes, then "...". A name that a model would really have comes back unchanged.
std::string Shown(std::string_view text);

// "a, b, c and 17 more": the first eight of `names`, each Shown().
std::string ShownList(const std::vector<std::string>& names);

// `text` as a JSON string with its quotes. Escapes only what must be (", \, control characters), so
// that the result does not depend on a library's taste. `text` must be UTF-8.
std::string JsonString(std::string_view text);

}  // namespace ram
