#pragma once

// The plots of a report as SVG elements for a page (html.h). `id` is unique in the page. Empty
// where there is nothing to plot.

#include <string>
#include <string_view>
#include <vector>

#include "ram/report/report_page.h"

namespace ram {

// Size against corpus perplexity relative to the base, with 95 % intervals (size_plot.cc).
// `uniform_bytes`: size of a uniform 4-bit model, marked where no model is one; 0: unknown.
std::string SizePlot(std::string_view id, const ReportGroup& group, uint64_t uniform_bytes);

// Perplexity of every window, a row for each model (window_plot.cc). At most 800 dots a model; the
// dots of `linked` windows lead to `id` + "-window-" + index.
std::string WindowPlot(std::string_view id, const ReportGroup& group,
                       const std::vector<size_t>& linked);
inline constexpr size_t kMostDots = 800;

// Paired differences from the base, best model first: corpus, typical window, Hodges-Lehmann, each
// with its interval (pair_plot.cc).
std::string PairPlot(std::string_view id, const ReportGroup& group);

// Effects of a compressed model and of noise on the typical window, a row for each condition, with
// the seeds of every control (noise_plot.cc).
std::string NoisePlot(std::string_view id, const ReportNoise& noise);

// Layers down, modules across, bits as colour, choice as text (plan_map.cc).
std::string PlanMap(std::string_view id, const Plan& plan);

// Signal to noise of every choice against its bits, for the modules that lose least, most and as
// much as the middle one at 4 bits (rate_plot.cc). With the choice of `plan`, which may be null.
std::string RatePlot(std::string_view id, const RateTable& rates, const Plan* plan);

}  // namespace ram
