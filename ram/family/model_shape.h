#pragma once

// What config.json says about one model, checked: sizes, which layers are of which kind, which
// optional tensors exist.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ram/base/dtype.h"
#include "ram/base/json.h"
#include "ram/base/result.h"
#include "ram/family/families.h"

namespace ram {

enum class LayerAttention : uint8_t { kFull, kSliding, kLinear };

struct LayerShape {
  LayerAttention attention = LayerAttention::kFull;
  bool has_experts = false;
  bool before_experts = false;  // A dense layer in front of the first one with experts.
};

struct ModelShape {
  const Family* family = nullptr;
  std::string model_type;
  bool nested = false;  // The sizes are in text_config.
  std::array<uint64_t, static_cast<size_t>(Dim::kCount)> dims = {};
  std::array<bool, static_cast<size_t>(When::kCount)> holds = {};
  std::vector<LayerShape> layers;
  uint64_t window_tokens = 0;  // Of sliding layers.
  uint64_t max_context = 0;
  bool tied = false;         // For TyingRule::kByFile a guess: the file decides.
  bool config_ties = false;  // What the config says, whether mlx-lm listens or not.
  // What the config says about storage: kBF16 or kF16, or kF32 for "by source".
  Dtype stated_dtype = Dtype::kF32;
  Json resolved = Json::object();  // Every key that was read, with the value used.
  std::vector<std::string> notes;

  uint64_t dim(Dim d) const { return dims[static_cast<size_t>(d)]; }
  bool is(When when) const { return holds[static_cast<size_t>(when)]; }
};

// kUnsupported: an unknown model_type, a setting mlx-lm has no code for. kCorrupt: a key that is
// missing or outside sensible limits (1,024 layers, 16,384 experts, 2^28 for any size, 2^48 weights
// in one tensor, 2^19 matrices in all).
Result<ModelShape> ReadModelShape(const Json& config, std::string_view where);

// A value for a message: its JSON text, at most about 40 characters.
std::string Excerpt(const Json& value);

// The object with the sizes: text_config if this family nests, else the config itself.
const Json& TextConfig(const Json& config, const Family& family);

}  // namespace ram
