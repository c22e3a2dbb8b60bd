#pragma once

// Model families as data. A row of the table says which tensors a layer has, how config.json names
// the sizes, and how the published files arrange the experts; the code that reads configs, lays out
// catalogs and binds checkpoints knows no family by name.
// Sources: the model files of mlx-lm 0.32 (names, shapes, defaults of missing keys) and the
// published checkpoints. docs/families.md says how to add a row.

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "ram/base/result.h"
#include "ram/family/catalog.h"
#include "ram/family/kinds.h"

namespace ram {

// A size that shapes are made of. ModelShape::dims holds the values for one model.
enum class Dim : uint8_t {
  kNone,  // Ends a shape of fewer than three dimensions.
  kOne,
  kVocabulary,
  kHidden,
  kIntermediate,     // Of the dense MLP.
  kTwoIntermediate,  // Gate and up in one matrix (phi3).
  kHeads,            // Query heads.
  kHeadDim,          // Of keys.
  kQ,                // Rows of q_proj; twice kAttention where the output is gated.
  kKv,               // Rows of k_proj and of v_proj.
  kQkv,              // Query, key and value in one matrix (phi3).
  kAttention,        // Columns of o_proj.
  kExperts,
  kExpertIntermediate,
  kSharedIntermediate,
  kQRank,             // Latent attention: low rank of the queries,
  kMlaQ,              // rows of q_b_proj,
  kMlaKvA,            // latent and rotary key together,
  kKvRank,            // latent of keys and values,
  kNope,              // part of a head without position,
  kMlaV,              // value head,
  kMlaOut,            // columns of o_proj.
  kLinearQkv,         // Gated delta net: channels of the convolution,
  kLinearQkvz,        // the same and the gate in one matrix (qwen3_next),
  kLinearValue,       // all value heads together,
  kLinearValueHeads,  // their number,
  kLinearTwoHeads,    // alpha and beta in one matrix (qwen3_next),
  kLinearValueDim,    // one value head,
  kLinearKeyDim,      // one key head,
  kConvKernel,        // taps of the convolution.
  kCount,
};

// Whether a model has a tensor. ModelShape::holds has the answers for one model.
enum class When : uint8_t {
  kAlways,
  kQkvBias,
  kOBias,
  kMlpBias,
  kQkNorm,
  kQRank,  // Queries of latent attention have a low rank.
  kNoQRank,
  kQRankBias,  // And a bias.
  kShared,     // The mixture has a shared expert.
  kCount,
};

// How a tensor of the output comes out of the source.
enum class Origin : uint8_t {
  kSame,        // Same shape, same name below the layer.
  kConv,        // [channels, 1, taps] in the source, the same memory.
  kExpertGate,  // Stacked from one tensor per expert, or split from a fused one.
  kExpertUp,
  kExpertDown,
  kExpertGateBias,  // Every second entry of gate_up_proj_bias.
  kExpertUpBias,
  kExpertDownBias,
  kKvBKeys,    // Transposed upper part of each head of kv_b_proj.
  kKvBValues,  // Lower part.
};

// One tensor of a layer, or of the model outside the layers.
struct Row {
  std::string_view name;  // Below "layers.N."; of experts below ExpertNames::mlx.
  TensorKind kind = TensorKind::kVector;
  TensorClass tensor_class = TensorClass::kOther;
  std::array<Dim, 3> shape = {};
  When when = When::kAlways;
  Origin origin = Origin::kSame;
  bool is_norm = false;  // One of the norms to which Family::norms_plus_one applies.
};

using Block = std::span<const Row>;
using Blocks = std::array<Block, 3>;  // One after the other; unused ones are empty.

// How the files that the authors publish store the experts. Binding accepts every form for every
// family; this one is what a catalog built from the config alone names.
enum class ExpertForm : uint8_t {
  kPerExpert,      // experts.E.gate_proj.weight [I, H], ...
  kFusedOutMajor,  // experts.gate_up_proj [E, 2I, H], experts.down_proj [E, H, I].
  kFusedInMajor,   // experts.gate_up_proj [E, H, 2I], experts.down_proj [E, I, H].
  kStacked,        // MLX's own: switch_mlp.gate_proj.weight [E, I, H], ...
  kMxfp4,          // experts.gate_up_proj_blocks [E, 2I, H / 32, 16] and _scales.
};

struct ExpertNames {
  std::string_view mlx = "mlp.switch_mlp";
  std::string_view source = "mlp.experts";
  std::array<std::string_view, 3> parts = {"gate_proj", "up_proj", "down_proj"};  // In the source.
  ExpertForm published = ExpertForm::kPerExpert;
  bool interleaved = false;  // Gate and up alternate in the fused tensors; otherwise gate first.
};

enum class HeadDimRule : uint8_t {
  kRequired,  // The key head_dim.
  kOptional,  // The key head_dim, or hidden_size / num_attention_heads.
  kDerived,   // hidden_size / num_attention_heads, whatever the config says.
};

enum class BiasRule : uint8_t { kNo, kYes, kAttentionBias };  // The last: the key attention_bias.

enum class TyingRule : uint8_t {
  kByConfig,  // The key tie_word_embeddings.
  kAlways,
  kNever,   // mlx-lm always has a head; a config that ties gets a copy of the embedding.
  kByFile,  // Tied unless the file has a head.
};

// Which layers attend to what.
enum class AttentionRule : uint8_t {
  kFull,
  kLayerTypes,      // The key layer_types; all full if missing.
  kAlternating,     // The key layer_types; sliding, full, sliding, ... if missing.
  kEveryNthFull,    // full_attention_interval: the others are gated delta nets.
  kEveryNthSlides,  // sliding_window_pattern: the others have a window.
  kChunks,          // Every fourth is full, the others see chunks of attention_chunk_size.
};

// Which layers have experts.
enum class MoeRule : uint8_t {
  kNone,
  kAll,         // Where the number of experts is not zero.
  kSparseStep,  // decoder_sparse_step, except mlp_only_layers.
  kFirstDense,  // From first_k_dense_replace on, every moe_layer_freq-th.
  kInterleave,  // The last of every interleave_moe_layer_step layers.
};

struct MoeKeys {
  MoeRule rule = MoeRule::kNone;
  std::string_view num_experts = {};
  std::string_view intermediate = {};
  // Either the size of the shared expert or how many times the intermediate size it is; both empty:
  // there is none.
  std::string_view shared_intermediate = {};
  std::string_view shared_count = {};
};

// A key of the config that may be missing, and the value it then has, as JSON text.
struct KeyDefault {
  std::string_view key;
  std::string_view value;
};

// A tensor of the source that is not part of the text model.
struct DropRule {
  enum class Match : uint8_t { kPrefix, kSuffix, kContains };
  Match match;
  std::string_view text;
  std::string_view reason;
};

// Which layers have a sliding window. All rules but kByKind need the key sliding_window, not null.
enum class WindowRule : uint8_t {
  kNone,
  kByKind,            // Those that AttentionRule calls sliding.
  kAll,               // Every layer.
  kAllIfUsed,         // Every layer if use_sliding_window.
  kAlternating,       // layer_types; the first, third, ... if missing.
  kLastIfUsed,        // If use_sliding_window: layer_types; from max_window_layers on if missing.
  kEveryOtherIfUsed,  // If use_sliding_window: layer_types; the first, third, ... below
                      // max_window_layers if missing.
};

// Another model_type of the same tensors.
struct TypeName {
  std::string_view name;
  bool known_to_mlx = true;                // If not, the output says the family's name.
  WindowRule windows = WindowRule::kNone;  // Instead of Forward::windows.
};

// Where a layer has norms, in the order of Family::norms.
enum class NormPlacement : uint8_t {
  kBefore,  // Before mixer and feed-forward.
  kAfter,   // After them (olmo2).
  kBoth,    // Before mixer, after it, before feed-forward, after it (gemma).
};

// How a family computes, as far as its tensors do not say it already. graph.cc turns this and the
// config into numbers. docs/runtime.md says where mlx-lm differs from transformers.
struct Forward {
  NormPlacement norms = NormPlacement::kBefore;
  bool norms_plus_one = false;  // x * (1 + w) when it runs; the weights are stored as they are.
  // Embeddings are multiplied by sqrt(hidden_size), which mlx-lm may round to BF16.
  bool scales_embedding = false;
  bool mlx_rounds_embedding_scale = false;

  Activation activation = Activation::kSilu;  // Where `activation_key` does not say it.
  std::string_view activation_key = "hidden_act";

  // Attention.
  bool interleaved_rope = false;  // The key rope_interleave may say otherwise.
  bool partial_rope = false;      // The key partial_rotary_factor counts.
  bool local_rope = false;        // Sliding layers rotate by rope_local_base_freq, unscaled.
  bool mlx_scales_rope = true;    // False where mlx-lm ignores rope_scaling.
  bool scalar_in_config = false;  // Scores times query_pre_attn_scalar^-0.5, not head_dim^-0.5.
  bool softcaps = false;          // The keys attn_logit_softcapping, final_logit_softcapping.
  // llama4: layers without rotation (no_rope_layers) see everything, with a temperature; the others
  // see chunks, and have norms without weight if use_qk_norm.
  bool chunks = false;
  // As mlx-lm has llama4 without experts: no chunks, no temperature, norms on every layer.
  bool mlx_simplifies_chunks = false;
  WindowRule windows = WindowRule::kNone;
  WindowRule mlx_windows = WindowRule::kNone;
  bool mlx_latent_eps_in_config = false;  // mlx-lm: rms_norm_eps for the latents too, not 1e-6.

  // Experts.
  RouterKind router = RouterKind::kSoftmax;
  bool always_renormalizes = false;  // Whatever norm_topk_prob says.
  bool mlx_renormalizes = true;      // False where mlx-lm never does.

  // Values of keys that the config may leave out, after Family::defaults.
  std::span<const KeyDefault> defaults = {};
};

inline constexpr std::string_view kPlainRoots[] = {"model."};
inline constexpr std::string_view kPlainHeads[] = {"lm_head.weight"};

struct Family {
  std::string_view name;  // The model_type; also the module of mlx-lm.
  std::span<const TypeName> other_types = {};

  // Names. `mlx_root` is in front of "embed_tokens", "layers.N" and "norm". The checkpoint's own
  // root and head are the first ones of these lists that exist there; the first of all is what the
  // authors publish.
  std::string_view mlx_root = "model.";
  std::string_view mlx_head = "lm_head.weight";
  std::span<const std::string_view> source_roots = kPlainRoots;
  std::span<const std::string_view> source_heads = kPlainHeads;
  // A part of a name below the layer that the source may have instead (older, newer spelling).
  KeyDefault alias = {};

  // Whether text_config holds the sizes: never, if it is there, always.
  enum class Nesting : uint8_t { kFlat, kEither, kNested } nesting = Nesting::kFlat;

  // The tensors of a layer.
  Blocks attention = {};
  Block linear_attention = {};  // Of layers that are not full attention under kEveryNthFull.
  Block norms = {};
  Block dense = {};
  Blocks moe = {};
  ExpertNames experts = {};

  // How the sizes are read.
  HeadDimRule head_dim = HeadDimRule::kOptional;
  BiasRule qkv_bias = BiasRule::kNo;
  BiasRule o_bias = BiasRule::kNo;
  bool reads_mlp_bias = false;     // The key mlp_bias counts; otherwise there are none.
  bool reads_use_qk_norm = false;  // The key use_qk_norm counts; otherwise there always are.
  bool latent_attention = false;
  bool gated_attention = false;  // q_proj holds a gate too: twice the rows.
  AttentionRule attention_rule = AttentionRule::kFull;
  TyingRule tying = TyingRule::kByConfig;
  MoeKeys moe_keys = {};
  std::string_view intermediate = "intermediate_size";  // Of the dense MLP.
  std::span<const KeyDefault> defaults = {};
  // Settings of the config that mlx-lm has no code for: any other value is refused.
  std::span<const KeyDefault> fixed = {};

  // What it computes with them.
  Forward forward = {};

  // What happens to the weights.
  bool norms_plus_one = false;  // Unless the file is already converted (bind_catalog.cc).
  bool has_mtp_layers = false;  // Layers from num_hidden_layers on are dropped.
  std::span<const DropRule> drops = {};

  // What the output must say: keys without which mlx-lm does not build the model, and quantizable
  // modules that `mlx_lm.convert -q` keeps at 8 bits with groups of 64 (ends of module paths).
  std::span<const std::string_view> required_by_mlx = {};
  std::span<const std::string_view> eight_bit_modules = {};
  // The same for keys that mlx-lm takes from the outer object of a nested config.
  std::span<const std::string_view> required_outside = {};
  bool reads_rope_parameters = false;  // mlx-lm reads the v5 key, no legacy keys are needed.
  bool keeps_rope_scaling = true;      // False where mlx-lm stops at kinds it does not know.
};

std::span<const Family> Families();

// kUnsupported names the model_type and lists the known ones.
Result<const Family*> FindFamily(std::string_view model_type, std::string_view where);

}  // namespace ram
