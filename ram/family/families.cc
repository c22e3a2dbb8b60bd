#include "ram/family/families.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string>
#include <vector>

#include "ram/family/family_rows.h"

namespace ram {
namespace {

using namespace rows;  // NOLINT: the vocabulary of the table below

// ---- What else rows say ----

// With a vision tower beside the language model, by whoever saved last.
constexpr std::string_view kNestedRoots[] = {"language_model.model.", "model.language_model.",
                                             "model."};
constexpr std::string_view kQwenRoots[] = {"model.language_model.", "language_model.model.",
                                           "model."};
constexpr std::string_view kNestedHeads[] = {"language_model.lm_head.weight", "lm_head.weight"};
constexpr std::string_view kQwenHeads[] = {"lm_head.weight", "language_model.lm_head.weight"};
constexpr std::string_view kLlama4TextHeads[] = {"lm_head.weight", "output.weight"};

using Match = DropRule::Match;
constexpr std::string_view kVision = "vision tower";
constexpr std::string_view kMtp = "multi-token prediction layer";

constexpr DropRule kDropVision[] = {
    {Match::kPrefix, "vision_model.", kVision},
    {Match::kPrefix, "model.vision_model.", kVision},
    {Match::kPrefix, "vision_tower.", kVision},
    {Match::kPrefix, "model.vision_tower.", kVision},
    {Match::kPrefix, "multi_modal_projector.", kVision},
    {Match::kPrefix, "model.multi_modal_projector.", kVision},
};

constexpr DropRule kDropMtp[] = {{Match::kPrefix, "mtp.", kMtp}};

constexpr DropRule kDropVisionAndMtp[] = {
    {Match::kPrefix, "model.visual.", kVision},
    {Match::kPrefix, "visual.", kVision},
    {Match::kPrefix, "vision_tower.", kVision},
    {Match::kPrefix, "mtp.", kMtp},
};

constexpr KeyDefault kTiedByDefault[] = {{"tie_word_embeddings", "true"}};
constexpr KeyDefault kNotTiedByDefault[] = {{"tie_word_embeddings", "false"}};

constexpr KeyDefault kNoAttentionBias[] = {{"attention_bias", "false"}};
constexpr KeyDefault kEveryLayerHasExperts[] = {{"decoder_sparse_step", "1"},
                                                {"mlp_only_layers", "[]"}};

constexpr std::string_view kMlpGate[] = {"mlp.gate"};
constexpr std::string_view kGates[] = {"mlp.gate", "shared_expert_gate"};
constexpr std::string_view kRouterName[] = {"router"};

// ---- Other model types of the same tensors ----

constexpr TypeName kLlamaTypes[] = {{"mistral", /*known_to_mlx=*/true, WindowRule::kAll}};
constexpr TypeName kDeepseekV3Types[] = {{"kimi_k2"}, {"joyai_llm_flash"}};
constexpr TypeName kQwen35Types[] = {{"qwen3_5_text", /*known_to_mlx=*/false}};
constexpr TypeName kQwen35MoeTypes[] = {{"qwen3_5_moe_text", /*known_to_mlx=*/false}};

// ---- Numbers of the forward pass that configs leave out, as transformers has them ----

constexpr KeyDefault kLlamaNumbers[] = {{"sliding_window", "4096"}};
constexpr KeyDefault kQwenNumbers[] = {{"sliding_window", "4096"}, {"max_window_layers", "28"}};
constexpr KeyDefault kMixtralNumbers[] = {
    {"rms_norm_eps", "1e-5"}, {"rope_theta", "1e6"}, {"num_experts_per_tok", "2"}};
constexpr KeyDefault kLlama4Numbers[] = {{"rms_norm_eps", "1e-5"},         {"rope_theta", "5e5"},
                                         {"no_rope_layer_interval", "4"},  {"floor_scale", "8192"},
                                         {"attention_chunk_size", "8192"}, {"attn_scale", "0.1"},
                                         {"num_experts_per_tok", "1"}};
constexpr KeyDefault kGlm4MoeLiteNumbers[] = {{"rms_norm_eps", "1e-5"},
                                              {"rope_theta", "1e6"},
                                              {"routed_scaling_factor", "1.8"},
                                              {"num_experts_per_tok", "4"},
                                              {"norm_topk_prob", "true"}};
constexpr KeyDefault kDeepseekV3Numbers[] = {{"norm_topk_prob", "true"}};
constexpr KeyDefault kGlm4MoeNumbers[] = {
    {"rms_norm_eps", "1e-5"}, {"routed_scaling_factor", "1.0"}, {"norm_topk_prob", "true"}};
constexpr KeyDefault kGptOssNumbers[] = {
    {"rms_norm_eps", "1e-5"},
    {"rope_theta", "150000"},
    {"swiglu_limit", "7.0"},
    {"swiglu_alpha", "1.702"},
    {"num_experts_per_tok", "4"},
    {"rope_scaling", R"({"rope_type": "yarn", "factor": 32.0, "truncate": false,
                         "original_max_position_embeddings": 4096})"},
};
constexpr KeyDefault kQwen3NextNumbers[] = {{"norm_topk_prob", "true"}};
constexpr KeyDefault kQwen35Numbers[] = {{"partial_rotary_factor", "0.25"}};
constexpr KeyDefault kGemma2Numbers[] = {{"sliding_window", "4096"},
                                         {"query_pre_attn_scalar", "256"},
                                         {"attn_logit_softcapping", "50.0"},
                                         {"final_logit_softcapping", "30.0"}};
constexpr KeyDefault kGemma3Numbers[] = {
    {"rope_theta", "1e6"}, {"rope_local_base_freq", "1e4"}, {"query_pre_attn_scalar", "256"}};

constexpr Forward kGemma3Forward = {.norms = NormPlacement::kBoth,
                                    .norms_plus_one = true,
                                    .scales_embedding = true,
                                    .mlx_rounds_embedding_scale = true,
                                    .activation = Activation::kGeluTanh,
                                    .activation_key = "hidden_activation",
                                    .local_rope = true,
                                    .scalar_in_config = true,
                                    .windows = WindowRule::kByKind,
                                    .mlx_windows = WindowRule::kByKind,
                                    .defaults = kGemma3Numbers};
constexpr Forward kLlama4Forward = {.interleaved_rope = true,
                                    .chunks = true,
                                    .router = RouterKind::kSigmoidInput,
                                    .defaults = kLlama4Numbers};
constexpr Forward kQwen35Forward = {
    .partial_rope = true, .always_renormalizes = true, .defaults = kQwen35Numbers};

// ---- llama, qwen2, qwen3 ----

constexpr std::string_view kNormEps[] = {"rms_norm_eps"};
constexpr std::string_view kQwen2Required[] = {"rms_norm_eps", "num_key_value_heads"};
constexpr std::string_view kQwen3Required[] = {"rms_norm_eps", "num_key_value_heads",
                                               "max_position_embeddings", "tie_word_embeddings",
                                               "rope_theta"};

// ---- qwen2_moe, qwen3_moe, mixtral, olmoe ----

constexpr KeyDefault kQwen3MoeDefaults[] = {
    {"tie_word_embeddings", "false"},
    {"decoder_sparse_step", "1"},
    {"mlp_only_layers", "[]"},
    {"norm_topk_prob", "false"},
};
constexpr std::string_view kQwen2MoeRequired[] = {"num_experts", "num_experts_per_tok",
                                                  "intermediate_size", "rms_norm_eps"};
constexpr std::string_view kOlmoeRequired[] = {"num_experts", "num_experts_per_tok",
                                               "rms_norm_eps"};
constexpr std::string_view kNumLocalExperts[] = {"num_local_experts"};
constexpr std::string_view kQwen3MoeRequired[] = {
    "num_experts",     "num_experts_per_tok",     "num_key_value_heads", "intermediate_size",
    "rms_norm_eps",    "max_position_embeddings", "tie_word_embeddings", "decoder_sparse_step",
    "mlp_only_layers", "norm_topk_prob",          "rope_theta"};
constexpr KeyDefault kMixtralDefaults[] = {
    {"vocab_size", "32000"},     {"hidden_size", "4096"},          {"intermediate_size", "14336"},
    {"num_hidden_layers", "32"}, {"num_attention_heads", "32"},    {"num_key_value_heads", "8"},
    {"num_local_experts", "8"},  {"tie_word_embeddings", "false"},
};
constexpr KeyDefault kOlmoeFixed[] = {{"mlp_bias", "false"}};

// ---- llama4 ----

constexpr KeyDefault kLlama4Defaults[] = {
    {"attention_bias", "false"}, {"interleave_moe_layer_step", "1"},
    {"use_qk_norm", "true"},     {"rope_scaling", "null"},
    {"rope_theta", "500000.0"},  {"attention_chunk_size", "8192"},
};
constexpr std::string_view kLlama4Required[] = {"num_local_experts",   "num_experts_per_tok",
                                                "num_key_value_heads", "intermediate_size_mlp",
                                                "rms_norm_eps",        "max_position_embeddings",
                                                "attention_bias",      "interleave_moe_layer_step",
                                                "use_qk_norm",         "rope_scaling",
                                                "rope_theta",          "attention_chunk_size"};
constexpr std::string_view kLlama4TextRequired[] = {"num_key_value_heads", "rms_norm_eps",
                                                    "tie_word_embeddings", "rope_theta",
                                                    "no_rope_layers",      "use_qk_norm"};
constexpr KeyDefault kLlama4TextDefaults[] = {{"tie_word_embeddings", "false"},
                                              {"use_qk_norm", "true"}};
constexpr KeyDefault kLlama4Fixed[] = {{"num_experts_per_tok", "1"}};

// ---- Latent attention ----

constexpr KeyDefault kGlm4MoeLiteDefaults[] = {
    {"vocab_size", "154880"},       {"hidden_size", "2048"},
    {"intermediate_size", "10240"}, {"moe_intermediate_size", "1536"},
    {"num_hidden_layers", "47"},    {"num_attention_heads", "20"},
    {"n_shared_experts", "1"},      {"n_routed_experts", "64"},
    {"kv_lora_rank", "512"},        {"q_lora_rank", "768"},
    {"qk_rope_head_dim", "64"},     {"qk_nope_head_dim", "192"},
    {"v_head_dim", "256"},          {"moe_layer_freq", "1"},
    {"first_k_dense_replace", "1"}, {"max_position_embeddings", "202752"},
};
constexpr KeyDefault kDeepseekV3Defaults[] = {
    {"vocab_size", "102400"},       {"hidden_size", "4096"},
    {"intermediate_size", "11008"}, {"moe_intermediate_size", "1407"},
    {"num_hidden_layers", "30"},    {"num_attention_heads", "32"},
    {"n_shared_experts", "null"},   {"n_routed_experts", "null"},
    {"kv_lora_rank", "512"},        {"q_lora_rank", "1536"},
    {"qk_rope_head_dim", "64"},     {"qk_nope_head_dim", "128"},
    {"v_head_dim", "128"},          {"moe_layer_freq", "1"},
    {"first_k_dense_replace", "0"}, {"max_position_embeddings", "2048"},
};
constexpr KeyDefault kSigmoidFixed[] = {{"topk_method", "\"noaux_tc\""}};

// ---- glm4_moe, gpt_oss ----

constexpr KeyDefault kGlm4MoeDefaults[] = {
    {"use_qk_norm", "false"},         {"attention_bias", "false"},
    {"tie_word_embeddings", "false"}, {"rope_scaling", "null"},
    {"partial_rotary_factor", "0.5"}, {"n_shared_experts", "null"},
    {"first_k_dense_replace", "1"},
};
constexpr KeyDefault kGlm4MoeFixed[] = {{"topk_method", "\"noaux_tc\""}, {"moe_layer_freq", "1"}};
constexpr std::string_view kGlm4MoeRequired[] = {"num_key_value_heads",
                                                 "rms_norm_eps",
                                                 "max_position_embeddings",
                                                 "norm_topk_prob",
                                                 "n_group",
                                                 "topk_group",
                                                 "routed_scaling_factor",
                                                 "num_experts_per_tok",
                                                 "use_qk_norm",
                                                 "attention_bias",
                                                 "tie_word_embeddings",
                                                 "rope_scaling",
                                                 "partial_rotary_factor",
                                                 "n_shared_experts",
                                                 "first_k_dense_replace",
                                                 "rope_theta"};

constexpr KeyDefault kGptOssDefaults[] = {
    {"num_hidden_layers", "36"},   {"num_local_experts", "128"},  {"vocab_size", "201088"},
    {"hidden_size", "2880"},       {"intermediate_size", "2880"}, {"head_dim", "64"},
    {"num_attention_heads", "64"}, {"num_key_value_heads", "8"},  {"sliding_window", "128"},
};

// ---- Gated delta nets ----

constexpr KeyDefault kQwen3NextDefaults[] = {
    {"tie_word_embeddings", "false"},  {"full_attention_interval", "4"},
    {"decoder_sparse_step", "1"},      {"mlp_only_layers", "[]"},
    {"partial_rotary_factor", "0.25"},
};
constexpr std::string_view kQwen3NextRequired[] = {
    "num_experts",  "num_experts_per_tok",     "num_key_value_heads",    "intermediate_size",
    "rms_norm_eps", "max_position_embeddings", "decoder_sparse_step",    "mlp_only_layers",
    "rope_theta",   "partial_rotary_factor",   "full_attention_interval"};
constexpr std::string_view kQwen35Required[] = {"full_attention_interval", "tie_word_embeddings"};
constexpr std::string_view kQwen35MoeRequired[] = {"full_attention_interval", "tie_word_embeddings",
                                                   "num_experts"};
constexpr KeyDefault kQwen35Defaults[] = {
    {"hidden_size", "4096"},
    {"intermediate_size", "14336"},
    {"num_hidden_layers", "32"},
    {"num_attention_heads", "32"},
    {"vocab_size", "151936"},
    {"num_key_value_heads", "8"},
    {"max_position_embeddings", "131072"},
    {"linear_num_value_heads", "64"},
    {"linear_num_key_heads", "16"},
    {"linear_key_head_dim", "192"},
    {"linear_value_head_dim", "128"},
    {"linear_conv_kernel_dim", "4"},
    {"tie_word_embeddings", "false"},
    {"full_attention_interval", "4"},
    {"num_experts", "0"},
};

// ---- gemma, olmo2, phi3 ----

constexpr KeyDefault kGemma3TextDefaults[] = {
    {"hidden_size", "1152"},
    {"num_hidden_layers", "26"},
    {"intermediate_size", "6912"},
    {"num_attention_heads", "4"},
    {"head_dim", "256"},
    {"vocab_size", "262144"},
    {"num_key_value_heads", "1"},
    {"sliding_window", "512"},
    {"sliding_window_pattern", "6"},
    {"max_position_embeddings", "32768"},
};
// mlx-lm takes vocab_size from the outer object here, where most published files do not have it.
constexpr KeyDefault kGemma3Defaults[] = {
    {"hidden_size", "1152"},
    {"num_hidden_layers", "26"},
    {"intermediate_size", "6912"},
    {"num_attention_heads", "8"},
    {"head_dim", "256"},
    {"vocab_size", "262208"},
    {"num_key_value_heads", "4"},
    {"sliding_window", "512"},
    {"sliding_window_pattern", "6"},
    {"max_position_embeddings", "32768"},
};
constexpr std::string_view kGemma3Required[] = {"sliding_window_pattern"};
constexpr std::string_view kGemma3Outside[] = {"vocab_size"};

constexpr Family kFamilies[] = {
    {
        .name = "llama",
        .other_types = kLlamaTypes,
        .attention = {kAttention},
        .norms = kPreNorms,
        .dense = kMlp,
        .qkv_bias = BiasRule::kAttentionBias,
        .o_bias = BiasRule::kAttentionBias,
        .reads_mlp_bias = true,
        .attention_rule = AttentionRule::kLayerTypes,
        .defaults = kTiedByDefault,
        .forward = {.mlx_windows = WindowRule::kByKind, .defaults = kLlamaNumbers},
        .required_by_mlx = kNormEps,
    },
    {
        .name = "qwen2",
        .attention = {kAttention},
        .norms = kPreNorms,
        .dense = kMlp,
        .head_dim = HeadDimRule::kDerived,
        .qkv_bias = BiasRule::kYes,
        .defaults = kTiedByDefault,
        .forward = {.windows = WindowRule::kLastIfUsed, .defaults = kQwenNumbers},
        .required_by_mlx = kQwen2Required,
    },
    {
        .name = "qwen3",
        .attention = {kAttention, kHeadNorms},
        .norms = kPreNorms,
        .dense = kMlp,
        .head_dim = HeadDimRule::kRequired,
        .defaults = kNotTiedByDefault,
        .fixed = kNoAttentionBias,
        .forward = {.windows = WindowRule::kLastIfUsed, .defaults = kQwenNumbers},
        .required_by_mlx = kQwen3Required,
    },
    {
        .name = "qwen2_moe",
        .attention = {kAttention},
        .norms = kPreNorms,
        .moe = {kGateRouter, kExperts, kGatedSharedExpert},
        .head_dim = HeadDimRule::kDerived,
        .qkv_bias = BiasRule::kYes,
        .tying = TyingRule::kNever,
        .moe_keys = {.rule = MoeRule::kAll,
                     .num_experts = "num_experts",
                     .intermediate = "moe_intermediate_size",
                     .shared_intermediate = "shared_expert_intermediate_size"},
        .defaults = kNotTiedByDefault,
        .fixed = kEveryLayerHasExperts,
        .forward = {.mlx_scales_rope = false,
                    .windows = WindowRule::kEveryOtherIfUsed,
                    .mlx_renormalizes = false,
                    .defaults = kQwenNumbers},
        .required_by_mlx = kQwen2MoeRequired,
        .keeps_rope_scaling = false,
    },
    {
        .name = "qwen3_moe",
        .attention = {kAttention, kHeadNorms},
        .norms = kPreNorms,
        .dense = kMlp,
        .moe = {kGateRouter, kExperts},
        .head_dim = HeadDimRule::kRequired,
        .moe_keys = {.rule = MoeRule::kSparseStep,
                     .num_experts = "num_experts",
                     .intermediate = "moe_intermediate_size"},
        .defaults = kQwen3MoeDefaults,
        .fixed = kNoAttentionBias,
        .forward = {.mlx_scales_rope = false,
                    .windows = WindowRule::kAllIfUsed,
                    .defaults = kQwenNumbers},
        .required_by_mlx = kQwen3MoeRequired,
        .eight_bit_modules = kMlpGate,
    },
    {
        .name = "mixtral",
        .alias = {"block_sparse_moe.", "mlp."},
        .attention = {kAttention},
        .norms = kPreNorms,
        .moe = {kMixtralRouter, kExperts},
        .experts = {.mlx = "block_sparse_moe.switch_mlp",
                    .source = "block_sparse_moe.experts",
                    .parts = {"w1", "w3", "w2"}},
        .head_dim = HeadDimRule::kDerived,
        .moe_keys = {.rule = MoeRule::kAll,
                     .num_experts = "num_local_experts",
                     .intermediate = "intermediate_size"},
        .defaults = kMixtralDefaults,
        .forward = {.mlx_scales_rope = false,
                    .windows = WindowRule::kAll,
                    .router = RouterKind::kTopkSoftmax,
                    .defaults = kMixtralNumbers},
        .required_by_mlx = kNumLocalExperts,
    },
    {
        .name = "llama4",
        .mlx_root = "language_model.model.",
        .mlx_head = "language_model.lm_head.weight",
        .source_roots = kNestedRoots,
        .source_heads = kNestedHeads,
        .nesting = Family::Nesting::kNested,
        .attention = {kAttention},
        .norms = kPreNorms,
        .dense = kLlama4Mlp,
        .moe = {kLlama4Router, kExperts, kLlama4SharedExpert},
        .experts = {.mlx = "feed_forward.experts",
                    .source = "feed_forward.experts",
                    .published = ExpertForm::kFusedInMajor},
        .head_dim = HeadDimRule::kRequired,
        .qkv_bias = BiasRule::kAttentionBias,
        .o_bias = BiasRule::kAttentionBias,
        .attention_rule = AttentionRule::kChunks,
        .tying = TyingRule::kNever,
        .moe_keys = {.rule = MoeRule::kInterleave,
                     .num_experts = "num_local_experts",
                     .intermediate = "intermediate_size",
                     .shared_intermediate = "intermediate_size"},
        .intermediate = "intermediate_size_mlp",
        .defaults = kLlama4Defaults,
        .fixed = kLlama4Fixed,
        .forward = kLlama4Forward,
        .drops = kDropVision,
        .required_by_mlx = kLlama4Required,
    },
    {
        .name = "llama4_text",  // The dense ones: mlx-lm has no experts under this name.
        .mlx_head = "output.weight",
        .source_heads = kLlama4TextHeads,
        .attention = {kAttention},
        .norms = kPreNorms,
        .dense = kLlama4Mlp,
        .head_dim = HeadDimRule::kRequired,
        .intermediate = "intermediate_size_mlp",
        .defaults = kLlama4TextDefaults,
        .fixed = kNoAttentionBias,
        .forward = {.interleaved_rope = true,
                    .mlx_scales_rope = false,
                    .chunks = true,
                    .mlx_simplifies_chunks = true,
                    .defaults = kLlama4Numbers},
        .required_by_mlx = kLlama4TextRequired,
    },
    {
        .name = "glm4_moe_lite",
        .attention = {kLatentAttention},
        .norms = kPreNorms,
        .dense = kMlp,
        .moe = {kSigmoidRouter, kExperts, kSharedExperts},
        .qkv_bias = BiasRule::kAttentionBias,
        .o_bias = BiasRule::kAttentionBias,
        .latent_attention = true,
        .tying = TyingRule::kNever,
        .moe_keys = {.rule = MoeRule::kFirstDense,
                     .num_experts = "n_routed_experts",
                     .intermediate = "moe_intermediate_size",
                     .shared_count = "n_shared_experts"},
        .defaults = kGlm4MoeLiteDefaults,
        .fixed = kSigmoidFixed,
        .forward = {.interleaved_rope = true,
                    .mlx_latent_eps_in_config = true,
                    .router = RouterKind::kSigmoid,
                    .defaults = kGlm4MoeLiteNumbers},
        .has_mtp_layers = true,
    },
    {
        .name = "deepseek_v3",
        .other_types = kDeepseekV3Types,
        .attention = {kLatentAttention},
        .norms = kPreNorms,
        .dense = kMlp,
        .moe = {kSigmoidRouter, kExperts, kSharedExperts},
        .qkv_bias = BiasRule::kAttentionBias,
        .o_bias = BiasRule::kAttentionBias,
        .latent_attention = true,
        .tying = TyingRule::kNever,
        .moe_keys = {.rule = MoeRule::kFirstDense,
                     .num_experts = "n_routed_experts",
                     .intermediate = "moe_intermediate_size",
                     .shared_count = "n_shared_experts"},
        .defaults = kDeepseekV3Defaults,
        .fixed = kSigmoidFixed,
        .forward = {.interleaved_rope = true,
                    .router = RouterKind::kSigmoid,
                    .defaults = kDeepseekV3Numbers},
        .has_mtp_layers = true,
    },
    {
        .name = "glm4_moe",
        .attention = {kAttention, kHeadNorms},
        .norms = kPreNorms,
        .dense = kMlp,
        .moe = {kSigmoidRouter, kExperts, kSharedExperts},
        .head_dim = HeadDimRule::kRequired,
        .qkv_bias = BiasRule::kAttentionBias,
        .reads_use_qk_norm = true,
        .tying = TyingRule::kNever,
        .moe_keys = {.rule = MoeRule::kFirstDense,
                     .num_experts = "n_routed_experts",
                     .intermediate = "moe_intermediate_size",
                     .shared_count = "n_shared_experts"},
        .defaults = kGlm4MoeDefaults,
        .fixed = kGlm4MoeFixed,
        .forward = {.partial_rope = true,
                    .mlx_scales_rope = false,
                    .router = RouterKind::kSigmoid,
                    .defaults = kGlm4MoeNumbers},
        .has_mtp_layers = true,
        .required_by_mlx = kGlm4MoeRequired,
    },
    {
        .name = "gpt_oss",
        .attention = {kAttention, kSinks},
        .norms = kPreNorms,
        .moe = {kGptOssRouter, kExperts, kExpertBiases},
        .experts = {.mlx = "mlp.experts", .published = ExpertForm::kMxfp4, .interleaved = true},
        .qkv_bias = BiasRule::kYes,
        .o_bias = BiasRule::kYes,
        .attention_rule = AttentionRule::kAlternating,
        .tying = TyingRule::kNever,
        .moe_keys = {.rule = MoeRule::kAll,
                     .num_experts = "num_local_experts",
                     .intermediate = "intermediate_size"},
        .defaults = kGptOssDefaults,
        .forward = {.activation = Activation::kClippedSwiglu,
                    .windows = WindowRule::kByKind,
                    .mlx_windows = WindowRule::kByKind,
                    .router = RouterKind::kTopkSoftmax,
                    .defaults = kGptOssNumbers},
        .required_by_mlx = kNumLocalExperts,
        .eight_bit_modules = kRouterName,
    },
    {
        .name = "qwen3_next",
        .attention = {kAttention, kHeadNorms},
        .linear_attention = kDeltaNetNext,
        .norms = kPreNorms,
        .dense = kMlp,
        .moe = {kGateRouter, kExperts, kGatedSharedExpert},
        .head_dim = HeadDimRule::kRequired,
        .qkv_bias = BiasRule::kAttentionBias,
        .o_bias = BiasRule::kAttentionBias,
        .gated_attention = true,
        .attention_rule = AttentionRule::kEveryNthFull,
        .moe_keys = {.rule = MoeRule::kSparseStep,
                     .num_experts = "num_experts",
                     .intermediate = "moe_intermediate_size",
                     .shared_intermediate = "shared_expert_intermediate_size"},
        .defaults = kQwen3NextDefaults,
        .forward = {.partial_rope = true, .defaults = kQwen3NextNumbers},
        .norms_plus_one = true,
        .drops = kDropMtp,
        .required_by_mlx = kQwen3NextRequired,
        .eight_bit_modules = kGates,
    },
    {
        .name = "qwen3_5_moe",
        .other_types = kQwen35MoeTypes,
        .mlx_root = "language_model.model.",
        .mlx_head = "language_model.lm_head.weight",
        .source_roots = kQwenRoots,
        .source_heads = kQwenHeads,
        .nesting = Family::Nesting::kEither,
        .attention = {kAttention, kHeadNorms},
        .linear_attention = kDeltaNet,
        .norms = kPreNorms,
        .dense = kMlp,
        .moe = {kGateRouter, kExperts, kGatedSharedExpert},
        .experts = {.published = ExpertForm::kFusedOutMajor},
        .qkv_bias = BiasRule::kAttentionBias,
        .o_bias = BiasRule::kAttentionBias,
        .gated_attention = true,
        .attention_rule = AttentionRule::kEveryNthFull,
        .moe_keys = {.rule = MoeRule::kAll,
                     .num_experts = "num_experts",
                     .intermediate = "moe_intermediate_size",
                     .shared_intermediate = "shared_expert_intermediate_size"},
        .defaults = kQwen35Defaults,
        .fixed = kEveryLayerHasExperts,
        .forward = kQwen35Forward,
        .norms_plus_one = true,
        .drops = kDropVisionAndMtp,
        .required_by_mlx = kQwen35MoeRequired,
        .eight_bit_modules = kGates,
        .reads_rope_parameters = true,
    },
    {
        .name = "qwen3_5",  // As qwen3_5_moe, without experts.
        .other_types = kQwen35Types,
        .mlx_root = "language_model.model.",
        .mlx_head = "language_model.lm_head.weight",
        .source_roots = kQwenRoots,
        .source_heads = kQwenHeads,
        .nesting = Family::Nesting::kEither,
        .attention = {kAttention, kHeadNorms},
        .linear_attention = kDeltaNet,
        .norms = kPreNorms,
        .dense = kMlp,
        .qkv_bias = BiasRule::kAttentionBias,
        .o_bias = BiasRule::kAttentionBias,
        .gated_attention = true,
        .attention_rule = AttentionRule::kEveryNthFull,
        .defaults = kQwen35Defaults,
        .forward = kQwen35Forward,
        .norms_plus_one = true,
        .drops = kDropVisionAndMtp,
        .required_by_mlx = kQwen35Required,
        .reads_rope_parameters = true,
    },
    {
        .name = "gemma3_text",
        .attention = {kAttention, kHeadNorms},
        .norms = kSandwichNorms,
        .dense = kMlp,
        .attention_rule = AttentionRule::kEveryNthSlides,
        .tying = TyingRule::kByFile,
        .defaults = kGemma3TextDefaults,
        .fixed = kNoAttentionBias,
        .forward = kGemma3Forward,
        .required_by_mlx = kGemma3Required,
    },
    {
        .name = "gemma3",
        .mlx_root = "language_model.model.",
        .mlx_head = "language_model.lm_head.weight",
        .source_roots = kNestedRoots,
        .source_heads = kNestedHeads,
        .nesting = Family::Nesting::kNested,
        .attention = {kAttention, kHeadNorms},
        .norms = kSandwichNorms,
        .dense = kMlp,
        .attention_rule = AttentionRule::kEveryNthSlides,
        .tying = TyingRule::kByFile,
        .defaults = kGemma3Defaults,
        .fixed = kNoAttentionBias,
        .forward = kGemma3Forward,
        .drops = kDropVision,
        .required_by_mlx = kGemma3Required,
        .required_outside = kGemma3Outside,
    },
    {
        .name = "gemma2",
        .attention = {kAttention},
        .norms = kSandwichNorms,
        .dense = kMlp,
        .head_dim = HeadDimRule::kRequired,
        .tying = TyingRule::kAlways,
        .fixed = kNoAttentionBias,
        .forward = {.norms = NormPlacement::kBoth,
                    .norms_plus_one = true,
                    .scales_embedding = true,
                    .activation = Activation::kGeluTanh,
                    .activation_key = "hidden_activation",
                    .mlx_scales_rope = false,
                    .scalar_in_config = true,
                    .softcaps = true,
                    .windows = WindowRule::kAlternating,
                    .defaults = kGemma2Numbers},
        .required_by_mlx = kQwen2Required,
    },
    {
        .name = "olmo2",
        .attention = {kAttention, kWideNorms},
        .norms = kPostNorms,
        .dense = kMlp,
        .qkv_bias = BiasRule::kAttentionBias,
        .o_bias = BiasRule::kAttentionBias,
        .reads_mlp_bias = true,
        .defaults = kTiedByDefault,
        .forward = {.norms = NormPlacement::kAfter},
        .required_by_mlx = kNormEps,
    },
    {
        .name = "olmoe",
        .attention = {kAttention, kWideNorms},
        .norms = kPreNorms,
        .moe = {kGateRouter, kExperts},
        .qkv_bias = BiasRule::kAttentionBias,
        .o_bias = BiasRule::kAttentionBias,
        .moe_keys = {.rule = MoeRule::kAll,
                     .num_experts = "num_experts",
                     .intermediate = "intermediate_size"},
        .defaults = kTiedByDefault,
        .fixed = kOlmoeFixed,
        .required_by_mlx = kOlmoeRequired,
    },
    {
        .name = "phi3",
        .attention = {kFusedAttention},
        .norms = kPreNorms,
        .dense = kFusedMlp,
        .head_dim = HeadDimRule::kDerived,
        .defaults = kNotTiedByDefault,
        .forward = {.partial_rope = true, .windows = WindowRule::kAll},
        .required_by_mlx = kNormEps,
    },
};

}  // namespace

std::span<const Family> Families() { return kFamilies; }

std::vector<std::string> KnownModelTypes() {
  std::vector<std::string> names;
  for (const Family& family : kFamilies) {
    names.emplace_back(family.name);
    for (const TypeName& type : family.other_types) names.emplace_back(type.name);
  }
  std::ranges::sort(names);
  return names;
}

Result<const Family*> FindFamily(std::string_view model_type, std::string_view where) {
  for (const Family& family : kFamilies) {
    if (family.name == model_type) return &family;
    if (std::ranges::find(family.other_types, model_type, &TypeName::name) !=
        family.other_types.end()) {
      return &family;
    }
  }
  return Error{ErrorCode::kUnsupported,
               fmt::format("{}: model_type \"{}\" is not known; known are {}", where, model_type,
                           fmt::join(KnownModelTypes(), ", "))};
}

}  // namespace ram
