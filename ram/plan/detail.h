#pragma once

// What the files of this folder share and nobody else needs.

#include <string>
#include <string_view>
#include <vector>

#include "ram/base/json.h"
#include "ram/base/result.h"
#include "ram/plan/objective.h"
#include "ram/plan/plan.h"
#include "ram/rates/rate_table.h"

namespace ram {

// A router of experts, or the gate of a shared expert.
bool IsRouter(const ModuleRates& module);

// Whether PlanRequest::protect is about this module.
bool IsProtected(const ModuleRates& module);

// The largest relative MSE that a floor lets pass: 10^(-floor/10), rounded to 12 significant digits
// so that no C library's last bit decides; infinity for floor 0, which is off.
double LargestRelativeMse(double floor_db);

// Whether plain rounding to this choice stays within that error; always so for zero weights.
bool ReachesFloor(const ModuleRates& module, const ChoiceRate& rate, double largest_relative_mse);
// SQNR of plain rounding, which the floor is compared with.
double RtnSqnrDb(const ModuleRates& module, const ChoiceRate& rate);

// Six significant digits: logarithms differ in their last bits between C libraries, plans must not;
// and it is what a person can read. Infinity stays.
double SixDigits(double value);

// The object of priors.json, or of the same keys in plan.json.
Result<Priors> PriorsFromJson(const Json& json, std::string_view where);

// "model.layers.0.mlp.down_proj and 11 more".
std::string FirstAndCount(const std::vector<std::string>& names);

// sum_i min_j (cost_ij + lambda bytes_ij) - lambda budget, rounded up; exact. kCorrupt if lambda
// is so large that 128 bits do not hold it.
Result<WideInt> DualBound(const std::vector<Item>& items, const Lambda& lambda,
                          uint64_t budget_bytes);

std::string WideText(WideInt value);

}  // namespace ram
