// ram study MODEL: what every way of making it smaller costs, at equal bytes, in one report.

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <filesystem>

#include "ram/base/bytes.h"
#include "ram/base/file.h"
#include "ram/checkpoint/model_files.h"
#include "ram/cli/eval_options.h"
#include "ram/cli/plan_options.h"
#include "ram/cli/run_options.h"
#include "ram/cli/verb.h"
#include "ram/compress/compress.h"
#include "ram/report/study_page.h"
#include "ram/report/study_text.h"
#include "ram/study/run_study.h"

namespace ram::cli {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string model;
  std::string output;
  std::vector<std::string> arms;
  std::vector<std::string> given;
  std::vector<std::string> budgets;
  std::string quantizer = "rtn";
  std::string margin = "0.5%";
  std::string logits = "f32";
  double floor_db = 9;
  size_t num_shuffles = 1;
  bool is_short = false;
  bool restart = false;
  bool keep_models = false;
  MeasureSettings settings;
  TextOptions text;
  RunOptions run;
};

// What was left open. --short: few windows, few arms, seconds on a small model.
void FillIn(Options* options) {
  if (!options->is_short) {
    if (options->arms.empty() && options->budgets.empty()) options->budgets = {"6bpw", "8bpw"};
    return;
  }
  if (options->arms.empty()) {
    options->arms = {"uniform-4-64", "mixed_4_6", "weights", "flat"};
  }
  if (options->budgets.empty()) options->budgets = {"3.5bpw", "6bpw"};
  if (options->text.windows == 0) options->text.windows = 24;
  if (options->text.context == 0) options->text.context = 256;
}

std::string FileLabel(const std::string& label) {
  std::string safe;
  for (const char c : label) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '-';
    safe += plain ? c : c == '%' ? 'p' : '-';
  }
  return safe;
}

Result<std::vector<StudyBudget>> BudgetsOf(const Options& options) {
  std::vector<StudyBudget> budgets;
  if (options.budgets.empty()) return budgets;
  RAM_ASSIGN_OR_RETURN(const OpenedModel model, OpenModel(options.model, Strictness::kLenient));
  RAM_ASSIGN_OR_RETURN(const RateTable sizes,
                       SizesOnly(model.checkpoint, model.catalog, options.model));
  for (const std::string& text : options.budgets) {
    StudyBudget budget;
    budget.label = FileLabel(text);
    RAM_ASSIGN_OR_RETURN(budget.bytes, ParseBudget(text, sizes));
    if (std::ranges::find(budgets, budget.label, &StudyBudget::label) != budgets.end()) {
      return Error{ErrorCode::kInvalidArgument, fmt::format("--budget {}: given twice", text)};
    }
    budgets.push_back(std::move(budget));
  }
  return budgets;
}

Result<double> ParseMargin(const std::string& text) {
  const std::optional<double> percent = ParsePercent(text);
  if (percent.has_value() && *percent > 0 && *percent < 100) {
    return std::log1p(*percent / 100);
  }
  return Error{ErrorCode::kInvalidArgument,
               fmt::format("--margin {}: expected a share such as 0.5%", text)};
}

Result<StudyOptions> StudyOf(const Options& options, const Engine& engine) {
  StudyOptions study;
  study.model = options.model;
  ArmDefaults defaults;
  RAM_ASSIGN_OR_RETURN(defaults.quantizer, ParseQuantizer(options.quantizer));
  defaults.floor_db = options.floor_db;
  defaults.num_shuffles = options.num_shuffles;
  RAM_ASSIGN_OR_RETURN(
      study.arms, ParseArms(options.arms.empty() ? DefaultArmNames() : options.arms, defaults));
  for (const std::string& path : options.given) {
    study.arms.push_back(GivenArm(path, study.arms));
  }
  RAM_ASSIGN_OR_RETURN(study.budgets, BudgetsOf(options));
  RAM_ASSIGN_OR_RETURN(study.text, options.text.Read());
  RAM_ASSIGN_OR_RETURN(study.cut, options.text.Request());
  RAM_ASSIGN_OR_RETURN(study.margin, ParseMargin(options.margin));
  study.folder = options.output;
  if (options.output.empty()) {
    RAM_ASSIGN_OR_RETURN(const fs::path directory, ResolveModel(options.model));
    fs::path name = directory.lexically_normal();
    while (name.has_parent_path() && (name.filename().empty() || name.filename() == "hf")) {
      name = name.parent_path();
    }
    study.folder = name.filename().string() + ".study";
  }
  study.restart = options.restart;
  study.keep_models = options.keep_models;
  study.logits = options.logits == "u16" ? LogitForm::kU16 : LogitForm::kF32;
  study.numerics = options.run.numerics();
  study.described = DescribeNumerics(options.run, engine);
  RAM_ASSIGN_OR_RETURN(study.memory_bytes, options.run.MemoryBytes());
  study.cache_path = options.settings.CachePath();
  return study;
}

Status RunStudyVerb(Options options, Context& context) {
  FillIn(&options);
  if (options.text.protocol == "lm-eval") {
    return Error{ErrorCode::kInvalidArgument,
                 "--protocol lm-eval scores documents in parts that are not independent; ram study "
                 "takes the protocols whose windows are"};
  }
  RAM_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, options.run.MakeEngine(context));
  RAM_ASSIGN_OR_RETURN(StudyOptions study, StudyOf(options, *engine));
  study.engine = engine.get();
  study.watcher = context.MakeWatcher();
  study.note = [&context](const std::string& text) { context.Note(text); };
  const auto ran = RunStudy(study);
  context.EndProgress();
  if (!ran && ran.error().code == ErrorCode::kCancelled) {
    return Error{ErrorCode::kCancelled,
                 fmt::format("stopped on request; arms that are done stay in {}, the same command "
                             "goes on",
                             study.folder.string())};
  }
  if (!ran) return ran.error();
  const Study& found = *ran;

  OrderedJson json = StudyJson(found);
  json["verdict"] = StudyVerdict(found);
  const fs::path page = study.folder / "report.html";
  RAM_RETURN_IF_ERROR(WriteFileAtomically(page, StudyPage(found)));
  RAM_RETURN_IF_ERROR(
      WriteFileAtomically(study.folder / "study.json",
                          json.dump(1, ' ', false, OrderedJson::error_handler_t::replace) + "\n"));
  context.Print(StudyText(found, context.style()));
  context.Note(fmt::format("wrote {}, study.json beside it", page.string()));
  context.PrintJson(json);
  return Done{};
}

}  // namespace

Verb AddStudy(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand(
      "study", "What every way of making a model smaller costs, at equal bytes; one report");
  verb->add_option("MODEL", options->model, "The original: directory or name in the cache")
      ->required();
  verb->add_option("-o,--output", options->output,
                   "Folder of the study (default: NAME.study); an interrupted one is gone on with");
  verb->add_option("-b,--budget", options->budgets,
                   "Further sizes for plans: 16GiB, 6bpw, 45%; several: 5GiB,6GiB (default: "
                   "6bpw,8bpw, none with --arms)")
      ->delimiter(',');
  verb->add_option("--arms", options->arms,
                   "Of bf16, fp16, uniform-4-64 (bits, group), mixed_2_6, mixed_3_4, mixed_3_6, "
                   "mixed_4_6, weights, ram, flat, shuffled; plans as weights:opt by that "
                   "quantizer (default: all of them, uniform in groups of 32, 64 and 128)")
      ->delimiter(',');
  verb->add_option("--with", options->given,
                   "Another checkpoint of this model: MLX, GPTQ, AWQ; may be repeated");
  verb->add_flag("--short", options->is_short,
                 "24 windows of 256; uniform-4-64, mixed_4_6, weights, flat; 3.5 and 6 bpw; each "
                 "unless said otherwise");
  verb->add_option("--shuffles", options->num_shuffles, "Seeds of the arm shuffled (1)")
      ->check(CLI::Range(1, 100));
  verb->add_option("--quantizer", options->quantizer,
                   "Of plans: rtn (default: as the baselines, so that plans differ in the plan "
                   "alone), rtn+, opt")
      ->check(CLI::IsMember({"rtn", "rtn+", "opt"}));
  verb->add_option("--floor-db", options->floor_db, "Of plans: as in ram compress (9); 0: off")
      ->check(CLI::Range(0.0, 100.0));
  verb->add_option("--margin", options->margin,
                   "What is too little to matter, for the saturation size (0.5%)");
  verb->add_flag("--restart", options->restart, "Forget what is in the folder");
  verb->add_flag("--keep-models", options->keep_models, "Do not delete an arm once it has run");
  verb->add_option("--logits", options->logits,
                   "The original's on disk: f32 (default, exact), u16 (half the room)")
      ->check(CLI::IsMember({"f32", "u16"}));
  options->text.Add(verb);
  options->run.Add(verb);
  options->settings.Add(verb);
  return {verb, [options, &context] { return RunStudyVerb(*options, context); }};
}

}  // namespace ram::cli
