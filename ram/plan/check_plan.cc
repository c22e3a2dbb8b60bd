#include <fmt/format.h>

#include <algorithm>

#include "ram/base/bytes.h"
#include "ram/plan/detail.h"
#include "ram/plan/plan.h"

namespace ram {
namespace {

template <typename... Args>
Error Wrong(fmt::format_string<Args...> format, Args&&... args) {
  return Error{ErrorCode::kCorrupt, "the certificate does not hold: " +
                                        fmt::format(format, std::forward<Args>(args)...)};
}

Status CheckItems(const Plan& plan, const Problem& problem, const RateTable& table) {
  if (plan.modules.size() != table.modules.size()) {
    return Wrong("the plan has {} modules, the rate table {}", plan.modules.size(),
                 table.modules.size());
  }
  for (size_t i = 0; i < plan.modules.size(); ++i) {
    if (plan.modules[i].name != table.modules[i].name) {
      return Wrong("module {} of the plan is {}, of the rate table {}", i, plan.modules[i].name,
                   table.modules[i].name);
    }
  }
  if (plan.items.size() != problem.items.size()) {
    return Wrong("the plan decides {} items, its rules and ties make {}", plan.items.size(),
                 problem.items.size());
  }
  for (size_t i = 0; i < plan.items.size(); ++i) {
    const ProblemItem& item = plan.items[i];
    const std::string& name = plan.modules[problem.items[i].modules.front()].name;
    if (item.modules != problem.items[i].modules) {
      return Wrong("the ties of {} are not those of the request", name);
    }
    if (item.options != problem.items[i].options) {
      return Wrong("what is allowed for {} is not what menu, floor and rules make of it", name);
    }
    const Choice& choice = plan.modules[item.modules.front()].choice;
    if (std::ranges::find(item.options, choice) == item.options.end()) {
      return Wrong("{} has {}, which is not allowed for it", name, ChoiceName(choice));
    }
    for (const size_t index : item.modules) {
      if (plan.modules[index].choice == choice) continue;
      return Wrong("{} and {} are tied, but have {} and {}", name, plan.modules[index].name,
                   ChoiceName(choice), ChoiceName(plan.modules[index].choice));
    }
  }
  return Done{};
}

Status CheckModules(const Plan& plan, const Problem& problem, const RateTable& table) {
  for (size_t i = 0; i < plan.modules.size(); ++i) {
    const PlannedModule& planned = plan.modules[i];
    const ModuleRates& module = table.modules[i];
    const ChoiceRate* rate = module.Find(planned.choice);
    RAM_CHECK(rate != nullptr);  // Allowed, so in the table.
    if (planned.bytes != rate->bytes) {
      return Wrong("{} takes {} bytes, not {}", planned.name, rate->bytes, planned.bytes);
    }
    if (planned.alpha != problem.alphas[i]) {
      return Wrong("{} has alpha {}, not {}", planned.name, problem.alphas[i], planned.alpha);
    }
    const Cost cost = ChoiceCost(plan.request.objective, planned.alpha, rate->sum_squares_error,
                                 module.sum_squares);
    if (planned.cost != cost) {
      return Wrong("{} costs {}, not {}", planned.name, cost, planned.cost);
    }
  }
  return Done{};
}

Status CheckSums(const Plan& plan, const Problem& problem, const RateTable& table) {
  if (plan.fixed_bytes != problem.fixed_bytes || plan.dense_bytes != table.dense_bytes() ||
      plan.num_weights != table.num_weights()) {
    return Wrong("the sizes of the model are not those of the rate table");
  }
  uint64_t bytes = plan.fixed_bytes;
  WideInt cost = 0;
  for (const PlannedModule& module : plan.modules) {
    bytes += module.bytes;
    cost += module.cost;
  }
  if (plan.bytes != bytes) return Wrong("the plan takes {} bytes, not {}", bytes, plan.bytes);
  if (bytes > plan.budget_bytes) {
    return Wrong("the plan takes {} bytes, the budget is {}", bytes, plan.budget_bytes);
  }
  if (plan.cost != cost) {
    return Wrong("the plan costs {}, not {}", WideText(cost), WideText(plan.cost));
  }
  uint64_t least = plan.fixed_bytes;
  for (const Item& item : problem.knapsack) {
    least += std::ranges::min(item.options, {}, &Option::bytes).bytes;
  }
  if (plan.min_safe_bytes != least) {
    return Wrong("the smallest plan takes {} bytes, not {}", least, plan.min_safe_bytes);
  }
  return Done{};
}

}  // namespace

Result<WideInt> DualBound(const std::vector<Item>& items, const Lambda& lambda,
                          uint64_t budget_bytes) {
  RAM_CHECK(lambda.num >= 0 && lambda.den > 0);
  const Error too_large{ErrorCode::kCorrupt, "lambda is too large for this table"};
  // Costs, lambda's parts and budgets are below 2^63, bytes of an option below 2^53: every product
  // is below 2^126. Only sums can leave 128 bits.
  WideInt sum = 0;
  for (const Item& item : items) {
    const auto priced = [&](const Option& option) {
      return WideInt{option.cost} * lambda.den + WideInt{lambda.num} * option.bytes;
    };
    const Option& best = std::ranges::min(item.options, {}, priced);
    if (__builtin_add_overflow(sum, priced(best), &sum)) return too_large;
  }
  if (lambda.num != 0 && budget_bytes > uint64_t{INT64_MAX}) return too_large;
  if (__builtin_sub_overflow(sum, WideInt{lambda.num} * budget_bytes, &sum)) return too_large;
  const WideInt quotient = sum / lambda.den;  // Towards zero: already rounded up where negative.
  return sum > 0 && sum % lambda.den != 0 ? quotient + 1 : quotient;
}

Status CheckPlan(const Plan& plan, const LoadedRates& rates) {
  if (plan.rates_sha256 != rates.sha256) {
    return Wrong("the plan was made from another rate table (SHA-256 {}..., this one has {}...)",
                 plan.rates_sha256.substr(0, 12), rates.sha256.substr(0, 12));
  }
  const auto problem = BuildProblem(rates.table, plan.request);
  if (!problem) return Wrong("{}", problem.error().message);
  RAM_RETURN_IF_ERROR(CheckItems(plan, *problem, rates.table));
  RAM_RETURN_IF_ERROR(CheckModules(plan, *problem, rates.table));
  RAM_RETURN_IF_ERROR(CheckSums(plan, *problem, rates.table));
  if (plan.lambda.num < 0 || plan.lambda.den <= 0) {
    return Wrong("lambda {}/{} is no price", plan.lambda.num, plan.lambda.den);
  }
  const auto bound =
      DualBound(problem->knapsack, plan.lambda, plan.budget_bytes - plan.fixed_bytes);
  if (!bound) return Wrong("{}", bound.error().message);
  if (plan.lower_bound != *bound) {
    return Wrong("its lambda proves a lower bound of {}, not {}", WideText(*bound),
                 WideText(plan.lower_bound));
  }
  return Done{};
}

}  // namespace ram
