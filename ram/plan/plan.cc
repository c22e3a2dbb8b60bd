#include "ram/plan/plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "ram/base/bytes.h"
#include "ram/plan/detail.h"

namespace ram {
namespace {

// What the plan says about one module that has this choice.
PlannedModule Describe(const ModuleRates& module, const Choice& choice, double alpha,
                       Objective objective) {
  const ChoiceRate* rate = module.Find(choice);
  RAM_CHECK(rate != nullptr);
  PlannedModule planned;
  planned.name = module.name;
  planned.choice = choice;
  planned.bytes = rate->bytes;
  planned.cost = ChoiceCost(objective, alpha, rate->sum_squares_error, module.sum_squares);
  planned.alpha = alpha;
  planned.relative_mse = module.sum_squares == 0 ? 0 : rate->sum_squares_error / module.sum_squares;
  planned.sqnr_db = SixDigits(SqnrDb(module.sum_squares, rate->sum_squares_error));
  return planned;
}

// What `mlx_lm.convert -q` gives this module.
Choice UniformChoice(const ModuleRates& module, const Choice& uniform) {
  Choice choice = uniform;
  if (module.mlx_default != "uniform") {
    const auto fixed = ParseChoice(module.mlx_default);
    RAM_CHECK(fixed.ok());  // The rate table was checked.
    choice = *fixed;
  }
  return module.Find(choice) == nullptr ? Choice::Dense() : choice;
}

Error BudgetTooSmall(uint64_t budget_bytes, uint64_t min_safe_bytes, const PlanRequest& request) {
  return Error{
      ErrorCode::kInvalidArgument,
      fmt::format(
          "a budget of {} is {} bytes below the smallest plan, which takes {}{}{}",
          FormatBytes(budget_bytes), FormatCount(min_safe_bytes - budget_bytes),
          FormatBytes(min_safe_bytes),
          request.floor_db > 0 ? fmt::format(" above the floor of {} dB", request.floor_db) : "",
          request.rules.empty() ? "" : " with these pins and bans")};
}

}  // namespace

UniformReference PriceUniform(const RateTable& rates, const Problem& problem, const Curve& curve,
                              Objective objective, const Choice& uniform) {
  UniformReference reference;
  reference.choice = uniform;
  reference.bytes = problem.fixed_bytes;
  for (size_t i = 0; i < rates.modules.size(); ++i) {
    const ModuleRates& module = rates.modules[i];
    const PlannedModule planned =
        Describe(module, UniformChoice(module, uniform), problem.alphas[i], objective);
    reference.bytes += planned.bytes;
    reference.cost += planned.cost;
  }
  const auto above = std::ranges::upper_bound(curve.bytes, reference.bytes - problem.fixed_bytes);
  if (above != curve.bytes.begin()) {
    reference.plan_cost = curve.cost[static_cast<size_t>(above - curve.bytes.begin()) - 1];
  }
  return reference;
}

double Plan::bits_per_weight() const {
  return num_weights == 0 ? 0 : 8 * static_cast<double>(bytes) / static_cast<double>(num_weights);
}

uint64_t MinSafeBytes(const Problem& problem, const Curve& curve) {
  return problem.fixed_bytes + curve.bytes.front();
}

Result<Plan> MakePlan(const LoadedRates& rates, const Problem& problem, const Curve& curve,
                      const PlanRequest& request, uint64_t budget_bytes) {
  const RateTable& table = rates.table;
  Plan plan;
  plan.model = table.model;
  plan.rates_sha256 = rates.sha256;
  plan.request = request;
  if (plan.request.menu.empty()) plan.request.menu = DefaultMenu(request.objective);
  plan.budget_bytes = budget_bytes;
  plan.fixed_bytes = problem.fixed_bytes;
  plan.num_weights = table.num_weights();
  plan.min_safe_bytes = MinSafeBytes(problem, curve);
  plan.dense_bytes = table.dense_bytes();
  if (budget_bytes < plan.min_safe_bytes) {
    return BudgetTooSmall(budget_bytes, plan.min_safe_bytes, request);
  }
  RAM_ASSIGN_OR_RETURN(const Solution solution,
                       Solve(problem.knapsack, curve, budget_bytes - problem.fixed_bytes));

  plan.items = problem.items;
  plan.modules.resize(table.modules.size());
  plan.bytes = problem.fixed_bytes;
  for (size_t i = 0; i < problem.items.size(); ++i) {
    const ProblemItem& item = problem.items[i];
    const Choice& choice = item.options[static_cast<size_t>(solution.choices[i])];
    for (const size_t index : item.modules) {
      plan.modules[index] =
          Describe(table.modules[index], choice, problem.alphas[index], request.objective);
      plan.bytes += plan.modules[index].bytes;
      plan.cost += plan.modules[index].cost;
    }
  }
  RAM_CHECK(plan.bytes == problem.fixed_bytes + solution.bytes && plan.cost == solution.cost);
  RAM_CHECK(plan.bytes <= budget_bytes);
  plan.lower_bound = solution.lower_bound;
  plan.lambda = solution.lambda;
  plan.proven_by_search = solution.proven_by_search;
  plan.core_items = solution.core_items;
  plan.states = solution.states;
  plan.uniform =
      PriceUniform(table, problem, curve, request.objective, Choice::Affine(4, /*group_size=*/64));
  plan.next_gib_saving = ShadowSaving(curve, plan.bytes - problem.fixed_bytes, kGiB);

  plan.notes = problem.notes;
  const bool is_untouched = std::ranges::all_of(plan.modules, [](const PlannedModule& module) {
    return module.choice.mode != Mode::kAffine;
  });
  if (is_untouched) {
    plan.notes.push_back(fmt::format(
        "this plan changes nothing: the budget of {} holds every module as the source has it",
        FormatBytes(budget_bytes)));
  }
  return plan;
}

}  // namespace ram
