// Gated delta nets: projections around Engine::Delta.

#include <algorithm>
#include <utility>
#include <vector>

#include "ram/runtime/layer_parts.h"

namespace ram {
namespace {

class DeltaLayer : public BoundMixer {
 public:
  static Result<std::unique_ptr<BoundMixer>> Bind(const DeltaGraph& graph, uint64_t hidden,
                                                  const Binder& binder) {
    auto layer = std::make_unique<DeltaLayer>(graph);
    const uint64_t values = layer->value_cols();
    const uint64_t channels = layer->channels();
    const uint64_t heads = graph.value_heads;
    if (graph.fused) {
      RAM_ASSIGN_OR_RETURN(
          layer->qkv_, binder.FindLinear("linear_attn.in_proj_qkvz", channels + values, hidden));
      RAM_ASSIGN_OR_RETURN(layer->b_,
                           binder.FindLinear("linear_attn.in_proj_ba", 2 * heads, hidden));
    } else {
      RAM_ASSIGN_OR_RETURN(layer->qkv_,
                           binder.FindLinear("linear_attn.in_proj_qkv", channels, hidden));
      RAM_ASSIGN_OR_RETURN(layer->z_, binder.FindLinear("linear_attn.in_proj_z", values, hidden));
      RAM_ASSIGN_OR_RETURN(layer->b_, binder.FindLinear("linear_attn.in_proj_b", heads, hidden));
      RAM_ASSIGN_OR_RETURN(layer->a_, binder.FindLinear("linear_attn.in_proj_a", heads, hidden));
    }
    DeltaSpec& spec = layer->spec_;
    RAM_ASSIGN_OR_RETURN(spec.conv, binder.FindVector("linear_attn.conv1d", channels * graph.taps));
    RAM_ASSIGN_OR_RETURN(spec.a_log, binder.FindVector("linear_attn.A_log", heads));
    RAM_ASSIGN_OR_RETURN(spec.dt_bias, binder.FindVector("linear_attn.dt_bias", heads));
    RAM_ASSIGN_OR_RETURN(spec.norm_weight, binder.FindVector("linear_attn.norm", graph.value_dim));
    RAM_ASSIGN_OR_RETURN(layer->out_, binder.FindLinear("linear_attn.out_proj", hidden, values));
    return std::unique_ptr<BoundMixer>(std::move(layer));
  }

  explicit DeltaLayer(const DeltaGraph& graph) : graph_(graph) {
    spec_.key_heads = graph.key_heads;
    spec_.value_heads = graph.value_heads;
    spec_.key_dim = graph.key_dim;
    spec_.value_dim = graph.value_dim;
    spec_.taps = graph.taps;
    spec_.norm_eps = graph.norm_eps;
    spec_.l2_eps = graph.l2_eps;
    spec_.l2_eps_is_mean = graph.l2_eps_is_mean;
  }

  void Run(Engine& engine, const Batch& batch, Rows x, Scratch& scratch, Rows out) const override {
    const Scratch::Frame frame(scratch);
    const Rows qkv = scratch.Take(x.rows, channels());
    const Rows z = scratch.Take(x.rows, value_cols());
    const Rows b = scratch.Take(x.rows, graph_.value_heads);
    const Rows a = scratch.Take(x.rows, graph_.value_heads);
    const Rows mixed = scratch.Take(x.rows, value_cols());
    Project(engine, x, scratch, qkv, z, b, a);

    std::vector<DeltaInput> inputs;
    for (size_t i = 0; i < batch.segments.size(); ++i) {
      const Segment& segment = batch.segments[i];
      inputs.push_back(
          {segment, batch.states.empty() ? EmptyState(scratch) : batch.states[i]->delta()});
      if (!batch.states.empty()) batch.states[i]->Advance(segment.num_rows);
    }
    engine.Delta(qkv, z, b, a, inputs, spec_, mixed);
    const LinearTerm term = out_.to(out);
    engine.Linear(mixed, {&term, 1});
  }

 private:
  uint64_t channels() const { return spec_.channels(); }
  uint64_t value_cols() const { return graph_.value_heads * graph_.value_dim; }

  void Project(Engine& engine, Rows x, Scratch& scratch, Rows qkv, Rows z, Rows b, Rows a) const {
    if (!graph_.fused) {
      const std::vector<LinearTerm> terms = {qkv_.to(qkv), z_.to(z), b_.to(b), a_.to(a)};
      engine.Linear(x, terms);
      return;
    }
    // Rows of in_proj_qkvz: for each key head its q, k, and the v and z of its value heads; of
    // in_proj_ba: for each key head b and a of its value heads.
    const Scratch::Frame frame(scratch);
    const Rows ba = scratch.Take(x.rows, 2 * graph_.value_heads);
    const uint64_t key = graph_.key_dim;
    const uint64_t keys = graph_.key_heads * key;
    const uint64_t heads = graph_.value_heads / graph_.key_heads;
    const uint64_t value = heads * graph_.value_dim;
    const uint64_t block = 2 * key + 2 * value;
    std::vector<LinearTerm> terms = {b_.to(ba)};
    for (uint64_t h = 0; h < graph_.key_heads; ++h) {
      terms.push_back(qkv_.to(qkv.columns(h * key, key), h * block, key));
      terms.push_back(qkv_.to(qkv.columns(keys + h * key, key), h * block + key, key));
      terms.push_back(
          qkv_.to(qkv.columns(2 * keys + h * value, value), h * block + 2 * key, value));
      terms.push_back(qkv_.to(z.columns(h * value, value), h * block + 2 * key + value, value));
    }
    engine.Linear(x, terms);
    CopyHeads(ba, 2 * heads, b, heads, graph_.key_heads, heads);
    CopyHeads(ba.columns(heads, ba.cols - heads), 2 * heads, a, heads, graph_.key_heads, heads);
  }

  // Of a sequence without a past.
  DeltaState EmptyState(Scratch& scratch) const {
    const uint64_t conv = (graph_.taps - 1) * channels();
    const uint64_t state = graph_.value_heads * graph_.value_dim * graph_.key_dim;
    float* memory = scratch.Take(1, conv + state).data;
    std::fill_n(memory, conv + state, 0.0F);
    return {memory + state, memory};
  }

  const DeltaGraph& graph_;
  DeltaSpec spec_;
  BoundLinear qkv_, z_, b_, a_, out_;
};

}  // namespace

Result<std::unique_ptr<BoundMixer>> BindDelta(const DeltaGraph& graph, uint64_t hidden,
                                              const Binder& binder) {
  return DeltaLayer::Bind(graph, hidden, binder);
}

}  // namespace ram
