#include "ram/cli/kl_text.h"

#include <fmt/format.h>

#include <cmath>
#include <numeric>
#include <utility>

#include "ram/base/bytes.h"
#include "ram/report/compare_table.h"
#include "ram/stats/estimate_json.h"

namespace ram::cli {
namespace {

constexpr size_t kMostDetailed = 3;

std::string NumberText(double value) {
  if (std::isnan(value)) return "-";
  return value == 0 ? "0" : fmt::format("{:.3g}", value);
}

std::string IntervalText(const Interval& interval) {
  if (!std::isfinite(interval.low) || !std::isfinite(interval.high)) return "-";
  return fmt::format("{} … {}", NumberText(interval.low), NumberText(interval.high));
}

// Half a 95 % interval.
std::string HalfWidthText(const Estimate& estimate) {
  const double half = (estimate.interval.high - estimate.interval.low) / 2;
  return std::isfinite(half) ? fmt::format("{:.1g}", half) : "-";
}

std::string ShareText(const Estimate& share) {
  const std::string text = fmt::format("{:.2f} %", 100 * share.value);
  if (std::isnan(share.standard_error)) return text;
  return fmt::format("{} (standard error {:.2f})", text, 100 * share.standard_error);
}

double QuantileOf(const TokenSummary& summary, double level) {
  for (size_t i = 0; i < TokenSummary::kNumLevels; ++i) {
    if (TokenSummary::kLevels[i] == level) return summary.quantiles[i];
  }
  return kUndefined;
}

// The model of the smallest mean divergence.
size_t FindClosest(const std::vector<Divergence>& models) {
  size_t closest = 0;
  for (size_t m = 1; m < models.size(); ++m) {
    if (models[m].summary.kl.mean.value < models[closest].summary.kl.mean.value) closest = m;
  }
  return closest;
}

std::string Overview(const std::vector<Divergence>& models, const Style& style) {
  using Kind = Column::Kind;
  const bool has_tail = models[0].tail.has_value();
  std::vector<Column> columns = {{"model", Align::kLeft, Kind::kName},
                                 {"size", Align::kRight},
                                 {"bpw", Align::kRight, Kind::kText, /*optional=*/true},
                                 {"mean KL", Align::kRight},
                                 {"95 % interval", Align::kRight},
                                 {"99 %", Align::kRight, Kind::kText, /*optional=*/has_tail},
                                 {"same top", Align::kRight},
                                 {"perplexity", Align::kRight},
                                 {"JS", Align::kRight, Kind::kText, /*optional=*/true}};
  if (has_tail) columns.insert(columns.begin() + 4, {"too low by", Align::kRight});
  Table table(columns);
  for (const Divergence& model : models) {
    const DivergenceSummary& s = model.summary;
    std::vector<Cell> cells = {model.model.name,
                               FormatBytesShort(model.model.bytes),
                               fmt::format("{:.2f}", model.model.bits_per_weight),
                               NumberText(s.kl.mean.value),
                               IntervalText(s.kl.mean.interval),
                               NumberText(QuantileOf(s.kl, 0.99)),
                               fmt::format("{:.2f} %", 100 * s.same_top.value),
                               PerplexityText(std::exp(s.nll.value)),
                               NumberText(s.jensen_shannon.mean.value)};
    if (has_tail) cells.insert(cells.begin() + 4, NumberText(model.tail->kl.value));
    table.AddRow(std::move(cells));
  }
  return table.Text(style);
}

std::string Detail(const Divergence& model, const Style& style) {
  const DivergenceSummary& s = model.summary;
  Table table({{""},
               {"KL", Align::kRight},
               {"reverse KL", Align::kRight},
               {"Jensen-Shannon", Align::kRight},
               {"delta p", Align::kRight}});
  const TokenSummary* columns[] = {&s.kl, &s.reverse_kl, &s.jensen_shannon, &s.delta_p};
  const auto add = [&](const char* name, const auto& value) {
    std::vector<Cell> cells = {name};
    for (const TokenSummary* column : columns) cells.emplace_back(NumberText(value(*column)));
    table.AddRow(std::move(cells));
  };
  add("mean", [](const TokenSummary& t) { return t.mean.value; });
  add("standard error", [](const TokenSummary& t) { return t.mean.standard_error; });
  if (model.tail.has_value()) {
    const TailError& tail = *model.tail;
    table.AddRow({"mean too low by", NumberText(tail.kl.value), NumberText(tail.reverse_kl.value),
                  NumberText(tail.jensen_shannon.value), "exact"});
    table.AddRow({"within (95 %)", HalfWidthText(tail.kl), HalfWidthText(tail.reverse_kl),
                  HalfWidthText(tail.jensen_shannon), ""});
  }
  add("largest", [](const TokenSummary& t) { return t.max; });
  const std::pair<const char*, double> levels[] = {
      {"99.9 %", 0.999}, {"99 %", 0.99}, {"95 %", 0.95}, {"90 %", 0.90},
      {"median", 0.50},  {"10 %", 0.10}, {"5 %", 0.05},  {"1 %", 0.01}};
  for (const auto& [name, level] : levels) {
    add(name, [at = level](const TokenSummary& t) { return QuantileOf(t, at); });
  }
  add("smallest", [](const TokenSummary& t) { return t.min; });
  const double ratio_width = (s.log_ratio.interval.high - s.log_ratio.interval.low) / 2;
  return "\n" + Heading(model.model.name, style) + table.Text(style) + "\n" +
         Facts({{"same top", ShareText(s.same_top)},
                {"top 5 shared", ShareText(s.top5)},
                {"RMS delta p",
                 fmt::format("{} %{}", NumberText(100 * s.rms_delta_p),
                             std::isnan(s.rms_delta_p_standard_error)
                                 ? ""
                                 : fmt::format(" (standard error {})",
                                               NumberText(100 * s.rms_delta_p_standard_error)))},
                {"perplexity",
                 fmt::format("{}, that of the base {}; ratio {}",
                             PerplexityText(std::exp(s.nll.value)),
                             PerplexityText(std::exp(s.base_nll.value)),
                             std::isnan(ratio_width) ? NumberText(std::exp(s.log_ratio.value))
                                                     : ChangeText(s.log_ratio.value, ratio_width))},
                {"correlation", fmt::format("{:.3f} % of the NLL of tokens", 100 * s.correlation)}},
               style);
}

std::string Pairs(const BaseFacts& base, const std::vector<Divergence>& models,
                  const Style& style) {
  const size_t closest = FindClosest(models);
  Table table({{"model", Align::kLeft, Column::Kind::kName},
               {"KL higher by", Align::kRight},
               {"95 % interval", Align::kRight},
               {"p", Align::kRight}});
  for (size_t m = 0; m < models.size(); ++m) {
    if (m == closest) continue;
    const Estimate more =
        CompareDivergence(models[m].tokens, models[closest].tokens, base.window_tokens);
    table.AddRow({models[m].model.name, NumberText(more.value), IntervalText(more.interval),
                  std::isnan(more.p) ? "-" : PValueText(more.p)});
  }
  return "\n" +
         Heading(fmt::format("Against the closest, {}, on the same windows",
                             models[closest].model.name),
                 style) +
         table.Text(style);
}

OrderedJson TokensJson(const TokenSummary& summary) {
  OrderedJson json = {{"mean", EstimateJson(summary.mean)},
                      {"token_standard_error", NumberJson(summary.token_standard_error)},
                      {"max", summary.max}};
  for (size_t i = 0; i < TokenSummary::kNumLevels; ++i) {
    json[fmt::format("p{:g}", 100 * TokenSummary::kLevels[i])] = summary.quantiles[i];
  }
  json["min"] = summary.min;
  return json;
}

OrderedJson ModelJson(const Divergence& model) {
  const DivergenceSummary& s = model.summary;
  OrderedJson json = {{"model", model.model.name},
                      {"bytes", model.model.bytes},
                      {"bits_per_weight", model.model.bits_per_weight},
                      {"engine", model.numerics.isa},
                      {"precision", model.numerics.precision},
                      {"kl", TokensJson(s.kl)},
                      {"reverse_kl", TokensJson(s.reverse_kl)},
                      {"jensen_shannon", TokensJson(s.jensen_shannon)},
                      {"delta_p", TokensJson(s.delta_p)},
                      {"rms_delta_p", s.rms_delta_p},
                      {"rms_delta_p_standard_error", NumberJson(s.rms_delta_p_standard_error)},
                      {"same_top", EstimateJson(s.same_top)},
                      {"top5", EstimateJson(s.top5)},
                      {"base_nll", EstimateJson(s.base_nll)},
                      {"nll", EstimateJson(s.nll)},
                      {"log_ratio", EstimateJson(s.log_ratio)},
                      {"correlation", NumberJson(s.correlation)},
                      {"window_kl", s.window_kl},
                      {"seconds", model.seconds}};
  if (model.tail.has_value()) {
    json["tail_error"] = {{"rows", model.tail->num_rows},
                          {"kl", EstimateJson(model.tail->kl)},
                          {"reverse_kl", EstimateJson(model.tail->reverse_kl)},
                          {"jensen_shannon", EstimateJson(model.tail->jensen_shannon)}};
  }
  return json;
}

}  // namespace

std::string KlText(const BaseFacts& base, const std::vector<Divergence>& models, bool detail,
                   const Style& style) {
  const uint64_t tokens =
      std::accumulate(base.window_tokens.begin(), base.window_tokens.end(), uint64_t{0});
  std::string text =
      Heading(fmt::format("Divergence from {}", base.name), style) +
      Facts({{"text", base.text},
             {"scored", fmt::format("{} tokens in {}; windows are the unit", FormatCount(tokens),
                                    Counted(base.window_tokens.size(), "window"))},
             {"base", base.kept}},
            style);
  if (models.empty()) return text;
  text += "\n" + Overview(models, style);
  if (models[0].tail.has_value()) {
    text += Wrap(fmt::format("The base's tail is one outcome here, so divergences come out low: by "
                             "how much was measured on {} that were kept whole.",
                             Counted(models[0].tail->num_rows, "row")),
                 style, 2, 2);
  }
  if (detail || models.size() <= kMostDetailed) {
    for (const Divergence& model : models) text += Detail(model, style);
  }
  if (models.size() > 1) text += Pairs(base, models, style);
  return text;
}

OrderedJson KlJson(const BaseFacts& base, const std::vector<Divergence>& models) {
  OrderedJson json = {{"base", base.name},
                      {"text", base.text},
                      {"windows", base.window_tokens.size()},
                      {"window_tokens", base.window_tokens},
                      {"base_kept", base.kept},
                      {"base_own_kl", {{"mean", base.own_kl_mean}, {"max", base.own_kl_max}}},
                      {"models", OrderedJson::array()},
                      {"pairs", OrderedJson::array()}};
  for (const Divergence& model : models) json["models"].push_back(ModelJson(model));
  for (size_t a = 0; a < models.size(); ++a) {
    for (size_t b = 0; b < a; ++b) {
      const Estimate more =
          CompareDivergence(models[a].tokens, models[b].tokens, base.window_tokens);
      OrderedJson pair = {{"a", models[a].model.name}, {"b", models[b].model.name}};
      pair["kl_difference"] = EstimateJson(more);
      pair["p"] = NumberJson(more.p);
      json["pairs"].push_back(std::move(pair));
    }
  }
  return json;
}

}  // namespace ram::cli
