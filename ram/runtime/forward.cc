#include "ram/runtime/forward.h"

#include <fmt/format.h>

#include <utility>

namespace ram {

Result<ResidentModel> ResidentModel::Load(Graph graph, const WeightSource& source,
                                          ThreadPool* pool) {
  ResidentModel model;
  model.graph_ = std::make_unique<const Graph>(std::move(graph));
  for (int layer = 0; layer < static_cast<int>(model.graph_->layers.size()); ++layer) {
    RAM_ASSIGN_OR_RETURN(LoadedWeights weights, source.Load(layer, pool));
    model.weights_.push_back(std::make_unique<const LoadedWeights>(std::move(weights)));
    RAM_ASSIGN_OR_RETURN(
        BoundLayer bound,
        BoundLayer::Bind(model.graph_->layers[static_cast<size_t>(layer)], model.graph_->hidden,
                         *model.weights_.back(), fmt::format("layer {}", layer)));
    model.layers_.push_back(std::move(bound));
  }
  RAM_ASSIGN_OR_RETURN(LoadedWeights outside, source.Load(-1, pool));
  model.weights_.push_back(std::make_unique<const LoadedWeights>(std::move(outside)));
  RAM_ASSIGN_OR_RETURN(
      model.ends_, BoundEnds::Bind(*model.graph_, *model.weights_.back(), "outside the layers"));
  return model;
}

void ResidentModel::Run(Engine& engine, std::span<const int32_t> ids,
                        std::span<const Segment> segments, std::span<SequenceState* const> states,
                        Scratch& scratch, Rows out) const {
  const Segment whole = {0, ids.size(), 0};
  if (segments.empty()) {
    RAM_CHECK(states.empty());
    segments = {&whole, 1};
  }
  ends_.Embed(engine, ids, out);
  std::vector<LayerState*> layer_states(states.size());
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    for (size_t i = 0; i < states.size(); ++i) layer_states[i] = &(*states[i])[layer];
    layers_[layer].Run(engine, {out, segments, layer_states}, scratch);
  }
  ends_.FinalNorm(engine, out, out);
}

}  // namespace ram
