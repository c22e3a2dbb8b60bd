// Latent attention. Keys and values of all heads are products of one latent vector c per token:
// key of head h = (embed_q[h]^T c, rotary key), value = unembed_out[h] c. Two forms of the same:
// - expanded: keys and values of every head are computed, as many scores as other attention;
// - absorbed: (embed_q[h] q) . c = q . (embed_q[h]^T c), so one key (c, rotary key) serves all
// heads
//   and the state holds nothing else. More work per score, none per past token.

#include <algorithm>
#include <utility>
#include <vector>

#include "ram/runtime/layer_parts.h"

namespace ram {
namespace {

class LatentLayer : public BoundMixer {
 public:
  static Result<std::unique_ptr<BoundMixer>> Bind(const LatentGraph& graph, uint64_t hidden,
                                                  const Binder& binder) {
    auto layer = std::make_unique<LatentLayer>(graph);
    const uint64_t q_rows = layer->q_cols();
    if (graph.q_rank > 0) {
      RAM_ASSIGN_OR_RETURN(layer->q_a_,
                           binder.FindLinear("self_attn.q_a_proj", graph.q_rank, hidden));
      RAM_ASSIGN_OR_RETURN(layer->q_a_norm_,
                           binder.FindNorm({"self_attn.q_a_layernorm", graph.latent_norm_eps},
                                           /*plus_one=*/false, graph.q_rank));
      RAM_ASSIGN_OR_RETURN(layer->q_,
                           binder.FindLinear("self_attn.q_b_proj", q_rows, graph.q_rank));
    } else {
      RAM_ASSIGN_OR_RETURN(layer->q_, binder.FindLinear("self_attn.q_proj", q_rows, hidden));
    }
    RAM_ASSIGN_OR_RETURN(layer->kv_a_, binder.FindLinear("self_attn.kv_a_proj_with_mqa",
                                                         layer->latent_cols(), hidden));
    RAM_ASSIGN_OR_RETURN(layer->kv_a_norm_,
                         binder.FindNorm({"self_attn.kv_a_layernorm", graph.latent_norm_eps},
                                         /*plus_one=*/false, graph.kv_rank));
    RAM_ASSIGN_OR_RETURN(layer->embed_q_, binder.FindMatrix("self_attn.embed_q", graph.heads,
                                                            graph.kv_rank, graph.nope_dim));
    RAM_ASSIGN_OR_RETURN(
        layer->unembed_out_,
        binder.FindMatrix("self_attn.unembed_out", graph.heads, graph.value_dim, graph.kv_rank));
    RAM_ASSIGN_OR_RETURN(
        layer->o_, binder.FindLinear("self_attn.o_proj", hidden, graph.heads * graph.value_dim));
    return std::unique_ptr<BoundMixer>(std::move(layer));
  }

  explicit LatentLayer(const LatentGraph& graph) : graph_(graph) {}

  void Run(Engine& engine, const Batch& batch, Rows x, Scratch& scratch, Rows out) const override {
    const Scratch::Frame frame(scratch);
    const Rows q = scratch.Take(x.rows, q_cols());
    const Rows latent = scratch.Take(x.rows, latent_cols());
    const Rows mixed = scratch.Take(x.rows, graph_.heads * graph_.value_dim);
    Project(engine, x, scratch, q, latent);

    HeadSpec heads;
    heads.heads = graph_.heads;
    heads.head_dim = head_dim();
    heads.rope_first = graph_.nope_dim;
    Rotate(engine, q, batch.segments, graph_.rope, heads);
    HeadSpec shared;
    shared.heads = 1;
    shared.head_dim = graph_.rope_dim;
    Rotate(engine, latent.columns(graph_.kv_rank, graph_.rope_dim), batch.segments, graph_.rope,
           shared);

    for (size_t i = 0; i < batch.states.size(); ++i) {
      const Segment& segment = batch.segments[i];
      batch.states[i]->Append(latent.slice(segment.first_row, segment.num_rows), Rows{});
    }
    const bool has_past = std::ranges::any_of(
        batch.segments, [](const Segment& segment) { return segment.position > 0; });
    if (has_past) {
      RunAbsorbed(engine, batch, q, scratch, mixed);
    } else {
      RunExpanded(engine, batch, q, latent, scratch, mixed);
    }
    const LinearTerm term = o_.to(out);
    engine.Linear(mixed, {&term, 1});
  }

 private:
  uint64_t head_dim() const { return graph_.nope_dim + graph_.rope_dim; }
  uint64_t q_cols() const { return graph_.heads * head_dim(); }
  uint64_t latent_cols() const { return graph_.kv_rank + graph_.rope_dim; }

  // Queries, and latents with their rotary keys.
  void Project(Engine& engine, Rows x, Scratch& scratch, Rows q, Rows latent) const {
    const Scratch::Frame frame(scratch);
    if (graph_.q_rank > 0) {
      const Rows q_a = scratch.Take(x.rows, graph_.q_rank);
      const std::vector<LinearTerm> terms = {q_a_.to(q_a), kv_a_.to(latent)};
      engine.Linear(x, terms);
      engine.RmsNorm(q_a, q_a_norm_.weight, q_a_norm_.eps, q_a);
      const LinearTerm term = q_.to(q);
      engine.Linear(q_a, {&term, 1});
    } else {
      const std::vector<LinearTerm> terms = {q_.to(q), kv_a_.to(latent)};
      engine.Linear(x, terms);
    }
    const Rows c = latent.columns(0, graph_.kv_rank);
    engine.RmsNorm(c, kv_a_norm_.weight, kv_a_norm_.eps, c);
  }

  AttentionSpec Spec() const {
    AttentionSpec spec;
    spec.heads = graph_.heads;
    spec.scale = graph_.scale;
    return spec;
  }

  void RunExpanded(Engine& engine, const Batch& batch, Rows q, Rows latent, Scratch& scratch,
                   Rows mixed) const {
    const Scratch::Frame frame(scratch);
    const Rows keys = scratch.Take(q.rows, q_cols());
    const Rows values = scratch.Take(q.rows, graph_.heads * graph_.value_dim);
    const Rows c = latent.columns(0, graph_.kv_rank);
    engine.HeadLinearTransposed(c, embed_q_, head_dim(), keys);
    CopyHeads(latent.columns(graph_.kv_rank, graph_.rope_dim), 0,
              keys.columns(graph_.nope_dim, keys.cols - graph_.nope_dim), head_dim(), graph_.heads,
              graph_.rope_dim);
    Matrix unembed = unembed_out_;  // The heads one after the other are one matrix.
    unembed.rows *= unembed.count;
    unembed.count = 1;
    const LinearTerm term = {unembed, {}, values};
    engine.Linear(c, {&term, 1});

    std::vector<AttentionInput> inputs;
    for (const Segment& segment : batch.segments) {
      inputs.push_back({segment,
                        {keys.row(segment.first_row), Dtype::kF32, keys.pitch},
                        {values.row(segment.first_row), Dtype::kF32, values.pitch},
                        0});
    }
    AttentionSpec spec = Spec();
    spec.kv_heads = graph_.heads;
    spec.head_dim = head_dim();
    spec.value_dim = graph_.value_dim;
    engine.Attend(q, inputs, spec, mixed);
  }

  void RunAbsorbed(Engine& engine, const Batch& batch, Rows q, Scratch& scratch, Rows mixed) const {
    const Scratch::Frame frame(scratch);
    const uint64_t heads = graph_.heads;
    const Rows nope = scratch.Take(q.rows, heads * graph_.nope_dim);
    const Rows projected = scratch.Take(q.rows, heads * graph_.kv_rank);
    const Rows absorbed = scratch.Take(q.rows, heads * latent_cols());
    CopyHeads(q, head_dim(), nope, graph_.nope_dim, heads, graph_.nope_dim);
    engine.HeadLinear(nope, embed_q_, projected);
    CopyHeads(projected, graph_.kv_rank, absorbed, latent_cols(), heads, graph_.kv_rank);
    CopyHeads(q.columns(graph_.nope_dim, q.cols - graph_.nope_dim), head_dim(),
              absorbed.columns(graph_.kv_rank, absorbed.cols - graph_.kv_rank), latent_cols(),
              heads, graph_.rope_dim);

    std::vector<AttentionInput> inputs;
    for (size_t i = 0; i < batch.segments.size(); ++i) {
      const LayerState& state = *batch.states[i];
      inputs.push_back({batch.segments[i], state.keys(), state.values(), state.first_position()});
    }
    AttentionSpec spec = Spec();
    spec.kv_heads = 1;
    spec.head_dim = latent_cols();
    spec.value_dim = graph_.kv_rank;
    engine.Attend(absorbed, inputs, spec, projected);
    engine.HeadLinear(projected, unembed_out_, mixed);
  }

  const LatentGraph& graph_;
  BoundLinear q_a_, q_, kv_a_, o_;
  BoundNorm q_a_norm_, kv_a_norm_;
  Matrix embed_q_;      // [heads, kv_rank, nope_dim]
  Matrix unembed_out_;  // [heads, value_dim, kv_rank]
};

}  // namespace

Result<std::unique_ptr<BoundMixer>> BindLatent(const LatentGraph& graph, uint64_t hidden,
                                               const Binder& binder) {
  return LatentLayer::Bind(graph, hidden, binder);
}

}  // namespace ram
