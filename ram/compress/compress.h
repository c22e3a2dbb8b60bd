#pragma once

// The main job as a library: checkpoint + budget -> certified model directory. What `ram compress`
// calls, step by step, so that a program can keep, replace or look at each result.
//
//   RAM_ASSIGN_OR_RETURN(const OpenedModel model, OpenModel("Qwen/Qwen3-8B"));
//   RAM_ASSIGN_OR_RETURN(LoadedRates rates, Measure(model, options));
//   RAM_ASSIGN_OR_RETURN(Plan plan, MakeShippedPlan(model, options, budget_bytes, &rates));
//   RAM_ASSIGN_OR_RETURN(Compressed done, WritePlan(model, options, plan, rates, "out"));

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "ram/base/progress.h"
#include "ram/base/result.h"
#include "ram/base/thread_pool.h"
#include "ram/checkpoint/checkpoint.h"
#include "ram/family/catalog.h"
#include "ram/measure/measure_model.h"
#include "ram/plan/plan.h"
#include "ram/writer/verify_model.h"
#include "ram/writer/write_model.h"

namespace ram {

struct OpenedModel {
  std::string name;  // As it was asked for.
  Checkpoint checkpoint;
  Catalog catalog;
};

// kNotFound, kCorrupt, kUnsupported from the checkpoint or its family.
Result<OpenedModel> OpenModel(const std::string& name, Strictness strictness = Strictness::kStrict);

struct CompressOptions {
  PlanRequest request;
  Quantizer quantizer = Quantizer::kRtnPlus;
  Rounding rounding = Rounding::kCpu;
  std::filesystem::path cache_path;  // Empty: no cache.
  bool overwrite = false;
  bool keep_rates = true;  // Puts rates.json beside plan.json, so that anybody can check the plan.
  ThreadPool* pool = nullptr;  // Required.
  Watcher watcher;
};

// Measures the model, or takes from the cache what was measured before.
Result<LoadedRates> Measure(const OpenedModel& model, const CompressOptions& options,
                            MeasureStats* stats = nullptr);

// kInvalidArgument if the table is of another model or of other weights than their headers say.
Status CheckRatesBelongTo(const RateTable& rates, const OpenedModel& model);

// A plan whose choices are priced by the quantizer that will write them: solves, prices the choice
// of every module and its neighbours on the hull with `options.quantizer` where the table does not
// have that yet, and solves again until nothing is left to price. Updates the table and its hash.
Result<Plan> MakeShippedPlan(const OpenedModel& model, const CompressOptions& options,
                             uint64_t budget_bytes, LoadedRates* rates);

struct Compressed {
  WrittenModel written;
  VerifiedModel verified;
};

// Writes the model, reads it back and compares it with the plan. kCorrupt if what was written has
// another error than the plan priced (the weights changed meanwhile), or if verification finds a
// problem; nothing is published in the first case.
Result<Compressed> WritePlan(const OpenedModel& model, const CompressOptions& options,
                             const Plan& plan, const LoadedRates& rates,
                             const std::string& model_card, const std::filesystem::path& directory);

// Per catalog tensor: the plan's choice, or 16 bits for what is never quantized.
Result<std::vector<Choice>> ChoicesOfPlan(const Catalog& catalog, const Plan& plan);

}  // namespace ram
