#include "ram/stats/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace ram {
namespace {

constexpr double kLevel = 1 - kConfidence;

Finding Judge(const PairComparison& pair) {
  const PairedResult& result = pair.result;
  if (result.sign.num_zero == result.num_windows) return Finding::kIdentical;
  const bool typical_differs = pair.trimmed_p_holm < kLevel;
  const bool corpus_differs = pair.log_ratio_p_holm < kLevel;
  if (typical_differs) {
    return result.trimmed.value * result.log_ratio.value < 0 ? Finding::kInverted
                                                             : Finding::kResolved;
  }
  return corpus_differs ? Finding::kTailOnly : Finding::kUnresolved;
}

template <typename Get, typename Set>
void AdjustByHolm(std::vector<PairComparison>* pairs, const Get& get, const Set& set) {
  std::vector<double> p;
  for (const PairComparison& pair : *pairs) p.push_back(get(pair.result));
  const std::vector<double> adjusted = Holm(p);
  for (size_t i = 0; i < pairs->size(); ++i) (*pairs)[i].*set = adjusted[i];
}

template <typename Get>
std::vector<double> Column(const std::vector<PerplexitySummary>& summaries, const Get& get) {
  std::vector<double> column;
  column.reserve(summaries.size());
  for (const PerplexitySummary& summary : summaries) column.push_back(summary.*get);
  return column;
}

}  // namespace

std::string_view FindingName(Finding finding) {
  switch (finding) {
    case Finding::kIdentical:
      return "identical";
    case Finding::kUnresolved:
      return "unresolved";
    case Finding::kResolved:
      return "resolved";
    case Finding::kInverted:
      return "inversion";
    case Finding::kTailOnly:
      return "tail only";
  }
  return "unresolved";
}

Result<std::vector<PairComparison>> ComparePairs(const std::vector<NamedColumn>& columns,
                                                 const std::vector<double>& weights,
                                                 const CompareOptions& options) {
  const bool all_pairs = options.base == std::string::npos;
  RAM_CHECK(all_pairs || options.base < columns.size());
  std::vector<PairComparison> pairs;
  std::vector<std::span<const double>> values;
  for (const NamedColumn& column : columns) {
    RAM_RETURN_IF_ERROR(CheckWindows(column.values, weights, column.name));
    values.push_back(column.values);
  }
  if (columns.size() < 2) return pairs;
  const ResampledMeans resampled = Resample(values, weights, options.bootstrap);
  for (size_t b = 0; b < columns.size(); ++b) {
    if (!all_pairs && b != options.base) continue;
    for (size_t a = all_pairs ? b + 1 : 0; a < columns.size(); ++a) {
      if (a == b) continue;
      PairComparison pair;
      pair.a = a;
      pair.b = b;
      RAM_ASSIGN_OR_RETURN(pair.result,
                           ComparePair(values[a], values[b], weights, resampled, a, b));
      pairs.push_back(std::move(pair));
    }
  }
  using Pair = PairComparison;
  AdjustByHolm(
      &pairs, [](const PairedResult& r) { return r.trimmed.p; }, &Pair::trimmed_p_holm);
  AdjustByHolm(
      &pairs, [](const PairedResult& r) { return r.log_ratio.p; }, &Pair::log_ratio_p_holm);
  AdjustByHolm(
      &pairs, [](const PairedResult& r) { return r.wilcoxon.p; }, &Pair::wilcoxon_p_holm);
  AdjustByHolm(
      &pairs, [](const PairedResult& r) { return r.sign.p; }, &Pair::sign_p_holm);
  for (PairComparison& pair : pairs) pair.finding = Judge(pair);
  return pairs;
}

Result<Comparison> CompareModels(const std::vector<ModelScores>& models,
                                 const std::vector<double>& tokens, const CompareOptions& options) {
  Comparison out;
  std::vector<NamedColumn> columns;
  for (const ModelScores& model : models) {
    RAM_RETURN_IF_ERROR(CheckWindows(model.nll, tokens, model.name));
    RAM_ASSIGN_OR_RETURN(PerplexitySummary summary, SummarizePerplexity(model.nll, tokens));
    out.summaries.push_back(std::move(summary));
    columns.push_back({model.name, model.nll});
  }
  RAM_ASSIGN_OR_RETURN(out.pairs, ComparePairs(columns, tokens, options));

  const std::vector<double> corpus = Column(out.summaries, &PerplexitySummary::corpus);
  out.tau_corpus_median = KendallTau(corpus, Column(out.summaries, &PerplexitySummary::median));
  out.tau_corpus_trimmed =
      KendallTau(corpus, Column(out.summaries, &PerplexitySummary::trimmed_10));
  return out;
}

}  // namespace ram
