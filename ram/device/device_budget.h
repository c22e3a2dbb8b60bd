#pragma once

// From "16GB Mac, 32k context" to the bytes that a model's files may have.
//
// Memory less what is not for the model: the part the system keeps, the caches of generation, the
// activations of the largest step, the program itself. The caches are those of mlx-lm 0.32 to the
// byte (docs/device.md has the formulas); activations and the program are estimates, and say so.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ram/base/result.h"
#include "ram/device/device.h"
#include "ram/family/catalog.h"

namespace ram {

// What a model needs besides its weights. `state`, hidden_size, vocabulary and max_context are in
// every Catalog and rate table.
struct ModelState {
  StateSize state;
  uint64_t hidden_size = 0;
  uint64_t vocabulary = 0;
  uint64_t max_context = 0;  // 0: not stated.
  // The rest has defaults for those who know only the above; 0: assumed.
  uint64_t activation_elements = 0;  // Per token, of one layer's widest step; 25 x hidden_size.
  uint64_t num_heads = 0;            // Of queries; hidden_size / 64.
  // MLA only: what a layer unpacks from the latents, per token; together 256 x num_heads.
  uint64_t unpacked_key_elements = 0;
  uint64_t unpacked_value_elements = 0;
};

// With everything that the shapes of the catalog tell.
ModelState ModelStateOf(const Catalog& catalog);
// What one module's shape (as MLX has it) tells, for those who have a rate table and no catalog:
// called for every module, once the other fields are set, it gives the same as the above.
// `tensor_class` as ClassName writes it; unknown ones tell nothing.
void AddModuleShape(std::string_view tensor_class, std::span<const uint64_t> shape,
                    ModelState* model);

struct DeviceBudgetRequest {
  Device device;
  uint64_t context_tokens = 32768;  // Prompt and answer together, > 0.
  int kv_bits = 16;                 // 16, 8 or 4: mlx-lm's --kv-bits (groups of 64).
  uint64_t batch = 1;               // Sequences at a time, each with its own context.
  uint64_t prefill_tokens = 2048;   // Of the prompt at a time: mlx-lm's --prefill-step-size.
};

// One line of the subtraction.
struct BudgetLine {
  std::string label;        // "key-value cache"
  uint64_t bytes = 0;       // Subtracted, but for the first line.
  std::string explanation;  // "32,768 tokens x 98,304 bytes"
};

struct DeviceBudget {
  uint64_t budget_bytes = 0;      // lines[0].bytes less all others.
  std::vector<BudgetLine> lines;  // The first is the memory; the others are subtracted from it.
  std::vector<std::string> notes;
};

// A context beyond the model's maximum is cut to it, with a note. kInvalidArgument: kv_bits that
// mlx-lm does not have for this model, a context or batch of 0, or nothing left: says how many
// bytes are missing and what would help.
Result<DeviceBudget> BudgetForDevice(const DeviceBudgetRequest& request, const ModelState& model);

// The subtraction as lines of text, sizes in one column, ending in a newline.
std::string DeviceBudgetText(const DeviceBudget& budget);

}  // namespace ram
