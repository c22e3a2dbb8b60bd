#include "ram/eval/runnable_model.h"

#include <fmt/format.h>

#include <filesystem>
#include <utility>

#include "ram/eval/score_windows.h"
#include "ram/runtime/evaluate.h"

namespace ram {

Result<RunnableModel> OpenRunnable(const std::string& name, Numerics numerics) {
  RunnableModel opened;
  opened.name = name;
  RAM_ASSIGN_OR_RETURN(const std::filesystem::path directory, ResolveModel(name));
  RAM_ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::Open(directory, Strictness::kLenient));
  opened.checkpoint = std::make_unique<const Checkpoint>(std::move(checkpoint));
  RAM_ASSIGN_OR_RETURN(opened.graph, BuildGraph(opened.checkpoint->config(), numerics,
                                                (directory / "config.json").string()));
  RAM_ASSIGN_OR_RETURN(opened.source, WeightSource::Open(*opened.checkpoint, numerics));
  return opened;
}

ScoredModel DescribeModel(const RunnableModel& model) {
  ScoredModel described;
  described.name = std::filesystem::path(model.name).filename().string();
  if (described.name.empty()) described.name = model.name;
  described.bytes = model.checkpoint->file_bytes();
  described.bits_per_weight = 8 * static_cast<double>(model.checkpoint->file_bytes()) /
                              static_cast<double>(model.source->catalog().num_weights());
  described.structure_hash = model.checkpoint->structure_hash();
  return described;
}

Status RunScoredLogits(const RunnableModel& model, Engine& engine, std::span<const Window> windows,
                       uint64_t memory_bytes, const Watcher& watcher,
                       const std::function<void(const EvaluationPlan&)>& on_plan,
                       const LogitsBody& body) {
  RAM_ASSIGN_OR_RETURN(
      const EvaluationPlan plan,
      PlanEvaluation(*model.source, model.graph, engine, WindowLengths(windows), memory_bytes));
  if (on_plan) on_plan(plan);
  Evaluator evaluator(engine, *model.source, model.graph, plan,
                      std::filesystem::temp_directory_path());
  const Status status = ForScoredLogits(engine, evaluator, windows, watcher, body);
  if (status || status.error().message.starts_with(model.name)) return status;
  return Error{status.error().code, fmt::format("{}: {}", model.name, status.error().message)};
}

}  // namespace ram
