#pragma once

// Which scores may be compared window by window, and putting their windows side by side.

#include <optional>
#include <string>
#include <vector>

#include "ram/base/result.h"
#include "ram/eval/scores.h"
#include "ram/stats/compare.h"

namespace ram {

struct AlignOptions {
  // Pair runs of different engines or precisions too; their difference is then part of the result.
  bool allow_different_numerics = false;
  // Pair the windows that all files share, and leave out the others.
  bool common_windows = false;
};

// Models over the same windows, in the order of the text.
struct AlignedScores {
  std::vector<ModelScores> models;  // Named as Scores::model.
  std::vector<double> tokens;
  std::vector<std::string> labels;  // Of windows: their label, or number in the first file.
  std::vector<std::string> texts;   // Empty where no file has it.
  std::string what;                 // "ram-wikitext2: windows of 2048, seed 42"
  double resolution = 0;            // The worst of the files.
  bool tokens_known = false;        // By their hashes; else only assumed to be the same.
  bool same_numerics = true;
};

// Why these two cannot be paired, a sentence without a subject ("scored other tokens: ...");
// nothing if they can.
std::optional<std::string> FindMismatch(const Scores& a, const Scores& b,
                                        const AlignOptions& options);

// Windows are matched by the hash of their tokens, so files may hold them in any order; without
// hashes by position. `names` [scores.size()] is what messages call the files. kInvalidArgument
// names the two that cannot be paired, why, and the option that allows it where one does.
Result<AlignedScores> AlignScores(const std::vector<Scores>& scores,
                                  const std::vector<std::string>& names,
                                  const AlignOptions& options = {});

}  // namespace ram
