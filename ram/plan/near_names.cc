#include "ram/plan/near_names.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>

namespace ram {
namespace {

bool IsNumber(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == text.npos;
}

std::vector<std::string_view> SplitPath(std::string_view path) {
  std::vector<std::string_view> components;
  size_t begin = 0;
  for (size_t dot = path.find('.'); dot != path.npos; dot = path.find('.', begin)) {
    components.push_back(path.substr(begin, dot - begin));
    begin = dot + 1;
  }
  components.push_back(path.substr(begin));
  return components;
}

// Insertions, deletions and replacements that turn `a` into `b`.
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row[b.size()];
}

}  // namespace

std::vector<std::string> NearNames(std::string_view pattern, const std::vector<std::string>& names,
                                   size_t max_count) {
  const size_t length = SplitPath(pattern).size();
  std::map<std::string, std::string> runs;  // With "0" for every number -> first such run.
  for (const std::string& name : names) {
    const auto components = SplitPath(name);
    for (size_t begin = 0; begin + length <= components.size(); ++begin) {
      std::string run;
      std::string shape;
      for (size_t i = begin; i < begin + length; ++i) {
        if (i != begin) run += '.', shape += '.';
        run += components[i];
        shape += IsNumber(components[i]) ? std::string_view("0") : components[i];
      }
      runs.try_emplace(std::move(shape), std::move(run));
    }
  }
  std::vector<std::pair<size_t, std::string>> nearest;
  for (const auto& [shape, run] : runs) {
    const size_t distance = EditDistance(pattern, run);
    if (2 * distance <= pattern.size()) nearest.emplace_back(distance, run);
  }
  std::ranges::sort(nearest);
  if (nearest.size() > max_count) nearest.resize(max_count);
  std::vector<std::string> found;
  for (auto& [distance, run] : nearest) found.push_back(std::move(run));
  return found;
}

}  // namespace ram
