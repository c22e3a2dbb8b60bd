#include "ram/report/compress_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "ram/base/bytes.h"
#include "ram/report/plan_facts.h"

namespace ram {
namespace {

constexpr size_t kMostShown = 5;  // Groups with the most bits, and with the fewest.

using FactList = std::vector<std::pair<std::string, std::string>>;

std::string SizeText(const Plan& plan) {
  const uint64_t unused = plan.budget_bytes - std::min(plan.budget_bytes, plan.bytes);
  if (unused == 0) return FormatBytes(plan.bytes) + ", the budget to the byte";
  return fmt::format("{}, {} under the budget", FormatBytes(plan.bytes), FormatBytesShort(unused));
}

std::string UniformText(const Plan& plan) {
  std::string text =
      fmt::format("{}: {}, cost {}", SpokenChoice(plan.uniform.choice),
                  FormatBytesShort(plan.uniform.bytes), CostNumber(plan.uniform.cost));
  if (plan.uniform.plan_cost.has_value()) {
    const double saved = 1 - AsDouble(*plan.uniform.plan_cost) / AsDouble(plan.uniform.cost);
    text += fmt::format("; a plan of that size costs {} less", Percent(saved));
  }
  return text;
}

std::string NextGibText(const Plan& plan) {
  if (plan.cost == 0) return "";
  const uint64_t left = plan.dense_bytes - std::min(plan.dense_bytes, plan.bytes);
  if (left <= kGiB) return fmt::format("{} more hold all of it in 16 bits", FormatBytesShort(left));
  return fmt::format("would lower the cost by {}", Percent(plan.next_gib_saving));
}

std::string LambdaText(const Plan& plan) {
  if (plan.lambda.num == 0) return "0";
  return fmt::format("{:.3g} per MiB", static_cast<double>(plan.lambda.num) /
                                           static_cast<double>(plan.lambda.den) * kCostUnit *
                                           static_cast<double>(kMiB));
}

std::string ProofText(const Plan& plan) {
  const double gap = CertifiedGap(plan);
  if (plan.cost == plan.lower_bound) {
    return "optimal: the certificate's bound is the plan's cost (λ " + LambdaText(plan) + ")";
  }
  if (plan.proven_by_search) {
    return fmt::format(
        "optimal: no plan within the budget costs less, {} searched to the end; by the "
        "certificate alone within {} (λ {})",
        plan.core_items == 0 ? "all others" : Counted(plan.core_items, "module"), Percent(gap),
        LambdaText(plan));
  }
  return fmt::format("within {} of the best plan there is, by certificate (λ {})", Percent(gap),
                     LambdaText(plan));
}

std::string PlanFacts(const Plan& plan, const Style& style) {
  FactList facts;
  facts.emplace_back("budget", FormatBytes(plan.budget_bytes));
  facts.emplace_back("size", SizeText(plan));
  facts.emplace_back(
      "bits/weight",
      fmt::format("{:.3f}, scales, headers and 16-bit tensors counted", plan.bits_per_weight()));
  facts.emplace_back("cost", plan.cost == 0
                                 ? "0: nothing is lost"
                                 : CostNumber(plan.cost) + ", predicted; 0 is the source");
  if (plan.uniform.cost > 0) facts.emplace_back("uniform", UniformText(plan));
  if (std::string text = NextGibText(plan); !text.empty()) facts.emplace_back("next GiB", text);
  facts.emplace_back("proof", ProofText(plan));
  return Facts(facts, style);
}

std::string ChoiceTable(const Plan& plan, const RateTable& rates, const Style& style) {
  Table table({{"choice"},
               {"modules", Align::kRight, Column::Kind::kText, /*optional=*/true},
               {"weights", Align::kRight},
               {"", Align::kLeft, Column::Kind::kBar},
               {"size", Align::kRight},
               {"bits", Align::kRight, Column::Kind::kText, /*optional=*/true}});
  const std::vector<ChoiceShare> shares = SharesOfChoices(plan, rates);
  for (const ChoiceShare& share : shares) {
    const double of_weights = Share(share.num_weights, plan.num_weights);
    table.AddRow({share.name, FormatCount(share.num_modules), Percent(of_weights), of_weights,
                  FormatBytesShort(share.bytes),
                  fmt::format("{:.2f}", BitsPerWeight(share.bytes, share.num_weights))});
  }
  if (!rates.fixed.empty()) {
    uint64_t bytes = 0;
    uint64_t weights = 0;
    for (const FixedTensor& tensor : rates.fixed) {
      bytes += tensor.bytes;
      weights += tensor.num_weights;
    }
    const double of_weights = Share(weights, plan.num_weights);
    table.AddRow({"small tensors", FormatCount(rates.fixed.size()), Percent(of_weights), of_weights,
                  FormatBytesShort(bytes), fmt::format("{:.2f}", BitsPerWeight(bytes, weights))});
  }
  return table.Text(style);
}

std::string GroupTable(const std::vector<ModuleGroup>& groups, size_t first, size_t count,
                       const Plan& plan, const Style& style) {
  Table table({{"", Align::kLeft, Column::Kind::kName},
               {"", Align::kRight, Column::Kind::kText, /*optional=*/true},
               {""},
               {"", Align::kRight, Column::Kind::kText, /*optional=*/true},
               {"", Align::kLeft, Column::Kind::kRemark}});
  for (size_t i = first; i < first + count && i < groups.size(); ++i) {
    const ModuleGroup& group = groups[i];
    table.AddRow({group.name, group.num_modules == 1 ? "" : fmt::format("×{}", group.num_modules),
                  SpokenChoice(group.choice), Percent(Share(group.num_weights, plan.num_weights)),
                  group.reason});
  }
  return table.Text(style);
}

// Who got most and fewest bits; everybody, if that is not many more.
std::string ExtremesTables(const Plan& plan, const RateTable& rates, const Style& style) {
  const std::vector<ModuleGroup> groups = GroupModules(plan, rates);
  const bool differ = std::any_of(groups.begin(), groups.end(), [&](const ModuleGroup& group) {
    return group.choice != groups.front().choice;
  });
  if (!differ) return "";
  const std::string note = Wrap(
      "harm: what (4,64) would cost per weight, against the average of the model", style, 2, 2);
  if (groups.size() <= 2 * kMostShown) {
    return "\n" + Heading("Modules, most bits first", style) +
           GroupTable(groups, 0, groups.size(), plan, style) + note;
  }
  return "\n" + Heading("Most bits", style) + GroupTable(groups, 0, kMostShown, plan, style) +
         "\n" + Heading("Fewest bits", style) +
         GroupTable(groups, groups.size() - kMostShown, kMostShown, plan, style) + note;
}

std::string Notes(const std::vector<std::string>& notes, const Style& style) {
  std::string out;
  for (const std::string& note : notes) out += Wrap("note: " + note, style, 2, 8);
  return out.empty() ? "" : "\n" + out;
}

}  // namespace

std::string CompressSummary(const Plan& plan, const RateTable& rates, const Style& style) {
  RAM_CHECK(plan.modules.size() == rates.modules.size());
  return Heading(fmt::format("{} in {}", ShortModelName(plan.model), FormatBytesShort(plan.bytes)),
                 style) +
         PlanFacts(plan, style) + "\n" + Heading("Choices", style) +
         ChoiceTable(plan, rates, style) + ExtremesTables(plan, rates, style) +
         Notes(plan.notes, style);
}

std::string BudgetTable(const std::vector<const Plan*>& plans, const RateTable& rates,
                        const Style& style) {
  if (plans.empty()) return "";
  Table table({{"budget", Align::kRight},
               {"size", Align::kRight},
               {"unused", Align::kRight, Column::Kind::kText, /*optional=*/true},
               {"bits", Align::kRight},
               {"cost", Align::kRight},
               {"uniform", Align::kRight, Column::Kind::kText, /*optional=*/true},
               {"gap", Align::kRight, Column::Kind::kText, /*optional=*/true},
               {"next GiB", Align::kRight, Column::Kind::kText, /*optional=*/true},
               {"choices by weights", Align::kLeft, Column::Kind::kRemark, /*optional=*/true}});
  for (const Plan* plan : plans) {
    const uint64_t unused = plan->budget_bytes - std::min(plan->budget_bytes, plan->bytes);
    std::string mix;
    std::vector<ChoiceShare> shares = SharesOfChoices(*plan, rates);
    std::stable_sort(shares.begin(), shares.end(), [](const ChoiceShare& a, const ChoiceShare& b) {
      return a.num_weights > b.num_weights;
    });
    for (size_t i = 0; i < shares.size() && i < 4; ++i) {
      mix += fmt::format("{}{} {:.0f} %", i == 0 ? "" : ", ", shares[i].name,
                         100 * Share(shares[i].num_weights, plan->num_weights));
    }
    const double ratio =
        plan->uniform.cost > 0 ? AsDouble(plan->cost) / AsDouble(plan->uniform.cost) : 0;
    const double gap = CertifiedGap(*plan);
    table.AddRow({FormatBytesShort(plan->budget_bytes), FormatBytesShort(plan->bytes),
                  FormatBytesShort(unused), fmt::format("{:.2f}", plan->bits_per_weight()),
                  CostNumber(plan->cost), plan->uniform.cost > 0 ? Times(ratio) : "",
                  plan->proven_by_search || gap == 0 ? "optimal" : Percent(gap),
                  plan->cost == 0 ? "" : "-" + Percent(plan->next_gib_saving), mix});
  }
  const Plan& first = *plans.front();
  std::string out =
      Heading(fmt::format("{}: {}", ShortModelName(first.model), Counted(plans.size(), "budget")),
              style) +
      table.Text(style);
  if (first.uniform.cost > 0) {
    out += Wrap(fmt::format("uniform: the cost against that of uniform {}, {} in {}.",
                            SpokenChoice(first.uniform.choice), CostNumber(first.uniform.cost),
                            FormatBytesShort(first.uniform.bytes)),
                style, 2, 2);
  }
  return out;
}

namespace {

// Modules of one class, before any choice.
struct ClassRow {
  std::string name;
  size_t num_modules = 0;
  uint64_t num_weights = 0;
  uint64_t dense_bytes = 0;
  std::string shape;  // Of the first; "..." if they differ.
};

std::string ShapeText(const std::vector<uint64_t>& shape) {
  std::string text;
  for (const uint64_t size : shape) text += (text.empty() ? "" : "×") + std::to_string(size);
  return text;
}

std::vector<ClassRow> RowsOfClasses(const RateTable& rates) {
  std::vector<ClassRow> rows;
  for (const ModuleRates& module : rates.modules) {
    auto row = std::find_if(rows.begin(), rows.end(), [&](const ClassRow& candidate) {
      return candidate.name == module.tensor_class;
    });
    const std::string shape = ShapeText(module.shape);
    if (row == rows.end()) {
      rows.push_back({module.tensor_class, 0, 0, 0, shape});
      row = rows.end() - 1;
    }
    if (row->shape != shape) row->shape = "various";
    ++row->num_modules;
    row->num_weights += module.num_weights();
    const ChoiceRate* dense = module.Find(Choice::Dense());
    if (dense != nullptr) row->dense_bytes += dense->bytes;
  }
  return rows;
}

}  // namespace

std::string ModelSummary(const RateTable& rates, const ModelFacts& facts, const Style& style) {
  const uint64_t num_weights = rates.num_weights();
  uint64_t quantizable = 0;
  for (const ModuleRates& module : rates.modules) quantizable += module.num_weights();

  FactList lines;
  lines.emplace_back("family", facts.family.empty() || facts.family == rates.model_type
                                   ? rates.model_type
                                   : fmt::format("{} ({})", rates.model_type, facts.family));
  lines.emplace_back("weights", FormatCount(num_weights));
  lines.emplace_back(
      "shape",
      fmt::format("{}, hidden {}, vocabulary {}{}", Counted(ToCount(rates.num_layers), "layer"),
                  FormatCount(rates.hidden_size), FormatCount(rates.vocabulary),
                  facts.tied ? ", embedding serves as head" : ""));
  if (rates.max_context != 0) {
    lines.emplace_back("context", FormatCount(rates.max_context) + " tokens at most");
  }
  lines.emplace_back("checkpoint", FormatBytes(rates.source_bytes));
  lines.emplace_back("16 bits", FormatBytes(rates.dense_bytes()));
  const auto add_uniform = [&](const std::string& label, const Choice& choice) {
    const uint64_t bytes = UniformReferenceBytes(rates, choice);
    lines.emplace_back(label, fmt::format("{}, {:.2f} bits per weight", FormatBytes(bytes),
                                          BitsPerWeight(bytes, num_weights)));
  };
  add_uniform("uniform 8", Choice::Affine(8, 64));
  add_uniform("uniform 4", Choice::Affine(4, 64));
  lines.emplace_back("quantizable", fmt::format("{} of the weights, in {}",
                                                Percent(Share(quantizable, num_weights)),
                                                Counted(rates.modules.size(), "module")));

  Table table({{"class", Align::kLeft, Column::Kind::kName},
               {"modules", Align::kRight},
               {"shape", Align::kLeft, Column::Kind::kRemark, /*optional=*/true},
               {"weights", Align::kRight},
               {"", Align::kLeft, Column::Kind::kBar},
               {"16 bits", Align::kRight}});
  for (const ClassRow& row : RowsOfClasses(rates)) {
    const double share = Share(row.num_weights, num_weights);
    table.AddRow({row.name, FormatCount(row.num_modules), row.shape, Percent(share), share,
                  FormatBytesShort(row.dense_bytes)});
  }
  if (!rates.fixed.empty()) {
    uint64_t weights = 0;
    uint64_t bytes = 0;
    for (const FixedTensor& tensor : rates.fixed) {
      weights += tensor.num_weights;
      bytes += tensor.bytes;
    }
    const double share = Share(weights, num_weights);
    table.AddRow({"never quantized", FormatCount(rates.fixed.size()), "norms, biases, ...",
                  Percent(share), share, FormatBytesShort(bytes)});
  }

  std::string out = Heading(ShortModelName(rates.model), style) + Facts(lines, style) + "\n" +
                    Heading("Modules", style) + table.Text(style);
  if (!facts.dropped.empty()) {
    Table dropped({{"left out", Align::kLeft, Column::Kind::kName},
                   {"tensors", Align::kRight},
                   {"size", Align::kRight}});
    for (const DroppedGroup& group : facts.dropped) {
      dropped.AddRow(
          {group.reason, FormatCount(group.num_tensors), FormatBytesShort(group.num_bytes)});
    }
    out += "\n" + dropped.Text(style);
  }
  return out + Notes(facts.notes, style);
}

}  // namespace ram
