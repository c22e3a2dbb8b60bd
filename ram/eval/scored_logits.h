#pragma once

// Logits of every scored token of windows, a block of rows at a time.

#include <cstdint>
#include <functional>
#include <span>

#include "ram/base/progress.h"
#include "ram/base/result.h"
#include "ram/eval/windows.h"
#include "ram/runtime/evaluate.h"

namespace ram {

// Rows [first_row, first_row + logits.rows) of those of all windows; row i of a window predicts its
// token first_scored + i.
struct LogitBlock {
  size_t window;
  uint64_t first_row;
  std::span<const int32_t> targets;  // [logits.rows]: the tokens that came.
  Rows logits;                       // [at most kLogitRows, vocabulary]
};
inline constexpr uint64_t kLogitRows = 64;

using LogitsBody = std::function<Status(const LogitBlock& block)>;

// Scored tokens of all windows.
uint64_t NumScored(std::span<const Window> windows);

// Calls body for every block, in the order of the windows.
// Errors: those of Evaluator::Run and of body.
Status ForScoredLogits(Engine& engine, Evaluator& evaluator, std::span<const Window> windows,
                       const Watcher& watcher, const LogitsBody& body);

}  // namespace ram
