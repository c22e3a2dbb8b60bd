#pragma once

// Cutting text where a pattern matches: the one operation behind most pre-tokenizers.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "ram/base/json.h"
#include "ram/base/result.h"
#include "ram/text/pattern_scanner.h"

namespace ram {

// What becomes of a match.
enum class SplitBehavior : uint8_t {
  kRemoved,             // It is left out.
  kIsolated,            // It is a piece, as is what lies between matches.
  kMergedWithPrevious,  // It ends the piece before it.
  kMergedWithNext,      // It begins the piece behind it.
  kContiguous,          // Neighbouring matches are one piece.
};

// kUnsupported for another name than those of the official library ("Isolated" or "isolated").
Result<SplitBehavior> ParseSplitBehavior(std::string_view name, std::string_view where);

class Splitter {
 public:
  using OnRange = std::function<void(size_t begin, size_t end)>;
  // Calls its second argument for each match in the first, from left to right.
  using FindMatches = std::function<Status(std::string_view text, const OnRange& on_match)>;

  // `invert`: matches count as gaps and gaps as matches.
  static Result<Splitter> OfRegex(std::string_view pattern, SplitBehavior behavior, bool invert,
                                  std::string_view where);
  static Splitter OfLiteral(std::string literal, SplitBehavior behavior, bool invert);
  // Each character for which `is_match` holds is a match.
  static Splitter OfCharacters(std::function<bool(char32_t)> is_match, SplitBehavior behavior);
  // {"Regex": "..."} or {"String": "..."}, as files write patterns.
  static Result<Splitter> OfPattern(const Json& pattern, SplitBehavior behavior, bool invert,
                                    std::string_view where);

  // Calls `on_piece` for each piece that is not empty, from left to right. `text` is valid UTF-8.
  // Fails only where a regex does. Thread-safe.
  Status ForEachPiece(std::string_view text, const OnRange& on_piece) const;

  // `text` with each match replaced by `content`.
  Result<std::string> Replace(std::string_view text, std::string_view content) const;

 private:
  Splitter(FindMatches find_matches, SplitBehavior behavior, bool invert)
      : find_matches_(std::move(find_matches)), behavior_(behavior), invert_(invert) {}

  FindMatches find_matches_;
  SplitBehavior behavior_;
  bool invert_;
  PatternScanner scanner_ = nullptr;  // In place of find_matches_ where pieces are matches.
};

}  // namespace ram
