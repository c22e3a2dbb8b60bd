#pragma once

// Modules that a checkpoint stores quantized: by MLX (codes, scales, biases), by GPTQ or by AWQ
// (qweight, scales, qzeros). Which method is in config.json, which modules from their tensors, how
// many bits from shapes; all three must agree.
// Sources: docs/checkpoints.md.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ram/base/json.h"
#include "ram/base/result.h"
#include "ram/checkpoint/checkpoint.h"
#include "ram/family/catalog.h"

namespace ram {

// What config.json says about the whole model.
struct PackedConfig {
  enum class Method : uint8_t { kNone, kMlx, kGptq, kAwq };
  Method method = Method::kNone;
  Json quantization = Json::object();  // kMlx: "quantization".
  // kGptq, kAwq:
  Encoding encoding = Encoding::kAwq;
  int bits = 0;
  int group_size = 0;       // 0: all of a row is one group.
  bool per_module = false;  // Modules may have other bits and groups than these.
};

// kUnsupported names a method, mode or layout that is not read.
Result<PackedConfig> ReadPackedConfig(const Json& config, std::string_view where);

// The config's "quantization_config", also where it is in "text_config"; null if there is none.
const Json* FindQuantizationConfig(const Json& config);

// One module that is stored packed.
struct PackedModule {
  Encoding encoding = Encoding::kAffine;
  Choice choice;
  Dtype dtype = Dtype::kF32;             // As in CatalogTensor.
  std::string source;                    // The tensor of codes ...
  std::string scales;                    // ... and of scales.
  std::vector<const TensorInfo*> parts;  // All tensors of it.
};

// Whether the checkpoint has this module in packed form; nothing if it has not, and then it may be
// plain. `module`: its path in the checkpoint; `key`: its path in MLX's model, by which a config
// may name it too. `shape`: [..., rows, cols] of the weights it must have.
Result<std::optional<PackedModule>> FindPackedModule(const Checkpoint& checkpoint,
                                                     const PackedConfig& config,
                                                     const std::string& module,
                                                     const std::string& key,
                                                     const std::vector<uint64_t>& shape);

}  // namespace ram
