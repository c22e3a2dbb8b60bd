#pragma once

// What `ram compress`, `ram plan`, `ram curve` and `ram inspect` say to a person at the end.

#include <cstdint>
#include <string>
#include <vector>

#include "ram/plan/plan.h"
#include "ram/rates/rate_table.h"
#include "ram/report/table.h"

namespace ram {

// One plan: size asked and got, bits per weight, predicted cost against uniform 4-bit, what one
// more GiB would buy, the proof; choices by share of weights; who got most and fewest bits, and
// why. `rates` is the table that the plan was made from.
std::string CompressSummary(const Plan& plan, const RateTable& rates, const Style& style);

// Several plans of one model, a row for each budget.
std::string BudgetTable(const std::vector<const Plan*>& plans, const RateTable& rates,
                        const Style& style);

// Tensors of the checkpoint that are left out for one reason.
struct DroppedGroup {
  std::string reason;  // "vision tower"
  size_t num_tensors = 0;
  uint64_t num_bytes = 0;
};

// What a rate table does not know about the checkpoint.
struct ModelFacts {
  std::string family;  // Table row of the catalog.
  bool tied = false;   // The embedding serves as head.
  std::vector<DroppedGroup> dropped;
  std::vector<std::string> notes;
};

// A checkpoint before anything is done to it. Errors are not looked at, so a table of sizes alone
// will do.
std::string ModelSummary(const RateTable& rates, const ModelFacts& facts, const Style& style);

}  // namespace ram
