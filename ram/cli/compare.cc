// ram compare SCORES...: a leaderboard, and what may be concluded from it.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>

#include "ram/base/file.h"
#include "ram/cli/stats_json.h"
#include "ram/cli/verb.h"
#include "ram/eval/align.h"
#include "ram/eval/score_sources.h"
#include "ram/report/compare_table.h"

namespace ram::cli {
namespace {

constexpr double kSuspectPerplexity = 1000;  // As a median: the table may hold perplexities.

struct Options {
  std::vector<std::string> sources;
  std::string base;
  std::string values = "nll";
  std::string output;
  bool allow_different_windows = false;
  bool detail = false;
  AlignOptions align;
  CompareOptions compare;
};

// Models that were scored on the same windows, and where they came from.
struct Group {
  std::vector<Scores> scores;
  std::vector<std::string> files;
};

// A source as it was given: PATH, or NAME=PATH.
Result<Group> ReadSource(const std::string& given, TableValues values) {
  std::string name;
  std::string path = given;
  std::error_code error;
  const size_t equals = given.find('=');
  if (equals != std::string::npos && equals > 0 && !std::filesystem::exists(given, error)) {
    name = given.substr(0, equals);
    path = given.substr(equals + 1);
  }
  Group group;
  RAM_ASSIGN_OR_RETURN(group.scores, ReadScoreSource(path, values));
  if (!name.empty()) {
    if (group.scores.size() > 1) {
      return Error{ErrorCode::kInvalidArgument,
                   fmt::format("{}: holds {} models, which one name cannot stand for", path,
                               group.scores.size())};
    }
    group.scores.front().model.name = name;
  }
  group.files.assign(group.scores.size(), path);
  return group;
}

// Names must tell models apart: where they do not, the file's name helps.
void MakeNamesUnique(Group* group) {
  std::multiset<std::string> seen;
  for (const Scores& scores : group->scores) seen.insert(scores.model.name);
  std::set<std::string> taken;
  for (size_t i = 0; i < group->scores.size(); ++i) {
    std::string& name = group->scores[i].model.name;
    if (name.empty()) name = std::filesystem::path(group->files[i]).stem().string();
    if (seen.count(name) > 1) {
      name += fmt::format(" ({})", std::filesystem::path(group->files[i]).stem().string());
    }
    for (int k = 2; !taken.insert(name).second; ++k) name += fmt::format(" #{}", k);
  }
}

// One group, or with --allow-different-windows as many as there are different windows.
Result<std::vector<Group>> ReadGroups(const Options& options) {
  const TableValues values = options.values == "ppl" ? TableValues::kPerplexity : TableValues::kNll;
  Group all;
  for (const std::string& given : options.sources) {
    RAM_ASSIGN_OR_RETURN(Group source, ReadSource(given, values));
    std::move(source.scores.begin(), source.scores.end(), std::back_inserter(all.scores));
    std::move(source.files.begin(), source.files.end(), std::back_inserter(all.files));
  }
  MakeNamesUnique(&all);
  std::vector<Group> groups;
  for (size_t i = 0; i < all.scores.size(); ++i) {
    auto group = groups.begin();
    std::optional<std::string> mismatch;
    for (; group != groups.end(); ++group) {
      mismatch = FindMismatch(group->scores.front(), all.scores[i], options.align);
      if (!mismatch.has_value()) break;
      if (!options.allow_different_windows) {
        return Error{ErrorCode::kInvalidArgument,
                     fmt::format("{} and {} cannot be paired: {}; --allow-different-windows lists "
                                 "them apart",
                                 group->files.front(), all.files[i], *mismatch)};
      }
    }
    if (group == groups.end()) group = groups.insert(group, Group());
    group->scores.push_back(std::move(all.scores[i]));
    group->files.push_back(std::move(all.files[i]));
  }
  return groups;
}

struct Compared {
  AlignedScores aligned;
  Comparison comparison;
  ComparedWindows windows;
};

Result<Compared> CompareGroup(const Group& group, const Options& options) {
  Compared out;
  RAM_ASSIGN_OR_RETURN(out.aligned, AlignScores(group.scores, group.files, options.align));
  CompareOptions compare = options.compare;
  for (size_t m = 0; m < out.aligned.models.size(); ++m) {
    if (out.aligned.models[m].name == options.base) compare.base = m;
  }
  RAM_ASSIGN_OR_RETURN(out.comparison,
                       CompareModels(out.aligned.models, out.aligned.tokens, compare));
  // Rows of one table belong together by being rows.
  out.aligned.tokens_known |= std::set(group.files.begin(), group.files.end()).size() == 1;
  const AlignedScores& aligned = out.aligned;
  out.windows = {aligned.what,       aligned.labels,       aligned.texts,
                 aligned.resolution, aligned.tokens_known, aligned.same_numerics};
  return out;
}

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

OrderedJson GroupJson(const Compared& group) {
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

Status CheckBase(const std::vector<Group>& groups, const std::string& base) {
  if (base.empty()) return Done{};
  std::string names;
  for (const Group& group : groups) {
    for (const Scores& scores : group.scores) {
      if (scores.model.name == base) return Done{};
      names += (names.empty() ? "" : ", ") + scores.model.name;
    }
  }
  return Error{ErrorCode::kInvalidArgument,
               fmt::format("--base {}: no such model among {}", base, names)};
}

Status Compare(const Options& options, Context& context) {
  RAM_ASSIGN_OR_RETURN(const std::vector<Group> groups, ReadGroups(options));
  RAM_RETURN_IF_ERROR(CheckBase(groups, options.base));
  OrderedJson list = OrderedJson::array();
  std::string text;
  for (const Group& group : groups) {
    RAM_ASSIGN_OR_RETURN(const Compared compared, CompareGroup(group, options));
    list.push_back(GroupJson(compared));
    text += (text.empty() ? "" : "\n\n") + CompareText(compared.aligned.models, compared.comparison,
                                                       compared.windows, options.detail,
                                                       context.style());
    const double median = compared.comparison.summaries.front().median;
    if (options.values == "nll" && group.scores.front().protocol == "table" &&
        median > kSuspectPerplexity) {
      context.Note(
          fmt::format("note: {} has a median perplexity of {}; if its numbers are "
                      "perplexities, say --values ppl",
                      group.files.front(), PerplexityText(median)));
    }
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
  verb->add_option("--base", options->base, "Compare with this model only, not all pairs");
  verb->add_option("--values", options->values,
                   "What CSV holds: nll [nats per token] or ppl (default: nll)")
      ->check(CLI::IsMember({"nll", "ppl"}));
  verb->add_flag("--detail", options->detail, "Every test of every pair");
  verb->add_option("-o,--output", options->output, "The verdict as JSON");
  verb->add_flag("--common-windows", options->align.common_windows,
                 "Compare the windows that all files share");
  verb->add_flag("--allow-different-numerics", options->align.allow_different_numerics,
                 "Pair runs of different engines or precisions");
  verb->add_flag("--allow-different-windows", options->allow_different_windows,
                 "List what cannot be paired apart, without a word about the difference");
  verb->add_option("--resamples", options->compare.bootstrap.num_resamples,
                   "Of the bootstrap (default: 10,000)")
      ->check(CLI::Range(100, 10'000'000));
  verb->add_option("--seed", options->compare.bootstrap.seed, "Of the bootstrap (default: 42)");
  return {verb, [options, &context]() -> Status { return Compare(*options, context); }};
}

}  // namespace ram::cli
