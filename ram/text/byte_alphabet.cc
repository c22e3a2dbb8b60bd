#include "ram/text/byte_alphabet.h"

#include <array>

#include "ram/text/unicode.h"

namespace ram {
namespace {

constexpr char32_t kEnd = 0x144;  // Of the characters that stand for bytes.

struct Alphabet {
  std::array<char32_t, 256> of_byte = {};
  std::array<int16_t, kEnd> byte_of = {};
};

constexpr Alphabet MakeAlphabet() {
  Alphabet alphabet;
  for (int16_t& byte : alphabet.byte_of) byte = -1;
  char32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool is_printable =
        (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    const char32_t c = is_printable ? static_cast<char32_t>(byte) : next++;
    alphabet.of_byte[static_cast<size_t>(byte)] = c;
    alphabet.byte_of[c] = static_cast<int16_t>(byte);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = MakeAlphabet();

}  // namespace

std::optional<std::string> BytesOfByteLevel(std::string_view token) {
  std::string bytes;
  bytes.reserve(token.size());
  for (size_t at = 0; at < token.size();) {
    const Character c = CharacterAt(token, at);
    if (c.code_point >= kEnd || kAlphabet.byte_of[c.code_point] < 0) return std::nullopt;
    bytes += static_cast<char>(kAlphabet.byte_of[c.code_point]);
    at += c.num_bytes;
  }
  return bytes;
}

std::string ByteLevelCharacter(uint8_t byte) {
  std::string character;
  AppendUtf8(kAlphabet.of_byte[byte], character);
  return character;
}

}  // namespace ram
