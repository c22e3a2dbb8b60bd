#pragma once

// The comparison of models as text: leaderboard, tails, pairs, and sentences that say what may be
// concluded.

#include <cstddef>
#include <string>
#include <vector>

#include "ram/report/table.h"
#include "ram/stats/compare.h"

namespace ram {

// What is known about the windows besides their scores.
struct ComparedWindows {
  std::string what;                 // "ram-wikitext2: windows of 2048, seed 42"
  std::vector<std::string> labels;  // What to call each.
  std::vector<std::string> texts;   // May be empty strings.
  double resolution = 0;            // Scores are known to within this [nats]; 0: exactly.
  bool tokens_known = true;
  bool same_numerics = true;
};

// One paragraph for each pair and each model that needs one: what is better, unresolved, inverted,
// and because of which windows. The same sentences in text and JSON.
std::vector<std::string> VerdictSentences(const std::vector<ModelScores>& models,
                                          const Comparison& comparison,
                                          const ComparedWindows& windows);
// What the reader must know about the data before believing any of it; may be empty.
std::vector<std::string> CompareNotes(const Comparison& comparison, const ComparedWindows& windows);

// Everything: tables, windows that decide, verdict. `detail`: every test of every pair, else only
// of up to three pairs.
std::string CompareText(const std::vector<ModelScores>& models, const Comparison& comparison,
                        const ComparedWindows& windows, bool detail, const Style& style);

// Columns of numbers described, and every pair of them compared (ram stats). `results` are those of
// columns i against j for j < i, in the order (1, 0), (2, 0), (2, 1), ...
struct ColumnSummary {
  std::string name;
  size_t n = 0;
  Estimate mean;
  Estimate median;
  Estimate trimmed;  // 10 %.
  double standard_deviation = 0;
  double min = 0;
  double p95 = 0;
  double p99 = 0;
  double max = 0;
};
std::string StatsText(const std::vector<ColumnSummary>& columns,
                      const std::vector<PairComparison>& pairs, const Style& style);

// "8.7060", "363.2", "81,000": digits that a perplexity has.
std::string PerplexityText(double perplexity);
// "+0.033 %", "-12.5 %", "×12" for a log ratio; as many decimals as `width`, that of its interval,
// leaves meaning to.
std::string ChangeText(double log_ratio, double width);
// "0.041", "0.0003", "3e-12", "<1e-300".
std::string PValueText(double p);

}  // namespace ram
