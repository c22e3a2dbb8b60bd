#pragma once

// What a model's window scores say about it: perplexities that survive outliers, and the tail that
// a mean hides. Window s has T_s scored tokens and the mean negative log-likelihood l_s [nats per
// token]; p_s = exp(l_s) is its perplexity. N windows.

#include <cstddef>
#include <span>
#include <vector>

#include "ram/base/result.h"
#include "ram/stats/describe.h"

namespace ram {

inline constexpr double kOutlierPerplexity = 100;
// Neighbouring windows of one text are alike; blocks of this many are drawn as a check of the SE.
inline constexpr size_t kBlockWindows = 4;

struct PerplexitySummary {
  size_t num_windows = 0;
  double num_tokens = 0;

  // ln of the corpus perplexity, sum T_s l_s / sum T_s, with windows as the unit (RatioEstimate);
  // its standard error is the relative one of the perplexity. Its p means nothing.
  Estimate log_corpus;
  double corpus = kUndefined;
  Interval corpus_interval;
  // Of log_corpus, by the bootstrap over blocks of kBlockWindows; NaN below 2 blocks.
  double block_standard_error = kUndefined;

  double median = kUndefined;  // Of p.
  Interval median_interval;    // Order statistics.
  // Arithmetic means of p without floor(c N) windows at each end.
  double trimmed_5 = kUndefined;
  double trimmed_10 = kUndefined;
  double trimmed_25 = kUndefined;
  double min = kUndefined;
  double p95 = kUndefined;
  double p99 = kUndefined;
  double max = kUndefined;
  double arithmetic_mean = kUndefined;  // Of p: one window can be most of it. Do not use.
  double largest_share = kUndefined;    // Of the sum of p, in the largest window.

  size_t num_outliers = 0;                      // p > kOutlierPerplexity.
  double corpus_without_outliers = kUndefined;  // NaN if all are.
  TailIndex tail;                               // k = floor(N / 10); alpha NaN for N < 20.
  double autocorrelation = kUndefined;          // Of l, window to next.

  // The window whose removal changes the corpus perplexity most, and what is left without it.
  size_t most_influential = 0;
  double corpus_without_it = kUndefined;

  // The mean does not describe these windows: outliers, or alpha < 2, or corpus and median more
  // than 10 % apart (|ln corpus - ln median| > 0.10).
  bool heavy_tailed = false;
};

// `nll` and `tokens` [N], windows in the order of the text (for blocks and autocorrelation).
// kInvalidArgument if N = 0, sizes differ, a number is not finite, or a T_s is not positive; names
// the window.
Result<PerplexitySummary> SummarizePerplexity(std::span<const double> nll,
                                              std::span<const double> tokens);

// The standard error of the mean NLL as if tokens were independent, which they are not: printed by
// mlx_lm.perplexity and llama.cpp, some three times too small. sd / sqrt(n); NaN for fewer than 2.
double TokenStandardError(std::span<const float> token_nll);

// kInvalidArgument if a number is not finite or a weight not positive; `what` begins the sentence.
Status CheckWindows(std::span<const double> nll, std::span<const double> tokens,
                    std::string_view what);

}  // namespace ram
