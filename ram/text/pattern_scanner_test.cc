#include "ram/text/pattern_scanner.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "ram/base/json.h"
#include "ram/text/regex.h"
#include "ram/text/splitter.h"
#include "ram/text/testing.h"
#include "ram/text/unicode.h"

namespace ram {
namespace {

using Ranges = std::vector<std::pair<size_t, size_t>>;

// What the regex engine cuts the text into.
Ranges PiecesOfRegex(const Regex& regex, std::string_view text) {
  Ranges pieces;
  size_t previous = 0;
  const Status status = regex.ForEachMatch(text, [&](size_t begin, size_t end) {
    if (previous < begin) pieces.push_back({previous, begin});
    pieces.push_back({begin, end});
    previous = end;
  });
  RAM_CHECK(status.ok());
  if (previous < text.size()) pieces.push_back({previous, text.size()});
  return pieces;
}

Ranges PiecesOfScanner(const Splitter& splitter, std::string_view text) {
  Ranges pieces;
  const Status status = splitter.ForEachPiece(text, [&](size_t begin, size_t end) {
    pieces.push_back({begin, end});
  });
  RAM_CHECK(status.ok());
  return pieces;
}

TEST(PatternScanner, CutsLikeTheRegex) {
  TortureText torture(1);
  for (const KnownPattern& known : KnownPatterns()) {
    ASSERT_NE(FindPatternScanner(known.regex), nullptr);
    const Result<Regex> regex = Regex::Compile(known.regex, "test");
    const Result<Splitter> splitter =
        Splitter::OfRegex(known.regex, SplitBehavior::kIsolated, /*invert=*/false, "test");
    ASSERT_TRUE(regex.ok() && splitter.ok());
    for (int i = 0; i < 20000; ++i) {
      const std::string text = torture.Next();
      ASSERT_EQ(PiecesOfScanner(*splitter, text), PiecesOfRegex(*regex, text))
          << known.name << ": " << Json(text).dump(-1, ' ', true);
    }
  }
}

TEST(PatternScanner, IsForExactlyItsRegex) {
  EXPECT_EQ(FindPatternScanner(R"(\p{N}{1,4})"), nullptr);
  EXPECT_EQ(FindPatternScanner(""), nullptr);
}

}  // namespace
}  // namespace ram
