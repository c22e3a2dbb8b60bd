#include "ram/plan/objective.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <utility>

#include "ram/base/hash.h"
#include "ram/base/json.h"
#include "ram/base/random.h"
#include "ram/plan/detail.h"
#include "ram/plan/priors_json.h"

namespace ram {
namespace {

constexpr std::string_view kPriorsFormat = "ram.priors.v1";
// No factor of a table exceeds this, so that costs stay far inside 64 bits.
constexpr double kMaxFactor = 1e6;
// Costs saturate here: 4,611 units of the objective, far beyond what any plan would choose.
constexpr double kMaxCost = 0x1p62;

Error WrongPriors(std::string_view where, std::string_view key, std::string_view what) {
  return Error{ErrorCode::kCorrupt, fmt::format("{}: key \"{}\": {}", where, key, what)};
}

bool IsFactor(double value) { return value > 0 && value <= kMaxFactor; }

Result<double> ReadFactor(const Json& object, std::string_view key, std::string_view where) {
  RAM_ASSIGN_OR_RETURN(const double factor, GetNumber(object, key, where));
  if (!IsFactor(factor)) {
    return WrongPriors(where, key, "expected a factor above 0 and at most 1000000");
  }
  return factor;
}

// Linear between the points, constant beyond them.
double DepthFactor(const std::vector<std::pair<double, double>>& depth, double position) {
  if (depth.empty()) return 1;
  if (position <= depth.front().first) return depth.front().second;
  for (size_t i = 1; i < depth.size(); ++i) {
    const auto& [left, left_factor] = depth[i - 1];
    const auto& [right, right_factor] = depth[i];
    if (position > right) continue;
    return left_factor + (right_factor - left_factor) * ((position - left) / (right - left));
  }
  return depth.back().second;
}

// What a class at the ends of the model is worth, as a multiple of the mean layer item; 0 for
// classes inside layers.
double EndFactor(const ModuleRates& module, const Priors& priors) {
  if (module.tensor_class == "head") return priors.head;
  if (module.tensor_class == "embedding") return priors.embedding;
  if (module.tensor_class == "tied_embedding") return priors.tied_embedding;
  return 0;
}

// Deals out the alphas of every class anew among its modules.
void ShuffleWithinClasses(const RateTable& rates, uint64_t seed, std::vector<double>* alphas) {
  std::vector<std::string_view> names;  // In the order of the table.
  std::map<std::string_view, std::vector<size_t>> classes;
  for (size_t i = 0; i < rates.modules.size(); ++i) {
    std::vector<size_t>& modules = classes[rates.modules[i].tensor_class];
    if (modules.empty()) names.push_back(rates.modules[i].tensor_class);
    modules.push_back(i);
  }
  for (size_t c = 0; c < names.size(); ++c) {
    const std::vector<size_t>& modules = classes[names[c]];
    RandomStream random(seed, c);
    for (size_t left = modules.size(); left > 1; --left) {
      const size_t other = random.Below(static_cast<uint32_t>(left));
      std::swap((*alphas)[modules[left - 1]], (*alphas)[modules[other]]);
    }
  }
}

std::vector<double> FittedAlphas(const RateTable& rates, const Priors& priors) {
  std::vector<double> alphas;
  alphas.reserve(rates.modules.size());
  double sum_logs = 0;
  size_t num_inside = 0;
  for (const ModuleRates& module : rates.modules) {
    const auto found = priors.class_factors.find(module.tensor_class);
    double alpha = found == priors.class_factors.end() ? 1 : found->second;
    if (module.layer >= 0) {
      alpha *= DepthFactor(priors.depth, (module.layer + 0.5) / rates.num_layers);
      if (!IsRouter(module) && EndFactor(module, priors) == 0) {
        sum_logs += std::log(alpha);
        ++num_inside;
      }
    }
    alphas.push_back(alpha);
  }
  const double mean = num_inside == 0 ? 1 : std::exp(sum_logs / static_cast<double>(num_inside));
  for (size_t i = 0; i < alphas.size(); ++i) {
    if (const double factor = EndFactor(rates.modules[i], priors); factor != 0) {
      alphas[i] = factor * mean;
    }
    alphas[i] = SixDigits(alphas[i]);
  }
  if (priors.shuffle_seed) ShuffleWithinClasses(rates, *priors.shuffle_seed, &alphas);
  return alphas;
}

// The priors that the articles on RAM state.
double OriginalPrior(const ModuleRates& module, int num_layers) {
  if (module.tensor_class == "embedding" || module.tensor_class == "tied_embedding" ||
      module.tensor_class == "head") {
    return 10;
  }
  if (IsRouter(module)) return 8;
  if (module.layer == 0) return 3;
  if (module.layer >= 0 && module.layer == num_layers - 1) return 2;
  return 1;
}

}  // namespace

double SixDigits(double value) {
  return std::strtod(fmt::format("{:.5e}", value).c_str(), nullptr);
}

std::string_view ObjectiveName(Objective objective) {
  return objective == Objective::kWeights ? "weights" : "ram";
}

Result<Objective> ParseObjective(std::string_view name) {
  for (const Objective objective : {Objective::kWeights, Objective::kRam}) {
    if (name == ObjectiveName(objective)) return objective;
  }
  return Error{ErrorCode::kInvalidArgument,
               fmt::format("\"{}\" is not an objective: expected weights or ram", name)};
}

const Priors& DefaultPriors() {
  static const Priors* const kDefault = [] {
    auto parsed = ParsePriors(kPriorsJson, "ram/plan/priors.json");
    RAM_CHECK(parsed.ok());
    return new Priors(*std::move(parsed));
  }();
  return *kDefault;
}

Priors FlatPriors() {
  Priors priors;
  priors.origin = "a control: every sensitivity 1";
  priors.head = 1;
  priors.embedding = 1;
  priors.tied_embedding = 1;
  return priors;
}

Result<Priors> ParsePriors(std::string_view text, std::string_view where) {
  RAM_ASSIGN_OR_RETURN(const Json json, ParseJson(text, where));
  RAM_ASSIGN_OR_RETURN(const std::string format, GetString(json, "format", where));
  if (format != kPriorsFormat) {
    return WrongPriors(where, "format", fmt::format("expected \"{}\"", kPriorsFormat));
  }
  RAM_ASSIGN_OR_RETURN(Priors priors, PriorsFromJson(json, where));
  priors.sha256 = Sha256Hex(text);
  return priors;
}

Result<Priors> PriorsFromJson(const Json& json, std::string_view where) {
  Priors priors;
  RAM_ASSIGN_OR_RETURN(priors.origin, GetString(json, "origin", where));
  RAM_ASSIGN_OR_RETURN(const Json* classes, GetObject(json, "class_factors", where));
  for (const auto& [name, value] : classes->items()) {
    RAM_ASSIGN_OR_RETURN(const double factor, ReadFactor(*classes, name, where));
    priors.class_factors[name] = factor;
  }
  RAM_ASSIGN_OR_RETURN(const Json* depth, GetArray(json, "depth", where));
  for (const Json& point : *depth) {
    const bool is_pair =
        point.is_array() && point.size() == 2 && point[0].is_number() && point[1].is_number();
    const double position = is_pair ? point[0].get<double>() : -1;
    const double factor = is_pair ? point[1].get<double>() : 0;
    const double previous = priors.depth.empty() ? -1 : priors.depth.back().first;
    if (position < 0 || position > 1 || position <= previous || !IsFactor(factor)) {
      return WrongPriors(where, "depth",
                         "expected [position, factor] pairs with positions rising from 0 to 1");
    }
    priors.depth.emplace_back(position, factor);
  }
  RAM_ASSIGN_OR_RETURN(priors.head, ReadFactor(json, "head", where));
  RAM_ASSIGN_OR_RETURN(priors.embedding, ReadFactor(json, "embedding", where));
  RAM_ASSIGN_OR_RETURN(priors.tied_embedding, ReadFactor(json, "tied_embedding", where));
  if (const Json* seed = Find(json, "shuffle_seed"); seed != nullptr) {
    if (!seed->is_number_unsigned()) {
      return WrongPriors(where, "shuffle_seed", "expected a whole number");
    }
    priors.shuffle_seed = seed->get<uint64_t>();
  }
  return priors;
}

std::vector<double> SensitivityAlphas(const RateTable& rates, Objective objective,
                                      const Priors& priors) {
  if (objective == Objective::kWeights) return FittedAlphas(rates, priors);
  std::vector<double> alphas;
  alphas.reserve(rates.modules.size());
  for (const ModuleRates& module : rates.modules) {
    alphas.push_back(OriginalPrior(module, rates.num_layers));
  }
  return alphas;
}

Cost ChoiceCost(Objective objective, double alpha, double sum_squares_error, double sum_squares) {
  if (sum_squares == 0) return 0;
  const double harm = objective == Objective::kWeights
                          ? alpha * sum_squares_error / sum_squares
                          : alpha * std::sqrt(sum_squares_error / sum_squares);
  return static_cast<Cost>(std::rint(std::min(harm * 1e15, kMaxCost)));
}

std::vector<Choice> DefaultMenu(Objective objective) {
  if (objective == Objective::kWeights) return {kAffineChoices.begin(), kAffineChoices.end()};
  // In the order of kAffineChoices.
  return {Choice::Affine(2, 32), Choice::Affine(3, 64), Choice::Affine(4, 128),
          Choice::Affine(4, 64), Choice::Affine(4, 32), Choice::Affine(8, 128),
          Choice::Affine(8, 64)};
}

}  // namespace ram
