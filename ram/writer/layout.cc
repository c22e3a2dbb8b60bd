#include "ram/writer/layout.h"

#include <fmt/format.h>

#include <algorithm>

#include "ram/base/json.h"

namespace ram {
namespace {

uint64_t NumBytes(const TensorSpec& spec) {
  uint64_t elements = 1;
  for (const uint64_t extent : spec.shape) elements *= extent;
  return elements * static_cast<uint64_t>(BitsOf(spec.dtype)) / 8;
}

void Place(TensorSpec spec, size_t tensor, Part part, ModelLayout* layout) {
  PlacedTensor placed{std::move(spec), tensor, part};
  placed.num_bytes = NumBytes(placed.spec);
  layout->tensor_bytes += placed.num_bytes;
  layout->tensors.push_back(std::move(placed));
}

void PlaceModule(const CatalogTensor& tensor, size_t index, const Choice& choice,
                 ModelLayout* layout) {
  const std::string module = tensor.module();
  const bool mxfp4 = choice.mode == Mode::kMxfp4;
  std::vector<uint64_t> shape = tensor.shape;
  shape.back() = tensor.cols * static_cast<uint64_t>(choice.bits) / 32;
  Place({module + ".weight", Dtype::kU32, shape}, index, Part::kCodes, layout);
  shape.back() = tensor.cols / static_cast<uint64_t>(choice.group_size);
  Place({module + ".scales", mxfp4 ? Dtype::kU8 : tensor.dtype, shape}, index, Part::kScales,
        layout);
  if (!mxfp4) Place({module + ".biases", tensor.dtype, shape}, index, Part::kBiases, layout);
}

}  // namespace

ModelLayout LayOutModel(const Catalog& catalog, const std::vector<Choice>& choices,
                        uint64_t max_shard_bytes) {
  RAM_CHECK(choices.size() == catalog.tensors.size());
  ModelLayout layout;
  for (size_t i = 0; i < catalog.tensors.size(); ++i) {
    const CatalogTensor& tensor = catalog.tensors[i];
    layout.first_of_tensor.push_back(layout.tensors.size());
    if (choices[i].mode == Mode::kDense) {
      Place({tensor.name, tensor.dtype, tensor.shape}, i, Part::kWhole, &layout);
    } else {
      PlaceModule(tensor, i, choices[i], &layout);
    }
  }

  uint64_t shard_bytes = 0;
  for (size_t i = 0; i < layout.tensors.size(); ++i) {
    PlacedTensor& tensor = layout.tensors[i];
    if (layout.shards.empty() || shard_bytes + tensor.num_bytes > max_shard_bytes) {
      layout.shards.emplace_back();
      shard_bytes = 0;
    }
    shard_bytes += tensor.num_bytes;
    tensor.shard = layout.shards.size() - 1;
    layout.shards.back().tensors.push_back(i);
  }

  for (size_t s = 0; s < layout.shards.size(); ++s) {
    PlacedShard& shard = layout.shards[s];
    shard.file_name = layout.shards.size() == 1 ? "model.safetensors"
                                                : fmt::format("model-{:05d}-of-{:05d}.safetensors",
                                                              s + 1, layout.shards.size());
    std::ranges::stable_sort(shard.tensors, [&](size_t a, size_t b) {
      return BitsOf(layout.tensors[a].spec.dtype) > BitsOf(layout.tensors[b].spec.dtype);
    });
    std::vector<TensorSpec> specs;
    for (const size_t i : shard.tensors) specs.push_back(layout.tensors[i].spec);
    shard.layout = LayOutSafetensors(specs);
    for (size_t k = 0; k < shard.tensors.size(); ++k) {
      layout.tensors[shard.tensors[k]].offset = shard.layout.offsets[k];
    }
    layout.file_bytes += shard.layout.file_bytes;
  }
  return layout;
}

std::string IndexJsonText(const ModelLayout& layout, uint64_t num_weights) {
  Json index;
  index["metadata"]["total_size"] = layout.tensor_bytes;
  index["metadata"]["total_parameters"] = num_weights;
  index["weight_map"] = Json::object();
  for (const PlacedTensor& tensor : layout.tensors) {
    index["weight_map"][tensor.spec.name] = layout.shards[tensor.shard].file_name;
  }
  return index.dump(4) + "\n";
}

}  // namespace ram
