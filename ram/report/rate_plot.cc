// Rate and distortion of three modules: the one that quantization hurts most, least, and the
// middle.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "ram/report/plan_facts.h"
#include "ram/report/report_plots.h"
#include "ram/report/svg.h"

namespace ram {
namespace {

constexpr double kHeight = 420;
constexpr double kLeft = 60;
constexpr double kRight = 816;
constexpr double kTop = 76;
constexpr double kBottom = 360;

struct RatePoint {
  Choice choice;
  double bits_per_weight = 0;
  double sqnr_db = 0;
};

struct RateCurve {
  const ModuleRates* module = nullptr;
  std::string role;
  std::vector<RatePoint> points;  // Every affine choice with an error.
};

std::vector<RatePoint> PointsOf(const ModuleRates& module) {
  std::vector<RatePoint> points;
  const auto num_weights = static_cast<double>(module.num_weights());
  for (const ChoiceRate& rate : module.choices) {
    if (rate.choice.mode != Mode::kAffine || num_weights == 0) continue;
    const double sqnr_db = SqnrDb(module.sum_squares, rate.sum_squares_error);
    if (!std::isfinite(sqnr_db)) continue;
    points.push_back({rate.choice, 8 * static_cast<double>(rate.bytes) / num_weights, sqnr_db});
  }
  std::sort(points.begin(), points.end(), [](const RatePoint& a, const RatePoint& b) {
    return a.bits_per_weight < b.bits_per_weight;
  });
  return points;
}

// Signal to noise at four bits, the largest groups there are: what modules are ordered by.
double FourBitSqnr(const std::vector<RatePoint>& points) {
  for (const RatePoint& point : points) {
    if (point.choice.bits == 4) return point.sqnr_db;
  }
  return kUndefined;
}

std::vector<RateCurve> ChooseCurves(const RateTable& rates) {
  std::vector<RateCurve> curves;
  for (const ModuleRates& module : rates.modules) {
    RateCurve curve = {&module, "", PointsOf(module)};
    if (std::isfinite(FourBitSqnr(curve.points))) curves.push_back(std::move(curve));
  }
  if (curves.empty()) return curves;
  std::stable_sort(curves.begin(), curves.end(), [](const RateCurve& a, const RateCurve& b) {
    return FourBitSqnr(a.points) < FourBitSqnr(b.points);
  });
  std::vector<RateCurve> chosen;
  const auto add = [&](size_t k, std::string_view role) {
    chosen.push_back(curves[k]);
    chosen.back().role = role;
  };
  add(0, curves.size() == 1 ? "the only module" : "worst at 4 bits");
  if (curves.size() > 2) add(curves.size() / 2, "median");
  if (curves.size() > 1) add(curves.size() - 1, "best at 4 bits");
  return chosen;
}

const PlannedModule* FindPlanned(const Plan* plan, const std::string& name) {
  if (plan == nullptr) return nullptr;
  for (const PlannedModule& module : plan->modules) {
    if (module.name == name) return &module;
  }
  return nullptr;
}

// Choices that no smaller one beats.
std::vector<RatePoint> BestPoints(const std::vector<RatePoint>& points) {
  std::vector<RatePoint> best;
  for (const RatePoint& point : points) {
    if (best.empty() || point.sqnr_db > best.back().sqnr_db) best.push_back(point);
  }
  return best;
}

void DrawMark(const RateCurve& curve, const RatePoint& point, std::string_view css, SvgMark mark,
              const SvgAxis& across, const SvgAxis& up, SvgDrawing* drawing) {
  const bool is_chosen = mark == SvgMark::kRing;
  drawing->Mark(css, mark, across.At(point.bits_per_weight), up.At(point.sqnr_db),
                is_chosen ? 7 : 2.6,
                fmt::format("{} {}: {:.2f} bits per weight, {:.1f} dB{}", curve.module->name,
                            SpokenChoice(point.choice), point.bits_per_weight, point.sqnr_db,
                            is_chosen ? ", the plan's choice" : ""));
}

void DrawCurve(const RateCurve& curve, std::string_view css, const SvgAxis& across,
               const SvgAxis& up, SvgDrawing* drawing) {
  std::vector<SvgSpot> spots;
  for (const RatePoint& point : BestPoints(curve.points)) {
    spots.push_back({across.At(point.bits_per_weight), up.At(point.sqnr_db)});
  }
  drawing->Path(fmt::format("curve {}", css), spots);
  for (const RatePoint& point : curve.points) {
    DrawMark(curve, point, css, SvgMark::kDot, across, up, drawing);
  }
}

}  // namespace

std::string RatePlot(std::string_view id, const RateTable& rates, const Plan* plan) {
  const std::vector<RateCurve> curves = ChooseCurves(rates);
  if (curves.empty()) return "";
  const RatePoint& any = curves.front().points.front();
  SvgAxis across = {any.bits_per_weight, any.bits_per_weight, kLeft, kRight};
  SvgAxis up = {any.sqnr_db, any.sqnr_db, kBottom, kTop};
  for (const RateCurve& curve : curves) {
    for (const RatePoint& point : curve.points) {
      across.first = std::min(across.first, point.bits_per_weight);
      across.last = std::max(across.last, point.bits_per_weight);
      up.first = std::min(up.first, point.sqnr_db);
      up.last = std::max(up.last, point.sqnr_db);
    }
  }
  across.first -= 0.25;
  across.last += 0.25;
  up.first -= 2;
  up.last += 2;

  SvgDrawing drawing(id, kHeight, "Rate and distortion",
                     "Signal to quantization noise in decibels against bits per weight, for the "
                     "modules that lose most, least, and as much as the middle one at 4 bits.");
  for (const double tick : NiceTicks(up.first, up.last, 7)) {
    const double y = up.At(tick);
    drawing.Line("grid", kLeft, y, kRight, y);
    drawing.Text("dim", kLeft - 10, y + 4, TextAnchor::kEnd, fmt::format("{:g}", tick));
  }
  for (const double tick : NiceTicks(across.first, across.last, 8)) {
    const double x = across.At(tick);
    drawing.Line("grid", x, kTop, x, kBottom);
    drawing.Text("dim", x, kBottom + 20, TextAnchor::kMiddle, fmt::format("{:g}", tick));
  }
  drawing.Line("axis", kLeft, kBottom, kRight, kBottom);
  drawing.Text("dim", kRight, kBottom + 42, TextAnchor::kEnd, "bits per weight of the module");
  drawing.Text("dim", 0, kTop - 10, TextAnchor::kStart, "dB");
  constexpr std::array<std::string_view, 3> kCss = {"second", "third", "first"};
  for (size_t k = 0; k < curves.size(); ++k) {
    const PlannedModule* planned = FindPlanned(plan, curves[k].module->name);
    const std::string_view css = kCss[curves.size() == 1 ? 2 : k];
    DrawCurve(curves[k], css, across, up, &drawing);
    const double y = 12 + 18 * static_cast<double>(k);
    drawing.Path(fmt::format("curve {}", css),
                 std::vector<SvgSpot>{{kLeft, y - 4}, {kLeft + 28, y - 4}});
    drawing.Text(
        "", kLeft + 38, y, TextAnchor::kStart,
        fmt::format(
            "{}: {}{}", curves[k].role, SvgCutText(curves[k].module->name, 420),
            planned == nullptr ? "" : fmt::format(", gets {}", SpokenChoice(planned->choice))));
  }
  // The plan's choices over all curves.
  for (size_t k = 0; k < curves.size(); ++k) {
    const PlannedModule* planned = FindPlanned(plan, curves[k].module->name);
    if (planned == nullptr) continue;
    for (const RatePoint& point : curves[k].points) {
      if (point.choice != planned->choice) continue;
      DrawMark(curves[k], point, kCss[curves.size() == 1 ? 2 : k], SvgMark::kRing, across, up,
               &drawing);
    }
  }
  return drawing.Finish();
}

}  // namespace ram
