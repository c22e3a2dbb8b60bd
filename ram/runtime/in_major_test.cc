// GPTQ and AWQ checkpoints against the same models in dense F32.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "ram/family/fixtures.h"
#include "ram/runtime/in_major_packer.h"
#include "ram/runtime/loaded_weights.h"

namespace ram {
namespace {

std::vector<float> Decoded(const Matrix& matrix) {
  std::vector<float> values(matrix.count * matrix.rows * matrix.cols);
  for (uint64_t i = 0; i < matrix.count; ++i) {
    DecodeRows(matrix.at(i), 0, matrix.rows, values.data() + i * matrix.rows * matrix.cols);
  }
  return values;
}

void ExpectTwins(const Twins& twins, const std::string& description) {
  const TempDirectory packed_directory("packed");
  const TempDirectory dense_directory("dense");
  const Checkpoint packed = twins.packed.WriteAndOpen(packed_directory.path());
  const Checkpoint dense = twins.dense.WriteAndOpen(dense_directory.path());
  EXPECT_EQ(BindCatalog(packed).error().code, ErrorCode::kUnsupported);  // Not to be compressed.
  const auto got = Must(WeightSource::Open(packed, Numerics::kHf));
  const auto want = Must(WeightSource::Open(dense, Numerics::kHf));
  EXPECT_EQ(got->description().substr(0, description.size()), description);
  ThreadPool pool(2);
  for (int layer = -1; layer < want->catalog().num_layers; ++layer) {
    const LoadedWeights loaded = Must(got->Load(layer, &pool));
    const LoadedWeights expected = Must(want->Load(layer, &pool));
    EXPECT_EQ(loaded.bytes(), expected.bytes());
    for (const CatalogTensor& tensor : want->catalog().tensors) {
      if (tensor.layer != layer) continue;
      SCOPED_TRACE(tensor.name);
      const std::string module = tensor.module();
      const std::string path = "layers." + std::to_string(layer) + ".";
      const size_t at = module.find(path);
      const std::string name = at == std::string::npos ? module.substr(module.rfind('.') + 1)
                                                       : module.substr(at + path.size());
      if (IsMatrix(tensor.kind)) {
        EXPECT_TRUE(Decoded(*loaded.matrix(name)) == Decoded(*expected.matrix(name)));
      } else {
        EXPECT_TRUE(std::ranges::equal(loaded.vector(name), expected.vector(name)));
      }
    }
  }
}

TEST(InMajorTest, GptqOfEveryWidthOrderAndZero) {
  for (const int bits : {2, 3, 4, 8}) {
    for (const Order order : {Order::kSequential, Order::kShuffled, Order::kMissing}) {
      for (const int less : {0, 1}) {
        for (const bool symmetric : {false, true}) {
          SCOPED_TRACE(std::to_string(bits) + " bits, less " + std::to_string(less));
          const Format format = {.bits = bits,
                                 .symmetric = symmetric,
                                 .stored_less = less,
                                 .order = order,
                                 .scales = symmetric ? Dtype::kBF16 : Dtype::kF16};
          ExpectTwins(PackModel("llama", format), "gptq " + std::to_string(bits) + ",32");
        }
      }
    }
  }
}

TEST(InMajorTest, GroupsOfAllSizes) {
  for (const bool awq : {false, true}) {
    for (const int group_size : {-1, 16, 48, 64, 128, 1024}) {
      const Format format = {.awq = awq, .group_size = group_size, .scales = Dtype::kF32};
      ExpectTwins(PackModel("llama", format), awq ? "awq 4" : "gptq 4");
    }
  }
}

// Experts one by one, fused projections, keys and values of latent attention, heads of their own.
TEST(InMajorTest, Families) {
  for (const char* family : {"qwen3_moe", "qwen2_moe", "mixtral", "deepseek_v3", "glm4_moe_lite",
                             "phi3", "qwen3_next", "gemma2", "olmoe"}) {
    SCOPED_TRACE(family);
    ExpectTwins(PackModel(family, {.stored_less = 1, .order = Order::kShuffled}), "gptq 4,32");
    ExpectTwins(PackModel(family, {.awq = true}), "awq 4,32");
  }
}

// Qwen3.5-27B-GPTQ-Int4 says "gptq" and stores symmetric zeros as gptq_v2 does.
TEST(InMajorTest, SymmetricZerosMeanTheSameInBothFormats) {
  Twins twins = PackModel("llama", {.symmetric = true, .stored_less = 0});
  twins.packed.config["quantization_config"]["checkpoint_format"] = "gptq";
  ExpectTwins(twins, "gptq 4,32");
}

// GPTQModel writes symmetric AWQ models with zeros of 8 and says that they have no zero points.
TEST(InMajorTest, SymmetricAwqHasZerosToo) {
  Twins twins = PackModel("llama", {.awq = true, .symmetric = true});
  twins.packed.config["quantization_config"]["zero_point"] = false;
  ExpectTwins(twins, "awq 4,32");
}

// Subtracting 1 from whole words lets zeros of 0 borrow; adding it to whole words gives it back.
TEST(InMajorTest, OldZerosBorrow) {
  for (const int bits : {2, 4, 8}) {
    Twins twins = PackModel("llama", {.bits = bits, .stored_less = 0});
    const uint32_t ones = bits == 2 ? 0x55555555 : bits == 4 ? 0x11111111 : 0x01010101;
    for (auto& [name, tensor] : twins.packed.tensors) {
      if (!name.ends_with(".qzeros")) continue;
      for (size_t i = 0; i < tensor.bytes.size(); i += 4) {
        uint32_t word = 0;
        std::memcpy(&word, tensor.bytes.data() + i, 4);
        word -= ones;
        std::memcpy(tensor.bytes.data() + i, &word, 4);
      }
    }
    twins.packed.config["quantization_config"]["checkpoint_format"] = "gptq";
    ExpectTwins(twins, "gptq");
  }
}

TEST(InMajorTest, ModulesOfTheirOwn) {
  Twins twins = PackModel("llama", {.stored_less = 1});
  const std::string module = "model.layers.1.mlp.down_proj";
  const TensorWithBytes dense = EditableCheckpoint::Load("llama").Take(module + ".weight");
  for (const char* suffix : {".qweight", ".qzeros", ".scales", ".g_idx"}) {
    twins.packed.Take(module + suffix);
  }
  twins.packed.tensors[module + ".weight"] = dense;
  const std::vector<float> weights =
      PackModule(twins.packed, module, {.bits = 8, .group_size = 64, .stored_less = 1}, 5);
  std::memcpy(twins.dense.tensors[module + ".weight"].bytes.data(), weights.data(),
              weights.size() * 4);
  twins.packed.config["quantization_config"]["dynamic"] = {{"+:.*down.*", {{"bits", 8}}}};
  ExpectTwins(twins, "gptq 4,32 8,64");
}

TEST(InMajorTest, DenseModulesAndBiasesOfZerosAmongPackedOnes) {
  Twins twins = PackModel("llama", {.stored_less = 1});
  twins.packed.Add("model.layers.0.mlp.up_proj.bias", Dtype::kF16, {256},
                   std::vector<uint8_t>(512));
  const std::string module = "model.layers.1.self_attn.q_proj";
  for (const char* suffix : {".qweight", ".qzeros", ".scales", ".g_idx"}) {
    twins.packed.Take(module + suffix);
  }
  twins.packed.tensors[module + ".weight"] = twins.dense.tensors.at(module + ".weight");
  ExpectTwins(twins, "gptq 4,32");
}

// ---- What does not fit together ----

template <typename Change>
void ExpectErrorAfter(EditableCheckpoint model, const Change& change, ErrorCode code,
                      std::initializer_list<const char*> texts) {
  change(model);
  const TempDirectory directory("packed");
  const Checkpoint checkpoint = model.WriteAndOpen(directory.path());
  Error error = {ErrorCode::kIo, "no error"};
  auto source = WeightSource::Open(checkpoint, Numerics::kHf);
  if (!source) {
    error = source.error();
  } else {
    for (int layer = (*source)->catalog().num_layers - 1; layer >= -1; --layer) {
      auto loaded = (*source)->Load(layer, nullptr);
      if (!loaded) error = loaded.error();
    }
  }
  EXPECT_EQ(error.code, code) << error.message;
  for (const char* text : texts) {
    EXPECT_NE(error.message.find(text), std::string::npos) << error.message;
  }
}

TEST(InMajorTest, PartsThatDoNotFitTogether) {
  const std::string k = "model.layers.1.self_attn.k_proj";
  for (const bool awq : {false, true}) {
    const EditableCheckpoint good =
        PackModel("llama", {.awq = awq, .order = Order::kShuffled}).packed;
    const auto expect = [&](const auto& change, std::initializer_list<const char*> texts) {
      ExpectErrorAfter(good, change, ErrorCode::kCorrupt, texts);
    };
    const auto set = [&](const char* suffix, Dtype dtype, std::vector<uint64_t> shape,
                         uint8_t byte = 0) {
      return [=](EditableCheckpoint& model) {
        const uint64_t elements =
            std::accumulate(shape.begin(), shape.end(), uint64_t{1}, std::multiplies<>());
        model.Add(k + suffix, dtype, shape,
                  std::vector<uint8_t>(elements * static_cast<uint64_t>(BitsOf(dtype)) / 8, byte));
      };
    };
    const auto& shape_of = [&](const char* suffix) {
      return good.tensors.at(k + suffix).spec.shape;
    };
    for (const char* suffix : {".scales", ".qzeros"}) {
      expect([&](auto& model) { model.Take(k + suffix); }, {"k_proj", suffix, "missing"});
    }
    expect([&](auto& model) { model.Take(k + ".qweight"); }, {"k_proj.weight", "missing"});
    for (const char* suffix : {".qweight", ".scales", ".qzeros"}) {
      std::vector<uint64_t> shape = shape_of(suffix);
      shape[0] += 1;
      const Dtype dtype = good.tensors.at(k + suffix).spec.dtype;
      expect(set(suffix, dtype, shape), {"k_proj", suffix, "has shape", "expected"});
      expect(set(suffix, Dtype::kU8, shape_of(suffix)), {"k_proj", suffix, "U8"});
      expect(set(suffix, dtype, {4}), {"k_proj", suffix, "has shape"});
    }
    expect(set(".scales", Dtype::kF16, shape_of(".scales"), 0xFF), {"k_proj", "NaN"});
    if (awq) continue;
    expect(set(".g_idx", Dtype::kI32, {128}, 0x7F), {"k_proj.g_idx", "group"});
    expect(set(".g_idx", Dtype::kI32, {128}, 0xFF), {"k_proj.g_idx", "group -1 of 4"});
    expect(set(".g_idx", Dtype::kI32, {64}), {"k_proj.g_idx", "has shape"});
    expect(set(".bias", Dtype::kF16, {64}, 1), {"k_proj.bias", "no part"});
  }
}

TEST(InMajorTest, ConfigsThatAreNotRead) {
  const auto expect = [](const Format& format, const Json& keys, ErrorCode code,
                         std::initializer_list<const char*> texts) {
    ExpectErrorAfter(
        PackModel("llama", format).packed,
        [&](EditableCheckpoint& model) { model.config["quantization_config"].update(keys); }, code,
        texts);
  };
  constexpr auto kUnsupported = ErrorCode::kUnsupported;
  constexpr auto kCorrupt = ErrorCode::kCorrupt;
  const Format gptq = {};
  const Format awq = {.awq = true};
  expect(gptq, {{"bits", 5}}, kUnsupported, {"5 bits", "2, 3, 4, 8"});
  expect(gptq, {{"bits", 8}}, kCorrupt, {"qweight", "8,32 in config.json"});
  expect(gptq, {{"group_size", 64}}, kCorrupt, {"scales", "4,64 in config.json"});
  expect(gptq, {{"group_size", 0}}, kCorrupt, {"group_size"});
  expect(gptq, {{"group_size", "32"}}, kCorrupt, {"group_size"});
  expect(gptq, {{"checkpoint_format", "marlin"}}, kUnsupported, {"marlin"});
  expect(gptq, {{"quant_method", "bitsandbytes"}}, kUnsupported,
         {"bitsandbytes", "GPTQ and AWQ are"});
  expect(gptq, {{"sym", true}}, kCorrupt, {"qzeros", "sym"});
  expect(awq, {{"version", "gemv"}}, kUnsupported, {"gemv"});
  expect(awq, {{"bits", 3}}, kUnsupported, {"3 bits"});
  ExpectErrorAfter(PackModel("llama", gptq).packed,
                   [](EditableCheckpoint& model) { model.config.erase("quantization_config"); },
                   kCorrupt, {"does not say"});
}

}  // namespace
}  // namespace ram
