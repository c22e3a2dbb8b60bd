#include "ram/study/arms.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <optional>
#include <utility>

namespace ram {
namespace {

constexpr std::string_view kExpected =
    "expected bf16, fp16, uniform-4-64 (bits, group size), mixed_2_6, mixed_3_4, mixed_3_6, "
    "mixed_4_6 (-32: in groups of 32), weights, ram, flat or shuffled (:rtn, :rtn+, :opt)";
constexpr std::array<std::string_view, 4> kRecipes = {"mixed_2_6", "mixed_3_4", "mixed_3_6",
                                                      "mixed_4_6"};
constexpr int kDefaultGroup = 64;  // Of mlx_lm.convert.

Error NotAnArm(std::string_view name, std::string_view why) {
  return {ErrorCode::kInvalidArgument, fmt::format("arm \"{}\": {}", name, why)};
}

// "-4-64" -> {4, 64}; nothing if it is anything else.
std::vector<int> TakeNumbers(std::string_view text) {
  std::vector<int> numbers;
  while (!text.empty()) {
    if (text.front() != '-') return {};
    int number = 0;
    const auto [end, error] = std::from_chars(text.data() + 1, text.data() + text.size(), number);
    if (error != std::errc()) return {};
    numbers.push_back(number);
    text.remove_prefix(static_cast<size_t>(end - text.data()));
  }
  return numbers;
}

bool IsAffine(const Choice& choice) {
  return std::ranges::find(kAffineChoices, choice) != kAffineChoices.end();
}

// An arm that has a size of its own, or nothing.
std::optional<ArmSpec> ParseSized(const std::string& name) {
  ArmSpec arm;
  arm.name = name;
  if (name == "bf16" || name == "fp16") {
    arm.kind = ArmSpec::Kind::kRounded;
    arm.dtype = name == "bf16" ? Dtype::kBF16 : Dtype::kF16;
    return arm;
  }
  constexpr std::string_view kUniform = "uniform";
  if (name.starts_with(kUniform)) {
    const std::vector<int> numbers = TakeNumbers(std::string_view(name).substr(kUniform.size()));
    if (numbers.size() != 2) return std::nullopt;
    arm.uniform = Choice::Affine(numbers[0], numbers[1]);
    return IsAffine(arm.uniform) ? std::optional(arm) : std::nullopt;
  }
  for (const std::string_view recipe : kRecipes) {
    if (!name.starts_with(recipe)) continue;
    const std::string_view rest = std::string_view(name).substr(recipe.size());
    const std::vector<int> numbers = TakeNumbers(rest);
    if (numbers.size() > 1 || (numbers.empty() && !rest.empty())) return std::nullopt;
    arm.kind = ArmSpec::Kind::kRecipe;
    arm.recipe = recipe;
    arm.uniform = Choice::Affine(4, numbers.empty() ? kDefaultGroup : numbers[0]);
    return IsAffine(arm.uniform) ? std::optional(arm) : std::nullopt;
  }
  return std::nullopt;
}

// "weights:opt" and the like: one arm, or one for every seed.
Result<std::vector<ArmSpec>> ParsePlanned(const std::string& name, const ArmDefaults& defaults) {
  const size_t colon = name.find(':');
  const std::string method = name.substr(0, colon);
  ArmSpec arm;
  arm.kind = ArmSpec::Kind::kPlanned;
  arm.quantizer = defaults.quantizer;
  if (colon != name.npos) {
    const auto quantizer = ParseQuantizer(name.substr(colon + 1));
    if (!quantizer) return NotAnArm(name, quantizer.error().message);
    arm.quantizer = *quantizer;
  }
  arm.request.floor_db = defaults.floor_db;
  arm.name = name;
  if (method == "weights") return std::vector<ArmSpec>{arm};
  if (method == "ram") {
    arm.request.objective = Objective::kRam;
    return std::vector<ArmSpec>{arm};
  }
  if (method == "flat") {
    arm.request.priors = FlatPriors();
    return std::vector<ArmSpec>{arm};
  }
  if (method != "shuffled") return NotAnArm(name, kExpected);
  std::vector<ArmSpec> arms;
  for (size_t seed = 1; seed <= defaults.num_shuffles; ++seed) {
    arm.name = fmt::format("shuffled-{}{}", seed, colon == name.npos ? "" : name.substr(colon));
    arm.request.priors.shuffle_seed = seed;
    arms.push_back(arm);
  }
  return arms;
}

}  // namespace

std::vector<std::string> DefaultArmNames() {
  return {"bf16",      "fp16",      "uniform-4-32", "uniform-4-64", "uniform-4-128",
          "mixed_2_6", "mixed_3_4", "mixed_3_6",    "mixed_4_6",    "weights",
          "ram",       "flat",      "shuffled"};
}

Result<std::vector<ArmSpec>> ParseArms(const std::vector<std::string>& names,
                                       const ArmDefaults& defaults) {
  std::vector<ArmSpec> arms;
  for (const std::string& name : names) {
    std::vector<ArmSpec> parsed;
    if (std::optional<ArmSpec> sized = ParseSized(name)) {
      parsed.push_back(*std::move(sized));
    } else {
      RAM_ASSIGN_OR_RETURN(parsed, ParsePlanned(name, defaults));
    }
    for (ArmSpec& arm : parsed) {
      if (std::ranges::find(arms, arm.name, &ArmSpec::name) != arms.end()) {
        return NotAnArm(name, "given twice");
      }
      arms.push_back(std::move(arm));
    }
  }
  return arms;
}

ArmSpec GivenArm(const std::string& path, const std::vector<ArmSpec>& others) {
  std::filesystem::path folder = std::filesystem::path(path).lexically_normal();
  if (folder.filename().empty()) folder = folder.parent_path();
  ArmSpec arm;
  arm.kind = ArmSpec::Kind::kGiven;
  arm.path = path;
  const std::string name = folder.filename().empty() ? "given" : folder.filename().string();
  arm.name = name;
  for (int number = 2; std::ranges::find(others, arm.name, &ArmSpec::name) != others.end();
       ++number) {
    arm.name = fmt::format("{}-{}", name, number);
  }
  return arm;
}

std::string DescribeArm(const ArmSpec& arm) {
  switch (arm.kind) {
    case ArmSpec::Kind::kRounded:
      return fmt::format("the original's weights rounded to {}",
                         arm.dtype == Dtype::kF16 ? "FP16" : "BF16");
    case ArmSpec::Kind::kUniform:
      return fmt::format("uniform {} bits in groups of {}, as mlx_lm.convert makes it",
                         arm.uniform.bits, arm.uniform.group_size);
    case ArmSpec::Kind::kRecipe:
      return fmt::format("recipe {} of mlx_lm.convert, groups of {}", arm.recipe,
                         arm.uniform.group_size);
    case ArmSpec::Kind::kGiven:
      return fmt::format("given: {}", arm.path);
    case ArmSpec::Kind::kPlanned:
      break;
  }
  const std::string by = fmt::format("codes by {}", QuantizerName(arm.quantizer));
  if (arm.request.objective == Objective::kRam) {
    return fmt::format("plan of the seeds' objective and menu, {}", by);
  }
  if (arm.request.priors.shuffle_seed) {
    return fmt::format(
        "null: our plan with the sensitivities of each class dealt out anew, seed "
        "{}, {}",
        *arm.request.priors.shuffle_seed, by);
  }
  if (arm.request.priors.class_factors.empty()) {
    return fmt::format("null: our plan with every sensitivity 1, {}", by);
  }
  return fmt::format("our plan, {}", by);
}

Result<std::vector<Choice>> ChoicesOfArm(const ArmSpec& arm, const Catalog& catalog) {
  std::vector<Choice> choices(catalog.tensors.size(), Choice::Dense());
  if (arm.kind == ArmSpec::Kind::kRounded) return choices;
  RAM_CHECK(arm.kind == ArmSpec::Kind::kUniform || arm.kind == ArmSpec::Kind::kRecipe);
  bool has_down = false;
  bool is_quantized = false;
  for (size_t i = 0; i < choices.size(); ++i) {
    const CatalogTensor& tensor = catalog.tensors[i];
    RAM_ASSIGN_OR_RETURN(choices[i], BaselineChoice(catalog, tensor, arm.uniform, arm.recipe));
    has_down = has_down || tensor.name.find("down_proj") != std::string::npos;
    is_quantized = is_quantized || choices[i].mode == Mode::kAffine;
  }
  if (arm.kind == ArmSpec::Kind::kRecipe && !has_down) {
    return Error{
        ErrorCode::kUnsupported,
        fmt::format("{}: mlx_lm.convert has recipes only for models with a down_proj", arm.name)};
  }
  if (!is_quantized) {
    return Error{ErrorCode::kUnsupported,
                 fmt::format("{}: mlx_lm.convert would leave all of this model in 16 bits, groups "
                             "of {} divide no row",
                             arm.name, arm.uniform.group_size)};
  }
  return choices;
}

Catalog CatalogIn(const Catalog& catalog, Dtype dtype) {
  Catalog changed = catalog;
  changed.dtype = dtype;
  for (CatalogTensor& tensor : changed.tensors) {
    if (tensor.kind != TensorKind::kVector32) tensor.dtype = dtype;
  }
  return changed;
}

}  // namespace ram
