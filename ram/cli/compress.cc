// ram compress MODEL --budget 16GiB -o DIR: the main job.

#include "ram/compress/compress.h"

#include <fmt/format.h>

#include "ram/base/bytes.h"
#include "ram/cli/plan_options.h"
#include "ram/cli/rates_source.h"
#include "ram/cli/verb.h"
#include "ram/device/machine.h"
#include "ram/report/compress_table.h"
#include "ram/report/model_card.h"

namespace ram::cli {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string model;
  std::string output;
  std::string rates_file;
  bool dry_run = false;
  bool overwrite = false;
  bool no_rates = false;
  PlanOptions plan;
  MeasureSettings settings;
  QuantizerOptions quantizer;
};

// "4GiB" -> "4GiB", "16GB Mac" -> "16GB-Mac": what a directory may be called after.
std::string DirectoryLabel(const std::string& label) {
  std::string safe;
  for (const char c : label) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '-';
    safe += plain ? c : c == '%' ? 'p' : '-';
  }
  return safe;
}

fs::path OutputDirectory(const Options& options, const Budget& budget, bool several) {
  fs::path base = options.output;
  if (base.empty()) {
    base = fs::path(options.model).lexically_normal();
    while (base.has_parent_path() && (base.filename().empty() || base.filename() == "hf")) {
      base = base.parent_path();
    }
    base = base.filename();
    return base.string() + "-" + DirectoryLabel(budget.label);
  }
  return several ? fs::path(base.lexically_normal().string() + "-" + DirectoryLabel(budget.label))
                 : base;
}

OrderedJson PlanJson(const Plan& plan, const Budget& budget, const fs::path& directory) {
  return {{"budget", budget.label},
          {"directory", directory.string()},
          {"budget_bytes", plan.budget_bytes},
          {"bytes", plan.bytes},
          {"bits_per_weight", plan.bits_per_weight()},
          {"cost", static_cast<double>(plan.cost) * kCostUnit},
          {"lower_bound", static_cast<double>(plan.lower_bound) * kCostUnit},
          {"proven_by_search", plan.proven_by_search},
          {"uniform_4_bit",
           {{"bytes", plan.uniform.bytes},
            {"cost", static_cast<double>(plan.uniform.cost) * kCostUnit}}},
          {"next_gib_saving", plan.next_gib_saving},
          {"notes", plan.notes}};
}

// Before an hour of work: what it will need, and whether the machine has it.
Status CheckMachine(const fs::path& directory, uint64_t needed_bytes) {
  std::error_code error;
  fs::path target = fs::absolute(directory, error).lexically_normal();
  if (target.filename().empty()) target = target.parent_path();  // "out/" is "out".
  const fs::path parent = target.parent_path();
  if (!fs::is_directory(parent, error)) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("{}: its parent is not a directory", directory.string())};
  }
  RAM_ASSIGN_OR_RETURN(const uint64_t free_bytes, FreeDiskBytes(parent));
  if (free_bytes < needed_bytes) {
    return Error{ErrorCode::kNoSpace,
                 fmt::format("{}: {} are needed on its disk, {} are free", directory.string(),
                             FormatBytes(needed_bytes), FormatBytes(free_bytes))};
  }
  constexpr uint64_t kMemoryBytes = 400 * kMiB;
  const Machine machine = ProbeMachine();
  if (machine.available_bytes != 0 && machine.available_bytes < kMemoryBytes) {
    return Error{ErrorCode::kNoSpace,
                 fmt::format("up to {} of memory are needed, {} are free",
                             FormatBytes(kMemoryBytes), FormatBytes(machine.available_bytes))};
  }
  return Done{};
}

Status RunCompress(const Options& options, Context& context) {
  RAM_ASSIGN_OR_RETURN(const PlanRequest request, options.plan.Request());
  const Strictness strictness =
      options.settings.lenient ? Strictness::kLenient : Strictness::kStrict;
  RAM_ASSIGN_OR_RETURN(const OpenedModel model, OpenModel(options.model, strictness));
  NoteCatalog(model, context);

  // Sizes need no weights: everything that can be refused is refused before the long run.
  RAM_ASSIGN_OR_RETURN(const RateTable sizes,
                       SizesOnly(model.checkpoint, model.catalog, options.model));
  PlanRequest sizes_only = request;
  sizes_only.floor_db = 0;
  RAM_ASSIGN_OR_RETURN(const Problem any_errors, BuildProblem(sizes, sizes_only));
  RAM_ASSIGN_OR_RETURN(const Curve any_curve, BuildCurve(any_errors.knapsack));
  const uint64_t smallest_bytes = MinSafeBytes(any_errors, any_curve);
  std::vector<Budget> budgets;
  const bool needs_weights = options.plan.min_safe;
  if (!needs_weights) {
    RAM_ASSIGN_OR_RETURN(budgets, options.plan.Budgets(sizes, sizes_only));
    uint64_t total_bytes = 0;
    for (const Budget& budget : budgets) total_bytes += std::min(budget.bytes, sizes.dense_bytes());
    for (const Budget& budget : budgets) {
      if (budget.bytes < smallest_bytes) {
        return Error{
            ErrorCode::kInvalidArgument,
            fmt::format("a budget of {} bytes is {} bytes below the smallest plan, which "
                        "takes {} even without a floor",
                        FormatCount(budget.bytes), FormatCount(smallest_bytes - budget.bytes),
                        FormatBytes(smallest_bytes))};
      }
      const fs::path directory = OutputDirectory(options, budget, budgets.size() > 1);
      std::error_code error;
      if (!options.dry_run && !options.overwrite &&
          fs::exists(fs::symlink_status(directory, error))) {
        return Error{ErrorCode::kInvalidArgument,
                     fmt::format("{}: exists already; choose another name with -o or pass "
                                 "--overwrite",
                                 directory.string())};
      }
      if (!options.dry_run) RAM_RETURN_IF_ERROR(CheckMachine(directory, total_bytes));
    }
  }

  CompressOptions compress;
  compress.request = request;
  RAM_ASSIGN_OR_RETURN(compress.quantizer, options.quantizer.quantizer());
  RAM_ASSIGN_OR_RETURN(compress.rounding, options.quantizer.rounding());
  compress.cache_path = options.settings.CachePath();
  compress.overwrite = options.overwrite;
  compress.keep_rates = !options.no_rates;
  compress.pool = &context.pool();
  compress.watcher = context.MakeWatcher();

  LoadedRates rates;
  if (options.rates_file.empty()) {
    RAM_ASSIGN_OR_RETURN(rates, MeasureWithNote(model, compress, context));
  } else {
    RAM_ASSIGN_OR_RETURN(rates, ReadRateTable(options.rates_file));
    RAM_RETURN_IF_ERROR(CheckRatesBelongTo(rates.table, model));
  }
  if (needs_weights) {
    RAM_ASSIGN_OR_RETURN(budgets, options.plan.Budgets(rates.table, request));
  }

  std::vector<Plan> plans;
  OrderedJson results = OrderedJson::array();
  for (const Budget& budget : budgets) {
    if (!budget.note.empty()) context.Print(budget.note + "\n");
    const fs::path directory = OutputDirectory(options, budget, budgets.size() > 1);
    RAM_ASSIGN_OR_RETURN(Plan plan, MakeShippedPlan(model, compress, budget.bytes, &rates));
    plan.rates_file = "rates.json";
    OrderedJson json = PlanJson(plan, budget, directory);
    if (!options.dry_run) {
      ModelCardInfo info;
      info.name = directory.filename().string();
      std::error_code is_name;  // A path is nobody else's name for a model.
      if (!fs::is_directory(options.model, is_name)) info.base_model = options.model;
      RAM_ASSIGN_OR_RETURN(const std::vector<Choice> choices, ChoicesOfPlan(model.catalog, plan));
      info.file_bytes = LayOutModel(model.catalog, choices).file_bytes;
      info.has_rates = compress.keep_rates;
      RAM_ASSIGN_OR_RETURN(
          const Compressed done,
          WritePlan(model, compress, plan, rates, ModelCard(plan, rates.table, info), directory));
      context.Note(
          fmt::format("wrote {}: {} in {} file{}, {:.1f} s (kernel {:.2f} s); read back and "
                      "verified",
                      directory.string(), FormatBytes(done.written.file_bytes),
                      done.written.num_shards, done.written.num_shards == 1 ? "" : "s",
                      done.written.seconds, done.written.kernel_seconds));
      json["file_bytes"] = done.written.file_bytes;
      json["shards"] = done.written.num_shards;
    }
    results.push_back(std::move(json));
    plans.push_back(std::move(plan));
  }
  context.EndProgress();

  if (plans.size() == 1) {
    context.Print(CompressSummary(plans.front(), rates.table, context.style()));
  } else {
    std::vector<const Plan*> pointers;
    for (const Plan& plan : plans) pointers.push_back(&plan);
    context.Print(BudgetTable(pointers, rates.table, context.style()));
  }
  if (options.dry_run) context.Note("dry run: nothing was written");
  context.PrintJson({{"model", options.model}, {"dry_run", options.dry_run}, {"plans", results}});
  return Done{};
}

}  // namespace

Verb AddCompress(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb =
      app.add_subcommand("compress", "Write the best model of a given size: measure, plan, write");
  verb->add_option("MODEL", options->model, "Directory, or a name in the Hugging Face cache")
      ->required();
  verb->add_option("-o,--output", options->output,
                   "New directory (default: NAME-BUDGET); with several budgets its beginning");
  verb->add_flag("--overwrite", options->overwrite,
                 "Replace the directory once the new one is done");
  verb->add_flag("--dry-run", options->dry_run, "Measure and plan, say everything, write nothing");
  verb->add_option("--rates", options->rates_file,
                   "A rate table of this model, instead of measuring")
      ->check(CLI::ExistingFile);
  verb->add_flag("--no-rates", options->no_rates, "Leave rates.json out of the directory");
  options->plan.Add(verb, /*budgets=*/true);
  options->quantizer.Add(verb, "rtn+");
  options->settings.Add(verb);
  return {verb, [options, &context] { return RunCompress(*options, context); }};
}

}  // namespace ram::cli
