#pragma once

// A study as one HTML file that stands alone: verdict, curves of size against divergence and
// perplexity, ratios at equal bytes, all numbers, saturation (docs/study.md).

#include <string>
#include <string_view>

#include "ram/study/study.h"

namespace ram {

// The whole document. The same study gives the same bytes.
std::string StudyPage(const Study& study);

// Its plots as SVG elements (study_plots.cc); `id` is unique in the page. Empty where there is
// nothing to plot.

// Size against KL from the original, on a logarithmic axis.
std::string StudyDivergencePlot(std::string_view id, const Study& study);
// Size against perplexity relative to the original, in the typical window, with the margin.
std::string StudyPerplexityPlot(std::string_view id, const Study& study);
// KL of every plan as a ratio to what sets its size, with intervals.
std::string StudyRatioPlot(std::string_view id, const Study& study);

}  // namespace ram
