#include "ram/compress/compress.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <set>

#include "ram/allocate/allocate.h"
#include "ram/base/hash.h"
#include "ram/measure/rate_cache.h"

namespace ram {
namespace {

// Plain rounding is at most this much worse than the codes chosen for the stored scale (8 bits,
// BF16); choices this far above the floor need no second look.
constexpr double kRtnMarginDb = 3;
constexpr int kMaxRounds = 20;  // Each prices at least one of 18 choices of some module.

// Whether the table's price of a choice is not yet that of the quantizer that will write it, or the
// floor was not yet judged on plain rounding.
bool NeedsPrice(const ModuleRates& module, const ChoiceRate& rate, const CompressOptions& options,
                const RateTable& rates) {
  if (rate.choice.mode != Mode::kAffine || module.sum_squares == 0) return false;
  const Quantizer priced_by = rate.priced_by.value_or(rates.quantizer);
  if (priced_by != options.quantizer) return true;
  return !rate.rtn_sum_squares_error && options.request.floor_db > 0 &&
         SqnrDb(module.sum_squares, rate.sum_squares_error) <
             options.request.floor_db + kRtnMarginDb;
}

// The chosen option of every item and its neighbours on the item's hull.
std::vector<std::set<int>> ChosenAndNeighbours(const Problem& problem, const Curve& curve,
                                               std::span<const int> chosen) {
  std::vector<std::vector<int>> hulls(problem.items.size());
  for (size_t i = 0; i < hulls.size(); ++i) hulls[i].push_back(curve.first_choices[i]);
  for (const Increment& step : curve.increments) hulls[step.item].push_back(step.to);
  std::vector<std::set<int>> wanted(problem.items.size());
  for (size_t i = 0; i < hulls.size(); ++i) {
    wanted[i].insert(chosen[i]);
    // A choice off the hull has as neighbours the hull choices around it in bytes.
    const auto bytes = [&](int option) {
      return problem.knapsack[i].options[static_cast<size_t>(option)].bytes;
    };
    const int* below = nullptr;
    const int* above = nullptr;
    for (const int& option : hulls[i]) {
      if (option == chosen[i]) continue;
      if (bytes(option) <= bytes(chosen[i])) below = &option;
      if (above == nullptr && bytes(option) > bytes(chosen[i])) above = &option;
    }
    if (below != nullptr) wanted[i].insert(*below);
    if (above != nullptr) wanted[i].insert(*above);
  }
  return wanted;
}

}  // namespace

Result<OpenedModel> OpenModel(const std::string& name, Strictness strictness) {
  RAM_ASSIGN_OR_RETURN(const std::filesystem::path directory, ResolveModel(name));
  RAM_ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::Open(directory, strictness));
  RAM_ASSIGN_OR_RETURN(Catalog catalog, BindCatalog(checkpoint));
  return OpenedModel{name, std::move(checkpoint), std::move(catalog)};
}

Result<LoadedRates> Measure(const OpenedModel& model, const CompressOptions& options,
                            MeasureStats* stats) {
  std::unique_ptr<RateCache> cache;
  if (!options.cache_path.empty()) {
    // A cache that cannot be used costs time, not results.
    if (auto opened = RateCache::Open(options.cache_path)) cache = *std::move(opened);
  }
  MeasureOptions measure;
  measure.pool = options.pool;
  measure.cache = cache.get();
  measure.model_name = model.name;
  measure.watcher = options.watcher;
  RAM_ASSIGN_OR_RETURN(RateTable table,
                       MeasureModel(model.checkpoint, model.catalog, measure, stats));
  LoadedRates rates{std::move(table), ""};
  rates.sha256 = Sha256Hex(ToJsonText(rates.table));
  return rates;
}

Status CheckRatesBelongTo(const RateTable& rates, const OpenedModel& model) {
  if (rates.structure_hash != model.checkpoint.structure_hash()) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("the rate table was made from {}, whose tensors or config differ from "
                             "those of {}",
                             rates.model, model.name)};
  }
  return Done{};
}

Result<Plan> MakeShippedPlan(const OpenedModel& model, const CompressOptions& options,
                             uint64_t budget_bytes, LoadedRates* rates) {
  for (int round = 0; round < kMaxRounds; ++round) {
    RAM_ASSIGN_OR_RETURN(const Problem problem, BuildProblem(rates->table, options.request));
    RAM_ASSIGN_OR_RETURN(const Curve curve, BuildCurve(problem.knapsack));
    RAM_ASSIGN_OR_RETURN(Plan plan,
                         MakePlan(*rates, problem, curve, options.request, budget_bytes));

    std::vector<int> chosen;
    for (const ProblemItem& item : problem.items) {
      const Choice& choice = plan.modules[item.modules.front()].choice;
      chosen.push_back(
          static_cast<int>(std::ranges::find(item.options, choice) - item.options.begin()));
    }
    const std::vector<std::set<int>> wanted = ChosenAndNeighbours(problem, curve, chosen);
    std::vector<PriceRequest> requests;
    for (size_t i = 0; i < problem.items.size(); ++i) {
      for (const size_t m : problem.items[i].modules) {
        const ModuleRates& module = rates->table.modules[m];
        PriceRequest request{m, {}};
        for (const int option : wanted[i]) {
          const Choice& choice = problem.items[i].options[static_cast<size_t>(option)];
          if (NeedsPrice(module, *module.Find(choice), options, rates->table)) {
            request.choices.push_back(choice);
          }
        }
        if (!request.choices.empty()) requests.push_back(std::move(request));
      }
    }
    if (requests.empty()) return plan;
    std::ranges::sort(requests, {}, &PriceRequest::module);
    PriceOptions price{options.quantizer, options.rounding, options.pool, options.watcher, {}};
    RAM_RETURN_IF_ERROR(
        PriceChoices(model.checkpoint, model.catalog, requests, price, &rates->table));
    rates->sha256 = Sha256Hex(ToJsonText(rates->table));
  }
  return Error{ErrorCode::kInvalidArgument,
               fmt::format("prices did not settle after {} rounds", kMaxRounds)};
}

Result<std::vector<Choice>> ChoicesOfPlan(const Catalog& catalog, const Plan& plan) {
  std::map<std::string, Choice> planned;
  for (const PlannedModule& module : plan.modules) planned[module.name] = module.choice;
  std::vector<Choice> choices;
  for (const CatalogTensor& tensor : catalog.tensors) {
    if (!IsQuantizable(tensor.kind)) {
      choices.push_back(Choice::Dense());
      continue;
    }
    const auto found = planned.find(tensor.module());
    if (found == planned.end()) {
      return Error{ErrorCode::kInvalidArgument,
                   fmt::format("the plan has no choice for {}", tensor.module())};
    }
    if (!IsLegal(found->second, tensor.cols) ||
        (found->second == Choice::Mxfp4() && tensor.encoding != Encoding::kMxfp4)) {
      return Error{ErrorCode::kInvalidArgument,
                   fmt::format("the plan wants {} as {}, which its {} columns do not allow",
                               tensor.module(), ChoiceName(found->second), tensor.cols)};
    }
    choices.push_back(found->second);
    planned.erase(found);
  }
  if (!planned.empty()) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("the plan has a choice for {}, which the model does not have",
                             planned.begin()->first)};
  }
  return choices;
}

Result<Compressed> WritePlan(const OpenedModel& model, const CompressOptions& options,
                             const Plan& plan, const LoadedRates& rates,
                             const std::string& model_card,
                             const std::filesystem::path& directory) {
  RAM_ASSIGN_OR_RETURN(const std::vector<Choice> choices, ChoicesOfPlan(model.catalog, plan));
  WriteOptions write;
  write.quantizer = options.quantizer;
  write.rounding = options.rounding;
  write.overwrite = options.overwrite;
  write.pool = options.pool;
  write.watcher = options.watcher;
  write.files = {{"README.md", model_card}, {"plan.json", ToJsonText(plan)}};
  if (options.keep_rates) write.files.emplace_back("rates.json", ToJsonText(rates.table));
  // The codes that ship are the codes that were priced.
  write.check = [&](const WrittenModule& module) -> Status {
    if (module.choice.mode != Mode::kAffine) return Done{};
    const ModuleRates* measured = rates.table.Find(module.name);
    RAM_CHECK(measured != nullptr);
    const double priced = measured->Find(module.choice)->sum_squares_error;
    constexpr double kTolerance = 1e-4;  // f32 sums in another order, ties.
    if (std::abs(module.sum_squares_error - priced) > kTolerance * priced + 1e-30) {
      return Error{ErrorCode::kCorrupt,
                   fmt::format("{}: its codes have the squared error {:.6g}, the rate table says "
                               "{:.6g}; the weights are not those that were measured",
                               module.name, module.sum_squares_error, priced)};
    }
    return Done{};
  };
  Compressed done;
  RAM_ASSIGN_OR_RETURN(done.written,
                       WriteModel(model.checkpoint, model.catalog, choices, write, directory));
  RAM_ASSIGN_OR_RETURN(done.verified, VerifyModel(directory));
  if (!done.verified.problems.empty()) {
    return Error{ErrorCode::kCorrupt, fmt::format("{}: does not verify: {}", directory.string(),
                                                  done.verified.problems.front())};
  }
  return done;
}

}  // namespace ram
