#include "ram/eval/wikitext.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "ram/text/unicode.h"

namespace ram {
namespace {

// What Python's str.isspace() and \s accept: White_Space and the four separators of ASCII.
bool IsPythonSpace(char32_t c) { return IsWhiteSpace(c) || (c >= 0x1C && c <= 0x1F); }

// Past the white space that begins at `at`.
size_t SkipSpace(std::string_view text, size_t at) {
  while (at < text.size()) {
    const Character c = CharacterAt(text, at);
    if (!IsPythonSpace(c.code_point)) break;
    at += c.num_bytes;
  }
  return at;
}

// str.strip()
std::string_view Strip(std::string_view text) {
  text.remove_prefix(SkipSpace(text, 0));
  while (!text.empty()) {
    const size_t last = PreviousCharacter(text, text.size());
    if (!IsPythonSpace(CharacterAt(text, last).code_point)) break;
    text = text.substr(0, last);
  }
  return text;
}

// len(re.split(r"\s+", text))
uint64_t CountWords(std::string_view text) {
  uint64_t words = 1;
  for (size_t at = 0; at < text.size();) {
    const size_t end = SkipSpace(text, at);
    words += end > at ? 1 : 0;
    at = end > at ? end : at + CharacterAt(text, at).num_bytes;
  }
  return words;
}

// str.replace()
std::string Replace(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  size_t begin = 0;
  for (size_t at = text.find(from); at != std::string_view::npos; at = text.find(from, begin)) {
    out += text.substr(begin, at - begin);
    out += to;
    begin = at + from.size();
  }
  out += text.substr(begin);
  return out;
}

// re.sub(r"OPEN\s*([^CLOSE]*?)\s*CLOSE", r"OPEN\1CLOSE", text)
std::string StripWithin(std::string_view text, char open, char close) {
  std::string out;
  size_t begin = 0;
  while (true) {
    const size_t first = text.find(open, begin);
    if (first == std::string_view::npos) break;
    const size_t last = text.find(close, first + 1);
    if (last == std::string_view::npos) break;  // Nor does a later one close.
    out += text.substr(begin, first + 1 - begin);
    out += Strip(text.substr(first + 1, last - first - 1));
    out += close;
    begin = last + 1;
  }
  out += text.substr(begin);
  return out;
}

// re.sub(r"/' [0-9]/", r"/'[0-9]/", text), slashes, brackets and all.
std::string ReplaceQuotedDigits(std::string_view text) {
  constexpr std::string_view kBefore = "/' ";
  std::string out;
  size_t begin = 0;
  for (size_t at = text.find(kBefore); at != std::string_view::npos; at = text.find(kBefore, at)) {
    const std::string_view rest = text.substr(at + kBefore.size());
    at += 1;
    if (rest.size() < 2 || rest[0] < '0' || rest[0] > '9' || rest[1] != '/') continue;
    out += text.substr(begin, at - 1 - begin);
    out += "/'[0-9]/";
    begin = at = at - 1 + kBefore.size() + 2;
  }
  out += text.substr(begin);
  return out;
}

// Whether a page begins here: a heading of the first level.
bool IsTitle(std::string_view line) {
  const std::string deeper = Replace(Replace(line, "= = =", "==="), "= =", "==");
  const std::string_view stripped = Strip(deeper);
  return stripped.starts_with("= ") && stripped.ends_with(" =");
}

WikitextPage MakePage(std::string_view page) {
  return {DetokenizeWikitext(page), CountWords(page), page.size()};
}

}  // namespace

std::string UnjoinRows(std::string_view text) {
  constexpr std::string_view kBetween = "\n\n";
  std::string lines;
  for (size_t at = 0;;) {
    const bool is_empty = at == text.size() || text.substr(at).starts_with(kBetween);
    size_t end = at;
    if (!is_empty) {
      const size_t newline = text.find('\n', at);
      if (newline == std::string_view::npos || text[at] != ' ') return std::string(text);
      end = newline + 1;
    }
    lines += is_empty ? " \n" : text.substr(at, end - at);
    if (end == text.size()) return lines;
    if (!text.substr(end).starts_with(kBetween)) return std::string(text);
    at = end + kBetween.size();
  }
}

std::string DetokenizeWikitext(std::string_view page) {
  std::string text = Replace(page, "s '", "s'");
  text = ReplaceQuotedDigits(text);
  for (const auto& [from, to] : {std::pair{" @-@ ", "-"},
                                 {" @,@ ", ","},
                                 {" @.@ ", "."},
                                 {" : ", ": "},
                                 {" ; ", "; "},
                                 {" . ", ". "},
                                 {" ! ", "! "},
                                 {" ? ", "? "},
                                 {" , ", ", "}}) {
    text = Replace(text, from, to);
  }
  for (const auto& [open, close] :
       {std::pair{'(', ')'}, {'[', ']'}, {'{', '}'}, {'"', '"'}, {'\'', '\''}}) {
    text = StripWithin(text, open, close);
  }
  for (const auto& [from, to] : {std::pair{"= = = =", "===="},
                                 {"= = =", "==="},
                                 {"= =", "=="},
                                 {" \u00B0 ", "\u00B0"},
                                 {" \n", "\n"},
                                 {"\n ", "\n"},
                                 {" N ", " 1 "},
                                 {" 's", "'s"}}) {
    text = Replace(text, from, to);
  }
  return text;
}

Result<std::vector<WikitextPage>> WikitextPages(std::string_view text) {
  if (const std::optional<size_t> at = FindInvalidUtf8(text)) {
    return Error{ErrorCode::kInvalidArgument, fmt::format("text is not UTF-8 at byte {}", *at)};
  }
  const std::string all = UnjoinRows(text);
  const std::string_view lines = all;
  std::vector<WikitextPage> pages;
  size_t begin = 0;  // Of the page.
  for (size_t at = 0; at <= lines.size();) {
    const size_t end = std::min(lines.find('\n', at), lines.size());
    if (at > begin && IsTitle(lines.substr(at, end - at))) {
      const std::string_view page = lines.substr(begin, at - 1 - begin);  // Lines, joined.
      if (!Strip(page).empty()) pages.push_back(MakePage(page));
      begin = at;
    }
    at = end + 1;
  }
  pages.push_back(MakePage(lines.substr(begin)));
  return pages;
}

}  // namespace ram
