// Feed-forward parts: a dense MLP, or experts with what chooses them.

#include <utility>
#include <variant>
#include <vector>

#include "ram/runtime/layer_parts.h"

namespace ram {
namespace {

GluSpec GluOf(const MlpGraph& graph) {
  GluSpec glu;
  glu.activation = graph.activation;
  if (graph.activation == Activation::kClippedSwiglu) {
    glu.alpha = graph.alpha;
    glu.limit = graph.limit;
  }
  return glu;
}

class Mlp : public BoundFfn {
 public:
  static Result<std::unique_ptr<Mlp>> Bind(const MlpGraph& graph, uint64_t hidden,
                                           const Binder& binder) {
    auto mlp = std::make_unique<Mlp>(graph);
    const uint64_t inner = graph.intermediate;
    if (graph.fused) {
      RAM_ASSIGN_OR_RETURN(mlp->gate_,
                           binder.FindLinear(graph.module + ".gate_up_proj", 2 * inner, hidden));
    } else {
      RAM_ASSIGN_OR_RETURN(mlp->gate_,
                           binder.FindLinear(graph.module + ".gate_proj", inner, hidden));
      RAM_ASSIGN_OR_RETURN(mlp->up_, binder.FindLinear(graph.module + ".up_proj", inner, hidden));
    }
    RAM_ASSIGN_OR_RETURN(mlp->down_, binder.FindLinear(graph.module + ".down_proj", hidden, inner));
    return mlp;
  }

  explicit Mlp(const MlpGraph& graph) : graph_(graph) {}

  void Run(Engine& engine, Rows x, Scratch& scratch, Rows out) const override {
    const Scratch::Frame frame(scratch);
    const uint64_t inner = graph_.intermediate;
    const Rows gate = scratch.Take(x.rows, inner);
    const Rows up = scratch.Take(x.rows, inner);
    std::vector<LinearTerm> terms = {gate_.to(gate, 0, inner)};
    terms.push_back(graph_.fused ? gate_.to(up, inner, inner) : up_.to(up));
    engine.Linear(x, terms);
    engine.Glu(gate, up, GluOf(graph_), gate);
    const LinearTerm term = down_.to(out);
    engine.Linear(gate, {&term, 1});
  }

 private:
  const MlpGraph& graph_;
  BoundLinear gate_, up_, down_;  // gate_ holds both where they are fused.
};

class ExpertMix : public BoundFfn {
 public:
  static Result<std::unique_ptr<BoundFfn>> Bind(const ExpertsGraph& graph, uint64_t hidden,
                                                const Binder& binder) {
    auto mix = std::make_unique<ExpertMix>(graph);
    RAM_ASSIGN_OR_RETURN(mix->router_, binder.FindLinear(graph.router, graph.experts, hidden));
    if (graph.kind == RouterKind::kSigmoid) {
      RAM_ASSIGN_OR_RETURN(
          mix->routing_.correction,
          binder.FindVector(graph.router + ".e_score_correction_bias", graph.experts));
    }
    ExpertSpec& experts = mix->experts_;
    const std::string& module = graph.mlp.module;
    const uint64_t count = graph.experts;
    const uint64_t inner = graph.mlp.intermediate;
    RAM_ASSIGN_OR_RETURN(experts.gate,
                         binder.FindMatrix(module + ".gate_proj", count, inner, hidden));
    RAM_ASSIGN_OR_RETURN(experts.up, binder.FindMatrix(module + ".up_proj", count, inner, hidden));
    RAM_ASSIGN_OR_RETURN(experts.down,
                         binder.FindMatrix(module + ".down_proj", count, hidden, inner));
    RAM_ASSIGN_OR_RETURN(experts.gate_bias,
                         binder.FindOptionalVector(module + ".gate_proj.bias", count * inner));
    RAM_ASSIGN_OR_RETURN(experts.up_bias,
                         binder.FindOptionalVector(module + ".up_proj.bias", count * inner));
    RAM_ASSIGN_OR_RETURN(experts.down_bias,
                         binder.FindOptionalVector(module + ".down_proj.bias", count * hidden));
    if (graph.has_shared) {
      RAM_ASSIGN_OR_RETURN(mix->shared_, Mlp::Bind(graph.shared, hidden, binder));
    }
    if (!graph.shared_gate.empty()) {
      RAM_ASSIGN_OR_RETURN(mix->shared_gate_, binder.FindLinear(graph.shared_gate, 1, hidden));
    }
    return std::unique_ptr<BoundFfn>(std::move(mix));
  }

  explicit ExpertMix(const ExpertsGraph& graph) : graph_(graph) {
    routing_.kind = graph.kind;
    routing_.experts = graph.experts;
    routing_.top_k = graph.top_k;
    routing_.renormalize = graph.renormalize;
    routing_.renormalize_eps = graph.renormalize_eps;
    routing_.scale = graph.scale;
    routing_.groups = graph.groups;
    routing_.top_groups = graph.top_groups;
    routing_.rejected_are_zero = graph.rejected_are_zero;
    experts_.glu = GluOf(graph.mlp);
    experts_.weight_input = graph.kind == RouterKind::kSigmoidInput;
  }

  void Run(Engine& engine, Rows x, Scratch& scratch, Rows out) const override {
    const Scratch::Frame frame(scratch);
    const Rows logits = scratch.Take(x.rows, graph_.experts);
    const LinearTerm term = router_.to(logits);
    engine.Linear(x, {&term, 1});
    Routes routes;
    engine.Route(logits, routing_, &routes);
    engine.Experts(x, routes, experts_, out);
    if (!graph_.has_shared) return;
    const Rows shared = scratch.Take(x.rows, x.cols);
    shared_->Run(engine, x, scratch, shared);
    if (!graph_.shared_gate.empty()) {
      const Rows gate = scratch.Take(x.rows, 1);
      const LinearTerm gate_term = shared_gate_.to(gate);
      engine.Linear(x, {&gate_term, 1});
      engine.Gate(gate, shared);
    }
    engine.Add(shared, out);
  }

 private:
  const ExpertsGraph& graph_;
  BoundLinear router_, shared_gate_;
  RouterSpec routing_;
  ExpertSpec experts_;
  std::unique_ptr<Mlp> shared_;
};

}  // namespace

Result<std::unique_ptr<BoundFfn>> BindFfn(const LayerGraph& graph, uint64_t hidden,
                                          const Binder& binder) {
  if (const auto* experts = std::get_if<ExpertsGraph>(&graph.ffn))
    return ExpertMix::Bind(*experts, hidden, binder);
  RAM_ASSIGN_OR_RETURN(std::unique_ptr<BoundFfn> mlp,
                       Mlp::Bind(std::get<MlpGraph>(graph.ffn), hidden, binder));
  return mlp;
}

}  // namespace ram
