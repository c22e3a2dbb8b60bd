// One budget: the dual bound and its certificate, a plan by greedy fill, and the core that could
// still change it.

#include <algorithm>
#include <numeric>

#include "fmt/format.h"
#include "ram/allocate/allocate.h"
#include "ram/allocate/core_search.h"

namespace ram {
namespace {

// A first, narrow search finds a nearly optimal plan, so that the exact one drops more. On 338
// stacked and 20,000 single tensors widths of 16 to 512 differ by less than the noise of a shared
// machine.
constexpr size_t kDiveWidth = 128;
constexpr size_t kDiveStates = 200'000;

// The plan after a prefix of the curve's increments.
struct PrefixPlan {
  std::vector<uint64_t> bytes;  // Per item, as are the others.
  std::vector<Cost> cost;
  std::vector<int> choices;
};

PrefixPlan MakePrefixPlan(std::span<const Item> items, const Curve& curve, size_t num_increments) {
  PrefixPlan plan;
  plan.bytes.resize(items.size());
  plan.cost.resize(items.size());
  plan.choices = curve.first_choices;
  for (size_t i = 0; i < items.size(); ++i) {
    uint64_t bytes = UINT64_MAX;
    Cost cost = 0;
    for (const Option& option : items[i].options) {
      if (option.bytes < bytes || (option.bytes == bytes && option.cost < cost)) {
        bytes = option.bytes;
        cost = option.cost;
      }
    }
    plan.bytes[i] = bytes;
    plan.cost[i] = cost;
  }
  for (size_t k = 0; k < num_increments; ++k) {
    const Increment& step = curve.increments[k];
    plan.bytes[step.item] += step.bytes;
    plan.cost[step.item] -= step.cost;
    plan.choices[step.item] = step.to;
  }
  return plan;
}

// Takes every later increment that fits and is the next of its item. One that does not fit ends its
// item: what follows it needs more bytes still.
CorePlan FillGreedily(const Curve& curve, size_t num_increments, int64_t slack,
                      std::vector<int>& choices) {
  CorePlan plan;
  std::vector<bool> ended(choices.size(), false);
  for (size_t k = num_increments; k < curve.increments.size() && plan.bytes < slack; ++k) {
    const Increment& step = curve.increments[k];
    if (ended[step.item]) continue;
    if (step.bytes > static_cast<uint64_t>(slack - plan.bytes)) {
      ended[step.item] = true;
      continue;
    }
    plan.bytes += static_cast<int64_t>(step.bytes);
    plan.cost -= step.cost;
    choices[step.item] = step.to;
  }
  return plan;
}

// The same fraction with parts as large as fit, below 2^62 unless they were larger: rates per byte
// are rounded down to whole numbers on this scale.
Lambda ScaleUp(Lambda lambda) {
  while (lambda.num < int64_t{1} << 61 && lambda.den < int64_t{1} << 61) {
    lambda.num *= 2;
    lambda.den *= 2;
  }
  return lambda;
}

// Slope of an increment in lowest terms. Both parts are below 2^63.
Lambda SlopeOf(const Increment& step) {
  const int64_t bytes = static_cast<int64_t>(step.bytes);
  const int64_t divisor = std::gcd(step.cost, bytes);
  return {step.cost / divisor, bytes / divisor};
}

// The moves that a plan better than `best` can contain. All change the bytes by multiples of one
// number, and so does any sequence of them: the rest of the slack is out of reach and is cut off.
// (Tensors have few sizes, so this raises the bound where no plan can meet the budget exactly.)
void CollectCore(std::span<const Item> items, const PrefixPlan& prefix, const CorePlan& best,
                 CoreProblem& core) {
  const CoreLimits limits = LimitsToBeat(core, best);
  const auto [num, den] = core.lambda;
  core.items.clear();
  core.moves.clear();
  int64_t unit = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    const size_t first = core.moves.size();
    for (const Option& option : items[i].options) {
      const int64_t bytes = static_cast<int64_t>(option.bytes - prefix.bytes[i]);
      const Cost cost = option.cost - prefix.cost[i];
      if (bytes >= 0 && cost >= 0) continue;  // Not lighter, not better: or the option itself.
      const WideInt reduced = WideInt{den} * cost + WideInt{num} * bytes;
      if (reduced > limits.reduced) continue;
      core.moves.push_back({bytes, cost, reduced, option.choice});
      unit = std::gcd(unit, bytes);
    }
    if (core.moves.size() == first) continue;
    std::sort(core.moves.begin() + static_cast<std::ptrdiff_t>(first), core.moves.end(),
              [](const CoreMove& a, const CoreMove& b) {
                if (a.reduced != b.reduced) return a.reduced < b.reduced;
                return a.bytes != b.bytes ? a.bytes < b.bytes : a.choice < b.choice;
              });
    core.items.push_back({i, core.moves[first].reduced, first, core.moves.size()});
  }
  if (unit > 0) core.slack -= core.slack % unit;
  std::sort(core.items.begin(), core.items.end(), [](const CoreItem& a, const CoreItem& b) {
    return a.min_reduced != b.min_reduced ? a.min_reduced < b.min_reduced : a.item < b.item;
  });
}

}  // namespace

Result<Solution> Solve(std::span<const Item> items, const Curve& curve, uint64_t budget_bytes,
                       const SolveOptions& options) {
  RAM_CHECK(items.size() == curve.first_choices.size());
  if (!(options.relative_gap >= 0 && options.relative_gap < 1)) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("relative gap {} is not in [0, 1)", options.relative_gap)};
  }
  if (budget_bytes < curve.bytes.front()) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("budget of {} bytes is below the lightest plan of {} bytes",
                             budget_bytes, curve.bytes.front())};
  }
  const auto after = std::upper_bound(curve.bytes.begin(), curve.bytes.end(), budget_bytes);
  const size_t k = static_cast<size_t>(after - curve.bytes.begin()) - 1;
  const PrefixPlan prefix = MakePrefixPlan(items, curve, k);
  RAM_CHECK(std::accumulate(prefix.bytes.begin(), prefix.bytes.end(), uint64_t{0}) ==
            curve.bytes[k]);  // Else the curve is that of other items.

  Solution solution;
  solution.choices = prefix.choices;
  solution.bytes = curve.bytes[k];
  solution.cost = solution.lower_bound = curve.cost[k];
  if (k == curve.increments.size()) {  // Everything at its best: lambda 0 proves it.
    solution.proven_by_search = true;
    return solution;
  }

  // The prefix minimises cost + lambda * bytes, so the dual is its cost - lambda * slack. Rounding
  // that up = rounding the saving down.
  const int64_t slack = static_cast<int64_t>(budget_bytes - curve.bytes[k]);
  solution.lambda = SlopeOf(curve.increments[k]);
  solution.lower_bound -= WideInt{solution.lambda.num} * slack / solution.lambda.den;

  CorePlan best = FillGreedily(curve, k, slack, solution.choices);
  CoreProblem core{ScaleUp(solution.lambda), slack, curve.cost[k], options.relative_gap, {}, {}};
  const auto search = [&](const CoreEffort& effort) {
    CollectCore(items, prefix, best, core);
    CoreResult found = SearchCore(core, best, effort);
    solution.core_items = core.items.size();
    solution.states += found.states;
    solution.proven_by_search = found.exhausted;
    if (!found.improved) return;
    best = found.best;
    solution.choices = prefix.choices;
    for (const CoreDecision& d : found.decisions) {
      solution.choices[core.items[d.item].item] = core.moves[d.move].choice;
    }
  };
  search({std::min(options.max_states, kDiveStates), kDiveWidth});
  if (!solution.proven_by_search) search({options.max_states, SIZE_MAX});
  solution.bytes = curve.bytes[k] + static_cast<uint64_t>(best.bytes);
  solution.cost = curve.cost[k] + best.cost;
  return solution;
}

}  // namespace ram
