#pragma once

// One layer of any family over a batch of rows. The graph says what to compute, an engine computes
// it; a layer is bound to its weights first, so that running it cannot fail.

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "ram/base/result.h"
#include "ram/family/graph.h"
#include "ram/runtime/engine.h"
#include "ram/runtime/loaded_weights.h"
#include "ram/runtime/state.h"

namespace ram {

// Activations of one layer, reused by the next.
class Scratch {
 public:
  // The engine outlives the scratch memory.
  explicit Scratch(Engine& engine) : engine_(engine) {}

  // Undefined contents; valid until the Frame that was open at the time is closed.
  Rows Take(uint64_t rows, uint64_t cols);
  // Bytes held: grows to the largest need so far and stays.
  uint64_t bytes() const;

  // Everything that is taken while a frame is open is free again when it ends.
  class Frame {
   public:
    explicit Frame(Scratch& scratch) : scratch_(scratch), mark_(scratch.next_) {}
    ~Frame() { scratch_.next_ = mark_; }
    Frame(const Frame&) = delete;
    Frame& operator=(const Frame&) = delete;

   private:
    Scratch& scratch_;
    size_t mark_;
  };

 private:
  struct Block {
    std::unique_ptr<Activations> memory;
    uint64_t floats = 0;
  };
  Engine& engine_;
  std::vector<Block> blocks_;
  size_t next_ = 0;
};

// Rows of one or many sequences. `segments` are in order and cover all rows.
struct Batch {
  Rows hidden;  // [tokens, hidden], read and replaced.
  std::span<const Segment> segments;
  // One for each segment, which begins at state->position() and is appended to it. Empty: every
  // segment is a whole sequence from position 0 on, and nothing is kept.
  std::span<LayerState* const> states = {};
};

// A layer with its weights. Views into `weights`, except norms to which 1 was added.
class BoundLayer {
 public:
  // Graph and weights outlive the bound layer. kCorrupt: a weight that is missing or has another
  // shape than the graph says; `where` and its name are in the message.
  static Result<BoundLayer> Bind(const LayerGraph& graph, uint64_t hidden,
                                 const LoadedWeights& weights, std::string_view where);
  BoundLayer(BoundLayer&&) noexcept;
  BoundLayer& operator=(BoundLayer&&) noexcept;
  ~BoundLayer();

  void Run(Engine& engine, const Batch& batch, Scratch& scratch) const;

 private:
  struct Parts;
  explicit BoundLayer(std::unique_ptr<const Parts> parts);
  std::unique_ptr<const Parts> parts_;
};

// Binds and runs at once: for layers that are used once (streaming).
Status RunLayer(Engine& engine, const LayerGraph& graph, uint64_t hidden,
                const LoadedWeights& weights, std::string_view where, const Batch& batch,
                Scratch& scratch);

// What lies outside the layers: embedding, final norm, head.
class BoundEnds {
 public:
  // As BoundLayer::Bind. The head is the embedding where the model is tied.
  static Result<BoundEnds> Bind(const Graph& graph, const LoadedWeights& weights,
                                std::string_view where);

  // out [ids, hidden]. Ids are in range (CheckIds).
  void Embed(Engine& engine, std::span<const int32_t> ids, Rows out) const;
  // In place is fine.
  void FinalNorm(Engine& engine, Rows x, Rows out) const;
  const Matrix& head() const { return head_; }
  float logit_softcap() const { return logit_softcap_; }

 private:
  Matrix embedding_, head_;
  float embed_scale_ = 1;
  float logit_softcap_ = 0;
  float norm_eps_ = 0;
  std::vector<float> norm_;
};

// kInvalidArgument: an id outside the vocabulary (it and its place are named), or more tokens than
// the model's context.
Status CheckIds(const Graph& graph, std::span<const int32_t> ids);

}  // namespace ram
