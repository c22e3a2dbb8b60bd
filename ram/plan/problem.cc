#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <set>

#include "ram/plan/detail.h"
#include "ram/plan/near_names.h"
#include "ram/plan/plan.h"

namespace ram {
namespace {

using Choices = std::vector<Choice>;

bool Contains(const Choices& choices, const Choice& choice) {
  return std::ranges::find(choices, choice) != choices.end();
}

Choices Filter(const Choices& choices, const std::function<bool(const Choice&)>& keep) {
  Choices kept;
  std::ranges::copy_if(choices, std::back_inserter(kept), keep);
  return kept;
}

// Whether a rule, taken alone, lets a module that it matches have this choice. Rules about bits are
// about loss: MXFP4 that is passed through loses nothing, so only a rule that names it excludes it.
bool Permits(const Rule& rule, const Choice& choice) {
  if (!rule.choice && choice.mode == Mode::kMxfp4) return true;
  switch (rule.kind) {
    case Rule::Kind::kPin:
      return choice == *rule.choice;
    case Rule::Kind::kAtLeast:
      return choice.bits >= rule.bits;
    case Rule::Kind::kAtMost:
      return choice.bits <= rule.bits;
    case Rule::Kind::kBan:
      return rule.choice ? choice != *rule.choice : choice.bits != rule.bits;
  }
  RAM_CHECK(false);
}

// "pin lm_head=8,64"
std::string RuleText(const Rule& rule) {
  return fmt::format("{} {}", rule.kind == Rule::Kind::kBan ? "ban" : "pin", rule.text);
}

Error NothingMatches(std::string_view what, std::string_view pattern, const RateTable& rates) {
  std::vector<std::string> names;
  for (const ModuleRates& module : rates.modules) names.push_back(module.name);
  const auto near = NearNames(pattern, names, /*max_count=*/3);
  return Error{
      ErrorCode::kInvalidArgument,
      near.empty()
          ? fmt::format("{} matches no module; the first is {}", what, rates.modules.front().name)
          : fmt::format("{} matches no module; near it: {}", what, fmt::join(near, ", "))};
}

// What one module may get, and why.
struct Allowed {
  Choices choices;  // In the order of the table.
  std::string reason;
};

// Decides module by module and collects what is worth telling, so that a hundred modules with the
// same fate make one note.
class Chooser {
 public:
  explicit Chooser(const PlanRequest& request)
      : request_(request),
        menu_(request.menu),
        largest_relative_mse_(LargestRelativeMse(request.floor_db)) {
    if (menu_.empty()) menu_ = DefaultMenu(request.objective);
  }

  // What the menu and the floor leave; 16 bits and MXFP4 always stay.
  Choices Base(const ModuleRates& module) const {
    Choices base;
    for (const ChoiceRate& rate : module.choices) {
      const bool is_kept = rate.choice.mode != Mode::kAffine;
      if (is_kept || (Contains(menu_, rate.choice) && IsAboveFloor(module, rate))) {
        base.push_back(rate.choice);
      }
    }
    return base;
  }

  Result<Allowed> Allow(const ModuleRates& module, const std::vector<const Rule*>& rules) {
    const Choices base = Base(module);
    const bool is_protected = request_.protect && IsProtected(module);
    const Choices protected_base =
        is_protected ? Filter(base,
                              [](const Choice& choice) {
                                return choice.mode != Mode::kAffine ||
                                       (choice.bits == 8 && choice.group_size <= 64);
                              })
                     : base;
    Allowed allowed{protected_base, DefaultReason(module, base, is_protected)};
    Note(module, base);

    std::vector<std::string> applied;
    for (const Rule* rule : rules) {
      const auto permits = [&](const Choice& choice) { return Permits(*rule, choice); };
      Choices left = Filter(allowed.choices, permits);
      if (left.empty()) {  // It contradicts what came before it, and wins.
        left = Filter(protected_base, permits);
        if (left.empty()) left = Filter(base, permits);
        if (left.empty() && rule->kind == Rule::Kind::kPin) {
          RAM_RETURN_IF_ERROR(PinBeyondBase(module, *rule));
          left = {*rule->choice};
        }
        if (left.empty()) return NothingLeft(module, *rule);
        NoteContradiction(module, *rule, applied, is_protected);
        applied.clear();
      }
      if (left != allowed.choices) applied.push_back(RuleText(*rule));
      allowed.choices = std::move(left);
    }
    if (!applied.empty()) allowed.reason = fmt::format("{}", fmt::join(applied, "; "));
    return allowed;
  }

  void AppendNotes(std::vector<std::string>& notes) const {
    for (const auto& [text, names] : modules_by_note_) {
      notes.push_back(fmt::format("{}: {}", FirstAndCount(names), text));
    }
  }

 private:
  static bool HasAffine(const Choices& choices) {
    return std::ranges::any_of(choices,
                               [](const Choice& choice) { return choice.mode == Mode::kAffine; });
  }

  bool IsAboveFloor(const ModuleRates& module, const ChoiceRate& rate) const {
    return ReachesFloor(module, rate, largest_relative_mse_);
  }

  static bool IsLegalAnywhere(const ModuleRates& module) {
    return module.shape.back() % static_cast<uint64_t>(kGroupSizes.front()) == 0;
  }

  // Why no affine choice is left before any rule.
  std::string NoAffine(const ModuleRates& module) const {
    if (!IsLegalAnywhere(module)) {
      return fmt::format("width {} is divisible by no group size", module.shape.back());
    }
    const bool is_in_menu = std::ranges::any_of(
        module.choices, [&](const ChoiceRate& rate) { return Contains(menu_, rate.choice); });
    if (!is_in_menu) {
      return fmt::format("no choice of the menu fits rows of {} weights", module.shape.back());
    }
    return fmt::format("no choice of the menu reaches the floor of {} dB", request_.floor_db);
  }

  // Why there are few options where no rule says so.
  std::string DefaultReason(const ModuleRates& module, const Choices& base,
                            bool is_protected) const {
    if (!HasAffine(base)) return NoAffine(module);
    if (is_protected) return IsRouter(module) ? "router" : "small gate of linear attention";
    return "";
  }

  void Note(const ModuleRates& module, const Choices& base) {
    if (!HasAffine(base) && module.Find(Choice::Mxfp4()) == nullptr) {
      AddNote(module, NoAffine(module) + ": stays in 16 bits");
    }
    if (module.sum_squares == 0) AddNote(module, "all weights are 0, so every choice is exact");
  }

  void AddNote(const ModuleRates& module, const std::string& text) {
    modules_by_note_[text].push_back(module.name);
  }

  void NoteContradiction(const ModuleRates& module, const Rule& rule,
                         const std::vector<std::string>& applied, bool is_protected) {
    if (!applied.empty()) {
      AddNote(module, fmt::format("\"{}\" contradicts \"{}\", and the later rule wins",
                                  RuleText(rule), fmt::join(applied, "; ")));
    } else if (is_protected) {
      AddNote(module, fmt::format("\"{}\" takes it below 8 bits or groups of 64", RuleText(rule)));
    }
  }

  // A pin may leave the menu and the floor behind, because the user asked; not the format.
  Status PinBeyondBase(const ModuleRates& module, const Rule& rule) {
    const ChoiceRate* rate = module.Find(*rule.choice);
    if (rate == nullptr) {
      const std::string why =
          rule.choice->mode == Mode::kMxfp4
              ? std::string("the source does not have it in MXFP4")
              : fmt::format("rows of {} weights have no such choice in the rate table",
                            module.shape.back());
      return Error{ErrorCode::kInvalidArgument,
                   fmt::format("\"{}\" cannot be done for {}: {}", rule.text, module.name, why)};
    }
    if (!IsAboveFloor(module, *rate)) {
      AddNote(module, fmt::format("{} is below the floor of {} dB, and was pinned (\"{}\")",
                                  ChoiceName(rate->choice), request_.floor_db, rule.text));
    }
    return Done{};
  }

  Error NothingLeft(const ModuleRates& module, const Rule& rule) const {
    std::string why = HasAffine(Base(module)) ? "the menu has nothing else" : NoAffine(module);
    for (const ChoiceRate& rate : module.choices) {
      if (!Contains(menu_, rate.choice) || !Permits(rule, rate.choice)) continue;
      why = fmt::format("{} has {:.1f} dB, below the floor of {} dB", ChoiceName(rate.choice),
                        RtnSqnrDb(module, rate), request_.floor_db);
    }
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("\"{}\" leaves no choice for {}: {}", rule.text, module.name, why)};
  }

  const PlanRequest& request_;
  Choices menu_;
  double largest_relative_mse_;
  std::map<std::string, std::vector<std::string>> modules_by_note_;
};

// Which modules are decided together: for every module the first one of its set.
class Ties {
 public:
  explicit Ties(size_t num_modules) : parent_(num_modules) {
    std::iota(parent_.begin(), parent_.end(), size_t{0});
  }
  size_t Find(size_t module) const {
    while (parent_[module] != module) module = parent_[module];
    return module;
  }
  void Join(size_t a, size_t b) {
    a = Find(a);
    b = Find(b);
    parent_[std::max(a, b)] = std::min(a, b);
  }

 private:
  std::vector<size_t> parent_;
};

Result<Ties> TieModules(const RateTable& rates, const PlanRequest& request,
                        std::vector<std::string>& notes) {
  Ties ties(rates.modules.size());
  for (const auto& group : request.ties) {
    std::map<int, size_t> first_of_layer;
    std::set<std::string_view> unmatched(group.begin(), group.end());
    bool is_idle = true;
    for (size_t i = 0; i < rates.modules.size(); ++i) {
      const ModuleRates& module = rates.modules[i];
      bool matches = false;
      for (const std::string& pattern : group) {
        if (!MatchesPattern(pattern, module.name)) continue;
        unmatched.erase(pattern);
        matches = true;
      }
      if (!matches) continue;
      const auto [first, is_new] = first_of_layer.try_emplace(module.layer, i);
      if (is_new) continue;
      ties.Join(first->second, i);
      is_idle = false;
    }
    const std::string text = fmt::format("tie {}", fmt::join(group, ","));
    if (!unmatched.empty()) {
      const std::string_view pattern = *unmatched.begin();
      return NothingMatches(fmt::format("\"{}\" of \"{}\"", pattern, text), pattern, rates);
    }
    if (is_idle) {
      notes.push_back(fmt::format("\"{}\" changes nothing: no layer has two such modules", text));
    }
  }
  return ties;
}

Status CheckRequest(const RateTable& rates, const PlanRequest& request) {
  if (!std::isfinite(request.floor_db) || request.floor_db < 0) {
    return Error{
        ErrorCode::kInvalidArgument,
        fmt::format("a floor of {} dB is no floor: expected 0 (off) or more", request.floor_db)};
  }
  if (rates.modules.empty()) {
    return Error{ErrorCode::kInvalidArgument, "the rate table has no modules"};
  }
  for (const ModuleRates& module : rates.modules) {
    if (module.num_nan == 0 && module.num_inf == 0) continue;
    return Error{
        ErrorCode::kCorrupt,
        fmt::format("{} holds {} NaN and {} infinite weights{}: nothing can be promised for "
                    "such a model",
                    module.name, module.num_nan, module.num_inf,
                    module.first_non_finite.empty()
                        ? ""
                        : fmt::format(" (the first at {})", module.first_non_finite))};
  }
  return Done{};
}

// Costs and bytes of an item's options: sums over the modules that are decided together.
Result<Item> PriceItem(const RateTable& rates, const PlanRequest& request,
                       const std::vector<double>& alphas, const ProblemItem& item) {
  Item priced;
  for (size_t option = 0; option < item.options.size(); ++option) {
    uint64_t bytes = 0;
    WideInt cost = 0;
    for (const size_t index : item.modules) {
      const ModuleRates& module = rates.modules[index];
      const ChoiceRate* rate = module.Find(item.options[option]);
      RAM_CHECK(rate != nullptr);
      bytes += rate->bytes;
      cost +=
          ChoiceCost(request.objective, alphas[index], rate->sum_squares_error, module.sum_squares);
    }
    if (cost > std::numeric_limits<Cost>::max()) {
      return Error{ErrorCode::kCorrupt, fmt::format("{}: the errors of {} are too large to add up",
                                                    rates.modules[item.modules.front()].name,
                                                    ChoiceName(item.options[option]))};
    }
    priced.options.push_back({bytes, static_cast<Cost>(cost), static_cast<int>(option)});
  }
  return priced;
}

}  // namespace

bool IsRouter(const ModuleRates& module) {
  return module.kind == "router" || module.tensor_class == "router";
}

bool IsProtected(const ModuleRates& module) {
  return IsRouter(module) || module.tensor_class == "linear_alpha_beta";
}

double LargestRelativeMse(double floor_db) {
  if (floor_db == 0) return std::numeric_limits<double>::infinity();
  return std::strtod(fmt::format("{:.11e}", std::pow(10.0, -floor_db / 10)).c_str(), nullptr);
}

bool ReachesFloor(const ModuleRates& module, const ChoiceRate& rate, double largest_relative_mse) {
  if (module.sum_squares == 0) return true;
  return rate.rtn_sum_squares_error.value_or(rate.sum_squares_error) <=
         largest_relative_mse * module.sum_squares;
}

double RtnSqnrDb(const ModuleRates& module, const ChoiceRate& rate) {
  return SqnrDb(module.sum_squares, rate.rtn_sum_squares_error.value_or(rate.sum_squares_error));
}

std::string FirstAndCount(const std::vector<std::string>& names) {
  RAM_CHECK(!names.empty());
  if (names.size() == 1) return names.front();
  return fmt::format("{} and {} more", names.front(), names.size() - 1);
}

Result<Problem> BuildProblem(const RateTable& rates, const PlanRequest& request) {
  RAM_RETURN_IF_ERROR(CheckRequest(rates, request));
  Problem problem;
  problem.fixed_bytes = rates.fixed_bytes();
  problem.alphas = SensitivityAlphas(rates, request.objective, request.priors);

  std::vector<std::vector<const Rule*>> rules(rates.modules.size());
  for (const Rule& rule : request.rules) {
    bool matches_any = false;
    for (size_t i = 0; i < rates.modules.size(); ++i) {
      if (!MatchesPattern(rule.pattern, rates.modules[i].name)) continue;
      rules[i].push_back(&rule);
      matches_any = true;
    }
    if (!matches_any) {
      return NothingMatches(fmt::format("\"{}\"", rule.text), rule.pattern, rates);
    }
  }

  RAM_ASSIGN_OR_RETURN(const Ties ties, TieModules(rates, request, problem.notes));
  Chooser chooser(request);
  std::vector<size_t> item_of(rates.modules.size());
  for (size_t i = 0; i < rates.modules.size(); ++i) {
    RAM_ASSIGN_OR_RETURN(Allowed allowed, chooser.Allow(rates.modules[i], rules[i]));
    if (ties.Find(i) == i) {
      item_of[i] = problem.items.size();
      problem.items.push_back({{i}, std::move(allowed.choices), std::move(allowed.reason)});
      continue;
    }
    item_of[i] = item_of[ties.Find(i)];
    ProblemItem& item = problem.items[item_of[i]];
    item.modules.push_back(i);
    item.options = Filter(item.options,
                          [&](const Choice& choice) { return Contains(allowed.choices, choice); });
    if (item.reason.empty()) item.reason = std::move(allowed.reason);
    if (item.options.empty()) {
      return Error{ErrorCode::kInvalidArgument,
                   fmt::format("{} and {} are tied, but no choice is allowed for both{}",
                               rates.modules[item.modules.front()].name, rates.modules[i].name,
                               item.reason.empty() ? "" : fmt::format(" ({})", item.reason))};
    }
  }
  chooser.AppendNotes(problem.notes);
  for (const ProblemItem& item : problem.items) {
    RAM_ASSIGN_OR_RETURN(Item priced, PriceItem(rates, request, problem.alphas, item));
    problem.knapsack.push_back(std::move(priced));
  }
  return problem;
}

}  // namespace ram
