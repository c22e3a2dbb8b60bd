#pragma once

// What a pass over scored logits does with them: keep those of a base, or say how far a model is
// from the base that was kept. Both on all threads; the first error in the order of the rows.

#include <cstdint>
#include <functional>
#include <span>

#include "ram/base/result.h"
#include "ram/base/thread_pool.h"
#include "ram/eval/divergence.h"
#include "ram/eval/logit_cache.h"
#include "ram/eval/scored_logits.h"

namespace ram {

// Row r of the block [vocabulary].
std::span<const float> RowOf(const LogitBlock& block, uint64_t r);

// Calls body(r, thread) for every row of the block.
Status ForRows(ThreadPool& pool, const LogitBlock& block,
               const std::function<Status(uint64_t r, size_t thread)>& body);

// Fills tokens[row] [base.num_rows()] and, where `exact` is not empty, exact[row / n]
// [ceil(base.num_rows() / n)] of the rows that are whole, n = base.whole_every(). Everything
// outlives the body. kCorrupt: a logit that is not a number (names the window), and what
// BaseLogits::ReadRow says.
LogitsBody MakeDivergenceMeter(ThreadPool& pool, const BaseLogits& base,
                               std::span<TokenDivergence> tokens,
                               std::span<TokenDivergence> exact = {});

}  // namespace ram
