#pragma once

// The alphabet of byte-level vocabularies: GPT-2 wrote each byte as a printable character, so that
// tokens are text. Printable bytes of Latin-1 stand for themselves, the others for U+0100 and up.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ram {

// The bytes that `token` stands for; nullopt if one of its characters stands for no byte.
std::optional<std::string> BytesOfByteLevel(std::string_view token);

// The character that stands for `byte`, in UTF-8.
std::string ByteLevelCharacter(uint8_t byte);

}  // namespace ram
