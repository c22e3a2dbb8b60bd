#include "ram/runtime/layer_parts.h"

#include <fmt/format.h>

#include <cstring>
#include <variant>

namespace ram {

// ---- Weights by name ----

Result<Matrix> Binder::FindMatrix(const std::string& name, uint64_t count, uint64_t rows,
                                  uint64_t cols) const {
  const Matrix* found = weights_.matrix(name);
  if (found == nullptr) {
    return Error{ErrorCode::kCorrupt, fmt::format("{}: tensor {} is missing", where_, name)};
  }
  if (found->count != count || found->rows != rows || found->cols != cols) {
    return Error{ErrorCode::kCorrupt,
                 fmt::format("{}: tensor {} has shape [{}, {}, {}], expected [{}, {}, {}]", where_,
                             name, found->count, found->rows, found->cols, count, rows, cols)};
  }
  return *found;
}

Result<BoundLinear> Binder::FindLinear(const std::string& name, uint64_t rows,
                                       uint64_t cols) const {
  BoundLinear linear;
  RAM_ASSIGN_OR_RETURN(linear.matrix, FindMatrix(name, 1, rows, cols));
  RAM_ASSIGN_OR_RETURN(linear.bias, FindOptionalVector(name + ".bias", rows));
  return linear;
}

Result<std::span<const float>> Binder::FindVector(const std::string& name, uint64_t size) const {
  RAM_ASSIGN_OR_RETURN(const std::span<const float> found, FindOptionalVector(name, size));
  if (found.empty()) {
    return Error{ErrorCode::kCorrupt, fmt::format("{}: tensor {} is missing", where_, name)};
  }
  return found;
}

Result<std::span<const float>> Binder::FindOptionalVector(const std::string& name,
                                                          uint64_t size) const {
  const std::span<const float> found = weights_.vector(name);
  if (!found.empty() && found.size() != size) {
    return Error{ErrorCode::kCorrupt, fmt::format("{}: tensor {} has {} values, expected {}",
                                                  where_, name, found.size(), size)};
  }
  return found;
}

Result<BoundNorm> Binder::FindNorm(const NormGraph& graph, bool plus_one, uint64_t size) const {
  BoundNorm norm;
  if (graph.name.empty()) return norm;
  RAM_ASSIGN_OR_RETURN(const std::span<const float> weight, FindVector(graph.name, size));
  norm.eps = graph.eps;
  norm.weight.assign(weight.begin(), weight.end());
  if (plus_one) {
    for (float& w : norm.weight) w += 1;
  }
  return norm;
}

// ---- Steps ----

Result<std::unique_ptr<BoundMixer>> BindMixer(const LayerGraph& graph, uint64_t hidden,
                                              const Binder& binder) {
  if (const auto* attention = std::get_if<AttentionGraph>(&graph.mixer))
    return BindAttention(*attention, graph.norms_plus_one, hidden, binder);
  if (const auto* latent = std::get_if<LatentGraph>(&graph.mixer))
    return BindLatent(*latent, hidden, binder);
  return BindDelta(std::get<DeltaGraph>(graph.mixer), hidden, binder);
}

void Rotate(Engine& engine, Rows x, std::span<const Segment> segments, const RopeGraph& rope,
            HeadSpec spec) {
  spec.inv_freq = rope.inv_freq;
  spec.interleaved = rope.interleaved;
  spec.rope_scale = rope.scale;
  if (rope.long_inv_freq.empty()) {
    engine.PrepareHeads(x, segments, spec);
    return;
  }
  std::vector<Segment> usual;
  std::vector<Segment> beyond;
  for (const Segment& segment : segments) {
    const bool is_long = segment.position + segment.num_rows > rope.long_from;
    (is_long ? beyond : usual).push_back(segment);
  }
  if (!usual.empty()) engine.PrepareHeads(x, usual, spec);
  spec.inv_freq = rope.long_inv_freq;
  if (!beyond.empty()) engine.PrepareHeads(x, beyond, spec);
}

void CopyHeads(Rows from, uint64_t from_pitch, Rows to, uint64_t to_pitch, uint64_t heads,
               uint64_t cols) {
  for (uint64_t r = 0; r < from.rows; ++r) {
    for (uint64_t h = 0; h < heads; ++h) {
      std::memcpy(to.row(r) + h * to_pitch, from.row(r) + h * from_pitch, cols * sizeof(float));
    }
  }
}

}  // namespace ram
