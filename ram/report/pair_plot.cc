// How much worse than the base, by three estimates with their intervals.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "ram/report/plot_axes.h"
#include "ram/report/report_plots.h"
#include "ram/report/svg.h"

namespace ram {
namespace {

constexpr double kLeft = 176;
constexpr double kRight = 808;
constexpr double kTop = 44;
constexpr double kRowHeight = 60;

struct Shown {
  std::string_view name;
  std::string_view css;
  SvgMark mark;
  Estimate AgainstBase::*estimate;
};

constexpr std::array<Shown, 3> kShown = {{
    {"typical window (10 % trimmed mean)", "first", SvgMark::kDot, &AgainstBase::typical},
    {"Hodges-Lehmann", "third", SvgMark::kDiamond, &AgainstBase::hodges_lehmann},
    {"corpus", "second", SvgMark::kRing, &AgainstBase::corpus},
}};

}  // namespace

std::string PairPlot(std::string_view id, const ReportGroup& group) {
  std::vector<AgainstBase> rows = PairsWithBase(group);
  if (rows.empty()) return "";
  std::stable_sort(rows.begin(), rows.end(), [](const AgainstBase& a, const AgainstBase& b) {
    return a.typical.value < b.typical.value;
  });
  double low = 0;
  double high = 0;
  for (const AgainstBase& row : rows) {
    for (const Shown& shown : kShown) {
      const Estimate& estimate = row.*shown.estimate;
      for (const double value : {estimate.value, estimate.interval.low, estimate.interval.high}) {
        if (!std::isfinite(value)) continue;
        low = std::min(low, value);
        high = std::max(high, value);
      }
    }
  }
  const double room = std::max(0.05 * (high - low), 1e-5);
  const SvgAxis across = {low - room, high + room, kLeft, kRight};
  const double bottom = kTop + kRowHeight * static_cast<double>(rows.size());

  const std::string& base = group.models[group.base].name;
  SvgDrawing drawing(id, bottom + 50, "Paired differences",
                     fmt::format("For each model how much higher its perplexity is than that of {} "
                                 "on the same windows, by three estimates with 95 % intervals; "
                                 "the table of pairs has the numbers.",
                                 base));
  DrawRatiosAcross(&drawing, across, kTop - 6, bottom, 8);
  double x = kLeft;
  for (const Shown& shown : kShown) {
    drawing.Mark(shown.css, shown.mark, x + 5, 12, 5);
    drawing.Text("dim", x + 16, 16, TextAnchor::kStart, shown.name);
    x += SvgTextWidth(shown.name) + 42;
  }
  for (size_t r = 0; r < rows.size(); ++r) {
    const double y = kTop + kRowHeight * (static_cast<double>(r) + 0.5);
    const ModelScores& model = group.models[rows[r].model];
    drawing.Text("strong", 0, y + 1, TextAnchor::kStart, SvgCutText(model.name, kLeft - 14));
    drawing.Text("dim small", 0, y + 16, TextAnchor::kStart, FindingName(rows[r].finding));
    for (size_t k = 0; k < kShown.size(); ++k) {
      const Estimate& estimate = rows[r].*kShown[k].estimate;
      if (!std::isfinite(estimate.value)) continue;
      const double line = y + 15 * (static_cast<double>(k) - 1);
      const Interval& interval = estimate.interval;
      if (!std::isnan(interval.low)) {
        drawing.Line(std::string(kShown[k].css) + " span", across.At(interval.low), line,
                     across.At(interval.high), line);
      }
      drawing.Mark(kShown[k].css, kShown[k].mark, across.At(estimate.value), line, 4.5,
                   fmt::format("{}, {}: {}", model.name, kShown[k].name,
                               ChangeText(estimate.value, interval.high - interval.low)));
    }
    if (r > 0) drawing.Line("grid", 0, y - kRowHeight / 2, kRight, y - kRowHeight / 2);
  }
  drawing.Line("axis", kLeft, bottom, kRight, bottom);
  drawing.Text("dim", kRight, bottom + 42, TextAnchor::kEnd,
               "perplexity above that of " + SvgCutText(base, 240));
  return drawing.Finish();
}

}  // namespace ram
