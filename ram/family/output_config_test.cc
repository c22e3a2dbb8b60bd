// config.json of the output.

#include <gtest/gtest.h>

#include <string>

#include "ram/family/fixtures.h"

namespace ram {
namespace {

Json OutputOf(const Json& config) { return Must(OutputConfig(config, Must(BuildCatalog(config)))); }

Json ConfigOf(std::string_view family) {
  return Must(ReadJsonFile(FixturePath(family) / "config.json"));
}

TEST(OutputConfigTest, WhatIsNoLongerThereIsNotDescribed) {
  Json config = ConfigOf("llama4");
  config["_name_or_path"] = "/home/someone/model";
  config["text_config"]["quantization_config"] = {{"quant_method", "fp8"},
                                                  {"weight_block_size", {128, 128}}};
  const Json output = OutputOf(config);
  for (const char* key : {"_name_or_path", "vision_config", "quantization_config"}) {
    EXPECT_FALSE(output.contains(key)) << key;
    EXPECT_FALSE(output["text_config"].contains(key)) << key;
  }
  EXPECT_FALSE(OutputOf(ConfigOf("gpt_oss_mxfp4")).contains("quantization_config"));
}

TEST(OutputConfigTest, EverythingElseIsKept) {
  Json config = ConfigOf("llama");
  config["something_new"] = {{"a", 1}};
  EXPECT_EQ(OutputOf(config), config);
  Json nested = ConfigOf("qwen3_5_moe");
  Json expected = nested;
  expected.erase("vision_config");
  expected["torch_dtype"] = "bfloat16";
  expected["text_config"]["tie_word_embeddings"] = false;  // mlx-lm reads it only there.
  EXPECT_EQ(OutputOf(nested), expected);
}

TEST(OutputConfigTest, DtypeIsThatOfTheOutput) {
  Json config = ConfigOf("llama");
  config["torch_dtype"] = "float32";
  config["dtype"] = "float32";
  EXPECT_EQ(OutputOf(config)["torch_dtype"], "bfloat16");
  EXPECT_EQ(OutputOf(config)["dtype"], "bfloat16");
  config.erase("dtype");
  config["torch_dtype"] = "float16";
  EXPECT_EQ(OutputOf(config)["torch_dtype"], "float16");
  Json nested = ConfigOf("llama4");
  nested["text_config"]["torch_dtype"] = "float32";
  nested["torch_dtype"] = "float32";
  EXPECT_EQ(OutputOf(nested)["text_config"]["torch_dtype"], "bfloat16");
}

// What mlx-lm reads of a config that transformers v5 has saved is what it read before.
TEST(OutputConfigTest, KeysThatVersionFiveMovedComeBack) {
  for (const auto& entry : std::filesystem::directory_iterator(FixturePath(""))) {
    if (!std::filesystem::exists(entry.path() / "config_v5.json")) continue;
    const Json before = OutputOf(Must(ReadJsonFile(entry.path() / "config.json")));
    const Json after = OutputOf(Must(ReadJsonFile(entry.path() / "config_v5.json")));
    const bool nested = before.contains("text_config");
    const Json& text_before = nested ? before["text_config"] : before;
    const Json& text_after = nested ? after["text_config"] : after;
    for (const auto& [key, value] : text_before.items()) {
      if (value.is_null() || key == "torch_dtype") continue;
      if (key == "sliding_window" && !before.value("use_sliding_window", true)) continue;
      ASSERT_TRUE(text_after.contains(key)) << entry.path() << " " << key;
      if (!value.is_object()) {
        EXPECT_EQ(text_after[key], value) << entry.path() << " " << key;
        continue;
      }
      for (const auto& [inner, inner_value] : value.items()) {  // rope_scaling has more names now.
        EXPECT_EQ(text_after[key][inner], inner_value) << entry.path() << " " << key;
      }
    }
    EXPECT_EQ(after["torch_dtype"], before["torch_dtype"]);
  }
}

TEST(OutputConfigTest, LongRope) {
  Json config = ConfigOf("phi3");
  config.erase("rope_theta");
  config.erase("rope_scaling");
  config["rope_parameters"] = {{"rope_type", "longrope"},
                               {"rope_theta", 10000.0},
                               {"long_factor", {1.0, 2.0}},
                               {"short_factor", {1.0, 1.0}}};
  const Json output = OutputOf(config);
  EXPECT_EQ(output["rope_theta"], 10000.0);
  EXPECT_EQ(output["rope_scaling"]["type"], "longrope");  // The only name phi3 of mlx-lm knows.
  EXPECT_EQ(output["rope_scaling"]["long_factor"], Json({1.0, 2.0}));
  EXPECT_FALSE(output["rope_scaling"].contains("rope_theta"));
}

// mlx-lm refuses any scaling but "linear" for qwen2_moe, and ignores that one.
TEST(OutputConfigTest, ScalingThatWouldStopMlxLmIsNotAdded) {
  Json config = ConfigOf("qwen2_moe");
  config.erase("rope_theta");
  config["rope_parameters"] = {{"rope_type", "yarn"}, {"rope_theta", 1e6}, {"factor", 4.0}};
  const Json output = OutputOf(config);
  EXPECT_EQ(output["rope_theta"], 1e6);
  EXPECT_FALSE(output.contains("rope_scaling"));
}

TEST(OutputConfigTest, TextModelsGetTheNameMlxLmKnows) {
  const Json nested = ConfigOf("qwen3_5_moe");
  Json config = nested["text_config"];
  EXPECT_EQ(config["model_type"], "qwen3_5_moe_text");
  EXPECT_EQ(OutputOf(config)["model_type"], "qwen3_5_moe");
  EXPECT_EQ(OutputOf(ConfigOf("mistral"))["model_type"], "mistral");
}

TEST(OutputConfigTest, Gemma3TakesTheVocabularyFromOutside) {
  const Json config = {{"model_type", "gemma3"}, {"text_config", ConfigOf("gemma3_text")}};
  EXPECT_EQ(OutputOf(config)["vocab_size"], 256);
}

TEST(OutputConfigTest, WhatMlxLmRequiresIsWritten) {
  Json config = ConfigOf("qwen3_moe");
  for (const char* key : {"decoder_sparse_step", "mlp_only_layers", "norm_topk_prob",
                          "tie_word_embeddings", "num_key_value_heads"}) {
    config.erase(key);
  }
  const Json output = OutputOf(config);
  EXPECT_EQ(output["decoder_sparse_step"], 1);
  EXPECT_EQ(output["mlp_only_layers"], Json::array());
  EXPECT_EQ(output["norm_topk_prob"], false);
  EXPECT_EQ(output["tie_word_embeddings"], false);
  EXPECT_EQ(output["num_key_value_heads"], 4);
}

}  // namespace
}  // namespace ram
