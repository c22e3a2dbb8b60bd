#pragma once

// The scores of a controlled-noise experiment in a folder: which file is which condition, and all
// of them put together to what noise.h analyses.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ram/base/result.h"
#include "ram/eval/noise.h"
#include "ram/eval/scores.h"

namespace ram {

// What the three conditions without noise are called.
inline constexpr std::string_view kOriginalCondition = "original";
inline constexpr std::string_view kCompressedCondition = "compressed";
inline constexpr std::string_view kAntitheticCondition = "antithetic";

// One seed of a control: "gaussian-x0.5-seed3".
struct NoiseCondition {
  std::string kind;
  double dose = 1;
  uint64_t seed = 1;
};
std::string NoiseConditionName(const NoiseCondition& condition);
// Nothing if `name` is none.
std::optional<NoiseCondition> ParseNoiseCondition(std::string_view name);

// From scores of every condition, each named by Scores::model, windows paired by their tokens.
// Controls in the order permuted, group, uniform, gaussian, by dose, their seeds by number.
// kInvalidArgument: one of the three conditions is missing or there twice, a name that is none,
// scores that cannot be paired.
Result<NoiseExperiment> MakeNoiseExperiment(const std::vector<Scores>& scores);

// Whether a folder holds such an experiment: the scores of an original and a compressed model.
bool IsNoiseFolder(const std::filesystem::path& folder);
// Every *.scores of it, in the order of their names. Errors: those of ReadScores.
Result<std::vector<Scores>> ReadNoiseFolder(const std::filesystem::path& folder);

}  // namespace ram
