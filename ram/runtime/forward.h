#pragma once

// A whole model in memory, the simple way: all layers in turn over one batch. Streaming evaluation
// and generation are built on the same layers.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "ram/base/result.h"
#include "ram/family/graph.h"
#include "ram/runtime/engine.h"
#include "ram/runtime/layer.h"
#include "ram/runtime/loaded_weights.h"
#include "ram/runtime/state.h"

namespace ram {

class ResidentModel {
 public:
  // Reads and binds everything. Errors: those of WeightSource::Load and of binding.
  static Result<ResidentModel> Load(Graph graph, const WeightSource& source, ThreadPool* pool);

  const Graph& graph() const { return *graph_; }
  const BoundEnds& ends() const { return ends_; }

  // Embeds the ids (in range), runs all layers and the final norm: out [ids, hidden]. `segments`
  // and `states` as in Batch, one state for each segment; both empty: one sequence from position 0
  // on.
  void Run(Engine& engine, std::span<const int32_t> ids, std::span<const Segment> segments,
           std::span<SequenceState* const> states, Scratch& scratch, Rows out) const;

 private:
  ResidentModel() = default;

  std::unique_ptr<const Graph> graph_;  // Layers point into it.
  std::vector<std::unique_ptr<const LoadedWeights>> weights_;
  std::vector<BoundLayer> layers_;
  BoundEnds ends_;
};

}  // namespace ram
