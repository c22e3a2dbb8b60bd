#pragma once

// What the plots of the curve share: which part of it is shown, and where ticks go.

#include <cstdint>
#include <string>
#include <vector>

#include "ram/report/curve_svg.h"

namespace ram {

// The ranges of a plot; valid() if there is something to plot.
struct PlotRange {
  uint64_t first_bytes = 0;
  uint64_t last_bytes = 0;
  double largest_cost = 0;   // All > 0.
  double smallest_cost = 0;  // Points of less are not shown: towards 16 bits cost falls to 0.

  bool valid() const { return last_bytes > first_bytes && largest_cost > smallest_cost; }
  // Positions from 0 to 1, left to right and top to bottom; outside of it where the point is.
  double Across(double bytes) const;
  double Down(double cost) const;
};

// From the lightest plan to 16 bits, with every reference and chosen plan that costs something.
PlotRange RangeOf(const CurvePlotData& data);

// Cost of the curve at `bytes`, linear between its points; the first or last point's outside.
double CurveCostAt(const CurvePlotData& data, uint64_t bytes);

struct SizeTick {
  double bytes = 0;
  std::string label;  // "16"; the unit goes to the axis.
};

// At most `most` ticks of one unit within the range.
struct SizeAxis {
  std::string unit;  // "GiB"
  std::vector<SizeTick> ticks;
};
SizeAxis SizeTicks(uint64_t first_bytes, uint64_t last_bytes, size_t most);

// Powers of ten, or 1, 2 and 5 times powers where there are few.
std::vector<double> CostTicks(double smallest, double largest);
std::string CostTickText(double tick);  // "10", "0.05", "1e-5"

// Whole bits per weight within the range, thinned to what fits.
std::vector<int> BitTicks(uint64_t first_bytes, uint64_t last_bytes, uint64_t num_weights);

}  // namespace ram
