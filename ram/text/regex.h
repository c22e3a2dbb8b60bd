#pragma once

// Regular expressions as tokenizer files have them (Oniguruma's Ruby syntax), run by PCRE2.
//
// The two differ in places. What means the same is passed on; \s, \w and \uHHHH are rewritten to
// what Oniguruma takes them for; everything else is refused, never approximated. Classes like \p{L}
// are those of the Unicode version that the installed PCRE2 knows (10.42: Unicode 14).

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "ram/base/result.h"

namespace ram {

class Regex {
 public:
  // kUnsupported or kCorrupt names the pattern and the place in it.
  static Result<Regex> Compile(std::string_view pattern, std::string_view where);

  // Calls on_match(begin, end) for each match in `text` (valid UTF-8), from left to right, without
  // overlap; matches may be empty. kInvalidArgument if a match takes more than some ten million
  // steps. Thread-safe.
  Status ForEachMatch(std::string_view text,
                      const std::function<void(size_t, size_t)>& on_match) const;

 private:
  struct Code;

  std::shared_ptr<const Code> code_;
};

// `pattern` in PCRE2's syntax.
Result<std::string> ToPcreSyntax(std::string_view pattern, std::string_view where);

}  // namespace ram
