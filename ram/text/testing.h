#pragma once

// For tests only: text that finds mistakes in tokenizers.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "ram/text/unicode.h"

namespace ram {

// Short texts of white space of all kinds, contractions, digits of several scripts, words, and
// characters that every Unicode since 9 knows, in a sequence that depends on the seed alone.
class TortureText {
 public:
  explicit TortureText(uint64_t seed) : state_(seed) {}

  std::string Next() {
    constexpr std::array<std::string_view, 17> kSpaces = {
        " ",      "  ",     "\n",     "\n\n",   "\r\n", "\t",   " \n ",   "\u00a0", "\u3000",
        "\u180e", "\u200b", "\u2028", "\u0085", "\x0b", "\x1c", "\ufeff", "\u200d"};
    constexpr std::array<std::string_view, 16> kContractions = {
        "'s", "'S",  "'T",      "'re", "'RE",     "'ll", "'Ll", "'d",
        "'m", "'ve", "'\u017f", "'x",  "\u2019s", "s's", "'",   "''"};
    constexpr std::array<std::string_view, 12> kDigits = {
        "0", "1", "2", "3", "12", "345", "6789", "\u0663", "\u096b", "\u2167", "\u00bd", "\u00b2"};
    constexpr std::array<std::string_view, 10> kWords = {
        "the", "ABC", "abC", "Xy", "A", "ing", "\u01c5", "\u02b0", "\u65e5\u672cA", "e\u0301"};
    constexpr std::array<std::string_view, 9> kMarks = {"!", "...", "/", "//\n",  ".\n\n",
                                                        "$", "-",   "_", "\u3002"};
    std::string text;
    for (uint64_t parts = 1 + Draw(12); parts > 0; --parts) {
      switch (Draw(7)) {
        case 0:
          text += kSpaces[Draw(kSpaces.size())];
          break;
        case 1:
          text += kContractions[Draw(kContractions.size())];
          break;
        case 2:
          text += kDigits[Draw(kDigits.size())];
          break;
        case 3:
        case 4:
          text += kWords[Draw(kWords.size())];
          break;
        case 5:
          text += kMarks[Draw(kMarks.size())];
          break;
        default:
          AppendUtf8(AnyCharacter(), text);
      }
    }
    return text;
  }

  // A number from 0 to `end` - 1.
  uint64_t Draw(uint64_t end) {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15u);  // SplitMix64.
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (z ^ (z >> 31)) % end;
  }

 private:
  char32_t AnyCharacter() {
    constexpr std::array<std::array<char32_t, 2>, 16> kBlocks = {{{0x20, 0x7F},
                                                                  {0, 0x20},
                                                                  {0x80, 0x250},
                                                                  {0x300, 0x370},
                                                                  {0x400, 0x530},
                                                                  {0x5D0, 0x5EB},
                                                                  {0x620, 0x700},
                                                                  {0x904, 0x974},
                                                                  {0xE01, 0xE3B},
                                                                  {0x1100, 0x1200},
                                                                  {0x2000, 0x2065},
                                                                  {0x2150, 0x218C},
                                                                  {0x3041, 0x3097},
                                                                  {0x4E00, 0x9FD6},
                                                                  {0xAC00, 0xD7A4},
                                                                  {0x1F300, 0x1F5FF}}};
    const auto& [first, end] = kBlocks[Draw(kBlocks.size())];
    return first + static_cast<char32_t>(Draw(end - first));
  }

  uint64_t state_;
};

}  // namespace ram
