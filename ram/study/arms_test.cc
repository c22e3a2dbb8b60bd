#include "ram/study/arms.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "ram/checkpoint/checkpoint.h"
#include "ram/rates/rate_table.h"

namespace ram {
namespace {

Catalog CatalogOf(const std::string& folder) {
  auto checkpoint = Checkpoint::Open(folder);
  RAM_CHECK(checkpoint.ok());
  auto catalog = BindCatalog(*checkpoint);
  RAM_CHECK(catalog.ok());
  return *std::move(catalog);
}

ArmSpec MustParse(const std::string& name) {
  const auto arms = ParseArms({name}, {});
  RAM_CHECK(arms.ok() && arms->size() == 1);
  return arms->front();
}

TEST(Arms, NamesSayWhatTheyAre) {
  EXPECT_EQ(MustParse("bf16").dtype, Dtype::kBF16);
  EXPECT_EQ(MustParse("fp16").dtype, Dtype::kF16);
  EXPECT_EQ(MustParse("fp16").kind, ArmSpec::Kind::kRounded);
  EXPECT_EQ(MustParse("uniform-3-128").uniform, Choice::Affine(3, 128));
  EXPECT_EQ(MustParse("mixed_2_6").recipe, "mixed_2_6");
  EXPECT_EQ(MustParse("mixed_2_6").uniform.group_size, 64);
  EXPECT_EQ(MustParse("mixed_3_4-32").recipe, "mixed_3_4");
  EXPECT_EQ(MustParse("mixed_3_4-32").uniform.group_size, 32);
  EXPECT_EQ(MustParse("weights").quantizer, Quantizer::kRtn);
  EXPECT_EQ(MustParse("weights:opt").quantizer, Quantizer::kOpt);
  EXPECT_EQ(MustParse("ram").request.objective, Objective::kRam);
  EXPECT_EQ(MustParse("flat").request.priors.tied_embedding, 1);
  EXPECT_EQ(MustParse("shuffled").name, "shuffled-1");
}

TEST(Arms, ShuffledOnceForEverySeed) {
  const auto arms = ParseArms({"weights", "shuffled:rtn+"}, {.num_shuffles = 3});
  ASSERT_TRUE(arms.ok());
  ASSERT_EQ(arms->size(), 4U);
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    EXPECT_EQ((*arms)[seed].name, "shuffled-" + std::to_string(seed) + ":rtn+");
    EXPECT_EQ((*arms)[seed].request.priors.shuffle_seed, seed);
    EXPECT_EQ((*arms)[seed].quantizer, Quantizer::kRtnPlus);
  }
}

TEST(Arms, WhatIsNoneIsRefused) {
  for (const char* name : {"", "uniform", "uniform-4", "uniform-4-48", "uniform-4-64-1",
                           "uniform-7-64", "uniform-4-64x", "mixed_4_6-", "mixed_4_6-48", "mixed_9",
                           "weights:", "weights:best", "fp32", "shuffled-2"}) {
    const auto arms = ParseArms({name}, {});
    ASSERT_FALSE(arms.ok()) << name;
    EXPECT_NE(arms.error().message.find("arm \"" + std::string(name) + "\": "), std::string::npos);
  }
  EXPECT_EQ(ParseArms({"flat", "flat"}, {}).error().message, "arm \"flat\": given twice");
}

TEST(Arms, DefaultNamesAreArms) {
  const auto arms = ParseArms(DefaultArmNames(), {});
  ASSERT_TRUE(arms.ok());
  EXPECT_EQ(arms->size(), DefaultArmNames().size());
}

TEST(Arms, GivenOnesAreCalledAfterTheirFolders) {
  std::vector<ArmSpec> arms;
  for (const char* path : {"a/model", "b/model/", "./model/.", "ram"}) {
    arms.push_back(GivenArm(path, arms));
  }
  EXPECT_EQ(arms[0].name, "model");
  EXPECT_EQ(arms[1].name, "model-2");
  EXPECT_EQ(arms[2].name, "model-3");
  EXPECT_EQ(arms[3].name, "ram");
}

// mixed_quant_predicate of mlx-lm 0.32, transcribed; `path` as MLX names modules, in a model whose
// layers are at "model.layers.N".
int MixedBits(const std::string& path, int low, int high, int num_layers) {
  int index = 0;
  if (path.starts_with("model.layers.")) index = std::stoi(path.substr(13));
  const bool more =
      index < num_layers / 8 || index >= 7 * num_layers / 8 || (index - num_layers / 8) % 3 == 2;
  const auto has = [&](const char* part) { return path.find(part) != std::string::npos; };
  if (has("v_proj") && more) return high;
  if (has("down_proj") && more) return high;
  return has("lm_head") ? high : low;
}

TEST(Arms, RecipesAreThoseOfMlxLm) {
  const Catalog catalog = CatalogOf(RAM_SOURCE_DIR "/models/moe-8x");
  struct Expected {
    const char* name;
    int low;
    int high;
  };
  for (const Expected& recipe : {Expected{"mixed_2_6", 2, 6},
                                 {"mixed_3_4", 3, 4},
                                 {"mixed_3_6", 3, 6},
                                 {"mixed_4_6", 4, 6}}) {
    const auto choices = ChoicesOfArm(MustParse(recipe.name), catalog);
    ASSERT_TRUE(choices.ok());
    std::set<int> seen;
    for (size_t i = 0; i < choices->size(); ++i) {
      const CatalogTensor& tensor = catalog.tensors[i];
      if (!IsQuantizable(tensor.kind)) {
        EXPECT_EQ((*choices)[i], Choice::Dense());
        continue;
      }
      const int bits = MixedBits(tensor.module(), recipe.low, recipe.high, catalog.num_layers);
      EXPECT_EQ((*choices)[i], Choice::Affine(bits, 64)) << tensor.name;
      seen.insert(bits);
    }
    EXPECT_EQ(seen.size(), 2U);
  }
}

TEST(Arms, UniformKeepsRoutersAtEightBits) {
  const Catalog catalog = CatalogOf(RAM_SOURCE_DIR "/models/moe-8x");
  const auto choices = ChoicesOfArm(MustParse("uniform-4-32"), catalog);
  ASSERT_TRUE(choices.ok());
  for (size_t i = 0; i < choices->size(); ++i) {
    const TensorKind kind = catalog.tensors[i].kind;
    EXPECT_EQ((*choices)[i], kind == TensorKind::kRouter ? Choice::Affine(8, 64)
                             : IsQuantizable(kind)       ? Choice::Affine(4, 32)
                                                         : Choice::Dense());
  }
}

TEST(Arms, OneSentenceWhereAModelHasNoSuchArm) {
  // Its rows are of 32 columns and less than 128.
  const Catalog catalog = CatalogOf(RAM_TEST_DATA_DIR "/families/qwen3_moe");
  Catalog narrow = catalog;
  for (CatalogTensor& tensor : narrow.tensors) {
    if (IsQuantizable(tensor.kind)) tensor.cols = 96;
  }
  const auto uniform = ChoicesOfArm(MustParse("uniform-4-64"), narrow);
  ASSERT_FALSE(uniform.ok());
  EXPECT_EQ(uniform.error().message,
            "uniform-4-64: mlx_lm.convert would leave all of this model in 16 bits, groups of 64 "
            "divide no row");
  Catalog without = catalog;
  std::erase_if(without.tensors, [](const CatalogTensor& tensor) {
    return tensor.name.find("down_proj") != std::string::npos;
  });
  const auto mixed = ChoicesOfArm(MustParse("mixed_4_6-32"), without);
  ASSERT_FALSE(mixed.ok());
  EXPECT_EQ(mixed.error().message,
            "mixed_4_6-32: mlx_lm.convert has recipes only for models with a down_proj");
}

TEST(Arms, RoundedCatalogsKeepWhatMustBeF32) {
  Catalog catalog = CatalogOf(RAM_SOURCE_DIR "/models/moe-8x");
  catalog.tensors[1].kind = TensorKind::kVector32;
  catalog.tensors[1].dtype = Dtype::kF32;
  const Catalog rounded = CatalogIn(catalog, Dtype::kF16);
  EXPECT_EQ(rounded.dtype, Dtype::kF16);
  EXPECT_EQ(rounded.tensors[0].dtype, Dtype::kF16);
  EXPECT_EQ(rounded.tensors[1].dtype, Dtype::kF32);
  const auto choices = ChoicesOfArm(MustParse("fp16"), rounded);
  ASSERT_TRUE(choices.ok());
  for (const Choice& choice : *choices) EXPECT_EQ(choice, Choice::Dense());
}

}  // namespace
}  // namespace ram
