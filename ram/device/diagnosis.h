#pragma once

// What `ram doctor [MODEL]` finds: is this machine fit for the work, and for this model. Every
// problem comes with one remedy.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ram/device/device_budget.h"
#include "ram/device/machine.h"

namespace ram {

struct Finding {
  enum class Level : uint8_t { kOk, kWarning, kProblem };
  Level level = Level::kOk;
  std::string what;
  std::string remedy;  // Empty for kOk.
};

// Sizes of a model, from headers alone.
struct ModelSizes {
  std::string name;
  uint64_t num_weights = 0;
  uint64_t source_bytes = 0;    // Of the checkpoint's files.
  uint64_t dense_bytes = 0;     // Of the model in 16 bits.
  uint64_t smallest_bytes = 0;  // Every module at its smallest legal choice of 3 bits or more.
  uint64_t uniform_bytes = 0;   // Uniform (4,64), what mlx_lm.convert writes by default.
  ModelState state;
};

struct DoctorRequest {
  Device device;  // Where the model is to run.
  uint64_t context_tokens = 32768;
  int kv_bits = 16;
  uint64_t free_disk_bytes = 0;
  // Speed of this machine; defaults are those of one slow core (docs/device.md).
  double measure_seconds_per_byte = 1.0 / 50e6;  // Of source weights.
  double write_seconds_per_byte = 1.0 / 150e6;
};

// Memory and disk for compressing, instruction sets, the wired limit.
std::vector<Finding> DiagnoseMachine(const Machine& machine, uint64_t free_disk_bytes);

// Whether the model fits the device, the largest budget, disk and time for `ram compress`.
std::vector<Finding> DiagnoseModel(const ModelSizes& model, const DoctorRequest& request);

// "3 s", "4 min", "2 h 10 min": for estimates.
std::string RoughDuration(double seconds);

}  // namespace ram
