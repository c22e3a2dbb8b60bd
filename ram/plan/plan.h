#pragma once

// The plan: one choice for every module within a budget, the rules that were applied, and a
// certificate that tools/check_certificate.py verifies from plan.json and the rate table alone.
// On disk: plan.json (docs/plan.md).

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ram/allocate/allocate.h"
#include "ram/base/json.h"
#include "ram/base/result.h"
#include "ram/plan/objective.h"
#include "ram/rates/rate_table.h"

namespace ram {

// "lm_head=8,64": modules that match must get one of these choices.
// A pattern is a run of whole path components, anywhere in the path, with * and ? inside them:
// "lm_head" matches "lm_head" and "language_model.lm_head", "mlp.gate" matches
// "model.layers.3.mlp.gate" but not "...mlp.gate_proj", "layers.0" everything in layer 0.
struct Rule {
  enum class Kind : uint8_t {
    kPin,      // PATTERN=4,64 (or =16, =mxfp4): exactly this choice.
    kAtLeast,  // PATTERN>=6: no fewer bits.
    kAtMost,   // PATTERN<=6: no more bits.
    kBan,      // PATTERN=2,128: not this choice; PATTERN=2: not these bits; 2: nowhere.
  };
  Kind kind = Kind::kPin;
  std::string pattern;
  int bits = 0;                  // kAtLeast, kAtMost, and kBan of all group sizes.
  std::optional<Choice> choice;  // kPin, and kBan of one choice.
  std::string text;              // As it was written.
};

// From --pin and --ban. kInvalidArgument quotes the text and says what is expected.
Result<Rule> ParsePin(std::string_view text);
Result<Rule> ParseBan(std::string_view text);
bool MatchesPattern(std::string_view pattern, std::string_view module);

struct PlanRequest {
  Objective objective = Objective::kWeights;
  Priors priors = DefaultPriors();
  std::vector<Choice> menu;  // Empty: DefaultMenu(objective). 16 bits and MXFP4 are always in it.
  double floor_db = 9;       // 0: off. Judged on plain rounding (RTN).
  // Each rule narrows what the ones before it left to a module; where nothing would be left, it
  // replaces them. A pin may go beyond the menu and below the floor.
  std::vector<Rule> rules;
  // Modules of one layer that match one of the patterns of a group get the same choice, e.g.
  // {"q_proj", "k_proj", "v_proj"}.
  std::vector<std::vector<std::string>> ties;
  // Routers and the small gates of linear attention get at least (8,64), unless a rule leaves them
  // no such choice.
  bool protect = true;
};

// The problem that a table and a request make: everything but the budget.
struct ProblemItem {
  std::vector<size_t> modules;  // Indexes into RateTable::modules; more than one when tied.
  std::vector<Choice> options;  // Allowed, parallel to Item::options (Option::choice indexes it).
  std::string reason;           // Why the options are few, for people: "", "pin lm_head=8,64", ...
};

struct Problem {
  std::vector<ProblemItem> items;
  std::vector<Item> knapsack;  // Parallel; bytes and costs of the options.
  std::vector<double> alphas;  // Per module.
  uint64_t fixed_bytes = 0;
  std::vector<std::string> notes;  // Things to tell the user.
};

// kInvalidArgument names a rule that matches no module (and what is near it), a module that no
// choice is left for (and why), ties of modules without a common choice; kCorrupt a module with NaN
// or infinity.
Result<Problem> BuildProblem(const RateTable& rates, const PlanRequest& request);

struct PlannedModule {
  std::string name;
  Choice choice;
  uint64_t bytes = 0;
  Cost cost = 0;
  double alpha = 0;
  double relative_mse = 0;
  double sqnr_db = 0;
};

// Uniform quantization as mlx_lm.convert does it, priced with the same table and objective.
struct UniformReference {
  Choice choice;
  uint64_t bytes = 0;
  WideInt cost = 0;
  // Cost of our plan of at most these bytes, from the curve; absent below the smallest plan.
  std::optional<WideInt> plan_cost;
};

struct Plan {
  std::string model;
  std::string rates_file;  // Name only, for people.
  std::string rates_sha256;
  PlanRequest request;
  uint64_t budget_bytes = 0;
  uint64_t fixed_bytes = 0;
  uint64_t bytes = 0;  // fixed_bytes + modules: what the safetensors files take at most.
  uint64_t num_weights = 0;
  uint64_t min_safe_bytes = 0;
  uint64_t dense_bytes = 0;
  std::vector<PlannedModule> modules;  // In the order of the rate table.
  std::vector<ProblemItem> items;      // Which modules are decided together, and what was allowed.
  WideInt cost = 0;
  WideInt lower_bound = 0;
  Lambda lambda;
  bool proven_by_search = false;
  size_t core_items = 0;
  size_t states = 0;
  UniformReference uniform;    // (4,64)
  double next_gib_saving = 0;  // Share of the cost that one more GiB would save.
  std::vector<std::string> notes;

  double bits_per_weight() const;  // 8 bytes / weights, everything counted.
};

// kInvalidArgument if the budget is below the smallest plan: says how many bytes that takes.
Result<Plan> MakePlan(const LoadedRates& rates, const Problem& problem, const Curve& curve,
                      const PlanRequest& request, uint64_t budget_bytes);

// What uniform quantization at `uniform` takes and costs, as mlx_lm.convert does it: routers by the
// family's rule, 16 bits where the group size does not divide the columns.
UniformReference PriceUniform(const RateTable& rates, const Problem& problem, const Curve& curve,
                              Objective objective, const Choice& uniform);

// Every module at its smallest choice above the floor ("min-safe").
uint64_t MinSafeBytes(const Problem& problem, const Curve& curve);

// The text of plan.json, ending in a newline: the same plan gives the same bytes.
std::string ToJsonText(const Plan& plan);
// Reads plan.json back. kCorrupt names `where` and the key.
Result<Plan> ParsePlan(std::string_view text, std::string_view where);

// Checks everything a certificate claims against the table: hash, what menu, floor, rules and ties
// allow, one allowed choice per item, alphas, bytes, costs, bound. tools/check_certificate.py does
// the same without this library, but for alphas and the effect of rules. kCorrupt says what is
// wrong.
Status CheckPlan(const Plan& plan, const LoadedRates& rates);

// The whole plan in plain words, a paragraph per decision worth explaining (ram plan --explain).
std::string ExplainPlan(const Plan& plan, const RateTable& rates);

}  // namespace ram
