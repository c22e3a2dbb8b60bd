#include "ram/stats/perplexity.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "ram/stats/bootstrap.h"
#include "ram/stats/sum.h"

namespace ram {
namespace {

constexpr size_t kMinWindowsForTail = 20;

std::vector<double> Exponentials(std::span<const double> logs) {
  std::vector<double> values(logs.begin(), logs.end());
  for (double& value : values) value = std::exp(value);
  return values;
}

std::vector<double> Products(std::span<const double> a, std::span<const double> b) {
  std::vector<double> products(a.begin(), a.end());
  for (size_t i = 0; i < products.size(); ++i) products[i] *= b[i];
  return products;
}

double BlockStandardError(std::span<const double> nll, std::span<const double> tokens) {
  if (nll.size() < 2 * kBlockWindows) return kUndefined;
  const std::span<const double> column = nll;
  return StandardDeviation(BootstrapMeans({&column, 1}, tokens, {.block = kBlockWindows}));
}

// Order of windows by p and by l is the same, so one sorted sample serves.
void DescribeWindows(std::span<const double> nll, PerplexitySummary* out) {
  const std::vector<double> p = Exponentials(Sorted(nll));
  out->median = Median(p);
  const Interval interval = MedianEstimate(nll).interval;
  out->median_interval = {std::exp(interval.low), std::exp(interval.high)};
  out->trimmed_5 = TrimmedMean(p, 0.05);
  out->trimmed_10 = TrimmedMean(p, 0.10);
  out->trimmed_25 = TrimmedMean(p, 0.25);
  out->min = p.front();
  out->p95 = Quantile(p, 0.95);
  out->p99 = Quantile(p, 0.99);
  out->max = p.back();
  out->arithmetic_mean = Mean(p);
  out->largest_share = p.back() / SumOf(p);
  if (nll.size() >= kMinWindowsForTail) out->tail = HillTailIndex(nll, nll.size() / 10);
}

void FindInfluential(std::span<const double> nll, std::span<const double> tokens,
                     PerplexitySummary* out) {
  if (nll.size() < 2) return;
  const std::vector<double> without = LeaveOneOutMeans(nll, tokens);
  double largest = -1;
  for (size_t i = 0; i < without.size(); ++i) {
    const double change = std::abs(without[i] - out->log_corpus.value);
    if (change <= largest) continue;
    largest = change;
    out->most_influential = i;
    out->corpus_without_it = std::exp(without[i]);
  }
}

}  // namespace

Status CheckWindows(std::span<const double> nll, std::span<const double> tokens,
                    std::string_view what) {
  const auto wrong = [&](std::string_view problem) {
    return Error{ErrorCode::kInvalidArgument, fmt::format("{}: {}", what, problem)};
  };
  if (nll.empty()) return wrong("no windows");
  if (nll.size() != tokens.size()) {
    return wrong(fmt::format("{} windows but {} token counts", nll.size(), tokens.size()));
  }
  for (size_t i = 0; i < nll.size(); ++i) {
    if (!std::isfinite(nll[i])) {
      return wrong(fmt::format("window {} has the score {}, expected a finite number", i, nll[i]));
    }
    if (!(tokens[i] > 0) || !std::isfinite(tokens[i])) {
      return wrong(fmt::format("window {} has {} tokens, expected at least one", i, tokens[i]));
    }
  }
  return Done{};
}

Result<PerplexitySummary> SummarizePerplexity(std::span<const double> nll,
                                              std::span<const double> tokens) {
  RAM_RETURN_IF_ERROR(CheckWindows(nll, tokens, "perplexity"));
  PerplexitySummary out;
  out.num_windows = nll.size();
  out.num_tokens = SumOf(tokens);
  out.log_corpus = RatioEstimate(Products(nll, tokens), tokens);
  out.corpus = std::exp(out.log_corpus.value);
  out.corpus_interval = {std::exp(out.log_corpus.interval.low),
                         std::exp(out.log_corpus.interval.high)};
  out.block_standard_error = BlockStandardError(nll, tokens);
  DescribeWindows(nll, &out);
  out.autocorrelation = Lag1Autocorrelation(nll);
  FindInfluential(nll, tokens, &out);

  Sum kept;
  Sum kept_tokens;
  for (size_t i = 0; i < nll.size(); ++i) {
    if (std::exp(nll[i]) > kOutlierPerplexity) {
      ++out.num_outliers;
    } else {
      kept.Add(nll[i] * tokens[i]);
      kept_tokens.Add(tokens[i]);
    }
  }
  if (out.num_outliers < nll.size()) {
    out.corpus_without_outliers = std::exp(kept.value() / kept_tokens.value());
  }
  out.heavy_tailed = out.num_outliers > 0 || out.tail.alpha < 2 ||
                     std::abs(out.log_corpus.value - std::log(out.median)) > 0.10;
  return out;
}

double TokenStandardError(std::span<const float> token_nll) {
  const std::vector<double> values(token_nll.begin(), token_nll.end());
  return std::sqrt(Variance(values) / static_cast<double>(values.size()));
}

}  // namespace ram
