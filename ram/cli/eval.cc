// ram eval perplexity MODEL...: scores of a text, window by window.

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <numbers>
#include <optional>
#include <utility>

#include "ram/base/bytes.h"
#include "ram/base/hash.h"
#include "ram/checkpoint/weights_hash.h"
#include "ram/cli/eval_options.h"
#include "ram/cli/run_options.h"
#include "ram/cli/stats_json.h"
#include "ram/cli/verb.h"
#include "ram/eval/align.h"
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
  bool allow_different_numerics = false;
  RunOptions run;
};

Result<Scores> StartScores(const RunnableModel& model, const Engine& engine, const Options& options,
                           const CutText& cut, const Text& text) {
  Scores scores;
  scores.model = DescribeModel(model);
  RAM_ASSIGN_OR_RETURN(scores.model.weights_hash, HashWeights(*model.checkpoint));
  scores.numerics = DescribeNumerics(options.run, engine);
  scores.text = {text.name, Sha256Hex(text.bytes), 0, 0};
  for (const Window& window : cut.set.windows) {
    scores.text.words += window.words;
    scores.text.bytes += window.bytes;
  }
  scores.protocol = cut.protocol.name;
  scores.settings = cut.settings;
  return scores;
}

// What makes an earlier file another run, in words; empty if it holds a part of this one.
std::string FindOtherRun(const Scores& earlier, const Scores& start) {
  if (earlier.model.structure_hash != start.model.structure_hash) {
    return "of another model, " + earlier.model.name;
  }
  if (earlier.model.weights_hash.empty()) return "that do not say of which weights";
  if (earlier.model.weights_hash != start.model.weights_hash) {
    return fmt::format("of other weights than those in {}", start.model.name);
  }
  if (earlier.text.sha256 != start.text.sha256) return "of another text, " + earlier.text.name;
  if (earlier.protocol != start.protocol || earlier.settings != start.settings) {
    return fmt::format("of another run ({}, {})", earlier.protocol, earlier.settings);
  }
  if (earlier.numerics.engine != start.numerics.engine ||
      earlier.numerics.precision != start.numerics.precision) {
    return fmt::format("of another run ({}, {})", earlier.numerics.engine,
                       earlier.numerics.precision);
  }
  return "";
}

// When a run that was asked to stop early has seen enough: --until and --against.
class Until {
 public:
  // Reads the scores to pair with. `planned` is what the run will be about, without scores but with
  // all token hashes. kInvalidArgument: a share that is none, scores that cannot be paired.
  static Result<Until> Open(const Options& options, const Scores& planned) {
    const std::optional<double> percent = ParsePercent(options.until);
    if (!percent.has_value()) {
      return Error{ErrorCode::kInvalidArgument,
                   fmt::format("--until {}: expected a share such as 0.5%", options.until)};
    }
    Until until;
    until.enough_ = *percent / 100;
    until.name_ = options.against;
    until.align_.allow_different_numerics = options.allow_different_numerics;
    until.align_.common_windows = true;  // Either may have stopped early.
    RAM_ASSIGN_OR_RETURN(until.against_, ReadScores(options.against));
    if (const auto mismatch = FindMismatch(planned, until.against_, until.align_)) {
      return Error{ErrorCode::kInvalidArgument,
                   fmt::format("--against {}: cannot be paired with this run: {}", options.against,
                               *mismatch)};
    }
    return until;
  }

  // Whether half the paired 95 % interval of the perplexity ratio, over the windows that both have,
  // is narrow enough.
  bool IsEnough(const Scores& scores) const {
    const auto aligned = AlignScores({scores, against_}, {scores.model.name, name_}, align_);
    if (!aligned || aligned->tokens.size() < 3) return false;
    const std::vector<double>& tokens = aligned->tokens;
    std::vector<double> differences;
    for (size_t w = 0; w < tokens.size(); ++w) {
      differences.push_back(tokens[w] * (aligned->models[0].nll[w] - aligned->models[1].nll[w]));
    }
    const Estimate ratio = RatioEstimate(differences, tokens);
    return (ratio.interval.high - ratio.interval.low) / 2 <= enough_;
  }

 private:
  double enough_ = 0;
  std::string name_;
  Scores against_;
  AlignOptions align_;
};

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
  if (const std::string other = FindOtherRun(earlier, *scores); !other.empty()) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("{} holds scores {}; --restart replaces it", path.string(), other)};
  }
  *scores = std::move(earlier);
  return true;
}

// One of several models went wrong: which one.
Error NameModel(const RunnableModel& model, const Error& error) {
  if (error.message.starts_with(model.name)) return error;
  return {error.code, fmt::format("{}: {}", model.name, error.message)};
}

Result<Evaluated> EvaluateModel(const std::string& name, const Options& options, const Text& text,
                                Context& context) {
  RAM_ASSIGN_OR_RETURN(const RunnableModel model, options.run.Open(name));
  RAM_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, options.run.MakeEngine(context));
  RAM_ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Open(model.checkpoint->directory()));
  RAM_ASSIGN_OR_RETURN(const CutText cut,
                       options.text.Cut(text, tokenizer, model.graph.max_context));
  const std::vector<Window>& windows = cut.set.windows;
  RAM_ASSIGN_OR_RETURN(const uint64_t memory, options.run.MemoryBytes());
  RAM_ASSIGN_OR_RETURN(
      const EvaluationPlan plan,
      PlanEvaluation(*model.source, model.graph, *engine, WindowLengths(windows), memory));
  if (!options.run.memory.empty()) context.Note(EvaluationPlanText(plan, context.style()));
  Evaluator evaluator(*engine, *model.source, model.graph, plan,
                      std::filesystem::temp_directory_path());

  Evaluated done;
  RAM_ASSIGN_OR_RETURN(done.scores, StartScores(model, *engine, options, cut, text));
  std::optional<Until> until;
  if (!options.until.empty()) {
    Scores planned = done.scores;
    planned.token_hashes = HashUnits(windows);
    RAM_ASSIGN_OR_RETURN(until, Until::Open(options, planned));
  }
  const std::filesystem::path path = OutputPath(options, done.scores);
  RAM_ASSIGN_OR_RETURN(const bool resumed, TakeEarlier(path, options, &done.scores));
  if (resumed) {
    context.Note(fmt::format("{}: {} of {} windows are there already", path.string(),
                             done.scores.windows.size(), UnitBounds(windows).size() - 1));
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
    return !until.has_value() || !until->IsEnough(scores);
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
    return NameModel(model, status.error());
  }
  done.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  done.new_tokens = done.scores.num_tokens() - earlier_tokens;
  RAM_RETURN_IF_ERROR(WriteScores(done.scores, path));
  NoteMissing(cut, context);
  context.Note(fmt::format("{} written", path.string()));
  return done;
}

// Perplexity over another unit than tokens: ln of it, windows as what was drawn at random.
Estimate LogPerplexityPer(uint64_t ScoredWindow::*count, const Scores& scores) {
  std::vector<double> nll;
  std::vector<double> counts;
  for (const ScoredWindow& window : scores.windows) {
    nll.push_back(window.nll * static_cast<double>(window.num_tokens));
    counts.push_back(static_cast<double>(window.*count));
  }
  return RatioEstimate(nll, counts);
}

// Words and bytes, where the protocol counts them.
void AddTextRates(const Scores& scores, std::vector<std::pair<std::string, std::string>>* facts,
                  OrderedJson* json) {
  if (scores.windows[0].words == 0) return;
  const Estimate word = LogPerplexityPer(&ScoredWindow::words, scores);
  const Estimate byte = LogPerplexityPer(&ScoredWindow::bytes, scores);
  const double bits = byte.value / std::numbers::ln2;
  const double bits_error = byte.standard_error / std::numbers::ln2;
  uint64_t words = 0;
  uint64_t bytes = 0;
  for (const ScoredWindow& window : scores.windows) {
    words += window.words;
    bytes += window.bytes;
  }
  facts->push_back(
      {"per word", fmt::format("{} ± {:.2g} % over {} words", PerplexityText(std::exp(word.value)),
                               100 * word.standard_error, FormatCount(words))});
  facts->push_back({"per byte", fmt::format("{:.5f} ± {:.2g} % over {} bytes", std::exp(byte.value),
                                            100 * byte.standard_error, FormatCount(bytes))});
  facts->push_back({"bits per byte", fmt::format("{:.5f} ± {:.2g}", bits, bits_error)});
  (*json)["word_perplexity"] = std::exp(word.value);
  (*json)["byte_perplexity"] = std::exp(byte.value);
  (*json)["bits_per_byte"] = bits;
  (*json)["bits_per_byte_standard_error"] = NumberJson(bits_error);
  (*json)["words"] = words;
  (*json)["bytes"] = bytes;
}

Status PrintResult(const std::string& name, const Evaluated& done, Context& context,
                   OrderedJson* all) {
  const Scores& scores = done.scores;
  std::vector<double> nll;
  std::vector<double> tokens;
  for (const ScoredWindow& window : scores.windows) {
    nll.push_back(window.nll);
    tokens.push_back(static_cast<double>(window.num_tokens));
  }
  RAM_ASSIGN_OR_RETURN(const PerplexitySummary summary, SummarizePerplexity(nll, tokens));
  const double rate = done.seconds > 0 ? static_cast<double>(done.new_tokens) / done.seconds : 0;
  const bool documents = scores.windows[0].words != 0;
  OrderedJson json = {{"model", name},
                      {"perplexity", summary.corpus},
                      {"mean_nll", summary.log_corpus.value},
                      {"standard_error", summary.log_corpus.standard_error},
                      {"median", summary.median},
                      {"p95", summary.p95},
                      {"p99", summary.p99},
                      {"max", summary.max},
                      {"outliers", summary.num_outliers},
                      {"windows", scores.windows.size()},
                      {"tokens", scores.num_tokens()},
                      {"window_nll", nll},
                      {"tokens_per_second", rate},
                      {"engine", scores.numerics.isa},
                      {"settings", scores.settings}};
  std::vector<std::pair<std::string, std::string>> facts = {
      {"perplexity",
       fmt::format("{} ± {:.2g} % (corpus; {} are the unit)", PerplexityText(summary.corpus),
                   100 * summary.log_corpus.standard_error, documents ? "documents" : "windows")}};
  AddTextRates(scores, &facts, &json);
  facts.push_back(
      {"median", fmt::format("{}; P95 {}, P99 {}, largest {}", PerplexityText(summary.median),
                             PerplexityText(summary.p95), PerplexityText(summary.p99),
                             PerplexityText(summary.max))});
  facts.push_back(
      {"outliers", fmt::format("{} over 100",
                               Counted(summary.num_outliers, documents ? "document" : "window"))});
  facts.push_back(
      {"size", fmt::format("{}, {:.2f} bits per weight", FormatBytes(scores.model.bytes),
                           scores.model.bits_per_weight)});
  facts.push_back(
      {"text", fmt::format("{}: {}, {}", scores.text.name, scores.protocol, scores.settings)});
  facts.push_back({"speed", fmt::format("{:.0f} tokens/s, {}", rate, scores.numerics.isa)});
  context.Print(Heading(scores.model.name, context.style()) + Facts(facts, context.style()) + "\n");
  all->push_back(std::move(json));
  return Done{};
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
    RAM_RETURN_IF_ERROR(PrintResult(name, done, context, &json));
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
  verb->add_flag("--allow-different-numerics", options->allow_different_numerics,
                 "With --against: pair runs of other engines and precisions too");
  options->run.Add(verb);
  return {verb, [options, &context] { return RunPerplexity(*options, context); }};
}

}  // namespace ram::cli
