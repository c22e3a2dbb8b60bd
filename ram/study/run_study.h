#pragma once

// Runs a study: makes every arm as the folder that would be shipped, runs it over the windows
// against the original's logits, keeps what was found, and goes on from what an earlier run kept.
//
// Disk: the original's logits and one model at a time, both gone at the end; what is kept is some
// 90 bytes for each arm and scored token. Memory: that of evaluation.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "ram/base/progress.h"
#include "ram/base/result.h"
#include "ram/eval/cut_text.h"
#include "ram/eval/logit_cache.h"
#include "ram/eval/scores.h"
#include "ram/family/graph.h"
#include "ram/runtime/engine.h"
#include "ram/study/arms.h"
#include "ram/study/study.h"

namespace ram {

struct StudyBudget {
  std::string label;  // As it was written: "6bpw". Fit for the name of a file.
  uint64_t bytes = 0;
};

struct StudyOptions {
  std::string model;
  std::vector<ArmSpec> arms;
  std::vector<StudyBudget> budgets;
  Text text;
  CutRequest cut;
  double margin = 0.005;  // Of saturation [nats per token].

  std::filesystem::path folder;
  bool restart = false;
  bool keep_models = false;
  LogitForm logits = LogitForm::kF32;

  Numerics numerics = Numerics::kHf;
  ScoredNumerics described;          // What the scores say of them.
  Engine* engine = nullptr;          // Required; its pool does all other work too.
  uint64_t memory_bytes = 0;         // 0: no bound.
  std::filesystem::path cache_path;  // Of measurements; empty: none.
  Watcher watcher;
  std::function<void(const std::string&)> note;  // Lines for people; may be empty.
};

// kInvalidArgument: fewer than two windows, a given model that cannot be compared (another
// vocabulary, other tokens), arms without anything to give plans a size, a folder of another study.
// Errors of an arm that this model cannot have become notes of the study; all others end it, and
// what is done stays.
Result<Study> RunStudy(const StudyOptions& options);

}  // namespace ram
