#pragma once

// Text from a model: prompts in, tokens out, many sequences at once.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "ram/base/progress.h"
#include "ram/base/result.h"
#include "ram/family/graph.h"
#include "ram/runtime/engine.h"
#include "ram/runtime/evaluate.h"
#include "ram/runtime/layer.h"
#include "ram/runtime/sampler.h"
#include "ram/runtime/state.h"
#include "ram/runtime/weight_stream.h"

namespace ram {

struct GenerateOptions {
  uint64_t max_tokens = 256;  // Of each sequence, beside its prompt.
  Sampling sampling;
  std::vector<int32_t> stop_ids;    // Ends a sequence; is not part of the result.
  Dtype cache_dtype = Dtype::kF32;  // kF32 or kBF16.
  uint64_t memory_bytes = 0;        // Of weights, caches and activations; 0: no bound.
  uint64_t prefill_tokens = 2048;   // Rows of a prompt that go through the model at once.
};

// Every new token as soon as it is known, sequences of a step in order. False ends the sequence.
using TokenBody = std::function<bool(size_t sequence, int32_t id)>;

struct GenerateStats {
  uint64_t prompt_tokens = 0;
  double prompt_seconds = 0;
  uint64_t steps = 0;  // Passes for one more token of every sequence that has not ended.
  uint64_t new_tokens = 0;
  double new_seconds = 0;
};

// Continues every prompt (not empty, ids in range: kInvalidArgument otherwise) until a stop token,
// max_tokens or the model's context. Results hold the new tokens. A sequence's tokens do not depend
// on the others. Where the weights do not fit in memory they are read again for every token.
// kNoSpace: what does not fit, and the least bound. kCancelled as soon as the watcher says so.
Result<std::vector<TokenIds>> Generate(Engine& engine, const WeightSource& source,
                                       const Graph& graph, std::span<const TokenIds> prompts,
                                       const GenerateOptions& options, const Watcher& watcher,
                                       const TokenBody& body, GenerateStats* stats);

}  // namespace ram
