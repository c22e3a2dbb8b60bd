#pragma once

// Where every byte of a model directory's safetensors files goes, computed from the plan before
// anything is written.

#include <cstdint>
#include <string>
#include <vector>

#include "ram/base/result.h"
#include "ram/checkpoint/safetensors.h"
#include "ram/family/catalog.h"
#include "ram/quant/choice.h"

namespace ram {

// MLX cuts shards at 5 GiB of tensor data.
inline constexpr uint64_t kMaxShardBytes = uint64_t{5} << 30;

enum class Part : uint8_t {
  kWhole,   // The tensor as it is.
  kCodes,   // X.weight of a quantized module.
  kScales,  // X.scales
  kBiases,  // X.biases
};

struct PlacedTensor {
  TensorSpec spec;
  size_t tensor;  // Index into Catalog::tensors.
  Part part;
  size_t shard = 0;
  uint64_t offset = 0;  // From the start of the shard's file [bytes].
  uint64_t num_bytes = 0;
};

struct PlacedShard {
  std::string file_name;
  SafetensorsLayout layout;
  std::vector<size_t> tensors;  // Indexes into ModelLayout::tensors, in the order of the file.
};

struct ModelLayout {
  std::vector<PlacedTensor> tensors;  // In the order of the catalog.
  std::vector<PlacedShard> shards;
  // First of the catalog tensor's entries in `tensors`: one, or three in the order of Part.
  std::vector<size_t> first_of_tensor;
  uint64_t file_bytes = 0;    // Of all shards.
  uint64_t tensor_bytes = 0;  // Without headers.
};

// `choices` [catalog.tensors.size()]; kDense for tensors that are not quantizable.
// Tensors go to shards in the order of the catalog, as MLX cuts them; within a file those with
// wider elements come first, so that every tensor is aligned to its element.
ModelLayout LayOutModel(const Catalog& catalog, const std::vector<Choice>& choices,
                        uint64_t max_shard_bytes = kMaxShardBytes);

// model.safetensors.index.json.
std::string IndexJsonText(const ModelLayout& layout, uint64_t num_weights);

}  // namespace ram
