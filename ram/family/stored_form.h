#pragma once

// How MLX says that a module is stored: the entries of config.json's "quantization", and what the
// shapes of the module's tensors say.

#include <string>
#include <string_view>

#include "ram/base/json.h"
#include "ram/base/result.h"
#include "ram/checkpoint/safetensors.h"
#include "ram/quant/choice.h"

namespace ram {

// Any mode of MLX, also those that are no Choice.
struct StoredForm {
  std::string mode;  // "affine", "mxfp4", "mxfp8", "nvfp4", "16"
  int bits = 16;
  int group_size = 0;

  std::string Name() const;  // "4,64", "mxfp4", "16", ...
  friend bool operator==(const StoredForm&, const StoredForm&) = default;
};

StoredForm StoredFormOf(const Choice& choice);

// From the shapes of a module's codes and scales, given the number of weights in a row. Numbers
// that no choice has (0 among them) if the shapes fit nothing.
StoredForm FormFromShapes(const TensorInfo& weight, const TensorInfo& scales, uint64_t cols);

// What config.json's "quantization" says about a module: its own entry, or the defaults at the top
// if it has none that is an object. An entry inherits nothing from the defaults: as loaders read
// it, a key that is missing or null stands for the default of the mode. kCorrupt names the module
// and the key.
Result<StoredForm> DeclaredForm(const Json& quantization, const std::string& module);

}  // namespace ram
