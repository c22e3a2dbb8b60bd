#include "ram/text/splitter.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "ram/text/regex.h"
#include "ram/text/unicode.h"

namespace ram {
namespace {

struct Range {
  size_t begin, end;
  bool is_match;
};

// Pieces of `ranges`, which follow each other without gaps.
std::vector<Range> Merge(std::vector<Range> ranges, SplitBehavior behavior) {
  std::vector<Range> merged;
  bool previous_is_match = false;
  switch (behavior) {
    case SplitBehavior::kIsolated:
      return ranges;
    case SplitBehavior::kRemoved:
      std::erase_if(ranges, [](const Range& range) { return range.is_match; });
      return ranges;
    case SplitBehavior::kMergedWithNext:
      for (size_t i = ranges.size(); i-- > 0;) {
        if (ranges[i].is_match && !previous_is_match && !merged.empty()) {
          merged.back().begin = ranges[i].begin;
        } else {
          merged.push_back(ranges[i]);
        }
        previous_is_match = ranges[i].is_match;
      }
      std::reverse(merged.begin(), merged.end());
      return merged;
    case SplitBehavior::kMergedWithPrevious:
    case SplitBehavior::kContiguous:
      for (const Range& range : ranges) {
        const bool joins = behavior == SplitBehavior::kContiguous
                               ? range.is_match == previous_is_match
                               : range.is_match && !previous_is_match;
        if (joins && !merged.empty()) {
          merged.back().end = range.end;
        } else {
          merged.push_back(range);
        }
        previous_is_match = range.is_match;
      }
      return merged;
  }
  return merged;
}

}  // namespace

Result<SplitBehavior> ParseSplitBehavior(std::string_view name, std::string_view where) {
  constexpr std::pair<std::string_view, SplitBehavior> kNames[] = {
      {"Removed", SplitBehavior::kRemoved},
      {"Isolated", SplitBehavior::kIsolated},
      {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
      {"MergedWithNext", SplitBehavior::kMergedWithNext},
      {"Contiguous", SplitBehavior::kContiguous},
  };
  for (const auto& [known, behavior] : kNames) {
    if (name == known) return behavior;
  }
  return Error{ErrorCode::kUnsupported, fmt::format("{}: split behavior \"{}\" is not supported",
                                                    where, name.substr(0, 80))};
}

Result<Splitter> Splitter::OfRegex(std::string_view pattern, SplitBehavior behavior, bool invert,
                                   std::string_view where) {
  RAM_ASSIGN_OR_RETURN(Regex regex, Regex::Compile(pattern, where));
  Splitter splitter(
      [regex = std::move(regex)](std::string_view text, const OnRange& on_match) {
        return regex.ForEachMatch(text, on_match);
      },
      behavior, invert);
  if (behavior == SplitBehavior::kIsolated) splitter.scanner_ = FindPatternScanner(pattern);
  return splitter;
}

Splitter Splitter::OfLiteral(std::string literal, SplitBehavior behavior, bool invert) {
  return Splitter(
      [literal = std::move(literal)](std::string_view text, const OnRange& on_match) -> Status {
        if (literal.empty()) return Done{};
        for (size_t at = 0; (at = text.find(literal, at)) != std::string_view::npos;) {
          on_match(at, at + literal.size());
          at += literal.size();
        }
        return Done{};
      },
      behavior, invert);
}

Splitter Splitter::OfCharacters(std::function<bool(char32_t)> is_match, SplitBehavior behavior) {
  return Splitter(
      [is_match = std::move(is_match)](std::string_view text, const OnRange& on_match) -> Status {
        for (size_t at = 0; at < text.size();) {
          const Character c = CharacterAt(text, at);
          if (is_match(c.code_point)) on_match(at, at + c.num_bytes);
          at += c.num_bytes;
        }
        return Done{};
      },
      behavior, /*invert=*/false);
}

Result<Splitter> Splitter::OfPattern(const Json& pattern, SplitBehavior behavior, bool invert,
                                     std::string_view where) {
  if (const Json* regex = Find(pattern, "Regex"); regex != nullptr && regex->is_string()) {
    return OfRegex(regex->get_ref<const std::string&>(), behavior, invert, where);
  }
  RAM_ASSIGN_OR_RETURN(std::string literal, GetString(pattern, "String", where));
  return OfLiteral(std::move(literal), behavior, invert);
}

Status Splitter::ForEachPiece(std::string_view text, const OnRange& on_piece) const {
  if (scanner_ != nullptr) {
    size_t gap = 0;  // Where what no match covers begins.
    for (size_t at = 0; at < text.size();) {
      const size_t end = scanner_(text, at);
      if (end == at) {
        at += CharacterAt(text, at).num_bytes;
        continue;
      }
      if (gap < at) on_piece(gap, at);
      on_piece(at, end);
      gap = at = end;
    }
    if (gap < text.size()) on_piece(gap, text.size());
    return Done{};
  }
  std::vector<Range> ranges;
  size_t previous = 0;
  RAM_RETURN_IF_ERROR(find_matches_(text, [&](size_t begin, size_t end) {
    if (previous != begin) ranges.push_back({previous, begin, invert_});
    ranges.push_back({begin, end, !invert_});
    previous = end;
  }));
  if (previous != text.size()) ranges.push_back({previous, text.size(), invert_});
  for (const Range& range : Merge(std::move(ranges), behavior_)) {
    if (range.begin < range.end) on_piece(range.begin, range.end);
  }
  return Done{};
}

Result<std::string> Splitter::Replace(std::string_view text, std::string_view content) const {
  std::string replaced;
  size_t previous = 0;
  RAM_RETURN_IF_ERROR(find_matches_(text, [&](size_t begin, size_t end) {
    replaced.append(text, previous, begin - previous);
    replaced += content;
    previous = end;
  }));
  replaced.append(text, previous);
  return replaced;
}

}  // namespace ram
