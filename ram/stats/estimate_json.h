#pragma once

// Numbers and estimates as JSON. What is undefined or infinite is null.

#include "ram/base/json.h"
#include "ram/stats/describe.h"

namespace ram {

OrderedJson NumberJson(double value);
OrderedJson IntervalJson(const Interval& interval);  // [low, high]
OrderedJson EstimateJson(const Estimate& estimate);  // value, standard_error, interval

}  // namespace ram
