#pragma once

// Quantizes the matrices of a bare safetensors file, as mx.quantize would: the engineer's tool, and
// what comparisons with MLX run on. No config, no family, no plan.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "ram/base/progress.h"
#include "ram/base/result.h"
#include "ram/base/thread_pool.h"
#include "ram/quant/quantize.h"

namespace ram {

struct PackOptions {
  Choice choice;  // Affine.
  Quantizer quantizer = Quantizer::kRtn;
  Rounding rounding = Rounding::kCpu;
  bool overwrite = false;
  ThreadPool* pool = nullptr;  // Required.
  Watcher watcher;
};

struct PackedFile {
  size_t num_packed = 0;
  // Kept as they are: no floating-point matrix, or columns that the group size does not divide.
  std::vector<std::string> kept;
  uint64_t source_bytes = 0;
  uint64_t file_bytes = 0;
  double seconds = 0;
};

// Every tensor of two or more dimensions, BF16, F16 or F32, whose last dimension the group size
// divides, becomes X.weight, X.scales, X.biases, where X is its name without ".weight". Scales keep
// the dtype of the tensor. All other tensors are copied.
// kInvalidArgument: `out` exists, two tensors would get the same name; kCorrupt: NaN or infinity.
// `out` appears whole or not at all.
Result<PackedFile> PackFile(const std::filesystem::path& in, const std::filesystem::path& out,
                            const PackOptions& options);

}  // namespace ram
