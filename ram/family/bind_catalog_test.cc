// What binding drops, what it refuses, and in which words.

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "ram/family/fixtures.h"

namespace ram {
namespace {

// The error of binding a fixture after a change.
template <typename Change>
Error ErrorAfter(std::string_view family, const Change& change) {
  EditableCheckpoint editable = EditableCheckpoint::Load(family);
  change(editable);
  const TempDirectory directory("bind");
  Result<Catalog> catalog = BindCatalog(editable.WriteAndOpen(directory.path()));
  EXPECT_FALSE(catalog.ok());
  if (catalog.ok()) return Error{ErrorCode::kIo, "no error"};
  return std::move(catalog).error();
}

template <typename Change>
Catalog CatalogAfter(std::string_view family, const Change& change) {
  EditableCheckpoint editable = EditableCheckpoint::Load(family);
  change(editable);
  const TempDirectory directory("bind");
  return Must(BindCatalog(editable.WriteAndOpen(directory.path())));
}

void ExpectContains(const Error& error, std::string_view text) {
  EXPECT_NE(error.message.find(text), std::string::npos) << error.message;
}

std::vector<uint8_t> Zeros(uint64_t count) { return std::vector<uint8_t>(count); }

// ---- Dropped ----

uint64_t DroppedBytes(const Catalog& catalog, std::string_view reason) {
  uint64_t bytes = 0;
  for (const DroppedTensor& tensor : catalog.dropped) {
    if (tensor.reason == reason) bytes += tensor.num_bytes;
  }
  return bytes;
}

TEST(BindTest, MtpLayersAndTowersAreDroppedWithReasons) {
  for (const char* family : {"glm4_moe", "glm4_moe_lite", "qwen3_next", "qwen3_5_moe"}) {
    const Catalog catalog = Must(BindCatalog(OpenFixture(family)));
    EXPECT_GT(DroppedBytes(catalog, "multi-token prediction layer"), 0u) << family;
    for (const CatalogTensor& tensor : catalog.tensors) {
      EXPECT_EQ(tensor.name.find("mtp"), std::string::npos);
      EXPECT_LT(tensor.layer, catalog.num_layers);
    }
  }
  for (const char* family : {"llama4", "qwen3_5_moe"}) {
    EXPECT_GT(DroppedBytes(Must(BindCatalog(OpenFixture(family))), "vision tower"), 0u) << family;
  }
}

TEST(BindTest, HeadOfATiedModelIsDropped) {
  const Catalog catalog = CatalogAfter("llama", [](EditableCheckpoint& editable) {
    editable.Add("lm_head.weight", Dtype::kBF16, {384, 128}, Zeros(384 * 128 * 2));
  });
  EXPECT_EQ(DroppedBytes(catalog, "tied to the embedding"), 384u * 128 * 2);
  EXPECT_EQ(catalog.tensors.back().name, "model.norm.weight");
}

TEST(BindTest, IgnorableTensorsAreDropped) {
  const Catalog catalog = CatalogAfter("llama", [](EditableCheckpoint& editable) {
    editable.Add("model.layers.1.self_attn.rotary_emb.inv_freq", Dtype::kF32, {16}, Zeros(64));
    editable.Add("model.layers.1.self_attn.q_proj.input_scale", Dtype::kF32, {}, Zeros(4));
    editable.Add("model.layers.1.self_attn.k_scale", Dtype::kF32, {}, Zeros(4));
  });
  EXPECT_EQ(catalog.dropped.size(), 3u);
}

// ---- Noted ----

TEST(BindTest, KeysThatMlxLmNeedsAreNoted) {
  EXPECT_TRUE(Must(BindCatalog(OpenFixture("qwen3"))).notes.empty());
  const Catalog catalog = CatalogAfter("qwen3", [](EditableCheckpoint& editable) {
    editable.config.erase("rms_norm_eps");
    editable.config.erase("rope_theta");
  });
  ASSERT_EQ(catalog.notes.size(), 2u);
  EXPECT_NE(catalog.notes[0].find("\"rms_norm_eps\" is missing"), std::string::npos);
}

// ---- Refused ----

TEST(BindTest, MissingExpertNamesLayerAndExpert) {
  const Error error = ErrorAfter("qwen3_moe", [](EditableCheckpoint& editable) {
    editable.Take("model.layers.1.mlp.experts.10.up_proj.weight");
  });
  EXPECT_EQ(error.code, ErrorCode::kCorrupt);
  ExpectContains(error, "model.layers.1.mlp.experts.10.up_proj.weight is missing");
  ExpectContains(error, "layer 1, expert 10 of 12");
}

TEST(BindTest, MissingTensorIsNamed) {
  for (const auto& [family, name] : std::vector<std::pair<std::string, std::string>>{
           {"llama", "model.layers.2.self_attn.k_proj.weight"},
           {"llama", "model.embed_tokens.weight"},
           {"qwen3", "lm_head.weight"},
           {"glm4_moe_lite", "model.layers.1.self_attn.kv_b_proj.weight"},
           {"llama4", "language_model.model.layers.1.feed_forward.experts.down_proj"},
           {"gpt_oss_mxfp4", "model.layers.0.mlp.experts.down_proj_scales"},
           {"gpt_oss", "model.layers.0.mlp.experts.gate_up_proj_bias"}}) {
    const Error error =
        ErrorAfter(family, [&](EditableCheckpoint& editable) { editable.Take(name); });
    EXPECT_EQ(error.code, ErrorCode::kCorrupt);
    ExpectContains(error, "tensor " + name + " is missing");
  }
}

TEST(BindTest, WrongShapeNamesFoundAndExpected) {
  const Error error = ErrorAfter("llama", [](EditableCheckpoint& editable) {
    editable.tensors["model.layers.0.mlp.up_proj.weight"].spec.shape = {128, 256};
  });
  EXPECT_EQ(error.code, ErrorCode::kCorrupt);
  EXPECT_EQ(error.message,
            "model.safetensors: tensor model.layers.0.mlp.up_proj.weight has shape [128, 256], "
            "expected [256, 128]");
  ExpectContains(ErrorAfter("llama4",
                            [](EditableCheckpoint& editable) {
                              editable
                                  .tensors
                                      ["language_model.model.layers.1.feed_forward.experts."
                                       "gate_up_proj"]
                                  .spec.shape = {4, 256, 64};
                            }),
                 "expected [4, 128, 128]");
  // Neither orientation fits both tensors.
  ExpectContains(
      ErrorAfter(
          "qwen3_5_moe",
          [](EditableCheckpoint& editable) {
            editable.tensors["model.language_model.layers.1.mlp.experts.down_proj"].spec.shape = {
                5, 32, 128};
          }),
      "expected [5, 128, 32]");
}

TEST(BindTest, TensorThatBelongsNowhere) {
  for (const char* name : {"model.layers.0.self_attn.q_norm.weight", "model.layers.3.x.weight",
                           "model.layers.0.mlp.experts.0.up_proj.weight", "anything"}) {
    const Error error = ErrorAfter("llama", [&](EditableCheckpoint& editable) {
      editable.Add(name, Dtype::kBF16, {2}, Zeros(4));
    });
    EXPECT_EQ(error.code, ErrorCode::kCorrupt);
    ExpectContains(error, std::string("tensor ") + name + " [2] belongs to no part");
  }
  const Error error = ErrorAfter("qwen3_moe", [](EditableCheckpoint& editable) {
    editable.Add("model.layers.0.mlp.experts.12.up_proj.weight", Dtype::kBF16, {2}, Zeros(4));
  });
  ExpectContains(error, "experts.12");
}

TEST(BindTest, CompressedSourcesAreRefusedByMethod) {
  const std::vector<std::pair<Json, std::string>> methods = {
      {{{"quant_method", "awq"}, {"bits", 4}}, "\"awq\""},
      {{{"quant_method", "gptq"}}, "\"gptq\""},
      {{{"quant_method", "compressed-tensors"}}, "\"compressed-tensors\""},
      {{{"quant_method", "bitsandbytes"}}, "\"bitsandbytes\""},
      {{{"quant_method", "fp8"}}, "weight_block_size"},
      {{{"quant_method", "fp8"}, {"weight_block_size", {32, 32}}}, "[32,32]"},
      {{{"bits", 4}}, "unnamed"},
  };
  for (const auto& [quantization, expected] : methods) {
    const Error error = ErrorAfter("llama", [&](EditableCheckpoint& editable) {
      editable.config["quantization_config"] = quantization;
    });
    EXPECT_EQ(error.code, ErrorCode::kUnsupported);
    ExpectContains(error, expected);
  }
  EXPECT_EQ(ErrorAfter(
                "llama4",
                [](EditableCheckpoint& editable) {
                  editable.config["text_config"]["quantization_config"] = {{"quant_method", "awq"}};
                })
                .code,
            ErrorCode::kUnsupported);
  ExpectContains(ErrorAfter("llama",
                            [](EditableCheckpoint& editable) {
                              editable.config["quantization"] = {{"bits", 4}, {"group_size", 64}};
                            }),
                 "already quantized for MLX");
}

// A config of such a model still describes its tensors.
TEST(BindTest, ConfigsOfCompressedModelsGiveCatalogs) {
  Json config = Must(ReadJsonFile(FixturePath("llama") / "config.json"));
  const size_t count = Must(BuildCatalog(config)).tensors.size();
  config["quantization"] = {{"bits", 4}, {"group_size", 64}};
  EXPECT_EQ(Must(BuildCatalog(config)).tensors.size(), count);
}

TEST(BindTest, CompressedTensorsAreRefusedByFormat) {
  for (const auto& [suffix, format] :
       std::vector<std::pair<std::string, std::string>>{{".qweight", "AWQ or GPTQ"},
                                                        {".weight_packed", "compressed-tensors"},
                                                        {".absmax", "bitsandbytes"},
                                                        {".scales", "MLX"}}) {
    const Error error = ErrorAfter("llama", [&](EditableCheckpoint& editable) {
      editable.Add("model.layers.0.mlp.up_proj" + suffix, Dtype::kI32, {2}, Zeros(8));
    });
    EXPECT_EQ(error.code, ErrorCode::kUnsupported);
    ExpectContains(error, format);
  }
}

TEST(BindTest, DtypesThatAreNoWeights) {
  const Error error = ErrorAfter("llama", [](EditableCheckpoint& editable) {
    editable.Add("model.layers.0.mlp.up_proj.weight", Dtype::kI8, {256, 128}, Zeros(256 * 128));
  });
  EXPECT_EQ(error.code, ErrorCode::kUnsupported);
  ExpectContains(error, "is I8, expected BF16");
}

TEST(BindTest, Fp8NeedsItsScales) {
  const auto fp8 = [](EditableCheckpoint& editable) {
    editable.Add("model.layers.0.mlp.up_proj.weight", Dtype::kF8E4M3, {256, 128}, Zeros(256 * 128));
  };
  ExpectContains(ErrorAfter("llama", fp8),
                 "tensor model.layers.0.mlp.up_proj.weight_scale_inv is missing");
  ExpectContains(ErrorAfter("llama",
                            [&](EditableCheckpoint& editable) {
                              fp8(editable);
                              editable.Add("model.layers.0.mlp.up_proj.weight_scale_inv",
                                           Dtype::kF32, {1, 1}, Zeros(4));
                            }),
                 "has shape [1, 1], expected [2, 1]");
  ExpectContains(ErrorAfter("llama",
                            [&](EditableCheckpoint& editable) {
                              fp8(editable);
                              editable.Add("model.layers.0.mlp.up_proj.weight_scale_inv",
                                           Dtype::kU8, {2, 1}, Zeros(2));
                            }),
                 "is U8, expected F32");
}

TEST(BindTest, ExpertsStoredInTwoWays) {
  const Error error = ErrorAfter("qwen3_moe", [](EditableCheckpoint& editable) {
    const std::string name = "model.layers.0.mlp.experts.3.up_proj.weight";
    editable.Add(name, Dtype::kF8E4M3, {32, 128}, Zeros(32 * 128));
    editable.Add(name + "_scale_inv", Dtype::kF32, {1, 1}, Zeros(4));
  });
  EXPECT_EQ(error.code, ErrorCode::kUnsupported);
  ExpectContains(error, "experts.3.up_proj.weight is stored in another way");
}

// ---- Dtypes ----

void Narrow(EditableCheckpoint& editable, Dtype dtype) {
  for (auto& [name, tensor] : editable.tensors) {
    if (tensor.spec.dtype == Dtype::kBF16) tensor.spec.dtype = dtype;
  }
}

TEST(BindTest, OneDtypeForTheWholeModel) {
  const auto dtype = [](const char* stated, Dtype stored) {
    const Catalog catalog = CatalogAfter("glm4_moe", [&](EditableCheckpoint& editable) {
      editable.config.erase("torch_dtype");
      if (stated != nullptr) editable.config["torch_dtype"] = stated;
      Narrow(editable, stored);
    });
    for (const CatalogTensor& tensor : catalog.tensors) {
      EXPECT_EQ(tensor.dtype, tensor.kind == TensorKind::kVector32 ? Dtype::kF32 : catalog.dtype);
    }
    return catalog.dtype;
  };
  EXPECT_EQ(dtype("bfloat16", Dtype::kBF16), Dtype::kBF16);
  EXPECT_EQ(dtype("bfloat16", Dtype::kF16), Dtype::kBF16);
  EXPECT_EQ(dtype("float16", Dtype::kBF16), Dtype::kF16);
  EXPECT_EQ(dtype("float32", Dtype::kBF16), Dtype::kBF16);
  EXPECT_EQ(dtype("float32", Dtype::kF16), Dtype::kF16);
  EXPECT_EQ(dtype(nullptr, Dtype::kF16), Dtype::kF16);
  EXPECT_EQ(dtype(nullptr, Dtype::kBF16), Dtype::kBF16);
}

TEST(BindTest, MixedSourcesWithoutAStatedDtypeBecomeBf16) {
  const Catalog catalog = CatalogAfter("llama", [](EditableCheckpoint& editable) {
    editable.config.erase("torch_dtype");
    editable.tensors["model.norm.weight"].spec.dtype = Dtype::kF16;
  });
  EXPECT_EQ(catalog.dtype, Dtype::kBF16);
}

// A_log of qwen3_5 and the routers' biases stay F32, A_log of qwen3_next does not (as in mlx-lm).
TEST(BindTest, WhatStaysF32) {
  const auto dtype = [](std::string_view family, std::string_view name) {
    return TensorNamed(Must(BindCatalog(OpenFixture(family))), name).dtype;
  };
  EXPECT_EQ(dtype("qwen3_5_moe", "language_model.model.layers.0.linear_attn.A_log"), Dtype::kF32);
  EXPECT_EQ(dtype("qwen3_next", "model.layers.0.linear_attn.A_log"), Dtype::kBF16);
  for (const char* family : {"glm4_moe", "glm4_moe_lite", "deepseek_v3"}) {
    EXPECT_EQ(dtype(family, "model.layers.1.mlp.gate.e_score_correction_bias"), Dtype::kF32);
  }
}

TEST(BindTest, ConvolutionsAndNormsAreConvertedOnce) {
  const Catalog catalog = Must(BindCatalog(OpenFixture("qwen3_5_moe")));
  const std::string root = "language_model.model.";
  const CatalogTensor& conv = TensorNamed(catalog, root + "layers.0.linear_attn.conv1d.weight");
  EXPECT_EQ(conv.shape, (std::vector<uint64_t>{256, 4, 1}));
  EXPECT_TRUE(TensorNamed(catalog, root + "norm.weight").add_one);
  EXPECT_TRUE(TensorNamed(catalog, root + "layers.3.self_attn.q_norm.weight").add_one);
  EXPECT_TRUE(TensorNamed(catalog, root + "layers.0.input_layernorm.weight").add_one);
  EXPECT_FALSE(TensorNamed(catalog, root + "layers.0.linear_attn.norm.weight").add_one);
  for (const CatalogTensor& tensor : Must(BindCatalog(OpenFixture("gemma3_text"))).tensors) {
    EXPECT_FALSE(tensor.add_one) << tensor.name;
  }
}

}  // namespace
}  // namespace ram
