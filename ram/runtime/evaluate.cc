#include "ram/runtime/evaluate.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>
#include <variant>

#include "ram/base/bytes.h"

namespace ram {
namespace {

// Rows that amortize the decoding of weights; more bring nothing.
constexpr uint64_t kBatchTokens = 8192;
// Rows of the head at once: each needs a maximum and a sum per block of the vocabulary.
constexpr uint64_t kHeadRows = 2048;
// What kernels keep per thread: decoded weights, tiles.
constexpr uint64_t kThreadBytes = uint64_t{6} << 20;
// Program, tokenizer, lists of tokens.
constexpr uint64_t kFixedBytes = uint64_t{64} << 20;

uint64_t MlpCols(const MlpGraph& mlp) { return 2 * mlp.intermediate; }

uint64_t MixerCols(const LayerGraph& layer) {
  if (const auto* attention = std::get_if<AttentionGraph>(&layer.mixer)) {
    const uint64_t q = attention->heads * attention->head_dim;
    const uint64_t kv = attention->kv_heads * attention->head_dim;
    return (attention->gated ? 2 : 1) * q + 2 * kv + q;
  }
  if (const auto* latent = std::get_if<LatentGraph>(&layer.mixer)) {
    const uint64_t head = latent->nope_dim + latent->rope_dim;
    return latent->q_rank + latent->heads * (2 * head + 2 * latent->value_dim) +
           2 * (latent->kv_rank + latent->rope_dim);
  }
  const auto& delta = std::get<DeltaGraph>(layer.mixer);
  const uint64_t values = delta.value_heads * delta.value_dim;
  return 2 * (2 * delta.key_heads * delta.key_dim + values) + 3 * values;
}

uint64_t FfnCols(const LayerGraph& layer, uint64_t hidden) {
  if (const auto* mlp = std::get_if<MlpGraph>(&layer.ffn)) return MlpCols(*mlp);
  const auto& experts = std::get<ExpertsGraph>(layer.ffn);
  const uint64_t shared = experts.has_shared ? MlpCols(experts.shared) + hidden : 0;
  // Gathered inputs and results of every expert a token goes to.
  const uint64_t routed = experts.top_k * (2 * hidden + MlpCols(experts.mlp));
  return experts.experts + hidden + std::max(shared, routed);
}

// Floats that a row takes while a layer runs, beside its hidden state: what the layer keeps, and
// the input of a product in three parts of 16 bits.
uint64_t RowFloats(const Graph& graph) {
  uint64_t cols = 0;
  for (const LayerGraph& layer : graph.layers) {
    cols = std::max({cols, MixerCols(layer), FfnCols(layer, graph.hidden)});
  }
  return 3 * graph.hidden + cols + cols / 2 * 3;
}

// An exponent of all ones carries into the sign. Four lanes of integers: a sum of floats would wait
// for every one of them, four times as long.
bool AllFinite(const Rows& rows) {
  constexpr size_t kLanes = 4;
  const auto carry = [](float value) {
    return (std::bit_cast<uint32_t>(value) & 0x7FFFFFFF) + 0x00800000;
  };
  for (uint64_t r = 0; r < rows.rows; ++r) {
    const float* row = rows.row(r);
    uint32_t any[kLanes] = {};
    uint64_t c = 0;
    for (; c + kLanes <= rows.cols; c += kLanes) {
      for (size_t lane = 0; lane < kLanes; ++lane) any[lane] |= carry(row[c + lane]);
    }
    for (; c < rows.cols; ++c) any[0] |= carry(row[c]);
    if ((any[0] | any[1] | any[2] | any[3]) >> 31 != 0) return false;
  }
  return true;
}

std::string NameOf(const Evaluator::Position& position, size_t sequence) {
  return fmt::format("{} {}", position.noun, position.first_number + sequence);
}

uint64_t RowBytes(const Graph& graph) { return graph.hidden * sizeof(float); }

}  // namespace

uint64_t EvaluationPlan::peak_bytes() const {
  return weights.peak_bytes + activation_bytes + (hidden_in_file ? 0 : hidden_bytes);
}

Result<EvaluationPlan> PlanEvaluation(const WeightSource& source, const Graph& graph,
                                      Engine& engine, std::span<const uint64_t> lengths,
                                      uint64_t memory_bytes) {
  RAM_CHECK(!lengths.empty());
  EvaluationPlan plan;
  plan.bound_bytes = memory_bytes;
  plan.num_layers = static_cast<int>(graph.layers.size());
  for (const uint64_t length : lengths) plan.num_tokens += length;
  const uint64_t longest = *std::max_element(lengths.begin(), lengths.end());
  plan.hidden_bytes = plan.num_tokens * RowBytes(graph);
  const uint64_t fixed = kFixedBytes + kThreadBytes * engine.pool().num_threads();
  const auto activations = [&](uint64_t tokens) {
    return fixed + tokens * (RowFloats(graph) * sizeof(float) + RowBytes(graph));
  };
  plan.batch_tokens = std::min(std::max(longest, kBatchTokens), plan.num_tokens);

  if (memory_bytes == 0) {
    plan.activation_bytes = activations(plan.batch_tokens);
    plan.weights = PlanResidency(source, UINT64_MAX);
    return plan;
  }
  const uint64_t minimum_weights = PlanResidency(source, 0).minimum_bytes;
  const uint64_t least = minimum_weights + activations(std::min(longest, plan.num_tokens));
  if (least > memory_bytes) {
    return Error{
        ErrorCode::kNoSpace,
        fmt::format("{} of memory are too little: {} at least are needed, {} for the largest part "
                    "of the weights and {} for one sequence of {} tokens",
                    FormatBytes(memory_bytes), FormatBytes(least), FormatBytes(minimum_weights),
                    FormatBytes(least - minimum_weights), longest)};
  }
  // A batch takes at most a quarter of the room, then comes what saves most: hidden states are
  // written and read once per layer, a layer that does not stay is read once per run.
  while (plan.batch_tokens > longest &&
         activations(plan.batch_tokens) > std::max(memory_bytes / 4, activations(longest))) {
    plan.batch_tokens = std::max(longest, plan.batch_tokens / 2);
  }
  while (plan.batch_tokens > longest &&
         activations(plan.batch_tokens) + minimum_weights > memory_bytes) {
    plan.batch_tokens = std::max(longest, plan.batch_tokens / 2);
  }
  plan.activation_bytes = activations(plan.batch_tokens);
  const uint64_t room = memory_bytes - plan.activation_bytes;
  plan.hidden_in_file = minimum_weights + plan.hidden_bytes > room;
  plan.weights = PlanResidency(source, room - (plan.hidden_in_file ? 0 : plan.hidden_bytes));
  return plan;
}

Evaluator::Evaluator(Engine& engine, const WeightSource& source, const Graph& graph,
                     const EvaluationPlan& plan, std::filesystem::path scratch_directory)
    : engine_(engine),
      graph_(graph),
      plan_(plan),
      scratch_directory_(std::move(scratch_directory)),
      weights_(source, plan.weights, &engine.pool()),
      scratch_(engine) {}

size_t Evaluator::num_sequences_per_run(std::span<const TokenIds> sequences) const {
  if (!plan_.weights.outside) return sequences.size();
  uint64_t tokens = 0;
  size_t count = 0;
  while (count < sequences.size() &&
         (count == 0 || tokens + sequences[count].size() <= plan_.batch_tokens)) {
    tokens += sequences[count++].size();
  }
  return count;
}

std::vector<Evaluator::SequenceBatch> Evaluator::MakeBatches(
    std::span<const TokenIds> sequences) const {
  std::vector<SequenceBatch> batches;
  uint64_t row = 0;
  for (size_t s = 0; s < sequences.size(); ++s) {
    const uint64_t tokens = sequences[s].size();
    if (batches.empty() || batches.back().num_rows + tokens > plan_.batch_tokens) {
      batches.push_back({s, 0, row, 0});
    }
    ++batches.back().num_sequences;
    batches.back().num_rows += tokens;
    row += tokens;
  }
  return batches;
}

Status Evaluator::EmbedAll(std::span<const TokenIds> sequences,
                           std::span<const SequenceBatch> batches, HiddenStore* store,
                           Rows buffer) {
  RAM_ASSIGN_OR_RETURN(const std::shared_ptr<const LoadedWeights> weights, weights_.Get(-1, 0));
  RAM_ASSIGN_OR_RETURN(const BoundEnds ends, BoundEnds::Bind(graph_, *weights, "the model"));
  for (const SequenceBatch& batch : batches) {
    const Rows rows = store->Place(batch.first_row, batch.num_rows, buffer);
    uint64_t row = 0;
    for (size_t s = 0; s < batch.num_sequences; ++s) {
      const TokenIds& ids = sequences[batch.first_sequence + s];
      ends.Embed(engine_, ids, rows.slice(row, ids.size()));
      row += ids.size();
    }
    RAM_RETURN_IF_ERROR(store->Write(batch.first_row, rows));
  }
  return Done{};
}

Status Evaluator::RunOneLayer(int layer, std::span<const TokenIds> sequences,
                              std::span<const SequenceBatch> batches, const Position& position,
                              HiddenStore* store, Rows buffer) {
  const bool is_last = layer + 1 == plan_.num_layers;
  RAM_ASSIGN_OR_RETURN(const std::shared_ptr<const LoadedWeights> weights,
                       weights_.Get(layer, is_last ? -1 : layer + 1));
  RAM_ASSIGN_OR_RETURN(const BoundLayer bound,
                       BoundLayer::Bind(graph_.layers[static_cast<size_t>(layer)], graph_.hidden,
                                        *weights, fmt::format("layer {}", layer)));
  for (const SequenceBatch& batch : batches) {
    RAM_ASSIGN_OR_RETURN(const Rows rows, store->Read(batch.first_row, batch.num_rows, buffer));
    std::vector<Segment> segments;
    uint64_t row = 0;
    for (size_t s = 0; s < batch.num_sequences; ++s) {
      const uint64_t tokens = sequences[batch.first_sequence + s].size();
      segments.push_back({row, tokens, 0});
      row += tokens;
    }
    bound.Run(engine_, {rows, segments, {}}, scratch_);
    for (size_t s = 0; s < batch.num_sequences; ++s) {
      if (AllFinite(rows.slice(segments[s].first_row, segments[s].num_rows))) continue;
      return Error{ErrorCode::kCorrupt,
                   fmt::format("layer {} turns {} into values that are not numbers", layer,
                               NameOf(position, batch.first_sequence + s))};
    }
    RAM_RETURN_IF_ERROR(store->Write(batch.first_row, rows));
  }
  return Done{};
}

Status Evaluator::Finish(std::span<const TokenIds> sequences, const Position& position,
                         HiddenStore* store, Rows buffer, const FinalBody& body) {
  RAM_ASSIGN_OR_RETURN(const std::shared_ptr<const LoadedWeights> weights,
                       weights_.Get(-1, std::nullopt));
  RAM_ASSIGN_OR_RETURN(const BoundEnds ends, BoundEnds::Bind(graph_, *weights, "the model"));
  uint64_t row = 0;
  for (size_t s = 0; s < sequences.size(); ++s) {
    for (uint64_t first = 0; first < sequences[s].size(); first += kHeadRows) {
      const uint64_t num = std::min(kHeadRows, sequences[s].size() - first);
      RAM_ASSIGN_OR_RETURN(const Rows rows, store->Read(row + first, num, buffer));
      ends.FinalNorm(engine_, rows, rows);
      RAM_RETURN_IF_ERROR(body({s, NameOf(position, s), first, rows, ends}));
    }
    row += sequences[s].size();
  }
  return Done{};
}

Status Evaluator::Run(std::span<const TokenIds> sequences, const Position& position,
                      const Watcher& watcher, const FinalBody& body) {
  uint64_t num_tokens = 0;
  for (const TokenIds& ids : sequences) {
    RAM_RETURN_IF_ERROR(CheckIds(graph_, ids));
    num_tokens += ids.size();
  }
  const std::vector<SequenceBatch> batches = MakeBatches(sequences);
  std::optional<HiddenStore> store;
  std::unique_ptr<Activations> buffer;
  if (plan_.hidden_in_file) {
    uint64_t most = kHeadRows;
    for (const SequenceBatch& batch : batches) most = std::max(most, batch.num_rows);
    buffer = engine_.Allocate(std::min(most, num_tokens), graph_.hidden);
    RAM_ASSIGN_OR_RETURN(store, HiddenStore::InFile(scratch_directory_, num_tokens, graph_.hidden));
  } else {
    store = HiddenStore::InMemory(engine_, num_tokens, graph_.hidden);
  }
  const Rows buffer_rows = buffer ? buffer->rows() : Rows{};

  // Embedding and head count as one more layer.
  const auto parts = static_cast<uint64_t>(plan_.num_layers) + 1;
  const auto report = [&](uint64_t done_parts) {
    const uint64_t total = position.total_tokens == 0 ? num_tokens : position.total_tokens;
    watcher.Report({"evaluate", position.done_tokens + num_tokens * done_parts / parts, total, "",
                    Progress::Unit::kTokens});
  };
  RAM_RETURN_IF_ERROR(EmbedAll(sequences, batches, &*store, buffer_rows));
  for (int layer = 0; layer < plan_.num_layers; ++layer) {
    RAM_RETURN_IF_ERROR(watcher.Check());
    RAM_RETURN_IF_ERROR(RunOneLayer(layer, sequences, batches, position, &*store, buffer_rows));
    report(static_cast<uint64_t>(layer) + 1);
  }
  RAM_RETURN_IF_ERROR(Finish(sequences, position, &*store, buffer_rows, body));
  report(parts);
  return Done{};
}

FinalBody MakeScorer(Engine& engine, std::span<const TokenIds> sequences,
                     std::span<SequenceScore> results) {
  RAM_CHECK(results.size() == sequences.size());
  return [&engine, sequences, results](const FinalRows& rows) -> Status {
    const TokenIds& ids = sequences[rows.sequence];
    SequenceScore& score = results[rows.sequence];
    score.nll.resize(ids.size() - 1);
    score.argmax.resize(ids.size() - 1);
    // The last token predicts nothing that is known.
    const uint64_t num = std::min<uint64_t>(rows.hidden.rows, ids.size() - 1 - rows.first_token);
    if (num == 0) return Done{};
    std::vector<HeadResult> heads(num);
    engine.Head(rows.hidden.slice(0, num), rows.ends.head(), rows.ends.logit_softcap(),
                std::span(ids).subspan(rows.first_token + 1, num), heads);
    for (uint64_t i = 0; i < num; ++i) {
      if (!std::isfinite(heads[i].nll)) {
        return Error{ErrorCode::kCorrupt,
                     fmt::format("the head gives token {} of {} a probability that is not a number",
                                 rows.first_token + i + 1, rows.called)};
      }
      score.nll[rows.first_token + i] = heads[i].nll;
      score.argmax[rows.first_token + i] = heads[i].argmax;
    }
    return Done{};
  };
}

FinalBody MakeLogitsKeeper(Engine& engine, std::span<const TokenIds> sequences,
                           std::span<std::vector<float>> results) {
  RAM_CHECK(results.size() == sequences.size());
  return [&engine, sequences, results](const FinalRows& rows) -> Status {
    const Matrix& head = rows.ends.head();
    std::vector<float>& logits = results[rows.sequence];
    logits.resize(sequences[rows.sequence].size() * head.rows);
    const Rows out = {logits.data() + rows.first_token * head.rows, rows.hidden.rows, head.rows,
                      head.rows};
    engine.Logits(rows.hidden, head, rows.ends.logit_softcap(), out);
    return Done{};
  };
}

}  // namespace ram
