// ram eval perplexity MODEL...: scores of a text, window by window.

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <filesystem>

#include "ram/base/bytes.h"
#include "ram/base/hash.h"
#include "ram/cli/eval_options.h"
#include "ram/cli/run_options.h"
#include "ram/cli/verb.h"
#include "ram/eval/score_windows.h"
#include "ram/eval/scores.h"
#include "ram/eval/windows.h"
#include "ram/report/compare_table.h"
#include "ram/stats/perplexity.h"
#include "ram/text/tokenizer.h"

namespace ram::cli {
namespace {

constexpr auto kSaveEvery = std::chrono::seconds(30);

struct Options {
  std::vector<std::string> models;
  TextOptions text;
  std::string output;
  bool restart = false;
  std::string until;
  std::string against;
  RunOptions run;
};

Scores StartScores(const RunnableModel& model, const Engine& engine, const Options& options,
                   const CutText& cut, const Text& text) {
  Scores scores;
  scores.model = DescribeModel(model);
  scores.numerics = DescribeNumerics(options.run, engine);
  scores.text = {text.name, Sha256Hex(text.bytes), 0, 0};
  scores.protocol = cut.protocol.name;
  scores.settings = cut.settings;
  return scores;
}

// Whether a file holds a part of the same run.
bool IsSameRun(const Scores& a, const Scores& b) {
  return a.model.structure_hash == b.model.structure_hash && a.protocol == b.protocol &&
         a.settings == b.settings && a.text.sha256 == b.text.sha256 &&
         a.numerics.engine == b.numerics.engine && a.numerics.precision == b.numerics.precision;
}

// 95 % interval of the perplexity ratio against other scores, as far as both go: its half width.
double HalfWidthAgainst(const Scores& scores, const Scores& other) {
  const size_t n = std::min(scores.windows.size(), other.windows.size());
  std::vector<double> differences;
  std::vector<double> tokens;
  for (size_t w = 0; w < n; ++w) {
    const auto weight = static_cast<double>(scores.windows[w].num_tokens);
    differences.push_back(weight * (scores.windows[w].nll - other.windows[w].nll));
    tokens.push_back(weight);
  }
  if (n < 3) return HUGE_VAL;
  const Estimate ratio = RatioEstimate(differences, tokens);
  return (ratio.interval.high - ratio.interval.low) / 2;
}

struct Evaluated {
  Scores scores;
  double seconds = 0;
  uint64_t new_tokens = 0;
};

std::filesystem::path OutputPath(const Options& options, const Scores& scores) {
  const std::string name = scores.model.name + ".scores";
  if (options.output.empty()) return name;
  if (options.models.size() > 1 || std::filesystem::is_directory(options.output)) {
    return std::filesystem::path(options.output) / name;
  }
  return options.output;
}

// Windows that an earlier run left in the file.
Result<bool> TakeEarlier(const std::filesystem::path& path, const Options& options,
                         Scores* scores) {
  if (options.restart || !std::filesystem::exists(path)) return false;
  RAM_ASSIGN_OR_RETURN(Scores earlier, ReadScores(path));
  if (!IsSameRun(earlier, *scores)) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("{} holds scores of another run ({}); --restart replaces it",
                             path.string(), earlier.settings)};
  }
  *scores = std::move(earlier);
  return true;
}

Result<Evaluated> EvaluateModel(const std::string& name, const Options& options, const Text& text,
                                Context& context) {
  RAM_ASSIGN_OR_RETURN(const RunnableModel model, options.run.Open(name));
  RAM_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, options.run.MakeEngine(context));
  RAM_ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Open(model.checkpoint->directory()));
  RAM_ASSIGN_OR_RETURN(const CutText cut, options.text.Cut(text, tokenizer));
  const std::vector<Window>& windows = cut.set.windows;
  RAM_ASSIGN_OR_RETURN(const uint64_t memory, options.run.MemoryBytes());
  RAM_ASSIGN_OR_RETURN(
      const EvaluationPlan plan,
      PlanEvaluation(*model.source, model.graph, *engine, WindowLengths(windows), memory));
  if (!options.run.memory.empty()) context.Note(EvaluationPlanText(plan, context.style()));
  Evaluator evaluator(*engine, *model.source, model.graph, plan,
                      std::filesystem::temp_directory_path());

  Evaluated done;
  done.scores = StartScores(model, *engine, options, cut, text);
  const std::filesystem::path path = OutputPath(options, done.scores);
  RAM_ASSIGN_OR_RETURN(const bool resumed, TakeEarlier(path, options, &done.scores));
  if (resumed) {
    context.Note(fmt::format("{}: {} of {} windows are there already", path.string(),
                             done.scores.windows.size(), windows.size()));
  }
  std::optional<Scores> against;
  double enough = 0;
  if (!options.against.empty()) {
    RAM_ASSIGN_OR_RETURN(against, ReadScores(options.against));
    std::string_view share = options.until;
    const std::optional<double> percent = TakeDecimal(&share);
    if (!percent.has_value() || (share != "%" && share != " %")) {
      return Error{ErrorCode::kInvalidArgument,
                   fmt::format("--until {}: expected a share such as 0.5%", options.until)};
    }
    enough = *percent / 100;
  }

  const uint64_t earlier_tokens = done.scores.num_tokens();
  const auto start = std::chrono::steady_clock::now();
  auto saved = start;
  Status saving = Done{};
  const ScoresBody body = [&](const Scores& scores) {
    const auto now = std::chrono::steady_clock::now();
    if (now - saved > kSaveEvery) {
      saving = WriteScores(scores, path);
      saved = now;
    }
    if (!saving) return false;
    return !against.has_value() || HalfWidthAgainst(scores, *against) > enough;
  };
  const auto text_of = [&](const Window& window) {
    return tokenizer.Decode(std::span(window.ids).subspan(window.first_scored), false);
  };
  const Status status =
      ScoreWindows(*engine, evaluator, windows, text_of, context.MakeWatcher(), body, &done.scores);
  context.EndProgress();
  RAM_RETURN_IF_ERROR(saving);
  if (!status) {  // What is done stays.
    if (!done.scores.windows.empty()) RAM_RETURN_IF_ERROR(WriteScores(done.scores, path));
    return status.error();
  }
  done.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  done.new_tokens = done.scores.num_tokens() - earlier_tokens;
  RAM_RETURN_IF_ERROR(WriteScores(done.scores, path));
  NoteMissing(cut, context);
  context.Note(fmt::format("{} written", path.string()));
  return done;
}

Status RunPerplexity(const Options& options, Context& context) {
  if (options.until.empty() != options.against.empty()) {
    return Error{ErrorCode::kInvalidArgument,
                 "--until needs --against, the scores that a paired interval is taken with, and "
                 "the other way round"};
  }
  if (!options.output.empty() && options.models.size() > 1) {
    std::error_code error;
    std::filesystem::create_directories(options.output, error);
  }
  RAM_ASSIGN_OR_RETURN(const Text text, options.text.Read());
  OrderedJson json = OrderedJson::array();
  for (const std::string& name : options.models) {
    RAM_ASSIGN_OR_RETURN(const Evaluated done, EvaluateModel(name, options, text, context));
    std::vector<double> nll;
    std::vector<double> tokens;
    for (const ScoredWindow& window : done.scores.windows) {
      nll.push_back(window.nll);
      tokens.push_back(static_cast<double>(window.num_tokens));
    }
    RAM_ASSIGN_OR_RETURN(const PerplexitySummary summary, SummarizePerplexity(nll, tokens));
    const double rate = done.seconds > 0 ? static_cast<double>(done.new_tokens) / done.seconds : 0;
    context.Print(
        Heading(done.scores.model.name, context.style()) +
        Facts({{"perplexity", fmt::format("{} ± {:.2g} % (corpus; windows are the unit)",
                                          PerplexityText(summary.corpus),
                                          100 * summary.log_corpus.standard_error)},
               {"median", fmt::format("{}; P95 {}, P99 {}, largest {}",
                                      PerplexityText(summary.median), PerplexityText(summary.p95),
                                      PerplexityText(summary.p99), PerplexityText(summary.max))},
               {"outliers", fmt::format("{} over 100", Counted(summary.num_outliers, "window"))},
               {"size",
                fmt::format("{}, {:.2f} bits per weight", FormatBytes(done.scores.model.bytes),
                            done.scores.model.bits_per_weight)},
               {"text", fmt::format("{}: {}, {}", done.scores.text.name, done.scores.protocol,
                                    done.scores.settings)},
               {"speed", fmt::format("{:.0f} tokens/s, {}", rate, done.scores.numerics.isa)}},
              context.style()) +
        "\n");
    json.push_back({{"model", name},
                    {"perplexity", summary.corpus},
                    {"mean_nll", summary.log_corpus.value},
                    {"standard_error", summary.log_corpus.standard_error},
                    {"median", summary.median},
                    {"p95", summary.p95},
                    {"p99", summary.p99},
                    {"max", summary.max},
                    {"outliers", summary.num_outliers},
                    {"windows", done.scores.windows.size()},
                    {"tokens", done.scores.num_tokens()},
                    {"window_nll", nll},
                    {"tokens_per_second", rate},
                    {"engine", done.scores.numerics.isa},
                    {"settings", done.scores.settings}});
  }
  if (options.models.size() > 1) {
    context.Note("ram compare *.scores says which of these differences are real");
  }
  context.PrintJson(json);
  return Done{};
}

}  // namespace

Verb AddEvalPerplexity(CLI::App& eval, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = eval.add_subcommand("perplexity", "How well models predict a text");
  verb->add_option("MODEL", options->models, "Model directories, ours or foreign")->required();
  options->text.Add(verb);
  verb->add_option("-o,--output", options->output,
                   "The scores file, or a folder for several (default: MODEL.scores here)");
  verb->add_flag("--restart", options->restart, "Do not go on from the scores that are there");
  verb->add_option("--until", options->until,
                   "Stop once the paired 95 % interval is this narrow, e.g. 0.5%");
  verb->add_option("--against", options->against, "With --until: scores to pair with");
  options->run.Add(verb);
  return {verb, [options, &context] { return RunPerplexity(*options, context); }};
}

}  // namespace ram::cli
