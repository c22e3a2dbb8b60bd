// What `mlx_lm.convert -q` does with each module: the fair comparison. Source: quantize_model in
// utils.py and mixed_quant_predicate_builder in convert.py of mlx-lm 0.32.

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "ram/family/catalog.h"
#include "ram/family/families.h"

namespace ram {
namespace {

struct Recipe {
  std::string_view name;
  int low_bits;
  int high_bits;
};

constexpr Recipe kRecipes[] = {
    {"mixed_2_6", 2, 6},
    {"mixed_3_4", 3, 4},
    {"mixed_3_6", 3, 6},
    {"mixed_4_6", 4, 6},
};

bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// The first and last eighth of the layers, and every third in between, get more bits for what is
// most sensitive. Modules outside the layers count as layer 0.
int RecipeBits(const Recipe& recipe, std::string_view module, int layer, int num_layers) {
  const int eighth = num_layers / 8;
  const int index = std::max(layer, 0);
  const bool more = index < eighth || index >= 7 * num_layers / 8 || (index - eighth) % 3 == 2;
  const bool is_value =
      Contains(module, "v_proj") || Contains(module, "v_a_proj") || Contains(module, "v_b_proj");
  if (more && (is_value || Contains(module, "down_proj"))) return recipe.high_bits;
  return Contains(module, "lm_head") ? recipe.high_bits : recipe.low_bits;
}

}  // namespace

Result<Choice> BaselineChoice(const Catalog& catalog, const CatalogTensor& tensor,
                              const Choice& uniform, std::string_view recipe) {
  const auto chosen = std::ranges::find(kRecipes, recipe, &Recipe::name);
  if (!recipe.empty() && chosen == std::end(kRecipes)) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("\"{}\" is not a recipe: expected mixed_2_6, mixed_3_4, mixed_3_6 or "
                             "mixed_4_6",
                             recipe)};
  }
  if (uniform.mode == Mode::kMxfp4) {
    return Error{ErrorCode::kInvalidArgument,
                 "a uniform baseline is an affine choice or 16 bits, not mxfp4"};
  }
  if (!IsQuantizable(tensor.kind)) return Choice::Dense();
  if (tensor.encoding == Encoding::kMxfp4) return Choice::Mxfp4();  // Kept as it is loaded.
  if (!IsLegal(uniform, tensor.cols)) return Choice::Dense();       // Skipped, whatever follows.
  if (uniform.mode == Mode::kDense) return uniform;

  RAM_ASSIGN_OR_RETURN(const Family* family, FindFamily(catalog.model_type, "catalog"));
  const std::string module = tensor.module();
  Choice choice = uniform;
  if (!recipe.empty()) {
    choice.bits = RecipeBits(*chosen, module, tensor.layer, catalog.num_layers);
  } else if (std::ranges::any_of(family->eight_bit_modules,
                                 [&](std::string_view end) { return module.ends_with(end); })) {
    choice = Choice::Affine(8, 64);
  }
  if (!IsLegal(choice, tensor.cols)) {
    return Error{ErrorCode::kUnsupported,
                 fmt::format("mlx_lm.convert fails on {}: it wants {} there, but rows have {} "
                             "weights",
                             module, ChoiceName(choice), tensor.cols)};
  }
  return choice;
}

}  // namespace ram
