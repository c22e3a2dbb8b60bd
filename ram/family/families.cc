#include "ram/family/families.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <string>
#include <vector>

namespace ram {
namespace {

using enum TensorClass;

constexpr Row Linear(std::string_view name, TensorClass tensor_class, Dim rows, Dim cols,
                     When when = When::kAlways) {
  return {name, TensorKind::kLinear, tensor_class, {rows, cols}, when};
}
constexpr Row Router(std::string_view name, Dim rows, When when = When::kAlways) {
  return {name, TensorKind::kRouter, kRouter, {rows, Dim::kHidden}, when};
}
constexpr Row Vector(std::string_view name, Dim size, When when = When::kAlways) {
  return {name, TensorKind::kVector, kOther, {size}, when};
}
constexpr Row Norm(std::string_view name, Dim size, When when = When::kAlways) {
  return {name, TensorKind::kVector, kOther, {size}, when, Origin::kSame, /*is_norm=*/true};
}
constexpr Row Vector32(std::string_view name, Dim size) {
  return {name, TensorKind::kVector32, kOther, {size}};
}

// ---- Attention ----

constexpr Row kAttention[] = {
    Linear("self_attn.q_proj.weight", kQ, Dim::kQ, Dim::kHidden),
    Vector("self_attn.q_proj.bias", Dim::kQ, When::kQkvBias),
    Linear("self_attn.k_proj.weight", kK, Dim::kKv, Dim::kHidden),
    Vector("self_attn.k_proj.bias", Dim::kKv, When::kQkvBias),
    Linear("self_attn.v_proj.weight", kV, Dim::kKv, Dim::kHidden),
    Vector("self_attn.v_proj.bias", Dim::kKv, When::kQkvBias),
    Linear("self_attn.o_proj.weight", kO, Dim::kHidden, Dim::kAttention),
    Vector("self_attn.o_proj.bias", Dim::kHidden, When::kOBias),
};

constexpr Row kHeadNorms[] = {
    Norm("self_attn.q_norm.weight", Dim::kHeadDim, When::kQkNorm),
    Norm("self_attn.k_norm.weight", Dim::kHeadDim, When::kQkNorm),
};

// Over all heads together.
constexpr Row kWideNorms[] = {
    Norm("self_attn.q_norm.weight", Dim::kQ),
    Norm("self_attn.k_norm.weight", Dim::kKv),
};

constexpr Row kSinks[] = {Vector("self_attn.sinks", Dim::kHeads)};

constexpr Row kFusedAttention[] = {
    Linear("self_attn.qkv_proj.weight", kOther, Dim::kQkv, Dim::kHidden),
    Linear("self_attn.o_proj.weight", kO, Dim::kHidden, Dim::kAttention),
};

constexpr Row kLatentAttention[] = {
    Linear("self_attn.q_proj.weight", kQ, Dim::kMlaQ, Dim::kHidden, When::kNoQRank),
    Linear("self_attn.q_a_proj.weight", kMlaQA, Dim::kQRank, Dim::kHidden, When::kQRank),
    Vector("self_attn.q_a_proj.bias", Dim::kQRank, When::kQRankBias),
    Norm("self_attn.q_a_layernorm.weight", Dim::kQRank, When::kQRank),
    Linear("self_attn.q_b_proj.weight", kMlaQB, Dim::kMlaQ, Dim::kQRank, When::kQRank),
    Linear("self_attn.kv_a_proj_with_mqa.weight", kMlaKvA, Dim::kMlaKvA, Dim::kHidden),
    Vector("self_attn.kv_a_proj_with_mqa.bias", Dim::kMlaKvA, When::kQkvBias),
    Norm("self_attn.kv_a_layernorm.weight", Dim::kKvRank),
    {"self_attn.embed_q.weight",
     TensorKind::kMulti,
     kMlaEmbedQ,
     {Dim::kHeads, Dim::kKvRank, Dim::kNope},
     When::kAlways,
     Origin::kKvBKeys},
    {"self_attn.unembed_out.weight",
     TensorKind::kMulti,
     kMlaUnembedOut,
     {Dim::kHeads, Dim::kMlaV, Dim::kKvRank},
     When::kAlways,
     Origin::kKvBValues},
    Linear("self_attn.o_proj.weight", kO, Dim::kHidden, Dim::kMlaOut),
    Vector("self_attn.o_proj.bias", Dim::kHidden, When::kOBias),
};

// ---- Gated delta nets ----

constexpr Row kConv1d = {"linear_attn.conv1d.weight",
                         TensorKind::kConv,
                         kOther,
                         {Dim::kLinearQkv, Dim::kConvKernel, Dim::kOne},
                         When::kAlways,
                         Origin::kConv};

// mlx-lm casts A_log of qwen3_next with everything else, that of qwen3_5 not.
constexpr Row kDeltaNetNext[] = {
    Linear("linear_attn.in_proj_qkvz.weight", kLinearQkv, Dim::kLinearQkvz, Dim::kHidden),
    Linear("linear_attn.in_proj_ba.weight", kLinearAlphaBeta, Dim::kLinearTwoHeads, Dim::kHidden),
    kConv1d,
    Vector("linear_attn.dt_bias", Dim::kLinearValueHeads),
    Vector("linear_attn.A_log", Dim::kLinearValueHeads),
    Vector("linear_attn.norm.weight", Dim::kLinearValueDim),
    Linear("linear_attn.out_proj.weight", kLinearOut, Dim::kHidden, Dim::kLinearValue),
};

constexpr Row kDeltaNet[] = {
    Linear("linear_attn.in_proj_qkv.weight", kLinearQkv, Dim::kLinearQkv, Dim::kHidden),
    Linear("linear_attn.in_proj_z.weight", kLinearGate, Dim::kLinearValue, Dim::kHidden),
    Linear("linear_attn.in_proj_b.weight", kLinearAlphaBeta, Dim::kLinearValueHeads, Dim::kHidden),
    Linear("linear_attn.in_proj_a.weight", kLinearAlphaBeta, Dim::kLinearValueHeads, Dim::kHidden),
    kConv1d,
    Vector("linear_attn.dt_bias", Dim::kLinearValueHeads),
    Vector32("linear_attn.A_log", Dim::kLinearValueHeads),
    Vector("linear_attn.norm.weight", Dim::kLinearValueDim),
    Linear("linear_attn.out_proj.weight", kLinearOut, Dim::kHidden, Dim::kLinearValue),
};

// ---- Norms around attention and MLP ----

constexpr Row kPreNorms[] = {
    Norm("input_layernorm.weight", Dim::kHidden),
    Norm("post_attention_layernorm.weight", Dim::kHidden),
};

constexpr Row kPostNorms[] = {
    Norm("post_attention_layernorm.weight", Dim::kHidden),
    Norm("post_feedforward_layernorm.weight", Dim::kHidden),
};

constexpr Row kSandwichNorms[] = {
    Norm("input_layernorm.weight", Dim::kHidden),
    Norm("post_attention_layernorm.weight", Dim::kHidden),
    Norm("pre_feedforward_layernorm.weight", Dim::kHidden),
    Norm("post_feedforward_layernorm.weight", Dim::kHidden),
};

// ---- Feed-forward ----

constexpr Row kMlp[] = {
    Linear("mlp.gate_proj.weight", kGate, Dim::kIntermediate, Dim::kHidden),
    Vector("mlp.gate_proj.bias", Dim::kIntermediate, When::kMlpBias),
    Linear("mlp.up_proj.weight", kUp, Dim::kIntermediate, Dim::kHidden),
    Vector("mlp.up_proj.bias", Dim::kIntermediate, When::kMlpBias),
    Linear("mlp.down_proj.weight", kDown, Dim::kHidden, Dim::kIntermediate),
    Vector("mlp.down_proj.bias", Dim::kHidden, When::kMlpBias),
};

constexpr Row kFusedMlp[] = {
    Linear("mlp.gate_up_proj.weight", kUp, Dim::kTwoIntermediate, Dim::kHidden),
    Linear("mlp.down_proj.weight", kDown, Dim::kHidden, Dim::kIntermediate),
};

constexpr Row kLlama4Mlp[] = {
    Linear("feed_forward.gate_proj.weight", kGate, Dim::kIntermediate, Dim::kHidden),
    Linear("feed_forward.up_proj.weight", kUp, Dim::kIntermediate, Dim::kHidden),
    Linear("feed_forward.down_proj.weight", kDown, Dim::kHidden, Dim::kIntermediate),
};

constexpr Row kExperts[] = {
    {"gate_proj.weight",
     TensorKind::kSwitch,
     kExpertGate,
     {Dim::kExperts, Dim::kExpertIntermediate, Dim::kHidden},
     When::kAlways,
     Origin::kExpertGate},
    {"up_proj.weight",
     TensorKind::kSwitch,
     kExpertUp,
     {Dim::kExperts, Dim::kExpertIntermediate, Dim::kHidden},
     When::kAlways,
     Origin::kExpertUp},
    {"down_proj.weight",
     TensorKind::kSwitch,
     kExpertDown,
     {Dim::kExperts, Dim::kHidden, Dim::kExpertIntermediate},
     When::kAlways,
     Origin::kExpertDown},
};

constexpr Row kExpertBiases[] = {
    {"gate_proj.bias",
     TensorKind::kVector,
     kOther,
     {Dim::kExperts, Dim::kExpertIntermediate},
     When::kAlways,
     Origin::kExpertGateBias},
    {"up_proj.bias",
     TensorKind::kVector,
     kOther,
     {Dim::kExperts, Dim::kExpertIntermediate},
     When::kAlways,
     Origin::kExpertUpBias},
    {"down_proj.bias",
     TensorKind::kVector,
     kOther,
     {Dim::kExperts, Dim::kHidden},
     When::kAlways,
     Origin::kExpertDownBias},
};

constexpr Row kGateRouter[] = {Router("mlp.gate.weight", Dim::kExperts)};
constexpr Row kMixtralRouter[] = {Router("block_sparse_moe.gate.weight", Dim::kExperts)};
constexpr Row kLlama4Router[] = {Router("feed_forward.router.weight", Dim::kExperts)};
constexpr Row kGptOssRouter[] = {
    Router("mlp.router.weight", Dim::kExperts),
    Vector("mlp.router.bias", Dim::kExperts),
};
// An array of its own in MLX, not a linear layer; its bias decides near ties and stays F32.
constexpr Row kSigmoidRouter[] = {
    {"mlp.gate.weight", TensorKind::kRouterRaw, kRouter, {Dim::kExperts, Dim::kHidden}},
    Vector32("mlp.gate.e_score_correction_bias", Dim::kExperts),
};

constexpr Row kGatedSharedExpert[] = {
    Linear("mlp.shared_expert.gate_proj.weight", kSharedExpert, Dim::kSharedIntermediate,
           Dim::kHidden),
    Linear("mlp.shared_expert.up_proj.weight", kSharedExpert, Dim::kSharedIntermediate,
           Dim::kHidden),
    Linear("mlp.shared_expert.down_proj.weight", kSharedExpert, Dim::kHidden,
           Dim::kSharedIntermediate),
    Router("mlp.shared_expert_gate.weight", Dim::kOne),
};

constexpr Row kLlama4SharedExpert[] = {
    Linear("feed_forward.shared_expert.gate_proj.weight", kSharedExpert, Dim::kSharedIntermediate,
           Dim::kHidden),
    Linear("feed_forward.shared_expert.up_proj.weight", kSharedExpert, Dim::kSharedIntermediate,
           Dim::kHidden),
    Linear("feed_forward.shared_expert.down_proj.weight", kSharedExpert, Dim::kHidden,
           Dim::kSharedIntermediate),
};

constexpr Row kSharedExperts[] = {
    Linear("mlp.shared_experts.gate_proj.weight", kSharedExpert, Dim::kSharedIntermediate,
           Dim::kHidden, When::kShared),
    Linear("mlp.shared_experts.up_proj.weight", kSharedExpert, Dim::kSharedIntermediate,
           Dim::kHidden, When::kShared),
    Linear("mlp.shared_experts.down_proj.weight", kSharedExpert, Dim::kHidden,
           Dim::kSharedIntermediate, When::kShared),
};

// ---- What else rows say ----

constexpr std::string_view kPlainRoots[] = {"model."};
constexpr std::string_view kPlainHeads[] = {"lm_head.weight"};
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

// ---- llama, mistral, qwen2, qwen3 ----

constexpr TypeName kLlamaTypes[] = {{"llama"}, {"mistral"}};
constexpr TypeName kQwen2Types[] = {{"qwen2"}};
constexpr TypeName kQwen3Types[] = {{"qwen3"}};
constexpr std::string_view kQwen2Required[] = {"num_key_value_heads"};
constexpr std::string_view kQwen3Required[] = {"num_key_value_heads", "tie_word_embeddings"};

// ---- qwen2_moe, qwen3_moe, mixtral, olmoe ----

constexpr TypeName kQwen2MoeTypes[] = {{"qwen2_moe"}};
constexpr TypeName kQwen3MoeTypes[] = {{"qwen3_moe"}};
constexpr TypeName kMixtralTypes[] = {{"mixtral"}};
constexpr TypeName kOlmoeTypes[] = {{"olmoe"}};

constexpr KeyDefault kQwen3MoeDefaults[] = {
    {"tie_word_embeddings", "false"},
    {"decoder_sparse_step", "1"},
    {"mlp_only_layers", "[]"},
    {"norm_topk_prob", "false"},
};
constexpr std::string_view kNumExperts[] = {"num_experts"};
constexpr std::string_view kNumLocalExperts[] = {"num_local_experts"};
constexpr std::string_view kQwen3MoeRequired[] = {
    "num_experts",     "num_key_value_heads", "tie_word_embeddings", "decoder_sparse_step",
    "mlp_only_layers", "norm_topk_prob",      "rope_theta",
};
constexpr KeyDefault kMixtralDefaults[] = {
    {"vocab_size", "32000"},     {"hidden_size", "4096"},          {"intermediate_size", "14336"},
    {"num_hidden_layers", "32"}, {"num_attention_heads", "32"},    {"num_key_value_heads", "8"},
    {"num_local_experts", "8"},  {"tie_word_embeddings", "false"},
};
constexpr KeyDefault kOlmoeFixed[] = {{"mlp_bias", "false"}};

// ---- llama4 ----

constexpr TypeName kLlama4Types[] = {{"llama4"}};
constexpr TypeName kLlama4TextTypes[] = {{"llama4_text"}};
constexpr KeyDefault kLlama4Defaults[] = {
    {"attention_bias", "false"}, {"interleave_moe_layer_step", "1"},
    {"use_qk_norm", "true"},     {"rope_scaling", "null"},
    {"rope_theta", "500000.0"},  {"attention_chunk_size", "8192"},
};
constexpr std::string_view kLlama4Required[] = {
    "num_local_experts", "attention_bias", "interleave_moe_layer_step", "use_qk_norm",
    "rope_scaling",      "rope_theta",     "attention_chunk_size",
};
constexpr KeyDefault kLlama4Fixed[] = {{"num_experts_per_tok", "1"}};

// ---- Latent attention ----

constexpr TypeName kGlm4MoeLiteTypes[] = {{"glm4_moe_lite"}};
constexpr TypeName kDeepseekV3Types[] = {{"deepseek_v3"}, {"kimi_k2"}, {"joyai_llm_flash"}};
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

constexpr TypeName kGlm4MoeTypes[] = {{"glm4_moe"}};
constexpr KeyDefault kGlm4MoeDefaults[] = {
    {"use_qk_norm", "false"},         {"attention_bias", "false"},
    {"tie_word_embeddings", "false"}, {"rope_scaling", "null"},
    {"partial_rotary_factor", "0.5"}, {"n_shared_experts", "null"},
    {"first_k_dense_replace", "1"},
};
constexpr KeyDefault kGlm4MoeFixed[] = {{"topk_method", "\"noaux_tc\""}, {"moe_layer_freq", "1"}};
constexpr std::string_view kGlm4MoeRequired[] = {
    "use_qk_norm",           "attention_bias",   "tie_word_embeddings",   "rope_scaling",
    "partial_rotary_factor", "n_shared_experts", "first_k_dense_replace", "rope_theta",
};

constexpr TypeName kGptOssTypes[] = {{"gpt_oss"}};
constexpr KeyDefault kGptOssDefaults[] = {
    {"num_hidden_layers", "36"},   {"num_local_experts", "128"},  {"vocab_size", "201088"},
    {"hidden_size", "2880"},       {"intermediate_size", "2880"}, {"head_dim", "64"},
    {"num_attention_heads", "64"}, {"num_key_value_heads", "8"},  {"sliding_window", "128"},
};

// ---- Gated delta nets ----

constexpr TypeName kQwen3NextTypes[] = {{"qwen3_next"}};
constexpr TypeName kQwen35MoeTypes[] = {{"qwen3_5_moe"}, {"qwen3_5_moe_text", false}};
constexpr TypeName kQwen35Types[] = {{"qwen3_5"}, {"qwen3_5_text", false}};
constexpr KeyDefault kQwen3NextDefaults[] = {
    {"tie_word_embeddings", "false"},  {"full_attention_interval", "4"},
    {"decoder_sparse_step", "1"},      {"mlp_only_layers", "[]"},
    {"partial_rotary_factor", "0.25"},
};
constexpr std::string_view kQwen3NextRequired[] = {
    "num_experts",           "decoder_sparse_step", "mlp_only_layers",         "rope_theta",
    "partial_rotary_factor", "num_key_value_heads", "full_attention_interval",
};
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

constexpr TypeName kGemma2Types[] = {{"gemma2"}};
constexpr TypeName kGemma3Types[] = {{"gemma3"}};
constexpr TypeName kGemma3TextTypes[] = {{"gemma3_text"}};
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
constexpr TypeName kOlmo2Types[] = {{"olmo2"}};
constexpr TypeName kPhi3Types[] = {{"phi3"}};

constexpr Family kFamilies[] = {
    {
        .name = "llama",
        .model_types = kLlamaTypes,
        .source_roots = kPlainRoots,
        .source_heads = kPlainHeads,
        .attention = {kAttention},
        .norms = kPreNorms,
        .dense = kMlp,
        .qkv_bias = BiasRule::kAttentionBias,
        .o_bias = BiasRule::kAttentionBias,
        .attention_rule = AttentionRule::kLayerTypes,
        .defaults = kTiedByDefault,
    },
    {
        .name = "qwen2",
        .model_types = kQwen2Types,
        .source_roots = kPlainRoots,
        .source_heads = kPlainHeads,
        .attention = {kAttention},
        .norms = kPreNorms,
        .dense = kMlp,
        .head_dim = HeadDimRule::kDerived,
        .qkv_bias = BiasRule::kYes,
        .defaults = kTiedByDefault,
        .required_by_mlx = kQwen2Required,
    },
    {
        .name = "qwen3",
        .model_types = kQwen3Types,
        .source_roots = kPlainRoots,
        .source_heads = kPlainHeads,
        .attention = {kAttention, kHeadNorms},
        .norms = kPreNorms,
        .dense = kMlp,
        .head_dim = HeadDimRule::kRequired,
        .defaults = kNotTiedByDefault,
        .fixed = kNoAttentionBias,
        .required_by_mlx = kQwen3Required,
    },
    {
        .name = "qwen2_moe",
        .model_types = kQwen2MoeTypes,
        .source_roots = kPlainRoots,
        .source_heads = kPlainHeads,
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
        .required_by_mlx = kNumExperts,
        .keeps_rope_scaling = false,
    },
    {
        .name = "qwen3_moe",
        .model_types = kQwen3MoeTypes,
        .source_roots = kPlainRoots,
        .source_heads = kPlainHeads,
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
        .required_by_mlx = kQwen3MoeRequired,
        .eight_bit_modules = kMlpGate,
    },
    {
        .name = "mixtral",
        .model_types = kMixtralTypes,
        .source_roots = kPlainRoots,
        .source_heads = kPlainHeads,
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
        .required_by_mlx = kNumLocalExperts,
    },
    {
        .name = "llama4",
        .model_types = kLlama4Types,
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
        .drops = kDropVision,
        .required_by_mlx = kLlama4Required,
    },
    {
        .name = "llama4_text",  // The dense ones: mlx-lm has no experts under this name.
        .model_types = kLlama4TextTypes,
        .mlx_head = "output.weight",
        .source_roots = kPlainRoots,
        .source_heads = kLlama4TextHeads,
        .attention = {kAttention},
        .norms = kPreNorms,
        .dense = kLlama4Mlp,
        .head_dim = HeadDimRule::kRequired,
        .intermediate = "intermediate_size_mlp",
        .defaults = kNotTiedByDefault,
        .fixed = kNoAttentionBias,
        .required_by_mlx = kQwen3Required,
    },
    {
        .name = "glm4_moe_lite",
        .model_types = kGlm4MoeLiteTypes,
        .source_roots = kPlainRoots,
        .source_heads = kPlainHeads,
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
        .has_mtp_layers = true,
    },
    {
        .name = "deepseek_v3",
        .model_types = kDeepseekV3Types,
        .source_roots = kPlainRoots,
        .source_heads = kPlainHeads,
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
        .has_mtp_layers = true,
    },
    {
        .name = "glm4_moe",
        .model_types = kGlm4MoeTypes,
        .source_roots = kPlainRoots,
        .source_heads = kPlainHeads,
        .attention = {kAttention, kHeadNorms},
        .norms = kPreNorms,
        .dense = kMlp,
        .moe = {kSigmoidRouter, kExperts, kSharedExperts},
        .head_dim = HeadDimRule::kRequired,
        .qkv_bias = BiasRule::kAttentionBias,
        .tying = TyingRule::kNever,
        .moe_keys = {.rule = MoeRule::kFirstDense,
                     .num_experts = "n_routed_experts",
                     .intermediate = "moe_intermediate_size",
                     .shared_count = "n_shared_experts"},
        .defaults = kGlm4MoeDefaults,
        .fixed = kGlm4MoeFixed,
        .has_mtp_layers = true,
        .required_by_mlx = kGlm4MoeRequired,
    },
    {
        .name = "gpt_oss",
        .model_types = kGptOssTypes,
        .source_roots = kPlainRoots,
        .source_heads = kPlainHeads,
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
        .required_by_mlx = kNumLocalExperts,
        .eight_bit_modules = kRouterName,
    },
    {
        .name = "qwen3_next",
        .model_types = kQwen3NextTypes,
        .source_roots = kPlainRoots,
        .source_heads = kPlainHeads,
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
        .norms_plus_one = true,
        .drops = kDropMtp,
        .required_by_mlx = kQwen3NextRequired,
        .eight_bit_modules = kGates,
    },
    {
        .name = "qwen3_5_moe",
        .model_types = kQwen35MoeTypes,
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
        .norms_plus_one = true,
        .drops = kDropVisionAndMtp,
        .required_by_mlx = kQwen35MoeRequired,
        .eight_bit_modules = kGates,
        .reads_rope_parameters = true,
    },
    {
        .name = "qwen3_5",  // As qwen3_5_moe, without experts.
        .model_types = kQwen35Types,
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
        .norms_plus_one = true,
        .drops = kDropVisionAndMtp,
        .required_by_mlx = kQwen35Required,
        .reads_rope_parameters = true,
    },
    {
        .name = "gemma3_text",
        .model_types = kGemma3TextTypes,
        .source_roots = kPlainRoots,
        .source_heads = kPlainHeads,
        .attention = {kAttention, kHeadNorms},
        .norms = kSandwichNorms,
        .dense = kMlp,
        .attention_rule = AttentionRule::kEveryNthSlides,
        .tying = TyingRule::kByFile,
        .defaults = kGemma3TextDefaults,
        .fixed = kNoAttentionBias,
        .required_by_mlx = kGemma3Required,
    },
    {
        .name = "gemma3",
        .model_types = kGemma3Types,
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
        .drops = kDropVision,
        .required_by_mlx = kGemma3Required,
        .required_outside = kGemma3Outside,
    },
    {
        .name = "gemma2",
        .model_types = kGemma2Types,
        .source_roots = kPlainRoots,
        .source_heads = kPlainHeads,
        .attention = {kAttention},
        .norms = kSandwichNorms,
        .dense = kMlp,
        .head_dim = HeadDimRule::kRequired,
        .tying = TyingRule::kAlways,
        .fixed = kNoAttentionBias,
    },
    {
        .name = "olmo2",
        .model_types = kOlmo2Types,
        .source_roots = kPlainRoots,
        .source_heads = kPlainHeads,
        .attention = {kAttention, kWideNorms},
        .norms = kPostNorms,
        .dense = kMlp,
        .qkv_bias = BiasRule::kAttentionBias,
        .o_bias = BiasRule::kAttentionBias,
        .defaults = kTiedByDefault,
    },
    {
        .name = "olmoe",
        .model_types = kOlmoeTypes,
        .source_roots = kPlainRoots,
        .source_heads = kPlainHeads,
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
        .required_by_mlx = kNumExperts,
    },
    {
        .name = "phi3",
        .model_types = kPhi3Types,
        .source_roots = kPlainRoots,
        .source_heads = kPlainHeads,
        .attention = {kFusedAttention},
        .norms = kPreNorms,
        .dense = kFusedMlp,
        .head_dim = HeadDimRule::kDerived,
        .defaults = kNotTiedByDefault,
    },
};

}  // namespace

std::span<const Family> Families() { return kFamilies; }

std::vector<std::string> KnownModelTypes() {
  std::vector<std::string> names;
  for (const Family& family : kFamilies) {
    for (const TypeName& type : family.model_types) names.emplace_back(type.name);
  }
  std::ranges::sort(names);
  return names;
}

Result<const Family*> FindFamily(std::string_view model_type, std::string_view where) {
  for (const Family& family : kFamilies) {
    if (std::ranges::find(family.model_types, model_type, &TypeName::name) !=
        family.model_types.end()) {
      return &family;
    }
  }
  return Error{ErrorCode::kUnsupported,
               fmt::format("{}: model_type \"{}\" is not known; known are {}", where, model_type,
                           fmt::join(KnownModelTypes(), ", "))};
}

}  // namespace ram
