#pragma once

// The catalog: every tensor of a model as MLX names it, and where in the checkpoint its weights
// come from. Computed from config.json by the family's table row (families.cc), then bound to the
// checkpoint's tensors.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ram/base/dtype.h"
#include "ram/base/json.h"
#include "ram/base/result.h"
#include "ram/checkpoint/checkpoint.h"
#include "ram/quant/choice.h"

namespace ram {

enum class TensorKind : uint8_t {
  kEmbedding,  // [vocabulary, hidden], quantizable.
  kLinear,     // [out, in], quantizable.
  kRouter,     // [experts, hidden] or [1, hidden], a plain linear layer that chooses or gates
               // experts: quantizable, protected by default.
  kSwitch,     // [experts, out, in], quantizable, one choice for all experts.
  kMulti,      // [heads, out, in], quantizable, one choice for all heads.
  kRouterRaw,  // A router that MLX holds as a raw array: never quantized.
  kVector,     // Norms, biases and other small tensors: never quantized.
  kVector32,   // As kVector, kept in F32.
  kConv,       // Convolution kernels: never quantized.
};

std::string_view KindName(TensorKind kind);  // "embedding", "linear", "router", "switch", ...
bool IsQuantizable(TensorKind kind);
bool IsMatrix(TensorKind kind);  // Quantizable, or kRouterRaw.

// What a tensor does in the model, for sensitivities by class (docs/allocation.md).
enum class TensorClass : uint8_t {
  kOther,
  kEmbedding,      // Not tied.
  kTiedEmbedding,  // Serves as head too.
  kHead,
  kQ,
  kK,
  kV,
  kO,
  kGate,  // Dense MLP.
  kUp,
  kDown,
  kExpertGate,
  kExpertUp,
  kExpertDown,
  kSharedExpert,
  kFirstDense,  // The dense MLP of a layer in front of a mixture of experts.
  kMlaKvA,
  kMlaEmbedQ,      // Key part of kv_b.
  kMlaUnembedOut,  // Value part of kv_b.
  kMlaQA,
  kMlaQB,
  kLinearQkv,  // Linear attention (gated delta net).
  kLinearGate,
  kLinearOut,
  kLinearAlphaBeta,
  kRouter,
};

std::string_view ClassName(TensorClass tensor_class);  // "down", "expert_down", "mla_kv_a", ...
std::optional<TensorClass> ParseClass(std::string_view name);

// One matrix [rows, cols] of a tensor and where its elements lie in the source tensor, counted in
// elements of the source as its shape says (for block formats: after decoding):
//   element (r, c) = source[base + r * row_stride + c * col_stride].
// Stacking, splitting, interleaving, transposing and the MLA split are all views of this form.
struct SourceView {
  std::string source;  // Name in the checkpoint.
  uint64_t base = 0;
  uint64_t row_stride = 0;
  uint64_t col_stride = 1;
};

// Source encodings (docs/checkpoints.md). From kAffine on only in catalogs for running.
enum class Encoding : uint8_t {
  kPlain,     // BF16, F16, F32.
  kFp8Block,  // F8_E4M3 with a scale per 128 x 128 block (`scale_source`).
  kMxfp4,     // E2M1 codes with E8M0 scales per 32 (`scale_source`).
  kAffine,    // MLX: a bit stream of codes, scales (`scale_source`) and biases beside them.
  // The rest are weights (code - zero) * scale, column by column of the matrix:
  kGptqLessOne,    // GPTQ; a zero is stored less 1.
  kGptq,           // GPTQ; zeros are stored as they are.
  kGptqSymmetric,  // GPTQ; all zeros are half of the range, whichever way they are stored.
  kAwq,            // AWQ; codes in the order of its GEMM kernel.
};

struct CatalogTensor {
  std::string name;             // As MLX names it, e.g. "model.layers.0.mlp.gate.weight".
  std::vector<uint64_t> shape;  // As MLX has it.
  TensorKind kind = TensorKind::kVector;
  TensorClass tensor_class = TensorClass::kOther;
  int layer = -1;  // -1: outside the layers.

  // shape = [views.size(), rows, cols] for kSwitch and kMulti, [rows, cols] with one view for other
  // matrices, [cols] or any shape with one view of one row for the rest.
  uint64_t rows = 1;
  uint64_t cols = 1;
  std::vector<SourceView> views;
  // Stored value = w + 1, rounded to the precision of the source and then to `dtype` (the order of
  // mlx-lm): norms of qwen3_next and qwen3_5.
  bool add_one = false;

  // Known after binding:
  Encoding encoding = Encoding::kPlain;
  std::vector<std::string> scale_sources;  // One per view, for encodings with scales.
  // Bits and group size where weights are packed. A group of GPTQ or AWQ may have any size; 0: all
  // of a row is one.
  Choice packed;
  // Storage type of unquantized weights, and of scales and biases: the config's torch_dtype, F32
  // becomes BF16; kF32 for kVector32.
  Dtype dtype = Dtype::kBF16;
  uint64_t source_bytes = 0;  // What its weights take in the checkpoint.

  uint64_t num_weights() const { return rows * cols * views.size(); }
  // Module path: the name without ".weight".
  std::string module() const;
};

// A tensor of the checkpoint that is not part of the output.
struct DroppedTensor {
  std::string name;
  std::string
      reason;  // "vision tower", "multi-token prediction layer", "tied to the embedding", ...
  uint64_t num_bytes;
};

// What the model keeps per token and per sequence while it generates, for device budgets.
struct StateSize {
  uint64_t cache_elements_per_token = 0;         // Over all layers that see the whole context.
  uint64_t window_cache_elements_per_token = 0;  // Over all layers with a sliding window ...
  uint64_t window_tokens = 0;                    // ... which keep at most this many tokens.
  uint64_t recurrent_bytes = 0;                  // Per sequence, whatever the context.
  // Part of cache_elements_per_token that is MLA latents and their rotary keys.
  uint64_t latent_elements_per_token = 0;
};

struct Catalog {
  std::string model_type;              // Of the config, e.g. "qwen3_moe".
  std::string family;                  // Table row.
  std::vector<CatalogTensor> tensors;  // In the order of writing: embedding, layers, norm, head.
  std::vector<DroppedTensor> dropped;  // Known after binding.
  int num_layers = 0;
  uint64_t hidden_size = 0;
  uint64_t vocabulary = 0;
  uint64_t max_context = 0;  // 0: not stated.
  bool tied = false;
  Dtype dtype = Dtype::kBF16;  // Of all tensors except kVector32.
  StateSize state;
  std::vector<std::string> notes;  // Things to tell the user, e.g. defaults that were assumed.

  uint64_t num_weights() const;
};

// The tensors that a model with this config has, from the config alone. kUnsupported names an
// unknown model_type and lists the known ones; kCorrupt names a missing or contradictory key.
Result<Catalog> BuildCatalog(const Json& config, std::string_view where = "config.json");

// The same, tied to the tensors of a checkpoint: encodings, dtypes, layouts (per expert or fused),
// dropped tensors. kCorrupt names the first missing tensor (layer and expert), a wrong shape with
// the expected one, or a tensor that belongs to no place.
Result<Catalog> BindCatalog(const Checkpoint& checkpoint);

// The same for running the model, which may be quantized already: by MLX, GPTQ or AWQ. Tensors have
// the encodings in which they are stored. dtype: of plain matrices that of the source (F32 where
// its parts differ), of affine ones that of the scales, kF32 for FP8 (which the product of code and
// scale needs) and GPTQ and AWQ (whose differences times scale it holds exactly), kF32 for
// everything that is no matrix. add_one is not yet done. kCorrupt also for packed tensors that do
// not fit together or contradict the config, kUnsupported for methods and modes that are not read.
Result<Catalog> BindRunnable(const Checkpoint& checkpoint);

// config.json of the output: as the source's, but without the source's quantization and vision
// parts, with the keys that mlx-lm needs (rope_theta, torch_dtype, ...). Without "quantization",
// which the writer adds.
Result<Json> OutputConfig(const Json& source_config, const Catalog& catalog);

// mlx-lm's own choice for this tensor in `mlx_lm.convert -q` with these defaults: the matched
// baseline (8-bit routers where the family's predicate says so; dense where it skips).
// `recipe`: "" for uniform, or "mixed_2_6", "mixed_3_4", "mixed_3_6", "mixed_4_6".
Result<Choice> BaselineChoice(const Catalog& catalog, const CatalogTensor& tensor,
                              const Choice& uniform, std::string_view recipe);

// Model types that BuildCatalog knows, sorted.
std::vector<std::string> KnownModelTypes();

}  // namespace ram
