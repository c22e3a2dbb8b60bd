#include "ram/allocate/core_search.h"

#include <algorithm>
#include <type_traits>
#include <utility>
#include <vector>

namespace ram {
namespace {

using WideUint = unsigned __int128;

constexpr WideInt kNever = WideInt{1} << 126;
constexpr int64_t kMaxRate = int64_t{1} << 62;
constexpr size_t kMaxStates = size_t{1} << 31;  // Decisions are numbered with 32 bits.
constexpr size_t kMaxCandidates = 4'000'000;    // Of one item, before merging: 100 MB.
constexpr uint32_t kPrefix = UINT32_MAX;        // Root of the tree of decisions.
constexpr uint32_t kStay = UINT32_MAX;

// What the items from some position on can still do.
struct Suffix {
  int64_t can_free;     // Bytes.
  int64_t per_freed;    // Least reduced cost per byte, rounded down.
  int64_t per_added;    // Same; at most num.
  WideInt min_reduced;  // Least reduced cost of any move.
};

// Lowers `rate` to the rate of a move, rounded down. The product is tested first because a division
// of 128 bits takes some 30 ns and is rarely needed.
void LowerRate(WideInt reduced, int64_t bytes, int64_t& rate) {
  if (reduced < WideInt{rate} * bytes) rate = static_cast<int64_t>(reduced / bytes);
}

std::vector<Suffix> MeasureSuffixes(const CoreProblem& problem) {
  const size_t n = problem.items.size();
  std::vector<Suffix> suffixes(n + 1);
  suffixes[n] = {0, kMaxRate, problem.lambda.num, kNever};
  for (size_t q = n; q-- > 0;) {
    Suffix s = suffixes[q + 1];
    int64_t most_freed = 0;
    const CoreItem& item = problem.items[q];
    for (size_t m = item.first_move; m < item.end_move; ++m) {
      const CoreMove& move = problem.moves[m];
      if (move.bytes < 0) {
        most_freed = std::max(most_freed, -move.bytes);
        LowerRate(move.reduced, -move.bytes, s.per_freed);
      } else if (move.bytes > 0) {
        LowerRate(move.reduced, move.bytes, s.per_added);
      }
    }
    s.can_free += most_freed;
    s.min_reduced = std::min(s.min_reduced, item.min_reduced);
    suffixes[q] = s;
  }
  return suffixes;
}

// Sum: type of a sum of cost differences, int64_t where they fit.
template <typename Sum>
class Search {
 public:
  Search(const CoreProblem& problem, const CorePlan& best, const CoreEffort& effort)
      : problem_(problem),
        effort_{std::min(effort.max_states, kMaxStates), effort.max_width},
        limits_(LimitsToBeat(problem, best)) {
    result_.best = best;
  }

  CoreResult Run() {
    const std::vector<Suffix> suffixes = MeasureSuffixes(problem_);
    states_.push_back({0, 0, kPrefix, kStay});
    reduced_.push_back(0);
    result_.exhausted = true;
    for (size_t q = 0; q < problem_.items.size() && !states_.empty(); ++q) {
      if (problem_.items[q].min_reduced > limits_.reduced) break;  // Nor can any after it.
      if (!Extend(q, suffixes[q + 1])) {
        result_.exhausted = false;
        break;
      }
      MergeRuns();
      if (states_.size() > effort_.max_width) KeepMostPromising(suffixes[q + 1]);
      result_.states += states_.size();
      if (result_.states > effort_.max_states) {
        result_.exhausted = false;
        break;
      }
      Settle(q);
    }
    ReadBack();
    return std::move(result_);
  }

 private:
  struct State {
    int64_t bytes;  // Against the prefix plan, as is cost.
    Sum cost;
    uint32_t trail;  // Last decision in trail_, or kPrefix.
    uint32_t move;   // Of the current item: offset from first_move, or kStay.
  };
  struct Decision {
    uint32_t parent, item, move;
  };

  // The products may wrap for a wide Sum; the result is below 2^127 and so exact.
  WideInt Reduced(const State& s) const {
    if constexpr (std::is_same_v<Sum, int64_t>) {
      return WideInt{problem_.lambda.den} * s.cost + WideInt{problem_.lambda.num} * s.bytes;
    } else {
      const WideInt den = problem_.lambda.den, num = problem_.lambda.num;
      return static_cast<WideInt>(static_cast<WideUint>(den) * static_cast<WideUint>(s.cost) +
                                  static_cast<WideUint>(num) *
                                      static_cast<WideUint>(WideInt{s.bytes}));
    }
  }

  // Least reduced + num * unused of a plan that makes at least one more move.
  WideInt LeastTotal(int64_t bytes, WideInt reduced, const Suffix& rest) const {
    const int64_t unused = problem_.slack - bytes;
    return reduced +
           (unused >= 0 ? WideInt{unused} * rest.per_added : WideInt{-unused} * rest.per_freed);
  }

  // Whether a plan that makes at least one more move can be the best.
  bool IsUseful(int64_t bytes, WideInt reduced, const Suffix& rest) const {
    if (reduced + rest.min_reduced > limits_.reduced) return false;
    const int64_t unused = problem_.slack - bytes;
    if (unused >= 0) return LeastTotal(bytes, reduced, rest) <= limits_.total;
    return -unused <= rest.can_free && LeastTotal(bytes, reduced, rest) <= limits_.reduced;
  }

  // Writes to candidates_ one run of states, by rising bytes, for every move of item q and for
  // staying.
  bool Extend(size_t q, const Suffix& rest) {
    const CoreItem& item = problem_.items[q];
    candidates_.clear();
    run_ends_.clear();
    for (size_t i = 0; i < states_.size(); ++i) {
      if (IsUseful(states_[i].bytes, reduced_[i], rest)) candidates_.push_back(states_[i]);
    }
    run_ends_.push_back(candidates_.size());
    for (size_t m = item.first_move; m < item.end_move; ++m) {
      const CoreMove& move = problem_.moves[m];
      if (move.reduced > limits_.reduced) break;
      for (size_t i = 0; i < states_.size(); ++i) {
        const WideInt reduced = reduced_[i] + move.reduced;
        if (reduced > limits_.reduced) continue;
        const State next{states_[i].bytes + move.bytes, states_[i].cost + move.cost,
                         states_[i].trail, static_cast<uint32_t>(m - item.first_move)};
        if (next.bytes <= problem_.slack) Offer(q, next);
        if (IsUseful(next.bytes, reduced, rest)) candidates_.push_back(next);
      }
      if (candidates_.size() != run_ends_.back()) run_ends_.push_back(candidates_.size());
      if (candidates_.size() > kMaxCandidates) return false;
    }
    return true;
  }

  // A plan within the budget: the best so far?
  void Offer(size_t q, const State& s) {
    CorePlan& best = result_.best;
    if (s.cost > best.cost || (s.cost == best.cost && s.bytes >= best.bytes)) return;
    best = {s.bytes, s.cost};
    result_.improved = true;
    trail_.push_back({s.trail, static_cast<uint32_t>(q), s.move});
    best_trail_ = static_cast<uint32_t>(trail_.size() - 1);
    limits_ = LimitsToBeat(problem_, best);
  }

  // Merges neighbouring runs until one is left: states_, by rising bytes and falling cost.
  void MergeRuns() {
    while (run_ends_.size() > 1) {
      merged_.clear();
      merged_.reserve(candidates_.size());
      size_t begin = 0, out = 0;
      for (size_t r = 0; r < run_ends_.size(); r += 2) {
        const size_t middle = run_ends_[r];
        const size_t end = r + 1 < run_ends_.size() ? run_ends_[r + 1] : middle;
        MergeTwo(begin, middle, end);
        run_ends_[out++] = merged_.size();
        begin = end;
      }
      run_ends_.resize(out);
      candidates_.swap(merged_);
    }
    states_.swap(candidates_);
  }

  // Appends the states of two runs that no other of them dominates (as light and as cheap).
  void MergeTwo(size_t begin, size_t middle, size_t end) {
    const State* a = candidates_.data() + begin;
    const State* const a_end = candidates_.data() + middle;
    const State* b = a_end;
    const State* const b_end = candidates_.data() + end;
    const size_t first = merged_.size();
    const auto append = [&](const State& s) {
      if (merged_.size() == first || s.cost < merged_.back().cost) merged_.push_back(s);
    };
    while (a != a_end && b != b_end) {
      const bool take_a = a->bytes < b->bytes || (a->bytes == b->bytes && a->cost <= b->cost);
      append(take_a ? *a++ : *b++);
    }
    while (a != a_end) append(*a++);
    while (b != b_end) append(*b++);
  }

  void KeepMostPromising(const Suffix& rest) {
    result_.exhausted = false;
    std::vector<std::pair<WideInt, size_t>> order;
    order.reserve(states_.size());
    for (size_t i = 0; i < states_.size(); ++i) {
      order.emplace_back(LeastTotal(states_[i].bytes, Reduced(states_[i]), rest), i);
    }
    const auto end = order.begin() + static_cast<std::ptrdiff_t>(effort_.max_width);
    std::nth_element(order.begin(), end, order.end());
    std::sort(order.begin(), end, [](const auto& a, const auto& b) { return a.second < b.second; });
    for (size_t i = 0; i < effort_.max_width; ++i) states_[i] = states_[order[i].second];
    states_.resize(effort_.max_width);
  }

  // Enters the decisions of the states that were kept into the tree.
  void Settle(size_t q) {
    reduced_.resize(states_.size());
    for (size_t i = 0; i < states_.size(); ++i) {
      State& s = states_[i];
      reduced_[i] = Reduced(s);
      if (s.move == kStay) continue;
      trail_.push_back({s.trail, static_cast<uint32_t>(q), s.move});
      s.trail = static_cast<uint32_t>(trail_.size() - 1);
      s.move = kStay;
    }
  }

  void ReadBack() {
    if (!result_.improved) return;
    for (uint32_t t = best_trail_; t != kPrefix; t = trail_[t].parent) {
      const Decision& d = trail_[t];
      result_.decisions.push_back({d.item, problem_.items[d.item].first_move + d.move});
    }
  }

  const CoreProblem& problem_;
  const CoreEffort effort_;
  CoreLimits limits_;
  CoreResult result_;
  std::vector<State> states_, candidates_, merged_;
  std::vector<WideInt> reduced_;  // Of states_.
  std::vector<size_t> run_ends_;
  std::vector<Decision> trail_;
  uint32_t best_trail_ = kPrefix;
};

}  // namespace

CoreLimits LimitsToBeat(const CoreProblem& problem, const CorePlan& best) {
  const auto [num, den] = problem.lambda;
  const WideInt gap = den * best.cost + WideInt{num} * problem.slack;
  // Costs are whole, so a better plan saves at least 1.
  const double allowed =
      problem.relative_gap * static_cast<double>(problem.prefix_cost + best.cost);
  const WideInt step = std::max(WideInt{1}, static_cast<WideInt>(std::min(allowed, 0x1p126)));
  CoreLimits limits{-1, -1};
  if (step <= gap / den) limits.total = limits.reduced = gap - den * step;
  if (problem.relative_gap > 0) return limits;
  // So does a plan of the same cost and fewer bytes: reduced = gap - num * unused.
  const WideInt tie = gap - WideInt{num} * std::max<int64_t>(problem.slack - best.bytes + 1, 0);
  if (tie >= 0) {
    limits.total = gap;
    limits.reduced = std::max(limits.reduced, tie);
  }
  return limits;
}

CoreResult SearchCore(const CoreProblem& problem, const CorePlan& best, const CoreEffort& effort) {
  WideInt range = 0;
  for (const CoreItem& item : problem.items) {
    Cost most = 0;
    for (size_t m = item.first_move; m < item.end_move; ++m) {
      const Cost cost = problem.moves[m].cost;
      most = std::max(most, cost < 0 ? -cost : cost);
    }
    range += most;
  }
  if (range < WideInt{1} << 62) return Search<int64_t>(problem, best, effort).Run();
  return Search<WideInt>(problem, best, effort).Run();
}

}  // namespace ram
