#include "ram/eval/score_windows.h"

#include <fmt/format.h>

#include <utility>

namespace ram {
namespace {

// How many of these units `scores` holds; they must be the first ones.
Result<size_t> UnitsDone(std::span<const TokenHash> units, const Scores& scores) {
  const size_t done = scores.windows.size();
  if (done > units.size() || scores.token_hashes.size() != done) {
    return Error{
        ErrorCode::kInvalidArgument,
        fmt::format("the earlier scores hold {} windows, this text has {}", done, units.size())};
  }
  for (size_t u = 0; u < done; ++u) {
    if (scores.token_hashes[u] == units[u]) continue;
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("window {} of the earlier scores has other tokens", u)};
  }
  return done;
}

// Puts the scores of windows together to those of what they are parts of.
class UnitCollector {
 public:
  UnitCollector(std::span<const Window> windows, std::span<const TokenHash> hashes,
                const std::function<std::string(const Window&)>& text_of, Scores* scores)
      : windows_(windows), hashes_(hashes), text_of_(text_of), scores_(scores) {}

  // Windows in their order, `nll` of the scored tokens.
  void Add(size_t index, std::span<const float> nll) {
    const Window& window = windows_[index];
    if (!window.continues) first_ = index;
    nll_.insert(nll_.end(), nll.begin(), nll.end());
    if (text_of_) text_ += text_of_(window);
    if (index + 1 < windows_.size() && windows_[index + 1].continues) return;
    const Window& first = windows_[first_];
    ScoredWindow& scored = AddWindow(scores_, first.text_first, nll_,
                                     hashes_[scores_->windows.size()], std::move(text_));
    scored.words = first.words;
    scored.bytes = first.bytes;
    nll_.clear();
    text_.clear();
  }

 private:
  std::span<const Window> windows_;
  std::span<const TokenHash> hashes_;
  const std::function<std::string(const Window&)>& text_of_;
  Scores* scores_;
  size_t first_ = 0;
  std::vector<float> nll_;
  std::string text_;
};

}  // namespace

std::vector<TokenHash> HashUnits(std::span<const Window> windows) {
  const std::vector<size_t> bounds = UnitBounds(windows);
  std::vector<TokenHash> hashes;
  for (size_t u = 0; u + 1 < bounds.size(); ++u) {
    std::vector<int32_t> ids;
    for (const Window& window : windows.subspan(bounds[u], bounds[u + 1] - bounds[u])) {
      ids.insert(ids.end(), window.ids.begin(), window.ids.end());
    }
    hashes.push_back(HashTokens(ids));
  }
  return hashes;
}

Result<std::vector<TokenIds>> FedTokens(std::span<const Window> windows, uint64_t vocabulary) {
  std::vector<TokenIds> fed;
  fed.reserve(windows.size());
  for (size_t w = 0; w < windows.size(); ++w) {
    const TokenIds& ids = windows[w].ids;
    if (ids.back() < 0 || static_cast<uint64_t>(ids.back()) >= vocabulary) {
      return Error{ErrorCode::kInvalidArgument,
                   fmt::format("window {} has the token id {}, but the model's vocabulary has {} "
                               "entries",
                               w, ids.back(), vocabulary)};
    }
    fed.emplace_back(ids.begin(), ids.end() - 1);
  }
  return fed;
}

std::vector<uint64_t> WindowLengths(std::span<const Window> windows) {
  std::vector<uint64_t> lengths;
  lengths.reserve(windows.size());
  for (const Window& window : windows) lengths.push_back(window.ids.size() - 1);
  return lengths;
}

Status ScoreWindows(Engine& engine, Evaluator& evaluator, std::span<const Window> windows,
                    const std::function<std::string(const Window&)>& text_of,
                    const Watcher& watcher, const ScoresBody& body, Scores* scores) {
  const std::vector<TokenHash> hashes = HashUnits(windows);
  RAM_ASSIGN_OR_RETURN(const size_t units_done, UnitsDone(hashes, *scores));
  const size_t first = UnitBounds(windows)[units_done];
  RAM_ASSIGN_OR_RETURN(const std::vector<TokenIds> fed,
                       FedTokens(windows.subspan(first), evaluator.vocabulary()));
  std::vector<TokenIds> sequences;
  Evaluator::Position position;
  position.noun = "window";
  for (size_t w = 0; w < windows.size(); ++w) {
    position.total_tokens += windows[w].ids.size() - 1;
    if (w < first) position.done_tokens += windows[w].ids.size() - 1;
    if (w >= first) sequences.push_back(windows[w].ids);
  }

  UnitCollector collector(windows, hashes, text_of, scores);
  for (size_t at = first; at < windows.size();) {
    const std::span<const TokenIds> left = std::span(fed).subspan(at - first);
    const std::span<const TokenIds> run = left.first(evaluator.num_sequences_per_run(left));
    std::vector<SequenceScore> results(run.size());
    const FinalBody scorer = MakeScorer(
        engine, std::span<const TokenIds>(sequences).subspan(at - first, run.size()), results);
    position.first_number = at;
    RAM_RETURN_IF_ERROR(evaluator.Run(run, position, watcher, scorer));
    for (size_t s = 0; s < run.size(); ++s, ++at) {
      collector.Add(at,
                    std::span<const float>(results[s].nll).subspan(windows[at].first_scored - 1));
      position.done_tokens += run[s].size();
    }
    if (body && !body(*scores)) break;
  }
  return Done{};
}

}  // namespace ram
