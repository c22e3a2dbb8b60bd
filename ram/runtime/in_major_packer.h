#pragma once

// Test support: fixtures of tests/data/families as GPTQ and AWQ checkpoints of random codes, and
// the same models in dense F32. The packer sets one bit after the other, by the layouts'
// definitions (ram/family/in_major_rows.h).

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "ram/base/half.h"
#include "ram/family/fixtures.h"
#include "ram/quant/test_weights.h"

namespace ram {

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

inline void SetBits(std::vector<uint8_t>* words, uint64_t first_bit, int num_bits, int value) {
  for (int i = 0; i < num_bits; ++i) {
    const uint64_t bit = first_bit + static_cast<uint64_t>(i);
    (*words)[bit / 8] = static_cast<uint8_t>((*words)[bit / 8] | (value >> i & 1) << bit % 8);
  }
}

// Bit at which nibble `o` of a row of AWQ begins.
inline uint64_t AwqBit(uint64_t o) {
  constexpr uint64_t kNibbleOf[] = {0, 4, 1, 5, 2, 6, 3, 7};
  return o / 8 * 32 + kNibbleOf[o % 8] * 4;
}

// Replaces a linear layer by a random quantized one; returns its weights [out, in].
inline std::vector<float> PackModule(EditableCheckpoint& model, const std::string& module,
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

inline bool IsLinear(const TensorWithBytes& tensor) {
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
inline Twins PackModel(const char* family, const Format& format) {
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

}  // namespace ram
