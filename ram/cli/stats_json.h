#pragma once

// Statistics as JSON, for `ram stats` and `ram compare`. What is undefined or infinite is null.

#include "ram/base/json.h"
#include "ram/stats/compare.h"
#include "ram/stats/estimate_json.h"

namespace ram::cli {

OrderedJson TestedJson(const Estimate& estimate);  // EstimateJson, and p.
OrderedJson TailJson(const TailIndex& tail);
// Without the names of the pair and of windows: those are indices into the rows.
OrderedJson PairJson(const PairComparison& pair);

}  // namespace ram::cli
