#pragma once

// Exact search over the items that can still change a plan (the core). Internal to allocate.
//
// A plan is described by its difference from the prefix plan at bytes W <= budget. With lambda =
// num / den, a move (another option for an item) has the reduced cost, scaled by den,
//   reduced = den * (cost difference) + num * (bytes difference) >= 0,
// and a plan costs, scaled by den, (exact dual bound) + sum of its reduced + num * (unused bytes).
// So a plan that beats one with `gap` = den * cost - bound needs reduced + num * unused < gap.
//
// The search is a list DP: one item after the other, cheapest first; states (bytes, cost) that are
// not dominated; a state is dropped when even the cheapest way to finish cannot beat the best plan.
//
// Arithmetic: all whole numbers. num, den, bytes of a plan and differences of cost of one item are
// below 2^63, so `reduced` of any option is below 2^127. The gap is at most num * slack < 2^126,
// and as the `reduced` of a kept move, of a state and of a rest are within it, their sums fit as
// well.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ram/allocate/allocate.h"

namespace ram {

struct CoreMove {
  int64_t bytes;  // Against the item's option in the prefix plan.
  Cost cost;
  WideInt reduced;
  int choice;
};

struct CoreItem {
  size_t item;
  WideInt min_reduced;          // Over its moves.
  size_t first_move, end_move;  // Within CoreProblem::moves, by rising `reduced`.
};

struct CorePlan {
  int64_t bytes = 0;  // Against the prefix plan.
  WideInt cost = 0;
};

struct CoreProblem {
  Lambda lambda;        // Parts as large as fit, for the precision of rates per byte.
  int64_t slack;        // Budget - W >= 0, less what no sequence of moves can use.
  WideInt prefix_cost;  // Total, to apply the relative gap.
  double relative_gap;
  std::vector<CoreItem> items;  // By rising min_reduced, ties by item.
  std::vector<CoreMove> moves;
};

// What a plan must satisfy to replace the best one known.
struct CoreLimits {
  WideInt total;    // reduced + num * unused <= total
  WideInt reduced;  // reduced <= this, which is <= total. Negative: no plan can.
};

CoreLimits LimitsToBeat(const CoreProblem& problem, const CorePlan& best);

// Indexes into CoreProblem.
struct CoreDecision {
  size_t item, move;
};

struct CoreResult {
  CorePlan best;
  bool improved = false;                // `best` is better than the plan that was passed in.
  std::vector<CoreDecision> decisions;  // Of `best`, if improved; other items stay.
  bool exhausted = false;               // Nothing beats `best` (by more than the relative gap).
  size_t states = 0;                    // Kept, over all items.
};

struct CoreEffort {
  size_t max_states;  // In all: the search gives up above it.
  size_t max_width;   // Per item: only the most promising are kept (then not exhausted).
};

CoreResult SearchCore(const CoreProblem& problem, const CorePlan& best, const CoreEffort& effort);

}  // namespace ram
