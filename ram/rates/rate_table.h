#pragma once

// The rate table: what every choice of every module costs in bytes and in error. Made by
// `ram measure` from a checkpoint; all that planning needs, so it can be kept, shared and used
// without the weights. On disk: *.rates.json (docs/plan.md).

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ram/base/dtype.h"
#include "ram/base/json.h"
#include "ram/base/result.h"
#include "ram/quant/choice.h"
#include "ram/quant/quantize.h"

namespace ram {

// One choice of one module.
struct ChoiceRate {
  Choice choice;
  // What it adds to the safetensors files: codes, scales, biases, and the header entries of these
  // tensors [bytes].
  uint64_t bytes = 0;
  // Squared error over all weights, by the table's quantizer; 0 for 16 bits and pass-through.
  double sum_squares_error = 0;
  double weighted_error = 0;  // sum of row weight x column weight x e^2; equal without weights.
  double largest_error = 0;   // max |e|
  // Squared error of plain rounding (Quantizer::kRtn), which the floor is judged by; absent where
  // it was not measured apart. Against kRtnPlus it is then the same up to 5 bits, about 0.2 dB
  // worse at 6 and 2 dB at 8 (docs/measure.md): no matter where the floor is far below.
  std::optional<double> rtn_sum_squares_error;
  // The quantizer that sum_squares_error is of, where it was measured again by the one that will
  // write the module; absent: the table's.
  std::optional<Quantizer> priced_by;
};

// One expert (or head) of a stacked module. The module's figures are the sums over these, but for
// choices that were priced again.
struct SliceRates {
  std::string hash;  // XXH3-128 of its weights as they are stored in 16 bits.
  double sum_squares = 0;
  std::vector<double> sum_squares_errors;  // Of the module's affine choices, in their order.
};

struct ModuleRates {
  std::string name;          // Module path as MLX names it: "model.layers.0.mlp.down_proj".
  std::string kind;          // "embedding", "linear", "router", "switch", "multi".
  std::string tensor_class;  // "down", "expert_gate", "head", ... (docs/allocation.md).
  int layer = -1;            // -1: outside the layers.
  std::vector<uint64_t> shape;
  Dtype dtype = Dtype::kBF16;  // Of scales, biases, and 16-bit weights.
  // What `mlx_lm.convert -q` does with it: "uniform" (the global choice), "16" (skipped), or a
  // fixed choice such as "8,64" for routers.
  std::string mlx_default = "uniform";

  double sum_squares = 0;  // ||W||^2
  double weighted_sum_squares = 0;
  double kurtosis = 0;  // mean(w^4) / mean(w^2)^2, about zero; 3 for a Gaussian.
  double largest = 0;   // max |w|
  uint64_t num_nan = 0;
  uint64_t num_inf = 0;
  std::string first_non_finite;  // Where the first one is: "row 3, column 17"; empty without any.
  std::string hash;              // Of the slices' hashes, or of the weights.

  std::vector<ChoiceRate> choices;  // Every legal one, smallest affine first, "16" last.
  std::vector<SliceRates> slices;   // Empty for plain matrices.

  uint64_t num_weights() const;
  // Null if the choice is not legal here.
  const ChoiceRate* Find(const Choice& choice) const;
};

// A tensor that is written as it is: norms, biases, convolutions.
struct FixedTensor {
  std::string name;
  uint64_t num_weights = 0;
  uint64_t bytes = 0;  // Data and header entry.
};

// What generation keeps besides the weights; see StateSize in ram/family/catalog.h.
struct GenerationState {
  uint64_t cache_elements_per_token = 0;
  uint64_t window_cache_elements_per_token = 0;
  uint64_t window_tokens = 0;
  uint64_t recurrent_bytes = 0;
  uint64_t latent_elements_per_token = 0;
};

struct RateTable {
  std::string model;           // As it was named.
  std::string model_type;      // "qwen3_moe"
  std::string structure_hash;  // Checkpoint::structure_hash()
  std::string weights_hash;    // Of the modules' hashes: which weights these are.
  Quantizer quantizer = Quantizer::kRtnPlus;
  Rounding rounding = Rounding::kCpu;
  int num_layers = 0;
  uint64_t hidden_size = 0;
  uint64_t vocabulary = 0;
  uint64_t max_context = 0;
  uint64_t source_bytes = 0;    // Of the checkpoint's files.
  uint64_t overhead_bytes = 0;  // Of the files to be written: length words, metadata, padding.
  GenerationState state;
  std::vector<ModuleRates> modules;  // In the order of writing.
  std::vector<FixedTensor> fixed;

  uint64_t num_weights() const;  // Modules and fixed tensors.
  uint64_t fixed_bytes() const;  // Everything no choice changes: fixed tensors and overhead.
  uint64_t dense_bytes() const;  // The whole model in 16 bits.
  const ModuleRates* Find(std::string_view module) const;
};

// sqnr [dB] = 10 log10(||W||^2 / sum of e^2); infinity without error.
double SqnrDb(double sum_squares, double sum_squares_error);

// The text of the file, ending in a newline: the same table gives the same bytes.
std::string ToJsonText(const RateTable& table);
// kCorrupt names `where`, the module and the key.
Result<RateTable> ParseRateTable(std::string_view text, std::string_view where);

// A table and the SHA-256 of its file: what plans are bound to.
struct LoadedRates {
  RateTable table;
  std::string sha256;
};
Result<LoadedRates> ReadRateTable(const std::filesystem::path& path);

}  // namespace ram
