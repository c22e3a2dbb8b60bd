#pragma once

// Everything about some models as one HTML file that stands alone: verdict, leaderboard, plots of
// sizes, windows, pairs, noise control, plans and rates (docs/report.md).

#include <cstddef>
#include <string>
#include <vector>

#include "ram/plan/plan.h"
#include "ram/rates/rate_table.h"
#include "ram/report/compare_table.h"
#include "ram/stats/compare.h"

namespace ram {

// Models that were scored on the same windows.
struct ReportGroup {
  std::vector<ModelScores> models;
  Comparison comparison;
  ComparedWindows windows;
  // What sizes and differences are plotted against; the comparison has a pair of it with every
  // other model.
  size_t base = 0;
};

struct ReportPlan {
  std::string name;  // What to call it.
  Plan plan;
};

// One condition of a noise experiment against the original (docs/evaluation.md).
struct ReportNoiseRow {
  std::string name;           // "compressed", "permuted", "gaussian ×2"
  double dose = 1;            // Of other doses the plot shows what fits.
  Estimate typical;           // ln of the perplexity ratio: the typical window,
  Estimate corpus;            // and all of them. Of a control: means over seeds.
  std::vector<double> seeds;  // The typical window of each; empty for what is no control.
  double z = kUndefined;      // Where the compressed model lies among the seeds.
};

struct ReportNoise {
  std::string name;                  // What to call it.
  std::string what;                  // "ram-wikitext2: windows of 256, ..."
  std::vector<ReportNoiseRow> rows;  // The compressed model first.
  std::vector<std::string> sentences;
};

// Any part may be empty; the page has the sections that the others allow.
struct ReportData {
  std::string title;
  std::vector<ReportGroup> groups;
  std::vector<ReportNoise> noises;
  std::vector<ReportPlan> plans;
  std::vector<LoadedRates> rates;
};

// The model of most bytes; where those are not known, of most bits per weight; else the first.
size_t ChooseBase(const std::vector<ModelScores>& models);

// The whole document. The same data gives the same bytes; its size grows with models and modules,
// with the number of windows only up to a limit.
std::string ReportPage(const ReportData& data);

// What page and plots share about one group.

// Model `m` against the base, positive: worse. Null for the base itself.
struct AgainstBase {
  size_t model = 0;
  Estimate corpus;
  Estimate typical;
  Estimate hodges_lehmann;
  double p_holm = kUndefined;  // Of the typical window.
  Finding finding = Finding::kUnresolved;
};
// Every model but the base that a pair exists for, in the order of the models.
std::vector<AgainstBase> PairsWithBase(const ReportGroup& group);

// Windows that a reader may want to read: of highest perplexity, and those that decide corpus
// orders; at most 24, highest perplexity (of any model) first.
std::vector<size_t> WindowsToRead(const ReportGroup& group);

}  // namespace ram
