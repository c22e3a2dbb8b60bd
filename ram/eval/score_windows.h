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

// Adds the scores of `windows` to `*scores`, whose other fields the caller has filled. Windows that
// `*scores` holds already (an earlier run that was stopped; its first windows, with the same token
// hashes: kInvalidArgument otherwise) are not run again. `text_of` gives the text of a window;
// null: none is kept. Errors: those of Evaluator::Run, with the number of the window.
Status ScoreWindows(Engine& engine, Evaluator& evaluator, std::span<const Window> windows,
                    const std::function<std::string(const Window&)>& text_of,
                    const Watcher& watcher, const ScoresBody& body, Scores* scores);

// Tokens of each window, for PlanEvaluation.
std::vector<uint64_t> WindowLengths(std::span<const Window> windows);

}  // namespace ram
