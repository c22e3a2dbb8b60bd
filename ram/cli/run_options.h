#pragma once

// Options of the verbs that run a model: whose numerics, how precise, which instructions, how much
// memory.

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <string>

#include "ram/base/result.h"
#include "ram/cli/verb.h"
#include "ram/eval/runnable_model.h"
#include "ram/runtime/engine.h"
#include "ram/runtime/evaluate.h"

namespace ram::cli {

struct RunOptions {
  void Add(CLI::App* verb);

  Numerics numerics() const;
  Result<std::unique_ptr<Engine>> MakeEngine(Context& context) const;
  Result<RunnableModel> Open(const std::string& model) const {
    return OpenRunnable(model, numerics());
  }
  // Bound of memory [bytes]: --memory, or nine tenths of what the machine has to give now.
  Result<uint64_t> MemoryBytes() const;

  std::string numerics_name = "hf";
  std::string precision_name = "f32";
  std::string isa;
  std::string memory;
};

// What will be where, in a few lines.
std::string EvaluationPlanText(const EvaluationPlan& plan, const Style& style);

}  // namespace ram::cli
