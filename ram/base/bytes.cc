#include "ram/base/bytes.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "ram/base/number.h"

namespace ram {
namespace {

struct Unit {
  std::string_view name;
  uint64_t bytes;
};

constexpr std::array<Unit, 9> kUnits = {{
    {"B", 1},
    {"KiB", kKiB},
    {"MiB", kMiB},
    {"GiB", kGiB},
    {"TiB", kGiB << 10},
    {"kB", 1000},
    {"MB", 1000 * 1000},
    {"GB", 1000 * 1000 * 1000},
    {"TB", uint64_t{1000} * 1000 * 1000 * 1000},
}};

bool EqualsIgnoringCase(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if ((a[i] | 0x20) != (b[i] | 0x20)) return false;
  }
  return true;
}

}  // namespace

Result<uint64_t> ParseBytes(std::string_view text) {
  const auto wrong = [&] {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("\"{}\" is not a size: expected e.g. 16GiB, 16GB, 500MiB or a number "
                             "of bytes",
                             text)};
  };
  std::string_view rest = text;
  const std::optional<double> number = TakeDecimal(&rest);
  if (!number) return wrong();
  while (!rest.empty() && rest.front() == ' ') rest.remove_prefix(1);

  uint64_t unit_bytes = 0;
  if (rest.empty()) {  // Bytes: whole numbers only, read again as an integer to be exact.
    uint64_t bytes = 0;
    const auto whole = std::from_chars(text.data(), text.data() + text.size(), bytes);
    if (whole.ec != std::errc{} || whole.ptr != text.data() + text.size() || bytes >> 63 != 0) {
      return wrong();
    }
    return bytes;
  }
  for (const Unit& unit : kUnits) {
    if (EqualsIgnoringCase(rest, unit.name)) unit_bytes = unit.bytes;
  }
  if (unit_bytes == 0) return wrong();
  const double bytes = std::floor(*number * static_cast<double>(unit_bytes));
  if (!(bytes < 0x1p63)) return wrong();
  return static_cast<uint64_t>(bytes);
}

std::optional<double> TakeDecimal(std::string_view* text) {
  constexpr std::string_view kDigits = "0123456789";
  size_t end = std::min(text->find_first_not_of(kDigits), text->size());
  size_t digits = end;
  if (end < text->size() && (*text)[end] == '.') {
    const size_t fraction = end + 1;
    end = std::min(text->find_first_not_of(kDigits, fraction), text->size());
    digits += end - fraction;
  }
  if (digits == 0) return std::nullopt;
  const std::optional<double> number = ParseDouble(text->substr(0, end));
  if (number) text->remove_prefix(end);
  return number;
}

std::optional<double> ParsePercent(std::string_view text) {
  const std::optional<double> percent = TakeDecimal(&text);
  return text == "%" || text == " %" ? percent : std::nullopt;
}

std::string FormatCount(uint64_t count) {
  const std::string digits = std::to_string(count);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i != 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

std::string FormatBytes(uint64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (bytes >= kGiB / 10) {
    return fmt::format("{:.2f} GiB ({:.2f} GB)", value / static_cast<double>(kGiB), value / 1e9);
  }
  if (bytes >= kMiB) {
    return fmt::format("{:.2f} MiB ({:.2f} MB)", value / static_cast<double>(kMiB), value / 1e6);
  }
  return FormatCount(bytes) + " bytes";
}

std::string FormatBytesShort(uint64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (bytes >= kGiB) return fmt::format("{:.2f} GiB", value / static_cast<double>(kGiB));
  if (bytes >= kMiB) return fmt::format("{:.1f} MiB", value / static_cast<double>(kMiB));
  if (bytes >= kKiB) return fmt::format("{:.1f} KiB", value / static_cast<double>(kKiB));
  return fmt::format("{} B", bytes);
}

std::optional<uint64_t> CheckedMul(uint64_t a, uint64_t b) {
  uint64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

std::optional<uint64_t> CheckedAdd(uint64_t a, uint64_t b) {
  uint64_t sum = 0;
  if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
  return sum;
}

}  // namespace ram
