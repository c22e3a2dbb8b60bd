#pragma once

// What it costs to keep only the most likely tokens of a base (LogitForm::kTopK): its tail is one
// outcome then, and a divergence between coarser distributions is smaller.

#include <cstdint>
#include <span>

#include "ram/eval/divergence.h"
#include "ram/stats/describe.h"

namespace ram {

// How much larger the true means are, measured on the rows that were kept whole; windows that have
// such rows are the unit of the standard errors (RatioEstimate).
struct TailError {
  uint64_t num_rows = 0;
  Estimate kl;
  Estimate reverse_kl;
  Estimate jensen_shannon;
};

// `tokens` [sum of window_tokens] with the tail as one, `exact` [ceil(tokens.size() / every)] those
// of rows 0, every, 2 every, ... as they are.
TailError MeasureTail(std::span<const TokenDivergence> tokens,
                      std::span<const TokenDivergence> exact, uint64_t every,
                      std::span<const uint64_t> window_tokens);

}  // namespace ram
