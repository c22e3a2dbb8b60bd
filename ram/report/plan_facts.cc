#include "ram/report/plan_facts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <limits>
#include <map>
#include <tuple>

namespace ram {
namespace {

// The layer's number becomes "*": what remains is the module's place in every layer.
std::string WithoutLayer(const ModuleRates& module) {
  if (module.layer < 0) return module.name;
  const std::string number = "." + std::to_string(module.layer) + ".";
  const size_t at = module.name.find(number);
  if (at == std::string::npos) return module.name;
  std::string name = module.name;
  name.replace(at + 1, number.size() - 2, "*");
  return name;
}

// The uniform choice of a module as mlx_lm.convert makes it; always one that the table has.
const ChoiceRate& UniformRate(const ModuleRates& module, const Choice& uniform) {
  Choice choice = uniform;
  if (module.mlx_default != "uniform") {
    const Result<Choice> fixed = ParseChoice(module.mlx_default);
    if (fixed.ok()) choice = *fixed;
  }
  const ChoiceRate* rate = module.Find(choice);
  if (rate == nullptr) rate = module.Find(Choice::Dense());
  RAM_CHECK(rate != nullptr);
  return *rate;
}

// Cost of (4,64), or of the nearest choice there is, per weight; NaN where nothing is known.
double HarmPerWeight(const Plan& plan, const ModuleRates& module, double alpha) {
  for (const Choice& choice :
       {Choice::Affine(4, 64), Choice::Affine(4, 32), Choice::Affine(4, 128)}) {
    const ChoiceRate* rate = module.Find(choice);
    if (rate == nullptr) continue;
    const Cost cost =
        ChoiceCost(plan.request.objective, alpha, rate->sum_squares_error, module.sum_squares);
    return static_cast<double>(cost) / static_cast<double>(module.num_weights());
  }
  return std::numeric_limits<double>::quiet_NaN();
}

// The average over all weights whose harm is known.
double AverageHarm(const Plan& plan, const RateTable& rates) {
  double cost = 0;
  double weights = 0;
  for (size_t i = 0; i < rates.modules.size(); ++i) {
    const double harm = HarmPerWeight(plan, rates.modules[i], plan.modules[i].alpha);
    if (std::isnan(harm)) continue;
    const double count = static_cast<double>(rates.modules[i].num_weights());
    cost += harm * count;
    weights += count;
  }
  return weights == 0 ? 0 : cost / weights;
}

}  // namespace

double AsDouble(WideInt value) { return static_cast<double>(value); }

std::string CostNumber(double cost) { return cost == 0 ? "0" : fmt::format("{:#.4g}", cost); }

std::string CostNumber(WideInt cost) { return CostNumber(AsDouble(cost) * kCostUnit); }

std::string Times(double ratio) {
  if (!std::isfinite(ratio)) return "-";
  if (ratio >= 9.95) return fmt::format("{:.0f}×", ratio);
  if (ratio >= 0.995) return fmt::format("{:.1f}×", ratio);
  return fmt::format("{:.2g}×", ratio);
}

std::string SpokenChoice(const Choice& choice) {
  if (choice.mode == Mode::kDense) return "16 bits";
  if (choice.mode == Mode::kMxfp4) return "MXFP4";
  return fmt::format("({},{})", choice.bits, choice.group_size);
}

double Share(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

double BitsPerWeight(uint64_t bytes, uint64_t num_weights) { return 8 * Share(bytes, num_weights); }

uint64_t ToCount(int number) { return static_cast<uint64_t>(std::max(number, 0)); }

std::string ShortModelName(const std::string& model) {
  const auto slashes = std::count(model.begin(), model.end(), '/');
  const bool is_hub_name = slashes == 1 && model.front() != '/' && model.back() != '/' &&
                           model.front() != '.' && model.front() != '~';
  if (slashes == 0 || is_hub_name) return model;

  // From the hub's cache: .../models--org--name/snapshots/<commit>
  constexpr std::string_view kCached = "/models--";
  if (const size_t cached = model.find(kCached); cached != std::string::npos) {
    std::string name = model.substr(cached + kCached.size());
    name.resize(std::min(name.find('/'), name.size()));
    if (const size_t at = name.find("--"); at != std::string::npos) name.replace(at, 2, "/");
    return name;
  }
  std::string path = model;
  const auto cut = [&path](std::string_view end) {
    if (path.size() > end.size() && path.ends_with(end)) path.resize(path.size() - end.size());
  };
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  cut("/hf");  // A directory that holds the model's Hugging Face files.
  return path.substr(path.rfind('/') + 1);
}

double CertifiedGap(const Plan& plan) {
  if (plan.cost <= 0 || plan.lower_bound >= plan.cost) return 0;
  return AsDouble(plan.cost - plan.lower_bound) / AsDouble(plan.cost);
}

std::vector<ChoiceShare> SharesOfChoices(const Plan& plan, const RateTable& rates) {
  RAM_CHECK(plan.modules.size() == rates.modules.size());
  std::vector<ChoiceShare> shares;
  for (size_t i = 0; i < plan.modules.size(); ++i) {
    const PlannedModule& planned = plan.modules[i];
    auto share = std::find_if(shares.begin(), shares.end(), [&](const ChoiceShare& candidate) {
      return candidate.choice == planned.choice;
    });
    if (share == shares.end()) {
      shares.push_back({planned.choice, SpokenChoice(planned.choice), 0, 0, 0});
      share = shares.end() - 1;
    }
    ++share->num_modules;
    share->num_weights += rates.modules[i].num_weights();
    share->bytes += planned.bytes;
  }
  std::sort(shares.begin(), shares.end(), [](const ChoiceShare& a, const ChoiceShare& b) {
    return std::tuple(-a.choice.bits, a.choice.group_size, a.choice.mode) <
           std::tuple(-b.choice.bits, b.choice.group_size, b.choice.mode);
  });
  return shares;
}

std::vector<ModuleGroup> GroupModules(const Plan& plan, const RateTable& rates) {
  RAM_CHECK(plan.modules.size() == rates.modules.size());
  std::vector<std::string> rules(plan.modules.size());
  for (const ProblemItem& item : plan.items) {
    for (const size_t module : item.modules) rules[module] = item.reason;
  }
  const double average = AverageHarm(plan, rates);
  std::map<std::tuple<std::string, std::string, std::string>, size_t> index;
  std::vector<ModuleGroup> groups;
  std::vector<double> costs;  // Of (4,64), per group; NaN: not known.
  for (size_t i = 0; i < plan.modules.size(); ++i) {
    const PlannedModule& planned = plan.modules[i];
    const ModuleRates& module = rates.modules[i];
    const std::string place = WithoutLayer(module);
    const auto [at, is_new] =
        index.try_emplace({place, ChoiceName(planned.choice), rules[i]}, groups.size());
    if (is_new) {
      groups.push_back({module.name, planned.choice, 0, 0, 0, 0, rules[i]});
      costs.push_back(0);
    }
    ModuleGroup& group = groups[at->second];
    ++group.num_modules;
    if (group.num_modules == 2) group.name = place;
    group.num_weights += module.num_weights();
    group.bytes += planned.bytes;
    costs[at->second] +=
        HarmPerWeight(plan, module, planned.alpha) * static_cast<double>(module.num_weights());
  }
  for (size_t i = 0; i < groups.size(); ++i) {
    ModuleGroup& group = groups[i];
    const bool is_known = !std::isnan(costs[i]) && average > 0 && group.num_weights != 0;
    group.harm = is_known ? costs[i] / static_cast<double>(group.num_weights) / average : 0;
    if (group.reason.empty() && is_known) {
      group.reason = group.harm == 0 ? "no harm" : Times(group.harm) + " harm";
    }
  }
  std::stable_sort(groups.begin(), groups.end(), [](const ModuleGroup& a, const ModuleGroup& b) {
    return std::tuple(-BitsPerWeight(a.bytes, a.num_weights), -a.harm) <
           std::tuple(-BitsPerWeight(b.bytes, b.num_weights), -b.harm);
  });
  return groups;
}

uint64_t UniformReferenceBytes(const RateTable& rates, const Choice& choice) {
  uint64_t bytes = rates.fixed_bytes();
  for (const ModuleRates& module : rates.modules) bytes += UniformRate(module, choice).bytes;
  return bytes;
}

WideInt UniformReferenceCost(const RateTable& rates, const Choice& choice,
                             const std::vector<double>& alphas, Objective objective) {
  RAM_CHECK(alphas.size() == rates.modules.size());
  WideInt cost = 0;
  for (size_t i = 0; i < rates.modules.size(); ++i) {
    const ModuleRates& module = rates.modules[i];
    cost += ChoiceCost(objective, alphas[i], UniformRate(module, choice).sum_squares_error,
                       module.sum_squares);
  }
  return cost;
}

}  // namespace ram
