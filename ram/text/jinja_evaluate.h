#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ram/base/result.h"
#include "ram/text/jinja_syntax.h"
#include "ram/text/jinja_value.h"

namespace ram::jinja {

using Variables = std::vector<std::pair<std::string, Value>>;

// Renders a template. Bounded: 10 million steps, 32 MiB of output, macros and expressions nested
// 600 deep; kUnsupported beyond. All errors begin with "`where`: line L, column C: ".
// kInvalidArgument: what the template itself refuses (raise_exception), or an operation that values
// do not have.
Result<std::string> Render(const Node& block, const Variables& variables, std::string_view where);

}  // namespace ram::jinja
