#pragma once

// Many models on the same windows: everything a leaderboard says, and what it may say.
//
// The question "which is better on the text" is answered by the 10 % trimmed mean of the paired log
// ratios, named before looking at the data, with Holm's correction over all pairs. The corpus
// perplexity, which everybody prints, is reported with its own interval; where it says the
// opposite, the comparison says so, and which windows make it say so.

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ram/base/result.h"
#include "ram/stats/paired.h"
#include "ram/stats/perplexity.h"

namespace ram {

struct ModelScores {
  std::string name;
  std::vector<double> nll;  // Mean of each window [nats per token].
  double bytes = kUndefined;
  double bits_per_weight = kUndefined;
};

enum class Finding : uint8_t {
  kIdentical,   // Every window has the same score.
  kUnresolved,  // Neither the typical window nor the corpus differs by more than chance.
  kResolved,    // The typical window differs; the corpus does not contradict it.
  kInverted,    // The typical window differs, the corpus estimate has the opposite sign.
  kTailOnly,    // The corpus differs, the typical window does not: a few windows make it.
};
std::string_view FindingName(Finding finding);  // "identical", "unresolved", ...

// Model `a` against `b`, indices into the models; positive differences: a is worse than b.
struct PairComparison {
  size_t a = 0;
  size_t b = 0;
  PairedResult result;
  // Adjusted over the pairs of the comparison (Holm).
  double trimmed_p_holm = kUndefined;
  double log_ratio_p_holm = kUndefined;
  double wilcoxon_p_holm = kUndefined;
  double sign_p_holm = kUndefined;
  Finding finding = Finding::kUnresolved;
};

struct Comparison {
  std::vector<PerplexitySummary> summaries;  // In the order of the models.
  std::vector<PairComparison> pairs;         // a-b: 1-0, 2-0, ..., 2-1, ...
  // Kendall's tau-b between the orders of the models by corpus perplexity and by median and 10 %
  // trimmed mean of p; NaN for fewer than 2 models.
  double tau_corpus_median = kUndefined;
  double tau_corpus_trimmed = kUndefined;
};

struct CompareOptions {
  BootstrapOptions bootstrap;
  // Every other model against this one only: fewer questions, so less is lost to Holm. npos: all
  // pairs.
  size_t base = std::string::npos;
};

// Every pair of columns (models' window scores, or any numbers that belong together row by row), or
// every column against the base. kInvalidArgument names the column and row that is not a number, or
// the column whose number of rows differs; none for a single column.
struct NamedColumn {
  std::string name;
  std::span<const double> values;
};
Result<std::vector<PairComparison>> ComparePairs(const std::vector<NamedColumn>& columns,
                                                 const std::vector<double>& weights,
                                                 const CompareOptions& options = {});

// `tokens` [N] is shared: the models scored the same windows. kInvalidArgument names the model and
// window that is not a number, or the model whose number of windows differs. One model is compared
// with nobody.
Result<Comparison> CompareModels(const std::vector<ModelScores>& models,
                                 const std::vector<double>& tokens,
                                 const CompareOptions& options = {});

}  // namespace ram
