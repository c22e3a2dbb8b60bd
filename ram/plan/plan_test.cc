#include "ram/plan/plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "ram/base/bytes.h"
#include "ram/plan/testing.h"

namespace ram {
namespace {

using testing::DenseTable;
using testing::Load;
using testing::MakeTable;
using testing::MixedTable;

struct Planned {
  LoadedRates rates;
  Problem problem;
  Curve curve;
  PlanRequest request;

  Result<Plan> At(uint64_t budget) const {
    return MakePlan(rates, problem, curve, request, budget);
  }
};

Planned Prepare(RateTable table, PlanRequest request = {}) {
  Planned planned{Load(std::move(table)), {}, {}, std::move(request)};
  auto problem = BuildProblem(planned.rates.table, planned.request);
  EXPECT_TRUE(problem.ok()) << problem.error().message;
  planned.problem = *std::move(problem);
  auto curve = BuildCurve(planned.problem.knapsack);
  EXPECT_TRUE(curve.ok());
  planned.curve = *std::move(curve);
  return planned;
}

Plan MustPlan(const Planned& planned, uint64_t budget) {
  auto plan = planned.At(budget);
  EXPECT_TRUE(plan.ok()) << plan.error().message;
  return *std::move(plan);
}

// About `bits` per weight.
uint64_t BudgetOf(const RateTable& table, double bits) {
  return static_cast<uint64_t>(static_cast<double>(table.num_weights()) * bits / 8);
}

std::string ProblemError(const RateTable& table, const PlanRequest& request) {
  const auto problem = BuildProblem(table, request);
  return problem.ok() ? "" : problem.error().message;
}

Rule Pin(std::string_view text) {
  auto rule = ParsePin(text);
  EXPECT_TRUE(rule.ok()) << rule.error().message;
  return *std::move(rule);
}

Rule Ban(std::string_view text) {
  auto rule = ParseBan(text);
  EXPECT_TRUE(rule.ok()) << rule.error().message;
  return *std::move(rule);
}

const PlannedModule& ModuleOf(const Plan& plan, std::string_view name) {
  const auto found = std::ranges::find(plan.modules, name, &PlannedModule::name);
  EXPECT_NE(found, plan.modules.end()) << name;
  return *found;
}

// Names of the choices that the item of this module may have.
std::string AllowedFor(const RateTable& table, const Problem& problem, std::string_view name) {
  for (const ProblemItem& item : problem.items) {
    for (const size_t module : item.modules) {
      if (table.modules[module].name != name) continue;
      std::string names;
      for (const Choice& choice : item.options) {
        names += (names.empty() ? "" : " ") + ChoiceName(choice);
      }
      return names;
    }
  }
  return "?";
}

TEST(Plan, NeverExceedsTheBudgetAndNeverGetsWorseWithMore) {
  for (const bool is_mixed : {false, true}) {
    const Planned planned = Prepare(is_mixed ? MixedTable() : DenseTable());
    const uint64_t least = MinSafeBytes(planned.problem, planned.curve);
    const uint64_t most = planned.rates.table.dense_bytes();
    WideInt previous = 0;
    for (uint64_t i = 0; i <= 40; ++i) {
      const uint64_t budget = least + (most - least) * i / 40;
      const Plan plan = MustPlan(planned, budget);
      EXPECT_LE(plan.bytes, budget);
      uint64_t bytes = planned.rates.table.fixed_bytes();
      for (const PlannedModule& module : plan.modules) {
        bytes += planned.rates.table.Find(module.name)->Find(module.choice)->bytes;
      }
      EXPECT_EQ(bytes, plan.bytes);
      EXPECT_LE(plan.lower_bound, plan.cost);
      if (i != 0) {
        EXPECT_LE(plan.cost, previous);
      }
      previous = plan.cost;
      const Status checked = CheckPlan(plan, planned.rates);
      EXPECT_TRUE(checked.ok()) << checked.error().message;
    }
    EXPECT_EQ(previous, 0);
  }
}

TEST(Plan, JsonRoundTripGivesTheSameBytes) {
  PlanRequest request;
  request.rules = {Pin("embed_tokens>=4"), Ban("*=3,32"), Pin("up_proj<=8")};
  request.ties = {{"up_proj", "down_proj"}};
  Planned planned = Prepare(MixedTable(), request);
  Plan plan = MustPlan(planned, BudgetOf(planned.rates.table, 6));
  plan.rates_file = "model.rates.json";
  const std::string text = ToJsonText(plan);
  const auto parsed = ParsePlan(text, "plan.json");
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  EXPECT_EQ(ToJsonText(*parsed), text);
  const Status checked = CheckPlan(*parsed, planned.rates);
  EXPECT_TRUE(checked.ok()) << checked.error().message;
}

TEST(Problem, FloorProtectionAndWidthsDecideWhatIsAllowed) {
  const RateTable table = MixedTable();
  const auto problem = BuildProblem(table, {});
  ASSERT_TRUE(problem.ok()) << problem.error().message;
  const auto allowed = [&](std::string_view name) { return AllowedFor(table, *problem, name); };
  EXPECT_EQ(allowed("model.layers.0.mlp.gate"), "8,64 8,32 16");
  EXPECT_EQ(allowed("model.layers.0.linear_attn.in_proj_a"), "8,64 8,32 16");
  EXPECT_EQ(allowed("model.layers.1.mlp.odd_proj"), "16");
  EXPECT_EQ(allowed("model.layers.1.mlp.narrow_proj"), "3,32 4,32 5,32 6,32 8,32 16");
  EXPECT_EQ(allowed("model.layers.0.linear_attn.in_proj_qkv"),
            "3,128 3,64 3,32 4,128 4,64 4,32 5,128 5,64 5,32 6,128 6,64 6,32 8,128 8,64 8,32 16");
  EXPECT_TRUE(allowed("model.layers.1.mlp.switch_mlp.up_proj").ends_with("8,32 mxfp4 16"));
}

TEST(Problem, RulesThatMatchNothingNameWhatIsNear) {
  PlanRequest request;
  request.rules = {Pin("lmhead=8,64")};
  EXPECT_EQ(ProblemError(DenseTable(), request),
            "\"lmhead=8,64\" matches no module; near it: lm_head");
}

TEST(Plan, PinsAreKept) {
  PlanRequest request;
  request.rules = {Pin("lm_head=8,64")};
  const Planned planned = Prepare(DenseTable(), request);
  const Plan plan = MustPlan(planned, BudgetOf(planned.rates.table, 5));
  EXPECT_EQ(ChoiceName(ModuleOf(plan, "lm_head").choice), "8,64");
}

}  // namespace
}  // namespace ram
