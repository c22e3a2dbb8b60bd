#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <unordered_map>

#include "ram/plan/detail.h"
#include "ram/plan/plan.h"
#include "ram/rates/json_text.h"

namespace ram {
namespace {

constexpr std::string_view kFormat = "ram.plan.v1";
// As in rate tables: no count exceeds this, and doubles hold every whole number up to here.
constexpr uint64_t kMaxCount = uint64_t{1} << 52;

// ---- Writing ----

// ["a", "b"] from the texts of the elements.
template <typename Range, typename Text>
std::string ArrayText(const Range& range, const Text& text) {
  std::string out = "[";
  for (const auto& element : range) {
    if (out.size() > 1) out += ", ";
    out += text(element);
  }
  return out + "]";
}

// The same, one element per line.
template <typename Range, typename Text>
std::string LinesText(const Range& range, const Text& text) {
  std::string out = "[";
  for (const auto& element : range) {
    out += out.size() > 1 ? ",\n" : "\n";
    out += text(element);
  }
  return out + "\n]";
}

std::string ChoiceText(const Choice& choice) { return JsonStringText(ChoiceName(choice)); }

std::string QuotedWide(WideInt value) { return fmt::format("\"{}\"", WideText(value)); }

std::string PriorsText(const Priors& priors) {
  std::string out = fmt::format("{{\"origin\": {}, \"sha256\": {}, \"class_factors\": {{",
                                JsonStringText(priors.origin), JsonStringText(priors.sha256));
  std::string_view separator;
  for (const auto& [name, factor] : priors.class_factors) {
    out += fmt::format("{}{}: {}", separator, JsonStringText(name), JsonNumberText(factor));
    separator = ", ";
  }
  return out + fmt::format(
                   "}}, \"depth\": {}, \"head\": {}, \"embedding\": {}, "
                   "\"tied_embedding\": {}{}}}",
                   ArrayText(priors.depth,
                             [](const std::pair<double, double>& point) {
                               return fmt::format("[{}, {}]", JsonNumberText(point.first),
                                                  JsonNumberText(point.second));
                             }),
                   JsonNumberText(priors.head), JsonNumberText(priors.embedding),
                   JsonNumberText(priors.tied_embedding),
                   priors.shuffle_seed ? fmt::format(", \"shuffle_seed\": {}", *priors.shuffle_seed)
                                       : "");
}

std::string_view RuleKindName(Rule::Kind kind) {
  switch (kind) {
    case Rule::Kind::kPin:
      return "pin";
    case Rule::Kind::kAtLeast:
      return "at_least";
    case Rule::Kind::kAtMost:
      return "at_most";
    case Rule::Kind::kBan:
      return "ban";
  }
  RAM_CHECK(false);
}

// As it was written, and taken apart for readers without our parser.
std::string RuleText(const Rule& rule) {
  return fmt::format("{{\"kind\": \"{}\", \"pattern\": {}, {}, \"text\": {}}}",
                     RuleKindName(rule.kind), JsonStringText(rule.pattern),
                     rule.choice ? fmt::format("\"choice\": {}", ChoiceText(*rule.choice))
                                 : fmt::format("\"bits\": {}", rule.bits),
                     JsonStringText(rule.text));
}

std::string CertificateText(const Plan& plan) {
  const double cost = static_cast<double>(plan.cost);
  const double gap = plan.cost == 0 ? 0 : static_cast<double>(plan.cost - plan.lower_bound) / cost;
  return fmt::format(
      "{{\"cost_unit\": 1e-15, \"upper_bound\": {}, \"lower_bound\": {}, \"gap\": {}, "
      "\"lambda\": {{\"num\": \"{}\", \"den\": \"{}\"}}, \"proven_by_search\": {}, "
      "\"core_items\": {}, \"states\": {}}}",
      QuotedWide(plan.cost), QuotedWide(plan.lower_bound), JsonNumberText(gap), plan.lambda.num,
      plan.lambda.den, plan.proven_by_search, plan.core_items, plan.states);
}

std::string UniformText(const UniformReference& uniform) {
  return fmt::format("{{\"choice\": {}, \"bytes\": {}, \"cost\": {}, \"plan_cost\": {}}}",
                     ChoiceText(uniform.choice), uniform.bytes, QuotedWide(uniform.cost),
                     uniform.plan_cost ? QuotedWide(*uniform.plan_cost) : "null");
}

std::string ModuleText(const PlannedModule& module) {
  return fmt::format(
      "{{\"name\": {}, \"choice\": {}, \"bytes\": {}, \"cost\": \"{}\", \"alpha\": {}, "
      "\"relative_mse\": {}, \"sqnr_db\": {}}}",
      JsonStringText(module.name), ChoiceText(module.choice), module.bytes, module.cost,
      JsonNumberText(module.alpha), JsonNumberText(module.relative_mse),
      std::isfinite(module.sqnr_db) ? JsonNumberText(module.sqnr_db) : "null");
}

// ---- Reading ----

Error Wrong(std::string_view where, std::string_view key, std::string_view what) {
  return Error{ErrorCode::kCorrupt, fmt::format("{}: key \"{}\": {}", where, key, what)};
}

Status CheckKeys(const Json& object, std::initializer_list<std::string_view> known,
                 std::string_view where) {
  if (!object.is_object()) {
    return Error{ErrorCode::kCorrupt, fmt::format("{}: expected an object", where)};
  }
  for (const auto& [key, value] : object.items()) {
    if (std::ranges::find(known, key) == known.end()) {
      return Wrong(where, key, fmt::format("not part of the format {}", kFormat));
    }
  }
  return Done{};
}

Result<uint64_t> GetCount(const Json& object, std::string_view key, std::string_view where,
                          uint64_t largest = kMaxCount) {
  const Json* value = Find(object, key);
  if (value == nullptr || !value->is_number_unsigned() || value->get<uint64_t>() > largest) {
    return Wrong(where, key, fmt::format("expected a whole number from 0 to {}", largest));
  }
  return value->get<uint64_t>();
}

Result<double> GetMagnitude(const Json& object, std::string_view key, std::string_view where) {
  RAM_ASSIGN_OR_RETURN(const double value, GetNumber(object, key, where));
  if (!std::isfinite(value) || value < 0) {
    return Wrong(where, key, "expected a finite number that is not negative");
  }
  return value;
}

// Whole numbers of up to 120 bits as decimal strings.
Result<WideInt> ParseWide(const Json* value, std::string_view key, std::string_view where) {
  const auto wrong = [&] {
    return Wrong(where, key, "expected a whole number in quotes, of at most 36 digits");
  };
  if (value == nullptr || !value->is_string()) return wrong();
  std::string_view digits = value->get_ref<const std::string&>();
  const bool is_negative = digits.starts_with('-');
  if (is_negative) digits.remove_prefix(1);
  const bool is_canonical = digits == "0" ? !is_negative : !digits.starts_with('0');
  if (digits.empty() || digits.size() > 36 || !is_canonical) return wrong();
  WideInt number = 0;
  for (const char c : digits) {
    if (c < '0' || c > '9') return wrong();
    number = number * 10 + (c - '0');
  }
  return is_negative ? -number : number;
}

Result<WideInt> GetWide(const Json& object, std::string_view key, std::string_view where) {
  return ParseWide(Find(object, key), key, where);
}

Result<int64_t> GetQuotedInt(const Json& object, std::string_view key, std::string_view where) {
  RAM_ASSIGN_OR_RETURN(const WideInt value, GetWide(object, key, where));
  if (value < 0 || value > std::numeric_limits<int64_t>::max()) {
    return Wrong(where, key, "expected a whole number from 0 to 2^63 - 1, in quotes");
  }
  return static_cast<int64_t>(value);
}

Result<Choice> ChoiceOf(const Json& value, std::string_view key, std::string_view where) {
  if (!value.is_string()) return Wrong(where, key, "expected a choice such as \"4,64\"");
  const auto choice = ParseChoice(value.get_ref<const std::string&>());
  if (!choice) return Wrong(where, key, choice.error().message);
  return *choice;
}

Result<Choice> GetChoice(const Json& object, std::string_view key, std::string_view where) {
  RAM_ASSIGN_OR_RETURN(const std::string name, GetString(object, key, where));
  return ChoiceOf(Json(name), key, where);
}

Result<std::vector<Choice>> GetChoices(const Json& object, std::string_view key,
                                       std::string_view where) {
  RAM_ASSIGN_OR_RETURN(const Json* array, GetArray(object, key, where));
  std::vector<Choice> choices;
  for (const Json& element : *array) {
    RAM_ASSIGN_OR_RETURN(const Choice choice, ChoiceOf(element, key, where));
    choices.push_back(choice);
  }
  return choices;
}

Result<std::vector<std::string>> StringsOf(const Json& array, std::string_view key,
                                           std::string_view where) {
  std::vector<std::string> strings;
  if (!array.is_array()) return Wrong(where, key, "expected an array of strings");
  for (const Json& element : array) {
    if (!element.is_string()) return Wrong(where, key, "expected strings");
    strings.push_back(element.get<std::string>());
  }
  return strings;
}

Result<Priors> ReadPriors(const Json& json, std::string_view where) {
  RAM_ASSIGN_OR_RETURN(const Json* object, GetObject(json, "priors", where));
  const std::string there = fmt::format("{}: key \"priors\"", where);
  RAM_RETURN_IF_ERROR(CheckKeys(*object,
                                {"origin", "sha256", "class_factors", "depth", "head", "embedding",
                                 "tied_embedding", "shuffle_seed"},
                                there));
  RAM_ASSIGN_OR_RETURN(Priors priors, PriorsFromJson(*object, there));
  RAM_ASSIGN_OR_RETURN(priors.sha256, GetString(*object, "sha256", there));
  return priors;
}

Result<Rule> ReadRule(const Json& json, std::string_view where) {
  RAM_RETURN_IF_ERROR(CheckKeys(json, {"kind", "pattern", "choice", "bits", "text"}, where));
  RAM_ASSIGN_OR_RETURN(const std::string kind, GetString(json, "kind", where));
  RAM_ASSIGN_OR_RETURN(const std::string text, GetString(json, "text", where));
  auto rule = kind == "ban" ? ParseBan(text) : ParsePin(text);
  if (!rule) return Wrong(where, "text", rule.error().message);
  // The other keys say the same again.
  if (Json::parse(RuleText(*rule)) != json) {
    return Wrong(
        where, "text",
        fmt::format("{} means another rule than the keys beside it", JsonStringText(text)));
  }
  return rule;
}

Result<std::vector<Rule>> ReadRules(const Json& json, std::string_view where) {
  RAM_ASSIGN_OR_RETURN(const Json* array, GetArray(json, "rules", where));
  std::vector<Rule> rules;
  for (const Json& element : *array) {
    RAM_ASSIGN_OR_RETURN(Rule rule, ReadRule(element, fmt::format("{}: key \"rules\"", where)));
    rules.push_back(std::move(rule));
  }
  return rules;
}

Result<PlanRequest> ReadRequest(const Json& json, std::string_view where) {
  PlanRequest request;
  RAM_ASSIGN_OR_RETURN(const std::string objective, GetString(json, "objective", where));
  const auto parsed = ParseObjective(objective);
  if (!parsed) return Wrong(where, "objective", parsed.error().message);
  request.objective = *parsed;
  RAM_ASSIGN_OR_RETURN(request.priors, ReadPriors(json, where));
  RAM_ASSIGN_OR_RETURN(request.menu, GetChoices(json, "menu", where));
  if (request.menu.empty()) return Wrong(where, "menu", "expected at least one choice");
  RAM_ASSIGN_OR_RETURN(request.floor_db, GetMagnitude(json, "floor_db", where));
  RAM_ASSIGN_OR_RETURN(request.rules, ReadRules(json, where));
  RAM_ASSIGN_OR_RETURN(const Json* ties, GetArray(json, "ties", where));
  for (const Json& group : *ties) {
    RAM_ASSIGN_OR_RETURN(auto patterns, StringsOf(group, "ties", where));
    request.ties.push_back(std::move(patterns));
  }
  RAM_ASSIGN_OR_RETURN(request.protect, GetBool(json, "protect", where));
  return request;
}

Status ReadCertificate(const Json& json, std::string_view where, Plan& plan) {
  RAM_ASSIGN_OR_RETURN(const Json* object, GetObject(json, "certificate", where));
  const std::string there = fmt::format("{}: key \"certificate\"", where);
  RAM_RETURN_IF_ERROR(CheckKeys(*object,
                                {"cost_unit", "upper_bound", "lower_bound", "gap", "lambda",
                                 "proven_by_search", "core_items", "states"},
                                there));
  RAM_ASSIGN_OR_RETURN(const double unit, GetNumber(*object, "cost_unit", there));
  if (unit != kCostUnit) return Wrong(there, "cost_unit", "expected 1e-15");
  RAM_ASSIGN_OR_RETURN(plan.cost, GetWide(*object, "upper_bound", there));
  RAM_ASSIGN_OR_RETURN(plan.lower_bound, GetWide(*object, "lower_bound", there));
  RAM_ASSIGN_OR_RETURN(const Json* lambda, GetObject(*object, "lambda", there));
  RAM_RETURN_IF_ERROR(CheckKeys(*lambda, {"num", "den"}, there));
  RAM_ASSIGN_OR_RETURN(plan.lambda.num, GetQuotedInt(*lambda, "num", there));
  RAM_ASSIGN_OR_RETURN(plan.lambda.den, GetQuotedInt(*lambda, "den", there));
  if (plan.lambda.den == 0) return Wrong(there, "den", "expected a number above 0");
  RAM_ASSIGN_OR_RETURN(plan.proven_by_search, GetBool(*object, "proven_by_search", there));
  RAM_ASSIGN_OR_RETURN(plan.core_items, GetCount(*object, "core_items", there));
  RAM_ASSIGN_OR_RETURN(plan.states, GetCount(*object, "states", there));
  return Done{};
}

Result<UniformReference> ReadUniform(const Json& json, std::string_view where) {
  RAM_ASSIGN_OR_RETURN(const Json* object, GetObject(json, "uniform", where));
  const std::string there = fmt::format("{}: key \"uniform\"", where);
  RAM_RETURN_IF_ERROR(CheckKeys(*object, {"choice", "bytes", "cost", "plan_cost"}, there));
  UniformReference uniform;
  RAM_ASSIGN_OR_RETURN(uniform.choice, GetChoice(*object, "choice", there));
  RAM_ASSIGN_OR_RETURN(uniform.bytes, GetCount(*object, "bytes", there));
  RAM_ASSIGN_OR_RETURN(uniform.cost, GetWide(*object, "cost", there));
  if (Find(*object, "plan_cost") != nullptr) {
    RAM_ASSIGN_OR_RETURN(uniform.plan_cost, GetWide(*object, "plan_cost", there));
  }
  return uniform;
}

Result<PlannedModule> ReadModule(const Json& json, std::string_view where) {
  const Json* name = Find(json, "name");
  const std::string there =
      name != nullptr && name->is_string()
          ? fmt::format("{}: module {}", where, name->get_ref<const std::string&>())
          : fmt::format("{}: a module", where);
  RAM_RETURN_IF_ERROR(CheckKeys(
      json, {"name", "choice", "bytes", "cost", "alpha", "relative_mse", "sqnr_db"}, there));
  PlannedModule module;
  RAM_ASSIGN_OR_RETURN(module.name, GetString(json, "name", there));
  RAM_ASSIGN_OR_RETURN(module.choice, GetChoice(json, "choice", there));
  RAM_ASSIGN_OR_RETURN(module.bytes, GetCount(json, "bytes", there));
  RAM_ASSIGN_OR_RETURN(module.cost, GetQuotedInt(json, "cost", there));
  RAM_ASSIGN_OR_RETURN(module.alpha, GetMagnitude(json, "alpha", there));
  RAM_ASSIGN_OR_RETURN(module.relative_mse, GetMagnitude(json, "relative_mse", there));
  module.sqnr_db = std::numeric_limits<double>::infinity();
  if (Find(json, "sqnr_db") != nullptr) {
    RAM_ASSIGN_OR_RETURN(module.sqnr_db, GetNumber(json, "sqnr_db", there));
  }
  return module;
}

using ModuleIndex = std::unordered_map<std::string_view, size_t>;

// `unassigned` holds the modules that no earlier item has.
Result<ProblemItem> ReadItem(const Json& json, ModuleIndex& unassigned, std::string_view where) {
  const std::string there = fmt::format("{}: key \"items\"", where);
  RAM_RETURN_IF_ERROR(CheckKeys(json, {"modules", "options", "reason"}, there));
  ProblemItem item;
  RAM_ASSIGN_OR_RETURN(const Json* modules, GetArray(json, "modules", there));
  RAM_ASSIGN_OR_RETURN(const auto names, StringsOf(*modules, "modules", there));
  if (names.empty()) return Wrong(there, "modules", "expected at least one module");
  for (const std::string& name : names) {
    const auto found = unassigned.find(name);
    if (found == unassigned.end()) {
      return Wrong(there, "modules",
                   fmt::format("{} is no module of the plan, or in two items", name));
    }
    item.modules.push_back(found->second);
    unassigned.erase(found);
  }
  RAM_ASSIGN_OR_RETURN(item.options, GetChoices(json, "options", there));
  if (item.options.empty()) return Wrong(there, "options", "expected at least one choice");
  RAM_ASSIGN_OR_RETURN(item.reason, GetString(json, "reason", there));
  return item;
}

Status ReadModulesAndItems(const Json& json, std::string_view where, Plan& plan) {
  RAM_ASSIGN_OR_RETURN(const Json* modules, GetArray(json, "modules", where));
  for (const Json& element : *modules) {
    RAM_ASSIGN_OR_RETURN(PlannedModule module, ReadModule(element, where));
    plan.modules.push_back(std::move(module));
  }
  ModuleIndex unassigned;
  for (size_t i = 0; i < plan.modules.size(); ++i) {
    if (!unassigned.emplace(plan.modules[i].name, i).second) {
      return Wrong(where, "modules", fmt::format("{} is there twice", plan.modules[i].name));
    }
  }
  RAM_ASSIGN_OR_RETURN(const Json* items, GetArray(json, "items", where));
  for (const Json& element : *items) {
    RAM_ASSIGN_OR_RETURN(ProblemItem item, ReadItem(element, unassigned, where));
    plan.items.push_back(std::move(item));
  }
  if (!unassigned.empty()) {
    const auto first = std::ranges::min_element(unassigned, {}, &ModuleIndex::value_type::second);
    return Wrong(where, "items", fmt::format("{} is in none of them", first->first));
  }
  return Done{};
}

}  // namespace

std::string WideText(WideInt value) { return fmt::format("{}", value); }

std::string ToJsonText(const Plan& plan) {
  const PlanRequest& request = plan.request;
  std::string out = "{\n";
  const auto line = [&](std::string_view key, std::string_view text) {
    out += fmt::format("\"{}\": {},\n", key, text);
  };
  const auto count = [&](std::string_view key, uint64_t value) {
    line(key, fmt::format("{}", value));
  };
  line("format", JsonStringText(kFormat));
  line("model", JsonStringText(plan.model));
  line("rates", fmt::format("{{\"file\": {}, \"sha256\": {}}}", JsonStringText(plan.rates_file),
                            JsonStringText(plan.rates_sha256)));
  line("objective", JsonStringText(ObjectiveName(request.objective)));
  line("priors", PriorsText(request.priors));
  line("menu",
       ArrayText(request.menu.empty() ? DefaultMenu(request.objective) : request.menu, ChoiceText));
  line("floor_db", JsonNumberText(request.floor_db));
  line("rules", ArrayText(request.rules, RuleText));
  line("ties", ArrayText(request.ties, [](const std::vector<std::string>& group) {
         return ArrayText(group, JsonStringText);
       }));
  line("protect", request.protect ? "true" : "false");
  count("budget_bytes", plan.budget_bytes);
  count("fixed_bytes", plan.fixed_bytes);
  count("bytes", plan.bytes);
  count("num_weights", plan.num_weights);
  line("bits_per_weight", JsonNumberText(plan.bits_per_weight()));
  count("min_safe_bytes", plan.min_safe_bytes);
  count("dense_bytes", plan.dense_bytes);
  line("certificate", CertificateText(plan));
  line("uniform", UniformText(plan.uniform));
  line("next_gib_saving", JsonNumberText(plan.next_gib_saving));
  line("notes", ArrayText(plan.notes, JsonStringText));
  line("modules", LinesText(plan.modules, ModuleText));
  out += "\"items\": ";
  out += LinesText(plan.items, [&](const ProblemItem& item) {
    const auto name = [&](size_t index) { return JsonStringText(plan.modules[index].name); };
    return fmt::format("{{\"modules\": {}, \"options\": {}, \"reason\": {}}}",
                       ArrayText(item.modules, name), ArrayText(item.options, ChoiceText),
                       JsonStringText(item.reason));
  });
  return out + "\n}\n";
}

Result<Plan> ParsePlan(std::string_view text, std::string_view where) {
  RAM_ASSIGN_OR_RETURN(const Json json, ParseJson(text, where));
  RAM_ASSIGN_OR_RETURN(const std::string format, GetString(json, "format", where));
  if (format != kFormat) return Wrong(where, "format", fmt::format("expected \"{}\"", kFormat));
  RAM_RETURN_IF_ERROR(CheckKeys(
      json, {"format",         "model",       "rates",       "objective",   "priors",
             "menu",           "floor_db",    "rules",       "ties",        "protect",
             "budget_bytes",   "fixed_bytes", "bytes",       "num_weights", "bits_per_weight",
             "min_safe_bytes", "dense_bytes", "certificate", "uniform",     "next_gib_saving",
             "notes",          "modules",     "items"},
      where));
  Plan plan;
  RAM_ASSIGN_OR_RETURN(plan.model, GetString(json, "model", where));
  RAM_ASSIGN_OR_RETURN(const Json* rates, GetObject(json, "rates", where));
  RAM_RETURN_IF_ERROR(CheckKeys(*rates, {"file", "sha256"}, where));
  RAM_ASSIGN_OR_RETURN(plan.rates_file, GetString(*rates, "file", where));
  RAM_ASSIGN_OR_RETURN(plan.rates_sha256, GetString(*rates, "sha256", where));
  RAM_ASSIGN_OR_RETURN(plan.request, ReadRequest(json, where));
  RAM_ASSIGN_OR_RETURN(plan.budget_bytes, GetCount(json, "budget_bytes", where, INT64_MAX));
  RAM_ASSIGN_OR_RETURN(plan.fixed_bytes, GetCount(json, "fixed_bytes", where));
  RAM_ASSIGN_OR_RETURN(plan.bytes, GetCount(json, "bytes", where));
  RAM_ASSIGN_OR_RETURN(plan.num_weights, GetCount(json, "num_weights", where));
  RAM_ASSIGN_OR_RETURN(plan.min_safe_bytes, GetCount(json, "min_safe_bytes", where));
  RAM_ASSIGN_OR_RETURN(plan.dense_bytes, GetCount(json, "dense_bytes", where));
  RAM_RETURN_IF_ERROR(ReadCertificate(json, where, plan));
  RAM_ASSIGN_OR_RETURN(plan.uniform, ReadUniform(json, where));
  RAM_ASSIGN_OR_RETURN(plan.next_gib_saving, GetMagnitude(json, "next_gib_saving", where));
  RAM_ASSIGN_OR_RETURN(const Json* notes, GetArray(json, "notes", where));
  RAM_ASSIGN_OR_RETURN(plan.notes, StringsOf(*notes, "notes", where));
  RAM_RETURN_IF_ERROR(ReadModulesAndItems(json, where, plan));
  return plan;
}

}  // namespace ram
