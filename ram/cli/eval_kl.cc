// ram eval kl BASE MODEL...: how far models are from a base, token by token, over the whole
// vocabulary. The base runs once; its logits lie on disk while the models run.

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <filesystem>

#include "ram/base/bytes.h"
#include "ram/checkpoint/weights_hash.h"
#include "ram/cli/eval_options.h"
#include "ram/cli/kl_text.h"
#include "ram/cli/run_options.h"
#include "ram/cli/verb.h"
#include "ram/eval/divergence.h"
#include "ram/eval/divergence_file.h"
#include "ram/eval/divergence_pass.h"
#include "ram/eval/llama_logits.h"
#include "ram/eval/logit_cache.h"
#include "ram/runtime/generate.h"
#include "ram/writer/staged_file.h"

namespace ram::cli {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kSelfContext = 256;
constexpr uint64_t kSelfWindows = 32;
// A cache is the base's if the two diverge by no more than this on the first window [nats per
// token]: instruction sets differ by 1e-9, codes of 16 bits by as much.
constexpr double kSameBase = 1e-6;

struct Options {
  std::vector<std::string> models;
  TextOptions text;
  std::string source;
  std::string base_file;
  std::string save_base;
  std::string cache;
  std::string cache_type = "f32";
  uint64_t top_k = 0;
  bool restart = false;
  bool detail = false;
  std::string output;
  RunOptions run;
};

// A model with what it takes to run it over windows. Parts refer to those before them.
struct Runner {
  RunnableModel model;
  std::unique_ptr<Engine> engine;

  static Result<Runner> Open(const std::string& name, const Options& options, Context& context) {
    Runner runner;
    RAM_ASSIGN_OR_RETURN(runner.model, options.run.Open(name));
    RAM_ASSIGN_OR_RETURN(runner.engine, options.run.MakeEngine(context));
    return runner;
  }

  Status Run(std::span<const Window> windows, const Options& options, Context& context,
             const LogitsBody& body) const {
    RAM_ASSIGN_OR_RETURN(const uint64_t memory, options.run.MemoryBytes());
    const auto on_plan = [&](const EvaluationPlan& plan) {
      if (!options.run.memory.empty()) context.Note(EvaluationPlanText(plan, context.style()));
    };
    const Status status =
        RunScoredLogits(model, *engine, windows, memory, context.MakeWatcher(), on_plan, body);
    context.EndProgress();
    return status;
  }
};

// ---- Windows ----

// The first token of what a model writes on its own: what begins a text, else what ends one.
Result<int32_t> FirstToken(const RunnableModel& model) {
  for (const char* key : {"bos_token_id", "eos_token_id"}) {
    const Json* id = Find(model.checkpoint->config(), key);
    if (id != nullptr && id->is_array() && !id->empty()) id = &id->front();
    if (id != nullptr && id->is_number_integer()) return id->get<int32_t>();
  }
  RAM_ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Open(model.checkpoint->directory()));
  if (tokenizer.bos_id().has_value()) return *tokenizer.bos_id();
  if (tokenizer.eos_id().has_value()) return *tokenizer.eos_id();
  return Error{
      ErrorCode::kInvalidArgument,
      fmt::format("{}: no token that begins or ends a text, so it cannot write one", model.name)};
}

// Texts that the base writes: temperature 1, every one from the same first token.
Result<CutText> WriteText(const Runner& base, const Options& options, Context& context) {
  const uint64_t length = options.text.context != 0 ? options.text.context : kSelfContext;
  const uint64_t count = options.text.windows != 0 ? options.text.windows : kSelfWindows;
  RAM_ASSIGN_OR_RETURN(const int32_t first, FirstToken(base.model));
  GenerateOptions generate;
  generate.max_tokens = length - 1;
  generate.sampling.temperature = 1;
  generate.sampling.seed = options.text.seed;
  RAM_ASSIGN_OR_RETURN(generate.memory_bytes, options.run.MemoryBytes());
  const std::vector<TokenIds> prompts(count, TokenIds{first});
  GenerateStats stats;
  RAM_ASSIGN_OR_RETURN(const std::vector<TokenIds> texts,
                       Generate(
                           *base.engine, *base.model.source, base.model.graph, prompts, generate,
                           context.MakeWatcher(), [](size_t, int32_t) { return true; }, &stats));
  context.EndProgress();
  CutText cut;
  for (const TokenIds& text : texts) {
    Window window;
    window.ids.push_back(first);
    window.ids.insert(window.ids.end(), text.begin(), text.end());
    if (window.ids.size() < 2) continue;
    cut.set.windows.push_back(std::move(window));
  }
  cut.settings = fmt::format("written by the base, {} windows of {}, temperature 1, seed {}",
                             cut.set.windows.size(), length, options.text.seed);
  return cut;
}

Result<CutText> CutFor(const RunnableModel& model, const Text& text, const Options& options) {
  RAM_ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Open(model.checkpoint->directory()));
  RAM_ASSIGN_OR_RETURN(CutText cut, options.text.Cut(text, tokenizer));
  cut.settings = fmt::format("{}: {}, {}", text.name, cut.protocol.name, cut.settings);
  return cut;
}

// ---- The base ----

struct Base {
  std::unique_ptr<BaseLogits> logits;
  BaseFacts facts;
};

Result<LogitCacheInfo> InfoOf(const Runner& base, const CutText& cut, const Options& options) {
  LogitCacheInfo info;
  info.model = DescribeModel(base.model);
  RAM_ASSIGN_OR_RETURN(info.model.weights_hash, HashWeights(*base.model.checkpoint));
  info.numerics = DescribeNumerics(options.run, *base.engine);
  info.settings = cut.settings;
  info.form = options.cache_type == "f32" ? LogitForm::kF32 : LogitForm::kU16;
  info.vocabulary = base.model.graph.vocabulary;
  if (options.top_k == 0) return info;
  info.form = LogitForm::kTopK;
  info.top_k = options.top_k;
  if (info.top_k + 2 > info.vocabulary) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("--top-k {}: the vocabulary has {} tokens, so at most {} leave a tail",
                             info.top_k, info.vocabulary, info.vocabulary - 2)};
  }
  return info;
}

// Whether the disk of `path` has room for `bytes` more.
Status CheckRoom(const fs::path& path, uint64_t bytes, const std::string& what) {
  const fs::path directory = path.has_parent_path() ? path.parent_path() : fs::path(".");
  std::error_code error;
  const fs::space_info space = fs::space(directory, error);
  if (error || space.available >= bytes) return Done{};
  return Error{
      ErrorCode::kNoSpace,
      fmt::format("{} take {}, {} has {} free; --windows takes fewer, --top-k 256 keeps "
                  "fewer of each, --cache FILE puts them elsewhere",
                  what, FormatBytes(bytes), directory.string(), FormatBytes(space.available))};
}

std::string SizeText(const LogitCacheInfo& info, uint64_t rows, uint64_t bytes) {
  if (info.form == LogitForm::kTopK) {
    return fmt::format("the {} most likely of {} after {} tokens, and the one that came, {}",
                       FormatCount(info.top_k), FormatCount(info.vocabulary), FormatCount(rows),
                       FormatBytes(bytes));
  }
  return fmt::format("logits of {} tokens x {} x {} bytes, {}", FormatCount(rows),
                     FormatCount(info.vocabulary), info.form == LogitForm::kF32 ? 4 : 2,
                     FormatBytes(bytes));
}

// Runs the base over all windows, into the cache and, if asked for, llama.cpp's file.
Status RunBase(const Runner& base, const LogitCacheInfo& info, std::span<const Window> windows,
               const fs::path& path, const Options& options, Context& context) {
  const uint64_t bytes = LogitCacheBytes(info, windows);
  const std::string what = SizeText(info, NumScored(windows), bytes);
  RAM_RETURN_IF_ERROR(CheckRoom(path, bytes, "the base's logits"));
  std::optional<StagedFile> llama_file;
  std::optional<LlamaLogitsWriter> llama;
  if (!options.save_base.empty()) {
    RAM_ASSIGN_OR_RETURN(const uint64_t llama_bytes, LlamaLogitsBytes(windows, info.vocabulary));
    RAM_RETURN_IF_ERROR(CheckRoom(options.save_base, llama_bytes, "the contents of --save-base"));
    RAM_ASSIGN_OR_RETURN(StagedFile staged,
                         StagedFile::Create(options.save_base, options.restart, llama_bytes));
    llama_file.emplace(std::move(staged));
    RAM_ASSIGN_OR_RETURN(llama,
                         LlamaLogitsWriter::Start(llama_file->file(), windows, info.vocabulary));
  }
  context.Note(fmt::format("base: {}", what));
  RAM_ASSIGN_OR_RETURN(StagedFile staged, StagedFile::Create(path, /*overwrite=*/true, bytes));
  RAM_ASSIGN_OR_RETURN(LogitCacheWriter writer,
                       LogitCacheWriter::Start(staged.file(), info, windows));
  const LogitsBody body = [&](const LogitBlock& block) {
    return ForRows(base.engine->pool(), block, [&](uint64_t r, size_t) -> Status {
      RAM_RETURN_IF_ERROR(writer.WriteRow(block.first_row + r, RowOf(block, r)));
      return llama ? llama->WriteRow(block.first_row + r, RowOf(block, r)) : Done{};
    });
  };
  RAM_RETURN_IF_ERROR(base.Run(windows, options, context, body));
  RAM_RETURN_IF_ERROR(writer.Finish());
  RAM_RETURN_IF_ERROR(staged.Publish());
  if (!llama_file) return Done{};
  RAM_RETURN_IF_ERROR(llama_file->Publish());
  context.Note(fmt::format("{} written", options.save_base));
  return Done{};
}

std::string FormText(const LogitCacheInfo& info) {
  switch (info.form) {
    case LogitForm::kF32:
      return "logits of f32";
    case LogitForm::kU16:
      return "logits of u16";
    case LogitForm::kTopK:
      return fmt::format("the {} most likely tokens", info.top_k);
  }
  return "";
}

// That a cache from an earlier run is of this base: by what its header says, and by running the
// first window again, because other weights of the same shapes have the same header.
Status CheckCache(const LogitCache& cache, const LogitCacheInfo& info, const Runner& base,
                  std::span<const Window> windows, const Options& options, Context& context) {
  const LogitCacheInfo& found = cache.info();
  std::string difference;
  if (found.model.structure_hash != info.model.structure_hash) {
    difference = fmt::format("the base {}", found.model.name);
  } else if (!found.model.weights_hash.empty() &&
             found.model.weights_hash != info.model.weights_hash) {
    difference = "a base of other weights";
  } else if (HashWindows(cache.windows()) != HashWindows(windows)) {
    difference = fmt::format("other tokens ({})", found.settings);
  } else if (found.numerics.engine != info.numerics.engine ||
             found.numerics.precision != info.numerics.precision) {
    difference = fmt::format("{}, precision {}", found.numerics.engine, found.numerics.precision);
  } else if (found.form != info.form || found.top_k != info.top_k) {
    difference = FormText(found);
  } else {
    double kl = 0;
    const LogitsBody body = [&](const LogitBlock& block) -> Status {
      std::vector<float> buffer;
      for (uint64_t r = 0; r < block.logits.rows; ++r) {
        const std::optional<double> total = LogTotal(RowOf(block, r));
        if (!total.has_value()) {
          kl = HUGE_VAL;
          continue;
        }
        const LogProbs run = {RowOf(block, r), *total};
        RAM_ASSIGN_OR_RETURN(const LogProbs row, cache.ReadRow(block.first_row + r, run, &buffer));
        kl += Diverge(row, run, block.targets[r]).kl;
      }
      return Done{};
    };
    RAM_RETURN_IF_ERROR(base.Run(windows.first(1), options, context, body));
    if (kl <= kSameBase * static_cast<double>(windows[0].num_scored())) return Done{};
    difference = "a base of other weights: its first window diverges";
  }
  return Error{ErrorCode::kInvalidArgument,
               fmt::format("{} holds {}; --restart replaces it", options.cache, difference)};
}

Result<Base> OpenBase(const Text* text, const Options& options, Context& context) {
  RAM_ASSIGN_OR_RETURN(const Runner runner, Runner::Open(options.models[0], options, context));
  RAM_ASSIGN_OR_RETURN(const CutText cut, text == nullptr ? WriteText(runner, options, context)
                                                          : CutFor(runner.model, *text, options));
  NoteMissing(cut, context);
  const std::vector<Window>& windows = cut.set.windows;
  RAM_ASSIGN_OR_RETURN(const LogitCacheInfo info, InfoOf(runner, cut, options));
  const bool temporary = options.cache.empty();
  const fs::path path =
      temporary ? fs::temp_directory_path() / fmt::format("ram-base-{}.logits", ::getpid())
                : fs::path(options.cache);
  std::unique_ptr<LogitCache> cache;
  const bool reuse =
      !temporary && !options.restart && fs::exists(path) && options.save_base.empty();
  if (!reuse) {
    if (!temporary && !options.restart && fs::exists(path)) {
      return Error{ErrorCode::kInvalidArgument,
                   fmt::format("{}: exists already, and --save-base needs the base to run; "
                               "--restart replaces it",
                               options.cache)};
    }
    RAM_RETURN_IF_ERROR(RunBase(runner, info, windows, path, options, context));
  }
  auto opened = LogitCache::Open(path);
  std::error_code error;
  if (temporary) fs::remove(path, error);  // Its bytes stay until it is closed.
  if (!opened) return opened.error();
  cache = *std::move(opened);
  if (reuse) RAM_RETURN_IF_ERROR(CheckCache(*cache, info, runner, windows, options, context));

  Base base;
  base.facts.name = info.model.name;
  base.facts.text = cut.settings;
  base.facts.own_kl_mean = cache->own_kl_mean();
  base.facts.own_kl_max = cache->own_kl_max();
  base.facts.kept =
      SizeText(info, cache->num_rows(), LogitCacheBytes(info, windows)) +
      (info.form == LogitForm::kF32   ? ", exact"
       : info.form == LogitForm::kU16 ? fmt::format("; own divergence {:.2g}, at most {:.2g}",
                                                    cache->own_kl_mean(), cache->own_kl_max())
                                      : "; the others as one") +
      (reuse ? fmt::format("; from {}", options.cache) : "");
  base.logits = std::move(cache);
  return base;
}

Result<Base> OpenLlamaBase(const Options& options) {
  RAM_ASSIGN_OR_RETURN(std::unique_ptr<LlamaLogits> logits, LlamaLogits::Open(options.base_file));
  Base base;
  base.facts.name = fs::path(options.base_file).filename().string();
  base.facts.text =
      fmt::format("the tokens in that file, {} windows of {}, BOS {}", logits->windows().size(),
                  logits->windows()[0].ids.size(),
                  options.text.bos == "none" ? "as it is there" : "in place of the first token");
  base.facts.kept = "16 bits, 16 nats deep, as llama.cpp keeps and sums them";
  base.logits = std::move(logits);
  return base;
}

// ---- Models ----

Status CheckVocabulary(const RunnableModel& model, uint64_t vocabulary) {
  if (model.graph.vocabulary == vocabulary) return Done{};
  return Error{
      ErrorCode::kInvalidArgument,
      fmt::format("{}: a vocabulary of {} cannot be compared with the base's {}", model.name,
                  FormatCount(model.graph.vocabulary), FormatCount(vocabulary))};
}

// That every model can be compared with the first one, before that one runs for hours.
Status CheckModels(const Text* text, const Options& options) {
  RAM_ASSIGN_OR_RETURN(const RunnableModel base, options.run.Open(options.models[0]));
  std::string base_hash;
  if (text != nullptr) {
    RAM_ASSIGN_OR_RETURN(const CutText cut, CutFor(base, *text, options));
    base_hash = HashWindows(cut.set.windows);
  }
  for (size_t m = 1; m < options.models.size(); ++m) {
    RAM_ASSIGN_OR_RETURN(const RunnableModel model, options.run.Open(options.models[m]));
    RAM_RETURN_IF_ERROR(CheckVocabulary(model, base.graph.vocabulary));
    // Weights alone are enough to be compared.
    if (text == nullptr || !fs::exists(model.checkpoint->directory() / "tokenizer.json")) continue;
    RAM_ASSIGN_OR_RETURN(const CutText cut, CutFor(model, *text, options));
    if (HashWindows(cut.set.windows) == base_hash) continue;
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("{}: its tokenizer makes other tokens of the text than the base's",
                             model.name)};
  }
  return Done{};
}

// The windows as this model is fed them: --base-file leaves the first token to the options.
Result<std::vector<Window>> WindowsFor(const RunnableModel& model, const BaseLogits& base,
                                       const Options& options) {
  RAM_RETURN_IF_ERROR(CheckVocabulary(model, base.vocabulary()));
  std::vector<Window> windows = base.windows();
  if (!options.base_file.empty() && options.text.bos == "replace") {
    RAM_ASSIGN_OR_RETURN(const int32_t first, FirstToken(model));
    for (Window& window : windows) window.ids[0] = first;
  }
  return windows;
}

Result<Divergence> RunModel(const std::string& name, const Base& base, const Options& options,
                            Context& context) {
  RAM_ASSIGN_OR_RETURN(const Runner runner, Runner::Open(name, options, context));
  const BaseLogits& logits = *base.logits;
  RAM_ASSIGN_OR_RETURN(const std::vector<Window> windows,
                       WindowsFor(runner.model, logits, options));
  Divergence result;
  result.model = DescribeModel(runner.model);
  result.numerics = DescribeNumerics(options.run, *runner.engine);
  result.tokens.resize(logits.num_rows());
  const uint64_t every = logits.whole_every();
  std::vector<TokenDivergence> exact(every == 0 ? 0 : (logits.num_rows() + every - 1) / every);
  const LogitsBody body = MakeDivergenceMeter(runner.engine->pool(), logits, result.tokens, exact);
  const auto start = std::chrono::steady_clock::now();
  RAM_RETURN_IF_ERROR(runner.Run(windows, options, context, body));
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  result.summary = SummarizeDivergence(result.tokens, base.facts.window_tokens);
  if (every != 0) {
    result.tail = MeasureTail(result.tokens, exact, every, base.facts.window_tokens);
  }
  return result;
}

Status CheckOptions(const Options& options) {
  const bool has_file = !options.base_file.empty();
  if (options.text.protocol == "lm-eval") {
    return Error{ErrorCode::kInvalidArgument,
                 "--protocol lm-eval scores documents in parts that are not independent; ram eval "
                 "kl takes the protocols whose windows are"};
  }
  if (has_file && !(options.cache.empty() && options.save_base.empty() && options.source.empty() &&
                    options.text.data.empty() && options.text.prefix.empty() &&
                    options.text.context == 0 && options.text.windows == 0)) {
    return Error{ErrorCode::kInvalidArgument,
                 "--base-file brings its own tokens and logits: --text, --data, --context, "
                 "--windows, --prefix-tokens, --cache and --save-base do not go with it"};
  }
  if (has_file && options.text.bos == "prepend") {
    return Error{ErrorCode::kInvalidArgument,
                 "--base-file: windows have the length of the file's; --bos replace is what "
                 "llama.cpp does"};
  }
  if (!options.source.empty() && !(options.text.data.empty() && options.text.prefix.empty() &&
                                   options.text.bos == "none" && options.save_base.empty())) {
    return Error{ErrorCode::kInvalidArgument,
                 "--text self is text that the base writes: --data, --bos, --prefix-tokens and "
                 "--save-base do not go with it"};
  }
  if (!has_file && options.models.size() < 2 && options.cache.empty() &&
      options.save_base.empty()) {
    return Error{ErrorCode::kInvalidArgument,
                 "give a model beside the base, or --cache or --save-base to keep the base's "
                 "logits"};
  }
  return Done{};
}

Status RunKl(const Options& options, Context& context) {
  RAM_RETURN_IF_ERROR(CheckOptions(options));
  const bool has_file = !options.base_file.empty();
  std::optional<Text> text;
  if (!has_file && options.source.empty()) {
    RAM_ASSIGN_OR_RETURN(text, options.text.Read());
  }
  const Text* read = text ? &*text : nullptr;
  if (!has_file) RAM_RETURN_IF_ERROR(CheckModels(read, options));
  RAM_ASSIGN_OR_RETURN(Base base,
                       has_file ? OpenLlamaBase(options) : OpenBase(read, options, context));
  for (const Window& window : base.logits->windows()) {
    base.facts.window_tokens.push_back(window.num_scored());
  }
  std::vector<Divergence> models;
  for (size_t m = has_file ? 0 : 1; m < options.models.size(); ++m) {
    RAM_ASSIGN_OR_RETURN(Divergence model, RunModel(options.models[m], base, options, context));
    if (!options.output.empty()) {
      std::error_code error;
      fs::create_directories(options.output, error);
      const fs::path path = fs::path(options.output) / (model.model.name + ".kl.safetensors");
      RAM_RETURN_IF_ERROR(WriteDivergence({base.facts.name,
                                           base.facts.text,
                                           model.model.name,
                                           {},
                                           model.tokens,
                                           base.facts.window_tokens},
                                          path));
      context.Note(fmt::format("{} written", path.string()));
    }
    models.push_back(std::move(model));
  }
  context.Print(KlText(base.facts, models, options.detail, context.style()));
  context.PrintJson(KlJson(base.facts, models));
  return Done{};
}

}  // namespace

Verb AddEvalKl(CLI::App& eval, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = eval.add_subcommand("kl", "How far models are from a base");
  verb->add_option("MODEL", options->models,
                   "The base, then the models to compare with it; with --base-file models only")
      ->required();
  options->text.Add(verb);
  verb->add_option("--text", options->source,
                   "self: text that the base writes itself (temperature 1, --seed), 32 windows of "
                   "256 unless --windows and --context say otherwise")
      ->check(CLI::IsMember({"self"}));
  verb->add_option("--cache", options->cache,
                   "Keep the base's logits in this file, or take them from it (default: a "
                   "temporary file, in TMPDIR)");
  verb->add_option("--cache-type", options->cache_type,
                   "f32 (default, exact) or u16 (half the size; its own error is printed)")
      ->check(CLI::IsMember({"f32", "u16"}));
  verb->add_option("--top-k", options->top_k,
                   "Keep only the N tokens that are most likely to the base, the others as one: "
                   "divergences come out a little low, by an error that is measured and printed")
      ->check(CLI::Range(kLeastTopK, uint64_t{1} << 24))
      ->excludes("--cache-type");
  verb->add_option("--base-file", options->base_file,
                   "The base is a file of llama-perplexity --kl-divergence-base");
  verb->add_option("--save-base", options->save_base,
                   "Write such a file too (needs --protocol llama.cpp)");
  verb->add_flag("--restart", options->restart, "Replace what --cache and --save-base name");
  verb->add_flag("--detail", options->detail, "Quantiles of every model, also of more than three");
  verb->add_option("-o,--output", options->output,
                   "A folder for NAME.kl.safetensors: the numbers of every token");
  options->run.Add(verb);
  return {verb, [options, &context] { return RunKl(*options, context); }};
}

}  // namespace ram::cli
