#include "ram/report/model_card.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "ram/base/bytes.h"
#include "ram/report/plan_facts.h"
#include "ram/report/table.h"

namespace ram {
namespace {

bool IsNameCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '_' || c == '.';
}

// Plain words of YAML stay as they are, everything else goes between quotes.
std::string Yaml(const std::string& text) {
  const bool is_plain = !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return IsNameCharacter(c) || c == '/';
  }) && std::isalpha(static_cast<unsigned char>(text.front())) != 0;
  if (is_plain) return text;
  std::string out = "\"";
  for (const char c : Printable(text, Style{})) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

// In a cell or a sentence of Markdown: names of modules have underscores and stars.
std::string Code(const std::string& text) {
  std::string clean;
  for (const char c : Printable(text, Style{})) clean += c == '`' ? '\'' : c == '|' ? '/' : c;
  return "`" + clean + "`";
}

std::string Plain(const std::string& text) {
  std::string out;
  for (const char c : Printable(text, Style{})) {
    if (std::string_view("\\`*_{}[]<>#|").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

std::string FrontMatter(const ModelCardInfo& info) {
  std::string out = "---\nlibrary_name: mlx\npipeline_tag: text-generation\n";
  if (!info.license.empty()) out += fmt::format("license: {}\n", Yaml(info.license));
  if (LooksLikeHubName(info.base_model)) {
    out += fmt::format("base_model: {}\nbase_model_relation: quantized\n", Yaml(info.base_model));
  }
  return out + "tags:\n- mlx\n- quantized\n- mixed-precision\n- ram\n---\n";
}

// One line of the table: modules of a class with one choice.
struct ClassRow {
  std::string tensor_class;
  Choice choice;
  size_t num_modules = 0;
  uint64_t num_weights = 0;
  uint64_t bytes = 0;
  double lowest_sqnr_db = std::numeric_limits<double>::infinity();
  double highest_sqnr_db = -std::numeric_limits<double>::infinity();
};

std::string ClassTable(const Plan& plan, const RateTable& rates) {
  std::vector<ClassRow> rows;
  for (size_t i = 0; i < plan.modules.size(); ++i) {
    const PlannedModule& planned = plan.modules[i];
    const ModuleRates& module = rates.modules[i];
    auto row = std::find_if(rows.begin(), rows.end(), [&](const ClassRow& candidate) {
      return candidate.tensor_class == module.tensor_class && candidate.choice == planned.choice;
    });
    if (row == rows.end()) {
      ClassRow added;
      added.tensor_class = module.tensor_class;
      added.choice = planned.choice;
      rows.push_back(added);
      row = rows.end() - 1;
    }
    ++row->num_modules;
    row->num_weights += module.num_weights();
    row->bytes += planned.bytes;
    row->lowest_sqnr_db = std::min(row->lowest_sqnr_db, planned.sqnr_db);
    row->highest_sqnr_db = std::max(row->highest_sqnr_db, planned.sqnr_db);
  }
  // Classes as they first come in the model, most bits first within one.
  std::vector<std::string> order;
  for (const ClassRow& row : rows) {
    if (std::find(order.begin(), order.end(), row.tensor_class) == order.end()) {
      order.push_back(row.tensor_class);
    }
  }
  std::string out =
      "| class | choice | modules | share of weights | size | SQNR |\n"
      "| :-- | :-- | --: | --: | --: | --: |\n";
  for (const std::string& tensor_class : order) {
    std::vector<const ClassRow*> of_class;
    for (const ClassRow& row : rows) {
      if (row.tensor_class == tensor_class) of_class.push_back(&row);
    }
    std::stable_sort(of_class.begin(), of_class.end(), [](const ClassRow* a, const ClassRow* b) {
      return BitsPerWeight(a->bytes, a->num_weights) > BitsPerWeight(b->bytes, b->num_weights);
    });
    for (const ClassRow* row : of_class) {
      std::string sqnr = "exact";
      if (std::isfinite(row->lowest_sqnr_db)) {
        sqnr = fmt::format("{:.1f} dB", row->lowest_sqnr_db);
        const bool differs = fmt::format("{:.1f} dB", row->highest_sqnr_db) != sqnr;
        if (differs && std::isfinite(row->highest_sqnr_db)) {
          sqnr = fmt::format("{:.1f} to {:.1f} dB", row->lowest_sqnr_db, row->highest_sqnr_db);
        }
      }
      out += fmt::format("| {} | {} | {} | {} | {} | {} |\n", Code(row->tensor_class),
                         SpokenChoice(row->choice), FormatCount(row->num_modules),
                         Percent(Share(row->num_weights, plan.num_weights)),
                         FormatBytesShort(row->bytes), sqnr);
    }
  }
  if (!rates.fixed.empty()) {
    uint64_t bytes = 0;
    uint64_t weights = 0;
    for (const FixedTensor& tensor : rates.fixed) {
      bytes += tensor.bytes;
      weights += tensor.num_weights;
    }
    out += fmt::format("| norms and other small tensors | as they are | {} | {} | {} | exact |\n",
                       FormatCount(rates.fixed.size()), Percent(Share(weights, plan.num_weights)),
                       FormatBytesShort(bytes));
  }
  return out;
}

std::string Intro(const Plan& plan, const ModelCardInfo& info) {
  const std::string base =
      LooksLikeHubName(info.base_model)
          ? fmt::format("[{0}](https://huggingface.co/{0})", info.base_model)
          : Plain(ShortModelName(info.base_model.empty() ? plan.model : info.base_model));
  return fmt::format(
      "# {}\n\n"
      "{} for [MLX](https://github.com/ml-explore/mlx), in **{}**: {:.2f} bits per weight, with "
      "scales, headers and unquantized tensors counted. The budget was {}; `ram` chose bits and "
      "group size of every module so that the predicted damage within it is least.\n",
      Plain(info.name), base, FormatBytes(info.file_bytes != 0 ? info.file_bytes : plan.bytes),
      plan.bits_per_weight(), FormatBytes(plan.budget_bytes));
}

std::string Usage(const ModelCardInfo& info) {
  return fmt::format(
      "\n## Use\n\n"
      "Any program that reads MLX models loads it as it is. With mlx-lm, from the directory that "
      "holds it:\n\n"
      "```sh\npip install mlx-lm\nmlx_lm.generate --model ./{0} --prompt \"Why is the sky blue?\"\n"
      "```\n\n"
      "```python\nfrom mlx_lm import generate, load\n\n"
      "model, tokenizer = load(\"./{0}\")\n"
      "messages = [{{\"role\": \"user\", \"content\": \"Why is the sky blue?\"}}]\n"
      "prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True)\n"
      "print(generate(model, tokenizer, prompt=prompt))\n```\n\n"
      "A base model without a chat template takes the plain text as its prompt.\n",
      Printable(info.name, Style{}));
}

std::string What(const Plan& plan, const RateTable& rates) {
  std::string out = fmt::format(
      "\n## What was done\n\n"
      "The error of every possible choice of each of the {} quantizable modules was measured on "
      "its weights ({} quantizer), and the best combination was computed exactly. No text was used "
      "for calibration. SQNR is how far the error lies below the weights; the range is over the "
      "modules of a row.\n\n",
      FormatCount(plan.modules.size()), QuantizerName(rates.quantizer));
  out += ClassTable(plan, rates);
  if (!plan.request.rules.empty()) {
    out += "\nRules that were given:";
    for (size_t i = 0; i < plan.request.rules.size(); ++i) {
      out += (i == 0 ? " " : ", ") + Code(plan.request.rules[i].text);
    }
    out += ".\n";
  }
  if (plan.request.floor_db > 0) {
    out += fmt::format("\nNo choice was allowed whose rounding leaves less than {:g} dB.\n",
                       plan.request.floor_db);
  }
  return out;
}

// Modules that could have been quantized and are not.
std::string Kept(const Plan& plan, const RateTable& rates) {
  std::vector<ModuleGroup> kept;
  for (const ModuleGroup& group : GroupModules(plan, rates)) {
    if (group.choice.mode == Mode::kDense) kept.push_back(group);
  }
  if (kept.empty()) return "\nEvery module is quantized.\n";
  std::string out = "\nKept in 16 bits:\n\n";
  constexpr size_t kMost = 12;
  for (size_t i = 0; i < kept.size() && i < kMost; ++i) {
    // A reason that is no rule: the plan had the bytes, and this is where they did most.
    const bool is_rule = !kept[i].reason.empty() && !kept[i].reason.ends_with("harm");
    out += fmt::format("- {}{}{}\n", Code(kept[i].name),
                       kept[i].num_modules == 1
                           ? ""
                           : fmt::format(", {} modules", FormatCount(kept[i].num_modules)),
                       is_rule ? ": " + Plain(kept[i].reason) : ": by the plan");
  }
  if (kept.size() > kMost) {
    out += fmt::format("- and {} more kinds; plan.json lists all\n", kept.size() - kMost);
  }
  return out;
}

std::string Quality(const Plan& plan) {
  std::string out =
      "\n## How good it is\n\nThe figures here are predictions from the weights, not measurements "
      "of answers: no benchmark was run for this card. ";
  if (plan.cost == 0) return out + "Nothing is lost: every module is as the source has it.\n";
  out +=
      fmt::format("The predicted cost is {} (0 would be the source itself)", CostNumber(plan.cost));
  if (plan.uniform.cost > 0) {
    out += fmt::format("; uniform {} as `mlx_lm.convert` writes it would take {} and cost {}",
                       SpokenChoice(plan.uniform.choice), FormatBytes(plan.uniform.bytes),
                       CostNumber(plan.uniform.cost));
    if (plan.uniform.plan_cost.has_value()) {
      const double saved = 1 - AsDouble(*plan.uniform.plan_cost) / AsDouble(plan.uniform.cost);
      out += fmt::format(", {} more than a plan of that same size",
                         saved < 1 ? Percent(saved / (1 - saved)) : "infinitely");
    }
  }
  return out +
         ". Costs compare plans of this model with each other; they say nothing about other "
         "models.\n";
}

std::string Proof(const Plan& plan, const ModelCardInfo& info) {
  const double gap = CertifiedGap(plan);
  std::string claim;
  if (gap == 0) {
    claim = "The certificate in `plan.json` proves that no plan within the budget costs less.";
  } else {
    claim = fmt::format(
        "The certificate in `plan.json` proves that no plan within the budget costs less by more "
        "than {}.",
        Percent(gap));
    if (plan.proven_by_search) {
      claim += fmt::format(
          " An exhaustive search of what that leaves open ({}) shows that none costs less at all; "
          "this part is repeated rather than checked, by running `ram plan` again.",
          Counted(plan.core_items, "module"));
    }
  }
  std::string how =
      "Anybody can check it in exact arithmetic, without `ram` and without the weights, with the "
      "script `tools/check_certificate.py` of its source";
  how += info.has_rates
             ? ":\n\n```sh\npython3 tools/check_certificate.py plan.json rates.json\n```\n"
             : fmt::format(
                   " and the rate table it was made from (SHA-256 {}):\n\n```sh\n"
                   "python3 tools/check_certificate.py plan.json rates.json\n"
                   "```\n",
                   Code(plan.rates_sha256));
  return fmt::format(
      "\n## Proof\n\n{} {}\nThe proof is about the predicted costs: it says that the choices are "
      "the best for them, not that the predictions are right. `ram verify` compares the files with "
      "the plan.\n",
      claim, how);
}

}  // namespace

bool LooksLikeHubName(const std::string& name) {
  const size_t slash = name.find('/');
  if (slash == std::string::npos || name.size() > 200) return false;
  const auto is_part = [](std::string_view part) {
    return !part.empty() && part.size() <= 96 &&
           std::all_of(part.begin(), part.end(), IsNameCharacter) && part.front() != '.' &&
           part.front() != '-' && part.back() != '.' && part.back() != '-' &&
           part.find("..") == std::string_view::npos && part.find("--") == std::string_view::npos;
  };
  const std::string_view view = name;
  return is_part(view.substr(0, slash)) && is_part(view.substr(slash + 1));
}

std::string ModelCard(const Plan& plan, const RateTable& rates, const ModelCardInfo& info) {
  RAM_CHECK(plan.modules.size() == rates.modules.size());
  std::string out = FrontMatter(info) + "\n" + Intro(plan, info) + Usage(info) + What(plan, rates) +
                    Kept(plan, rates) + Quality(plan) + Proof(plan, info);
  if (!plan.notes.empty()) {
    out += "\n## Notes\n\n";
    for (const std::string& note : plan.notes) out += "- " + Plain(note) + "\n";
  }
  return out;
}

}  // namespace ram
