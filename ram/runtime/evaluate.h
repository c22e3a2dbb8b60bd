#pragma once

// Running a model over whole sequences, layer by layer: all sequences go through a layer, then the
// next layer takes its place. So a model, and the states of its tokens, may be larger than memory.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ram/base/progress.h"
#include "ram/base/result.h"
#include "ram/family/graph.h"
#include "ram/runtime/engine.h"
#include "ram/runtime/hidden_store.h"
#include "ram/runtime/layer.h"
#include "ram/runtime/loaded_weights.h"
#include "ram/runtime/weight_stream.h"

namespace ram {

using TokenIds = std::vector<int32_t>;

// What will be where [bytes]; the sum is the most that evaluation holds.
struct EvaluationPlan {
  uint64_t bound_bytes = 0;  // 0: none was given.
  WeightResidency weights;
  uint64_t num_tokens = 0;
  uint64_t batch_tokens = 0;  // Rows that go through a layer at once: whole sequences.
  uint64_t activation_bytes = 0;
  bool hidden_in_file = false;
  uint64_t hidden_bytes = 0;  // Of all tokens between two layers, in memory or in the file.
  int num_layers = 0;

  uint64_t peak_bytes() const;
};

// Divides `memory_bytes` (0: no bound): activations of one batch first, then as many layers as fit,
// or the hidden states where that saves more reading. kNoSpace says what the least bound is, and
// what needs it. `lengths`: tokens of each sequence, not empty.
Result<EvaluationPlan> PlanEvaluation(const WeightSource& source, const Graph& graph,
                                      Engine& engine, std::span<const uint64_t> lengths,
                                      uint64_t memory_bytes);

// What the end of the model is handed: rows of one sequence (or a part of one: tokens
// [first_token, first_token + rows)), after the final norm.
struct FinalRows {
  size_t sequence;
  std::string called;  // What messages call it: "sequence 3".
  uint64_t first_token;
  Rows hidden;
  const BoundEnds& ends;
};
using FinalBody = std::function<Status(const FinalRows& rows)>;

class Evaluator {
 public:
  // Everything outlives the evaluator. `scratch_directory` is where hidden states go that have no
  // place in memory.
  Evaluator(Engine& engine, const WeightSource& source, const Graph& graph,
            const EvaluationPlan& plan, std::filesystem::path scratch_directory);

  // Sequences that one Run should take: all of them where layers are read again for every run, else
  // as many as make a batch, so that results come early.
  size_t num_sequences_per_run(std::span<const TokenIds> sequences) const;

  // Runs all sequences and hands each to `body`, in order. Progress counts tokens, those of all
  // layers together as one pass, from watcher's `done_tokens` of `total_tokens` on. Errors: ids out
  // of range, a sequence longer than the model's context, reading, disk; kCorrupt where a result is
  // not a number: it names the sequence and the layer where that happened first.
  struct Position {
    uint64_t done_tokens = 0;
    uint64_t total_tokens = 0;  // 0: those of the sequences.
    // What messages call the first sequence: they speak of windows, say, of which some were run
    // before.
    std::string_view noun = "sequence";
    size_t first_number = 0;
  };
  Status Run(std::span<const TokenIds> sequences, const Position& position, const Watcher& watcher,
             const FinalBody& body);

  // Ids are below this.
  uint64_t vocabulary() const { return graph_.vocabulary; }
  // Bytes of weights read so far.
  uint64_t read_bytes() const { return weights_.read_bytes(); }

 private:
  struct SequenceBatch {
    size_t first_sequence;
    size_t num_sequences;
    uint64_t first_row;
    uint64_t num_rows;
  };
  std::vector<SequenceBatch> MakeBatches(std::span<const TokenIds> sequences) const;
  Status EmbedAll(std::span<const TokenIds> sequences, std::span<const SequenceBatch> batches,
                  HiddenStore* store, Rows buffer);
  Status RunOneLayer(int layer, std::span<const TokenIds> sequences,
                     std::span<const SequenceBatch> batches, const Position& position,
                     HiddenStore* store, Rows buffer);
  Status Finish(std::span<const TokenIds> sequences, const Position& position, HiddenStore* store,
                Rows buffer, const FinalBody& body);

  Engine& engine_;
  const Graph& graph_;
  EvaluationPlan plan_;
  std::filesystem::path scratch_directory_;
  WeightStream weights_;
  Scratch scratch_;
};

// -ln p of every token of a sequence given those before it: nll[i] belongs to token i + 1; whether
// it was the most likely one.
struct SequenceScore {
  std::vector<float> nll;        // [tokens - 1]
  std::vector<uint32_t> argmax;  // [tokens - 1]: the token that was the most likely one.
};

// The body of Run that scores: results[sequence] is filled.
FinalBody MakeScorer(Engine& engine, std::span<const TokenIds> sequences,
                     std::span<SequenceScore> results);

// The body of Run that keeps all logits: results[sequence] [tokens, vocabulary].
FinalBody MakeLogitsKeeper(Engine& engine, std::span<const TokenIds> sequences,
                           std::span<std::vector<float>> results);

}  // namespace ram
