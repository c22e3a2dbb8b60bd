#pragma once

// The layers of a model one after the other within a bound of memory: as many stay loaded as fit,
// the rest is read again each time, the next one while the caller computes with this one.

#include <cstdint>
#include <future>
#include <map>
#include <memory>
#include <optional>

#include "ram/base/result.h"
#include "ram/base/thread_pool.h"
#include "ram/runtime/loaded_weights.h"

namespace ram {

// What a bound of memory means for the weights of one model.
struct WeightResidency {
  int num_resident = 0;        // Layers [0, num_resident) stay once they are loaded.
  bool outside = false;        // So does what lies outside the layers.
  bool read_ahead = false;     // The next layer is read while this one computes.
  uint64_t peak_bytes = 0;     // Most that is held at any time.
  uint64_t minimum_bytes = 0;  // The least that any bound must allow: the largest single part.
};

// num_resident and the rest for at most `budget_bytes`; peak_bytes may exceed the budget only where
// minimum_bytes does.
WeightResidency PlanResidency(const WeightSource& source, uint64_t budget_bytes);

class WeightStream {
 public:
  // `source` and `pool` outlive the stream.
  WeightStream(const WeightSource& source, const WeightResidency& residency, ThreadPool* pool);
  ~WeightStream();
  WeightStream(const WeightStream&) = delete;
  WeightStream& operator=(const WeightStream&) = delete;

  const WeightResidency& residency() const { return residency_; }
  // Bytes read so far.
  uint64_t read_bytes() const { return read_bytes_; }

  // Weights of `layer` (-1: outside the layers), which stay loaded as long as the caller holds
  // them; let go of one part before asking for the next. Then starts to read `next`. One caller at
  // a time.
  Result<std::shared_ptr<const LoadedWeights>> Get(int layer, std::optional<int> next);

 private:
  bool IsResident(int layer) const;

  const WeightSource& source_;
  WeightResidency residency_;
  ThreadPool* pool_;
  std::map<int, std::shared_ptr<const LoadedWeights>> resident_;
  int ahead_layer_ = -2;
  std::future<Result<LoadedWeights>> ahead_;
  uint64_t read_bytes_ = 0;
};

}  // namespace ram
