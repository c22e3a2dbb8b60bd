#pragma once

// Allocation: one choice for every item, the least total cost within a budget of bytes, and a proof
// of how good the plan is. Numbers in, plan out: nothing here knows what a tensor is.
//
// The problem is the multiple-choice knapsack. Steps: the lower convex hull of every item; all hull
// increments sorted by slope = the whole budget curve at once; at one budget the Lagrangian dual is
// a lower bound that anybody can check, prefix + greedy fill an upper bound; a list search over the
// few items that can still matter (the core) closes the gap.
// Source: docs/allocation.md; D. Pisinger, "A minimal algorithm for the multiple-choice knapsack
// problem" (1995), for the core.
//
// Costs are whole numbers, so hulls, slopes and bounds are exact and equal on every machine.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ram/base/result.h"

namespace ram {

// One unit of cost is 1e-15 of the objective's unit.
inline constexpr double kCostUnit = 1e-15;
using Cost = int64_t;
using WideInt = __int128;

struct Option {
  uint64_t bytes;
  Cost cost;   // >= 0
  int choice;  // The caller's number for it; reported back.
};

struct Item {
  std::vector<Option> options;  // At least one; any order.
};

// cost per byte as a fraction, num >= 0, den > 0.
struct Lambda {
  int64_t num = 0;
  int64_t den = 1;
};

// One upgrade of one item on the curve.
struct Increment {
  uint64_t bytes;  // Added, > 0.
  Cost cost;       // Saved, > 0.
  size_t item;
  int from, to;  // Option::choice before and after.
};

// The lower convex hull of the whole problem: after the first k increments a plan takes bytes[k]
// and costs cost[k], and no plan of that size costs less.
struct Curve {
  std::vector<Increment> increments;  // Steepest first; ties by item, then by size.
  std::vector<uint64_t> bytes;        // [increments + 1]
  std::vector<WideInt> cost;          // [increments + 1]
  std::vector<int> first_choices;     // Per item: its lightest useful option.
};

// O(n k log k) for n items of k options: 20,000 items of 20 in 26-37 ms. kInvalidArgument names an
// item without options or with a negative cost, and the one that brings the heaviest plan to 2^63
// bytes.
Result<Curve> BuildCurve(std::span<const Item> items);

struct Solution {
  std::vector<int> choices;  // Per item, Option::choice.
  uint64_t bytes = 0;        // <= budget
  WideInt cost = 0;          // Upper bound of the optimum: the cost of `choices`.
  Lambda lambda;             // Of the certificate.
  // Lower bound: sum_i min_j (cost_ij + lambda bytes_ij) - lambda budget, rounded up to a whole
  // unit (the optimum is whole). Whatever lambda is, no plan within the budget costs less.
  WideInt lower_bound = 0;
  // The core was searched to its end: no plan costs less than (1 - relative_gap) * cost. With a gap
  // of 0, `cost` is the optimum and no plan of that cost has fewer bytes.
  bool proven_by_search = false;
  size_t core_items = 0;  // Items that could still have changed the plan when the search began.
  size_t states = 0;      // Kept by the search, over all core items.
};

struct SolveOptions {
  double relative_gap = 0;        // In [0, 1). Stop when no plan costs less than (1 - gap) * cost.
  size_t max_states = 8'000'000;  // Above it the search ends and the bound stands.
};

// `curve` must be that of `items`. Equal costs: fewer bytes. One thread, the same plan on every
// machine; a search of 8 million states takes 0.2 s and a few 100 MB.
// kInvalidArgument if the lightest plan exceeds the budget (the message has both sizes).
Result<Solution> Solve(std::span<const Item> items, const Curve& curve, uint64_t budget_bytes,
                       const SolveOptions& options = {});

// Breakpoints after which a byte buys much less than before: where the curve, drawn as log cost
// against bytes, bends most: by 2 % of its fall at least, sharpest first taken. Indexes into
// Curve::bytes, ascending, at most `max_knees`.
std::vector<size_t> FindKnees(const Curve& curve, size_t max_knees);

// Relative saving that `more_bytes` beyond `bytes` would buy on the curve, which is linear between
// its breakpoints: 0.25 = a quarter less cost. 0 at the end of the curve.
double ShadowSaving(const Curve& curve, uint64_t bytes, uint64_t more_bytes);

}  // namespace ram
