// Noise control: what the compressed model does to perplexity, beside what noise of the size of its
// errors does.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "ram/report/plot_axes.h"
#include "ram/report/report_plots.h"
#include "ram/report/svg.h"

namespace ram {
namespace {

constexpr double kLeft = 128;
constexpr double kRight = 650;  // Numbers stand behind it.
constexpr double kZRight = 828;
constexpr double kValueRight = 752;
constexpr double kTop = 56;
constexpr double kRowHeight = 34;

// What the axis spans: everything, but for controls of other doses, which would crush the rest;
// they are cut at its edge, and their numbers stand beside.
Interval AxisOf(const ReportNoise& noise) {
  Interval range = {0, 0};
  const auto take = [&range](double value) {
    if (!std::isfinite(value)) return;
    range.low = std::min(range.low, value);
    range.high = std::max(range.high, value);
  };
  for (const ReportNoiseRow& row : noise.rows) {
    if (row.dose != 1) continue;
    take(row.typical.value);
    take(row.typical.interval.low);
    take(row.typical.interval.high);
    for (const double seed : row.seeds) take(seed);
  }
  const double room = std::max(0.06 * (range.high - range.low), 1e-5);
  return {range.low - room, range.high + room};
}

std::string ValueText(const Estimate& estimate) {
  return ChangeText(estimate.value, estimate.interval.high - estimate.interval.low);
}

}  // namespace

std::string NoisePlot(std::string_view id, const ReportNoise& noise) {
  if (noise.rows.empty()) return "";
  const Interval range = AxisOf(noise);
  const SvgAxis across = {range.low, range.high, kLeft, kRight};
  const double bottom = kTop + kRowHeight * static_cast<double>(noise.rows.size());
  SvgDrawing drawing(
      id, bottom + 50, "Noise control",
      "How much perplexity of the typical window rises above the original's: for the "
      "compressed model, the same errors with their signs reversed, and the original "
      "with noise of their size; the table below has the numbers.");
  DrawRatiosAcross(&drawing, across, kTop - 6, bottom, 7);
  double x = kLeft;
  const auto explain = [&](std::string_view css, SvgMark mark, std::string_view text) {
    drawing.Mark(css, mark, x + 5, 12, 5);
    drawing.Text("dim", x + 16, 16, TextAnchor::kStart, text);
    x += SvgTextWidth(text) + 42;
  };
  explain("first", SvgMark::kDot, "one run of a model, 95 % interval");
  explain("second", SvgMark::kDiamond, "mean over seeds");
  explain("second", SvgMark::kRing, "one seed");
  drawing.Text("dim small", kValueRight, kTop - 12, TextAnchor::kEnd, "typical");
  drawing.Text("dim small", kZRight, kTop - 12, TextAnchor::kEnd, "z");

  // The compressed model's effect goes through all rows: is it where noise lies?
  const double judged = across.At(noise.rows.front().typical.value);
  drawing.Line("first span", judged, kTop + kRowHeight / 2, judged, bottom);
  for (size_t r = 0; r < noise.rows.size(); ++r) {
    const ReportNoiseRow& row = noise.rows[r];
    const double y = kTop + kRowHeight * (static_cast<double>(r) + 0.5);
    drawing.Text("strong", 0, y + 4, TextAnchor::kStart, SvgCutText(row.name, kLeft - 14));
    if (r > 0) drawing.Line("grid", 0, y - kRowHeight / 2, kZRight, y - kRowHeight / 2);
    const std::string value = ValueText(row.typical);
    drawing.Text("", kValueRight, y + 4, TextAnchor::kEnd, value);
    if (!std::isnan(row.z)) {
      drawing.Text("", kZRight, y + 4, TextAnchor::kEnd, fmt::format("{:+.1f}", row.z));
    }
    if (!range.Contains(row.typical.value)) {
      const bool is_high = row.typical.value > range.high;
      drawing.Text("strong", is_high ? kRight : kLeft, y + 4,
                   is_high ? TextAnchor::kEnd : TextAnchor::kStart, is_high ? "→" : "←");
      continue;
    }
    for (const double seed : row.seeds) {
      drawing.Mark("second", SvgMark::kRing, across.At(seed), y, 3.5);
    }
    const Interval& interval = row.typical.interval;
    const bool is_mean = !row.seeds.empty();
    const std::string css = is_mean ? "second" : "first";
    if (!std::isnan(interval.low)) {
      drawing.Line(css + " span", across.At(interval.low), y, across.At(interval.high), y);
    }
    drawing.Mark(css, is_mean ? SvgMark::kDiamond : SvgMark::kDot, across.At(row.typical.value), y,
                 5, fmt::format("{}: {}", row.name, value));
  }
  drawing.Line("axis", kLeft, bottom, kRight, bottom);
  drawing.Text("dim", kRight, bottom + 42, TextAnchor::kEnd,
               "perplexity of the typical window above the original's");
  return drawing.Finish();
}

}  // namespace ram
