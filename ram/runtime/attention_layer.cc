// Attention with queries, keys and values of their own, in all its variants.

#include <utility>
#include <vector>

#include "ram/runtime/layer_parts.h"

namespace ram {
namespace {

class AttentionLayer : public BoundMixer {
 public:
  static Result<std::unique_ptr<BoundMixer>> Bind(const AttentionGraph& graph, bool norms_plus_one,
                                                  uint64_t hidden, const Binder& binder) {
    auto layer = std::make_unique<AttentionLayer>(graph);
    const uint64_t q = layer->q_cols();
    const uint64_t kv = layer->kv_cols();
    if (graph.fused) {
      RAM_ASSIGN_OR_RETURN(layer->q_, binder.FindLinear("self_attn.qkv_proj", q + 2 * kv, hidden));
    } else {
      const uint64_t q_rows = graph.gated ? 2 * q : q;
      RAM_ASSIGN_OR_RETURN(layer->q_, binder.FindLinear("self_attn.q_proj", q_rows, hidden));
      RAM_ASSIGN_OR_RETURN(layer->k_, binder.FindLinear("self_attn.k_proj", kv, hidden));
      RAM_ASSIGN_OR_RETURN(layer->v_, binder.FindLinear("self_attn.v_proj", kv, hidden));
    }
    RAM_ASSIGN_OR_RETURN(layer->o_, binder.FindLinear("self_attn.o_proj", hidden, q));
    if (graph.head_norm == HeadNorm::kPerHead || graph.head_norm == HeadNorm::kWholeRow) {
      const bool whole = graph.head_norm == HeadNorm::kWholeRow;
      RAM_ASSIGN_OR_RETURN(
          layer->q_norm_, binder.FindNorm({"self_attn.q_norm", graph.head_norm_eps}, norms_plus_one,
                                          whole ? q : graph.head_dim));
      RAM_ASSIGN_OR_RETURN(
          layer->k_norm_, binder.FindNorm({"self_attn.k_norm", graph.head_norm_eps}, norms_plus_one,
                                          whole ? kv : graph.head_dim));
    }
    if (graph.sinks) {
      RAM_ASSIGN_OR_RETURN(layer->sinks_, binder.FindVector("self_attn.sinks", graph.heads));
    }
    return std::unique_ptr<BoundMixer>(std::move(layer));
  }

  explicit AttentionLayer(const AttentionGraph& graph) : graph_(graph) {}

  void Run(Engine& engine, const Batch& batch, Rows x, Scratch& scratch, Rows out) const override {
    const Scratch::Frame frame(scratch);
    const Rows q = scratch.Take(x.rows, q_cols());
    const Rows k = scratch.Take(x.rows, kv_cols());
    const Rows v = scratch.Take(x.rows, kv_cols());
    const Rows gate = graph_.gated ? scratch.Take(x.rows, q_cols()) : Rows{};
    Project(engine, x, q, k, v, gate);

    HeadSpec heads;
    heads.heads = graph_.heads;
    heads.head_dim = graph_.head_dim;
    heads.norm = graph_.head_norm;
    heads.norm_weight = q_norm_.weight;
    heads.norm_eps = graph_.head_norm_eps;
    heads.temperature = graph_.temperature;
    heads.floor_scale = graph_.floor_scale;
    Rotate(engine, q, batch.segments, graph_.rope, heads);
    heads.heads = graph_.kv_heads;
    heads.norm_weight = k_norm_.weight;
    heads.temperature = 0;
    Rotate(engine, k, batch.segments, graph_.rope, heads);

    AttentionSpec spec;
    spec.heads = graph_.heads;
    spec.kv_heads = graph_.kv_heads;
    spec.head_dim = graph_.head_dim;
    spec.value_dim = graph_.head_dim;
    spec.scale = graph_.scale;
    spec.softcap = graph_.softcap;
    spec.window = graph_.window;
    spec.chunk = graph_.chunk;
    spec.sinks = sinks_;
    const Rows mixed = scratch.Take(x.rows, q_cols());
    engine.Attend(q, Inputs(batch, k, v), spec, mixed);
    if (graph_.gated) engine.Gate(gate, mixed);
    const LinearTerm term = o_.to(out);
    engine.Linear(mixed, {&term, 1});
  }

 private:
  uint64_t q_cols() const { return graph_.heads * graph_.head_dim; }
  uint64_t kv_cols() const { return graph_.kv_heads * graph_.head_dim; }

  void Project(Engine& engine, Rows x, Rows q, Rows k, Rows v, Rows gate) const {
    std::vector<LinearTerm> terms;
    if (graph_.fused) {
      terms = {q_.to(q, 0, q_cols()), q_.to(k, q_cols(), kv_cols()),
               q_.to(v, q_cols() + kv_cols(), kv_cols())};
    } else if (graph_.gated) {
      const uint64_t dim = graph_.head_dim;
      for (uint64_t h = 0; h < graph_.heads; ++h) {
        terms.push_back(q_.to(q.columns(h * dim, dim), 2 * h * dim, dim));
        terms.push_back(q_.to(gate.columns(h * dim, dim), (2 * h + 1) * dim, dim));
      }
    } else {
      terms.push_back(q_.to(q));
    }
    if (!graph_.fused) {
      terms.push_back(k_.to(k));
      terms.push_back(v_.to(v));
    }
    engine.Linear(x, terms);
  }

  // Keys and values from the states, once these rows are appended; without states, these rows.
  static std::vector<AttentionInput> Inputs(const Batch& batch, Rows k, Rows v) {
    std::vector<AttentionInput> inputs;
    for (size_t i = 0; i < batch.segments.size(); ++i) {
      const Segment& segment = batch.segments[i];
      const Rows keys = k.slice(segment.first_row, segment.num_rows);
      const Rows values = v.slice(segment.first_row, segment.num_rows);
      if (batch.states.empty()) {
        inputs.push_back({segment,
                          {keys.data, Dtype::kF32, keys.pitch},
                          {values.data, Dtype::kF32, values.pitch},
                          segment.position});
        continue;
      }
      LayerState& state = *batch.states[i];
      state.Append(keys, values);
      inputs.push_back({segment, state.keys(), state.values(), state.first_position()});
    }
    return inputs;
  }

  const AttentionGraph& graph_;
  BoundLinear q_, k_, v_, o_;  // q_ holds all three where they are fused.
  BoundNorm q_norm_, k_norm_;
  std::span<const float> sinks_;
};

}  // namespace

Result<std::unique_ptr<BoundMixer>> BindAttention(const AttentionGraph& graph, bool norms_plus_one,
                                                  uint64_t hidden, const Binder& binder) {
  return AttentionLayer::Bind(graph, norms_plus_one, hidden, binder);
}

}  // namespace ram
