#include "ram/runtime/layer.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "ram/runtime/layer_parts.h"

namespace ram {

// ---- Scratch ----

Rows Scratch::Take(uint64_t rows, uint64_t cols) {
  constexpr uint64_t kLine = 16;  // Floats of a cache line.
  if (next_ == blocks_.size()) blocks_.emplace_back();
  Block& block = blocks_[next_++];
  const uint64_t pitch = (cols + kLine - 1) / kLine * kLine;
  if (block.memory == nullptr || block.floats < rows * pitch) {
    block.memory.reset();
    block.memory = engine_.Allocate(rows, cols);
    const Rows all = block.memory->rows();
    block.floats = all.rows * all.pitch;
    return all;
  }
  const Rows all = block.memory->rows();
  // As the engine lays out rows, where the block has room for that.
  const bool same = all.cols == cols && rows <= all.rows;
  return {all.data, rows, cols, same ? all.pitch : pitch};
}

uint64_t Scratch::bytes() const {
  uint64_t floats = 0;
  for (const Block& block : blocks_) floats += block.floats;
  return floats * sizeof(float);
}

// ---- Layers ----

struct BoundLayer::Parts {
  BoundNorm before_mixer, after_mixer, before_ffn, after_ffn;
  std::unique_ptr<BoundMixer> mixer;
  std::unique_ptr<BoundFfn> ffn;
};

BoundLayer::BoundLayer(std::unique_ptr<const Parts> parts) : parts_(std::move(parts)) {}
BoundLayer::BoundLayer(BoundLayer&&) noexcept = default;
BoundLayer& BoundLayer::operator=(BoundLayer&&) noexcept = default;
BoundLayer::~BoundLayer() = default;

Result<BoundLayer> BoundLayer::Bind(const LayerGraph& graph, uint64_t hidden,
                                    const LoadedWeights& weights, std::string_view where) {
  const Binder binder(weights, where);
  auto parts = std::make_unique<Parts>();
  const std::pair<const NormGraph*, BoundNorm*> norms[] = {
      {&graph.before_mixer, &parts->before_mixer},
      {&graph.after_mixer, &parts->after_mixer},
      {&graph.before_ffn, &parts->before_ffn},
      {&graph.after_ffn, &parts->after_ffn},
  };
  for (const auto& [from, to] : norms) {
    RAM_ASSIGN_OR_RETURN(*to, binder.FindNorm(*from, graph.norms_plus_one, hidden));
  }
  RAM_ASSIGN_OR_RETURN(parts->mixer, BindMixer(graph, hidden, binder));
  RAM_ASSIGN_OR_RETURN(parts->ffn, BindFfn(graph, hidden, binder));
  return BoundLayer(std::move(parts));
}

void BoundLayer::Run(Engine& engine, const Batch& batch, Scratch& scratch) const {
  RAM_CHECK(batch.states.empty() || batch.states.size() == batch.segments.size());
  for (size_t i = 0; i < batch.segments.size(); ++i) {
    const uint64_t past = batch.states.empty() ? 0 : batch.states[i]->position();
    RAM_CHECK(batch.segments[i].position == past);
  }
  const Rows x = batch.hidden;
  const Scratch::Frame frame(scratch);
  const Rows normed = scratch.Take(x.rows, x.cols);
  const Rows result = scratch.Take(x.rows, x.cols);
  const auto before = [&](const BoundNorm& norm) {
    if (norm.empty()) return x;
    engine.RmsNorm(x, norm.weight, norm.eps, normed);
    return normed;
  };
  const auto add = [&](const BoundNorm& norm) {
    if (!norm.empty()) engine.RmsNorm(result, norm.weight, norm.eps, result);
    engine.Add(result, x);
  };
  parts_->mixer->Run(engine, batch, before(parts_->before_mixer), scratch, result);
  add(parts_->after_mixer);
  parts_->ffn->Run(engine, before(parts_->before_ffn), scratch, result);
  add(parts_->after_ffn);
}

Status RunLayer(Engine& engine, const LayerGraph& graph, uint64_t hidden,
                const LoadedWeights& weights, std::string_view where, const Batch& batch,
                Scratch& scratch) {
  RAM_ASSIGN_OR_RETURN(const BoundLayer layer, BoundLayer::Bind(graph, hidden, weights, where));
  layer.Run(engine, batch, scratch);
  return Done{};
}

// ---- Both ends ----

Result<BoundEnds> BoundEnds::Bind(const Graph& graph, const LoadedWeights& weights,
                                  std::string_view where) {
  const Binder binder(weights, where);
  BoundEnds ends;
  ends.embed_scale_ = graph.embed_scale;
  ends.logit_softcap_ = graph.logit_softcap;
  RAM_ASSIGN_OR_RETURN(ends.embedding_,
                       binder.FindMatrix("embed_tokens", 1, graph.vocabulary, graph.hidden));
  ends.head_ = ends.embedding_;
  if (!graph.may_be_tied || binder.Has(graph.head)) {
    RAM_ASSIGN_OR_RETURN(ends.head_,
                         binder.FindMatrix(graph.head, 1, graph.vocabulary, graph.hidden));
  }
  RAM_ASSIGN_OR_RETURN(BoundNorm norm,
                       binder.FindNorm(graph.final_norm, graph.norms_plus_one, graph.hidden));
  ends.norm_ = std::move(norm.weight);
  ends.norm_eps_ = norm.eps;
  return ends;
}

void BoundEnds::Embed(Engine& engine, std::span<const int32_t> ids, Rows out) const {
  engine.Embed(embedding_, ids, embed_scale_, out);
}

void BoundEnds::FinalNorm(Engine& engine, Rows x, Rows out) const {
  engine.RmsNorm(x, norm_, norm_eps_, out);
}

Status CheckIds(const Graph& graph, std::span<const int32_t> ids) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0 && static_cast<uint64_t>(ids[i]) < graph.vocabulary) continue;
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("token {} of the text has id {}, but the model's vocabulary has {} "
                             "entries",
                             i, ids[i], graph.vocabulary)};
  }
  if (graph.max_context > 0 && ids.size() > graph.max_context) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("{} tokens are more than the model's context of {} "
                             "(max_position_embeddings)",
                             ids.size(), graph.max_context)};
  }
  return Done{};
}

}  // namespace ram
