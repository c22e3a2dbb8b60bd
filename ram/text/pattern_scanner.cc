#include "ram/text/pattern_scanner.h"

#include <cstdint>

#include "ram/text/unicode.h"

namespace ram {
namespace {

constexpr size_t kNoMatch = SIZE_MAX;

// Classes of the character at a place, none at the end of the text.
struct Next {
  uint8_t classes = 0;
  uint8_t num_bytes = 0;
  char32_t code_point = 0;

  bool Is(uint8_t any_of) const { return (classes & any_of) != 0; }
  bool exists() const { return num_bytes > 0; }
};

Next NextAt(std::string_view text, size_t at) {
  if (at >= text.size()) return {};
  const Character c = CharacterAt(text, at);
  return {ClassesOf(c.code_point), static_cast<uint8_t>(c.num_bytes), c.code_point};
}

bool IsLineEnd(char32_t c) { return c == '\r' || c == '\n'; }

size_t SkipClasses(std::string_view text, size_t at, uint8_t any_of) {
  for (Next next = NextAt(text, at); next.Is(any_of); next = NextAt(text, at)) {
    at += next.num_bytes;
  }
  return at;
}

// (?i:'s|'t|'re|'ve|'m|'ll|'d), or only lower case: its end, or `at`.
size_t SkipContraction(std::string_view text, size_t at, bool ignores_case) {
  if (text[at] != '\'' || at + 1 >= text.size()) return at;
  const auto letter = [&](size_t i) {
    const char c = at + i < text.size() ? text[at + i] : '\0';
    return ignores_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  };
  const char first = letter(1), second = letter(2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return at + 2;
  if ((first == 'r' && second == 'e') || (first == 'v' && second == 'e') ||
      (first == 'l' && second == 'l')) {
    return at + 3;
  }
  // U+017F, the long s, is an s to those who ignore case.
  return ignores_case && text.substr(at + 1).starts_with("\u017F") ? at + 3 : at;
}

size_t SkipNumber(std::string_view text, size_t at, int max_digits) {
  Next next = NextAt(text, at);
  for (int i = 0; i < max_digits && next.Is(kNumber); ++i) {
    at += next.num_bytes;
    next = NextAt(text, at);
  }
  return at;
}

//  ?[^\s...]+ for the classes that are no others: its end, or `at`.
size_t SkipOthers(std::string_view text, size_t at, uint8_t not_others) {
  const size_t begin = at + (text[at] == ' ' ? 1 : 0);
  size_t end = begin;
  for (Next next = NextAt(text, end); next.exists() && !next.Is(not_others);
       next = NextAt(text, end)) {
    end += next.num_bytes;
  }
  return end == begin ? at : end;
}

size_t SkipLineEnds(std::string_view text, size_t at, bool slashes_too) {
  while (at < text.size() &&
         (IsLineEnd(static_cast<uint8_t>(text[at])) || (slashes_too && text[at] == '/'))) {
    ++at;
  }
  return at;
}

// \s+(?!\S)|\s+, and with `line_ends_first` \s*[\r\n]+ before them. There is white space at `at`.
size_t SkipSpace(std::string_view text, size_t at, bool line_ends_first) {
  size_t end = at, last = at, after_line_end = at;
  for (Next next = NextAt(text, end); next.Is(kWhiteSpace); next = NextAt(text, end)) {
    last = end;
    end += next.num_bytes;
    if (IsLineEnd(next.code_point)) after_line_end = end;
  }
  if (line_ends_first && after_line_end > at) return after_line_end;
  if (end == text.size() || last == at) return end;
  return last;  // The last one belongs to what follows.
}

// GPT-2.
size_t ScanGpt2(std::string_view text, size_t at) {
  if (const size_t end = SkipContraction(text, at, /*ignores_case=*/false); end > at) return end;
  const size_t begin = at + (text[at] == ' ' ? 1 : 0);
  const Next next = NextAt(text, begin);
  if (next.Is(kLetter)) return SkipClasses(text, begin, kLetter);
  if (next.Is(kNumber)) return SkipClasses(text, begin, kNumber);
  const size_t end = SkipOthers(text, at, kWhiteSpace | kLetter | kNumber);
  return end > at ? end : SkipSpace(text, at, /*line_ends_first=*/false);
}

// Llama 3, Qwen 2 and 3; with marks among the letters Qwen 3.5.
template <uint8_t kLetters, int kMaxDigits>
size_t ScanLlama3(std::string_view text, size_t at) {
  if (const size_t end = SkipContraction(text, at, /*ignores_case=*/true); end > at) return end;
  const Next first = NextAt(text, at);
  if (first.Is(kLetters)) return SkipClasses(text, at, kLetters);
  if (first.Is(kNumber)) return SkipNumber(text, at, kMaxDigits);
  if (!IsLineEnd(first.code_point)) {
    const size_t begin = at + first.num_bytes;
    if (const size_t end = SkipClasses(text, begin, kLetters); end > begin) return end;
  }
  if (const size_t end = SkipOthers(text, at, kWhiteSpace | kLetters | kNumber); end > at) {
    return SkipLineEnds(text, end, /*slashes_too=*/false);
  }
  return SkipSpace(text, at, /*line_ends_first=*/true);
}

// In the patterns after o200k, letters without case and marks count as both.
bool CanBeUpper(const Next& next) { return next.Is(kLetter | kMark) && !next.Is(kLower); }
bool CanBeLower(const Next& next) { return next.Is(kLetter | kMark) && !next.Is(kUpperOrTitle); }

size_t SkipLower(std::string_view text, size_t at) {
  for (Next next = NextAt(text, at); CanBeLower(next); next = NextAt(text, at)) {
    at += next.num_bytes;
  }
  return at;
}

// Upper* lower+ at `at`, or kNoMatch.
size_t MatchCapitalized(std::string_view text, size_t at) {
  size_t after_both = kNoMatch;  // End of the last character that can be either.
  size_t end = at;
  for (Next next = NextAt(text, end); CanBeUpper(next); next = NextAt(text, end)) {
    end += next.num_bytes;
    if (CanBeLower(next)) after_both = end;
  }
  if (const size_t lower_end = SkipLower(text, end); lower_end > end) return lower_end;
  return after_both;
}

// Upper+ lower* at `at`, or kNoMatch.
size_t MatchUpper(std::string_view text, size_t at) {
  size_t end = at;
  for (Next next = NextAt(text, end); CanBeUpper(next); next = NextAt(text, end)) {
    end += next.num_bytes;
  }
  return end == at ? kNoMatch : SkipLower(text, end);
}

// GPT-4o, gpt-oss, Llama 4; without contractions and with single digits Mistral's tekken.
template <bool kContractions, int kMaxDigits>
size_t ScanO200k(std::string_view text, size_t at) {
  const Next first = NextAt(text, at);
  const bool may_lead = !IsLineEnd(first.code_point) && !first.Is(kLetter | kNumber);
  for (const auto match : {MatchCapitalized, MatchUpper}) {
    size_t end = may_lead ? match(text, at + first.num_bytes) : kNoMatch;
    if (end == kNoMatch) end = match(text, at);
    if (end == kNoMatch) continue;
    return kContractions && end < text.size() ? SkipContraction(text, end, /*ignores_case=*/true)
                                              : end;
  }
  if (first.Is(kNumber)) return SkipNumber(text, at, kMaxDigits);
  if (const size_t end = SkipOthers(text, at, kWhiteSpace | kLetter | kNumber); end > at) {
    return SkipLineEnds(text, end, /*slashes_too=*/true);
  }
  return SkipSpace(text, at, /*line_ends_first=*/true);
}

// DeepSeek V3 cuts three times: numbers, Chinese and kana, the rest.
size_t ScanUpToThreeDigits(std::string_view text, size_t at) { return SkipNumber(text, at, 3); }

size_t ScanChineseAndKana(std::string_view text, size_t at) {
  while (at < text.size()) {
    const Character c = CharacterAt(text, at);
    const bool is_chinese = c.code_point >= 0x4E00 && c.code_point <= 0x9FA5;
    const bool is_kana = c.code_point >= 0x3040 && c.code_point <= 0x30FF;
    if (!is_chinese && !is_kana) break;
    at += c.num_bytes;
  }
  return at;
}

bool IsAsciiLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

size_t ScanDeepSeek(std::string_view text, size_t at) {
  constexpr uint8_t kMarked = kPunctuation | kSymbol;
  const Next first = NextAt(text, at);
  if (first.code_point < 0x80 && first.Is(kMarked)) {
    size_t end = at + 1;
    while (end < text.size() && IsAsciiLetter(text[end])) ++end;
    if (end > at + 1) return end;
  }
  if (first.Is(kLetter | kMark)) return SkipClasses(text, at, kLetter | kMark);
  if (!IsLineEnd(first.code_point) && !first.Is(kMarked)) {
    const size_t begin = at + first.num_bytes;
    if (const size_t end = SkipClasses(text, begin, kLetter | kMark); end > begin) return end;
  }
  const size_t begin = at + (text[at] == ' ' ? 1 : 0);
  if (const size_t end = SkipClasses(text, begin, kMarked); end > begin) {
    return SkipLineEnds(text, end, /*slashes_too=*/false);
  }
  return first.Is(kWhiteSpace) ? SkipSpace(text, at, /*line_ends_first=*/true) : at;
}

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SPACES R"(|\s*[\r\n]+|\s+(?!\S)|\s+)"
#define LLAMA3_OTHERS R"(| ?[^\s\p{L}\p{N}]+[\r\n]*)" SPACES
#define O200K_OTHERS R"(| ?[^\s\p{L}\p{N}]+[\r\n/]*)" SPACES
#define LEAD R"([^\r\n\p{L}\p{N}]?)"
#define UPPER R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])"
#define LOWER R"([\p{Ll}\p{Lm}\p{Lo}\p{M}])"

constexpr KnownPattern kKnownPatterns[] = {
    {"gpt2", R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
     ScanGpt2},
    {"llama3", CONTRACTIONS R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3})" LLAMA3_OTHERS,
     ScanLlama3<kLetter, 3>},
    {"qwen2", CONTRACTIONS R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N})" LLAMA3_OTHERS,
     ScanLlama3<kLetter, 1>},
    {"qwen3.5",
     CONTRACTIONS R"(|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*)" SPACES,
     ScanLlama3<kLetter | kMark, 1>},
    {"o200k",
     LEAD UPPER "*" LOWER "+" CONTRACTIONS "?|" LEAD UPPER "+" LOWER "*" CONTRACTIONS
                R"(?|\p{N}{1,3})" O200K_OTHERS,
     ScanO200k<true, 3>},
    {"tekken", LEAD UPPER "*" LOWER "+|" LEAD UPPER "+" LOWER R"(*|\p{N})" O200K_OTHERS,
     ScanO200k<false, 1>},
    {"deepseek numbers", R"(\p{N}{1,3})", ScanUpToThreeDigits},
    {"deepseek chinese", "[一-龥\u3040-ゟ゠-ヿ]+", ScanChineseAndKana},
    {"deepseek rest",
     "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"
     "|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*"
     R"(|\s*)"
     "[\r\n]+"
     R"(|\s+(?!\S)|\s+)",
     ScanDeepSeek},
};

}  // namespace

std::span<const KnownPattern> KnownPatterns() { return kKnownPatterns; }

PatternScanner FindPatternScanner(std::string_view regex) {
  for (const KnownPattern& known : kKnownPatterns) {
    if (regex == known.regex) return known.scanner;
  }
  return nullptr;
}

}  // namespace ram
