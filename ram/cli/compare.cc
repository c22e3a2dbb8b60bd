// ram compare SCORES...: a leaderboard, and what may be concluded from it.

#include <fmt/format.h>

#include <cmath>

#include "ram/base/file.h"
#include "ram/cli/score_groups.h"
#include "ram/cli/stats_json.h"
#include "ram/cli/verb.h"
#include "ram/report/compare_table.h"

namespace ram::cli {
namespace {

struct Options {
  std::vector<std::string> sources;
  ScoreOptions scores;
  std::string output;
  bool detail = false;
};

OrderedJson ModelJson(const ModelScores& model, const PerplexitySummary& s) {
  OrderedJson json = {
      {"name", model.name},
      {"bytes", std::isnan(model.bytes) ? OrderedJson(nullptr)
                                        : OrderedJson(static_cast<uint64_t>(model.bytes))},
      {"bits_per_weight", NumberJson(model.bits_per_weight)},
      {"corpus", NumberJson(s.corpus)},
      {"corpus_interval", IntervalJson(s.corpus_interval)},
      {"log_corpus", NumberJson(s.log_corpus.value)},
      {"log_corpus_standard_error", NumberJson(s.log_corpus.standard_error)},
      {"log_corpus_block_standard_error", NumberJson(s.block_standard_error)},
      {"median", NumberJson(s.median)},
      {"median_interval", IntervalJson(s.median_interval)},
      {"trimmed_mean",
       {{"0.05", NumberJson(s.trimmed_5)},
        {"0.10", NumberJson(s.trimmed_10)},
        {"0.25", NumberJson(s.trimmed_25)}}},
      {"min", NumberJson(s.min)},
      {"p95", NumberJson(s.p95)},
      {"p99", NumberJson(s.p99)},
      {"max", NumberJson(s.max)},
      {"arithmetic_mean_do_not_use", NumberJson(s.arithmetic_mean)},
      {"largest_share", NumberJson(s.largest_share)},
      {"outliers_over_100", s.num_outliers},
      {"corpus_without_outliers", NumberJson(s.corpus_without_outliers)},
      {"tail_index", TailJson(s.tail)},
      {"autocorrelation", NumberJson(s.autocorrelation)},
      {"most_influential_window", s.most_influential},
      {"corpus_without_it", NumberJson(s.corpus_without_it)},
      {"heavy_tailed", s.heavy_tailed}};
  json["nll"] = model.nll;
  return json;
}

OrderedJson GroupJson(const ComparedGroup& group) {
  const AlignedScores& aligned = group.aligned;
  OrderedJson models = OrderedJson::array();
  for (size_t m = 0; m < aligned.models.size(); ++m) {
    models.push_back(ModelJson(aligned.models[m], group.comparison.summaries[m]));
  }
  OrderedJson pairs = OrderedJson::array();
  for (const PairComparison& pair : group.comparison.pairs) {
    OrderedJson json = {{"a", aligned.models[pair.a].name}, {"b", aligned.models[pair.b].name}};
    json.update(PairJson(pair));
    OrderedJson texts = OrderedJson::array();
    for (const size_t window : pair.result.flip.windows) {
      texts.push_back(
          {{"window", window}, {"label", aligned.labels[window]}, {"text", aligned.texts[window]}});
    }
    json["flip_set"]["texts"] = texts;
    pairs.push_back(std::move(json));
  }
  return {{"what", aligned.what},
          {"windows", aligned.tokens.size()},
          {"labels", aligned.labels},
          {"tokens", aligned.tokens},
          {"tokens_known", aligned.tokens_known},
          {"same_numerics", aligned.same_numerics},
          {"resolution", aligned.resolution},
          {"models", models},
          {"pairs", pairs},
          {"kendall_tau",
           {{"corpus_median", NumberJson(group.comparison.tau_corpus_median)},
            {"corpus_trimmed", NumberJson(group.comparison.tau_corpus_trimmed)}}},
          {"verdict", VerdictSentences(aligned.models, group.comparison, group.windows)},
          {"notes", CompareNotes(group.comparison, group.windows)}};
}

Status Compare(const Options& options, Context& context) {
  std::vector<ScoreGroup> sources;
  for (const std::string& given : options.sources) {
    RAM_ASSIGN_OR_RETURN(sources.emplace_back(), ReadSource(given, options.scores.table_values()));
  }
  RAM_ASSIGN_OR_RETURN(const std::vector<ScoreGroup> groups,
                       MakeGroups(std::move(sources), options.scores));
  OrderedJson list = OrderedJson::array();
  std::string text;
  for (const ScoreGroup& group : groups) {
    RAM_ASSIGN_OR_RETURN(const ComparedGroup compared, CompareGroup(group, options.scores));
    list.push_back(GroupJson(compared));
    text += (text.empty() ? "" : "\n\n") + CompareText(compared.aligned.models, compared.comparison,
                                                       compared.windows, options.detail,
                                                       context.style());
    NoteSuspectValues(group, compared, options.scores, context);
  }
  const OrderedJson json = {{"format", "ram.comparison.v1"}, {"groups", list}};
  if (!options.output.empty()) {
    RAM_RETURN_IF_ERROR(WriteFileAtomically(
        options.output, json.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n"));
  }
  if (groups.size() > 1) {
    text += "\n" + Wrap(
                       "note: these groups scored different windows: numbers of one cannot be "
                       "compared with those of another.",
                       context.style(), 2, 8);
  }
  context.Print(text);
  context.PrintJson(json);
  return Done{};
}

}  // namespace

Verb AddCompare(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand(
      "compare", "A leaderboard that cannot lie: paired, robust, with the inversions named");
  verb->add_option("SCORES", options->sources,
                   "*.scores, logs of llama-perplexity, CSV with one column for each model; "
                   "NAME=FILE calls it NAME")
      ->required();
  AddScoreOptions(verb, &options->scores);
  verb->add_flag("--detail", options->detail, "Every test of every pair");
  verb->add_option("-o,--output", options->output, "The verdict as JSON");
  return {verb, [options, &context]() -> Status { return Compare(*options, context); }};
}

}  // namespace ram::cli
