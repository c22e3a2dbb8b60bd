#include "ram/cli/model_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "ram/base/bytes.h"

namespace ram::cli {
namespace {

struct FormTotal {
  size_t modules = 0;
  uint64_t weights = 0;
  uint64_t bytes = 0;
};

// By size, the narrowest form first.
std::vector<std::pair<StoredForm, FormTotal>> TotalsByForm(const VerifiedModel& model) {
  std::map<std::string, std::pair<StoredForm, FormTotal>> by_name;
  for (const StoredModule& module : model.modules) {
    auto& [form, total] = by_name[module.stored.Name()];
    form = module.stored;
    ++total.modules;
    total.weights += module.num_weights;
    total.bytes += module.bytes;
  }
  std::vector<std::pair<StoredForm, FormTotal>> totals;
  for (const auto& [name, entry] : by_name) totals.push_back(entry);
  std::ranges::sort(totals, [](const auto& a, const auto& b) {
    return std::pair(a.first.bits, -a.first.group_size) <
           std::pair(b.first.bits, -b.first.group_size);
  });
  return totals;
}

}  // namespace

std::string VerifiedText(const VerifiedModel& model, const Style& style) {
  std::vector<std::pair<std::string, std::string>> facts = {
      {"family", model.model_type},
      {"weights", FormatCount(model.num_weights)},
      {"files", FormatBytes(model.file_bytes)},
      {"bits per weight",
       fmt::format("{:.3f}, scales and everything else counted", model.bits_per_weight())},
  };
  if (model.has_plan) {
    facts.emplace_back(
        "budget", fmt::format("{}, the plan takes {}", FormatBytes(model.budget_bytes.value_or(0)),
                              FormatBytes(model.planned_bytes.value_or(0))));
  }
  std::string text = Facts(facts, style) + "\n";

  Table table({{"stored as"},
               {"modules", Align::kRight},
               {"weights", Align::kRight},
               {"bytes", Align::kRight},
               {"share of weights", Align::kLeft, Column::Kind::kBar}});
  for (const auto& [form, total] : TotalsByForm(model)) {
    const double share = model.num_weights == 0 ? 0
                                                : static_cast<double>(total.weights) /
                                                      static_cast<double>(model.num_weights);
    table.AddRow({form.mode == "16" ? "16 bits" : form.Name(), FormatCount(total.modules),
                  FormatCount(total.weights), FormatBytesShort(total.bytes), share});
  }
  text += table.Text(style) + "\n";
  for (const std::string& note : model.notes) text += Wrap("note: " + note, style, 0, 6);
  if (model.problems.empty()) {
    text += Paint("verified", Tint::kGood, style) +
            (model.has_plan ? ": files, config.json and plan.json agree, module by module\n"
                            : ": files and config.json agree, module by module\n");
  } else {
    text += Paint(Counted(model.problems.size(), "problem"), Tint::kBad, style) + "\n";
    for (const std::string& problem : model.problems) text += Wrap("- " + problem, style, 2, 4);
  }
  return text;
}

OrderedJson VerifiedJson(const VerifiedModel& model) {
  OrderedJson modules = OrderedJson::array();
  for (const StoredModule& module : model.modules) {
    OrderedJson entry = {{"name", module.name},
                         {"stored", module.stored.Name()},
                         {"weights", module.num_weights},
                         {"bytes", module.bytes}};
    if (module.declared) entry["declared"] = module.declared->Name();
    if (module.planned) entry["planned"] = module.planned->Name();
    modules.push_back(std::move(entry));
  }
  return {{"model_type", model.model_type},
          {"weights", model.num_weights},
          {"file_bytes", model.file_bytes},
          {"tensor_bytes", model.tensor_bytes},
          {"bits_per_weight", model.bits_per_weight()},
          {"problems", model.problems},
          {"notes", model.notes},
          {"modules", modules}};
}

}  // namespace ram::cli
