#pragma once

// How far a model is from another one (the base), token by token, over the whole vocabulary.
// p: the base's distribution of the next token, q: the model's, m = (p + q) / 2.
//
//   KL(p || q) = sum p (ln p - ln q)                    what is lost by using q for p [nats]
//   reverse KL = sum q (ln q - ln p)
//   Jensen-Shannon = (KL(p || m) + KL(q || m)) / 2      in [0, ln 2]
//
// Everything is f64 from f32 logits; equal logits give exactly 0.

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "ram/stats/describe.h"

namespace ram {

inline constexpr size_t kTopShared = 5;  // Of "top 5 shared".

// Logits of the next token, or logarithms of probabilities: ln p = value - log_total.
struct LogProbs {
  std::span<const float> values;  // [vocabulary], finite.
  double log_total = 0;
  // What has ln p at or below this is not part of KL(p || q): files that keep 16 nats know no more.
  double cutoff = -std::numeric_limits<double>::infinity();
  // Ids of the most likely tokens, most likely first, where they are known better than from values
  // that were filled in; num_top 0: values say it.
  std::array<uint32_t, kTopShared> top = {};
  size_t num_top = 0;
};

// ln sum exp(logits); nothing if a logit is not finite. `logits` are not empty.
std::optional<double> LogTotal(std::span<const float> logits);

struct TokenDivergence {
  double kl = 0;  // Of base and model, without the vocabulary below the cutoff.
  double reverse_kl = 0;
  double jensen_shannon = 0;
  double delta_p = 0;     // q - p of the token that came.
  double base_nll = 0;    // -ln p of it.
  double nll = 0;         // -ln q of it.
  double top5 = 0;        // Share of the base's five most likely tokens that are the model's too.
  bool same_top = false;  // The most likely token; the lowest id of equals.
};

// `token`, the one that came, is in range. Both over the same vocabulary, not empty.
TokenDivergence Diverge(const LogProbs& base, const LogProbs& model, int32_t token);

// A quantity of every token: mean with windows as the unit (RatioEstimate), quantiles over tokens.
struct TokenSummary {
  static constexpr double kLevels[] = {0.999, 0.99, 0.95, 0.90, 0.75, 0.50,
                                       0.25,  0.10, 0.05, 0.01, 0.001};
  static constexpr size_t kNumLevels = std::size(kLevels);

  Estimate mean;
  // If tokens were independent, as llama.cpp takes them to be: too small, for comparison only.
  double token_standard_error = kUndefined;
  double min = 0;
  double max = 0;
  double quantiles[kNumLevels] = {};
};

struct DivergenceSummary {
  uint64_t num_windows = 0;
  uint64_t num_tokens = 0;
  TokenSummary kl;
  TokenSummary reverse_kl;
  TokenSummary jensen_shannon;
  TokenSummary delta_p;
  double rms_delta_p = 0;
  double rms_delta_p_standard_error = kUndefined;  // By the delta method, of the mean square.
  Estimate same_top;
  Estimate top5;
  Estimate base_nll;                // ln PPL of the base,
  Estimate nll;                     // of the model,
  Estimate log_ratio;               // and ln of their ratio: the mean paired difference.
  double correlation = kUndefined;  // Pearson's, of the two NLLs over tokens.
  std::vector<double> window_kl;    // [num_windows]
};

// `window_tokens` [windows], each at least 1, sum to tokens.size(), which is not 0. With one window
// there are no standard errors.
DivergenceSummary SummarizeDivergence(std::span<const TokenDivergence> tokens,
                                      std::span<const uint64_t> window_tokens);

// How much more a diverges than b: the difference of their mean KL on the same tokens of the same
// windows, windows as the unit.
Estimate CompareDivergence(std::span<const TokenDivergence> a, std::span<const TokenDivergence> b,
                           std::span<const uint64_t> window_tokens);

}  // namespace ram
