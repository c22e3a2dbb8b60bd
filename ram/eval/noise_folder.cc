#include "ram/eval/noise_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <system_error>
#include <tuple>
#include <utility>

#include "ram/base/number.h"
#include "ram/eval/align.h"
#include "ram/eval/noisy_weights.h"

namespace ram {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSuffix = ".scores";

// Closest to the errors first: the first one that was run is what the verdict is by.
constexpr std::array kKinds = {Noise::Kind::kPermuted, Noise::Kind::kGroupGaussian,
                               Noise::Kind::kUniform, Noise::Kind::kGaussian};

size_t RankOf(std::string_view kind) {
  size_t rank = 0;
  while (rank < kKinds.size() && NoiseKindName(kKinds[rank]) != kind) ++rank;
  return rank;
}

}  // namespace

std::string NoiseConditionName(const NoiseCondition& condition) {
  return fmt::format("{}-x{:g}-seed{}", condition.kind, condition.dose, condition.seed);
}

std::optional<NoiseCondition> ParseNoiseCondition(std::string_view name) {
  constexpr std::string_view kDose = "-x";
  constexpr std::string_view kSeed = "-seed";
  const size_t at = name.find(kDose);
  if (at == std::string_view::npos || RankOf(name.substr(0, at)) == kKinds.size()) {
    return std::nullopt;
  }
  NoiseCondition condition{.kind = std::string(name.substr(0, at))};
  name.remove_prefix(at + kDose.size());
  const std::optional<double> dose = TakeDouble(&name);
  if (!dose || !name.starts_with(kSeed)) return std::nullopt;
  condition.dose = *dose;
  name.remove_prefix(kSeed.size());
  const char* const end = name.data() + name.size();
  const auto seed = std::from_chars(name.data(), end, condition.seed);
  if (seed.ec != std::errc() || seed.ptr != end) return std::nullopt;
  return condition;
}

Result<NoiseExperiment> MakeNoiseExperiment(const std::vector<Scores>& scores) {
  std::vector<std::string> names;
  for (const Scores& one : scores) names.push_back(one.model.name);
  struct Placed {
    NoiseCondition condition;
    size_t index = 0;
  };
  std::vector<Placed> controls;
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i] == kOriginalCondition || names[i] == kCompressedCondition ||
        names[i] == kAntitheticCondition) {
      continue;
    }
    const std::optional<NoiseCondition> condition = ParseNoiseCondition(names[i]);
    if (!condition.has_value()) {
      return Error{
          ErrorCode::kInvalidArgument,
          fmt::format("scores of \"{}\", which is no condition of a noise experiment", names[i])};
    }
    controls.push_back({*condition, i});
  }
  const auto find = [&](std::string_view name) -> Result<size_t> {
    const auto found = std::ranges::find(names, name);
    if (std::ranges::count(names, name) == 1) return static_cast<size_t>(found - names.begin());
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("a noise experiment has scores of \"{}\" once, here {} times", name,
                             std::ranges::count(names, name))};
  };
  RAM_ASSIGN_OR_RETURN(const size_t original, find(kOriginalCondition));
  RAM_ASSIGN_OR_RETURN(const size_t compressed, find(kCompressedCondition));
  RAM_ASSIGN_OR_RETURN(const size_t antithetic, find(kAntitheticCondition));
  RAM_ASSIGN_OR_RETURN(const AlignedScores aligned, AlignScores(scores, names));

  NoiseExperiment experiment;
  experiment.tokens = aligned.tokens;
  experiment.original = aligned.models[original].nll;
  experiment.compressed = aligned.models[compressed].nll;
  experiment.antithetic = aligned.models[antithetic].nll;
  std::ranges::sort(controls, {}, [](const Placed& placed) {
    return std::tuple(RankOf(placed.condition.kind), placed.condition.dose, placed.condition.seed);
  });
  for (const auto& [condition, index] : controls) {
    std::vector<NoiseControl>& made = experiment.controls;
    if (made.empty() || made.back().name != condition.kind || made.back().dose != condition.dose) {
      made.push_back({condition.kind, condition.dose, {}});
    }
    made.back().seeds.push_back(aligned.models[index].nll);
  }
  return experiment;
}

bool IsNoiseFolder(const fs::path& folder) {
  std::error_code error;
  for (const std::string_view name : {kOriginalCondition, kCompressedCondition}) {
    if (!fs::exists(folder / (std::string(name) + std::string(kSuffix)), error)) return false;
  }
  return true;
}

Result<std::vector<Scores>> ReadNoiseFolder(const fs::path& folder) {
  std::vector<fs::path> paths;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().extension() == kSuffix) paths.push_back(entry.path());
  }
  if (error) {
    return Error{ErrorCode::kNotFound, fmt::format("{}: {}", folder.string(), error.message())};
  }
  std::ranges::sort(paths);
  std::vector<Scores> scores;
  for (const fs::path& path : paths) {
    RAM_ASSIGN_OR_RETURN(Scores one, ReadScores(path));
    scores.push_back(std::move(one));
  }
  return scores;
}

}  // namespace ram
