#pragma once

// The arms of a study: which models are compared, as names that people write.
//
//   bf16, fp16         the original with its weights rounded to BF16 or FP16
//   uniform-B-G        every module at B bits in groups of G, as mlx_lm.convert -q makes it
//   mixed_2_6, mixed_3_4, mixed_3_6, mixed_4_6 (-G)
//                      the recipes of mlx_lm.convert, in groups of G (64)
//   weights            the plan of our objective          these have no size of their own: each is
//   ram                the plan of the seeds' objective   made at the bytes of every other arm and
//   flat               null: every sensitivity 1          at every budget; with ":rtn", ":rtn+" or
//   shuffled           null: the sensitivities of each    ":opt" by that quantizer
//                      class dealt out anew

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ram/base/dtype.h"
#include "ram/base/result.h"
#include "ram/family/catalog.h"
#include "ram/plan/plan.h"
#include "ram/quant/quantize.h"

namespace ram {

struct ArmSpec {
  enum class Kind : uint8_t {
    kRounded,  // All of it in `dtype`.
    kUniform,  // `uniform`.
    kRecipe,   // `recipe` of mlx-lm with the group size of `uniform`.
    kGiven,    // The checkpoint at `path`: MLX, GPTQ, AWQ, anything that can be run.
    kPlanned,  // `request`, at the bytes of others.
  };
  Kind kind = Kind::kUniform;
  std::string name;  // Unique among the arms; fit for the name of a file.
  Dtype dtype = Dtype::kBF16;
  Choice uniform;
  std::string recipe;
  std::string path;
  PlanRequest request;
  Quantizer quantizer = Quantizer::kRtn;  // kPlanned; baselines are rounded as MLX rounds.
};

struct ArmDefaults {
  Quantizer quantizer = Quantizer::kRtn;
  double floor_db = 9;
  size_t num_shuffles = 1;  // Seeds 1, 2, ... of each arm "shuffled".
};

// What is studied unless something else is asked for.
std::vector<std::string> DefaultArmNames();
// kInvalidArgument quotes the name that is none of those above, or that comes twice.
Result<std::vector<ArmSpec>> ParseArms(const std::vector<std::string>& names,
                                       const ArmDefaults& defaults);
// An arm for a checkpoint, called after its folder, other than the arms that are there.
ArmSpec GivenArm(const std::string& path, const std::vector<ArmSpec>& others);

// One line for people: "uniform 4 bits in groups of 64".
std::string DescribeArm(const ArmSpec& arm);

// What mlx_lm.convert makes of each tensor of the catalog (kUniform, kRecipe); 16 bits everywhere
// for kRounded. kUnsupported says in one sentence why this model has no such arm.
Result<std::vector<Choice>> ChoicesOfArm(const ArmSpec& arm, const Catalog& catalog);

// The catalog with everything that is stored in 16 bits stored as `dtype`.
Catalog CatalogIn(const Catalog& catalog, Dtype dtype);

}  // namespace ram
