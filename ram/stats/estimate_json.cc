#include "ram/stats/estimate_json.h"

#include <cmath>

namespace ram {

OrderedJson NumberJson(double value) {
  return std::isfinite(value) ? OrderedJson(value) : OrderedJson(nullptr);
}

OrderedJson IntervalJson(const Interval& interval) {
  return OrderedJson::array({NumberJson(interval.low), NumberJson(interval.high)});
}

OrderedJson EstimateJson(const Estimate& estimate) {
  return {{"value", NumberJson(estimate.value)},
          {"standard_error", NumberJson(estimate.standard_error)},
          {"interval", IntervalJson(estimate.interval)}};
}

}  // namespace ram
