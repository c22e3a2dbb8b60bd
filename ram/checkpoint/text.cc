#include "ram/checkpoint/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

namespace ram {
namespace {

constexpr size_t kMaxShownBytes = 160;
constexpr size_t kMaxListed = 8;

// Bytes of the UTF-8 sequence at the start of `text`; 0 if there is no complete one. Overlong forms
// and surrogates pass: this decides what to print, not what to accept.
size_t SequenceBytes(std::string_view text) {
  const auto lead = static_cast<uint8_t>(text.front());
  const size_t num_bytes = lead < 0x80             ? 1
                           : (lead & 0xE0) == 0xC0 ? 2
                           : (lead & 0xF0) == 0xE0 ? 3
                           : (lead & 0xF8) == 0xF0 ? 4
                                                   : 0;
  if (num_bytes > text.size()) return 0;
  for (size_t i = 1; i < num_bytes; ++i) {
    if ((static_cast<uint8_t>(text[i]) & 0xC0) != 0x80) return 0;
  }
  return num_bytes;
}

// C1 controls (U+0080 to U+009F) steer some terminals just as the ASCII ones do.
bool IsControl(std::string_view sequence) {
  const auto first = static_cast<uint8_t>(sequence[0]);
  if (sequence.size() == 2) return first == 0xC2 && static_cast<uint8_t>(sequence[1]) < 0xA0;
  return first < 0x20 || first == 0x7F;
}

}  // namespace

std::string Shown(std::string_view text) {
  std::string shown;
  while (!text.empty()) {
    if (shown.size() >= kMaxShownBytes) return shown + "...";
    const size_t num_bytes = SequenceBytes(text);
    const std::string_view sequence = text.substr(0, std::max<size_t>(num_bytes, 1));
    if (num_bytes == 0 || IsControl(sequence)) {
      for (const char byte : sequence)
        shown += fmt::format("\\x{:02X}", static_cast<uint8_t>(byte));
    } else {
      shown += sequence;
    }
    text.remove_prefix(sequence.size());
  }
  return shown;
}

std::string ShownList(const std::vector<std::string>& names) {
  std::string list;
  for (size_t i = 0; i < std::min(names.size(), kMaxListed); ++i) {
    if (i != 0) list += ", ";
    list += Shown(names[i]);
  }
  if (names.size() > kMaxListed) list += fmt::format(" and {} more", names.size() - kMaxListed);
  return list;
}

std::string JsonString(std::string_view text) {
  std::string json = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      json += '\\';
      json += c;
    } else if (static_cast<uint8_t>(c) < 0x20) {
      json += fmt::format("\\u{:04x}", static_cast<uint8_t>(c));
    } else {
      json += c;
    }
  }
  return json + '"';
}

}  // namespace ram
