// Configs that are wrong give one sentence that names the key, and never a crash, a hang or a large
// allocation.

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "ram/family/fixtures.h"

namespace ram {
namespace {

Json ConfigOf(std::string_view family) {
  return Must(ReadJsonFile(FixturePath(family) / "config.json"));
}

// The error of BuildCatalog, or a failure of the test.
Error ErrorOf(const Json& config) {
  Result<Catalog> catalog = BuildCatalog(config);
  EXPECT_FALSE(catalog.ok()) << config.dump();
  if (catalog.ok()) return Error{ErrorCode::kIo, "no error"};
  return std::move(catalog).error();
}

TEST(MalformedConfigTest, ValuesThatNoSizeCanHave) {
  const std::vector<Json> values = {-1,   0,    1.5,       "4096", Json::array(), Json::object(),
                                    true, 1e30, INT64_MIN, 4096.0, UINT64_MAX,    1'000'000'000};
  for (const char* key : {"hidden_size", "num_hidden_layers", "vocab_size", "num_attention_heads",
                          "num_key_value_heads", "head_dim", "intermediate_size",
                          "moe_intermediate_size", "num_experts", "decoder_sparse_step"}) {
    for (const Json& value : values) {
      if (std::string(key) == "num_experts" && value == 0) continue;  // All dense.
      Json config = ConfigOf("qwen3_moe");
      config["mlp_only_layers"] = {1};
      config[key] = value;
      const Error error = ErrorOf(config);
      EXPECT_NE(error.message.find(key), std::string::npos) << error.message;
      EXPECT_EQ(error.message.find('\n'), std::string::npos);
      EXPECT_LT(error.message.size(), 300u);
    }
  }
}

TEST(MalformedConfigTest, EveryMissingKeyIsNamedOrHasADefault) {
  for (const auto& entry : std::filesystem::directory_iterator(FixturePath(""))) {
    if (!entry.is_directory()) continue;
    const Json whole = Must(ReadJsonFile(entry.path() / "config.json"));
    const bool nested = whole.contains("text_config");
    const Json& keys = nested ? whole["text_config"] : whole;
    for (const auto& [key, value] : keys.items()) {
      Json config = whole;
      (nested ? config["text_config"] : config).erase(key);
      const Result<Catalog> catalog = BuildCatalog(config);
      if (!catalog.ok()) {
        EXPECT_NE(catalog.error().message.find(key), std::string::npos) << catalog.error().message;
      }
      // Nor may another type crash.
      for (const Json& other : {Json("x"), Json(-7), Json::array({1, "x"}), Json::object()}) {
        (nested ? config["text_config"] : config)[key] = other;
        const Result<Catalog> changed = BuildCatalog(config);
        if (changed.ok()) Must(OutputConfig(config, *changed));
      }
    }
  }
}

TEST(MalformedConfigTest, MillionsOfLayersAndExperts) {
  Json config = ConfigOf("qwen3_moe");
  config["num_hidden_layers"] = 1'000'000;
  EXPECT_NE(ErrorOf(config).message.find("num_hidden_layers"), std::string::npos);
  config["num_hidden_layers"] = 1000;
  config["num_experts"] = 10'000;
  EXPECT_NE(ErrorOf(config).message.find("more than this version handles"), std::string::npos);
  config["num_experts"] = 1'000'000;
  EXPECT_NE(ErrorOf(config).message.find("num_experts"), std::string::npos);
}

TEST(MalformedConfigTest, TensorsThatOverflow) {
  Json config = ConfigOf("qwen3_moe");
  config["num_experts"] = 16'384;
  config["moe_intermediate_size"] = 1 << 28;
  config["hidden_size"] = 1 << 28;
  const Error error = ErrorOf(config);
  EXPECT_EQ(error.code, ErrorCode::kCorrupt);
  EXPECT_NE(error.message.find("2^48"), std::string::npos) << error.message;
}

TEST(MalformedConfigTest, NotEvenAConfig) {
  for (const Json& config : {Json(), Json::array(), Json("llama"), Json::object(),
                             Json{{"model_type", 7}}, Json{{"model_type", nullptr}}}) {
    EXPECT_EQ(ErrorOf(config).code, ErrorCode::kCorrupt);
  }
  EXPECT_NE(ErrorOf(Json{{"model_type", "llama4"}}).message.find("text_config"), std::string::npos);
  EXPECT_NE(ErrorOf(Json{{"model_type", "llama4"}, {"text_config", 3}}).message.find("text_config"),
            std::string::npos);
}

TEST(MalformedConfigTest, LayerTypesOfAnotherLength) {
  Json config = ConfigOf("gpt_oss");
  config["num_hidden_layers"] = 4;
  EXPECT_NE(ErrorOf(config).message.find("layer_types"), std::string::npos);
}

TEST(MalformedConfigTest, MoreHeadsThanHiddenSize) {
  Json config = ConfigOf("qwen2");
  config["num_attention_heads"] = 4096;
  EXPECT_NE(ErrorOf(config).message.find("num_attention_heads"), std::string::npos);
}

TEST(MalformedConfigTest, SettingsThatMlxLmLacksAreRefused) {
  const std::vector<std::pair<std::string, Json>> settings = {
      {"qwen3", {{"attention_bias", true}}},
      {"qwen3_moe", {{"attention_bias", true}}},
      {"qwen2_moe", {{"decoder_sparse_step", 2}}},
      {"qwen2_moe", {{"mlp_only_layers", {0}}}},
      {"deepseek_v3", {{"topk_method", "greedy"}}},
      {"glm4_moe", {{"moe_layer_freq", 2}}},
      {"olmoe", {{"mlp_bias", true}}},
  };
  for (const auto& [family, change] : settings) {
    Json config = ConfigOf(family);
    config.update(change);
    const Error error = ErrorOf(config);
    EXPECT_EQ(error.code, ErrorCode::kUnsupported);
    EXPECT_NE(error.message.find(change.begin().key()), std::string::npos) << error.message;
  }
  Json llama4 = ConfigOf("llama4");
  llama4["text_config"]["num_experts_per_tok"] = 2;
  EXPECT_EQ(ErrorOf(llama4).code, ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace ram
