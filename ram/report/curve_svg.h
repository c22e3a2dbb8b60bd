#pragma once

// The size-cost curve of a model as one SVG file: every budget at a glance.

#include <cstdint>
#include <string>
#include <vector>

#include "ram/allocate/allocate.h"
#include "ram/plan/plan.h"
#include "ram/rates/rate_table.h"

namespace ram {

// A point of the plot, in bytes of the whole model and units of the objective.
struct PlotPoint {
  uint64_t bytes = 0;
  double cost = 0;
  std::string label;  // "uniform 4-bit", "16 GiB"; may be empty.
};

struct CurvePlotData {
  std::string title;                  // The model.
  std::string subtitle;               // How costs were priced; may be empty.
  std::vector<PlotPoint> curve;       // By size, costs falling; labels are not shown.
  std::vector<PlotPoint> knees;       // On the curve.
  std::vector<PlotPoint> references;  // Other ways to quantize the model, e.g. uniform 4-bit.
  std::vector<PlotPoint> chosen;      // Plans that were made.
  uint64_t num_weights = 0;           // For bits per weight.
  uint64_t dense_bytes = 0;           // The model in 16 bits.
};

// The curve of a problem, with its knees and uniform quantization at every bit width that `rates`
// has for group size 64; labels are sizes and bits. Plans may be null or empty.
CurvePlotData MakeCurvePlot(const RateTable& rates, const Problem& problem, const Curve& curve,
                            Objective objective, const std::vector<const Plan*>& plans = {});

// A self-contained SVG document, 960 x 600, light or dark as the reader's screen is. The same data
// gives the same bytes. Cost is on a logarithmic axis, so points of cost 0 are left out; with fewer
// than two points left, the plot says that there is nothing to plot.
std::string CurveSvg(const CurvePlotData& data);

}  // namespace ram
