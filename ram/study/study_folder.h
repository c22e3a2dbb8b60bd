#pragma once

// What a study leaves on the disk, so that it can be interrupted and gone on with:
//
//   inputs.json               what is studied: files of the model, tokens, numerics
//   base.logits               the original's logits, while arms are still to be run
//   arms/NAME.kl.safetensors  divergences of every token, and by which key they were made
//   arms/NAME.scores          the same arm's scores, for ram compare and ram report
//   arms/NAME.plan.json       its plan, if it has one
//   models/NAME/              the arm itself, while it is run

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "ram/base/result.h"
#include "ram/eval/divergence_file.h"
#include "ram/eval/scores.h"

namespace ram {

// XXH3-128 in hexadecimal of everything that makes a model: safetensors files, config.json,
// tokenizer.json, with their names. Reads all of it.
Result<std::string> HashModelFiles(const std::filesystem::path& directory);

// What must be the same for results to belong to one study, in the order of telling.
struct StudyInput {
  std::string what;  // "the model's files", "the text", ...
  std::string value;
};

// An arm that was run.
struct ArmResult {
  std::string key;
  std::string content;  // Which weights: arms of equal content need not be run twice.
  uint64_t bytes = 0;
  double bits_per_weight = 0;
  double seconds = 0;
  std::string same_as;
  std::vector<TokenDivergence> tokens;
};

class StudyFolder {
 public:
  // Creates it, or opens that of an earlier run. kInvalidArgument: a folder that holds something
  // else, or a study of other inputs (says which; `restart` empties that one).
  static Result<StudyFolder> Open(const std::filesystem::path& path,
                                  const std::vector<StudyInput>& inputs, bool restart);

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path logits() const { return path_ / "base.logits"; }
  std::filesystem::path model(const std::string& arm) const { return path_ / "models" / arm; }
  std::filesystem::path scores(const std::string& arm) const {
    return path_ / "arms" / (arm + ".scores");
  }
  std::filesystem::path plan(const std::string& arm) const {
    return path_ / "arms" / (arm + ".plan.json");
  }

  // What an earlier run left of the arm under this key; nothing if it left none, or one that was
  // made from something else or cannot be read.
  std::optional<ArmResult> Find(const std::string& arm, const std::string& key) const;
  // Whether there is a result of the arm, under whatever key.
  bool Has(const std::string& arm) const;
  // Keeps a result; `of_arm` are the scores of the same run.
  Status Keep(const std::string& arm, const ArmResult& result, const std::string& base,
              const std::vector<uint64_t>& window_tokens, const Scores& of_arm) const;
  // Removes what is not needed once all arms are done.
  void Tidy(bool keep_models) const;

 private:
  explicit StudyFolder(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path divergence(const std::string& arm) const {
    return path_ / "arms" / (arm + ".kl.safetensors");
  }

  std::filesystem::path path_;
};

}  // namespace ram
