#pragma once

// A model that can be run: its files, its graph, where its weights come from.

#include <memory>
#include <span>
#include <string>

#include "ram/base/progress.h"
#include "ram/base/result.h"
#include "ram/checkpoint/checkpoint.h"
#include "ram/eval/scored_logits.h"
#include "ram/eval/scores.h"
#include "ram/eval/windows.h"
#include "ram/family/graph.h"
#include "ram/runtime/engine.h"
#include "ram/runtime/loaded_weights.h"

namespace ram {

// Parts refer to those before them: do not move them apart.
struct RunnableModel {
  std::string name;  // As it was asked for.
  std::unique_ptr<const Checkpoint> checkpoint;
  std::unique_ptr<WeightSource> source;
  Graph graph;
};

// A directory, or a name in the Hugging Face cache. Errors: those of the checkpoint, its
// configuration, and WeightSource::Open.
Result<RunnableModel> OpenRunnable(const std::string& name, Numerics numerics);

ScoredModel DescribeModel(const RunnableModel& model);

// Runs the model over the windows. `memory_bytes`: the most to use (0: no bound); hidden states
// that have no place there go to the system's folder of temporary files. `on_plan`, if there is
// one, is told what will be where. Errors: those of PlanEvaluation and ForScoredLogits; they name
// the model.
Status RunScoredLogits(const RunnableModel& model, Engine& engine, std::span<const Window> windows,
                       uint64_t memory_bytes, const Watcher& watcher,
                       const std::function<void(const EvaluationPlan&)>& on_plan,
                       const LogitsBody& body);

}  // namespace ram
