#include "ram/plan/near_names.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <span>
#include <utility>

namespace ram {
namespace {

constexpr size_t kSlack = 2;

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

// The path with "0" for every number.
std::string Shape(std::span<const std::string_view> components) {
  std::string shape;
  for (const std::string_view component : components) {
    if (!shape.empty()) shape += '.';
    shape += IsNumber(component) ? std::string_view("0") : component;
  }
  return shape;
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
  const auto pattern_components = SplitPath(pattern);
  const size_t length = pattern_components.size();
  const std::string wanted = Shape(pattern_components);
  std::map<std::string, std::string> runs;  // Shape -> first such run.
  for (const std::string& name : names) {
    const auto components = SplitPath(name);
    for (size_t begin = 0; begin + length <= components.size(); ++begin) {
      const std::span run(components.data() + begin, length);
      const size_t last = begin + length - 1;
      const auto* end = components[last].data() + components[last].size();
      runs.try_emplace(Shape(run), components[begin].data(), end);
    }
  }
  std::vector<std::pair<size_t, std::string>> nearest;
  for (const auto& [shape, run] : runs) {
    const size_t distance = EditDistance(wanted, shape);
    if (2 * distance <= wanted.size()) nearest.emplace_back(distance, run);
  }
  std::ranges::sort(nearest);
  // A few letters further than the best is noise.
  while (!nearest.empty() &&
         (nearest.size() > max_count || nearest.back().first > nearest.front().first + kSlack)) {
    nearest.pop_back();
  }
  std::vector<std::string> found;
  for (auto& [distance, run] : nearest) found.push_back(std::move(run));
  return found;
}

}  // namespace ram
