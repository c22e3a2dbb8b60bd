#include "ram/text/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <iterator>
#include <vector>

namespace ram {
namespace {

struct NewerRange {
  char32_t first, last;
  utf8proc_category_t category;
};

constexpr NewerRange kNewer[] = {
#include "ram/text/unicode_newer.inc"
};

utf8proc_category_t CategoryOf(char32_t c) {
  const NewerRange* range =
      std::upper_bound(std::begin(kNewer), std::end(kNewer), c,
                       [](char32_t value, const NewerRange& newer) { return value < newer.first; });
  if (range != std::begin(kNewer) && c <= (range - 1)->last) return (range - 1)->category;
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

bool IsIn(char32_t c, char32_t first, char32_t last) { return c >= first && c <= last; }

uint8_t ComputeClasses(char32_t c) {
  const utf8proc_category_t category = CategoryOf(c);
  uint8_t classes = IsWhiteSpace(c) ? kWhiteSpace : 0;
  if (category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LT) {
    classes |= kLetter | kUpperOrTitle;
  } else if (category == UTF8PROC_CATEGORY_LL) {
    classes |= kLetter | kLower;
  } else if (category == UTF8PROC_CATEGORY_LM || category == UTF8PROC_CATEGORY_LO) {
    classes |= kLetter;
  } else if (category >= UTF8PROC_CATEGORY_MN && category <= UTF8PROC_CATEGORY_ME) {
    classes |= kMark;
  } else if (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO) {
    classes |= kNumber;
  } else if (category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO) {
    classes |= kPunctuation;
  } else if (category >= UTF8PROC_CATEGORY_SM && category <= UTF8PROC_CATEGORY_SO) {
    classes |= kSymbol;
  }
  return classes;
}

// Planes 0 to 3: beyond them there are no classes but those of ComputeClasses' few exceptions.
constexpr size_t kTableSize = 0x40000;

const std::vector<uint8_t>& ClassTable() {
  static const std::vector<uint8_t>* const kTable = [] {
    auto* table = new std::vector<uint8_t>(kTableSize);
    for (size_t c = 0; c < kTableSize; ++c) (*table)[c] = ComputeClasses(static_cast<char32_t>(c));
    return table;
  }();
  return *kTable;
}

// Length of the character that may begin with `first`; 0 if none does.
size_t LengthByFirstByte(uint8_t first) {
  if (first < 0x80) return 1;
  if (first < 0xC2) return 0;
  if (first < 0xE0) return 2;
  if (first < 0xF0) return 3;
  return first < 0xF5 ? 4 : 0;
}

// How many bytes at `at` are the beginning of a valid character: all of it, or a part of it.
size_t ValidBytesAt(std::string_view bytes, size_t at) {
  const auto first = static_cast<uint8_t>(bytes[at]);
  const size_t length = LengthByFirstByte(first);
  size_t i = length == 0 ? 0 : 1;
  for (; i < length && at + i < bytes.size(); ++i) {
    const auto byte = static_cast<uint8_t>(bytes[at + i]);
    uint8_t lowest = 0x80, highest = 0xBF;
    if (i == 1 && first == 0xE0) lowest = 0xA0;   // Shorter forms exist.
    if (i == 1 && first == 0xED) highest = 0x9F;  // Surrogates.
    if (i == 1 && first == 0xF0) lowest = 0x90;
    if (i == 1 && first == 0xF4) highest = 0x8F;  // Beyond U+10FFFF.
    if (byte < lowest || byte > highest) break;
  }
  return i;
}

}  // namespace

uint8_t ClassesOf(char32_t c) { return c < kTableSize ? ClassTable()[c] : ComputeClasses(c); }

bool IsWhiteSpace(char32_t c) {
  return IsIn(c, 9, 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         IsIn(c, 0x2000, 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool IsWordCharacter(char32_t c) {
  const utf8proc_category_t category = CategoryOf(c);
  return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NL) ||
         category == UTF8PROC_CATEGORY_PC || c == 0x200C || c == 0x200D ||
         IsIn(c, 0x24B6, 0x24E9) || IsIn(c, 0x1F130, 0x1F149) || IsIn(c, 0x1F150, 0x1F169) ||
         IsIn(c, 0x1F170, 0x1F189);
}

void AppendUtf8(char32_t c, std::string& to) {
  utf8proc_uint8_t bytes[4];
  const auto num_bytes = utf8proc_encode_char(static_cast<utf8proc_int32_t>(c), bytes);
  to.append(bytes, bytes + num_bytes);
}

std::optional<size_t> FindInvalidUtf8(std::string_view bytes) {
  for (size_t at = 0; at < bytes.size();) {
    if (static_cast<uint8_t>(bytes[at]) < 0x80) {
      ++at;
      continue;
    }
    const size_t length = LengthByFirstByte(static_cast<uint8_t>(bytes[at]));
    if (length == 0 || ValidBytesAt(bytes, at) != length) return at;
    at += length;
  }
  return std::nullopt;
}

std::string ReplaceInvalidUtf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  for (size_t at = 0; at < bytes.size();) {
    const size_t num_valid = ValidBytesAt(bytes, at);
    if (num_valid > 0 && num_valid == LengthByFirstByte(static_cast<uint8_t>(bytes[at]))) {
      text.append(bytes, at, num_valid);
    } else {
      text += "\uFFFD";
    }
    at += std::max<size_t>(num_valid, 1);
  }
  return text;
}

bool EndsWithinCharacter(std::string_view bytes) {
  for (size_t back = 1; back <= 3 && back <= bytes.size(); ++back) {
    const size_t at = bytes.size() - back;
    const auto byte = static_cast<uint8_t>(bytes[at]);
    if ((byte & 0xC0) == 0x80) continue;
    return LengthByFirstByte(byte) > back && ValidBytesAt(bytes, at) == back;
  }
  return false;
}

}  // namespace ram
