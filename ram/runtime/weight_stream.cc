#include "ram/runtime/weight_stream.h"

#include <algorithm>
#include <utility>

namespace ram {
namespace {

constexpr int kOutside = -1;
constexpr int kNothing = -2;

}  // namespace

WeightResidency PlanResidency(const WeightSource& source, uint64_t budget_bytes) {
  const int num_layers = source.catalog().num_layers;
  const uint64_t outside = source.LoadedBytes(kOutside);
  uint64_t all_layers = 0;
  uint64_t largest = 0;
  for (int layer = 0; layer < num_layers; ++layer) {
    all_layers += source.LoadedBytes(layer);
    largest = std::max(largest, source.LoadedBytes(layer));
  }
  WeightResidency residency;
  residency.minimum_bytes = std::max(outside, largest);
  if (outside + all_layers <= budget_bytes) {
    return {num_layers, true, true, outside + all_layers, residency.minimum_bytes};
  }
  // The parts that do not stay: one is computed with, one is read ahead.
  residency.read_ahead = std::max(outside, 2 * largest) <= budget_bytes;
  const uint64_t moving =
      residency.read_ahead ? std::max(outside, 2 * largest) : residency.minimum_bytes;
  uint64_t resident = 0;
  while (residency.num_resident < num_layers) {
    const uint64_t next = source.LoadedBytes(residency.num_resident);
    if (resident + next + moving > budget_bytes) break;
    resident += next;
    ++residency.num_resident;
  }
  residency.peak_bytes = resident + moving;
  return residency;
}

WeightStream::WeightStream(const WeightSource& source, const WeightResidency& residency,
                           ThreadPool* pool)
    : source_(source), residency_(residency), pool_(pool), ahead_layer_(kNothing) {}

WeightStream::~WeightStream() {
  if (ahead_.valid()) ahead_.wait();
}

bool WeightStream::IsResident(int layer) const {
  return layer == kOutside ? residency_.outside : layer < residency_.num_resident;
}

Result<std::shared_ptr<const LoadedWeights>> WeightStream::Get(int layer, std::optional<int> next) {
  std::shared_ptr<const LoadedWeights> weights;
  if (const auto found = resident_.find(layer); found != resident_.end()) {
    weights = found->second;
  } else {
    const bool is_ahead = ahead_.valid() && ahead_layer_ == layer;
    if (ahead_.valid() && !is_ahead) {  // The caller changed its mind.
      (void)ahead_.get();
    }
    RAM_ASSIGN_OR_RETURN(LoadedWeights loaded,
                         is_ahead ? ahead_.get() : source_.Load(layer, pool_));
    read_bytes_ += loaded.bytes();
    weights = std::make_shared<const LoadedWeights>(std::move(loaded));
    if (IsResident(layer)) resident_[layer] = weights;
  }
  // What lies outside is as large as several layers: it is never held beside them.
  const bool may_read = residency_.read_ahead && next.has_value() && !ahead_.valid() &&
                        (residency_.outside || (*next != kOutside && layer != kOutside));
  if (may_read && *next != layer && !resident_.contains(*next)) {
    ahead_layer_ = *next;
    ahead_ = std::async(std::launch::async,
                        [this, part = *next] { return source_.Load(part, nullptr); });
  }
  return weights;
}

}  // namespace ram
