// Graphs from configs: numbers, what hf and mlx switch, and what is refused. That the graphs are
// right is what ram/runtime/parity_test.cc shows.

#include "ram/family/graph.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <variant>

#include "ram/base/json.h"
#include "ram/family/fixtures.h"
#include "ram/family/rope.h"

namespace ram {
namespace {

Json ConfigOf(std::string_view family) {
  return Must(ReadJsonFile(FixturePath(family) / "config.json"));
}

Graph Built(const Json& config, Numerics numerics = Numerics::kHf) {
  return Must(BuildGraph(config, numerics));
}

const AttentionGraph& Attention(const Graph& graph, size_t layer) {
  return std::get<AttentionGraph>(graph.layers.at(layer).mixer);
}

// The message of the error that a changed config gives.
std::string ErrorOf(std::string_view family, const std::string& key, const Json& value,
                    Numerics numerics = Numerics::kHf) {
  Json config = ConfigOf(family);
  config[key] = value;
  const Result<Graph> graph = BuildGraph(config, numerics);
  return graph.ok() ? "no error" : graph.error().message;
}

TEST(GraphTest, EveryFixtureHasOneInBothNumerics) {
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(RAM_TEST_DATA_DIR) / "families")) {
    if (!std::filesystem::exists(entry.path() / "config.json")) continue;
    const Json config = Must(ReadJsonFile(entry.path() / "config.json"));
    for (const Numerics numerics : {Numerics::kHf, Numerics::kMlx}) {
      const Graph graph = Built(config, numerics);
      EXPECT_FALSE(graph.layers.empty()) << entry.path();
    }
  }
}

// The large models that the format was made for.
TEST(GraphTest, EveryPublishedConfigHasOne) {
  size_t count = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(RAM_TEST_DATA_DIR) / "configs")) {
    if (!std::filesystem::exists(entry.path() / "config.json")) continue;
    ++count;
    EXPECT_FALSE(Built(Must(ReadJsonFile(entry.path() / "config.json"))).layers.empty())
        << entry.path();
  }
  EXPECT_GE(count, 7U);
}

TEST(GraphTest, WindowsAreIgnoredWhereMlxIgnoresThem) {
  const Json mistral = ConfigOf("mistral");
  EXPECT_EQ(Attention(Built(mistral), 1).window, 24U);
  EXPECT_EQ(Attention(Built(mistral, Numerics::kMlx), 1).window, 0U);
  const Json gemma2 = ConfigOf("gemma2");
  EXPECT_EQ(Attention(Built(gemma2), 0).window, 24U);
  EXPECT_EQ(Attention(Built(gemma2), 1).window, 0U);
  EXPECT_EQ(Attention(Built(gemma2, Numerics::kMlx), 0).window, 0U);
  for (const Numerics numerics : {Numerics::kHf, Numerics::kMlx}) {
    EXPECT_EQ(Attention(Built(ConfigOf("gpt_oss"), numerics), 0).window, 24U);
    EXPECT_EQ(Attention(Built(ConfigOf("gemma3_text"), numerics), 0).window, 24U);
    EXPECT_EQ(Attention(Built(ConfigOf("gemma3_text"), numerics), 2).window, 0U);
  }
}

TEST(GraphTest, NumbersThatMlxHasOtherwise) {
  EXPECT_FLOAT_EQ(Built(ConfigOf("gemma3_text")).embed_scale, 11.313708F);
  EXPECT_EQ(Built(ConfigOf("gemma3_text"), Numerics::kMlx).embed_scale, 11.3125F);
  EXPECT_FLOAT_EQ(Built(ConfigOf("gemma2"), Numerics::kMlx).embed_scale, 11.313708F);
  const auto latent = [](Numerics numerics) {
    return std::get<LatentGraph>(Built(ConfigOf("glm4_moe_lite"), numerics).layers[0].mixer);
  };
  EXPECT_EQ(latent(Numerics::kHf).latent_norm_eps, 1e-6F);
  EXPECT_EQ(latent(Numerics::kMlx).latent_norm_eps, 1e-5F);
  EXPECT_EQ(Attention(Built(ConfigOf("llama4")), 0).head_norm_eps, 1e-5F);
  EXPECT_EQ(Attention(Built(ConfigOf("llama4"), Numerics::kMlx), 0).head_norm_eps, 1e-6F);
}

TEST(GraphTest, Llama4LayersWithoutRotationSeeEverything) {
  const Graph graph = Built(ConfigOf("llama4"));
  EXPECT_EQ(Attention(graph, 0).chunk, 32U);
  EXPECT_EQ(Attention(graph, 0).head_norm, HeadNorm::kAfter);
  EXPECT_EQ(Attention(graph, 0).temperature, 0);
  EXPECT_EQ(Attention(graph, 3).chunk, 0U);
  EXPECT_TRUE(Attention(graph, 3).rope.inv_freq.empty());
  EXPECT_EQ(Attention(graph, 3).head_norm, HeadNorm::kNone);
  EXPECT_EQ(Attention(graph, 3).temperature, 0.1F);
  EXPECT_EQ(Attention(graph, 3).floor_scale, 16);
}

TEST(GraphTest, ContradictionsAreOneSentence) {
  EXPECT_EQ(ErrorOf("llama", "num_key_value_heads", 3),
            "config.json: num_attention_heads 4 is not a multiple of num_key_value_heads 3");
  EXPECT_EQ(ErrorOf("mixtral", "num_experts_per_tok", 5),
            "config.json: num_experts_per_tok 5 is more than num_local_experts (4)");
  EXPECT_EQ(ErrorOf("deepseek_v3", "n_group", 3),
            "config.json: 16 experts cannot be 3 groups (n_group) of two or more");
  EXPECT_EQ(ErrorOf("deepseek_v3", "topk_group", 5),
            "config.json: topk_group 5 of 4 groups with 4 experts each do not hold "
            "num_experts_per_tok 4");
  EXPECT_EQ(ErrorOf("llama", "head_dim", 33),
            "config.json: 33 columns of a head rotate, expected an even number");
  EXPECT_EQ(ErrorOf("glm4_moe", "partial_rotary_factor", 1.5),
            "config.json: partial_rotary_factor 1.5: expected more than 0, and at most 1");
  EXPECT_EQ(ErrorOf("llama", "rms_norm_eps", "small"),
            "config.json: key \"rms_norm_eps\": expected a number of at least 0, found \"small\"");
  EXPECT_EQ(ErrorOf("llama", "rope_theta", 0), "config.json: rope_theta 0: expected more than 1");
}

TEST(GraphTest, WhatIsUnknownIsNamed) {
  EXPECT_EQ(ErrorOf("llama", "rope_scaling", {{"rope_type", "spiral"}}),
            "config.json: rope_type \"spiral\" is not supported; supported are default, linear, "
            "llama3, yarn, longrope and dynamic");
  EXPECT_EQ(ErrorOf("llama", "rope_scaling", {{"rope_type", "linear"}}),
            "config.json: rope_scaling has no key \"factor\"");
  EXPECT_EQ(ErrorOf("llama", "hidden_act", "relu"),
            "config.json: key \"hidden_act\" is \"relu\"; supported are silu and "
            "gelu_pytorch_tanh");
  EXPECT_EQ(ErrorOf("olmoe", "clip_qkv", 8.0),
            "config.json: key \"clip_qkv\" is 8.0: no forward pass here does that");
  EXPECT_EQ(ErrorOf("llama", "partial_rotary_factor", 0.5),
            "config.json: key \"partial_rotary_factor\" is 0.5, but all of a head rotates in "
            "llama");
}

// ---- Frequencies ----

RopeGraph Rope(const Json& parameters, uint64_t dims, Numerics numerics = Numerics::kHf) {
  RopeSettings settings;
  settings.parameters = &parameters;
  settings.theta = 10000;
  settings.dims = dims;
  settings.max_context = 4096;
  settings.numerics = numerics;
  settings.where = "config.json";
  return Must(BuildRope(settings));
}

TEST(RopeTest, DefaultIsPowersOfTheta) {
  const RopeGraph rope = Rope(Json(nullptr), 8);
  ASSERT_EQ(rope.inv_freq.size(), 4U);
  for (size_t i = 0; i < 4; ++i)
    EXPECT_FLOAT_EQ(rope.inv_freq[i], static_cast<float>(std::pow(10.0, -static_cast<double>(i))));
  EXPECT_EQ(rope.scale, 1);
}

// low_freq_factor = high_freq_factor leaves nothing between the bands (Llama 4 Scout).
TEST(RopeTest, Llama3WithAnEmptyBandHasNoNan) {
  const Json parameters = {{"rope_type", "llama3"},
                           {"factor", 16.0},
                           {"low_freq_factor", 1.0},
                           {"high_freq_factor", 1.0},
                           {"original_max_position_embeddings", 8192}};
  const RopeGraph rope = Rope(parameters, 8);
  for (size_t i = 0; i < 4; ++i) {
    const double plain = std::pow(10.0, -static_cast<double>(i));
    const bool is_slow = 2 * 3.14159265 / plain > 8192;
    EXPECT_FLOAT_EQ(rope.inv_freq[i], static_cast<float>(is_slow ? plain / 16 : plain)) << i;
  }
}

TEST(RopeTest, MlxRoundsTheRangeOfYarnWhateverTheConfigSays) {
  const Json rounded = {
      {"rope_type", "yarn"}, {"factor", 8.0}, {"original_max_position_embeddings", 64}};
  Json exact = rounded;
  exact["truncate"] = false;
  const RopeGraph hf = Rope(exact, 32);
  const RopeGraph mlx = Rope(exact, 32, Numerics::kMlx);
  EXPECT_NE(hf.inv_freq, mlx.inv_freq);
  EXPECT_EQ(mlx.inv_freq, Rope(rounded, 32).inv_freq);
  EXPECT_FLOAT_EQ(hf.scale, static_cast<float>(0.1 * std::log(8.0) + 1));
}

TEST(RopeTest, LongropeHasTwoSetsOfFrequencies) {
  const Json parameters = {{"rope_type", "longrope"},
                           {"short_factor", {1.0, 2.0}},
                           {"long_factor", {4.0, 5.0}},
                           {"original_max_position_embeddings", 1024}};
  const RopeGraph hf = Rope(parameters, 4);
  EXPECT_FLOAT_EQ(hf.inv_freq[1], 0.01F / 2);
  EXPECT_FLOAT_EQ(hf.long_inv_freq[1], 0.01F / 5);
  EXPECT_EQ(hf.long_from, 1024U);
  EXPECT_FLOAT_EQ(hf.scale, static_cast<float>(std::sqrt(1 + std::log(4.0) / std::log(1024.0))));
  const RopeGraph mlx = Rope(parameters, 4, Numerics::kMlx);
  EXPECT_FLOAT_EQ(mlx.inv_freq[1], 0.01F / 5);
  EXPECT_TRUE(mlx.long_inv_freq.empty());
}

}  // namespace
}  // namespace ram
