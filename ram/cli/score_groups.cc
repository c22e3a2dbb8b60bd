#include "ram/cli/score_groups.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <optional>
#include <set>

namespace ram::cli {
namespace {

constexpr double kSuspectPerplexity = 1000;  // As a median: the table may hold perplexities.

// Names must tell models apart: where they do not, the file's name helps.
void MakeNamesUnique(ScoreGroup* group) {
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

Status CheckBase(const std::vector<ScoreGroup>& groups, const std::string& base) {
  if (base.empty()) return Done{};
  std::string names;
  for (const ScoreGroup& group : groups) {
    for (const Scores& scores : group.scores) {
      if (scores.model.name == base) return Done{};
      names += (names.empty() ? "" : ", ") + scores.model.name;
    }
  }
  return Error{ErrorCode::kInvalidArgument,
               fmt::format("--base {}: no such model among {}", base, names)};
}

}  // namespace

TableValues ScoreOptions::table_values() const {
  return values == "ppl" ? TableValues::kPerplexity : TableValues::kNll;
}

void AddScoreOptions(CLI::App* verb, ScoreOptions* options) {
  verb->add_option("--base", options->base, "Compare with this model only, not all pairs");
  verb->add_option("--values", options->values,
                   "What CSV holds: nll [nats per token] or ppl (default: nll)")
      ->check(CLI::IsMember({"nll", "ppl"}));
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
}

Result<ScoreGroup> ReadSource(const std::string& given, TableValues values) {
  std::string name;
  std::string path = given;
  std::error_code error;
  const size_t equals = given.find('=');
  if (equals != std::string::npos && equals > 0 && !std::filesystem::exists(given, error)) {
    name = given.substr(0, equals);
    path = given.substr(equals + 1);
  }
  ScoreGroup group;
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

Result<std::vector<ScoreGroup>> MakeGroups(std::vector<ScoreGroup> sources,
                                           const ScoreOptions& options) {
  ScoreGroup all;
  for (ScoreGroup& source : sources) {
    std::move(source.scores.begin(), source.scores.end(), std::back_inserter(all.scores));
    std::move(source.files.begin(), source.files.end(), std::back_inserter(all.files));
  }
  MakeNamesUnique(&all);
  std::vector<ScoreGroup> groups;
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
    if (group == groups.end()) group = groups.insert(group, ScoreGroup());
    group->scores.push_back(std::move(all.scores[i]));
    group->files.push_back(std::move(all.files[i]));
  }
  RAM_RETURN_IF_ERROR(CheckBase(groups, options.base));
  return groups;
}

Result<ComparedGroup> CompareGroup(const ScoreGroup& group, const ScoreOptions& options) {
  ComparedGroup out;
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

void NoteSuspectValues(const ScoreGroup& group, const ComparedGroup& compared,
                       const ScoreOptions& options, Context& context) {
  const double median = compared.comparison.summaries.front().median;
  if (options.values == "nll" && group.scores.front().protocol == "table" &&
      median > kSuspectPerplexity) {
    context.Note(
        fmt::format("note: {} has a median perplexity of {}; if its numbers are perplexities, say "
                    "--values ppl",
                    group.files.front(), PerplexityText(median)));
  }
}

}  // namespace ram::cli
