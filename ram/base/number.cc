#include "ram/base/number.h"

#include <cerrno>
#include <clocale>
#include <cmath>
#include <cstdlib>
#include <string>
#ifdef __APPLE__
#include <xlocale.h>
#endif

namespace ram {

std::optional<double> TakeDouble(std::string_view* text) {
  // All that strtod could read of it, without blanks and hexadecimal digits.
  const std::string copy(text->substr(0, text->find_first_not_of("0123456789+-.eEinfatyINFATY")));
  if (copy.starts_with('+')) return std::nullopt;
  static const locale_t kPlain = ::newlocale(LC_ALL_MASK, "C", nullptr);
  char* end = nullptr;
  errno = 0;
  const double number = ::strtod_l(copy.c_str(), &end, kPlain);
  if (end == copy.c_str() || (errno == ERANGE && std::isinf(number))) return std::nullopt;
  text->remove_prefix(static_cast<size_t>(end - copy.c_str()));
  return number;
}

std::optional<double> ParseDouble(std::string_view text) {
  const std::optional<double> number = TakeDouble(&text);
  return text.empty() ? number : std::nullopt;
}

}  // namespace ram
