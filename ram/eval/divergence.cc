#include "ram/eval/divergence.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>

#include "ram/base/result.h"
#include "ram/stats/sum.h"

namespace ram {
namespace {

// Ids of the largest values, largest first, of equals the lowest id first.
struct Top {
  std::array<uint32_t, kTopShared> ids = {};
  size_t size = 0;
};

Top FindTop(const LogProbs& distribution) {
  if (distribution.num_top != 0) return {distribution.top, distribution.num_top};
  const std::span<const float> values = distribution.values;
  constexpr size_t kTop = kTopShared;
  Top top;
  for (uint32_t i = 0; i < values.size(); ++i) {
    if (top.size == kTop && values[i] <= values[top.ids[kTop - 1]]) continue;
    size_t at = top.size < kTop ? top.size++ : kTop - 1;
    for (; at > 0 && values[i] > values[top.ids[at - 1]]; --at) top.ids[at] = top.ids[at - 1];
    top.ids[at] = i;
  }
  return top;
}

double Overlap(const Top& a, const Top& b) {
  size_t shared = 0;
  for (size_t i = 0; i < a.size; ++i) {
    const auto* end = b.ids.data() + b.size;
    if (std::find(b.ids.data(), end, a.ids[i]) != end) ++shared;
  }
  return static_cast<double>(shared) / static_cast<double>(a.size);
}

using Value = std::function<double(const TokenDivergence&)>;

// Sums over windows.
struct Windows {
  std::vector<double> sums;
  std::vector<double> sizes;
};

Windows SumWindows(std::span<const TokenDivergence> tokens, std::span<const uint64_t> window_tokens,
                   const Value& value) {
  Windows windows;
  for (const uint64_t size : window_tokens) {
    RAM_CHECK(size > 0 && size <= tokens.size());
    Sum sum;
    for (const TokenDivergence& token : tokens.first(size)) sum.Add(value(token));
    tokens = tokens.subspan(size);
    windows.sums.push_back(sum.value());
    windows.sizes.push_back(static_cast<double>(size));
  }
  RAM_CHECK(tokens.empty());
  return windows;
}

Estimate EstimateMean(std::span<const TokenDivergence> tokens,
                      std::span<const uint64_t> window_tokens, const Value& value) {
  const Windows windows = SumWindows(tokens, window_tokens, value);
  return RatioEstimate(windows.sums, windows.sizes);
}

TokenSummary SummarizeTokens(std::span<const TokenDivergence> tokens,
                             std::span<const uint64_t> window_tokens, const Value& value) {
  TokenSummary summary;
  summary.mean = EstimateMean(tokens, window_tokens, value);
  std::vector<double> values;
  values.reserve(tokens.size());
  for (const TokenDivergence& token : tokens) values.push_back(value(token));
  summary.token_standard_error = std::sqrt(Variance(values) / static_cast<double>(values.size()));
  std::sort(values.begin(), values.end());
  summary.min = values.front();
  summary.max = values.back();
  for (size_t i = 0; i < TokenSummary::kNumLevels; ++i) {
    summary.quantiles[i] = Quantile(values, TokenSummary::kLevels[i]);
  }
  return summary;
}

// Of the NLLs; NaN where one of them is constant.
double Correlate(std::span<const TokenDivergence> tokens) {
  const auto n = static_cast<double>(tokens.size());
  Sum base_sum;
  Sum model_sum;
  for (const TokenDivergence& token : tokens) {
    base_sum.Add(token.base_nll);
    model_sum.Add(token.nll);
  }
  Sum base_square;
  Sum model_square;
  Sum product;
  for (const TokenDivergence& token : tokens) {
    const double base = token.base_nll - base_sum.value() / n;
    const double model = token.nll - model_sum.value() / n;
    base_square.Add(base * base);
    model_square.Add(model * model);
    product.Add(base * model);
  }
  return product.value() / std::sqrt(base_square.value() * model_square.value());
}

}  // namespace

std::optional<double> LogTotal(std::span<const float> logits) {
  float max = logits[0];
  float all = 0;  // Not a number if any logit is not finite.
  for (const float logit : logits) {
    max = std::max(max, logit);
    all += logit * 0.0F;
  }
  if (all != 0.0F) return std::nullopt;
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - max);
  return max + std::log(sum);
}

TokenDivergence Diverge(const LogProbs& base, const LogProbs& model, int32_t token) {
  RAM_CHECK(!base.values.empty() && base.values.size() == model.values.size());
  RAM_CHECK(token >= 0 && static_cast<size_t>(token) < base.values.size());
  double kl = 0;
  double reverse = 0;
  double jensen_shannon = 0;
  for (size_t i = 0; i < base.values.size(); ++i) {
    const double log_p = base.values[i] - base.log_total;
    const double log_q = model.values[i] - model.log_total;
    // The smaller of p and q is the larger one times e, which is 1 exactly where they are equal.
    const double difference = log_p - log_q;
    const double e = std::exp(-std::abs(difference));
    const double larger = std::exp(std::max(log_p, log_q));
    const double p = difference >= 0 ? larger : larger * e;
    const double q = difference >= 0 ? larger * e : larger;
    const double log_m = std::max(log_p, log_q) + std::log((1 + e) / 2);
    if (log_p > base.cutoff) kl += p * difference;
    reverse -= q * difference;
    jensen_shannon += (p * (log_p - log_m) + q * (log_q - log_m)) / 2;
  }

  TokenDivergence result;
  // Below 0 by rounding only; where the vocabulary is cut, the sum may be below 0.
  const bool whole = std::isinf(base.cutoff);
  result.kl = whole ? std::max(0.0, kl) : kl;
  result.reverse_kl = whole ? std::max(0.0, reverse) : reverse;
  result.jensen_shannon = std::max(0.0, jensen_shannon);
  const auto at = static_cast<size_t>(token);
  result.base_nll = base.log_total - base.values[at];
  result.nll = model.log_total - model.values[at];
  result.delta_p = std::exp(-result.nll) - std::exp(-result.base_nll);
  const Top base_top = FindTop(base);
  const Top model_top = FindTop(model);
  result.same_top = base_top.ids[0] == model_top.ids[0];
  result.top5 = Overlap(base_top, model_top);
  return result;
}

DivergenceSummary SummarizeDivergence(std::span<const TokenDivergence> tokens,
                                      std::span<const uint64_t> window_tokens) {
  RAM_CHECK(!tokens.empty());
  using Token = TokenDivergence;
  DivergenceSummary summary;
  summary.num_windows = window_tokens.size();
  summary.num_tokens = tokens.size();
  const auto summarize = [&](const Value& value) {
    return SummarizeTokens(tokens, window_tokens, value);
  };
  const auto estimate = [&](const Value& value) {
    return EstimateMean(tokens, window_tokens, value);
  };
  summary.kl = summarize([](const Token& t) { return t.kl; });
  summary.reverse_kl = summarize([](const Token& t) { return t.reverse_kl; });
  summary.jensen_shannon = summarize([](const Token& t) { return t.jensen_shannon; });
  summary.delta_p = summarize([](const Token& t) { return t.delta_p; });
  const Estimate square = estimate([](const Token& t) { return t.delta_p * t.delta_p; });
  summary.rms_delta_p = std::sqrt(square.value);
  summary.rms_delta_p_standard_error =
      summary.rms_delta_p == 0 ? 0 : square.standard_error / (2 * summary.rms_delta_p);
  summary.same_top = estimate([](const Token& t) { return t.same_top ? 1.0 : 0.0; });
  summary.top5 = estimate([](const Token& t) { return t.top5; });
  summary.base_nll = estimate([](const Token& t) { return t.base_nll; });
  summary.nll = estimate([](const Token& t) { return t.nll; });
  summary.log_ratio = estimate([](const Token& t) { return t.nll - t.base_nll; });
  summary.correlation = Correlate(tokens);
  const Windows windows = SumWindows(tokens, window_tokens, [](const Token& t) { return t.kl; });
  for (size_t w = 0; w < windows.sums.size(); ++w) {
    summary.window_kl.push_back(windows.sums[w] / windows.sizes[w]);
  }
  return summary;
}

Estimate CompareDivergence(std::span<const TokenDivergence> a, std::span<const TokenDivergence> b,
                           std::span<const uint64_t> window_tokens) {
  RAM_CHECK(a.size() == b.size());
  const auto kl = [](const TokenDivergence& t) { return t.kl; };
  Windows difference = SumWindows(a, window_tokens, kl);
  const Windows other = SumWindows(b, window_tokens, kl);
  for (size_t w = 0; w < other.sums.size(); ++w) difference.sums[w] -= other.sums[w];
  return RatioEstimate(difference.sums, difference.sizes);
}

}  // namespace ram
