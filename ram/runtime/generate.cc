#include "ram/runtime/generate.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <utility>

#include "ram/base/bytes.h"

namespace ram {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Tokens that one sequence adds in one pass.
struct Piece {
  size_t sequence;
  std::span<const int32_t> ids;
  bool wants_logits;  // Its last token is the last one known.
};

// A model with the states of all sequences: passes tokens through and gives the logits of the last.
class Session {
 public:
  Session(Engine& engine, const WeightSource& source, const Graph& graph,
          const WeightResidency& residency, size_t num_sequences, Dtype cache_dtype)
      : engine_(engine),
        graph_(graph),
        weights_(source, residency, &engine.pool()),
        scratch_(engine) {
    for (size_t s = 0; s < num_sequences; ++s) {
      states_.push_back(MakeSequenceState(graph, cache_dtype));
    }
  }

  // One pass; logits [pieces that want them, vocabulary], in order.
  Result<std::vector<float>> Pass(std::span<const Piece> pieces);
  // Forgets a sequence that has ended.
  void End(size_t sequence) { states_[sequence].clear(); }
  uint64_t position(size_t sequence) const { return states_[sequence].front().position(); }

 private:
  Result<BoundEnds> Ends(std::optional<int> next);

  Engine& engine_;
  const Graph& graph_;
  WeightStream weights_;
  Scratch scratch_;
  std::vector<SequenceState> states_;
  // Binding costs little, but every token would pay it: resident parts stay bound.
  std::shared_ptr<const LoadedWeights> held_;
  std::optional<BoundEnds> ends_;
  std::vector<std::optional<BoundLayer>> layers_;
};

Result<BoundEnds> Session::Ends(std::optional<int> next) {
  if (ends_.has_value()) return *ends_;
  held_ = nullptr;
  RAM_ASSIGN_OR_RETURN(held_, weights_.Get(-1, next));
  RAM_ASSIGN_OR_RETURN(BoundEnds ends, BoundEnds::Bind(graph_, *held_, "the model"));
  if (weights_.residency().outside) ends_ = ends;
  return ends;
}

Result<std::vector<float>> Session::Pass(std::span<const Piece> pieces) {
  std::vector<int32_t> ids;
  std::vector<Segment> segments;
  for (const Piece& piece : pieces) {
    segments.push_back({ids.size(), piece.ids.size(), position(piece.sequence)});
    ids.insert(ids.end(), piece.ids.begin(), piece.ids.end());
  }
  const std::unique_ptr<Activations> hidden = engine_.Allocate(ids.size(), graph_.hidden);
  {
    RAM_ASSIGN_OR_RETURN(const BoundEnds ends, Ends(0));
    ends.Embed(engine_, ids, hidden->rows());
  }
  const auto num_layers = static_cast<int>(graph_.layers.size());
  layers_.resize(graph_.layers.size());
  for (int layer = 0; layer < num_layers; ++layer) {
    const auto index = static_cast<size_t>(layer);
    std::vector<LayerState*> states;
    for (const Piece& piece : pieces) states.push_back(&states_[piece.sequence][index]);
    const Batch batch = {hidden->rows(), segments, states};
    if (layers_[index].has_value()) {
      layers_[index]->Run(engine_, batch, scratch_);
      continue;
    }
    held_ = nullptr;
    RAM_ASSIGN_OR_RETURN(held_, weights_.Get(layer, layer + 1 < num_layers ? layer + 1 : -1));
    RAM_ASSIGN_OR_RETURN(BoundLayer bound,
                         BoundLayer::Bind(graph_.layers[index], graph_.hidden, *held_,
                                          fmt::format("layer {}", layer)));
    bound.Run(engine_, batch, scratch_);
    if (layer < weights_.residency().num_resident) layers_[index] = std::move(bound);
  }

  std::vector<size_t> last_rows;
  for (size_t p = 0; p < pieces.size(); ++p) {
    if (pieces[p].wants_logits) {
      last_rows.push_back(segments[p].first_row + segments[p].num_rows - 1);
    }
  }
  std::vector<float> logits(last_rows.size() * graph_.vocabulary);
  if (last_rows.empty()) return logits;
  const std::unique_ptr<Activations> last = engine_.Allocate(last_rows.size(), graph_.hidden);
  for (size_t r = 0; r < last_rows.size(); ++r) {
    const float* from = hidden->rows().row(last_rows[r]);
    std::copy(from, from + graph_.hidden, last->rows().row(r));
  }
  RAM_ASSIGN_OR_RETURN(const BoundEnds ends, Ends(0));
  ends.FinalNorm(engine_, last->rows(), last->rows());
  engine_.Logits(last->rows(), ends.head(), ends.logit_softcap(),
                 {logits.data(), last_rows.size(), graph_.vocabulary, graph_.vocabulary});
  return logits;
}

// Most tokens a sequence may reach.
uint64_t ContextLimit(const Graph& graph) {
  return graph.max_context == 0 ? UINT64_MAX : graph.max_context;
}

Result<WeightResidency> PlanGeneration(const WeightSource& source, const Graph& graph,
                                       std::span<const TokenIds> prompts,
                                       const GenerateOptions& options) {
  if (options.memory_bytes == 0) return PlanResidency(source, UINT64_MAX);
  uint64_t state_bytes = 0;
  for (const TokenIds& prompt : prompts) {
    const uint64_t tokens = std::min(prompt.size() + options.max_tokens, ContextLimit(graph));
    state_bytes += SequenceStateBytes(graph, options.cache_dtype, tokens);
  }
  // Beside weights and states: program and kernels, the logits of all sequences, and activations of
  // some sixteen times the hidden size for every row of a pass.
  const uint64_t other = (uint64_t{64} << 20) + prompts.size() * graph.vocabulary * sizeof(float) +
                         options.prefill_tokens * graph.hidden * 16 * sizeof(float);
  const uint64_t least = PlanResidency(source, 0).minimum_bytes + state_bytes + other;
  if (least > options.memory_bytes) {
    return Error{ErrorCode::kNoSpace,
                 fmt::format("{} of memory are too little: {} at least are needed, {} of them for "
                             "what the model keeps of {} sequences",
                             FormatBytes(options.memory_bytes), FormatBytes(least),
                             FormatBytes(state_bytes), prompts.size())};
  }
  return PlanResidency(source, options.memory_bytes - state_bytes - other);
}

// Sequences that go on, and what each of them is fed next.
class Decoder {
 public:
  Decoder(std::span<const TokenIds> prompts, const Graph& graph, const GenerateOptions& options,
          const TokenBody& body, Session* session)
      : prompts_(prompts),
        graph_(graph),
        options_(options),
        body_(body),
        session_(*session),
        results_(prompts.size()),
        next_(prompts.size()) {}

  // Passes all prompts through, in pieces of at most prefill_tokens rows.
  Status Prefill(const Watcher& watcher);
  // Passes one more token of every sequence that goes on.
  Status Step();
  bool done() const { return active_.empty(); }
  std::vector<TokenIds> TakeResults() { return std::move(results_); }
  uint64_t num_new_tokens() const;

 private:
  // Chooses the next token of a sequence from its logits; ends it where it is over.
  Status Choose(size_t sequence, std::span<const float> logits);

  std::span<const TokenIds> prompts_;
  const Graph& graph_;
  const GenerateOptions& options_;
  const TokenBody& body_;
  Session& session_;
  std::vector<TokenIds> results_;
  std::vector<int32_t> next_;
  std::vector<size_t> active_;
};

Status Decoder::Prefill(const Watcher& watcher) {
  std::vector<Piece> pieces;
  uint64_t rows = 0;
  const auto flush = [&]() -> Status {
    RAM_RETURN_IF_ERROR(watcher.Check());
    RAM_ASSIGN_OR_RETURN(const std::vector<float> logits, session_.Pass(pieces));
    size_t at = 0;
    for (const Piece& piece : pieces) {
      if (!piece.wants_logits) continue;
      RAM_RETURN_IF_ERROR(Choose(piece.sequence, std::span(logits).subspan(at, graph_.vocabulary)));
      at += graph_.vocabulary;
    }
    pieces.clear();
    rows = 0;
    return Done{};
  };
  for (size_t s = 0; s < prompts_.size(); ++s) {
    for (size_t first = 0; first < prompts_[s].size();) {
      const size_t num =
          std::min<size_t>(prompts_[s].size() - first, options_.prefill_tokens - rows);
      pieces.push_back(
          {s, std::span(prompts_[s]).subspan(first, num), first + num == prompts_[s].size()});
      rows += num;
      first += num;
      if (rows == options_.prefill_tokens) RAM_RETURN_IF_ERROR(flush());
    }
  }
  if (!pieces.empty()) RAM_RETURN_IF_ERROR(flush());
  return Done{};
}

Status Decoder::Choose(size_t sequence, std::span<const float> logits) {
  for (const float logit : logits) {
    if (std::isfinite(logit)) continue;
    return Error{ErrorCode::kCorrupt,
                 fmt::format("the logits after token {} of sequence {} are not numbers",
                             session_.position(sequence), sequence)};
  }
  const uint64_t position = session_.position(sequence);
  const int32_t id = SampleToken(logits, options_.sampling, sequence, position);
  const bool stops =
      std::find(options_.stop_ids.begin(), options_.stop_ids.end(), id) != options_.stop_ids.end();
  if (!stops) {
    results_[sequence].push_back(id);
    const bool wanted = body_ == nullptr || body_(sequence, id);
    if (wanted && results_[sequence].size() < options_.max_tokens &&
        position + 1 < ContextLimit(graph_)) {
      next_[sequence] = id;
      active_.push_back(sequence);
      return Done{};
    }
  }
  session_.End(sequence);
  return Done{};
}

Status Decoder::Step() {
  std::vector<Piece> pieces;
  const std::vector<size_t> sequences = std::exchange(active_, {});
  for (const size_t s : sequences) pieces.push_back({s, std::span(&next_[s], 1), true});
  RAM_ASSIGN_OR_RETURN(const std::vector<float> logits, session_.Pass(pieces));
  for (size_t i = 0; i < sequences.size(); ++i) {
    RAM_RETURN_IF_ERROR(
        Choose(sequences[i], std::span(logits).subspan(i * graph_.vocabulary, graph_.vocabulary)));
  }
  return Done{};
}

uint64_t Decoder::num_new_tokens() const {
  uint64_t count = 0;
  for (const TokenIds& ids : results_) count += ids.size();
  return count;
}

}  // namespace

Result<std::vector<TokenIds>> Generate(Engine& engine, const WeightSource& source,
                                       const Graph& graph, std::span<const TokenIds> prompts,
                                       const GenerateOptions& options, const Watcher& watcher,
                                       const TokenBody& body, GenerateStats* stats) {
  RAM_CHECK(options.prefill_tokens > 0);
  for (size_t s = 0; s < prompts.size(); ++s) {
    if (prompts[s].empty()) {
      return Error{ErrorCode::kInvalidArgument, fmt::format("prompt {} has no tokens", s)};
    }
    RAM_RETURN_IF_ERROR(CheckIds(graph, prompts[s]));
  }
  if (options.max_tokens == 0) return std::vector<TokenIds>(prompts.size());
  RAM_ASSIGN_OR_RETURN(const WeightResidency residency,
                       PlanGeneration(source, graph, prompts, options));
  Session session(engine, source, graph, residency, prompts.size(), options.cache_dtype);
  Decoder decoder(prompts, graph, options, body, &session);

  Clock::time_point start = Clock::now();
  RAM_RETURN_IF_ERROR(decoder.Prefill(watcher));
  GenerateStats counts;
  for (const TokenIds& prompt : prompts) counts.prompt_tokens += prompt.size();
  counts.prompt_seconds = SecondsSince(start);
  const uint64_t first_tokens = decoder.num_new_tokens();
  start = Clock::now();
  while (!decoder.done()) {
    RAM_RETURN_IF_ERROR(watcher.Check());
    RAM_RETURN_IF_ERROR(decoder.Step());
    ++counts.steps;
  }
  counts.new_seconds = SecondsSince(start);
  counts.new_tokens = decoder.num_new_tokens() - first_tokens;
  if (stats != nullptr) *stats = counts;
  return decoder.TakeResults();
}

}  // namespace ram
