// A rate table or a plan. Whatever the text is, it is refused, or read and written again without a
// change; from every table that is accepted a plan can be made whose certificate holds.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "ram/base/hash.h"
#include "ram/plan/plan.h"

namespace {

void PlanFrom(ram::RateTable table) {
  const std::string text = ram::ToJsonText(table);
  const ram::LoadedRates rates{std::move(table), ram::Sha256Hex(text)};
  for (const ram::Objective objective : {ram::Objective::kWeights, ram::Objective::kRam}) {
    ram::PlanRequest request;
    request.objective = objective;
    if (objective == ram::Objective::kRam) request.floor_db = 0;  // Any error may be priced.
    const auto problem = ram::BuildProblem(rates.table, request);
    if (!problem) continue;  // NaN, or errors too large to add up.
    const auto curve = ram::BuildCurve(problem->knapsack);
    RAM_CHECK(curve.ok());
    const uint64_t least = ram::MinSafeBytes(*problem, *curve);
    const uint64_t budget = least + (rates.table.dense_bytes() - least) / 3;
    const auto plan = ram::MakePlan(rates, *problem, *curve, request, budget);
    RAM_CHECK(plan.ok());
    RAM_CHECK(ram::CheckPlan(*plan, rates).ok());
    RAM_CHECK(!ram::ExplainPlan(*plan, rates.table).empty());
    const std::string written = ram::ToJsonText(*plan);
    const auto again = ram::ParsePlan(written, "plan");
    RAM_CHECK(again.ok() && ram::ToJsonText(*again) == written);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (auto table = ram::ParseRateTable(text, "rates")) {
    const std::string written = ram::ToJsonText(*table);
    const auto again = ram::ParseRateTable(written, "rates");
    RAM_CHECK(again.ok() && ram::ToJsonText(*again) == written);
    PlanFrom(*std::move(table));
  } else {
    RAM_CHECK(table.error().code == ram::ErrorCode::kCorrupt && !table.error().message.empty());
  }
  if (const auto plan = ram::ParsePlan(text, "plan")) {
    const std::string written = ram::ToJsonText(*plan);
    const auto again = ram::ParsePlan(written, "plan");
    RAM_CHECK(again.ok() && ram::ToJsonText(*again) == written);
  } else {
    RAM_CHECK(plan.error().code == ram::ErrorCode::kCorrupt && !plan.error().message.empty());
  }
  return 0;
}
