#include "ram/study/run_study.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <optional>
#include <utility>

#include "ram/base/bytes.h"
#include "ram/base/file.h"
#include "ram/base/hash.h"
#include "ram/compress/compress.h"
#include "ram/eval/divergence_pass.h"
#include "ram/eval/runnable_model.h"
#include "ram/study/study_folder.h"
#include "ram/writer/layout.h"
#include "ram/writer/staged_file.h"
#include "ram/writer/write_model.h"

namespace ram {
namespace {

namespace fs = std::filesystem;

// Results of other versions are not taken for ours.
constexpr std::string_view kKeyVersion = "ram.study.arm.v1";
constexpr std::string_view kOriginal = "original";

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// An arm that is to be run or was.
struct Job {
  const ArmSpec* spec = nullptr;  // Null: the original.
  std::string name;
  std::string size;             // Of plans.
  uint64_t budget_bytes = 0;    // Of plans.
  uint64_t bytes = 0;           // Of the others, before they are written.
  std::vector<Choice> choices;  // Of those that mlx_lm.convert or 16 bits decide.
  std::string made_from;        // Files of given models.
  std::string key;
  std::optional<ArmResult> result;
};

// What decides an arm besides the study's inputs.
std::string SpecText(const Job& job) {
  const ArmSpec& spec = *job.spec;
  switch (spec.kind) {
    case ArmSpec::Kind::kRounded:
      return fmt::format("rounded {}", DtypeName(spec.dtype));
    case ArmSpec::Kind::kUniform:
      return fmt::format("uniform {}", ChoiceName(spec.uniform));
    case ArmSpec::Kind::kRecipe:
      return fmt::format("recipe {} {}", spec.recipe, spec.uniform.group_size);
    case ArmSpec::Kind::kGiven:
      return fmt::format("given {}", job.made_from);
    case ArmSpec::Kind::kPlanned:
      break;
  }
  const Priors& priors = spec.request.priors;
  return fmt::format("plan {} {} {} {} shuffle {} floor {} in {} bytes",
                     ObjectiveName(spec.request.objective), QuantizerName(spec.quantizer),
                     priors.sha256, priors.origin, priors.shuffle_seed.value_or(0),
                     spec.request.floor_db, job.budget_bytes);
}

std::string ContentOf(const std::vector<Choice>& choices, Quantizer quantizer, Dtype dtype) {
  std::string text = fmt::format("{} {}", QuantizerName(quantizer), DtypeName(dtype));
  for (const Choice& choice : choices) text += " " + ChoiceName(choice);
  return Sha256Hex(text);
}

// Whether everything that is stored in 16 bits is of this type in the source too.
bool IsStoredAs(const OpenedModel& model, Dtype dtype) {
  return std::ranges::all_of(model.catalog.tensors, [&](const CatalogTensor& tensor) {
    if (tensor.kind == TensorKind::kVector32) return true;
    if (tensor.encoding != Encoding::kPlain || tensor.add_one) return false;
    return std::ranges::all_of(tensor.views, [&](const SourceView& view) {
      const TensorInfo* info = model.checkpoint.Find(view.source);
      return info != nullptr && info->dtype == dtype;
    });
  });
}

class Runner {
 public:
  Runner(const StudyOptions& options, OpenedModel model)
      : options_(options), model_(std::move(model)) {}

  Result<Study> Run();

 private:
  void Note(const std::string& text) const {
    if (options_.note) options_.note(text);
  }
  CompressOptions Compressing(Quantizer quantizer, const PlanRequest& request) const;

  Status CutWindows();
  Status OpenFolder();
  Status CheckGiven(const ArmSpec& arm, Job* job) const;
  Status MakeSizedJobs();
  Status MakePlannedJobs();
  Status MakeJobs();
  Status FindDone();

  LogitCacheInfo LogitsInfo() const;
  Status CheckRoom() const;
  Status RunOriginal();
  Status OpenLogits();
  Status RunPending();
  Result<fs::path> MakeModel(Job* job);
  Result<fs::path> MakePlanned(Job* job);
  Status RunJob(Job* job);
  Status Keep(Job* job);
  Scores ScoresOf(const Job& job) const;

  Study Collect() const;
  StudyArm ArmOf(const Job& job) const;

  const StudyOptions& options_;
  OpenedModel model_;
  RunnableModel original_;
  std::optional<Tokenizer> tokenizer_;
  CutText cut_;
  std::vector<uint64_t> window_tokens_;
  std::optional<StudyFolder> folder_;
  std::string inputs_hash_;

  std::vector<Job> jobs_;  // The original first.
  std::vector<StudySize> sizes_;
  std::vector<std::string> notes_;
  std::map<Quantizer, LoadedRates> rates_;  // With the prices of each quantizer.
  std::unique_ptr<LogitCache> logits_;
};

CompressOptions Runner::Compressing(Quantizer quantizer, const PlanRequest& request) const {
  CompressOptions compress;
  compress.request = request;
  compress.quantizer = quantizer;
  compress.cache_path = options_.cache_path;
  compress.overwrite = true;
  compress.keep_rates = options_.keep_models;
  compress.pool = &options_.engine->pool();
  compress.watcher = options_.watcher;
  return compress;
}

// ---- Before anything is run ----

Status Runner::CutWindows() {
  RAM_ASSIGN_OR_RETURN(original_, OpenRunnable(options_.model, options_.numerics));
  RAM_ASSIGN_OR_RETURN(tokenizer_, Tokenizer::Open(original_.checkpoint->directory()));
  RAM_ASSIGN_OR_RETURN(cut_, CutTextFor(options_.text, options_.cut, *tokenizer_));
  if (cut_.set.windows.size() < 2) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("{}: one window of {} tokens says nothing about chance; a study needs "
                             "at least two (--context, --windows)",
                             options_.text.name, cut_.protocol.context)};
  }
  for (const Window& window : cut_.set.windows) window_tokens_.push_back(window.num_scored());
  return Done{};
}

Status Runner::OpenFolder() {
  RAM_ASSIGN_OR_RETURN(const std::string files, HashModelFiles(model_.checkpoint.directory()));
  const std::vector<StudyInput> inputs = {
      {"the model's files", files},
      {"the text", Sha256Hex(options_.text.bytes)},
      {"the protocol", cut_.protocol.name},
      {"the windows", fmt::format("{}; {}", cut_.settings, HashWindows(cut_.set.windows))},
      {"the numerics", options_.described.engine},
      {"the precision", options_.described.precision},
      {"the form of the original's logits", options_.logits == LogitForm::kF32 ? "f32" : "u16"}};
  for (const StudyInput& input : inputs) inputs_hash_ += input.value + "\n";
  inputs_hash_ = Sha256Hex(inputs_hash_);
  RAM_ASSIGN_OR_RETURN(folder_, StudyFolder::Open(options_.folder, inputs, options_.restart));
  return Done{};
}

Status Runner::CheckGiven(const ArmSpec& arm, Job* job) const {
  RAM_ASSIGN_OR_RETURN(const RunnableModel given, OpenRunnable(arm.path, options_.numerics));
  if (given.graph.vocabulary != original_.graph.vocabulary) {
    return Error{
        ErrorCode::kInvalidArgument,
        fmt::format("{}: a vocabulary of {} cannot be compared with the original's {}", arm.path,
                    FormatCount(given.graph.vocabulary), FormatCount(original_.graph.vocabulary))};
  }
  const fs::path& directory = given.checkpoint->directory();
  std::error_code error;
  if (fs::exists(directory / "tokenizer.json", error)) {  // Weights alone are enough.
    RAM_ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Open(directory));
    RAM_ASSIGN_OR_RETURN(const CutText cut, CutTextFor(options_.text, options_.cut, tokenizer));
    if (HashWindows(cut.set.windows) != HashWindows(cut_.set.windows)) {
      return Error{ErrorCode::kInvalidArgument,
                   fmt::format("{}: its tokenizer makes other tokens of the text than the "
                               "original's",
                               arm.path)};
    }
  }
  job->bytes = given.checkpoint->file_bytes();
  RAM_ASSIGN_OR_RETURN(job->made_from, HashModelFiles(directory));
  return Done{};
}

Status Runner::MakeSizedJobs() {
  for (const ArmSpec& arm : options_.arms) {
    if (arm.kind == ArmSpec::Kind::kPlanned) continue;
    Job job;
    job.spec = &arm;
    job.name = arm.name;
    if (arm.kind == ArmSpec::Kind::kGiven) {
      RAM_RETURN_IF_ERROR(CheckGiven(arm, &job));
    } else {
      if (arm.kind == ArmSpec::Kind::kRounded && IsStoredAs(model_, arm.dtype)) {
        notes_.push_back(
            fmt::format("{}: the original is stored so already; it is this arm", arm.name));
        continue;
      }
      auto choices = ChoicesOfArm(arm, model_.catalog);
      if (!choices) {
        if (choices.error().code != ErrorCode::kUnsupported) return choices.error();
        notes_.push_back(choices.error().message);
        continue;
      }
      job.choices = *std::move(choices);
      job.bytes = LayOutModel(model_.catalog, job.choices).file_bytes;
    }
    if (arm.kind != ArmSpec::Kind::kRounded) {
      sizes_.push_back({arm.name, job.bytes, jobs_.size()});
    }
    jobs_.push_back(std::move(job));
  }
  return Done{};
}

Status Runner::MakePlannedJobs() {
  for (const StudyBudget& budget : options_.budgets) {
    sizes_.push_back({budget.label, budget.bytes, std::nullopt});
  }
  std::stable_sort(sizes_.begin(), sizes_.end(),
                   [](const StudySize& a, const StudySize& b) { return a.bytes < b.bytes; });
  for (const StudySize& size : sizes_) {
    for (const ArmSpec& arm : options_.arms) {
      if (arm.kind != ArmSpec::Kind::kPlanned) continue;
      Job job;
      job.spec = &arm;
      job.name = fmt::format("{}@{}", arm.name, size.label);
      job.size = size.label;
      job.budget_bytes = size.bytes;
      jobs_.push_back(std::move(job));
    }
  }
  const bool has_plans = std::ranges::any_of(
      options_.arms, [](const ArmSpec& arm) { return arm.kind == ArmSpec::Kind::kPlanned; });
  if (has_plans && sizes_.empty()) {
    return Error{ErrorCode::kInvalidArgument,
                 "nothing says how large the plans are to be: give --budget, or an arm that has a "
                 "size of its own, such as uniform-4-64"};
  }
  return Done{};
}

Status Runner::MakeJobs() {
  Job original;
  original.name = kOriginal;
  original.bytes = model_.checkpoint.file_bytes();
  jobs_.push_back(std::move(original));
  RAM_RETURN_IF_ERROR(MakeSizedJobs());
  return MakePlannedJobs();
}

Status Runner::FindDone() {
  size_t num_done = 0;
  for (Job& job : jobs_) {
    job.key = Sha256Hex(fmt::format("{}\n{}\n{}", kKeyVersion, inputs_hash_,
                                    job.spec == nullptr ? std::string(kOriginal) : SpecText(job)));
    job.result = folder_->Find(job.name, job.key);
    if (job.result) {
      ++num_done;
    } else if (folder_->Has(job.name)) {
      Note(fmt::format("{}: was made from something else; it is run again", job.name));
    }
  }
  if (num_done > 0) {
    Note(fmt::format("{}: {} of {} arms are there already", options_.folder.string(), num_done,
                     jobs_.size()));
  }
  return Done{};
}

// ---- Running ----

LogitCacheInfo Runner::LogitsInfo() const {
  LogitCacheInfo info;
  info.model = DescribeModel(original_);
  info.numerics = options_.described;
  info.settings = cut_.settings;
  info.form = options_.logits;
  info.vocabulary = original_.graph.vocabulary;
  return info;
}

// Says what the disk needs, before it does.
Status Runner::CheckRoom() const {
  const uint64_t logits = LogitCacheBytes(LogitsInfo(), cut_.set.windows);
  uint64_t largest = 0;
  uint64_t all = 0;
  for (const Job& job : jobs_) {
    if (job.result || job.spec == nullptr || job.spec->kind == ArmSpec::Kind::kGiven) continue;
    const uint64_t bytes = std::max(job.bytes, job.budget_bytes);
    largest = std::max(largest, bytes);
    all += bytes;
  }
  const uint64_t models = options_.keep_models ? all : largest;
  std::error_code error;
  const fs::space_info space = fs::space(options_.folder, error);
  if (error) return Done{};
  const uint64_t there =
      fs::exists(folder_->logits(), error) ? fs::file_size(folder_->logits(), error) : 0;
  Note(fmt::format("disk: {} for the original's logits until the end, {} for {}; {} are free",
                   FormatBytes(logits), FormatBytes(models),
                   options_.keep_models ? "models" : "one model at a time",
                   FormatBytes(space.available)));
  if (space.available + there >= logits + models) return Done{};
  return Error{ErrorCode::kNoSpace,
               fmt::format("{}: {} are needed on its disk, {} are free; --windows takes fewer, "
                           "--logits u16 halves the original's logits",
                           options_.folder.string(), FormatBytes(logits + models),
                           FormatBytes(space.available))};
}

// Runs the original and keeps its logits.
Status Runner::RunOriginal() {
  const LogitCacheInfo info = LogitsInfo();
  const std::vector<Window>& windows = cut_.set.windows;
  const uint64_t bytes = LogitCacheBytes(info, windows);
  Job& job = jobs_.front();
  std::vector<TokenDivergence> tokens(NumScored(windows));
  RAM_ASSIGN_OR_RETURN(StagedFile staged,
                       StagedFile::Create(folder_->logits(), /*overwrite=*/true, bytes));
  RAM_ASSIGN_OR_RETURN(LogitCacheWriter writer,
                       LogitCacheWriter::Start(staged.file(), info, windows));
  const LogitsBody body = [&](const LogitBlock& block) {
    return ForRows(options_.engine->pool(), block, [&](uint64_t r, size_t) -> Status {
      const std::span<const float> row = RowOf(block, r);
      RAM_RETURN_IF_ERROR(writer.WriteRow(block.first_row + r, row));
      const double nll = LogTotal(row).value_or(NAN) - row[static_cast<size_t>(block.targets[r])];
      TokenDivergence& token = tokens[block.first_row + r];  // From itself.
      token.base_nll = token.nll = nll;
      token.top5 = 1;
      token.same_top = true;
      return Done{};
    });
  };
  const double start = Now();
  RAM_RETURN_IF_ERROR(RunScoredLogits(original_, *options_.engine, windows, options_.memory_bytes,
                                      options_.watcher, nullptr, body));
  RAM_RETURN_IF_ERROR(writer.Finish());
  RAM_RETURN_IF_ERROR(staged.Publish());
  if (job.result) return Done{};  // Only its logits were missing.
  const ScoredModel described = DescribeModel(original_);
  job.result = ArmResult{
      job.key, std::string(kOriginal), described.bytes, described.bits_per_weight, Now() - start,
      "",      std::move(tokens)};
  return Keep(&job);
}

// The original's logits, from an earlier run if it left them.
Status Runner::OpenLogits() {
  if (logits_ != nullptr) return Done{};
  std::error_code error;
  if (!jobs_.front().result || !fs::exists(folder_->logits(), error)) {
    RAM_RETURN_IF_ERROR(RunOriginal());
  }
  RAM_ASSIGN_OR_RETURN(logits_, LogitCache::Open(folder_->logits()));
  if (options_.logits != LogitForm::kF32) {
    notes_.push_back(
        fmt::format("the original's logits were kept in 16 bits: their own divergence "
                    "is {:.2g}, at most {:.2g}",
                    logits_->own_kl_mean(), logits_->own_kl_max()));
  }
  return Done{};
}

// The folder of the plan; a note and an empty path where there is no plan of that size.
Result<fs::path> Runner::MakePlanned(Job* job) {
  const ArmSpec& spec = *job->spec;
  const CompressOptions compress = Compressing(spec.quantizer, spec.request);
  auto found = rates_.find(spec.quantizer);
  if (found == rates_.end()) {
    RAM_ASSIGN_OR_RETURN(LoadedRates measured, ram::Measure(model_, compress));
    found = rates_.emplace(spec.quantizer, std::move(measured)).first;
  }
  LoadedRates& rates = found->second;
  auto plan = MakeShippedPlan(model_, compress, job->budget_bytes, &rates);
  if (!plan) {
    if (plan.error().code != ErrorCode::kInvalidArgument) return plan.error();
    notes_.push_back(fmt::format("{}: {}", job->name, plan.error().message));
    return fs::path();
  }
  plan->rates_file = "rates.json";
  RAM_ASSIGN_OR_RETURN(job->choices, ChoicesOfPlan(model_.catalog, *plan));
  job->result->content = ContentOf(job->choices, spec.quantizer, model_.catalog.dtype);
  RAM_RETURN_IF_ERROR(WriteFileAtomically(folder_->plan(job->name), ToJsonText(*plan)));
  const auto same = std::ranges::find_if(jobs_, [&](const Job& other) {
    return &other != job && other.result && other.result->content == job->result->content &&
           !other.result->tokens.empty();
  });
  if (same != jobs_.end() && !options_.keep_models) {
    const std::string key = job->result->key;
    job->result = same->result;
    job->result->key = key;
    job->result->same_as = same->result->same_as.empty() ? same->name : same->result->same_as;
    job->result->seconds = 0;
    return fs::path();
  }
  const fs::path directory = folder_->model(job->name);
  const auto written = WritePlan(model_, compress, *plan, rates, "", directory);
  if (!written) return written.error();
  return directory;
}

// The folder that is run. Empty: there is nothing to run, and result or notes say why.
Result<fs::path> Runner::MakeModel(Job* job) {
  const ArmSpec& spec = *job->spec;
  if (spec.kind == ArmSpec::Kind::kPlanned) return MakePlanned(job);
  if (spec.kind == ArmSpec::Kind::kGiven) {
    job->result->content = job->made_from;
    return ResolveModel(spec.path);
  }
  const bool rounded = spec.kind == ArmSpec::Kind::kRounded;
  const Catalog catalog = rounded ? CatalogIn(model_.catalog, spec.dtype) : model_.catalog;
  job->result->content = ContentOf(job->choices, Quantizer::kRtn, catalog.dtype);
  WriteOptions write;
  write.quantizer = Quantizer::kRtn;
  write.overwrite = true;
  write.pool = &options_.engine->pool();
  write.watcher = options_.watcher;
  const fs::path directory = folder_->model(job->name);
  const auto written = WriteModel(model_.checkpoint, catalog, job->choices, write, directory);
  if (!written) return written.error();
  return directory;
}

Status Runner::RunJob(Job* job) {
  job->result = ArmResult{};
  job->result->key = job->key;
  RAM_ASSIGN_OR_RETURN(const fs::path directory, MakeModel(job));
  if (directory.empty()) {
    if (job->result->same_as.empty()) {
      job->result.reset();
      return Done{};
    }
    return Keep(job);
  }
  RAM_RETURN_IF_ERROR(OpenLogits());
  const double start = Now();
  RAM_ASSIGN_OR_RETURN(const RunnableModel model,
                       OpenRunnable(directory.string(), options_.numerics));
  ArmResult& result = *job->result;
  result.tokens.resize(logits_->num_rows());
  const Status status = RunScoredLogits(
      model, *options_.engine, cut_.set.windows, options_.memory_bytes, options_.watcher, nullptr,
      MakeDivergenceMeter(options_.engine->pool(), *logits_, result.tokens));
  const bool written = job->spec->kind != ArmSpec::Kind::kGiven;
  std::error_code error;
  if (written && !options_.keep_models) fs::remove_all(directory, error);
  if (!status) {
    job->result.reset();
    // A weight beyond what FP16 holds is a finding about the model.
    if (job->spec->kind != ArmSpec::Kind::kRounded || status.error().code != ErrorCode::kCorrupt) {
      return status.error();
    }
    notes_.push_back(fmt::format("{}: {}", job->name, status.error().message));
    return Done{};
  }
  const ScoredModel described = DescribeModel(model);
  result.bytes = described.bytes;
  result.bits_per_weight = described.bits_per_weight;
  result.seconds = Now() - start;
  return Keep(job);
}

Scores Runner::ScoresOf(const Job& job) const {
  Scores scores;
  scores.model = DescribeModel(original_);
  scores.model.name = job.name;
  scores.model.bytes = job.result->bytes;
  scores.model.bits_per_weight = job.result->bits_per_weight;
  if (job.spec != nullptr) scores.model.structure_hash.clear();
  scores.numerics = options_.described;
  scores.text = {options_.text.name, Sha256Hex(options_.text.bytes), 0, 0};
  scores.protocol = cut_.protocol.name;
  scores.settings = cut_.settings;
  std::span<const TokenDivergence> tokens = job.result->tokens;
  for (const Window& window : cut_.set.windows) {
    std::vector<float> nll;
    for (const TokenDivergence& token : tokens.first(window.num_scored())) {
      nll.push_back(static_cast<float>(token.nll));
    }
    tokens = tokens.subspan(window.num_scored());
    AddWindow(&scores, window.text_first, nll, HashTokens(window.ids),
              tokenizer_->Decode(std::span(window.ids).subspan(window.first_scored), false));
  }
  return scores;
}

Status Runner::Keep(Job* job) {
  return folder_->Keep(job->name, *job->result, jobs_.front().name, window_tokens_, ScoresOf(*job));
}

Status Runner::RunPending() {
  size_t num_pending = 0;
  for (const Job& job : jobs_) num_pending += job.result ? 0 : 1;
  if (num_pending == 0) return Done{};
  RAM_RETURN_IF_ERROR(CheckRoom());
  if (!jobs_.front().result) {
    RAM_RETURN_IF_ERROR(OpenLogits());
    num_pending -= 1;
  }
  size_t number = 0;
  const double start = Now();
  for (Job& job : jobs_) {
    if (job.result) continue;
    ++number;
    RAM_RETURN_IF_ERROR(options_.watcher.Check());
    RAM_RETURN_IF_ERROR(RunJob(&job));
    if (!job.result) {
      Note(fmt::format("{} of {}: {}", number, num_pending, notes_.back()));
      continue;
    }
    double kl = 0;
    for (const TokenDivergence& token : job.result->tokens) kl += token.kl;
    const double left =
        (Now() - start) / static_cast<double>(number) * static_cast<double>(num_pending - number);
    Note(fmt::format(
        "{} of {}: {}, {}, KL {:.3g}{}{}", number, num_pending, job.name,
        FormatBytesShort(job.result->bytes), kl / static_cast<double>(job.result->tokens.size()),
        job.result->same_as.empty() ? fmt::format(", {:.1f} s", job.result->seconds)
                                    : fmt::format(", the same as {}", job.result->same_as),
        left < 10 ? "" : fmt::format("; about {:.0f} s left", left)));
  }
  return Done{};
}

// ---- What was found ----

StudyArm Runner::ArmOf(const Job& job) const {
  StudyArm arm;
  arm.name = job.name;
  arm.is_original = job.spec == nullptr;
  arm.method = job.spec == nullptr ? std::string(kOriginal) : job.spec->name;
  arm.size = job.size;
  arm.about = job.spec == nullptr
                  ? fmt::format("as it is stored: {}", original_.source->description())
                  : DescribeArm(*job.spec);
  if (job.spec != nullptr) {
    arm.kind = job.spec->kind;
    const Priors& priors = job.spec->request.priors;
    arm.is_null = arm.kind == ArmSpec::Kind::kPlanned &&
                  job.spec->request.objective == Objective::kWeights &&
                  (priors.shuffle_seed.has_value() || priors.class_factors.empty());
  }
  const ArmResult& result = *job.result;
  arm.bytes = result.bytes;
  arm.bits_per_weight = result.bits_per_weight;
  arm.same_as = result.same_as;
  arm.seconds = result.seconds;
  DivergenceSummary summary = SummarizeDivergence(result.tokens, window_tokens_);
  arm.kl = std::move(summary.window_kl);
  arm.token_kl = summary.kl;
  arm.same_top = summary.same_top;
  std::span<const TokenDivergence> tokens = result.tokens;
  std::vector<double> sizes;
  for (const uint64_t size : window_tokens_) {
    std::vector<double> nll;
    for (const TokenDivergence& token : tokens.first(size)) nll.push_back(token.nll);
    tokens = tokens.subspan(size);
    arm.nll.push_back(Mean(nll));
    sizes.push_back(static_cast<double>(size));
  }
  auto perplexity = SummarizePerplexity(arm.nll, sizes);
  RAM_CHECK(perplexity.ok());  // Files with other numbers are not read.
  arm.perplexity = *std::move(perplexity);
  return arm;
}

Study Runner::Collect() const {
  Study study;
  study.model = DescribeModel(original_).name;
  study.text = options_.text.name;
  study.protocol = cut_.protocol.name;
  study.settings = cut_.settings;
  study.numerics = options_.described.engine;
  study.precision = options_.described.precision;
  study.engine = options_.described.isa;
  study.margin = options_.margin;
  study.notes = notes_;
  for (const uint64_t size : window_tokens_) {
    study.window_tokens.push_back(static_cast<double>(size));
  }
  std::vector<std::optional<size_t>> place(jobs_.size());
  for (size_t j = 0; j < jobs_.size(); ++j) {
    if (!jobs_[j].result) continue;
    place[j] = study.arms.size();
    study.arms.push_back(ArmOf(jobs_[j]));
  }
  for (StudySize size : sizes_) {
    if (size.baseline) size.baseline = place[*size.baseline];
    study.sizes.push_back(std::move(size));
  }
  AnalyzeStudy(&study);
  return study;
}

Result<Study> Runner::Run() {
  RAM_RETURN_IF_ERROR(CutWindows());
  RAM_RETURN_IF_ERROR(MakeJobs());
  RAM_RETURN_IF_ERROR(OpenFolder());
  RAM_RETURN_IF_ERROR(FindDone());
  RAM_RETURN_IF_ERROR(RunPending());
  folder_->Tidy(options_.keep_models);
  return Collect();
}

}  // namespace

Result<Study> RunStudy(const StudyOptions& options) {
  RAM_CHECK(options.engine != nullptr && options.margin > 0);
  RAM_ASSIGN_OR_RETURN(OpenedModel model, OpenModel(options.model, Strictness::kLenient));
  return Runner(options, std::move(model)).Run();
}

}  // namespace ram
