// ram eval noise MODEL --like COMPRESSED: does quantization do anything that noise of the size of
// its errors does not?

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <optional>
#include <tuple>

#include "ram/base/hash.h"
#include "ram/checkpoint/weights_hash.h"
#include "ram/cli/eval_options.h"
#include "ram/cli/run_options.h"
#include "ram/cli/stats_json.h"
#include "ram/cli/verb.h"
#include "ram/eval/noise.h"
#include "ram/eval/noise_folder.h"
#include "ram/eval/noisy_weights.h"
#include "ram/eval/score_windows.h"
#include "ram/eval/scores.h"
#include "ram/report/compare_table.h"
#include "ram/stats/perplexity.h"
#include "ram/text/tokenizer.h"

namespace ram::cli {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kDefaultWindows = 64;  // Paired differences need no more.

// Closest to the errors first: the first one that runs is what the verdict is by.
constexpr std::array kControls = {Noise::Kind::kPermuted, Noise::Kind::kGroupGaussian,
                                  Noise::Kind::kUniform, Noise::Kind::kGaussian};

struct Options {
  std::string model;
  std::string like;
  TextOptions text;
  std::vector<std::string> controls = {"permuted", "group", "uniform", "gaussian"};
  std::vector<double> doses = {0.5, 1, 2, 4};
  uint64_t seeds = kSeedsForVerdict;
  std::string per = "matrix";
  std::string output;
  bool restart = false;
  RunOptions run;
};

// One model to be run: the original, the compressed one, or the original with noise.
struct Condition {
  std::string name;  // And of its file.
  const WeightSource* source = nullptr;
  std::optional<Noise> noise;
};

// What all conditions share. Parts refer to those before them.
struct Setup {
  RunnableModel original;
  RunnableModel compressed;
  std::unique_ptr<Engine> engine;
  std::optional<Tokenizer> tokenizer;
  CutText cut;
  uint64_t memory = 0;
  fs::path folder;
  Scores start;  // Of every condition, but for the name of the model.
  std::vector<NoiseLevel> errors;
};

struct Scored {
  Scores scores;
  std::optional<NoiseSnr> snr;
};

// Which weights the experiment is about: those of both models, and what sigma is of.
Result<std::string> HashPair(const Setup& setup, const std::string& per) {
  RAM_ASSIGN_OR_RETURN(const std::string original, HashWeights(*setup.original.checkpoint));
  RAM_ASSIGN_OR_RETURN(const std::string compressed, HashWeights(*setup.compressed.checkpoint));
  return Sha256Hex(fmt::format("{}\n{}\n{}", original, compressed, per));
}

Result<std::unique_ptr<Setup>> Prepare(const Options& options, Context& context) {
  auto setup = std::make_unique<Setup>();
  RAM_ASSIGN_OR_RETURN(setup->original, options.run.Open(options.model));
  RAM_ASSIGN_OR_RETURN(setup->compressed, options.run.Open(options.like));
  Result<std::unique_ptr<NoisyWeights>> mirrored = NoisyWeights::Make(
      *setup->original.source, *setup->compressed.source, {.kind = Noise::Kind::kAntithetic});
  if (!mirrored) {
    return Error{mirrored.error().code, fmt::format("{} --like {}: {}", options.model, options.like,
                                                    mirrored.error().message)};
  }
  RAM_ASSIGN_OR_RETURN(setup->engine, options.run.MakeEngine(context));
  RAM_ASSIGN_OR_RETURN(Tokenizer tokenizer,
                       Tokenizer::Open(setup->original.checkpoint->directory()));
  setup->tokenizer = std::move(tokenizer);
  RAM_ASSIGN_OR_RETURN(const Text text, options.text.Read());
  TextOptions cutting = options.text;
  if (cutting.windows == 0) cutting.windows = kDefaultWindows;
  RAM_ASSIGN_OR_RETURN(setup->cut,
                       cutting.Cut(text, *setup->tokenizer, setup->original.graph.max_context));
  NoteMissing(setup->cut, context);
  RAM_ASSIGN_OR_RETURN(setup->memory, options.run.MemoryBytes());
  RAM_ASSIGN_OR_RETURN(setup->errors, (*mirrored)->MeasureLevels(&context.pool()));

  setup->start.model = DescribeModel(setup->original);
  setup->folder = options.output.empty() ? setup->start.model.name + ".noise" : options.output;
  RAM_ASSIGN_OR_RETURN(setup->start.model.weights_hash, HashPair(*setup, options.per));
  setup->start.numerics = DescribeNumerics(options.run, *setup->engine);
  setup->start.text = {text.name, Sha256Hex(text.bytes), 0, 0};
  setup->start.protocol = setup->cut.protocol.name;
  setup->start.settings = setup->cut.settings;
  std::error_code error;
  fs::create_directories(setup->folder, error);
  if (error) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("{}: {}", setup->folder.string(), error.message())};
  }
  return setup;
}

std::string DoseText(double dose) { return fmt::format("{:g}", dose); }

// The original, the compressed model, its mirror image, then every control at every dose. Doses
// other than 1 are run with Gaussian noise only: they show how harm grows, not what causes it.
std::vector<Condition> PlanConditions(const Options& options, const Setup& setup) {
  std::vector<Condition> conditions = {
      {std::string(kOriginalCondition), setup.original.source.get(), {}},
      {std::string(kCompressedCondition), setup.compressed.source.get(), {}},
      {std::string(kAntitheticCondition), nullptr, Noise{.kind = Noise::Kind::kAntithetic}}};
  std::vector<double> doses = options.doses;
  std::ranges::sort(doses);
  for (const Noise::Kind kind : kControls) {
    if (std::ranges::find(options.controls, NoiseKindName(kind)) == options.controls.end()) {
      continue;
    }
    for (const double dose : doses) {
      if (dose != 1 && kind != Noise::Kind::kGaussian) continue;
      for (uint64_t seed = 1; seed <= options.seeds; ++seed) {
        conditions.push_back(
            {NoiseConditionName({std::string(NoiseKindName(kind)), dose, seed}), nullptr,
             Noise{
                 .kind = kind, .dose = dose, .seed = seed, .per_tensor = options.per == "tensor"}});
      }
    }
  }
  return conditions;
}

// Scores that an earlier run left in the file, or the beginning of new ones.
Result<Scores> TakeEarlier(const fs::path& path, const Scores& start, bool restart) {
  if (restart || !fs::exists(path)) return start;
  RAM_ASSIGN_OR_RETURN(Scores earlier, ReadScores(path));
  const auto run = [](const Scores& scores) {
    return std::tie(scores.model.name, scores.model.weights_hash, scores.protocol, scores.settings,
                    scores.text.sha256, scores.numerics.engine, scores.numerics.precision);
  };
  if (run(earlier) != run(start)) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("{} holds scores of another experiment ({}); --restart replaces them",
                             path.string(), earlier.settings)};
  }
  return earlier;
}

// Progress of one condition as that of its part of all.
Watcher PartOf(const Watcher& all, size_t index, size_t num, const std::string& name) {
  return {[&all, index, num, &name](const Progress& progress) {
            all.Report({progress.stage, index * progress.total + progress.done,
                        num * progress.total, name, progress.unit});
          },
          all.cancelled};
}

Result<Scored> RunCondition(const Setup& setup, const Condition& condition, bool restart,
                            const Watcher& watcher, Context& context) {
  Scored scored;
  const WeightSource* source = condition.source;
  std::unique_ptr<NoisyWeights> noisy;
  if (condition.noise) {
    RAM_ASSIGN_OR_RETURN(noisy, NoisyWeights::Make(*setup.original.source, *setup.compressed.source,
                                                   *condition.noise));
    source = noisy.get();
    RAM_ASSIGN_OR_RETURN(const std::vector<NoiseLevel> levels,
                         noisy->MeasureLevels(&context.pool()));
    scored.snr = SummarizeLevels(levels);
  }
  Scores start = setup.start;
  start.model.name = condition.name;
  if (source == setup.compressed.source.get()) {
    const ScoredModel described = DescribeModel(setup.compressed);
    start.model.bytes = described.bytes;
    start.model.bits_per_weight = described.bits_per_weight;
  }
  const fs::path path = setup.folder / (condition.name + ".scores");
  RAM_ASSIGN_OR_RETURN(scored.scores, TakeEarlier(path, start, restart));
  const std::vector<Window>& windows = setup.cut.set.windows;
  if (scored.scores.windows.size() + 1 == UnitBounds(windows).size()) return scored;

  // The graph is the original's: for the compressed model it says the same.
  RAM_ASSIGN_OR_RETURN(const EvaluationPlan plan,
                       PlanEvaluation(*source, setup.original.graph, *setup.engine,
                                      WindowLengths(windows), setup.memory));
  Evaluator evaluator(*setup.engine, *source, setup.original.graph, plan,
                      fs::temp_directory_path());
  const auto text_of = [&](const Window& window) {
    return setup.tokenizer->Decode(std::span(window.ids).subspan(window.first_scored), false);
  };
  const Status status =
      ScoreWindows(*setup.engine, evaluator, windows, text_of, watcher, nullptr, &scored.scores);
  if (!status) {
    return Error{status.error().code,
                 fmt::format("{}: {}", condition.name, status.error().message)};
  }
  RAM_RETURN_IF_ERROR(WriteScores(scored.scores, path));
  return scored;
}

WindowScores NllOf(const Scores& scores) {
  WindowScores nll;
  for (const ScoredWindow& window : scores.windows) nll.push_back(window.nll);
  return nll;
}

// Conditions whose noise is not of the size it should be.
std::vector<std::string> GateSentences(const std::vector<Condition>& conditions,
                                       const std::vector<Scored>& scored) {
  std::vector<std::string> sentences;
  for (size_t c = 0; c < conditions.size(); ++c) {
    if (!scored[c].snr) continue;
    const NoiseSnr& snr = *scored[c].snr;
    if (std::abs(snr.realised.mean - snr.target.mean) < kSnrTolerance_db &&
        std::abs(snr.realised.pooled - snr.target.pooled) < kSnrTolerance_db) {
      continue;
    }
    sentences.push_back(fmt::format(
        "The noise of {} is not of the size it should be: SNR {:.2f} dB (pooled {:.2f}), wanted "
        "{:.2f} (pooled {:.2f}) to within {} dB; take its numbers with care.",
        conditions[c].name, snr.realised.mean, snr.realised.pooled, snr.target.mean,
        snr.target.pooled, kSnrTolerance_db));
  }
  return sentences;
}

// How far realised SNRs are from their targets at most [dB]: means and pooled values.
double LargestMiss(const std::vector<Scored>& scored) {
  double largest = 0;
  for (const Scored& one : scored) {
    if (!one.snr) continue;
    largest = std::max({largest, std::abs(one.snr->realised.mean - one.snr->target.mean),
                        std::abs(one.snr->realised.pooled - one.snr->target.pooled)});
  }
  return largest;
}

std::vector<Cell> EffectCells(const std::string& name, const NoiseEffect& effect) {
  const Interval& interval = effect.trimmed.interval;
  const double width = interval.high - interval.low;
  return {name, ChangeText(effect.corpus.value, width), ChangeText(effect.trimmed.value, width),
          fmt::format("{:+.2f} … {:+.2f} %", 100 * std::expm1(interval.low),
                      100 * std::expm1(interval.high)),
          std::isnan(effect.median_shift) ? std::string() : ChangeText(effect.median_shift, width)};
}

std::string ZText(double z) { return std::isnan(z) ? std::string() : fmt::format("{:+.1f}", z); }

std::string ResultText(const Options& options, const Setup& setup,
                       const std::vector<Scored>& scored, const NoiseResult& result,
                       const std::vector<std::string>& sentences, const Style& style) {
  const SnrSummary errors = SummarizeLevels(setup.errors).target;
  Table table({{"condition", Align::kLeft, Column::Kind::kName, false},
               {"corpus", Align::kRight, Column::Kind::kText, false},
               {"typical", Align::kRight, Column::Kind::kText, false},
               {"95 % interval", Align::kRight, Column::Kind::kText, false},
               {"median", Align::kRight, Column::Kind::kText, false},
               {"z", Align::kRight, Column::Kind::kText, false},
               {"z corpus", Align::kRight, Column::Kind::kText, true},
               {"z median", Align::kRight, Column::Kind::kText, true}});
  table.AddRow(EffectCells("compressed", result.compressed));
  table.AddRow(EffectCells("antithetic", result.antithetic));
  table.AddRow(EffectCells("by direction", result.first_order));
  table.AddRow(EffectCells("by size", result.second_order));
  table.AddRule();
  for (const ControlEffect& control : result.controls) {
    NoiseEffect shown = control.average;  // Its interval, around the means that z is about.
    shown.corpus.value = control.mean.corpus;
    shown.trimmed.value = control.mean.trimmed;
    shown.median_shift = control.mean.median_shift;
    std::vector<Cell> cells =
        EffectCells(control.dose == 1 ? control.name
                                      : fmt::format("{} ×{}", control.name, DoseText(control.dose)),
                    shown);
    for (const double z : {control.z.trimmed, control.z.corpus, control.z.median_shift}) {
      cells.emplace_back(ZText(z));
    }
    table.AddRow(std::move(cells));
  }
  std::string text =
      Heading("Noise control", style) +
      Facts({{"model", fmt::format("{}, against {}", options.model, options.like)},
             {"text", fmt::format("{}: {}, {}", setup.start.text.name, setup.start.protocol,
                                  setup.start.settings)},
             {"errors", fmt::format("{}: SNR {:.1f} dB on average ({:.1f} … {:.1f}), {:.1f} pooled",
                                    Counted(setup.errors.size(), "tensor"), errors.mean, errors.min,
                                    errors.max, errors.pooled)},
             {"noise",
              fmt::format("{} for each control, sigma per {}; SNR met to {:.4f} dB",
                          Counted(options.seeds, "seed"), options.per, LargestMiss(scored))}},
            style) +
      "\n" + table.Text(style) + "\n";
  for (const std::string& sentence : sentences) text += Wrap(sentence, style, 2, 4);
  return text;
}

OrderedJson EffectJson(const NoiseEffect& effect) {
  return {{"corpus", TestedJson(effect.corpus)},
          {"trimmed", TestedJson(effect.trimmed)},
          {"hodges_lehmann", TestedJson(effect.hodges_lehmann)},
          {"median_shift", NumberJson(effect.median_shift)}};
}

OrderedJson StatisticsJson(const NoiseStatistics& statistics) {
  return {{"corpus", NumberJson(statistics.corpus)},
          {"trimmed", NumberJson(statistics.trimmed)},
          {"median_shift", NumberJson(statistics.median_shift)}};
}

OrderedJson SnrJson(const SnrSummary& snr) {
  return {{"mean", NumberJson(snr.mean)},
          {"min", NumberJson(snr.min)},
          {"max", NumberJson(snr.max)},
          {"pooled", NumberJson(snr.pooled)}};
}

OrderedJson ConditionJson(const Condition& condition, const Scored& scored,
                          std::span<const double> tokens) {
  const WindowScores nll = NllOf(scored.scores);
  OrderedJson json = {{"name", condition.name}, {"perplexity", nullptr}, {"median", nullptr}};
  if (const auto summary = SummarizePerplexity(nll, tokens)) {
    json["perplexity"] = NumberJson(summary->corpus);
    json["median"] = NumberJson(summary->median);
    json["outliers"] = summary->num_outliers;
  }
  if (scored.snr) {
    json["snr_db"] = {{"target", SnrJson(scored.snr->target)},
                      {"realised", SnrJson(scored.snr->realised)},
                      {"largest_difference", NumberJson(scored.snr->largest_difference)}};
  }
  json["window_nll"] = nll;
  return json;
}

OrderedJson ResultJson(const Options& options, const Setup& setup,
                       const std::vector<Condition>& conditions, const std::vector<Scored>& scored,
                       const NoiseResult& result, const std::vector<std::string>& sentences) {
  OrderedJson controls = OrderedJson::array();
  for (const ControlEffect& control : result.controls) {
    OrderedJson seeds = OrderedJson::array();
    for (const NoiseEffect& seed : control.seeds) seeds.push_back(EffectJson(seed));
    controls.push_back({{"name", control.name},
                        {"dose", control.dose},
                        {"average", EffectJson(control.average)},
                        {"mean", StatisticsJson(control.mean)},
                        {"standard_deviation", StatisticsJson(control.deviation)},
                        {"z", StatisticsJson(control.z)},
                        {"seeds", seeds}});
  }
  OrderedJson all = OrderedJson::array();
  std::vector<double> tokens;
  for (const ScoredWindow& window : scored[0].scores.windows) {
    tokens.push_back(static_cast<double>(window.num_tokens));
  }
  for (size_t c = 0; c < conditions.size(); ++c) {
    all.push_back(ConditionJson(conditions[c], scored[c], tokens));
  }
  return {{"model", options.model},
          {"like", options.like},
          {"protocol", setup.start.protocol},
          {"settings", setup.start.settings},
          {"tokens_sha256", TokensSha256(scored[0].scores)},
          {"windows", tokens.size()},
          {"per", options.per},
          {"tensors", setup.errors.size()},
          {"error_snr_db", SnrJson(SummarizeLevels(setup.errors).target)},
          {"verdict", NoiseVerdictName(result.verdict)},
          {"corpus_verdict", NoiseVerdictName(result.corpus_verdict)},
          {"judged_by", result.controls[result.judged_by].name},
          {"sentences", sentences},
          {"compressed", EffectJson(result.compressed)},
          {"antithetic", EffectJson(result.antithetic)},
          {"first_order", EffectJson(result.first_order)},
          {"second_order", EffectJson(result.second_order)},
          {"controls", controls},
          {"conditions", all}};
}

Status RunNoise(const Options& options, Context& context) {
  if (std::ranges::find(options.doses, 1.0) == options.doses.end()) {
    return Error{ErrorCode::kInvalidArgument,
                 "--doses: 1 is missing, the noise that is as large as the errors"};
  }
  RAM_ASSIGN_OR_RETURN(const std::unique_ptr<Setup> setup, Prepare(options, context));
  const std::vector<Condition> conditions = PlanConditions(options, *setup);
  const Watcher watcher = context.MakeWatcher();
  std::vector<Scored> scored;
  for (size_t c = 0; c < conditions.size(); ++c) {
    RAM_ASSIGN_OR_RETURN(
        Scored one,
        RunCondition(*setup, conditions[c], options.restart,
                     PartOf(watcher, c, conditions.size(), conditions[c].name), context));
    scored.push_back(std::move(one));
  }
  context.EndProgress();
  std::vector<Scores> scores;
  for (const Scored& one : scored) scores.push_back(one.scores);
  RAM_ASSIGN_OR_RETURN(const NoiseExperiment experiment, MakeNoiseExperiment(scores));
  RAM_ASSIGN_OR_RETURN(const NoiseResult result, AnalyzeNoise(experiment));
  std::vector<std::string> sentences = NoiseSentences(result);
  for (std::string& sentence : GateSentences(conditions, scored)) {
    sentences.push_back(std::move(sentence));
  }
  context.Print(ResultText(options, *setup, scored, result, sentences, context.style()));
  context.Note(fmt::format("{}: scores of {}; ram compare says more about each",
                           setup->folder.string(), Counted(conditions.size(), "condition")));
  context.PrintJson(ResultJson(options, *setup, conditions, scored, result, sentences));
  return Done{};
}

}  // namespace

Verb AddEvalNoise(CLI::App& eval, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = eval.add_subcommand(
      "noise", "Whether compression does more, or less, than noise of the size of its errors");
  verb->add_option("MODEL", options->model, "The original model")->required();
  verb->add_option("--like", options->like, "The compressed model whose errors noise imitates")
      ->required();
  verb->add_option("--controls", options->controls,
                   "Kinds of noise: permuted, group, uniform, gaussian (default: all; the verdict "
                   "is by the first of these)")
      ->delimiter(',')
      ->check(CLI::IsMember({"permuted", "group", "uniform", "gaussian"}));
  verb->add_option("--doses", options->doses,
                   "Sizes of Gaussian noise, in units of the errors (default: 0.5,1,2,4)")
      ->delimiter(',')
      ->check(CLI::Range(0.001, 1000.0));
  verb->add_option("--seeds", options->seeds, "Of every kind of noise (default: 8)")
      ->check(CLI::Range(2, 1000));
  verb->add_option("--per", options->per,
                   "One sigma of Gaussian noise for every matrix (default) or tensor, which may "
                   "be a stack of experts")
      ->check(CLI::IsMember({"matrix", "tensor"}));
  options->text.Add(verb);
  verb->add_option("-o,--output", options->output,
                   "Folder for the scores of every condition (default: MODEL.noise here)");
  verb->add_flag("--restart", options->restart, "Do not go on from the scores that are there");
  options->run.Add(verb);
  return {verb, [options, &context] { return RunNoise(*options, context); }};
}

}  // namespace ram::cli
