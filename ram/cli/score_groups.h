#pragma once

// SCORES...: reading models' scores, pairing what may be paired, comparing. What ram compare and
// ram report have in common.

#include <string>
#include <vector>

#include "ram/cli/verb.h"
#include "ram/eval/align.h"
#include "ram/eval/score_sources.h"
#include "ram/report/compare_table.h"

namespace ram::cli {

struct ScoreOptions {
  std::string base;
  std::string values = "nll";  // Of tables: nll or ppl.
  bool allow_different_windows = false;
  AlignOptions align;
  CompareOptions compare;

  TableValues table_values() const;
};
void AddScoreOptions(CLI::App* verb, ScoreOptions* options);

// Models that were scored on the same windows, and where they came from.
struct ScoreGroup {
  std::vector<Scores> scores;
  std::vector<std::string> files;
};

// A source as it was given: PATH, or NAME=PATH.
Result<ScoreGroup> ReadSource(const std::string& given, TableValues values);

// Sources as groups: one, or with allow_different_windows as many as there are different windows.
// Names are made unique; kInvalidArgument where two sources cannot be paired, or there is no base
// of that name.
Result<std::vector<ScoreGroup>> MakeGroups(std::vector<ScoreGroup> sources,
                                           const ScoreOptions& options);

struct ComparedGroup {
  AlignedScores aligned;
  Comparison comparison;
  ComparedWindows windows;
};
// Against the base, or all pairs where no model of the group has its name.
Result<ComparedGroup> CompareGroup(const ScoreGroup& group, const ScoreOptions& options);

// Says so on standard error where scores of a table look like perplexities that were read as NLL.
void NoteSuspectValues(const ScoreGroup& group, const ComparedGroup& compared,
                       const ScoreOptions& options, Context& context);

}  // namespace ram::cli
