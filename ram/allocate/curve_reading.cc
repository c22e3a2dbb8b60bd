// What a person reads off the budget curve: its knees, and what a few more bytes would buy.

#include <algorithm>
#include <cmath>

#include "ram/allocate/allocate.h"

namespace ram {
namespace {

// A bend is worth reporting if the curve departs by this share of its whole fall in log cost from
// the straight line between its neighbours.
constexpr double kMinBend = 0.02;

// Piece of the curve between two breakpoints and the breakpoint farthest from its chord.
struct Segment {
  size_t first, last;
  size_t farthest = 0;
  double below = 0;  // How far `farthest` lies below the chord, in log cost; < 0: above.
};

Segment MeasureSegment(const Curve& curve, const std::vector<double>& log_cost, size_t first,
                       size_t last) {
  Segment segment{first, last};
  const double start = static_cast<double>(curve.bytes[first]);
  const double slope =
      (log_cost[last] - log_cost[first]) / (static_cast<double>(curve.bytes[last]) - start);
  for (size_t k = first + 1; k < last; ++k) {
    const double chord = log_cost[first] + slope * (static_cast<double>(curve.bytes[k]) - start);
    const double below = chord - log_cost[k];
    if (std::abs(below) > std::abs(segment.below)) {
      segment.below = below;
      segment.farthest = k;
    }
  }
  return segment;
}

// Cost of the best mixture of plans at `bytes`: linear between breakpoints.
double CostAt(const Curve& curve, uint64_t bytes) {
  const auto after = std::upper_bound(curve.bytes.begin(), curve.bytes.end(), bytes);
  if (after == curve.bytes.begin()) return static_cast<double>(curve.cost.front());
  const size_t k = static_cast<size_t>(after - curve.bytes.begin()) - 1;
  if (after == curve.bytes.end()) return static_cast<double>(curve.cost[k]);
  const Increment& step = curve.increments[k];
  const double share =
      static_cast<double>(bytes - curve.bytes[k]) / static_cast<double>(step.bytes);
  return static_cast<double>(curve.cost[k + 1]) + (1 - share) * static_cast<double>(step.cost);
}

}  // namespace

// Splits the curve at its sharpest bend, then the piece with the next sharpest, and so on. Splits
// at points above their chord only delimit (the fall towards cost 0 near the heaviest plan is one);
// points below are knees.
std::vector<size_t> FindKnees(const Curve& curve, size_t max_knees) {
  std::vector<double> log_cost;
  for (const WideInt cost : curve.cost) {
    if (cost <= 0) break;  // Only the last can be 0; its logarithm would hide all bends.
    log_cost.push_back(std::log(static_cast<double>(cost)));
  }
  std::vector<size_t> knees;
  if (log_cost.size() < 3) return knees;
  const double min_bend = kMinBend * (log_cost.front() - log_cost.back());

  std::vector<Segment> segments{MeasureSegment(curve, log_cost, 0, log_cost.size() - 1)};
  while (knees.size() < max_knees) {
    const auto sharpest = std::max_element(
        segments.begin(), segments.end(),
        [](const Segment& a, const Segment& b) { return std::abs(a.below) < std::abs(b.below); });
    const Segment split = *sharpest;
    if (std::abs(split.below) <= min_bend) break;
    if (split.below > 0) knees.push_back(split.farthest);
    *sharpest = MeasureSegment(curve, log_cost, split.first, split.farthest);
    segments.push_back(MeasureSegment(curve, log_cost, split.farthest, split.last));
  }
  std::sort(knees.begin(), knees.end());
  return knees;
}

double ShadowSaving(const Curve& curve, uint64_t bytes, uint64_t more_bytes) {
  const double now = CostAt(curve, bytes);
  if (now <= 0) return 0;
  const uint64_t then_bytes = bytes + std::min(more_bytes, UINT64_MAX - bytes);
  return 1 - CostAt(curve, then_bytes) / now;
}

}  // namespace ram
