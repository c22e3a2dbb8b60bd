#include "ram/base/json.h"
#include "ram/stats/estimate_json.h"
#include "ram/study/study.h"

namespace ram {
namespace {

std::string_view KindText(const StudyArm& arm) {
  if (arm.is_original) return "original";
  switch (arm.kind) {
    case ArmSpec::Kind::kRounded:
      return "rounded";
    case ArmSpec::Kind::kUniform:
      return "uniform";
    case ArmSpec::Kind::kRecipe:
      return "recipe";
    case ArmSpec::Kind::kGiven:
      return "given";
    case ArmSpec::Kind::kPlanned:
      break;
  }
  return arm.is_null ? "null" : "plan";
}

OrderedJson ArmJson(const StudyArm& arm) {
  const PerplexitySummary& s = arm.perplexity;
  OrderedJson json = {
      {"name", arm.name},
      {"kind", KindText(arm)},
      {"method", arm.method},
      {"size", arm.size.empty() ? OrderedJson(nullptr) : OrderedJson(arm.size)},
      {"about", arm.about},
      {"same_as", arm.same_as.empty() ? OrderedJson(nullptr) : OrderedJson(arm.same_as)},
      {"bytes", arm.bytes},
      {"bits_per_weight", arm.bits_per_weight},
      {"seconds", arm.seconds}};
  json["perplexity"] = {{"corpus", s.corpus},
                        {"corpus_interval", IntervalJson(s.corpus_interval)},
                        {"standard_error", NumberJson(s.log_corpus.standard_error)},
                        {"median", s.median},
                        {"trimmed_10", NumberJson(s.trimmed_10)},
                        {"p95", s.p95},
                        {"p99", s.p99},
                        {"max", s.max},
                        {"outliers", s.num_outliers},
                        {"log_ratio", EstimateJson(arm.corpus)},
                        {"typical_log_ratio", EstimateJson(arm.typical)}};
  OrderedJson kl = EstimateJson(arm.token_kl.mean);
  for (size_t i = 0; i < TokenSummary::kNumLevels; ++i) {
    if (TokenSummary::kLevels[i] == 0.5) kl["median"] = arm.token_kl.quantiles[i];
    if (TokenSummary::kLevels[i] == 0.99) kl["p99"] = arm.token_kl.quantiles[i];
  }
  json["kl"] = kl;
  json["same_top"] = EstimateJson(arm.same_top);
  json["window_nll"] = arm.nll;
  json["window_kl"] = arm.kl;
  return json;
}

std::string_view StateText(RungState state) {
  switch (state) {
    case RungState::kSaturated:
      return "saturated";
    case RungState::kBuys:
      return "buys";
    case RungState::kUnresolved:
      break;
  }
  return "unresolved";
}

OrderedJson SaturationJson(const Study& study, const Saturation& saturation) {
  OrderedJson json;
  json["arm"] = nullptr;
  json["bytes"] = nullptr;
  if (saturation.smallest) {
    const StudyArm& arm = study.arms[study.ladder[*saturation.smallest]];
    json["arm"] = arm.name;
    json["bytes"] = arm.bytes;
  }
  json["rungs"] = OrderedJson::array();
  for (size_t r = 0; r < saturation.rungs.size(); ++r) {
    const RungFinding& rung = saturation.rungs[r];
    json["rungs"].push_back({{"arm", study.arms[study.ladder[r]].name},
                             {"state", StateText(rung.state)},
                             {"against", study.arms[study.ladder[rung.against]].name},
                             {"loss_above", NumberJson(rung.difference.value)},
                             {"interval_90", IntervalJson(rung.difference.interval)}});
  }
  return json;
}

}  // namespace

OrderedJson StudyJson(const Study& study) {
  OrderedJson json = {{"format", "ram.study.v1"},
                      {"model", study.model},
                      {"text", study.text},
                      {"protocol", study.protocol},
                      {"settings", study.settings},
                      {"numerics", study.numerics},
                      {"precision", study.precision},
                      {"engine", study.engine},
                      {"windows", study.window_tokens.size()},
                      {"window_tokens", study.window_tokens},
                      {"margin", study.margin}};
  json["sizes"] = OrderedJson::array();
  for (const StudySize& size : study.sizes) {
    json["sizes"].push_back(
        {{"label", size.label},
         {"bytes", size.bytes},
         {"baseline",
          size.baseline ? OrderedJson(study.arms[*size.baseline].name) : OrderedJson(nullptr)}});
  }
  json["arms"] = OrderedJson::array();
  for (const StudyArm& arm : study.arms) json["arms"].push_back(ArmJson(arm));
  json["ours"] = study.ours ? OrderedJson(*study.ours) : OrderedJson(nullptr);
  json["pairs"] = OrderedJson::array();
  for (const StudyPair& pair : study.pairs) {
    json["pairs"].push_back({{"a", study.arms[pair.a].name},
                             {"b", study.arms[pair.b].name},
                             {"size", pair.size},
                             {"log_kl_ratio", EstimateJson(pair.kl)},
                             {"kl_p_holm", NumberJson(pair.kl_p)},
                             {"typical_log_ratio", EstimateJson(pair.typical)},
                             {"typical_p_holm", NumberJson(pair.typical_p)}});
  }
  json["ladder"] = OrderedJson::array();
  for (const StudyStep& step : study.steps) {
    json["ladder"].push_back({{"smaller", study.arms[step.smaller].name},
                              {"larger", study.arms[step.larger].name},
                              {"log_kl_ratio", EstimateJson(step.kl)},
                              {"kl_p_holm", NumberJson(step.kl_p)}});
  }
  json["saturation"] = {{"by_perplexity", SaturationJson(study, study.by_perplexity)},
                        {"by_divergence", SaturationJson(study, study.by_divergence)}};
  json["notes"] = study.notes;
  return json;
}

}  // namespace ram
