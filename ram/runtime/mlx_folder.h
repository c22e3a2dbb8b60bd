#pragma once

// Test support: the fixtures of tests/data/families as MLX model folders, dense or quantized. Made
// from ram_family and ram_quant alone, so that tests of the runtime need no writer.

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "ram/family/fixtures.h"
#include "ram/quant/quantize.h"

namespace ram {

// What an MLX folder holds, to be changed and written by a test. `choose` says how each quantizable
// tensor is stored (an illegal choice for its columns becomes dense); `dtype` is that of dense
// weights, scales and biases. The config's defaults are those of `defaults`; every module that
// differs has an entry.
inline EditableCheckpoint MakeMlxFolder(const Checkpoint& source, const Choice& defaults,
                                        const std::function<Choice(const CatalogTensor&)>& choose,
                                        Dtype dtype = Dtype::kBF16) {
  Catalog catalog = Must(BindCatalog(source));
  EditableCheckpoint folder;
  folder.config = Must(OutputConfig(source.config(), catalog));
  Json quantization = {{"group_size", defaults.group_size}, {"bits", defaults.bits}};
  if (defaults.mode == Mode::kMxfp4) quantization["mode"] = "mxfp4";
  for (CatalogTensor& tensor : catalog.tensors) {
    if (tensor.dtype != Dtype::kF32) tensor.dtype = dtype;
    Choice choice = IsQuantizable(tensor.kind) ? choose(tensor) : Choice::Dense();
    if (!IsLegal(choice, tensor.cols)) choice = Choice::Dense();
    const uint64_t rows = tensor.rows * tensor.views.size();
    const std::string module = tensor.module();
    std::vector<uint64_t> codes_shape = tensor.shape;
    std::vector<uint64_t> scales_shape = tensor.shape;
    if (choice.mode != Mode::kDense) {
      codes_shape.back() = tensor.cols * static_cast<uint64_t>(choice.bits) / 32;
      scales_shape.back() = tensor.cols / static_cast<uint64_t>(choice.group_size);
    }
    std::vector<uint8_t> codes(rows * tensor.cols * static_cast<uint64_t>(choice.bits) / 8);
    switch (choice.mode) {
      case Mode::kDense:
        folder.Add(tensor.name, tensor.dtype, tensor.shape, ReadAll(source, tensor));
        if (IsQuantizable(tensor.kind)) quantization[module] = false;
        continue;
      case Mode::kMxfp4: {
        const uint64_t row_scales = tensor.cols / 32;
        std::vector<uint8_t> scales(rows * row_scales);
        for (size_t view = 0; view < tensor.views.size(); ++view) {
          const uint64_t row = view * tensor.rows;
          Must(ReadMxfp4Rows(
              source, tensor, view, 0, tensor.rows,
              std::span(codes).subspan(row * tensor.cols / 2, tensor.rows * tensor.cols / 2),
              std::span(scales).subspan(row * row_scales, tensor.rows * row_scales)));
        }
        folder.Add(module + ".scales", Dtype::kU8, scales_shape, std::move(scales));
        break;
      }
      case Mode::kAffine: {
        const std::vector<uint8_t> weights = ReadAll(source, tensor);
        const uint64_t scale_bytes =
            rows * scales_shape.back() * static_cast<uint64_t>(BitsOf(tensor.dtype)) / 8;
        std::vector<uint8_t> scales(scale_bytes);
        std::vector<uint8_t> biases(scale_bytes);
        Must(Quantize({weights.data(), tensor.dtype, rows, tensor.cols}, {.choice = choice},
                      {codes, scales, biases}));
        folder.Add(module + ".scales", tensor.dtype, scales_shape, std::move(scales));
        folder.Add(module + ".biases", tensor.dtype, scales_shape, std::move(biases));
        break;
      }
    }
    folder.Add(module + ".weight", Dtype::kU32, codes_shape, std::move(codes));
    if (choice != defaults) {
      quantization[module] = {{"group_size", choice.group_size}, {"bits", choice.bits}};
      if (choice.mode == Mode::kMxfp4) quantization[module]["mode"] = "mxfp4";
    }
  }
  if (defaults.mode != Mode::kDense) {
    folder.config["quantization"] = quantization;
    folder.config["quantization_config"] = quantization;
  }
  return folder;
}

inline EditableCheckpoint MakeMlxFolder(const Checkpoint& source, const Choice& choice,
                                        Dtype dtype = Dtype::kBF16) {
  return MakeMlxFolder(
      source, choice, [&](const CatalogTensor&) { return choice; }, dtype);
}

}  // namespace ram
