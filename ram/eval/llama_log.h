#pragma once

// Logs of llama-perplexity, so that published runs can be judged again. They print the cumulative
// perplexity after each chunk, "[1]19.7531,[2]8.3365,...", so the score of chunk i is
//   i ln PPL_i - (i - 1) ln PPL_{i-1}  [nats per token],
// to within i 0.00005 / PPL_i + (i - 1) 0.00005 / PPL_{i-1} for their four decimals.
// Read in llama.cpp (examples/perplexity, tools/perplexity) and ik_llama.cpp.

#include <string_view>

#include "ram/base/result.h"
#include "ram/eval/scores.h"

namespace ram {

// Scores of a finished run. Each chunk scored its second half, n_ctx - n_ctx / 2 - 1 tokens; which
// tokens is not in the log, so only runs with the same number and length of chunks and the same
// vocabulary are taken to have scored the same text.
// kCorrupt names `where`: no running perplexities, a log that ends early, a number that is none, a
// perplexity that no score of the chunk can explain, a final estimate that contradicts them.
// kUnsupported for the table of --kl-divergence.
Result<Scores> ParseLlamaLog(std::string_view text, std::string_view where);

}  // namespace ram
