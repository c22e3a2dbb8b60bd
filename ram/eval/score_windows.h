#pragma once

// Perplexity: windows through a model, scores out. Resumable and interruptible: scores of the
// windows done so far are handed out as they come.

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "ram/base/progress.h"
#include "ram/base/result.h"
#include "ram/eval/scores.h"
#include "ram/eval/windows.h"
#include "ram/runtime/evaluate.h"

namespace ram {

// Called after every run with all windows scored so far. False: that is enough.
using ScoresBody = std::function<bool(const Scores& scores)>;

// Adds the scores of `windows` to `*scores`, whose other fields the caller has filled; windows of
// one document make one score. Those that `*scores` holds already (an earlier run that was stopped;
// its first ones, with the same token hashes: kInvalidArgument otherwise) are not run again.
// `text_of` gives the text of a window; null: none is kept. Errors: those of Evaluator::Run, with
// the number of the window.
Status ScoreWindows(Engine& engine, Evaluator& evaluator, std::span<const Window> windows,
                    const std::function<std::string(const Window&)>& text_of,
                    const Watcher& watcher, const ScoresBody& body, Scores* scores);

// Token hashes of what gets one score each, in the order of `windows` (UnitBounds): of all tokens
// of a document's windows.
std::vector<TokenHash> HashUnits(std::span<const Window> windows);

// What the model is fed of each window: its last token predicts nothing that is scored.
// kInvalidArgument: that token is none of `vocabulary`, which the model itself does not see.
Result<std::vector<TokenIds>> FedTokens(std::span<const Window> windows, uint64_t vocabulary);
// How many these are in each window, for PlanEvaluation.
std::vector<uint64_t> WindowLengths(std::span<const Window> windows);

}  // namespace ram
