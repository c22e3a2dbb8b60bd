#pragma once

// Sizes in bytes: read from what people type, written the way they can check.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "ram/base/result.h"

namespace ram {

inline constexpr uint64_t kKiB = uint64_t{1} << 10;
inline constexpr uint64_t kMiB = uint64_t{1} << 20;
inline constexpr uint64_t kGiB = uint64_t{1} << 30;

// "16GiB", "16 GB" (decimal), "512MiB" (a bare letter is refused: it is read both ways),
// "17179869184" (bytes). Fractions are allowed with a unit and round down.
// kInvalidArgument if `text` is anything else or exceeds 2^63.
Result<uint64_t> ParseBytes(std::string_view text);

// The decimal number that `*text` begins with ("16", "1.5", ".5"; no sign, no exponent), taken off
// it; the nearest double, whatever the locale. Nothing, and `*text` as it was, if there is none.
std::optional<double> TakeDecimal(std::string_view* text);
// "0.5%" or "0.5 %" -> 0.5; nothing if it is anything else.
std::optional<double> ParsePercent(std::string_view text);

// Both units, because "GB" is read both ways: "15.26 GiB (16.38 GB)"; below 1 MiB "1,234 bytes".
std::string FormatBytes(uint64_t bytes);

// One unit, short, for tables: "15.26 GiB", "203.4 MiB", "12.0 KiB", "87 B".
std::string FormatBytesShort(uint64_t bytes);

// 1234567 -> "1,234,567".
std::string FormatCount(uint64_t count);

// Nothing where the result does not fit in 64 bits.
std::optional<uint64_t> CheckedMul(uint64_t a, uint64_t b);
std::optional<uint64_t> CheckedAdd(uint64_t a, uint64_t b);

}  // namespace ram
