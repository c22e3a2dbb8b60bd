#include "ram/cli/stats_json.h"

namespace ram::cli {

OrderedJson TestedJson(const Estimate& estimate) {
  OrderedJson json = EstimateJson(estimate);
  json["p"] = NumberJson(estimate.p);
  return json;
}

OrderedJson TailJson(const TailIndex& tail) {
  return {
      {"alpha", NumberJson(tail.alpha)}, {"interval", IntervalJson(tail.interval)}, {"k", tail.k}};
}

namespace {

OrderedJson WilcoxonJson(const SignedRankResult& result) {
  return {{"n", result.n}, {"w_plus", result.w_plus}, {"p", result.p}, {"exact", result.exact}};
}

}  // namespace

OrderedJson PairJson(const PairComparison& pair) {
  const PairedResult& r = pair.result;
  OrderedJson influences = OrderedJson::array();
  for (const Influence& influence : r.influences) {
    influences.push_back({{"window", influence.window},
                          {"share", influence.share},
                          {"mean_without", NumberJson(influence.log_ratio_without)}});
  }
  return {{"windows", r.num_windows},
          {"mean", TestedJson(r.log_ratio)},
          {"bootstrap",
           {{"interval", IntervalJson(r.bootstrap)}, {"method", r.is_bca ? "bca" : "percentile"}}},
          {"block_standard_error", NumberJson(r.block_standard_error)},
          {"trimmed_mean", TestedJson(r.trimmed)},
          {"hodges_lehmann", TestedJson(r.hodges_lehmann)},
          {"median", TestedJson(r.median)},
          {"wilcoxon", WilcoxonJson(r.wilcoxon)},
          {"wilcoxon_pratt", WilcoxonJson(r.wilcoxon_pratt)},
          {"sign",
           {{"positive", r.sign.num_positive},
            {"negative", r.sign.num_negative},
            {"zero", r.sign.num_zero},
            {"p", r.sign.p}}},
          {"standard_deviation", NumberJson(r.standard_deviation)},
          {"autocorrelation", NumberJson(r.autocorrelation)},
          {"detectable", NumberJson(r.detectable)},
          {"detectable_mean", NumberJson(r.detectable_corpus)},
          {"holm",
           {{"mean", NumberJson(pair.log_ratio_p_holm)},
            {"trimmed_mean", NumberJson(pair.trimmed_p_holm)},
            {"wilcoxon", NumberJson(pair.wilcoxon_p_holm)},
            {"sign", NumberJson(pair.sign_p_holm)}}},
          {"inversion", InversionName(r.inversion)},
          {"flip_set",
           {{"windows", r.flip.windows},
            {"mean_without", NumberJson(r.flip.log_ratio_without)},
            {"fragile", r.flip.fragile}}},
          {"influence", influences},
          {"finding", FindingName(pair.finding)}};
}

}  // namespace ram::cli
