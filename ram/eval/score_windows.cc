#include "ram/eval/score_windows.h"

#include <fmt/format.h>

#include <utility>

namespace ram {
namespace {

// How many windows `scores` holds; they must be the first of these.
Result<size_t> WindowsDone(std::span<const Window> windows, const Scores& scores) {
  const size_t done = scores.windows.size();
  if (done > windows.size() || scores.token_hashes.size() != done) {
    return Error{
        ErrorCode::kInvalidArgument,
        fmt::format("the earlier scores hold {} windows, this text has {}", done, windows.size())};
  }
  for (size_t w = 0; w < done; ++w) {
    if (scores.token_hashes[w] != HashTokens(windows[w].ids)) {
      return Error{ErrorCode::kInvalidArgument,
                   fmt::format("window {} of the earlier scores has other tokens", w)};
    }
  }
  return done;
}

}  // namespace

std::vector<uint64_t> WindowLengths(std::span<const Window> windows) {
  std::vector<uint64_t> lengths;
  lengths.reserve(windows.size());
  for (const Window& window : windows) lengths.push_back(window.ids.size());
  return lengths;
}

Status ScoreWindows(Engine& engine, Evaluator& evaluator, std::span<const Window> windows,
                    const std::function<std::string(const Window&)>& text_of,
                    const Watcher& watcher, const ScoresBody& body, Scores* scores) {
  RAM_ASSIGN_OR_RETURN(const size_t first, WindowsDone(windows, *scores));
  std::vector<TokenIds> sequences;
  Evaluator::Position position;
  for (size_t w = 0; w < windows.size(); ++w) {
    position.total_tokens += windows[w].ids.size();
    if (w < first) position.done_tokens += windows[w].ids.size();
    if (w >= first) sequences.push_back(windows[w].ids);
  }

  std::span<const TokenIds> left = sequences;
  for (size_t at = first; !left.empty();) {
    const std::span<const TokenIds> run = left.first(evaluator.num_sequences_per_run(left));
    std::vector<SequenceScore> results(run.size());
    Status status = evaluator.Run(run, position, watcher, MakeScorer(engine, run, results));
    if (!status) {
      if (at == 0) return status;  // Sequences are numbered as windows.
      return Error{status.error().code,
                   fmt::format("from window {} on: {}", at, status.error().message)};
    }
    for (size_t s = 0; s < run.size(); ++s, ++at) {
      const Window& window = windows[at];
      AddWindow(scores, window.text_first,
                std::span<const float>(results[s].nll).subspan(window.first_scored - 1),
                HashTokens(window.ids), text_of ? text_of(window) : std::string());
      position.done_tokens += window.ids.size();
    }
    left = left.subspan(run.size());
    if (body && !body(*scores)) break;
  }
  return Done{};
}

}  // namespace ram
