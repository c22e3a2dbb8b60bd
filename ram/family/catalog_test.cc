// Catalogs from configs alone: the models of the inventory, configs that differ in one thing each,
// configs as transformers v5 saves them, defaults of missing keys.

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "ram/family/fixtures.h"

namespace ram {
namespace {

std::filesystem::path ConfigPath(std::string_view model) {
  return std::filesystem::path(RAM_TEST_DATA_DIR) / "configs" / model / "config.json";
}

// Folder of the config for each model of the inventory.
const std::map<std::string, std::string> kInventoryModels = {
    {"Qwen3-8B", "Qwen3-8B"},
    {"Qwen3-30B-A3B", "Qwen3-30B-A3B"},
    {"Qwen2-57B-A14B", "Qwen2-57B-A14B"},
    {"Mixtral-8x7B", "Mixtral-8x7B-v0.1"},
    {"Llama-4-Scout(text)", "Llama-4-Scout-17B-16E-Instruct"},
    {"GLM-4.7-Flash", "GLM-4.7-Flash"},
    {"Qwen3.5-35B-A3B(text)", "Qwen3.5-35B-A3B"},
};

std::string InventoryKind(TensorKind kind) {
  if (kind == TensorKind::kVector) return "vec";
  if (kind == TensorKind::kVector32) return "vec32";
  return std::string(KindName(kind));
}

// The inventory joins layers: [path with layers.*, shape, kind, [[first, last], ...]].
std::map<std::string, std::string> Inventory(const Json& rows) {
  std::map<std::string, std::string> tensors;
  for (const Json& row : rows) {
    const std::string path = row[0];
    const std::string value = row[1].dump() + " " + row[2].get<std::string>();
    if (row.size() == 3) {
      tensors[path] = value;
      continue;
    }
    const size_t star = path.find('*');
    for (const Json& range : row[3]) {
      for (int layer = range[0]; layer <= range[1]; ++layer) {
        tensors[path.substr(0, star) + std::to_string(layer) + path.substr(star + 1)] = value;
      }
    }
  }
  return tensors;
}

TEST(CatalogTest, InventoryOfSevenModels) {
  const Json inventory =
      Must(ReadJsonFile(std::filesystem::path(RAM_TEST_DATA_DIR) / "configs" / "inventory.json"));
  ASSERT_EQ(inventory.size(), kInventoryModels.size());
  for (const auto& [model, folder] : kInventoryModels) {
    const Catalog catalog = Must(BuildCatalog(Must(ReadJsonFile(ConfigPath(folder)))));
    std::map<std::string, std::string> tensors;
    for (const CatalogTensor& tensor : catalog.tensors) {
      tensors[tensor.name] = Json(tensor.shape).dump() + " " + InventoryKind(tensor.kind);
    }
    EXPECT_EQ(tensors, Inventory(inventory[model])) << model;
    EXPECT_EQ(tensors.size(), catalog.tensors.size()) << model;
  }
}

TEST(CatalogTest, SizesOfRealModels) {
  const auto weights = [](std::string_view model) {
    return Must(BuildCatalog(Must(ReadJsonFile(ConfigPath(model))))).num_weights();
  };
  EXPECT_EQ(weights("Qwen3-8B"), 8'190'735'360u);
  EXPECT_EQ(weights("Qwen3-30B-A3B"), 30'532'122'624u);
  EXPECT_EQ(weights("Qwen2-57B-A14B"), 57'408'658'944u);
  EXPECT_EQ(weights("Mixtral-8x7B-v0.1"), 46'702'792'704u);
  EXPECT_EQ(weights("Llama-4-Scout-17B-16E-Instruct"), 107'769'861'120u);
  EXPECT_EQ(weights("GLM-4.7-Flash"), 29'943'393'920u);
  EXPECT_EQ(weights("Qwen3.5-35B-A3B"), 34'660'610'688u);
}

TEST(CatalogTest, OrderIsEmbeddingLayersNormHead) {
  const Catalog catalog = Must(BuildCatalog(Must(ReadJsonFile(ConfigPath("Qwen3-8B")))));
  EXPECT_EQ(catalog.tensors.front().kind, TensorKind::kEmbedding);
  EXPECT_EQ(catalog.tensors[catalog.tensors.size() - 2].name, "model.norm.weight");
  EXPECT_EQ(catalog.tensors.back().tensor_class, TensorClass::kHead);
  EXPECT_TRUE(std::ranges::is_sorted(catalog.tensors.begin(), catalog.tensors.end() - 2, {},
                                     &CatalogTensor::layer));
}

// mlx-lm built these models; the names and shapes are those of its parameters.
TEST(CatalogTest, VariantsEqualMlxLm) {
  const Json expected = Must(ReadJsonFile(FixturePath("expected.json")));
  for (const Json& variant : expected["variants"]) {
    const Result<Catalog> catalog = BuildCatalog(variant["config"]);
    ASSERT_TRUE(catalog.ok()) << variant["name"] << ": " << catalog.error().message;
    std::map<std::string, std::vector<uint64_t>> shapes;
    for (const CatalogTensor& tensor : catalog->tensors) shapes[tensor.name] = tensor.shape;
    EXPECT_EQ(Json(shapes), variant["shapes"]) << variant["name"];
  }
}

// transformers v5 renames and moves keys when it saves a config again; the model stays the same.
TEST(CatalogTest, ConfigsOfTransformersFive) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(FixturePath(""))) {
    if (!std::filesystem::exists(entry.path() / "config_v5.json")) continue;
    ++count;
    const Catalog before = Must(BuildCatalog(Must(ReadJsonFile(entry.path() / "config.json"))));
    const Catalog after = Must(BuildCatalog(Must(ReadJsonFile(entry.path() / "config_v5.json"))));
    std::map<std::string, std::vector<uint64_t>> shapes_before;
    std::map<std::string, std::vector<uint64_t>> shapes_after;
    for (const CatalogTensor& tensor : before.tensors) shapes_before[tensor.name] = tensor.shape;
    for (const CatalogTensor& tensor : after.tensors) shapes_after[tensor.name] = tensor.shape;
    EXPECT_EQ(shapes_before, shapes_after) << entry.path();
    EXPECT_EQ(before.state.cache_elements_per_token, after.state.cache_elements_per_token);
    EXPECT_EQ(before.state.window_tokens, after.state.window_tokens);
    EXPECT_EQ(before.dtype, after.dtype);
    EXPECT_EQ(before.max_context, after.max_context);
  }
  EXPECT_EQ(count, 20);
}

TEST(CatalogTest, DefaultOfTiedEmbeddingsDiffersByFamily) {
  const auto tied = [](std::string_view family) {
    Json config = Must(ReadJsonFile(FixturePath(family) / "config.json"));
    config.erase("tie_word_embeddings");
    return Must(BuildCatalog(config)).tied;
  };
  EXPECT_TRUE(tied("llama"));
  EXPECT_TRUE(tied("mistral"));
  EXPECT_TRUE(tied("qwen2"));
  EXPECT_TRUE(tied("olmo2"));
  EXPECT_TRUE(tied("olmoe"));
  EXPECT_TRUE(tied("gemma2"));
  EXPECT_TRUE(tied("gemma3_text"));
  EXPECT_FALSE(tied("qwen3"));
  EXPECT_FALSE(tied("qwen3_moe"));
  EXPECT_FALSE(tied("qwen2_moe"));
  EXPECT_FALSE(tied("mixtral"));
  EXPECT_FALSE(tied("phi3"));
  EXPECT_FALSE(tied("deepseek_v3"));
  EXPECT_FALSE(tied("gpt_oss"));
  Json config = Must(ReadJsonFile(FixturePath("llama") / "config.json"));
  config["tie_word_embeddings"] = nullptr;  // False to Python.
  EXPECT_FALSE(Must(BuildCatalog(config)).tied);
}

// mlx-lm overwrites the inner one.
TEST(CatalogTest, OuterVocabularyOfGemma3) {
  Json config = {{"model_type", "gemma3"},
                 {"text_config", Must(ReadJsonFile(FixturePath("gemma3_text") / "config.json"))}};
  EXPECT_EQ(Must(BuildCatalog(config)).vocabulary, 256u);
  config["vocab_size"] = 99;
  EXPECT_EQ(Must(BuildCatalog(config)).vocabulary, 99u);
}

TEST(CatalogTest, EveryFourthLayerOfLlama4SeesEverything) {
  Json config = Must(ReadJsonFile(FixturePath("llama4") / "config.json"));
  config["text_config"]["num_hidden_layers"] = 6;
  const StateSize state = Must(BuildCatalog(config)).state;
  EXPECT_EQ(state.cache_elements_per_token, 2u * 2 * 32);  // Layer 3.
  EXPECT_EQ(state.window_cache_elements_per_token, 5u * 2 * 2 * 32);
  EXPECT_EQ(state.window_tokens, 32u);
}

// As in mlx-lm, which never looks at these keys for these families.
TEST(CatalogTest, KeysThatAFamilyDoesNotReadAreIgnored) {
  Json config = Must(ReadJsonFile(FixturePath("qwen3") / "config.json"));
  const size_t count = Must(BuildCatalog(config)).tensors.size();
  config["mlp_bias"] = true;
  config["use_qk_norm"] = false;
  EXPECT_EQ(Must(BuildCatalog(config)).tensors.size(), count);
}

TEST(CatalogTest, StatedDtype) {
  Json config = Must(ReadJsonFile(FixturePath("llama") / "config.json"));
  const auto dtype = [&] { return Must(BuildCatalog(config)).dtype; };
  EXPECT_EQ(dtype(), Dtype::kBF16);
  config["torch_dtype"] = "float16";
  EXPECT_EQ(dtype(), Dtype::kF16);
  config["torch_dtype"] = "float32";
  EXPECT_EQ(dtype(), Dtype::kBF16);
  config.erase("torch_dtype");
  EXPECT_EQ(dtype(), Dtype::kBF16);
  config["dtype"] = "float16";
  EXPECT_EQ(dtype(), Dtype::kF16);
}

TEST(CatalogTest, Classes) {
  const auto class_of = [](std::string_view family, std::string_view name) {
    return ClassName(
        TensorNamed(Must(BuildCatalog(Must(ReadJsonFile(FixturePath(family) / "config.json")))),
                    name)
            .tensor_class);
  };
  EXPECT_EQ(class_of("llama", "model.embed_tokens.weight"), "tied_embedding");
  EXPECT_EQ(class_of("qwen3", "model.embed_tokens.weight"), "embedding");
  EXPECT_EQ(class_of("qwen3", "model.layers.0.mlp.down_proj.weight"), "down");
  EXPECT_EQ(class_of("glm4_moe", "model.layers.0.mlp.down_proj.weight"), "first_dense");
  EXPECT_EQ(class_of("llama4", "language_model.model.layers.0.feed_forward.up_proj.weight"),
            "first_dense");
  EXPECT_EQ(class_of("llama4", "language_model.model.layers.2.feed_forward.up_proj.weight"), "up");
  EXPECT_EQ(class_of("qwen2_moe", "model.layers.0.mlp.shared_expert_gate.weight"), "router");
  for (int i = 0; i <= static_cast<int>(TensorClass::kRouter); ++i) {
    const auto tensor_class = static_cast<TensorClass>(i);
    EXPECT_EQ(ParseClass(ClassName(tensor_class)), tensor_class);
  }
  EXPECT_EQ(ParseClass("no such class"), std::nullopt);
}

TEST(CatalogTest, UnknownModelTypeListsTheKnown) {
  const Result<Catalog> catalog = BuildCatalog(Json{{"model_type", "gpt2"}});
  ASSERT_FALSE(catalog.ok());
  EXPECT_EQ(catalog.error().code, ErrorCode::kUnsupported);
  for (const std::string& name : KnownModelTypes()) {
    EXPECT_NE(catalog.error().message.find(name), std::string::npos) << name;
  }
  EXPECT_NE(catalog.error().message.find("\"gpt2\""), std::string::npos);
}

}  // namespace
}  // namespace ram
