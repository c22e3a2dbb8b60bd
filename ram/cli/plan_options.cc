#include "ram/cli/plan_options.h"

#include <fmt/format.h>

#include <cmath>
#include <sstream>

#include "ram/base/bytes.h"
#include "ram/base/file.h"
#include "ram/device/device_budget.h"
#include "ram/measure/rate_cache.h"

namespace ram::cli {
namespace {

std::vector<std::string> Split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) {
    if (!part.empty()) parts.push_back(part);
  }
  return parts;
}

// The catalog's state as the table keeps it.
ModelState ModelStateOf(const RateTable& rates) {
  ModelState state;
  state.state.cache_elements_per_token = rates.state.cache_elements_per_token;
  state.state.window_cache_elements_per_token = rates.state.window_cache_elements_per_token;
  state.state.window_tokens = rates.state.window_tokens;
  state.state.recurrent_bytes = rates.state.recurrent_bytes;
  state.state.latent_elements_per_token = rates.state.latent_elements_per_token;
  state.hidden_size = rates.hidden_size;
  state.vocabulary = rates.vocabulary;
  state.max_context = rates.max_context;
  for (const ModuleRates& module : rates.modules) {
    AddModuleShape(module.tensor_class, module.shape, &state);
  }
  return state;
}

}  // namespace

Result<uint64_t> ParseBudget(const std::string& text, const RateTable& rates) {
  const auto number_before = [&](std::string_view suffix) -> std::optional<double> {
    if (!text.ends_with(suffix)) return std::nullopt;
    std::string_view digits = std::string_view(text).substr(0, text.size() - suffix.size());
    const std::optional<double> value = TakeDecimal(&digits);
    if (!value || !digits.empty() || *value <= 0) return std::nullopt;
    return value;
  };
  if (const auto bits = number_before("bpw"); bits && *bits <= 64) {
    return static_cast<uint64_t>(*bits * static_cast<double>(rates.num_weights()) / 8);
  }
  if (const auto percent = number_before("%"); percent && *percent <= 100) {
    return static_cast<uint64_t>(*percent / 100 * static_cast<double>(rates.dense_bytes()));
  }
  auto bytes = ParseBytes(text);
  if (!bytes) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("budget {}: expected a size (16GiB, 16GB, 500MiB, bytes), bits per "
                             "weight (4.5bpw) or a share of the 16-bit size (45%)",
                             text)};
  }
  return bytes;
}

uint64_t UniformBytes(const RateTable& rates, const Choice& choice) {
  uint64_t bytes = rates.fixed_bytes();
  for (const ModuleRates& module : rates.modules) {
    const auto fixed = ParseChoice(module.mlx_default);
    const ChoiceRate* rate = module.Find(fixed ? *fixed : choice);
    bytes += rate != nullptr ? rate->bytes : module.choices.back().bytes;
  }
  return bytes;
}

void PlanOptions::Add(CLI::App* verb, bool with_budgets) {
  if (with_budgets) {
    verb->add_option("-b,--budget", budgets,
                     "Bytes of the safetensors files: 16GiB, 16GB, 4.5bpw, 45%; several: 4GiB,6GiB")
        ->delimiter(',')
        ->group("Size");
    verb->add_flag("--min-safe", min_safe, "The smallest model above the floor")->group("Size");
    verb->add_flag("--tiers", tiers, "Four sizes: those of uniform 3, 4, 6 and 8 bits, group 64")
        ->group("Size");
    verb->add_option("--device", device, "Fit a machine: \"16GB Mac\", \"24GB GPU\", this")
        ->group("Size");
    verb->add_option("--context", context,
                     "Tokens of context that must fit beside it (--device): 32768 or 32k")
        ->transform(CLI::AsNumberWithUnit(std::map<std::string, uint64_t>{{"k", 1024}},
                                          CLI::AsNumberWithUnit::CASE_INSENSITIVE))
        ->capture_default_str()
        ->group("Size");
    verb->add_option("--kv-bits", kv_bits, "Bits of the key-value cache (--device): 16, 8 or 4")
        ->check(CLI::IsMember({16, 8, 4}))
        ->capture_default_str()
        ->group("Size");
  }
  verb->add_option("--objective", objective,
                   "What errors cost: weights (fitted sensitivities), ram (the original's)")
      ->check(CLI::IsMember({"weights", "ram"}))
      ->capture_default_str()
      ->group("Plan");
  verb->add_option("--menu", menu,
                   "Choices to select from: full, ram, or a list such as 4,64;5,64;8,64 (default: "
                   "that of the objective)")
      ->group("Plan");
  verb->add_option("--priors", priors_file, "Another table of sensitivities (JSON)")->group("Plan");
  verb->add_option("--floor-db", floor_db, "No choice below this signal-to-noise ratio; 0: off")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str()
      ->group("Plan");
  verb->add_option("--pin", pins, "PATTERN=CHOICE, >=BITS or <=BITS: 'lm_head=8,64', 'v_proj>=6'")
      ->group("Plan");
  verb->add_option("--ban", bans, "PATTERN=CHOICE or =BITS: '*=2', 'down_proj=3,128'")
      ->group("Plan");
  verb->add_option("--tie", ties, "Modules of a layer that share a choice: 'q_proj,k_proj,v_proj'")
      ->group("Plan");
  verb->add_flag("--no-protect", no_protect, "Plan routers and small gates like everything else")
      ->group("Plan");
}

Result<PlanRequest> PlanOptions::Request() const {
  PlanRequest request;
  RAM_ASSIGN_OR_RETURN(request.objective, ParseObjective(objective));
  if (!priors_file.empty()) {
    RAM_ASSIGN_OR_RETURN(const std::string text, ReadFile(priors_file, kMiB));
    RAM_ASSIGN_OR_RETURN(request.priors, ParsePriors(text, priors_file));
  }
  if (menu == "full") {
    request.menu.assign(kAffineChoices.begin(), kAffineChoices.end());
  } else if (menu == "ram") {
    request.menu = DefaultMenu(Objective::kRam);
  } else {
    for (const std::string& name : Split(menu, ';')) {
      RAM_ASSIGN_OR_RETURN(const Choice choice, ParseChoice(name));
      request.menu.push_back(choice);
    }
  }
  request.floor_db = floor_db;
  // Bans first: where they contradict each other, the later rule wins, and a pin is more exact.
  for (const std::string& text : bans) {
    RAM_ASSIGN_OR_RETURN(Rule rule, ParseBan(text));
    request.rules.push_back(std::move(rule));
  }
  for (const std::string& text : pins) {
    RAM_ASSIGN_OR_RETURN(Rule rule, ParsePin(text));
    request.rules.push_back(std::move(rule));
  }
  for (const std::string& text : ties) request.ties.push_back(Split(text, ','));
  request.protect = !no_protect;
  return request;
}

Result<std::vector<Budget>> PlanOptions::Budgets(const RateTable& rates,
                                                 const PlanRequest& request) const {
  std::vector<Budget> found;
  if (min_safe) {
    RAM_ASSIGN_OR_RETURN(const Problem problem, BuildProblem(rates, request));
    RAM_ASSIGN_OR_RETURN(const Curve curve, BuildCurve(problem.knapsack));
    found.push_back({"min-safe", MinSafeBytes(problem, curve), ""});
  }
  if (tiers) {
    for (const int bits : {3, 4, 6, 8}) {
      found.push_back(
          {fmt::format("{}bit", bits), UniformBytes(rates, Choice::Affine(bits, 64)), ""});
    }
  }
  if (!device.empty()) {
    RAM_ASSIGN_OR_RETURN(const Device parsed, ParseDevice(device));
    RAM_ASSIGN_OR_RETURN(const DeviceBudget budget,
                         BudgetForDevice({parsed, context, kv_bits, 1}, ModelStateOf(rates)));
    found.push_back({device, budget.budget_bytes, DeviceBudgetText(budget)});
  }
  for (const std::string& text : budgets) {
    RAM_ASSIGN_OR_RETURN(const uint64_t bytes, ParseBudget(text, rates));
    found.push_back({text, bytes, ""});
  }
  if (found.empty()) {
    return Error{ErrorCode::kInvalidArgument,
                 "no size given: pass --budget (16GiB, 4.5bpw, 45%), --device, --tiers or "
                 "--min-safe"};
  }
  return found;
}

void MeasureSettings::Add(CLI::App* verb) {
  verb->add_option("--cache", cache, "File that remembers measurements")->group("Reading");
  verb->add_flag("--no-cache", no_cache, "Measure everything again")->group("Reading");
  verb->add_flag("--lenient", lenient, "Accept holes and trailing bytes in safetensors files")
      ->group("Reading");
}

std::filesystem::path MeasureSettings::CachePath() const {
  if (no_cache) return {};
  return cache.empty() ? DefaultRateCachePath() : std::filesystem::path(cache);
}

void QuantizerOptions::Add(CLI::App* verb, const std::string& default_quantizer) {
  quantizer_name = default_quantizer;
  verb->add_option("--quantizer", quantizer_name,
                   "rtn (bit-exact MLX), rtn+ (codes chosen for the stored scale), opt (searched)")
      ->check(CLI::IsMember({"rtn", "rtn+", "opt"}))
      ->capture_default_str()
      ->group("Codes");
  verb->add_option("--rounding", rounding_name, "Ties as MLX breaks them on cpu or metal")
      ->check(CLI::IsMember({"cpu", "metal"}))
      ->capture_default_str()
      ->group("Codes");
}

}  // namespace ram::cli
