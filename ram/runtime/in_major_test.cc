// GPTQ and AWQ checkpoints against the same models in dense F32. The packers here set one bit after
// the other, by the layouts' definitions.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "ram/base/half.h"
#include "ram/family/fixtures.h"
#include "ram/quant/test_weights.h"
#include "ram/runtime/loaded_weights.h"

namespace ram {
namespace {

enum class Order : uint8_t { kSequential, kShuffled, kMissing };  // Of groups; no g_idx.

struct Format {
  bool awq = false;
  int bits = 4;
  int group_size = 32;  // -1: one.
  bool symmetric = false;
  int stored_less = 0;  // What writers subtract from zeros.
  Order order = Order::kSequential;
  Dtype scales = Dtype::kF16;
};

void SetBits(std::vector<uint8_t>* words, uint64_t first_bit, int num_bits, int value) {
  for (int i = 0; i < num_bits; ++i) {
    const uint64_t bit = first_bit + static_cast<uint64_t>(i);
    (*words)[bit / 8] = static_cast<uint8_t>((*words)[bit / 8] | (value >> i & 1) << bit % 8);
  }
}

// Bit at which nibble `o` of a row of AWQ begins.
uint64_t AwqBit(uint64_t o) {
  constexpr uint64_t kNibbleOf[] = {0, 4, 1, 5, 2, 6, 3, 7};
  return o / 8 * 32 + kNibbleOf[o % 8] * 4;
}

// Replaces a linear layer by a random quantized one; returns its weights [out, in].
std::vector<float> PackModule(EditableCheckpoint& model, const std::string& module,
                              const Format& format, uint64_t seed) {
  const TensorWithBytes dense = model.Take(module + ".weight");
  const uint64_t out = dense.spec.shape[0];
  const uint64_t in = dense.spec.shape[1];
  const uint64_t group_size = format.group_size < 0 ? in : static_cast<uint64_t>(format.group_size);
  const uint64_t groups = (in + group_size - 1) / group_size;
  const auto bits = static_cast<uint64_t>(format.bits);
  const uint64_t half = uint64_t{1} << (bits - 1);

  std::vector<uint32_t> group_of(in);
  for (uint64_t i = 0; i < in; ++i) group_of[i] = static_cast<uint32_t>(i / group_size);
  if (format.order == Order::kShuffled) {
    for (uint64_t i = in - 1; i > 0; --i) {
      std::swap(group_of[i], group_of[RandomBits(seed, i) % (i + 1)]);
    }
  }
  std::vector<uint8_t> codes(in * out * bits / 8);
  std::vector<uint8_t> zeros(groups * out * bits / 8);
  std::vector<uint8_t> scales;
  std::vector<float> scale(groups * out);
  std::vector<int> zero(groups * out);
  for (uint64_t g = 0; g < groups; ++g) {
    for (uint64_t o = 0; o < out; ++o) {
      const uint64_t at = g * out + o;
      // Zeros of at least 1: those of 0 borrow when 1 is subtracted (OldZerosBorrow).
      zero[at] =
          static_cast<int>(format.symmetric ? half : 1 + RandomBits(seed + 1, at) % (2 * half - 1));
      const uint64_t bit = format.awq ? g * out * 4 + AwqBit(o) : at * bits;
      SetBits(&zeros, bit, format.bits, zero[at] - format.stored_less);
      const auto value = static_cast<float>(0.01 + 0.02 * RandomUniform(seed + 2, at));
      if (format.scales == Dtype::kF32) {
        scale[at] = value;
        const auto* bytes = reinterpret_cast<const uint8_t*>(&value);
        scales.insert(scales.end(), bytes, bytes + 4);
      } else {
        const bool f16 = format.scales == Dtype::kF16;
        const uint16_t stored = f16 ? F16FromFloat(value) : Bf16FromFloat(value);
        scale[at] = f16 ? FloatFromF16(stored) : FloatFromBf16(stored);
        scales.push_back(static_cast<uint8_t>(stored));
        scales.push_back(static_cast<uint8_t>(stored >> 8));
      }
    }
  }
  std::vector<float> weights(out * in);
  for (uint64_t o = 0; o < out; ++o) {
    for (uint64_t i = 0; i < in; ++i) {
      const int code = static_cast<int>(RandomBits(seed + 3, o * in + i) % (2 * half));
      const uint64_t at = group_of[i] * out + o;
      weights[o * in + i] = static_cast<float>(code - zero[at]) * scale[at];
      // Column o of [in * bits / 32, out] words, or row i of [in, out / 8] words.
      const uint64_t stream_bit = i * bits;
      const uint64_t bit =
          format.awq ? i * out * 4 + AwqBit(o) : (stream_bit / 32 * out + o) * 32 + stream_bit % 32;
      const uint64_t first = std::min<uint64_t>(bits, 32 - stream_bit % 32);
      if (format.awq || first == bits) {
        SetBits(&codes, bit, format.bits, code);
      } else {  // The rest is in the word below.
        SetBits(&codes, bit, static_cast<int>(first), code);
        SetBits(&codes, ((stream_bit / 32 + 1) * out + o) * 32, static_cast<int>(bits - first),
                code >> first);
      }
    }
  }
  const std::vector<uint64_t> codes_shape =
      format.awq ? std::vector<uint64_t>{in, out / 8} : std::vector<uint64_t>{in * bits / 32, out};
  model.Add(module + ".qweight", Dtype::kI32, codes_shape, codes);
  model.Add(module + ".qzeros", Dtype::kI32, {groups, out * bits / 32}, zeros);
  model.Add(module + ".scales", format.scales, {groups, out}, scales);
  if (!format.awq && format.order != Order::kMissing) {
    std::vector<uint8_t> order(in * 4);
    std::memcpy(order.data(), group_of.data(), order.size());
    model.Add(module + ".g_idx", Dtype::kI32, {in}, order);
  }
  return weights;
}

bool IsLinear(const TensorWithBytes& tensor) {
  const std::string& name = tensor.spec.name;
  return tensor.spec.shape.size() == 2 && name.find("embed_tokens") == std::string::npos &&
         name.find(".gate.weight") == std::string::npos &&
         name.find("shared_expert_gate") == std::string::npos;
}

struct Twins {
  EditableCheckpoint packed;
  EditableCheckpoint dense;
};

// A fixture with all its linear layers packed, and the same in F32.
Twins PackModel(const char* family, const Format& format) {
  Twins twins = {EditableCheckpoint::Load(family), EditableCheckpoint::Load(family)};
  Json config = {{"bits", format.bits}, {"group_size", format.group_size}};
  if (format.awq) {
    config.update({{"quant_method", "awq"}, {"version", "gemm"}, {"zero_point", true}});
  } else {
    config.update({{"quant_method", "gptq"},
                   {"sym", format.symmetric},
                   {"desc_act", format.order == Order::kShuffled},
                   {"checkpoint_format", format.stored_less == 0 ? "gptq_v2" : "gptq"}});
  }
  twins.packed.config["quantization_config"] = config;
  uint64_t seed = 0;
  for (auto& [name, tensor] : twins.dense.tensors) {
    if (!IsLinear(tensor)) continue;
    const std::string module = name.substr(0, name.size() - std::string(".weight").size());
    const std::vector<float> weights = PackModule(twins.packed, module, format, seed += 10);
    tensor.spec.dtype = Dtype::kF32;
    tensor.bytes.resize(weights.size() * 4);
    std::memcpy(tensor.bytes.data(), weights.data(), tensor.bytes.size());
  }
  return twins;
}

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
  expect(gptq, {{"quant_method", "bitsandbytes"}}, kUnsupported, {"bitsandbytes"});
  expect(gptq, {{"sym", true}}, kCorrupt, {"qzeros", "sym"});
  expect(awq, {{"version", "gemv"}}, kUnsupported, {"gemv"});
  expect(awq, {{"bits", 3}}, kUnsupported, {"3 bits"});
  expect(awq, {{"zero_point", false}}, kUnsupported, {"zero_point"});
  ExpectErrorAfter(PackModel("llama", gptq).packed,
                   [](EditableCheckpoint& model) { model.config.erase("quantization_config"); },
                   kCorrupt, {"does not say"});
}

}  // namespace
}  // namespace ram
