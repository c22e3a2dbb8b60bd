#pragma once

// What a model keeps of one sequence between two calls: keys and values, or latents, or the state
// of a gated delta net, for each layer. Evaluation needs none of this.

#include <cstdint>
#include <memory>
#include <vector>

#include "ram/base/dtype.h"
#include "ram/family/graph.h"
#include "ram/runtime/engine.h"

namespace ram {

// Of one layer and one sequence. Memory grows with the sequence (doubling), or stays at two to four
// times the window where the layer has one (more for the time of a longer Append).
class LayerState {
 public:
  // Keys and values are kept as `dtype`, kF32 or kBF16 (rounded to nearest); recurrent states are
  // f32 always.
  LayerState(const LayerGraph& layer, Dtype dtype);

  // Tokens so far.
  uint64_t position() const { return position_; }
  // Bytes in memory.
  uint64_t bytes() const;

  // Appends tokens: keys [n, key_cols], values [n, value_cols]. Latent layers pass the latent and
  // the rotary key together as keys, and no values (cols = 0).
  void Append(Rows keys, Rows values);
  // What is held, with at least all that tokens to come may see: tokens [first_position(),
  // position()). For latent layers values() is the latent part of keys(). Valid until Append.
  CacheView keys() const;
  CacheView values() const;
  uint64_t first_position() const { return position_ - held_; }

  // Of a gated delta net. The caller that advances it by n tokens says so.
  DeltaState delta();
  void Advance(uint64_t num_tokens) { position_ += num_tokens; }

 private:
  struct Free {
    void operator()(uint8_t* data) const;
  };
  using Buffer = std::unique_ptr<uint8_t[], Free>;
  void Reserve(uint64_t num_tokens);

  Dtype dtype_ = Dtype::kF32;
  uint64_t key_cols_ = 0;
  uint64_t value_cols_ = 0;
  bool latent_ = false;
  uint64_t keep_ = 0;  // Tokens that must be kept; 0: all.
  uint64_t position_ = 0;
  uint64_t held_ = 0;
  uint64_t first_ = 0;     // Token of the buffer where what is held begins.
  uint64_t capacity_ = 0;  // Tokens.
  Buffer keys_, values_;
  std::vector<float> conv_, recurrent_;
};

// One for each layer of a model.
using SequenceState = std::vector<LayerState>;
SequenceState MakeSequenceState(const Graph& graph, Dtype dtype);

// Bytes that one sequence takes once it has num_tokens that came a few at a time.
uint64_t SequenceStateBytes(const Graph& graph, Dtype dtype, uint64_t num_tokens);
// Of these, what the next token reads.
uint64_t SequenceReadBytes(const Graph& graph, Dtype dtype, uint64_t num_tokens);

}  // namespace ram
