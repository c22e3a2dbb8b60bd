#pragma once

// Objectives: what an error in a module costs, relative to the others.
//
//   weights  alpha x relative MSE; alpha from a table of classes and depths that was fitted to
//            measured sensitivities of real models (priors.json). The default.
//   ram      the original's: prior x unsquared relative error, with its menu of eight choices. Kept
//            for comparisons at equal bytes.
//
// Source: docs/allocation.md.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ram/allocate/allocate.h"
#include "ram/base/result.h"
#include "ram/rates/rate_table.h"

namespace ram {

enum class Objective : uint8_t { kWeights, kRam };

std::string_view ObjectiveName(Objective objective);  // "weights", "ram"
Result<Objective> ParseObjective(std::string_view name);

// The fitted table of the `weights` objective.
struct Priors {
  std::string origin;                            // Which data it was fitted to, and how.
  std::map<std::string, double> class_factors;   // By tensor class; 1 for others.
  std::vector<std::pair<double, double>> depth;  // (position in [0, 1], factor), linear in between.
  double head = 0;            // Times the geometric mean of alpha over the items in layers.
  double embedding = 0;       // likewise
  double tied_embedding = 0;  // likewise
  // A control: the alphas of the modules of each class are dealt out anew among them, by this seed.
  std::optional<uint64_t> shuffle_seed;
  std::string sha256;  // Of the text it was read from; empty if it was made by hand.
};

// The table that was built in: ram/plan/priors.json.
const Priors& DefaultPriors();
// A control: every sensitivity 1.
Priors FlatPriors();
// kCorrupt names `where` and the key.
Result<Priors> ParsePriors(std::string_view text, std::string_view where);

// alpha of every module, in the order of the table, rounded to six significant digits.
//   weights  class factor x depth factor inside layers; head and embeddings as multiples of the
//            geometric mean of these over all modules in layers but routers. With a shuffle_seed
//            permuted within each class (by Fisher and Yates, class c in the order of the table
//            with the numbers of RandomStream(seed, c)).
//   ram      embeddings and head 10, routers 8, first layer 3, last layer 2, others 1.
std::vector<double> SensitivityAlphas(const RateTable& rates, Objective objective,
                                      const Priors& priors);

// Cost of one choice of one module, in units of kCostUnit:
//   weights  rint(alpha * sum_squares_error / sum_squares * 1e15)
//   ram      rint(alpha * sqrt(sum_squares_error / sum_squares) * 1e15)
// in IEEE doubles, operations in this order, so that a checker in any language gets the same whole
// number. 0 where ||W|| = 0.
Cost ChoiceCost(Objective objective, double alpha, double sum_squares_error, double sum_squares);

// Choices an objective selects from by default: every affine one, or the original's eight.
std::vector<Choice> DefaultMenu(Objective objective);

}  // namespace ram
