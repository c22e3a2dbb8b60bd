#pragma once

// What somebody may have meant who wrote a pattern that matches nothing.

#include <string>
#include <string_view>
#include <vector>

namespace ram {

// Runs of path components in `names` that are closest to `pattern`, by edit distance: at most
// `max_count`, closest first, none that is mostly different. Layer numbers count as equal.
std::vector<std::string> NearNames(std::string_view pattern, const std::vector<std::string>& names,
                                   size_t max_count);

}  // namespace ram
