#pragma once

// What a bound layer is made of: a mixer and a feed-forward part, each with its weights. Internal
// to the runtime; layer.h is the interface.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ram/base/result.h"
#include "ram/family/graph.h"
#include "ram/runtime/engine.h"
#include "ram/runtime/layer.h"
#include "ram/runtime/loaded_weights.h"

namespace ram {

// x -> x * matrix^T + bias.
struct BoundLinear {
  Matrix matrix;
  std::span<const float> bias = {};

  LinearTerm to(Rows out) const { return {matrix, bias, out}; }
  // Outputs [first, first + num) alone.
  LinearTerm to(Rows out, uint64_t first, uint64_t num) const {
    return {matrix.slice(first, num), bias.empty() ? bias : bias.subspan(first, num), out};
  }
};

struct BoundNorm {
  std::vector<float> weight;  // Empty: no norm.
  float eps = 0;

  bool empty() const { return weight.empty(); }
};

// Finds weights by name and checks their shapes. Errors (kCorrupt) name the layer, the tensor and
// the shape that the graph expects.
class Binder {
 public:
  Binder(const LoadedWeights& weights, std::string_view where) : weights_(weights), where_(where) {}

  Result<Matrix> FindMatrix(const std::string& name, uint64_t count, uint64_t rows,
                            uint64_t cols) const;
  // [rows, cols], with the bias `name`.bias where the model has one.
  Result<BoundLinear> FindLinear(const std::string& name, uint64_t rows, uint64_t cols) const;
  Result<std::span<const float>> FindVector(const std::string& name, uint64_t size) const;
  // Empty if the model has none.
  Result<std::span<const float>> FindOptionalVector(const std::string& name, uint64_t size) const;
  // No norm if the graph has none.
  Result<BoundNorm> FindNorm(const NormGraph& graph, bool plus_one, uint64_t size) const;
  bool Has(const std::string& name) const { return weights_.matrix(name) != nullptr; }

 private:
  const LoadedWeights& weights_;
  std::string_view where_;
};

class BoundMixer {
 public:
  virtual ~BoundMixer() = default;
  // x [tokens, hidden] (after the norm) -> out. Appends to the states of the batch.
  virtual void Run(Engine& engine, const Batch& batch, Rows x, Scratch& scratch,
                   Rows out) const = 0;
};
Result<std::unique_ptr<BoundMixer>> BindMixer(const LayerGraph& graph, uint64_t hidden,
                                              const Binder& binder);
Result<std::unique_ptr<BoundMixer>> BindAttention(const AttentionGraph& graph, bool norms_plus_one,
                                                  uint64_t hidden, const Binder& binder);
Result<std::unique_ptr<BoundMixer>> BindLatent(const LatentGraph& graph, uint64_t hidden,
                                               const Binder& binder);
Result<std::unique_ptr<BoundMixer>> BindDelta(const DeltaGraph& graph, uint64_t hidden,
                                              const Binder& binder);

class BoundFfn {
 public:
  virtual ~BoundFfn() = default;
  virtual void Run(Engine& engine, Rows x, Scratch& scratch, Rows out) const = 0;
};
Result<std::unique_ptr<BoundFfn>> BindFfn(const LayerGraph& graph, uint64_t hidden,
                                          const Binder& binder);

// PrepareHeads with the frequencies that each sequence needs for its length.
void Rotate(Engine& engine, Rows x, std::span<const Segment> segments, const RopeGraph& rope,
            HeadSpec spec);

// to[r][h * to_pitch ...] = from[r][h * from_pitch ...], `cols` values of each of `heads` heads;
// from_pitch 0 repeats the same for every head.
void CopyHeads(Rows from, uint64_t from_pitch, Rows to, uint64_t to_pitch, uint64_t heads,
               uint64_t cols);

}  // namespace ram
