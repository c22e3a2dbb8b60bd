// The perplexity of every window: what a mean hides.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "ram/base/bytes.h"
#include "ram/report/report_plots.h"
#include "ram/report/svg.h"
#include "ram/stats/describe.h"

namespace ram {
namespace {

constexpr double kLeft = 176;
constexpr double kRight = 808;
constexpr double kTop = 30;
constexpr double kRowHeight = 64;
constexpr double kScatter = 13;  // Dots stand this far above and below their line [px].

// Ticks of a logarithmic axis [nats].
struct LogTick {
  double log = 0;
  std::string label;
};

std::vector<LogTick> LogTicks(double first, double last) {
  const double ln10 = std::log(10.0);
  const double decades = (last - first) / ln10;
  const double stride = std::max(1.0, std::ceil(decades / 8));
  std::vector<LogTick> ticks;
  for (double power = std::floor(first / ln10); power * ln10 <= last; power += stride) {
    for (const double factor : {1.0, 2.0, 5.0}) {
      if (factor > 1 && decades > 3) continue;
      const double log = power * ln10 + std::log(factor);
      if (log < first - 1e-9 || log > last + 1e-9) continue;
      ticks.push_back({log, power > 6 ? fmt::format("{:g}e{:.0f}", factor, power)
                                      : FormatCount(static_cast<uint64_t>(
                                            std::llround(factor * std::pow(10.0, power))))});
    }
  }
  if (ticks.size() >= 4 || decades > 3) return ticks;
  ticks.clear();  // A narrow range: round perplexities instead.
  for (const double p : NiceTicks(std::exp(first), std::exp(last), 5)) {
    ticks.push_back({std::log(p), fmt::format("{:g}", p)});
  }
  return ticks;
}

// All windows, or evenly many of them by rank; the largest always.
std::vector<size_t> WindowsToDraw(const std::vector<double>& nll) {
  std::vector<size_t> order(nll.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return nll[a] > nll[b]; });
  if (order.size() <= kMostDots) return order;
  std::vector<size_t> drawn(order.begin(), order.begin() + kMostDots / 4);
  const size_t left = order.size() - drawn.size();
  const size_t rest = kMostDots - drawn.size();
  for (size_t k = 0; k < rest; ++k) drawn.push_back(order[kMostDots / 4 + k * left / rest]);
  return drawn;
}

// In [-1, 1], the same for a window in every row.
double Scatter(size_t window) {
  const double turn = static_cast<double>(window) * 0.6180339887498949;
  return 2 * (turn - std::floor(turn)) - 1;
}

class WindowPlotter {
 public:
  WindowPlotter(std::string_view id, const ReportGroup& group, const std::vector<size_t>& linked)
      : id_(id), group_(group), linked_(linked) {
    double first = group.models.front().nll.front();
    double last = first;
    for (const ModelScores& model : group.models) {
      for (const double nll : model.nll) {
        first = std::min(first, nll);
        last = std::max(last, nll);
      }
    }
    const double room = std::max(0.03 * (last - first), 0.01);
    axis_ = {std::max(first - room, -0.05), last + room, kLeft, kRight};  // Never below 1.
    bottom_ = kTop + kRowHeight * static_cast<double>(group.models.size());
  }

  std::string Draw() {
    SvgDrawing drawing(id_, bottom_ + 50, "Perplexity of every window",
                       "A row for each model: a dot for each window on a logarithmic axis, and "
                       "below the dots the middle half of them with the median; diamonds are "
                       "above 100.");
    for (const LogTick& tick : LogTicks(axis_.first, axis_.last)) {
      const double x = axis_.At(tick.log);
      drawing.Line("grid", x, kTop, x, bottom_);
      drawing.Text("dim", x, bottom_ + 20, TextAnchor::kMiddle, tick.label);
    }
    const double outlier = std::log(kOutlierPerplexity);
    if (outlier > axis_.first && outlier < axis_.last) {
      const double x = axis_.At(outlier);
      drawing.Line("limit", x, kTop - 8, x, bottom_);
      drawing.Text("dim halo", x, kTop - 14, TextAnchor::kMiddle, "outliers above 100");
    }
    for (size_t m = 0; m < group_.models.size(); ++m) DrawRow(m, &drawing);
    drawing.Line("axis", kLeft, bottom_, kRight, bottom_);
    drawing.Text("dim", kRight, bottom_ + 42, TextAnchor::kEnd, "perplexity of the window");
    return drawing.Finish();
  }

 private:
  void DrawRow(size_t m, SvgDrawing* drawing) const {
    const ModelScores& model = group_.models[m];
    const double y = kTop + kRowHeight * (static_cast<double>(m) + 0.42);
    drawing->Text("strong", 0, y + 2, TextAnchor::kStart, SvgCutText(model.name, kLeft - 14));
    const size_t num_outliers = group_.comparison.summaries[m].num_outliers;
    drawing->Text("dim small", 0, y + 18, TextAnchor::kStart,
                  num_outliers == 0 ? "none above 100" : fmt::format("{} above 100", num_outliers));
    for (const size_t window : WindowsToDraw(model.nll)) DrawDot(model, window, y, drawing);

    const std::vector<double> ascending = Sorted(model.nll);
    const auto at = [&](double q) { return axis_.At(Quantile(ascending, q)); };
    const double box = y + kScatter + 12;
    drawing->Line("first", at(0.05), box, at(0.95), box);
    drawing->Rect("box", {at(0.25), box - 5, at(0.75), box + 5},
                  fmt::format("{}: the middle half of the windows", model.name));
    drawing->Line("first span", at(0.5), box - 7, at(0.5), box + 7);
  }

  void DrawDot(const ModelScores& model, size_t window, double y, SvgDrawing* drawing) const {
    const double nll = model.nll[window];
    const double x = axis_.At(nll);
    const double dot_y = y + kScatter * Scatter(window);
    const std::string text =
        fmt::format("{}, window {}: {}", model.name, group_.windows.labels[window],
                    PerplexityText(std::exp(nll)));
    const bool is_linked = std::find(linked_.begin(), linked_.end(), window) != linked_.end();
    if (is_linked) drawing->BeginLink(fmt::format("{}-window-{}", id_, window), text);
    if (nll > std::log(kOutlierPerplexity)) {
      drawing->Mark("second", SvgMark::kDiamond, x, dot_y, 4, text);
    } else {
      drawing->Mark("first faint", SvgMark::kDot, x, dot_y, 3.2, text);
    }
    if (is_linked) drawing->EndLink();
  }

  std::string id_;
  const ReportGroup& group_;
  const std::vector<size_t>& linked_;
  SvgAxis axis_;
  double bottom_ = 0;
};

}  // namespace

std::string WindowPlot(std::string_view id, const ReportGroup& group,
                       const std::vector<size_t>& linked) {
  if (group.models.empty() || group.models.front().nll.empty()) return "";
  return WindowPlotter(id, group, linked).Draw();
}

}  // namespace ram
