// The plan in plain words: what was asked, what was fixed, who got what and why, what more memory
// would buy, and what is proven.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "ram/base/bytes.h"
#include "ram/plan/detail.h"
#include "ram/plan/plan.h"

namespace ram {
namespace {

constexpr size_t kLineWidth = 100;

// Breaks at blanks. The first line is indented by `first`, later ones by `indent`.
std::string Wrapped(std::string_view text, size_t first = 0, size_t indent = 0) {
  std::string out(first, ' ');
  size_t column = first;
  bool is_start = true;
  while (!text.empty()) {
    const size_t blank = text.find(' ');
    const std::string_view word = text.substr(0, blank);
    text = blank == text.npos ? std::string_view() : text.substr(blank + 1);
    if (!is_start && column + 1 + word.size() > kLineWidth) {
      out += '\n';
      out.append(indent, ' ');
      column = indent;
    } else if (!is_start) {
      out += ' ';
      ++column;
    }
    out += word;
    column += word.size();
    is_start = false;
  }
  return out + "\n";
}

// "1 module", "3 modules".
std::string Counted(size_t count, std::string_view noun) {
  return fmt::format("{} {}{}", FormatCount(count), noun, count == 1 ? "" : "s");
}

// "(4,64)", "16 bits", "MXFP4".
std::string Spoken(const Choice& choice) {
  if (choice.mode == Mode::kDense) return "16 bits";
  if (choice.mode == Mode::kMxfp4) return "MXFP4";
  return fmt::format("({})", ChoiceName(choice));
}

// "12 %", "3.0 %", "0.011 %".
std::string Percent(double share) {
  const double percent = 100 * share;
  if (percent >= 9.95 || percent == 0) return fmt::format("{:.0f} %", percent);
  return percent >= 0.995 ? fmt::format("{:.1f} %", percent) : fmt::format("{:.2g} %", percent);
}

// For columns: "33.0 %", "<0.1 %".
std::string ColumnPercent(double share) {
  if (share > 0 && share < 0.0005) return "<0.1 %";
  return fmt::format("{:.1f} %", 100 * share);
}

double Ratio(WideInt part, WideInt whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

// Of a choice, scales and biases included; BF16 or F16 scales.
double NominalBits(const Choice& choice) {
  if (choice.mode == Mode::kDense) return 16;
  if (choice.mode == Mode::kMxfp4) return 4.25;
  return choice.bits + 32.0 / choice.group_size;
}

// {0, 1, 2, 5} -> "layers 0-2, 5".
std::string LayersText(const std::set<int>& numbers) {
  std::string out;
  for (auto at = numbers.begin(); at != numbers.end();) {
    const int first = *at;
    int last = first;
    while (++at != numbers.end() && *at == last + 1) last = *at;
    if (!out.empty()) out += ", ";
    out += first == last ? fmt::format("{}", first) : fmt::format("{}-{}", first, last);
  }
  return (numbers.size() == 1 ? "layer " : "layers ") + out;
}

std::string BudgetParagraph(const Plan& plan) {
  std::string text = fmt::format(
      "The budget is {}. The plan takes {}: {:.2f} bits per weight, with scales, biases, headers "
      "and unquantized tensors counted. ",
      FormatBytes(plan.budget_bytes), FormatBytes(plan.bytes), plan.bits_per_weight());
  const uint64_t unused = plan.budget_bytes - std::min(plan.budget_bytes, plan.bytes);
  if (plan.bytes >= plan.dense_bytes) {
    text += "That is the whole model in 16 bits: nothing had to be given up.";
  } else if (plan.cost == 0) {
    text += "Nothing is lost: every module is as the source has it.";
  } else {
    text += fmt::format(
        "{} stay unused. In 16 bits the model takes {}; {} {} is the least it can "
        "take.",
        FormatBytesShort(unused), FormatBytes(plan.dense_bytes),
        plan.request.floor_db > 0 ? fmt::format("above the floor of {} dB,", plan.request.floor_db)
                                  : std::string("with the floor off,"),
        FormatBytes(plan.min_safe_bytes));
  }
  return Wrapped(text);
}

std::string ObjectiveParagraph(const Plan& plan) {
  return Wrapped(
      plan.request.objective == Objective::kWeights
          ? "What was minimised: the sum over modules of sensitivity times relative squared error. "
            "Sensitivities (alpha) come from a table of classes and depths that was fitted to "
            "measurements of other models, so they are a good guess about this one, not a "
            "measurement of it."
          : "What was minimised: the original's objective, the sum over modules of its priors "
            "times the relative error, unsquared. It is here for comparisons; the objective "
            "\"weights\" predicts damage better.");
}

std::string FixedParagraph(const Plan& plan, const RateTable& rates) {
  std::string text =
      fmt::format("Not up for decision: {} and file headers, {}.",
                  Counted(rates.fixed.size(), "small tensor"), FormatBytesShort(plan.fixed_bytes));
  std::map<std::string, std::vector<std::string>> modules_by_reason;
  for (const ProblemItem& item : plan.items) {
    if (item.reason.empty()) continue;
    for (const size_t module : item.modules) {
      modules_by_reason[item.reason].push_back(plan.modules[module].name);
    }
  }
  if (!modules_by_reason.empty()) text += " Restricted:";
  std::string out = Wrapped(text);
  for (const auto& [reason, names] : modules_by_reason) {
    std::set<std::string> got;
    for (const std::string& name : names) {
      const auto module = std::ranges::find(plan.modules, name, &PlannedModule::name);
      got.insert(Spoken(module->choice));
    }
    out += Wrapped(fmt::format("{} ({}): {}", FirstAndCount(names), reason, fmt::join(got, ", ")),
                   /*first=*/2, /*indent=*/4);
  }
  for (const auto& group : plan.request.ties) {
    out += Wrapped(fmt::format("{} of one layer share one choice.", fmt::join(group, " and ")),
                   /*first=*/2, /*indent=*/4);
  }
  return out;
}

std::string FloorParagraph(const Plan& plan, const RateTable& rates) {
  if (plan.request.floor_db == 0) {
    return Wrapped("The floor is off: choices may lose any share of a module's signal.");
  }
  const double largest = LargestRelativeMse(plan.request.floor_db);
  std::vector<std::pair<size_t, std::vector<std::string>>> vetoed;  // Choices by how often.
  for (const Choice& choice : kAffineChoices) {
    if (std::ranges::find(plan.request.menu, choice) == plan.request.menu.end()) continue;
    const auto count = std::ranges::count_if(rates.modules, [&](const ModuleRates& module) {
      const ChoiceRate* rate = module.Find(choice);
      return rate != nullptr && !ReachesFloor(module, *rate, largest);
    });
    if (count == 0) continue;
    if (vetoed.empty() || vetoed.back().first != static_cast<size_t>(count)) {
      vetoed.push_back({static_cast<size_t>(count), {}});
    }
    vetoed.back().second.push_back(Spoken(choice));
  }
  std::vector<std::string> parts;
  for (const auto& [count, choices] : vetoed) {
    const std::string where =
        count == rates.modules.size() ? "everywhere" : "in " + Counted(count, "module");
    parts.push_back(fmt::format("{} {}", fmt::join(choices, " "), where));
  }
  return Wrapped(fmt::format(
      "The floor of {} dB (a relative squared error of {:.3f}) vetoed {}.", plan.request.floor_db,
      largest, parts.empty() ? "nothing" : fmt::format("{}", fmt::join(parts, ", "))));
}

// What the modules of one class got.
struct ClassSummary {
  std::string name;
  size_t count = 0;
  uint64_t bytes = 0;
  uint64_t weights = 0;
  double sum_log_alpha = 0;
  WideInt cost = 0;
  std::map<std::string, std::set<int>> layers;  // By choice.
};

std::vector<ClassSummary> SummariseClasses(const Plan& plan, const RateTable& rates) {
  std::vector<ClassSummary> classes;
  for (size_t i = 0; i < plan.modules.size(); ++i) {
    const PlannedModule& planned = plan.modules[i];
    const ModuleRates& module = rates.modules[i];
    auto found = std::ranges::find(classes, module.tensor_class, &ClassSummary::name);
    if (found == classes.end()) {
      found = classes.insert(classes.end(), ClassSummary{});
      found->name = module.tensor_class;
    }
    ++found->count;
    found->bytes += planned.bytes;
    found->weights += module.num_weights();
    found->sum_log_alpha += std::log(planned.alpha);
    found->cost += planned.cost;
    found->layers[Spoken(planned.choice)].insert(module.layer);
  }
  const auto by_alpha = [](const ClassSummary& summary) {
    return -summary.sum_log_alpha / static_cast<double>(summary.count);
  };
  std::ranges::stable_sort(classes, {}, by_alpha);
  return classes;
}

// A table, most sensitive class first, with the layers that got each choice.
std::string ClassParagraph(const Plan& plan, const RateTable& rates) {
  std::string out = Wrapped(
      "Who got what. Modules whose errors do more harm per byte got more bits; alpha is the harm "
      "of "
      "a relative squared error of 1, the last column where this plan's predicted harm comes "
      "from.");
  out += fmt::format("  {:<18}{:>8}{:>8}{:>8}{:>8}{:>8}\n", "class", "modules", "alpha", "bits",
                     "size", "harm");
  for (const ClassSummary& summary : SummariseClasses(plan, rates)) {
    const double alpha = std::exp(summary.sum_log_alpha / static_cast<double>(summary.count));
    out += fmt::format(
        "  {:<18}{:>8}{:>8.3g}{:>8.2f}{:>8}{:>8}\n", summary.name, summary.count, alpha,
        8 * static_cast<double>(summary.bytes) /
            static_cast<double>(std::max<uint64_t>(summary.weights, 1)),
        ColumnPercent(static_cast<double>(summary.bytes) / static_cast<double>(plan.bytes)),
        ColumnPercent(Ratio(summary.cost, plan.cost)));
    std::vector<std::string> parts;
    for (const auto& [choice, layers] : summary.layers) {
      if (summary.count == 1 || *layers.rbegin() < 0) {
        parts.push_back(choice);
      } else {
        parts.push_back(fmt::format("{} in {}", choice, LayersText(layers)));
      }
    }
    out += Wrapped(fmt::format("{}", fmt::join(parts, "; ")), /*first=*/4, /*indent=*/4);
  }
  return out;
}

std::string ExtremesParagraph(const Plan& plan, const RateTable& rates) {
  std::vector<const PlannedModule*> decided;  // Where there was something to decide.
  for (const ProblemItem& item : plan.items) {
    if (item.options.size() < 2) continue;
    for (const size_t i : item.modules) {
      if (rates.modules[i].sum_squares != 0) decided.push_back(&plan.modules[i]);
    }
  }
  if (decided.size() < 2 || plan.cost == 0) return "";
  std::ranges::stable_sort(decided, {}, [](const PlannedModule* module) {
    return std::pair(NominalBits(module->choice), module->alpha);
  });
  const auto describe = [](const PlannedModule& module) {
    return fmt::format(
        "{} with {} (alpha {:.3g}{})", module.name, Spoken(module.choice), module.alpha,
        std::isfinite(module.sqnr_db) ? fmt::format(", {:.1f} dB", module.sqnr_db) : "");
  };
  return Wrapped(fmt::format("Most bits: {}. Fewest: {}.", describe(*decided.back()),
                             describe(*decided.front())));
}

std::string UniformParagraph(const Plan& plan, const RateTable& rates) {
  const UniformReference& uniform = plan.uniform;
  std::string text = fmt::format("For comparison, uniform {} as mlx_lm.convert writes it takes {}",
                                 Spoken(uniform.choice), FormatBytes(uniform.bytes));
  const auto left_out = std::ranges::count_if(rates.modules, [&](const ModuleRates& module) {
    return module.mlx_default == "uniform" && module.Find(uniform.choice) == nullptr;
  });
  if (left_out != 0) {
    text += fmt::format(" with {} left in 16 bits, because the group divides no row there",
                        Counted(static_cast<size_t>(left_out), "module"));
  }
  if (!uniform.plan_cost || uniform.cost == 0) {
    return Wrapped(text + ", which is below the smallest plan here.");
  }
  const double ratio = Ratio(*uniform.plan_cost, uniform.cost);
  return Wrapped(text + fmt::format(". By the same measure a plan of that size does {} of its "
                                    "harm, and this plan does {}.",
                                    Percent(ratio), Percent(Ratio(plan.cost, uniform.cost))));
}

std::string NextGibParagraph(const Plan& plan) {
  if (plan.cost == 0) return "";
  if (plan.bytes + kGiB >= plan.dense_bytes) {
    return Wrapped("One more GiB would hold the whole model in 16 bits.");
  }
  return Wrapped(fmt::format("One more GiB would take away {} of the predicted harm that is left.",
                             Percent(plan.next_gib_saving)));
}

std::string ProofParagraph(const Plan& plan) {
  if (plan.cost == plan.lower_bound) {
    return Wrapped(
        "Proof: no plan within this budget does less predicted harm; the certificate "
        "shows it without a gap.");
  }
  std::string text = fmt::format("Proof: proven within {} by the certificate",
                                 Percent(Ratio(plan.cost - plan.lower_bound, plan.cost)));
  if (plan.proven_by_search) {
    text += fmt::format(", optimal by exhaustive search of {}", Counted(plan.core_items, "item"));
  }
  return Wrapped(text + ". (Optimal for the stated sensitivities; nobody can prove those.)");
}

std::string NotesParagraph(const Plan& plan) {
  std::string out;
  for (const std::string& note : plan.notes)
    out += Wrapped("Note: " + note + ".", /*first=*/0, /*indent=*/6);
  return out;
}

}  // namespace

std::string ExplainPlan(const Plan& plan, const RateTable& rates) {
  RAM_CHECK(plan.modules.size() == rates.modules.size());
  std::string out = fmt::format("Plan for {}\n", plan.model);
  for (const std::string& paragraph :
       {BudgetParagraph(plan), ObjectiveParagraph(plan), FixedParagraph(plan, rates),
        FloorParagraph(plan, rates), ClassParagraph(plan, rates), ExtremesParagraph(plan, rates),
        UniformParagraph(plan, rates), NextGibParagraph(plan), ProofParagraph(plan),
        NotesParagraph(plan)}) {
    if (!paragraph.empty()) out += "\n" + paragraph;
  }
  return out;
}

}  // namespace ram
