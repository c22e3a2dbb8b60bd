#include "ram/rates/json_text.h"

#include <fmt/format.h>

#include <cmath>

#include "ram/base/json.h"

namespace ram {

std::string JsonNumberText(double value) {
  RAM_CHECK(std::isfinite(value));
  return fmt::format("{}", value);
}

std::string JsonStringText(std::string_view text) {
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace ram
