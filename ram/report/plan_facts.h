#pragma once

// Figures that several reports take from a plan; nothing here formats a page.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ram/plan/plan.h"
#include "ram/rates/rate_table.h"

namespace ram {

double AsDouble(WideInt value);
// In units of the objective, four significant digits: "0.1808", "3.210e-05".
std::string CostNumber(double cost);
std::string CostNumber(WideInt cost);
// "0.76×", "12×".
std::string Times(double ratio);
// "(4,64)" as documents write it, "16 bits", "MXFP4".
std::string SpokenChoice(const Choice& choice);
// part / whole; 0 of nothing.
double Share(uint64_t part, uint64_t whole);
double BitsPerWeight(uint64_t bytes, uint64_t num_weights);
uint64_t ToCount(int number);  // Negative numbers are 0.

// The last component of a path but "hf"; names of the hub whole, also from paths in its cache.
std::string ShortModelName(const std::string& model);

// (cost - lower bound) / cost: what the certificate leaves open; 0 for a cost of 0.
double CertifiedGap(const Plan& plan);

// Of the modules with one choice.
struct ChoiceShare {
  Choice choice;
  std::string name;
  size_t num_modules = 0;
  uint64_t num_weights = 0;
  uint64_t bytes = 0;
};
// Most bits first.
std::vector<ChoiceShare> SharesOfChoices(const Plan& plan, const RateTable& rates);

// Modules that differ only in their layer and have one choice for one reason.
struct ModuleGroup {
  std::string name;  // "model.layers.*.mlp.gate", or the name of the only module.
  Choice choice;
  size_t num_modules = 0;
  uint64_t num_weights = 0;
  uint64_t bytes = 0;
  double harm = 1;     // Cost of (4,64) per weight, against the average; 0: not known.
  std::string reason;  // A rule, or the harm: "12× harm".
};
// Most bits per weight first, then most harm.
std::vector<ModuleGroup> GroupModules(const Plan& plan, const RateTable& rates);

// Size of the model with one choice everywhere, as mlx_lm.convert would leave it: with its own
// choices for routers, and 16 bits where the choice is not legal.
uint64_t UniformReferenceBytes(const RateTable& rates, const Choice& choice);
// Its cost. `alphas` [modules].
WideInt UniformReferenceCost(const RateTable& rates, const Choice& choice,
                             const std::vector<double>& alphas, Objective objective);

}  // namespace ram
