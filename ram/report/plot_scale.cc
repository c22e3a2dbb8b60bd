#include "ram/report/plot_scale.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "ram/base/bytes.h"
#include "ram/report/plan_facts.h"

namespace ram {
namespace {

// The last part of the curve falls to 0 within a few tensors: the plot ends before it does.
constexpr double kShownShare = 0.985;
constexpr double kSmallestShownCost = 1e-9;  // Of the largest.
constexpr size_t kMostKnees = 4;

}  // namespace

double PlotRange::Across(double bytes) const {
  return (bytes - static_cast<double>(first_bytes)) / static_cast<double>(last_bytes - first_bytes);
}

double PlotRange::Down(double cost) const {
  return std::log10(largest_cost / cost) / std::log10(largest_cost / smallest_cost);
}

double CurveCostAt(const CurvePlotData& data, uint64_t bytes) {
  if (data.curve.empty()) return 0;
  const auto after =
      std::upper_bound(data.curve.begin(), data.curve.end(), bytes,
                       [](uint64_t size, const PlotPoint& point) { return size < point.bytes; });
  if (after == data.curve.begin()) return data.curve.front().cost;
  const PlotPoint& before = *(after - 1);
  if (after == data.curve.end()) return before.cost;
  const double share =
      static_cast<double>(bytes - before.bytes) / static_cast<double>(after->bytes - before.bytes);
  return before.cost + share * (after->cost - before.cost);
}

PlotRange RangeOf(const CurvePlotData& data) {
  PlotRange range;
  const auto num_positive = std::count_if(data.curve.begin(), data.curve.end(),
                                          [](const PlotPoint& point) { return point.cost > 0; });
  if (num_positive < 2) return range;
  range.first_bytes = data.curve.front().bytes;
  range.last_bytes = std::max(data.curve.back().bytes, data.dense_bytes);
  range.largest_cost = data.curve.front().cost;

  const double shown = kShownShare * static_cast<double>(range.last_bytes - range.first_bytes);
  double smallest = CurveCostAt(data, range.first_bytes + static_cast<uint64_t>(shown));
  if (!(smallest > 0)) {  // The curve ends early: its last point of any cost.
    for (const PlotPoint& point : data.curve) {
      if (point.cost > 0) smallest = point.cost;
    }
  }
  range.smallest_cost = std::max(smallest, range.largest_cost * kSmallestShownCost);
  for (const auto* points : {&data.references, &data.chosen}) {
    for (const PlotPoint& point : *points) {
      if (!(point.cost > 0)) continue;
      range.first_bytes = std::min(range.first_bytes, point.bytes);
      range.last_bytes = std::max(range.last_bytes, point.bytes);
      range.largest_cost = std::max(range.largest_cost, point.cost);
      range.smallest_cost = std::min(range.smallest_cost, point.cost);
    }
  }
  // Room around the points, and for their labels.
  const uint64_t margin = (range.last_bytes - range.first_bytes) / 32;
  range.first_bytes -= std::min(margin, range.first_bytes);
  range.last_bytes += margin / 2;
  range.largest_cost *= std::pow(range.largest_cost / range.smallest_cost, 0.09);
  range.smallest_cost /= 1.15;
  return range;
}

SizeAxis SizeTicks(uint64_t first_bytes, uint64_t last_bytes, size_t most) {
  SizeAxis axis;
  const uint64_t span = last_bytes - std::min(first_bytes, last_bytes);
  uint64_t unit = 1;
  axis.unit = "bytes";
  constexpr std::array<std::pair<std::string_view, uint64_t>, 3> kUnits = {
      {{"GiB", kGiB}, {"MiB", kMiB}, {"KiB", kKiB}}};
  for (const auto& [name, bytes] : kUnits) {
    if (last_bytes >= bytes + bytes / 2 && span >= bytes / 2) {
      axis.unit = name;
      unit = bytes;
      break;
    }
  }
  // Decimal steps below the unit, doubling ones above it, as sizes of memory do.
  const double unit_bytes = static_cast<double>(unit);
  const double units = static_cast<double>(span) / unit_bytes;
  double step = 0.1;
  for (const double next : {0.2, 0.5, 1.0}) {
    if (units / step >= static_cast<double>(most)) step = next;
  }
  while (units / step >= static_cast<double>(most)) step *= 2;
  const double first = static_cast<double>(first_bytes) / unit_bytes;
  const double last = static_cast<double>(last_bytes) / unit_bytes;
  for (double k = std::ceil(first / step); k * step <= last; ++k) {
    axis.ticks.push_back(
        {k * step * unit_bytes, fmt::format("{:.{}f}", k * step, step < 1 ? 1 : 0)});
  }
  return axis;
}

std::vector<double> CostTicks(double smallest, double largest) {
  std::vector<double> ticks;
  const int first = static_cast<int>(std::floor(std::log10(smallest)));
  const int last = static_cast<int>(std::ceil(std::log10(largest)));
  const int stride = std::max(1, (last - first) / 8);
  const bool has_few = last - first <= 3;
  for (int power = first; power <= last; power += stride) {
    for (const double factor : {1.0, 2.0, 5.0}) {
      if (factor != 1.0 && !has_few) continue;
      const double tick = factor * std::pow(10.0, power);
      if (tick >= smallest && tick <= largest) ticks.push_back(tick);
    }
  }
  return ticks;
}

std::string CostTickText(double tick) {
  std::string text = fmt::format("{:g}", tick);
  for (const std::string_view padded : {"e-0", "e+0"}) {
    const size_t at = text.find(padded);
    if (at != std::string::npos) text.erase(at + 2, 1);
  }
  return text;
}

std::vector<int> BitTicks(uint64_t first_bytes, uint64_t last_bytes, uint64_t num_weights) {
  std::vector<int> ticks;
  if (num_weights == 0) return ticks;
  constexpr std::array<int, 11> kBitsShown = {1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16};
  for (const int bits : kBitsShown) {
    const double bytes = bits / 8.0 * static_cast<double>(num_weights);
    if (bytes >= static_cast<double>(first_bytes) && bytes <= static_cast<double>(last_bytes)) {
      ticks.push_back(bits);
    }
  }
  return ticks;
}

CurvePlotData MakeCurvePlot(const RateTable& rates, const Problem& problem, const Curve& curve,
                            Objective objective, const std::vector<const Plan*>& plans) {
  CurvePlotData data;
  data.title = ShortModelName(rates.model);
  data.num_weights = rates.num_weights();
  data.dense_bytes = rates.dense_bytes();
  for (size_t k = 0; k < curve.bytes.size(); ++k) {
    data.curve.push_back(
        {problem.fixed_bytes + curve.bytes[k], AsDouble(curve.cost[k]) * kCostUnit, ""});
  }
  for (const size_t k : FindKnees(curve, kMostKnees)) {
    PlotPoint knee = data.curve[k];
    knee.label = FormatBytesShort(knee.bytes);
    data.knees.push_back(std::move(knee));
  }
  for (const int bits : {3, 4, 5, 6, 8}) {
    const Choice choice = Choice::Affine(bits, /*group_size=*/64);
    data.references.push_back(
        {UniformReferenceBytes(rates, choice),
         AsDouble(UniformReferenceCost(rates, choice, problem.alphas, objective)) * kCostUnit,
         fmt::format("uniform {}-bit", bits)});
  }
  for (const Plan* plan : plans) {
    data.chosen.push_back(
        {plan->bytes, AsDouble(plan->cost) * kCostUnit, FormatBytesShort(plan->bytes)});
  }
  return data;
}

}  // namespace ram
