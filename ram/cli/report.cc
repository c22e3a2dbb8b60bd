// ram report FILES... -o report.html: everything about some models on one page.

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "ram/base/bytes.h"
#include "ram/base/file.h"
#include "ram/cli/score_groups.h"
#include "ram/cli/verb.h"
#include "ram/eval/noise.h"
#include "ram/eval/noise_folder.h"
#include "ram/plan/plan.h"
#include "ram/rates/rate_table.h"
#include "ram/report/plan_facts.h"
#include "ram/report/report_page.h"

namespace ram::cli {
namespace {

struct Options {
  std::vector<std::string> sources;
  std::string output;
  std::string title;
  ScoreOptions scores;
};

// What was read so far.
struct Inputs {
  std::vector<ScoreGroup> scores;
  std::vector<ReportNoise> noises;
  std::vector<ReportPlan> plans;
  std::vector<LoadedRates> rates;
};

bool BeginsAsJson(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  return first != std::string_view::npos && text[first] == '{';
}

// plan.json and rates.json, told apart by what they say of their format.
Status ReadJsonSource(const std::filesystem::path& path, const std::string& text, Inputs* inputs) {
  RAM_ASSIGN_OR_RETURN(const Json json, ParseJson(text, path.string()));
  const Json* format = Find(json, "format");
  const std::string name =
      format != nullptr && format->is_string() ? format->get<std::string>() : "";
  if (name == "ram.plan.v1") {
    ReportPlan plan;
    RAM_ASSIGN_OR_RETURN(plan.plan, ParsePlan(text, path.string()));
    // A plan is called what its folder is, or its file where that says more.
    const std::filesystem::path absolute = std::filesystem::absolute(path);
    plan.name = absolute.stem() == "plan" ? absolute.parent_path().filename().string()
                                          : absolute.stem().string();
    if (plan.name.empty()) plan.name = ShortModelName(plan.plan.model);
    inputs->plans.push_back(std::move(plan));
    return Done{};
  }
  if (name == "ram.rates.v1") {
    RAM_ASSIGN_OR_RETURN(LoadedRates rates, ReadRateTable(path));
    inputs->rates.push_back(std::move(rates));
    return Done{};
  }
  return Error{ErrorCode::kCorrupt,
               fmt::format("{}: JSON, but neither a plan (format ram.plan.v1) nor a rate table "
                           "(ram.rates.v1)",
                           path.string())};
}

Status ReadFileSource(const std::string& given, const ScoreOptions& options, Inputs* inputs) {
  std::error_code error;
  if (std::filesystem::is_regular_file(given, error)) {
    // Score files begin with a length, whose first byte may be any; JSON holds no zeros.
    RAM_ASSIGN_OR_RETURN(const std::string text, ReadFile(given, uint64_t{1} << 36));
    if (BeginsAsJson(text) && text.find('\0') == std::string::npos) {
      return ReadJsonSource(given, text, inputs);
    }
  }
  RAM_ASSIGN_OR_RETURN(ScoreGroup source, ReadSource(given, options.table_values()));
  inputs->scores.push_back(std::move(source));
  return Done{};
}

// What `ram eval noise` left in a folder.
Status ReadNoise(const std::filesystem::path& folder, Inputs* inputs) {
  RAM_ASSIGN_OR_RETURN(const std::vector<Scores> scores, ReadNoiseFolder(folder));
  const Result<NoiseExperiment> experiment = MakeNoiseExperiment(scores);
  if (!experiment) {
    return Error{experiment.error().code,
                 fmt::format("{}: {}", folder.string(), experiment.error().message)};
  }
  const Result<NoiseResult> result = AnalyzeNoise(*experiment);
  if (!result) {
    return Error{result.error().code,
                 fmt::format("{}: {}", folder.string(), result.error().message)};
  }
  ReportNoise noise;
  noise.name = std::filesystem::absolute(folder).lexically_normal().filename().string();
  noise.what = fmt::format("{}: {}", scores.front().protocol, scores.front().settings);
  noise.sentences = NoiseSentences(*result);
  for (const auto& [name, effect] : {std::pair("compressed", &result->compressed),
                                     {"antithetic", &result->antithetic},
                                     {"by direction", &result->first_order},
                                     {"by size", &result->second_order}}) {
    noise.rows.push_back({name, 1, effect->trimmed, effect->corpus, {}, kUndefined});
  }
  for (const ControlEffect& control : result->controls) {
    ReportNoiseRow row = {control.name,
                          control.dose,
                          control.average.trimmed,  // Its interval, around the mean over seeds.
                          control.average.corpus,
                          {},
                          control.z.trimmed};
    if (control.dose != 1) row.name += fmt::format(" ×{:g}", control.dose);
    row.typical.value = control.mean.trimmed;
    row.corpus.value = control.mean.corpus;
    for (const NoiseEffect& seed : control.seeds) row.seeds.push_back(seed.trimmed.value);
    noise.rows.push_back(std::move(row));
  }
  inputs->noises.push_back(std::move(noise));
  return Done{};
}

// A file, the folder of a noise experiment, or that of a compressed model with its plan and rates.
Status ReadAny(const std::string& given, const ScoreOptions& options, Inputs* inputs) {
  std::error_code error;
  if (!std::filesystem::is_directory(given, error)) return ReadFileSource(given, options, inputs);
  if (IsNoiseFolder(given)) return ReadNoise(given, inputs);
  bool has_any = false;
  for (const char* name : {"plan.json", "rates.json"}) {
    const std::filesystem::path path = std::filesystem::path(given) / name;
    if (!std::filesystem::exists(path, error)) continue;
    RAM_RETURN_IF_ERROR(ReadFileSource(path.string(), options, inputs));
    has_any = true;
  }
  if (has_any) return Done{};
  return Error{ErrorCode::kNotFound,
               fmt::format("{}: a folder without plan.json, rates.json or the scores of a noise "
                           "experiment",
                           given)};
}

Result<ReportGroup> MakeReportGroup(const ScoreGroup& scores, const ScoreOptions& options,
                                    Context& context) {
  RAM_ASSIGN_OR_RETURN(ComparedGroup compared, CompareGroup(scores, options));
  NoteSuspectValues(scores, compared, options, context);
  ReportGroup group;
  group.models = std::move(compared.aligned.models);
  group.comparison = std::move(compared.comparison);
  group.windows = std::move(compared.windows);
  group.base = ChooseBase(group.models);
  for (size_t m = 0; m < group.models.size(); ++m) {
    if (group.models[m].name == options.base) group.base = m;
  }
  return group;
}

std::string DefaultTitle(const ReportData& data) {
  if (!data.groups.empty()) {
    const ReportGroup& group = data.groups.front();
    const std::string& base = group.models[group.base].name;
    return group.models.size() == 1 && data.groups.size() == 1
               ? base
               : fmt::format("{} and what it was compared with", base);
  }
  if (!data.noises.empty()) return data.noises.front().name;
  if (!data.plans.empty()) return ShortModelName(data.plans.front().plan.model);
  return ShortModelName(data.rates.front().table.model);
}

Status Report(const Options& options, Context& context) {
  Inputs inputs;
  for (const std::string& given : options.sources) {
    RAM_RETURN_IF_ERROR(ReadAny(given, options.scores, &inputs));
  }
  ReportData data;
  if (!inputs.scores.empty()) {
    RAM_ASSIGN_OR_RETURN(const std::vector<ScoreGroup> groups,
                         MakeGroups(std::move(inputs.scores), options.scores));
    for (const ScoreGroup& scores : groups) {
      RAM_ASSIGN_OR_RETURN(ReportGroup group, MakeReportGroup(scores, options.scores, context));
      data.groups.push_back(std::move(group));
    }
  }
  data.noises = std::move(inputs.noises);
  data.plans = std::move(inputs.plans);
  data.rates = std::move(inputs.rates);
  data.title = options.title.empty() ? DefaultTitle(data) : options.title;

  const std::string page = ReportPage(data);
  RAM_RETURN_IF_ERROR(WriteFileAtomically(options.output, page));
  size_t num_models = 0;
  for (const ReportGroup& group : data.groups) num_models += group.models.size();
  std::string parts = Counted(num_models, "model");
  if (!data.noises.empty()) parts += ", " + Counted(data.noises.size(), "noise experiment");
  context.Print(fmt::format(
      "wrote {}: {}; {}, {}, {}\n", options.output, FormatBytesShort(page.size()), parts,
      Counted(data.plans.size(), "plan"), Counted(data.rates.size(), "rate table")));
  context.PrintJson({{"file", options.output},
                     {"bytes", page.size()},
                     {"models", num_models},
                     {"noise_experiments", data.noises.size()},
                     {"plans", data.plans.size()},
                     {"rate_tables", data.rates.size()}});
  return Done{};
}

}  // namespace

Verb AddReport(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb =
      app.add_subcommand("report", "One HTML page with everything: verdict, sizes, windows, plans");
  verb->add_option("FILES", options->sources,
                   "*.scores, logs of llama-perplexity, CSV (NAME=FILE calls it NAME); plan.json, "
                   "rates.json, or the folder of a compressed model; a folder of ram eval noise")
      ->required();
  verb->add_option("-o,--output", options->output, "The page, e.g. report.html")->required();
  verb->add_option("--title", options->title, "Of the page");
  AddScoreOptions(verb, &options->scores);
  return {verb, [options, &context]() -> Status { return Report(*options, context); }};
}

}  // namespace ram::cli
