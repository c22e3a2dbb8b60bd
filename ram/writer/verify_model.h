#pragma once

// Looks at a finished MLX model directory, ours or another program's: what is really stored, module
// by module, and where config.json, the plan or the index say something else.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "ram/base/result.h"
#include "ram/family/stored_form.h"

namespace ram {

struct StoredModule {
  std::string name;
  StoredForm stored;                   // From the shapes of its tensors.
  std::optional<StoredForm> declared;  // From config.json, what a loader will assume.
  std::optional<StoredForm> planned;   // From plan.json.
  uint64_t num_weights = 0;
  uint64_t bytes = 0;  // Of its tensors.
};

struct VerifiedModel {
  std::string model_type;
  uint64_t file_bytes = 0;    // Of the safetensors files.
  uint64_t tensor_bytes = 0;  // Without headers.
  uint64_t num_weights = 0;
  size_t num_tensors = 0;
  std::vector<StoredModule> modules;  // Quantized ones and those that could be.
  bool has_plan = false;
  std::optional<uint64_t> planned_bytes;
  std::optional<uint64_t> budget_bytes;
  // One sentence each; none: everything agrees.
  std::vector<std::string> problems;
  std::vector<std::string> notes;

  // Everything counted: 8 * tensor_bytes / num_weights.
  double bits_per_weight() const;
};

// Reads headers and JSON only. kNotFound, kCorrupt if the directory cannot be read at all; whatever
// else is wrong becomes a problem of the report.
Result<VerifiedModel> VerifyModel(const std::filesystem::path& directory);

}  // namespace ram
