// Size against quality: what every byte buys.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>

#include "ram/base/bytes.h"
#include "ram/report/plot_axes.h"
#include "ram/report/plot_labels.h"
#include "ram/report/report_plots.h"
#include "ram/report/svg.h"

namespace ram {
namespace {

constexpr double kHeight = 400;
constexpr double kLeft = 76;
constexpr double kRight = 816;
constexpr double kTop = 28;
constexpr double kBottom = 340;

struct SizePoint {
  std::string name;
  double bytes = 0;
  double bits_per_weight = kUndefined;
  double value = 0;  // Log ratio to the base.
  Interval interval;
  bool is_base = false;
  bool is_uniform = false;
};

bool SaysUniform(const std::string& name) {
  std::string lower = name;
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower.find("uniform") != std::string::npos;
}

std::vector<SizePoint> PointsOf(const ReportGroup& group) {
  std::vector<SizePoint> points;
  const auto add = [&](size_t m, const Estimate& corpus, bool is_base) {
    const ModelScores& model = group.models[m];
    if (!std::isfinite(model.bytes) || !std::isfinite(corpus.value)) return;
    points.push_back({model.name, model.bytes, model.bits_per_weight, corpus.value, corpus.interval,
                      is_base, SaysUniform(model.name)});
  };
  for (const AgainstBase& pair : PairsWithBase(group)) add(pair.model, pair.corpus, false);
  add(group.base, Estimate{.value = 0, .interval = {0, 0}}, true);
  return points;
}

// From the smallest to the largest of the points and their intervals, with room around.
std::pair<double, double> RatioRange(const std::vector<SizePoint>& points) {
  double low = 0;
  double high = 0;
  for (const SizePoint& point : points) {
    low = std::min(low, point.value);
    high = std::max(high, point.value);
    if (std::isfinite(point.interval.low)) low = std::min(low, point.interval.low);
    if (std::isfinite(point.interval.high)) high = std::max(high, point.interval.high);
  }
  const double room = std::max(0.08 * (high - low), 1e-4);
  return {low - room, high + room};
}

void DrawAxes(SvgDrawing* drawing, const SvgAxis& across, const SvgAxis& down) {
  DrawRatiosDown(drawing, down, kLeft, kRight, 7);
  DrawSizesAcross(drawing, across, {kLeft, kTop, kRight, kBottom});
  drawing->Text("dim", kLeft - 66, kTop - 12, TextAnchor::kStart,
                "corpus perplexity against the base");
}

}  // namespace

std::string SizePlot(std::string_view id, const ReportGroup& group, uint64_t uniform_bytes) {
  const std::vector<SizePoint> points = PointsOf(group);
  if (points.size() < 2) return "";
  double first = points.front().bytes;
  double last = first;
  bool has_uniform = false;
  for (const SizePoint& point : points) {
    first = std::min(first, point.bytes);
    last = std::max(last, point.bytes);
    has_uniform |= point.is_uniform;
  }
  const double room = std::max(0.08 * (last - first), 0.02 * last + 1);
  const SvgAxis across = {std::max(first - room, 0.0), last + room, kLeft, kRight};
  const auto [low, high] = RatioRange(points);
  const SvgAxis down = {low, high, kBottom, kTop};

  SvgDrawing drawing(id, kHeight, "Size and quality",
                     fmt::format("Size in bytes against the corpus perplexity relative to {}, with "
                                 "95 % intervals; the tables have the numbers.",
                                 group.models[group.base].name));
  DrawAxes(&drawing, across, down);
  const auto uniform = static_cast<double>(uniform_bytes);
  if (!has_uniform && uniform > across.first && uniform < across.last) {
    const double x = across.At(uniform);
    drawing.Line("limit", x, kTop, x, kBottom);
    drawing.Text("dim halo", x + 6, kTop + 12, TextAnchor::kStart, "size of uniform (4,64)");
  }
  const double zero = down.At(0);
  PlotLabels labels({kLeft, kTop - 20, kRight, kBottom});
  labels.Take({kLeft, zero - 1, kRight, zero + 1});
  for (const SizePoint& point : points) {
    const double x = across.At(point.bytes);
    const double y = down.At(point.value);
    labels.Take({x - 6, y - 6, x + 6, y + 6});
    if (point.is_base || std::isnan(point.interval.low)) continue;
    labels.Take({x - 2, down.At(point.interval.high), x + 2, down.At(point.interval.low)});
  }
  for (const SizePoint& point : points) {
    const SvgSpot spot = {across.At(point.bytes), down.At(point.value)};
    const std::string css = point.is_base ? "other" : point.is_uniform ? "second" : "first";
    if (!point.is_base && !std::isnan(point.interval.low)) {
      drawing.Line(css + " span", spot.x, down.At(point.interval.low), spot.x,
                   down.At(point.interval.high));
    }
    drawing.Mark(
        css,
        point.is_base      ? SvgMark::kRing
        : point.is_uniform ? SvgMark::kSquare
                           : SvgMark::kDot,
        spot.x, spot.y, 5.5,
        fmt::format("{}: {}, {}", point.name, FormatBytesShort(static_cast<uint64_t>(point.bytes)),
                    ChangeText(point.value, point.interval.high - point.interval.low)));
    labels.Draw(&drawing, point.is_base ? "halo" : "halo strong", spot, point.name);
  }
  return drawing.Finish();
}

}  // namespace ram
