#pragma once

// The size-cost curve for terminals: a plot of text, and a table of its knees.

#include <string>

#include "ram/report/curve_svg.h"
#include "ram/report/table.h"

namespace ram {

// About 16 lines; braille dots, or "*" without unicode. Too narrow for a plot (under 40 columns):
// empty.
std::string CurveText(const CurvePlotData& data, const Style& style);

// Sizes worth choosing: knees, references and chosen plans by size, with bits per weight, cost, and
// what the step before it bought.
std::string CurveTable(const CurvePlotData& data, const Style& style);

}  // namespace ram
