// The plots of a study: what every byte buys, and what plans do at equal bytes.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "ram/base/bytes.h"
#include "ram/report/compare_table.h"
#include "ram/report/plot_axes.h"
#include "ram/report/plot_labels.h"
#include "ram/report/plot_scale.h"
#include "ram/report/study_page.h"
#include "ram/report/study_text.h"
#include "ram/report/svg.h"

namespace ram {
namespace {

constexpr double kHeight = 430;
constexpr double kLeft = 76;
constexpr double kRight = 816;
constexpr double kTop = 58;
constexpr double kBottom = 370;
constexpr SvgBox kFrame = {kLeft, kTop, kRight, kBottom};
constexpr double kLegendStep = 30;  // Beside the text.

// How an arm is drawn; arms that look alike share a place in the legend.
struct Look {
  std::string_view legend;
  std::string_view css;
  SvgMark mark;
  bool is_curve;  // Plans of one method are joined.
  double radius;
};

Look LookOf(const Study& study, const StudyArm& arm) {
  if (arm.is_null) return {"nulls", "other", SvgMark::kRing, true, 3.5};
  if (arm.kind == ArmSpec::Kind::kPlanned) {
    if (study.ours && arm.method == *study.ours) return {"ours", "first", SvgMark::kDot, true, 5.5};
    return {"other plans", "third", SvgMark::kDiamond, true, 4.5};
  }
  if (arm.kind == ArmSpec::Kind::kUniform) return {"uniform", "second", SvgMark::kSquare, false, 5};
  if (arm.kind == ArmSpec::Kind::kRecipe)
    return {"recipes", "second", SvgMark::kDiamond, false, 5.5};
  return {"given", "second", SvgMark::kRing, false, 5};
}

std::string LegendText(const Study& study, const Look& look) {
  std::vector<std::string> methods;
  for (const StudyArm& arm : study.arms) {
    if (arm.kind != ArmSpec::Kind::kPlanned || LookOf(study, arm).legend != look.legend) continue;
    if (std::ranges::find(methods, arm.method) == methods.end()) methods.push_back(arm.method);
  }
  if (look.legend == "ours") return fmt::format("our plans ({})", methods.front());
  if (look.legend == "other plans") return fmt::format("{}", fmt::join(methods, ", "));
  if (look.legend == "nulls") return fmt::format("nulls ({})", fmt::join(methods, ", "));
  if (look.legend == "uniform") return "uniform";
  if (look.legend == "recipes") return "mixed recipes";
  return "given";
}

// Everything but the original and what is about as large.
std::vector<const StudyArm*> ShownArms(const Study& study) {
  std::vector<const StudyArm*> shown;
  for (const StudyArm& arm : study.arms) {
    if (arm.is_original || arm.kind == ArmSpec::Kind::kRounded) continue;
    if (arm.token_kl.mean.value > 0) shown.push_back(&arm);
  }
  // Ours last, on top of the others.
  std::ranges::stable_sort(shown, [&](const StudyArm* a, const StudyArm* b) {
    const auto rank = [&](const StudyArm* arm) {
      return arm->is_null ? 0 : study.ours && arm->method == *study.ours ? 2 : 1;
    };
    return rank(a) < rank(b);
  });
  return shown;
}

SvgAxis SizesAcross(const std::vector<const StudyArm*>& arms) {
  double first = static_cast<double>(arms.front()->bytes);
  double last = first;
  for (const StudyArm* arm : arms) {
    first = std::min(first, static_cast<double>(arm->bytes));
    last = std::max(last, static_cast<double>(arm->bytes));
  }
  const double room = std::max(0.06 * (last - first), 0.01 * last + 1);
  return {std::max(first - room, 0.0), last + room, kLeft, kRight};
}

void DrawLegend(SvgDrawing* drawing, const Study& study, const std::vector<const StudyArm*>& arms) {
  std::vector<Look> looks;
  for (auto arm = arms.rbegin(); arm != arms.rend(); ++arm) {  // Ours first.
    const Look look = LookOf(study, **arm);
    if (std::ranges::find(looks, look.legend, &Look::legend) == looks.end()) looks.push_back(look);
  }
  double x = kLeft;
  for (const Look& look : looks) {
    const std::string text = LegendText(study, look);
    drawing->Mark(look.css, look.mark, x + 5, 12, look.radius);
    drawing->Text("dim", x + 16, 16, TextAnchor::kStart, text);
    x += SvgTextWidth(text) + kLegendStep;
  }
}

struct PlacedArm {
  const StudyArm* arm;
  SvgSpot spot;
  double top;  // Of the interval.
  double bottom;
  std::string tooltip;
  std::string label;  // Empty: none.
};

void DrawArms(SvgDrawing* drawing, const Study& study, const std::vector<PlacedArm>& placed) {
  PlotLabels labels({kLeft, kTop - 16, kRight, kBottom});
  std::map<std::string, std::vector<SvgSpot>> curves;
  for (const PlacedArm& at : placed) {
    labels.Take({at.spot.x - 6, at.spot.y - 6, at.spot.x + 6, at.spot.y + 6});
    labels.Take({at.spot.x - 2, at.top, at.spot.x + 2, at.bottom});
    if (LookOf(study, *at.arm).is_curve) curves[at.arm->method].push_back(at.spot);
  }
  for (auto& [method, spots] : curves) {
    std::ranges::sort(spots, {}, &SvgSpot::x);
    for (size_t i = 1; i < spots.size(); ++i) {
      // Steps along the line, so that labels keep off it.
      for (double t = 0.1; t < 1; t += 0.1) {
        const double x = spots[i - 1].x + t * (spots[i].x - spots[i - 1].x);
        const double y = spots[i - 1].y + t * (spots[i].y - spots[i - 1].y);
        labels.Take({x - 3, y - 3, x + 3, y + 3});
      }
    }
    const StudyArm& arm =
        *std::ranges::find(placed, method, [](const PlacedArm& at) { return at.arm->method; })->arm;
    const Look look = LookOf(study, arm);
    drawing->Path(fmt::format("curve {}{}", look.css, arm.is_null ? " thin" : ""), spots);
  }
  for (const PlacedArm& at : placed) {
    const Look look = LookOf(study, *at.arm);
    if (at.bottom - at.top > 2 * look.radius && !at.arm->is_null) {
      drawing->Line(fmt::format("{} span", look.css), at.spot.x, at.top, at.spot.x, at.bottom);
    }
    drawing->Mark(look.css, look.mark, at.spot.x, at.spot.y, look.radius, at.tooltip);
  }
  for (const PlacedArm& at : placed) {
    if (!at.label.empty()) labels.Draw(drawing, "halo strong", at.spot, at.label);
  }
}

bool IsLabelled(const StudyArm& arm) { return arm.kind != ArmSpec::Kind::kPlanned; }

}  // namespace

std::string StudyDivergencePlot(std::string_view id, const Study& study) {
  const std::vector<const StudyArm*> arms = ShownArms(study);
  if (arms.size() < 2) return "";
  const SvgAxis across = SizesAcross(arms);
  double low = arms.front()->token_kl.mean.value;
  double high = low;
  for (const StudyArm* arm : arms) {
    low = std::min(low, arm->token_kl.mean.value);
    high = std::max(high, arm->token_kl.mean.value);
  }
  low /= 1.5;
  high *= 1.5;
  const SvgAxis down = {std::log10(low), std::log10(high), kBottom, kTop};
  SvgDrawing drawing(id, kHeight, "Size and divergence",
                     "Size against the mean divergence from the original, on a logarithmic axis, "
                     "with 95 % intervals; the table has the numbers.");
  for (const double tick : CostTicks(low, high)) {
    const double y = down.At(std::log10(tick));
    drawing.Line("grid", kLeft, y, kRight, y);
    drawing.Text("dim", kLeft - 10, y + 4, TextAnchor::kEnd, CostTickText(tick));
  }
  DrawSizesAcross(&drawing, across, kFrame);
  drawing.Text("dim", kLeft - 66, kTop - 14, TextAnchor::kStart,
               "KL from the original, nats per token");
  std::vector<PlacedArm> placed;
  for (const StudyArm* arm : arms) {
    const Estimate& kl = arm->token_kl.mean;
    const auto at = [&](double value) { return down.At(std::log10(std::max(value, low))); };
    const bool has_interval = std::isfinite(kl.interval.low) && std::isfinite(kl.interval.high);
    placed.push_back(
        {arm,
         {across.At(static_cast<double>(arm->bytes)), at(kl.value)},
         at(has_interval ? kl.interval.high : kl.value),
         at(has_interval ? kl.interval.low : kl.value),
         fmt::format("{}: {}, {:.2f} bits per weight, KL {}", arm->name,
                     FormatBytesShort(arm->bytes), arm->bits_per_weight, DivergenceText(kl.value)),
         IsLabelled(*arm) ? arm->name : ""});
  }
  DrawArms(&drawing, study, placed);
  DrawLegend(&drawing, study, arms);
  return drawing.Finish();
}

std::string StudyPerplexityPlot(std::string_view id, const Study& study) {
  const std::vector<const StudyArm*> arms = ShownArms(study);
  if (arms.size() < 2) return "";
  const SvgAxis across = SizesAcross(arms);
  // A broken arm would flatten the others: what is far beyond them lands on the edge, with its
  // number.
  std::vector<double> values;
  values.reserve(arms.size());
  for (const StudyArm* arm : arms) values.push_back(std::abs(arm->typical.value));
  const double most = std::max(8 * Median(Sorted(values)), 3 * study.margin);
  double low = 0;
  double high = study.margin;
  for (const StudyArm* arm : arms) {
    const Estimate& typical = arm->typical;
    for (const double value : {typical.value, typical.interval.low, typical.interval.high}) {
      if (!std::isfinite(value) || std::abs(typical.value) > most) continue;
      low = std::min(low, value);
      high = std::max(high, value);
    }
  }
  const double room = 0.08 * (high - low);
  const SvgAxis down = {low - room, high + room, kBottom, kTop};
  SvgDrawing drawing(id, kHeight, "Size and perplexity",
                     "Size against the perplexity of the typical window relative to the original, "
                     "with 95 % intervals; the table has the numbers.");
  DrawRatiosDown(&drawing, down, kLeft, kRight, 7);
  DrawSizesAcross(&drawing, across, kFrame);
  const double margin = down.At(study.margin);
  drawing.Line("limit", kLeft, margin, kRight, margin);
  drawing.Text("dim halo", kRight, margin - 6, TextAnchor::kEnd,
               fmt::format("margin {:.2g} %", 100 * std::expm1(study.margin)));
  drawing.Text("dim", kLeft - 66, kTop - 14, TextAnchor::kStart,
               "perplexity against the original, typical window");
  std::vector<PlacedArm> placed;
  for (const StudyArm* arm : arms) {
    const Estimate& typical = arm->typical;
    const double width = typical.interval.high - typical.interval.low;
    const bool has_interval = std::isfinite(width);
    const bool beyond = typical.value > down.last;
    const std::string change = ChangeText(typical.value, has_interval ? width : study.margin);
    placed.push_back({arm,
                      {across.At(static_cast<double>(arm->bytes)), down.At(typical.value)},
                      down.At(has_interval ? typical.interval.high : typical.value),
                      down.At(has_interval ? typical.interval.low : typical.value),
                      fmt::format("{}: {}, {}", arm->name, FormatBytesShort(arm->bytes), change),
                      beyond && !arm->is_null ? fmt::format("{}: {}", arm->method, change)
                      : IsLabelled(*arm)      ? arm->name
                                              : ""});
  }
  DrawArms(&drawing, study, placed);
  DrawLegend(&drawing, study, arms);
  return drawing.Finish();
}

std::string StudyRatioPlot(std::string_view id, const Study& study) {
  constexpr double kNames = 190;
  constexpr double kNumbers = 640;
  constexpr double kRow = 22;
  constexpr double kHeading = 34;
  constexpr double kStart = 18;
  double low = 0;
  double high = 0;
  double height = kStart;
  const auto groups = StudyRows(study);
  bool has_any = false;
  for (const std::vector<StudyRow>& group : groups) {
    bool has_group = false;
    for (const StudyRow& row : group) {
      if (row.against_baseline == nullptr || !std::isfinite(row.against_baseline->kl.value))
        continue;
      const Estimate& kl = row.against_baseline->kl;
      has_group = true;
      height += kRow;
      for (const double value : {kl.value, kl.interval.low, kl.interval.high}) {
        // An interval from few windows may be endless.
        if (std::isfinite(value)) low = std::min(low, std::max(value, kl.value - 3));
        if (std::isfinite(value)) high = std::max(high, std::min(value, kl.value + 3));
      }
    }
    if (has_group) height += kHeading;
    has_any = has_any || has_group;
  }
  if (!has_any) return "";
  const double room = std::max(0.05 * (high - low), 1e-3);
  const SvgAxis across = {low - room, high + room, kNames, kNumbers - 20};
  SvgDrawing drawing(id, height + 52, "Divergence at equal bytes",
                     "For every plan its divergence relative to that of the arm whose bytes it was "
                     "given, with 95 % intervals.");
  DrawRatiosAcross(&drawing, across, kStart, height, 8);
  double y = kStart;
  for (const std::vector<StudyRow>& group : groups) {
    bool is_first = true;
    for (const StudyRow& row : group) {
      if (row.against_baseline == nullptr || !std::isfinite(row.against_baseline->kl.value))
        continue;
      const StudyPair& pair = *row.against_baseline;
      if (is_first) {
        const StudyArm& baseline = study.arms[pair.b];
        drawing.Text("strong", 0, y + 22, TextAnchor::kStart,
                     fmt::format("against {}", baseline.name));
        drawing.Text("dim", kDrawingWidth, y + 22, TextAnchor::kEnd,
                     fmt::format("{}, {:.2f} bpw", FormatBytesShort(baseline.bytes),
                                 baseline.bits_per_weight));
        y += kHeading;
        is_first = false;
      }
      const StudyArm& arm = study.arms[row.arm];
      const Look look = LookOf(study, arm);
      const double middle = y + kRow / 2;
      drawing.Text(arm.is_null ? "dim" : "", 14, middle + 4, TextAnchor::kStart,
                   SvgCutText(arm.method, kNames - 30));
      if (std::isfinite(pair.kl.interval.low)) {
        drawing.Line(fmt::format("{} span", look.css), across.At(pair.kl.interval.low), middle,
                     across.At(pair.kl.interval.high), middle);
      }
      drawing.Mark(look.css, look.mark, across.At(pair.kl.value), middle, 4.5,
                   fmt::format("{}: {} times the divergence of {}", arm.name,
                               RatioText(pair.kl.value), study.arms[pair.b].name));
      drawing.Text("strong", kNumbers + 44, middle + 4, TextAnchor::kEnd, RatioText(pair.kl.value));
      drawing.Text("dim", kDrawingWidth, middle + 4, TextAnchor::kEnd,
                   RatioIntervalText(pair.kl.interval));
      y += kRow;
    }
  }
  drawing.Line("axis", kNames, height, kNumbers - 20, height);
  drawing.Text("dim", kNumbers - 20, height + 42, TextAnchor::kEnd,
               "divergence against that of the arm of the same bytes");
  return drawing.Finish();
}

}  // namespace ram
