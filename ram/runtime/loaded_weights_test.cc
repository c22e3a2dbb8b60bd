// Loaded weights against the values that the files mean, element by element.

#include "ram/runtime/loaded_weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "ram/base/half.h"
#include "ram/family/fixtures.h"
#include "ram/quant/test_weights.h"
#include "ram/runtime/finite.h"
#include "ram/runtime/mlx_folder.h"

namespace ram {
namespace {

constexpr const char* kFamilies[] = {
    "deepseek_v3", "deepseek_v3_fp8", "gemma2",    "gemma3_text", "glm4_moe",  "glm4_moe_lite",
    "gpt_oss",     "gpt_oss_mxfp4",   "llama",     "llama4",      "mistral",   "mixtral",
    "olmo2",       "olmoe",           "phi3",      "qwen2",       "qwen2_moe", "qwen3",
    "qwen3_5_moe", "qwen3_moe",       "qwen3_next"};

std::unique_ptr<WeightSource> OpenSource(const Checkpoint& checkpoint,
                                         Numerics numerics = Numerics::kHf) {
  return Must(WeightSource::Open(checkpoint, numerics));
}

// "model.layers.2.mlp.gate.weight" -> layer 2's "mlp.gate".
std::string Below(const CatalogTensor& tensor) {
  const std::string module = tensor.module();
  const std::string layer = "layers." + std::to_string(tensor.layer) + ".";
  const size_t at = module.find(layer);
  return at == std::string::npos ? module.substr(module.rfind('.') + 1)
                                 : module.substr(at + layer.size());
}

std::vector<float> Decoded(const Matrix& matrix) {
  std::vector<float> values(matrix.count * matrix.rows * matrix.cols);
  for (uint64_t i = 0; i < matrix.count; ++i) {
    DecodeRows(matrix.at(i), 0, matrix.rows, values.data() + i * matrix.rows * matrix.cols);
  }
  return values;
}

// What was loaded under the name of a tensor, matrix or vector, as f32.
std::vector<float> ValuesOf(const LoadedWeights& loaded, const CatalogTensor& tensor) {
  const std::string name = Below(tensor);
  if (IsMatrix(tensor.kind)) {
    const Matrix* matrix = loaded.matrix(name);
    if (matrix == nullptr) return {};
    EXPECT_TRUE(loaded.vector(name).empty());
    EXPECT_EQ(matrix->count, tensor.views.size());
    EXPECT_EQ(matrix->rows, tensor.rows);
    EXPECT_EQ(matrix->cols, tensor.cols);
    for (const uint8_t* part : {matrix->values, matrix->scales, matrix->biases}) {
      EXPECT_EQ(reinterpret_cast<uintptr_t>(part) % 64, 0u);
    }
    return Decoded(*matrix);
  }
  EXPECT_EQ(loaded.matrix(name), nullptr);
  const std::span<const float> vector = loaded.vector(name);
  return {vector.begin(), vector.end()};
}

// Loads layer by layer and hands every tensor of the reference catalog and its values to `compare`.
// Checks that nothing else is loaded and that the bytes are as announced.
template <typename Compare>
void ForEachTensor(const WeightSource& source, const Catalog& reference, ThreadPool* pool,
                   const Compare& compare) {
  for (int layer = -1; layer < reference.num_layers; ++layer) {
    const LoadedWeights loaded = Must(source.Load(layer, pool));
    EXPECT_EQ(loaded.bytes(), source.LoadedBytes(layer));
    for (const CatalogTensor& tensor : reference.tensors) {
      if (tensor.layer != layer) {
        EXPECT_TRUE(layer < 0 || Below(tensor).empty() || tensor.layer >= 0 ||
                    loaded.matrix(Below(tensor)) == nullptr);
        continue;
      }
      SCOPED_TRACE(tensor.name);
      compare(tensor, ValuesOf(loaded, tensor));
    }
  }
}

float FloatAt(const std::vector<uint8_t>& bytes, Dtype dtype, uint64_t index) {
  float value = 0;
  uint16_t half = 0;
  if (dtype == Dtype::kF32) {
    std::memcpy(&value, bytes.data() + index * 4, 4);
    return value;
  }
  std::memcpy(&half, bytes.data() + index * 2, 2);
  return dtype == Dtype::kF16 ? FloatFromF16(half) : FloatFromBf16(half);
}

std::vector<uint8_t> BytesOf(const Checkpoint& checkpoint, const std::string& name) {
  const TensorInfo* info = checkpoint.Find(name);
  RAM_CHECK(info != nullptr);
  std::vector<uint8_t> bytes(info->num_bytes);
  Must(checkpoint.Read(*info, 0, bytes));
  return bytes;
}

// The values of a tensor of a checkpoint as published, one element at a time through its views.
std::vector<float> Published(const Checkpoint& checkpoint, const CatalogTensor& tensor,
                             Numerics numerics) {
  std::vector<float> values;
  std::string name;  // Of the tensor whose bytes these are.
  std::vector<uint8_t> bytes;
  std::vector<uint8_t> scales;
  for (size_t v = 0; v < tensor.views.size(); ++v) {
    const SourceView& view = tensor.views[v];
    const TensorInfo& info = *checkpoint.Find(view.source);
    if (view.source != name) {
      name = view.source;
      bytes = BytesOf(checkpoint, name);
      if (tensor.encoding != Encoding::kPlain) {
        scales = BytesOf(checkpoint, tensor.scale_sources[v]);
      }
    }
    for (uint64_t r = 0; r < tensor.rows; ++r) {
      for (uint64_t c = 0; c < tensor.cols; ++c) {
        const uint64_t i = view.base + r * view.row_stride + c * view.col_stride;
        float value = 0;
        if (tensor.encoding == Encoding::kPlain) {
          value = FloatAt(bytes, info.dtype, i);
          if (tensor.add_one) {
            value += 1;
            if (numerics == Numerics::kMlx && info.dtype == Dtype::kBF16) {
              value = FloatFromBf16(Bf16FromFloat(value));
            }
          }
        } else if (tensor.encoding == Encoding::kMxfp4) {
          const int code = bytes[i / 2] >> (i % 2 * 4) & 15;
          value = FloatFromE2M1(static_cast<uint8_t>(code)) * FloatFromE8M0(scales[i / 32]);
        } else {
          const TensorInfo& scale = *checkpoint.Find(tensor.scale_sources[v]);
          const uint64_t block = i / info.shape[1] / 128 * scale.shape[1] + i % info.shape[1] / 128;
          value = FloatFromF8E4M3(bytes[i]) * FloatAt(scales, scale.dtype, block);
          if (numerics == Numerics::kMlx) value = FloatFromBf16(Bf16FromFloat(value));
        }
        values.push_back(value);
      }
    }
  }
  return values;
}

// ---- As published ----

TEST(LoadedWeightsTest, EveryFamilyAsPublished) {
  ThreadPool pool(2);
  for (const char* family : kFamilies) {
    SCOPED_TRACE(family);
    const Checkpoint checkpoint = OpenFixture(family);
    const Catalog reference = Must(BindCatalog(checkpoint));
    for (const Numerics numerics : {Numerics::kHf, Numerics::kMlx}) {
      const auto source = OpenSource(checkpoint, numerics);
      ASSERT_EQ(source->catalog().tensors.size(), reference.tensors.size());
      ForEachTensor(*source, reference, &pool,
                    [&](const CatalogTensor& tensor, const std::vector<float>& values) {
                      EXPECT_TRUE(values == Published(checkpoint, tensor, numerics));
                    });
    }
  }
}

TEST(LoadedWeightsTest, NamesAreThoseOfMlx) {
  const auto names = [](const char* family, int layer) {
    const Checkpoint checkpoint = OpenFixture(family);
    return Must(OpenSource(checkpoint)->Load(layer, nullptr));
  };
  const LoadedWeights outside = names("llama4", -1);
  EXPECT_NE(outside.matrix("embed_tokens"), nullptr);
  EXPECT_NE(outside.matrix("lm_head"), nullptr);
  EXPECT_EQ(outside.vector("norm").size(), 128u);
  const LoadedWeights oss = names("gpt_oss_mxfp4", 0);
  EXPECT_EQ(oss.matrix("mlp.experts.gate_proj")->form, Matrix::Form::kMxfp4);
  EXPECT_FALSE(oss.vector("mlp.experts.down_proj.bias").empty());
  EXPECT_EQ(oss.vector("self_attn.sinks").size(), 4u);
  EXPECT_EQ(oss.vector("self_attn.q_proj.bias").size(), oss.matrix("self_attn.q_proj")->rows);
  EXPECT_NE(oss.matrix("mlp.router"), nullptr);
  const LoadedWeights glm = names("glm4_moe_lite", 1);
  EXPECT_NE(glm.matrix("mlp.gate"), nullptr);
  EXPECT_NE(glm.matrix("mlp.switch_mlp.gate_proj"), nullptr);
  EXPECT_FALSE(glm.vector("mlp.gate.e_score_correction_bias").empty());
  EXPECT_EQ(glm.matrix("self_attn.embed_q")->count, 3u);
  const LoadedWeights next = names("qwen3_next", 0);
  EXPECT_FALSE(next.vector("linear_attn.A_log").empty());
  EXPECT_FALSE(next.vector("linear_attn.conv1d").empty());
  EXPECT_EQ(next.matrix("input_layernorm"), nullptr);
  EXPECT_EQ(next.vector("input_layernorm").size(), 128u);
  EXPECT_EQ(next.matrix("self_attn.q_proj"), nullptr);
  EXPECT_TRUE(next.vector("self_attn.q_proj.bias").empty());
}

// Every precision is kept, also several in one model.
TEST(LoadedWeightsTest, PrecisionOfTheSourceIsKept) {
  EditableCheckpoint editable = EditableCheckpoint::Load("qwen3_moe");
  const auto make = [&](const std::string& name, Dtype dtype) {
    TensorWithBytes& tensor = editable.tensors.at(name);
    const uint64_t count = tensor.bytes.size() / 2;
    std::vector<uint8_t> bytes;
    for (uint64_t i = 0; i < count; ++i) {
      // Values that only F32 holds.
      const float value = static_cast<float>(RandomNormal(7, i));
      if (dtype == Dtype::kF32) {
        bytes.insert(bytes.end(), reinterpret_cast<const uint8_t*>(&value),
                     reinterpret_cast<const uint8_t*>(&value) + 4);
      } else {
        const uint16_t half = F16FromFloat(value);
        bytes.insert(bytes.end(), {static_cast<uint8_t>(half), static_cast<uint8_t>(half >> 8)});
      }
    }
    tensor.spec.dtype = dtype;
    tensor.bytes = bytes;
  };
  make("model.layers.0.self_attn.q_proj.weight", Dtype::kF32);
  make("model.layers.0.self_attn.k_proj.weight", Dtype::kF16);
  make("model.layers.0.mlp.experts.1.up_proj.weight", Dtype::kF32);
  make("model.layers.0.input_layernorm.weight", Dtype::kF32);
  const TempDirectory directory("loaded");
  const Checkpoint checkpoint = editable.WriteAndOpen(directory.path());
  const auto source = OpenSource(checkpoint);
  ForEachTensor(*source, source->catalog(), nullptr,
                [&](const CatalogTensor& tensor, const std::vector<float>& values) {
                  EXPECT_TRUE(values == Published(checkpoint, tensor, Numerics::kHf));
                });
  const LoadedWeights loaded = Must(source->Load(0, nullptr));
  EXPECT_EQ(loaded.matrix("self_attn.q_proj")->dtype, Dtype::kF32);
  EXPECT_EQ(loaded.matrix("self_attn.k_proj")->dtype, Dtype::kF16);
  EXPECT_EQ(loaded.matrix("self_attn.v_proj")->dtype, Dtype::kBF16);
  EXPECT_EQ(loaded.matrix("mlp.switch_mlp.up_proj")->dtype, Dtype::kF32);  // Of its widest part.
  EXPECT_EQ(loaded.matrix("mlp.switch_mlp.down_proj")->dtype, Dtype::kBF16);
}

TEST(LoadedWeightsTest, OnesThatWereAddedAreNotAddedAgain) {
  for (const char* family : {"qwen3_next", "qwen3_5_moe"}) {
    const Checkpoint published = OpenFixture(family);
    const TempDirectory directory("loaded");
    const Checkpoint converted =
        MakeMlxFolder(published, Choice::Dense()).WriteAndOpen(directory.path());
    const auto source = OpenSource(converted, Numerics::kHf);
    ForEachTensor(*source, Must(BindCatalog(published)), nullptr,
                  [&](const CatalogTensor& tensor, const std::vector<float>& values) {
                    EXPECT_TRUE(values == Published(published, tensor, Numerics::kMlx));
                  });
  }
}

TEST(LoadedWeightsTest, ThreadsDoNotMatter) {
  const Checkpoint checkpoint = OpenFixture("gpt_oss");
  const auto source = OpenSource(checkpoint);
  ThreadPool pool(5);
  const LoadedWeights one = Must(source->Load(1, nullptr));
  const LoadedWeights five = Must(source->Load(1, &pool));
  for (const CatalogTensor& tensor : source->catalog().tensors) {
    if (tensor.layer != 1) continue;
    EXPECT_TRUE(ValuesOf(one, tensor) == ValuesOf(five, tensor));
  }
}

// ---- MLX ----

// What the packed tensors of a folder mean, by ram_quant's own decoder.
std::vector<float> Unpacked(const Checkpoint& folder, const CatalogTensor& tensor) {
  const TensorInfo& weight = *folder.Find(tensor.module() + ".weight");
  const TensorInfo* scales = folder.Find(tensor.module() + ".scales");
  std::vector<float> values(tensor.num_weights());
  const std::vector<uint8_t> codes = BytesOf(folder, weight.name);
  if (scales == nullptr) {
    for (size_t i = 0; i < values.size(); ++i) values[i] = FloatAt(codes, weight.dtype, i);
    return values;
  }
  const Choice choice = Choice::Affine(static_cast<int>(weight.shape.back() * 32 / tensor.cols),
                                       static_cast<int>(tensor.cols / scales->shape.back()));
  Must(Dequantize(codes, BytesOf(folder, scales->name),
                  BytesOf(folder, tensor.module() + ".biases"), scales->dtype, choice,
                  tensor.rows * tensor.views.size(), tensor.cols, values));
  return values;
}

TEST(LoadedWeightsTest, MlxFoldersOfEveryChoice) {
  const Checkpoint llama = OpenFixture("llama");
  const Catalog reference = Must(BindCatalog(llama));
  for (const Choice& choice : kAffineChoices) {
    for (const Dtype dtype : {Dtype::kBF16, Dtype::kF16, Dtype::kF32}) {
      SCOPED_TRACE(ChoiceName(choice) + " " + std::string(DtypeName(dtype)));
      const TempDirectory directory("loaded");
      const Checkpoint folder = MakeMlxFolder(llama, choice, dtype).WriteAndOpen(directory.path());
      const auto source = OpenSource(folder, Numerics::kMlx);
      EXPECT_EQ(source->description(), "affine " + ChoiceName(choice));
      ForEachTensor(*source, reference, nullptr,
                    [&](const CatalogTensor& tensor, const std::vector<float>& values) {
                      if (IsMatrix(tensor.kind)) {
                        EXPECT_TRUE(values == Unpacked(folder, tensor));
                      }
                    });
      const LoadedWeights loaded = Must(source->Load(0, nullptr));
      const Matrix& q = *loaded.matrix("self_attn.q_proj");
      EXPECT_EQ(q.form, Matrix::Form::kAffine);
      EXPECT_EQ(q.bits, choice.bits);
      EXPECT_EQ(q.group_size, choice.group_size);
      EXPECT_EQ(q.dtype, dtype);
    }
  }
}

// A choice for every module, from its name: what a plan looks like.
Choice MixedChoice(const CatalogTensor& tensor) {
  const size_t hash = std::hash<std::string>()(tensor.name) % 7;
  constexpr Choice kChoices[] = {
      Choice::Affine(4, 32), Choice::Affine(3, 32), Choice::Affine(8, 64), Choice::Affine(2, 128),
      Choice::Affine(6, 32), Choice::Affine(5, 64), Choice::Dense()};
  return kChoices[hash];
}

TEST(LoadedWeightsTest, MixedMlxFoldersOfEveryFamily) {
  ThreadPool pool(2);
  for (const char* family : kFamilies) {
    SCOPED_TRACE(family);
    const Checkpoint published = OpenFixture(family);
    const Catalog reference = Must(BindCatalog(published));
    const TempDirectory directory("loaded");
    const Checkpoint folder =
        MakeMlxFolder(published, Choice::Affine(4, 32), MixedChoice).WriteAndOpen(directory.path());
    EXPECT_EQ(BindCatalog(folder).error().code, ErrorCode::kUnsupported);  // Not to be compressed.
    for (const Numerics numerics : {Numerics::kHf, Numerics::kMlx}) {
      const auto source = OpenSource(folder, numerics);
      ForEachTensor(*source, reference, &pool,
                    [&](const CatalogTensor& tensor, const std::vector<float>& values) {
                      if (IsMatrix(tensor.kind)) {
                        EXPECT_TRUE(values == Unpacked(folder, tensor));
                      } else {
                        EXPECT_TRUE(values == Published(published, tensor, Numerics::kMlx));
                      }
                    });
    }
  }
}

TEST(LoadedWeightsTest, MlxFoldersWithMxfp4) {
  const Checkpoint published = OpenFixture("gpt_oss_mxfp4");
  const Catalog reference = Must(BindCatalog(published));
  for (const Choice& defaults : {Choice::Mxfp4(), Choice::Affine(8, 64)}) {
    const TempDirectory directory("loaded");
    const Checkpoint folder =
        MakeMlxFolder(published, defaults, [](const CatalogTensor& tensor) {
          return tensor.encoding == Encoding::kMxfp4 ? Choice::Mxfp4() : Choice::Affine(8, 64);
        }).WriteAndOpen(directory.path());
    const auto source = OpenSource(folder);
    EXPECT_EQ(source->description(), "mxfp4 + affine 8,64");
    ForEachTensor(*source, reference, nullptr,
                  [&](const CatalogTensor& tensor, const std::vector<float>& values) {
                    if (tensor.encoding == Encoding::kMxfp4) {
                      EXPECT_TRUE(values == Published(published, tensor, Numerics::kHf));
                    } else if (IsMatrix(tensor.kind)) {
                      EXPECT_TRUE(values == Unpacked(folder, tensor));
                    }
                  });
  }
}

// ---- Descriptions ----

TEST(LoadedWeightsTest, Descriptions) {
  const auto describe = [](const char* family) {
    const Checkpoint checkpoint = OpenFixture(family);
    return OpenSource(checkpoint)->description();
  };
  EXPECT_EQ(describe("llama"), "bf16");
  EXPECT_EQ(describe("deepseek_v3_fp8").substr(0, 3), "fp8");
  EXPECT_NE(describe("gpt_oss_mxfp4").find("mxfp4"), std::string::npos);
}

// ---- What does not fit together ----

// The error of opening, or else of loading all, after a change of a folder.
template <typename Change>
Error ErrorAfter(EditableCheckpoint folder, const Change& change) {
  change(folder);
  const TempDirectory directory("loaded");
  const Checkpoint checkpoint = folder.WriteAndOpen(directory.path());
  auto source = WeightSource::Open(checkpoint, Numerics::kMlx);
  if (!source) return source.error();
  for (int layer = -1; layer < (*source)->catalog().num_layers; ++layer) {
    auto loaded = (*source)->Load(layer, nullptr);
    if (!loaded) return loaded.error();
  }
  ADD_FAILURE() << "no error";
  return {ErrorCode::kIo, ""};
}

void ExpectError(const Error& error, ErrorCode code, std::initializer_list<const char*> texts) {
  EXPECT_EQ(error.code, code) << error.message;
  for (const char* text : texts) {
    EXPECT_NE(error.message.find(text), std::string::npos) << error.message;
  }
}

constexpr const char* kQ = "model.layers.1.self_attn.q_proj";

EditableCheckpoint QuantizedLlama() {
  return MakeMlxFolder(OpenFixture("llama"), Choice::Affine(4, 64));
}

TEST(LoadedWeightsTest, MlxPartsThatDoNotFitTogether) {
  const EditableCheckpoint good = QuantizedLlama();
  const std::string q = kQ;
  const auto expect = [&](const std::function<void(EditableCheckpoint&)>& change,
                          std::initializer_list<const char*> texts) {
    ExpectError(ErrorAfter(good, change), ErrorCode::kCorrupt, texts);
  };
  expect([&](auto& folder) { folder.Take(q + ".scales"); }, {kQ, "scales is missing"});
  expect([&](auto& folder) { folder.Take(q + ".biases"); }, {kQ, "biases is missing"});
  expect([&](auto& folder) { folder.Take(q + ".weight"); }, {kQ, "missing"});
  const auto reshape = [&](const std::string& name, Dtype dtype, std::vector<uint64_t> shape) {
    return [=](EditableCheckpoint& folder) {
      const size_t elements = shape[0] * shape[1];
      folder.Add(name, dtype, shape, std::vector<uint8_t>(elements * BitsOf(dtype) / 8));
    };
  };
  expect(reshape(q + ".scales", Dtype::kBF16, {128, 4}), {kQ, "scales has shape [128, 4]"});
  expect(reshape(q + ".scales", Dtype::kU32, {128, 2}), {kQ, "scales is U32"});
  expect(reshape(q + ".scales", Dtype::kU8, {128, 2}), {kQ, "scales is U8"});
  expect(reshape(q + ".biases", Dtype::kBF16, {128, 1}), {kQ, "biases is BF16 [128, 1]"});
  expect(reshape(q + ".biases", Dtype::kF16, {128, 2}), {kQ, "biases is F16"});
  expect(reshape(q + ".weight", Dtype::kU32, {128, 12}), {kQ, "weight has shape [128, 12]"});
  expect(reshape(q + ".weight", Dtype::kBF16, {128, 128}), {kQ, "weight is BF16, expected U32"});
  expect(reshape("model.norm.scales", Dtype::kBF16, {128, 2}), {"model.norm.scales", "no part"});
}

TEST(LoadedWeightsTest, ConfigsThatContradictThePackedTensors) {
  const EditableCheckpoint good = QuantizedLlama();
  const auto with_entry = [](const Json& entry) {
    return [=](EditableCheckpoint& folder) { folder.config["quantization"][kQ] = entry; };
  };
  const auto expect = [&](const Json& entry, ErrorCode code,
                          std::initializer_list<const char*> texts) {
    ExpectError(ErrorAfter(good, with_entry(entry)), code, texts);
  };
  expect({{"bits", 8}, {"group_size", 64}}, ErrorCode::kCorrupt, {kQ, "8,64"});
  expect({{"bits", 4}, {"group_size", 32}}, ErrorCode::kCorrupt, {kQ, "4,32"});
  expect({{"bits", 8}, {"group_size", 128}}, ErrorCode::kCorrupt, {kQ, "8,128"});
  expect({{"bits", "4"}}, ErrorCode::kCorrupt, {kQ, "bits"});
  expect({{"bits", 7}}, ErrorCode::kUnsupported, {kQ, "7 bits"});
  expect({{"bits", 4}, {"group_size", 16}, {"mode", "nvfp4"}}, ErrorCode::kUnsupported, {"nvfp4"});
  expect({{"mode", "mxfp4"}}, ErrorCode::kCorrupt, {kQ, "mxfp4"});
  expect(false, ErrorCode::kCorrupt, {kQ, "false"});
  ExpectError(ErrorAfter(good,
                         [](EditableCheckpoint& folder) {
                           folder.config.erase("quantization");
                           folder.config.erase("quantization_config");
                         }),
              ErrorCode::kCorrupt, {"config.json does not say"});
  ExpectError(
      ErrorAfter(good, [](EditableCheckpoint& folder) { folder.config["quantization"] = 4; }),
      ErrorCode::kCorrupt, {"quantization", "object"});
  const EditableCheckpoint dense = MakeMlxFolder(OpenFixture("llama"), Choice::Dense());
  ExpectError(ErrorAfter(dense,
                         [](EditableCheckpoint& folder) {
                           folder.config["quantization"] = {{kQ, {{"bits", 4}}}};
                         }),
              ErrorCode::kCorrupt, {kQ, "no scales"});
}

// An entry of true, null or of a module that is not there changes nothing.
TEST(LoadedWeightsTest, HarmlessEntries) {
  EditableCheckpoint folder = QuantizedLlama();
  folder.config["quantization"][kQ] = true;
  folder.config["quantization"]["model.layers.0.mlp.gate"] = false;
  folder.config["quantization"]["model.layers.0.self_attn.k_proj"] = nullptr;
  const TempDirectory directory("loaded");
  const Checkpoint checkpoint = folder.WriteAndOpen(directory.path());
  EXPECT_EQ(OpenSource(checkpoint)->description(), "affine 4,64");
}

TEST(LoadedWeightsTest, NotFiniteWeightsAreNamed) {
  const auto put = [](EditableCheckpoint& folder, const std::string& name, uint64_t index,
                      uint16_t bits) {
    std::memcpy(folder.tensors.at(name).bytes.data() + index * 2, &bits, 2);
  };
  const EditableCheckpoint dense = EditableCheckpoint::Load("qwen3_moe");
  ExpectError(ErrorAfter(dense,
                         [&](auto& folder) {
                           put(folder, "model.layers.1.mlp.experts.3.down_proj.weight", 5 * 32 + 7,
                               0x7FC0);
                         }),
              ErrorCode::kCorrupt, {"model.layers.1.mlp.switch_mlp.down_proj", "[3, 5, 7]"});
  ExpectError(ErrorAfter(dense, [&](auto& folder) { put(folder, "model.norm.weight", 9, 0xFF80); }),
              ErrorCode::kCorrupt, {"model.norm.weight", "[0, 9]"});
  const EditableCheckpoint packed = QuantizedLlama();
  for (const char* part : {"scale", "bias"}) {
    const std::string name =
        std::string(kQ) + (part == std::string("bias") ? ".biases" : ".scales");
    ExpectError(ErrorAfter(packed, [&](auto& folder) { put(folder, name, 2 * 3 + 1, 0x7F80); }),
                ErrorCode::kCorrupt, {kQ, part, "[3, 1]"});
  }
  ExpectError(ErrorAfter(EditableCheckpoint::Load("gpt_oss_mxfp4"),
                         [](auto& folder) {
                           // Row 2 of the fused tensor of expert 1 is row 1 of its gate.
                           const auto& name = "model.layers.0.mlp.experts.gate_up_proj_scales";
                           TensorWithBytes& scales = folder.tensors.at(name);
                           const uint64_t groups = scales.spec.shape[2];
                           scales.bytes[(scales.spec.shape[1] + 2) * groups + 3] = 255;
                         }),
              ErrorCode::kCorrupt, {"mlp.experts.gate_proj", "scale", "[1, 1, 3]"});
}

TEST(LoadedWeightsTest, ShrunkenFilesAreErrors) {
  const TempDirectory directory("loaded");
  const Checkpoint checkpoint = QuantizedLlama().WriteAndOpen(directory.path());
  const auto source = OpenSource(checkpoint);
  std::filesystem::resize_file(directory.path() / "model.safetensors", 20000);
  bool failed = false;
  for (int layer = -1; layer < source->catalog().num_layers; ++layer) {
    failed |= !source->Load(layer, nullptr).ok();
  }
  EXPECT_TRUE(failed);
}

// ---- Parts ----

TEST(FindNotFiniteTest, EveryPlace) {
  const std::vector<std::pair<Dtype, std::vector<uint32_t>>> cases = {
      {Dtype::kF32, {0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001}},
      {Dtype::kBF16, {0x7F80, 0xFF80, 0x7FC0, 0xFF81}},
      {Dtype::kF16, {0x7C00, 0xFC00, 0x7E00, 0xFC01}},
      {Dtype::kU8, {0xFF, 0xFD}}};
  for (const auto& [dtype, bad] : cases) {
    const auto size = static_cast<size_t>(BitsOf(dtype)) / 8;
    const uint32_t largest = dtype == Dtype::kF32    ? 0xFF7FFFFF
                             : dtype == Dtype::kBF16 ? 0xFF7F
                             : dtype == Dtype::kF16  ? 0xFBFF
                                                     : 0xFC;
    for (size_t count = 1; count < 600; count += 37) {
      std::vector<uint8_t> bytes(count * size);
      for (size_t i = 0; i < count; ++i) std::memcpy(bytes.data() + i * size, &largest, size);
      EXPECT_FALSE(FindNotFinite(bytes, dtype));
      for (size_t at = 0; at < count; at += 5) {
        std::vector<uint8_t> changed = bytes;
        for (const uint32_t bits : bad) {
          std::memcpy(changed.data() + at * size, &bits, size);
          EXPECT_EQ(FindNotFinite(changed, dtype), at);
        }
      }
    }
  }
}

TEST(AlignedMemoryTest, SizesAndAlignment) {
  for (const uint64_t bytes : {0u, 1u, 64u, 65u, (2u << 20) - 1, 2u << 20, (2u << 20) + 1}) {
    AlignedMemory memory = Must(AlignedMemory::Allocate(bytes));
    EXPECT_GE(memory.size(), bytes);
    EXPECT_EQ(memory.size(), AlignedMemory::SizeFor(bytes));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(memory.data()) % 64, 0u);
    if (bytes > 0) std::memset(memory.data(), 1, memory.size());
    const uint8_t* data = memory.data();
    const AlignedMemory moved = std::move(memory);
    EXPECT_EQ(moved.data(), data);
  }
  EXPECT_EQ(AlignedMemory::Allocate(uint64_t{1} << 60).error().code, ErrorCode::kNoSpace);
}

}  // namespace
}  // namespace ram
