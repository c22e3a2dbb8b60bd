#pragma once

// Numbers with a fraction or an exponent, read whatever the locale. Not std::from_chars: the libc++
// of Xcode 15 has it for integers only.

#include <optional>
#include <string_view>

namespace ram {

// The number that `*text` begins with ("2", "-1.5e3", ".5", "inf", "nan" in any case; no blanks, no
// plus sign, no hexadecimal), taken off it; the nearest double, 0 if it is too small for one.
// Nothing, and `*text` as it was, if there is none or it is too large for a double.
std::optional<double> TakeDouble(std::string_view* text);

// The same where nothing may follow.
std::optional<double> ParseDouble(std::string_view text);

}  // namespace ram
