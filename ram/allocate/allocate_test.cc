#include "ram/allocate/allocate.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace ram {
namespace {

// SplitMix64; instances are the same with every library.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t Next() {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  uint64_t Below(uint64_t n) { return Next() % n; }
  uint64_t Between(uint64_t least, uint64_t most) { return least + Below(most - least + 1); }

 private:
  uint64_t state_;
};

struct Total {
  uint64_t bytes = 0;
  WideInt cost = 0;

  bool operator==(const Total&) const = default;
  bool IsBetterThan(const Total& other) const {
    return cost < other.cost || (cost == other.cost && bytes < other.bytes);
  }
};

constexpr WideInt kInfinite = WideInt{1} << 120;

// The best plan of every size: DP over capacity.
std::vector<Total> BestByCapacity(const std::vector<Item>& items, uint64_t capacity) {
  std::vector<WideInt> best(capacity + 1, kInfinite), next;
  best[0] = 0;
  for (const Item& item : items) {
    next.assign(capacity + 1, kInfinite);
    for (const Option& option : item.options) {
      for (uint64_t b = option.bytes; b <= capacity; ++b) {
        next[b] = std::min(next[b], best[b - option.bytes] + option.cost);
      }
    }
    best.swap(next);
  }
  std::vector<Total> plans(capacity + 1);
  for (uint64_t b = 0; b <= capacity; ++b) {
    plans[b] = {b, best[b]};
    if (b > 0 && !plans[b].IsBetterThan(plans[b - 1])) plans[b] = plans[b - 1];
  }
  return plans;
}

// All plans. For few options and large numbers.
void Enumerate(const std::vector<Item>& items, size_t depth, Total plan,
               std::vector<Total>& plans) {
  if (depth == items.size()) return plans.push_back(plan);
  for (const Option& option : items[depth].options) {
    Enumerate(items, depth + 1, {plan.bytes + option.bytes, plan.cost + option.cost}, plans);
  }
}

Total BestOf(const std::vector<Total>& plans, uint64_t budget) {
  Total best{0, kInfinite};
  for (const Total& plan : plans) {
    if (plan.bytes <= budget && plan.IsBetterThan(best)) best = plan;
  }
  return best;
}

Total Recompute(const std::vector<Item>& items, const std::vector<int>& choices) {
  Total plan;
  for (size_t i = 0; i < items.size(); ++i) {
    const auto& options = items[i].options;
    const auto option = std::find_if(options.begin(), options.end(),
                                     [&](const Option& o) { return o.choice == choices[i]; });
    if (option == options.end()) {
      ADD_FAILURE() << "item " << i << " has no choice " << choices[i];
      return plan;
    }
    plan.bytes += option->bytes;
    plan.cost += option->cost;
  }
  return plan;
}

// ceil(sum_i min_j (cost + lambda bytes) - lambda budget), from the definition. Quotients and
// remainders by den are summed apart, so that nothing overflows.
WideInt DualBound(const std::vector<Item>& items, Lambda lambda, uint64_t budget) {
  WideInt quotients = 0, remainders = 0;
  for (const Item& item : items) {
    WideInt least = 0;
    bool first = true;
    for (const Option& option : item.options) {
      const WideInt value = WideInt{lambda.den} * option.cost + WideInt{lambda.num} * option.bytes;
      if (first || value < least) least = value;
      first = false;
    }
    quotients += least / lambda.den;
    remainders += least % lambda.den;
  }
  const WideInt rest = remainders - WideInt{lambda.num} * budget;  // Divide, rounding up.
  return quotients + (rest > 0 ? (rest + lambda.den - 1) / lambda.den : -(-rest / lambda.den));
}

// What holds for every solution, whatever was proven.
void CheckPlan(const std::vector<Item>& items, uint64_t budget, const Solution& s) {
  EXPECT_EQ(Recompute(items, s.choices), (Total{s.bytes, s.cost}));
  EXPECT_LE(s.bytes, budget);
  EXPECT_GE(s.lambda.num, 0);
  EXPECT_GT(s.lambda.den, 0);
  EXPECT_EQ(DualBound(items, s.lambda, budget), s.lower_bound);
  EXPECT_LE(s.lower_bound, s.cost);
}

Result<Solution> SolveAt(const std::vector<Item>& items, uint64_t budget,
                         const SolveOptions& options = {}) {
  Result<Curve> curve = BuildCurve(items);
  if (!curve.ok()) return curve.error();
  return Solve(items, *curve, budget, options);
}

uint64_t LightestBytes(const Item& item) {
  uint64_t least = UINT64_MAX;
  for (const Option& option : item.options) least = std::min(least, option.bytes);
  return least;
}

uint64_t HeaviestBytes(const Item& item) {
  uint64_t most = 0;
  for (const Option& option : item.options) most = std::max(most, option.bytes);
  return most;
}

enum class Kind {
  kArbitrary,   // Cost unrelated to bytes: many options off the hull.
  kTies,        // Few different costs and sizes, duplicates.
  kRate,        // Cost falls by 4 per bit, like quantization error.
  kEqualItems,  // Every item the same: all slopes tie.
  kOneSlope,    // Subset sum: every plan on one line, all reduced costs are 0.
  kSmallCosts,  // Less than one unit of cost per byte: equal costs at many sizes.
  kZeroCosts,   // Cost 0 most of the time; items of one option.
  kAlmostOneSlope,
};
constexpr int kNumKinds = 8;

Option MakeOption(Kind kind, Random& random, int choice, uint64_t max_bytes) {
  const uint64_t bytes = random.Between(0, max_bytes);
  const uint64_t left = max_bytes - bytes;
  uint64_t cost = 0;
  switch (kind) {
    case Kind::kArbitrary:
      cost = random.Below(1000);
      break;
    case Kind::kTies:
      return {4 * random.Below(4), static_cast<Cost>(random.Below(5)), choice};
    case Kind::kEqualItems:
    case Kind::kRate:
      cost = (random.Between(50, 200) << 40) >> (2 * bytes * 16 / max_bytes);
      break;
    case Kind::kOneSlope:
      cost = 7 * left;
      break;
    case Kind::kSmallCosts:
      cost = left / 7 + random.Below(2);
      break;
    case Kind::kZeroCosts:
      cost = random.Below(3) == 0 ? random.Below(100) : 0;
      break;
    case Kind::kAlmostOneSlope:
      cost = 1000 * left + random.Below(20);
      break;
  }
  return {bytes, static_cast<Cost>(cost), choice};
}

std::vector<Item> MakeInstance(Kind kind, Random& random) {
  std::vector<Item> items(random.Between(3, 12));
  const uint64_t max_bytes = random.Between(4, 40);
  for (Item& item : items) {
    const bool single = kind == Kind::kZeroCosts && random.Below(3) == 0;
    const int num_options = single ? 1 : static_cast<int>(random.Between(2, 8));
    for (int j = 0; j < num_options; ++j) {
      item.options.push_back(MakeOption(kind, random, 100 + j, max_bytes));
    }
    if (kind == Kind::kEqualItems) item = items.front();
  }
  return items;
}

TEST(Solve, FindsTheOptimumOfSmallInstances) {
  Random random(1);
  size_t num_solved = 0;
  for (int t = 0; t < 12000 && !HasFailure(); ++t) {
    SCOPED_TRACE("instance " + std::to_string(t));
    const std::vector<Item> items = MakeInstance(static_cast<Kind>(t % kNumKinds), random);
    uint64_t lightest = 0, heaviest = 0;
    for (const Item& item : items) {
      lightest += LightestBytes(item);
      heaviest += HeaviestBytes(item);
    }
    const std::vector<Total> optima = BestByCapacity(items, heaviest + 1);
    const Result<Curve> curve = BuildCurve(items);
    ASSERT_TRUE(curve.ok());
    ASSERT_EQ(curve->bytes.front(), lightest);
    for (int b = 0; b < 4; ++b) {
      const uint64_t budget = b == 0 ? lightest : random.Between(lightest, heaviest + 1);
      const Result<Solution> s = Solve(items, *curve, budget);
      ASSERT_TRUE(s.ok());
      CheckPlan(items, budget, *s);
      EXPECT_TRUE(s->proven_by_search);
      EXPECT_EQ((Total{s->bytes, s->cost}), optima[budget]) << "budget " << budget;
      ++num_solved;
    }
  }
  EXPECT_EQ(num_solved, 48000u);
}

TEST(Solve, FindsTheOptimumOfLargeNumbers) {
  Random random(2);
  for (int t = 0; t < 1500 && !HasFailure(); ++t) {
    SCOPED_TRACE("instance " + std::to_string(t));
    // Sums of costs up to 2^65 in every other instance: wider than 64 bits.
    const int cost_bits = t % 2 == 0 ? 63 : static_cast<int>(random.Between(20, 62));
    const int byte_bits = static_cast<int>(random.Between(1, 60));
    std::vector<Item> items(random.Between(1, 6));
    for (Item& item : items) {
      for (int j = 0; j < static_cast<int>(random.Between(1, 4)); ++j) {
        item.options.push_back({random.Below(uint64_t{1} << byte_bits),
                                static_cast<Cost>(random.Below(uint64_t{1} << cost_bits)), j});
      }
    }
    std::vector<Total> plans;
    Enumerate(items, 0, {}, plans);
    for (int b = 0; b < 4; ++b) {
      const uint64_t budget = plans[random.Below(plans.size())].bytes + random.Below(2);
      const Result<Solution> s = SolveAt(items, budget);
      ASSERT_TRUE(s.ok());
      CheckPlan(items, budget, *s);
      EXPECT_TRUE(s->proven_by_search);
      EXPECT_EQ((Total{s->bytes, s->cost}), BestOf(plans, budget));
    }
  }
}

// Sums of cost differences within the search exceed 64 bits: of items on almost one line, the plan
// of the right size swaps many.
TEST(Solve, SwapsManyItemsOfLargeCosts) {
  Random random(11);
  for (int t = 0; t < 100 && !HasFailure(); ++t) {
    SCOPED_TRACE("instance " + std::to_string(t));
    std::vector<Item> items(12);
    for (Item& item : items) {
      const uint64_t bytes = random.Between(1 << 19, (1 << 20) - 1);
      const uint64_t cost = (bytes << 43) - random.Below(uint64_t{1} << 40);
      item.options = {{0, static_cast<Cost>(cost), 0}, {bytes, 0, 1}};
    }
    std::vector<Total> plans;
    Enumerate(items, 0, {}, plans);
    for (int b = 0; b < 4; ++b) {
      const uint64_t budget = plans[random.Below(plans.size())].bytes;
      const Result<Solution> s = SolveAt(items, budget);
      ASSERT_TRUE(s.ok());
      CheckPlan(items, budget, *s);
      EXPECT_TRUE(s->proven_by_search);
      EXPECT_EQ((Total{s->bytes, s->cost}), BestOf(plans, budget));
    }
  }
}

// Wide enough for the search to run twice: narrow, then exact.
TEST(Solve, FindsTheOptimumOfMiddlingInstances) {
  Random random(9);
  size_t most_states = 0;
  for (int t = 0; t < 40 && !HasFailure(); ++t) {
    SCOPED_TRACE("instance " + std::to_string(t));
    std::vector<Item> items(25);
    uint64_t lightest = 0, heaviest = 0;
    for (Item& item : items) {
      for (int j = 0; j < 6; ++j) {
        const uint64_t bytes = random.Below(400);
        // Close to one slope, so that nearly everything stays in the core.
        const uint64_t cost = 1000 * (400 - bytes) + random.Below(t % 2 == 0 ? 100'000 : 3'000);
        item.options.push_back({bytes, static_cast<Cost>(cost), j});
      }
      lightest += LightestBytes(item);
      heaviest += HeaviestBytes(item);
    }
    const std::vector<Total> optima = BestByCapacity(items, heaviest);
    const Result<Curve> curve = BuildCurve(items);
    ASSERT_TRUE(curve.ok());
    for (uint64_t b = 1; b < 40; ++b) {
      const uint64_t budget = lightest + (heaviest - lightest) * b / 40;
      const Result<Solution> s = Solve(items, *curve, budget);
      ASSERT_TRUE(s.ok());
      CheckPlan(items, budget, *s);
      EXPECT_TRUE(s->proven_by_search);
      EXPECT_EQ((Total{s->bytes, s->cost}), optima[budget]) << "budget " << budget;
      most_states = std::max(most_states, s->states);
    }
  }
  EXPECT_GT(most_states, 4'000u);
}

TEST(Solve, HoldsAtTheLimitsOfTheNumbers) {
  constexpr Cost kMaxCost = INT64_MAX;
  constexpr uint64_t kHalf = uint64_t{1} << 62;
  const std::vector<Item> items{{{{0, kMaxCost, 0}, {kHalf, 1, 1}, {kHalf - 1, 0, 2}}},
                                {{{1, kMaxCost, 0}, {2, 0, 1}}},
                                {{{0, kMaxCost, 0}, {kHalf - 3, kMaxCost - 1, 1}}}};
  std::vector<Total> plans;
  Enumerate(items, 0, {}, plans);
  for (const Total& plan : plans) {
    for (const uint64_t budget : {plan.bytes, plan.bytes + 1, uint64_t{UINT64_MAX}}) {
      const Result<Solution> s = SolveAt(items, budget);
      ASSERT_TRUE(s.ok());
      CheckPlan(items, budget, *s);
      EXPECT_EQ((Total{s->bytes, s->cost}), BestOf(plans, budget));
    }
  }
}

TEST(Solve, StopsWithinTheRelativeGap) {
  Random random(3);
  for (int t = 0; t < 800; ++t) {
    const std::vector<Item> items = MakeInstance(static_cast<Kind>(t % kNumKinds), random);
    uint64_t lightest = 0, heaviest = 0;
    for (const Item& item : items) {
      lightest += LightestBytes(item);
      heaviest += HeaviestBytes(item);
    }
    const uint64_t budget = random.Between(lightest, heaviest);
    const double gap = t % 2 == 0 ? 0.1 : 0.001;
    const Result<Solution> s = SolveAt(items, budget, {.relative_gap = gap});
    ASSERT_TRUE(s.ok());
    CheckPlan(items, budget, *s);
    EXPECT_TRUE(s->proven_by_search);
    const WideInt optimum = BestByCapacity(items, budget)[budget].cost;
    EXPECT_GE(static_cast<double>(optimum), (1 - gap) * static_cast<double>(s->cost));
  }
}

TEST(Solve, KeepsItsBoundWhenTheSearchIsCutShort) {
  Random random(4);
  size_t num_unproven = 0;
  for (int t = 0; t < 800; ++t) {
    const std::vector<Item> items = MakeInstance(static_cast<Kind>(t % kNumKinds), random);
    uint64_t lightest = 0, heaviest = 0;
    for (const Item& item : items) {
      lightest += LightestBytes(item);
      heaviest += HeaviestBytes(item);
    }
    const uint64_t budget = random.Between(lightest, heaviest);
    const Result<Solution> s = SolveAt(items, budget, {.max_states = 2});
    ASSERT_TRUE(s.ok());
    CheckPlan(items, budget, *s);
    const Total optimum = BestByCapacity(items, budget)[budget];
    EXPECT_LE(s->lower_bound, optimum.cost);
    EXPECT_GE(s->cost, optimum.cost);
    if (s->proven_by_search) {
      EXPECT_EQ((Total{s->bytes, s->cost}), optimum);
    }
    num_unproven += !s->proven_by_search;
  }
  EXPECT_GT(num_unproven, 100u);
}

TEST(Solve, DoesNotDependOnTheOrderOfItemsAndOptions) {
  Random random(5);
  for (int t = 0; t < 800; ++t) {
    std::vector<Item> items = MakeInstance(static_cast<Kind>(t % kNumKinds), random);
    uint64_t lightest = 0, heaviest = 0;
    for (const Item& item : items) {
      lightest += LightestBytes(item);
      heaviest += HeaviestBytes(item);
    }
    const uint64_t budget = random.Between(lightest, heaviest);
    const Result<Solution> before = SolveAt(items, budget);
    const auto shuffle = [&random](auto& values) {
      for (size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[random.Below(i)]);
    };
    for (Item& item : items) shuffle(item.options);
    shuffle(items);
    const Result<Solution> after = SolveAt(items, budget);
    ASSERT_TRUE(before.ok() && after.ok());
    EXPECT_EQ(before->cost, after->cost);
    EXPECT_EQ(before->bytes, after->bytes);
    EXPECT_EQ(before->lower_bound, after->lower_bound);
  }
}

TEST(Solve, RefusesABudgetBelowTheLightestPlan) {
  const std::vector<Item> items{{{{1000, 5, 0}, {2000, 1, 1}}}, {{{234, 0, 0}}}};
  const Result<Solution> s = SolveAt(items, 1233);
  ASSERT_FALSE(s.ok());
  EXPECT_EQ(s.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(s.error().message.find("1233"), std::string::npos) << s.error().message;
  EXPECT_NE(s.error().message.find("1234"), std::string::npos) << s.error().message;
  EXPECT_TRUE(SolveAt(items, 1234).ok());
}

TEST(Solve, RefusesARelativeGapThatIsNone) {
  const std::vector<Item> items{{{{1, 1, 0}}}};
  for (const double gap : {-1e-9, 1.0, std::nan("")}) {
    EXPECT_FALSE(SolveAt(items, 1, {.relative_gap = gap}).ok()) << gap;
  }
}

TEST(Solve, TakesTheBestOfEverythingAboveTheHeaviest) {
  const std::vector<Item> items{{{{10, 5, 7}, {20, 1, 8}, {30, 1, 9}}}, {{{5, 0, 3}, {6, 0, 4}}}};
  for (const uint64_t budget : {uint64_t{25}, uint64_t{1000}, uint64_t{UINT64_MAX}}) {
    const Result<Solution> s = SolveAt(items, budget);
    ASSERT_TRUE(s.ok());
    CheckPlan(items, budget, *s);
    EXPECT_EQ(s->choices, (std::vector<int>{8, 3}));
    EXPECT_EQ(s->bytes, 25u);
    EXPECT_EQ(s->cost, s->lower_bound);
    EXPECT_TRUE(s->proven_by_search);
  }
}

TEST(Solve, UsesAnOptionOffTheHull) {
  // The middle option lies above the line between the others, and is the optimum all the same.
  const std::vector<Item> items{{{{0, 100, 0}, {5, 90, 1}, {10, 0, 2}}}};
  const Result<Solution> s = SolveAt(items, 7);
  ASSERT_TRUE(s.ok());
  EXPECT_EQ(s->choices, std::vector<int>{1});
  EXPECT_EQ(s->lambda.num, 10);
  EXPECT_EQ(s->lambda.den, 1);
  EXPECT_EQ(s->lower_bound, 30);
}

TEST(Solve, AcceptsNoItemsAndOneChoice) {
  const Result<Solution> nothing = SolveAt({}, 0);
  ASSERT_TRUE(nothing.ok());
  EXPECT_TRUE(nothing->choices.empty());
  const Result<Solution> one = SolveAt({{{{8, 3, 42}}}}, 9);
  ASSERT_TRUE(one.ok());
  EXPECT_EQ(one->choices, std::vector<int>{42});
  EXPECT_EQ(one->cost, 3);
}

// Like the tensors of a model: 19 configs of 2 to 8 bits and 16 bits without loss; every eleventh
// is pinned to one. Whole numbers throughout.
std::vector<Item> MakeModel(size_t num_items, uint64_t seed) {
  Random random(seed);
  std::vector<Item> items(num_items);
  for (size_t i = 0; i < num_items; ++i) {
    const uint64_t weights = 65536 * random.Between(4, 64);
    const uint64_t error = random.Between(1, 1000) * random.Between(1'000'000, 100'000'000);
    int choice = 0;
    for (const uint64_t bits : {2u, 3u, 4u, 5u, 6u, 8u}) {
      for (const uint64_t group : {32u, 64u, 128u}) {
        const uint64_t cost = (error * (16 + group / 8) / 32) >> (2 * bits - 4);
        items[i].options.push_back({weights * bits / 8 + weights / group * 4,
                                    static_cast<Cost>(cost - random.Below(cost / 16 + 1)),
                                    choice++});
      }
    }
    items[i].options.push_back({weights * 17 / 32, static_cast<Cost>(error >> 3), choice++});
    items[i].options.push_back({weights * 2, 0, choice++});
    if (i % 11 == 10) items[i].options.resize(1);
  }
  return items;
}

TEST(Solve, ProvesALargeModel) {
  const std::vector<Item> items = MakeModel(20000, 6);
  const Result<Curve> curve = BuildCurve(items);
  ASSERT_TRUE(curve.ok());
  const uint64_t lightest = curve->bytes.front(), heaviest = curve->bytes.back();
  WideInt cost = curve->cost.front();
  for (uint64_t share = 1; share < 8; ++share) {
    const uint64_t budget = lightest + (heaviest - lightest) / 8 * share + 12345;
    const Result<Solution> s = Solve(items, *curve, budget, {.relative_gap = 1e-6});
    ASSERT_TRUE(s.ok());
    CheckPlan(items, budget, *s);
    EXPECT_TRUE(s->proven_by_search);
    EXPECT_LT(static_cast<double>(s->cost - s->lower_bound), 1e-3 * static_cast<double>(s->cost));
    EXPECT_LT(s->cost, cost);
    cost = s->cost;
  }
}

// The same numbers on every machine: a change of any is a change of results.
TEST(Solve, GivesTheSamePlanEverywhere) {
  const std::vector<Item> items = MakeModel(300, 7);
  const Result<Curve> curve = BuildCurve(items);
  ASSERT_TRUE(curve.ok());
  uint64_t hash = 0xCBF29CE484222325u;
  for (uint64_t share = 1; share < 16; ++share) {
    const uint64_t budget =
        curve->bytes.front() + (curve->bytes.back() - curve->bytes.front()) / 16 * share;
    const Result<Solution> s = Solve(items, *curve, budget);
    const Result<Solution> again = Solve(items, *curve, budget);
    ASSERT_TRUE(s.ok() && again.ok());
    EXPECT_TRUE(s->proven_by_search);
    EXPECT_EQ(s->choices, again->choices);
    EXPECT_EQ(s->states, again->states);
    for (const int choice : s->choices) {
      hash = (hash ^ static_cast<uint64_t>(choice)) * 0x100000001B3u;
    }
  }
  EXPECT_EQ(hash, 12423749025140241162u);
}

TEST(Curve, OrdersIncrementsBySlopeThenItem) {
  // Item 0 is unsorted, has a duplicate, a dominated option and one above the hull.
  const std::vector<Item> items{
      {{{30, 0, 3}, {10, 40, 1}, {10, 40, 9}, {15, 39, 5}, {20, 10, 2}, {25, 12, 4}}},
      {{{1, 60, 0}, {21, 0, 1}}}};
  const Result<Curve> curve = BuildCurve(items);
  ASSERT_TRUE(curve.ok());
  EXPECT_EQ(curve->first_choices, (std::vector<int>{1, 0}));
  ASSERT_EQ(curve->increments.size(), 3u);
  const auto expect = [&](size_t k, size_t item, int from, int to, uint64_t bytes, Cost cost) {
    const Increment& step = curve->increments[k];
    EXPECT_EQ(step.item, item);
    EXPECT_EQ(step.from, from);
    EXPECT_EQ(step.to, to);
    EXPECT_EQ(step.bytes, bytes);
    EXPECT_EQ(step.cost, cost);
  };
  expect(0, 0, 1, 2, 10, 30);  // 3 a byte, as is the next.
  expect(1, 1, 0, 1, 20, 60);
  expect(2, 0, 2, 3, 10, 10);
  EXPECT_EQ(curve->bytes, (std::vector<uint64_t>{11, 21, 41, 51}));
  EXPECT_EQ(curve->cost, (std::vector<WideInt>{100, 70, 10, 0}));
}

// Slopes that differ by less than the rounding of doubles.
TEST(Curve, ComparesSlopesExactly) {
  Random random(10);
  std::vector<Item> items;
  for (int i = 0; i < 100; ++i) {
    const uint64_t bytes = random.Between(uint64_t{1} << 53, uint64_t{1} << 55);
    items.push_back({{{0, static_cast<Cost>(3 * bytes + random.Below(8)), 0}, {bytes, 0, 1}}});
  }
  const Result<Curve> curve = BuildCurve(items);
  ASSERT_TRUE(curve.ok());
  ASSERT_EQ(curve->increments.size(), items.size());
  for (size_t k = 1; k < curve->increments.size(); ++k) {
    const Increment& a = curve->increments[k - 1];
    const Increment& b = curve->increments[k];
    EXPECT_GE(WideInt{a.cost} * b.bytes, WideInt{b.cost} * a.bytes) << k;
  }
}

TEST(Curve, EveryPrefixIsOptimalForItsSize) {
  Random random(8);
  for (int t = 0; t < 800; ++t) {
    const std::vector<Item> items = MakeInstance(static_cast<Kind>(t % kNumKinds), random);
    const Result<Curve> curve = BuildCurve(items);
    ASSERT_TRUE(curve.ok());
    const std::vector<Total> optima = BestByCapacity(items, curve->bytes.back());
    std::vector<int> choices = curve->first_choices;
    for (size_t k = 0; k < curve->bytes.size(); ++k) {
      const Total point{curve->bytes[k], curve->cost[k]};
      EXPECT_EQ(Recompute(items, choices), point);
      EXPECT_EQ(optima[curve->bytes[k]], point);
      if (k % 4 == 0) {
        const Result<Solution> s = Solve(items, *curve, curve->bytes[k]);
        ASSERT_TRUE(s.ok());
        EXPECT_EQ(s->choices, choices);
        EXPECT_EQ(s->cost, s->lower_bound);
      }
      if (k == curve->increments.size()) break;
      const Increment& step = curve->increments[k];
      EXPECT_EQ(choices[step.item], step.from);
      EXPECT_GT(step.bytes, 0u);
      EXPECT_GT(step.cost, 0);
      choices[step.item] = step.to;
      if (k == 0) continue;
      const Increment& last = curve->increments[k - 1];
      EXPECT_GE(WideInt{last.cost} * step.bytes, WideInt{step.cost} * last.bytes);
    }
  }
}

TEST(Curve, RefusesWhatItCannotCount) {
  const auto message = [](const std::vector<Item>& items) {
    const Result<Curve> curve = BuildCurve(items);
    return curve.ok() ? std::string("ok") : curve.error().message;
  };
  const Item good{{{1, 1, 0}}};
  EXPECT_EQ(message({good, {}}), "item 1 has no options");
  EXPECT_EQ(message({good, good, {{{1, -1, 0}}}}), "item 2 has an option of negative cost");
  const Item half{{{uint64_t{1} << 62, 0, 0}}};
  EXPECT_EQ(message({half, good}), "ok");
  EXPECT_EQ(message({half, half}), "item 1 brings the heaviest plan to 2^63 bytes or more");
  EXPECT_NE(message({{{{UINT64_MAX, 0, 0}}}}), "ok");
}

// A curve through the given (bytes, cost) points.
Curve CurveThrough(const std::vector<Total>& points) {
  Curve curve;
  for (size_t k = 0; k < points.size(); ++k) {
    curve.bytes.push_back(points[k].bytes);
    curve.cost.push_back(points[k].cost);
    if (k == 0) continue;
    curve.increments.push_back({points[k].bytes - points[k - 1].bytes,
                                static_cast<Cost>(points[k - 1].cost - points[k].cost), 0, 0, 0});
  }
  return curve;
}

TEST(FindKnees, FindsTheBendsOfLogCost) {
  // Log2 of the cost falls by 1 per byte to byte 10, by 1/4 to byte 30, by 1/16 to byte 60, and
  // then to 0 at once.
  std::vector<Total> points;
  double log2_cost = 40;
  for (uint64_t bytes = 0; bytes <= 60; ++bytes) {
    points.push_back({bytes, static_cast<WideInt>(std::exp2(log2_cost))});
    log2_cost -= bytes < 10 ? 1 : bytes < 30 ? 0.25 : 0.0625;
  }
  points.push_back({61, 0});
  const Curve curve = CurveThrough(points);
  EXPECT_EQ(FindKnees(curve, 5), (std::vector<size_t>{10, 30}));
  EXPECT_EQ(FindKnees(curve, 1), std::vector<size_t>{10});
  EXPECT_TRUE(FindKnees(curve, 0).empty());
}

TEST(FindKnees, FindsNoneOnAStraightOrShortCurve) {
  std::vector<Total> points;
  for (uint64_t b = 0; b < 40; ++b) points.push_back({b, WideInt{1} << (40 - b)});
  EXPECT_TRUE(FindKnees(CurveThrough(points), 5).empty());
  EXPECT_TRUE(FindKnees(CurveThrough({{1, 5}}), 5).empty());
  EXPECT_TRUE(FindKnees(CurveThrough({{1, 5}, {2, 1}, {3, 0}}), 5).empty());
}

TEST(FindKnees, IgnoresTheFallToZero) {
  // Concave in the logarithm: a byte buys ever more. No knee.
  std::vector<Total> points;
  for (uint64_t b = 0; b <= 1000; ++b) points.push_back({b, WideInt{1000 - b}});
  EXPECT_TRUE(FindKnees(CurveThrough(points), 5).empty());
}

TEST(ShadowSaving, ReadsTheCurve) {
  const Curve curve = CurveThrough({{100, 80}, {200, 40}, {300, 20}, {400, 0}});
  EXPECT_DOUBLE_EQ(ShadowSaving(curve, 100, 100), 0.5);
  EXPECT_DOUBLE_EQ(ShadowSaving(curve, 100, 50), 0.25);
  EXPECT_DOUBLE_EQ(ShadowSaving(curve, 250, 100), 1 - 10.0 / 30);
  EXPECT_DOUBLE_EQ(ShadowSaving(curve, 50, 150), 0.5);
  EXPECT_DOUBLE_EQ(ShadowSaving(curve, 300, UINT64_MAX), 1);
  EXPECT_DOUBLE_EQ(ShadowSaving(curve, 200, 0), 0);
  EXPECT_DOUBLE_EQ(ShadowSaving(curve, 400, 100), 0);
  EXPECT_DOUBLE_EQ(ShadowSaving(curve, 1000, 100), 0);
}

}  // namespace
}  // namespace ram
