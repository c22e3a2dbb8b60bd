// The hull of every item and the order of all hull increments: the budget curve.

#include <algorithm>

#include "fmt/format.h"
#include "ram/allocate/allocate.h"

namespace ram {
namespace {

// Bytes of a whole plan stay below this, so that a difference of bytes times a difference of costs
// (each below 2^63) is below 2^126 and the sum of two such products fits WideInt.
constexpr uint64_t kMaxBytes = uint64_t{1} << 63;

bool IsLighter(const Option& a, const Option& b) {
  return a.bytes < b.bytes || (a.bytes == b.bytes && a.cost < b.cost);
}

// Insertion sort: items have about 20 options, most of them in order already, and it is stable, so
// that the first of two equal options stands for both.
void SortByBytes(std::vector<Option>& options) {
  if (options.size() > 64) {
    std::stable_sort(options.begin(), options.end(), IsLighter);
    return;
  }
  for (size_t i = 1; i < options.size(); ++i) {
    const Option option = options[i];
    size_t j = i;
    for (; j > 0 && IsLighter(option, options[j - 1]); --j) options[j] = options[j - 1];
    options[j] = option;
  }
}

// Sorts `options` and leaves in `hull` those on the lower convex hull: bytes rise, costs fall, and
// the saving per byte falls strictly.
void LowerHull(std::vector<Option>& options, std::vector<Option>& hull) {
  SortByBytes(options);
  hull.clear();
  for (const Option& next : options) {
    if (!hull.empty() && next.cost >= hull.back().cost) continue;  // Heavier and not better.
    while (hull.size() >= 2) {
      const Option& a = hull[hull.size() - 2];
      const Option& b = hull.back();
      const WideInt saved_ab =
          WideInt{a.cost - b.cost} * static_cast<int64_t>(next.bytes - a.bytes);
      const WideInt saved_an =
          WideInt{a.cost - next.cost} * static_cast<int64_t>(b.bytes - a.bytes);
      if (saved_ab > saved_an) break;
      hull.pop_back();  // b lies on or above the line from a to next.
    }
    hull.push_back(next);
  }
}

// Steepest first. The quotient of the rounded numbers is within 3 * 2^-53 of the slope, so it
// decides unless two slopes are nearly equal; then the cross product does. Slopes within an item
// differ, so the item breaks all ties and the order is total.
struct SlopeKey {
  double slope;
  size_t index;
};

class SteeperThan {
 public:
  explicit SteeperThan(const std::vector<Increment>& increments) : increments_(increments) {}

  bool operator()(const SlopeKey& a, const SlopeKey& b) const {
    if (a.slope > b.slope * kClearlyMore) return true;
    if (b.slope > a.slope * kClearlyMore) return false;
    const Increment& x = increments_[a.index];
    const Increment& y = increments_[b.index];
    const WideInt left = WideInt{x.cost} * static_cast<int64_t>(y.bytes);
    const WideInt right = WideInt{y.cost} * static_cast<int64_t>(x.bytes);
    return left != right ? left > right : x.item < y.item;
  }

 private:
  static constexpr double kClearlyMore = 1 + 0x1p-49;
  const std::vector<Increment>& increments_;
};

std::vector<Increment> SteepestFirst(const std::vector<Increment>& increments) {
  std::vector<SlopeKey> keys(increments.size());
  for (size_t i = 0; i < increments.size(); ++i) {
    const Increment& step = increments[i];
    keys[i] = {static_cast<double>(step.cost) / static_cast<double>(step.bytes), i};
  }
  std::sort(keys.begin(), keys.end(), SteeperThan(increments));
  std::vector<Increment> sorted;
  sorted.reserve(keys.size());
  for (const SlopeKey& key : keys) sorted.push_back(increments[key.index]);
  return sorted;
}

Error BadItem(size_t item, const char* what) {
  return {ErrorCode::kInvalidArgument, fmt::format("item {} {}", item, what)};
}

}  // namespace

Result<Curve> BuildCurve(std::span<const Item> items) {
  Curve curve;
  curve.first_choices.reserve(items.size());
  std::vector<Increment> increments;
  std::vector<Option> options, hull;
  uint64_t lightest = 0, heaviest = 0;
  WideInt cost = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    if (items[i].options.empty()) return BadItem(i, "has no options");
    options.assign(items[i].options.begin(), items[i].options.end());
    for (const Option& option : options) {
      if (option.cost < 0) return BadItem(i, "has an option of negative cost");
    }
    LowerHull(options, hull);
    if (options.back().bytes >= kMaxBytes - heaviest) {
      return BadItem(i, "brings the heaviest plan to 2^63 bytes or more");
    }
    heaviest += options.back().bytes;
    lightest += hull.front().bytes;
    cost += hull.front().cost;
    curve.first_choices.push_back(hull.front().choice);
    for (size_t j = 1; j < hull.size(); ++j) {
      increments.push_back({hull[j].bytes - hull[j - 1].bytes, hull[j - 1].cost - hull[j].cost, i,
                            hull[j - 1].choice, hull[j].choice});
    }
  }
  curve.increments = SteepestFirst(increments);

  curve.bytes.reserve(increments.size() + 1);
  curve.cost.reserve(increments.size() + 1);
  curve.bytes.push_back(lightest);
  curve.cost.push_back(cost);
  for (const Increment& step : curve.increments) {
    curve.bytes.push_back(curve.bytes.back() + step.bytes);
    curve.cost.push_back(curve.cost.back() - step.cost);
  }
  return curve;
}

}  // namespace ram
