#pragma once

// UTF-8, and the properties of code points that tokenizers speak of, as Unicode 16 has them: that
// is what the official tokenizers library uses in its patterns, whichever version this machine's
// libraries know.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ram {

// Sets of general categories, as bits.
enum CodePointClass : uint8_t {
  kLetter = 1,         // L
  kMark = 2,           // M
  kNumber = 4,         // N
  kWhiteSpace = 8,     // White_Space: what \s means; 25 code points
  kUpperOrTitle = 16,  // Lu, Lt; also kLetter
  kLower = 32,         // Ll; also kLetter
  kPunctuation = 64,   // P
  kSymbol = 128,       // S
};

// The classes of `c`, ORed together.
uint8_t ClassesOf(char32_t c);
bool IsWhiteSpace(char32_t c);
// \w: letters, marks, decimal and letter numbers, connectors, joiners, circled letters.
bool IsWordCharacter(char32_t c);

// One character of UTF-8: its code point and how many bytes it takes.
struct Character {
  char32_t code_point;
  size_t num_bytes;
};

// The character at `at`. `utf8` must be valid, `at` the beginning of a character in it.
inline Character CharacterAt(std::string_view utf8, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(utf8[at + i]); };
  const uint8_t first = byte(0);
  if (first < 0x80) return {first, 1};
  if (first < 0xE0) return {char32_t(first & 0x1Fu) << 6 | (byte(1) & 0x3Fu), 2};
  if (first < 0xF0) {
    return {char32_t(first & 0xFu) << 12 | char32_t(byte(1) & 0x3Fu) << 6 | (byte(2) & 0x3Fu), 3};
  }
  return {char32_t(first & 7u) << 18 | char32_t(byte(1) & 0x3Fu) << 12 |
              char32_t(byte(2) & 0x3Fu) << 6 | (byte(3) & 0x3Fu),
          4};
}

// Where the character that ends before `end` begins; `end` > 0.
inline size_t PreviousCharacter(std::string_view utf8, size_t end) {
  do --end;
  while (end > 0 && (static_cast<uint8_t>(utf8[end]) & 0xC0) == 0x80);
  return end;
}

void AppendUtf8(char32_t c, std::string& to);

// Offset of the first byte that is no UTF-8 (surrogates and overlong forms are none).
std::optional<size_t> FindInvalidUtf8(std::string_view bytes);
// U+FFFD for each maximal part of a character that could have begun, and for each other stray byte.
std::string ReplaceInvalidUtf8(std::string_view bytes);
// Whether `bytes` ends within a character that further bytes could complete.
bool EndsWithinCharacter(std::string_view bytes);

}  // namespace ram
