#pragma once

// The tensors that layers are made of, in blocks that families share. Names are MLX's, below
// "layers.N."; those of experts are below ExpertNames::mlx. Included by families.cc alone.

#include <string_view>

#include "ram/family/families.h"

namespace ram::rows {

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

inline constexpr Row kAttention[] = {
    Linear("self_attn.q_proj.weight", kQ, Dim::kQ, Dim::kHidden),
    Vector("self_attn.q_proj.bias", Dim::kQ, When::kQkvBias),
    Linear("self_attn.k_proj.weight", kK, Dim::kKv, Dim::kHidden),
    Vector("self_attn.k_proj.bias", Dim::kKv, When::kQkvBias),
    Linear("self_attn.v_proj.weight", kV, Dim::kKv, Dim::kHidden),
    Vector("self_attn.v_proj.bias", Dim::kKv, When::kQkvBias),
    Linear("self_attn.o_proj.weight", kO, Dim::kHidden, Dim::kAttention),
    Vector("self_attn.o_proj.bias", Dim::kHidden, When::kOBias),
};

inline constexpr Row kHeadNorms[] = {
    Norm("self_attn.q_norm.weight", Dim::kHeadDim, When::kQkNorm),
    Norm("self_attn.k_norm.weight", Dim::kHeadDim, When::kQkNorm),
};

// Over all heads together.
inline constexpr Row kWideNorms[] = {
    Norm("self_attn.q_norm.weight", Dim::kQ),
    Norm("self_attn.k_norm.weight", Dim::kKv),
};

inline constexpr Row kSinks[] = {Vector("self_attn.sinks", Dim::kHeads)};

inline constexpr Row kFusedAttention[] = {
    Linear("self_attn.qkv_proj.weight", kOther, Dim::kQkv, Dim::kHidden),
    Linear("self_attn.o_proj.weight", kO, Dim::kHidden, Dim::kAttention),
};

inline constexpr Row kLatentAttention[] = {
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

inline constexpr Row kConv1d = {"linear_attn.conv1d.weight",
                                TensorKind::kConv,
                                kOther,
                                {Dim::kLinearQkv, Dim::kConvKernel, Dim::kOne},
                                When::kAlways,
                                Origin::kConv};

// mlx-lm casts A_log of qwen3_next with everything else, that of qwen3_5 not.
inline constexpr Row kDeltaNetNext[] = {
    Linear("linear_attn.in_proj_qkvz.weight", kLinearQkv, Dim::kLinearQkvz, Dim::kHidden),
    Linear("linear_attn.in_proj_ba.weight", kLinearAlphaBeta, Dim::kLinearTwoHeads, Dim::kHidden),
    kConv1d,
    Vector("linear_attn.dt_bias", Dim::kLinearValueHeads),
    Vector("linear_attn.A_log", Dim::kLinearValueHeads),
    Vector("linear_attn.norm.weight", Dim::kLinearValueDim),
    Linear("linear_attn.out_proj.weight", kLinearOut, Dim::kHidden, Dim::kLinearValue),
};

inline constexpr Row kDeltaNet[] = {
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

inline constexpr Row kPreNorms[] = {
    Norm("input_layernorm.weight", Dim::kHidden),
    Norm("post_attention_layernorm.weight", Dim::kHidden),
};

inline constexpr Row kPostNorms[] = {
    Norm("post_attention_layernorm.weight", Dim::kHidden),
    Norm("post_feedforward_layernorm.weight", Dim::kHidden),
};

inline constexpr Row kSandwichNorms[] = {
    Norm("input_layernorm.weight", Dim::kHidden),
    Norm("post_attention_layernorm.weight", Dim::kHidden),
    Norm("pre_feedforward_layernorm.weight", Dim::kHidden),
    Norm("post_feedforward_layernorm.weight", Dim::kHidden),
};

// ---- Feed-forward ----

inline constexpr Row kMlp[] = {
    Linear("mlp.gate_proj.weight", kGate, Dim::kIntermediate, Dim::kHidden),
    Vector("mlp.gate_proj.bias", Dim::kIntermediate, When::kMlpBias),
    Linear("mlp.up_proj.weight", kUp, Dim::kIntermediate, Dim::kHidden),
    Vector("mlp.up_proj.bias", Dim::kIntermediate, When::kMlpBias),
    Linear("mlp.down_proj.weight", kDown, Dim::kHidden, Dim::kIntermediate),
    Vector("mlp.down_proj.bias", Dim::kHidden, When::kMlpBias),
};

inline constexpr Row kFusedMlp[] = {
    Linear("mlp.gate_up_proj.weight", kUp, Dim::kTwoIntermediate, Dim::kHidden),
    Linear("mlp.down_proj.weight", kDown, Dim::kHidden, Dim::kIntermediate),
};

inline constexpr Row kLlama4Mlp[] = {
    Linear("feed_forward.gate_proj.weight", kGate, Dim::kIntermediate, Dim::kHidden),
    Linear("feed_forward.up_proj.weight", kUp, Dim::kIntermediate, Dim::kHidden),
    Linear("feed_forward.down_proj.weight", kDown, Dim::kHidden, Dim::kIntermediate),
};

inline constexpr Row kExperts[] = {
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

inline constexpr Row kExpertBiases[] = {
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

inline constexpr Row kGateRouter[] = {Router("mlp.gate.weight", Dim::kExperts)};
inline constexpr Row kMixtralRouter[] = {Router("block_sparse_moe.gate.weight", Dim::kExperts)};
inline constexpr Row kLlama4Router[] = {Router("feed_forward.router.weight", Dim::kExperts)};
inline constexpr Row kGptOssRouter[] = {
    Router("mlp.router.weight", Dim::kExperts),
    Vector("mlp.router.bias", Dim::kExperts),
};
// An array of its own in MLX, not a linear layer; its bias decides near ties and stays F32.
inline constexpr Row kSigmoidRouter[] = {
    {"mlp.gate.weight", TensorKind::kRouterRaw, kRouter, {Dim::kExperts, Dim::kHidden}},
    Vector32("mlp.gate.e_score_correction_bias", Dim::kExperts),
};

inline constexpr Row kGatedSharedExpert[] = {
    Linear("mlp.shared_expert.gate_proj.weight", kSharedExpert, Dim::kSharedIntermediate,
           Dim::kHidden),
    Linear("mlp.shared_expert.up_proj.weight", kSharedExpert, Dim::kSharedIntermediate,
           Dim::kHidden),
    Linear("mlp.shared_expert.down_proj.weight", kSharedExpert, Dim::kHidden,
           Dim::kSharedIntermediate),
    Router("mlp.shared_expert_gate.weight", Dim::kOne),
};

inline constexpr Row kLlama4SharedExpert[] = {
    Linear("feed_forward.shared_expert.gate_proj.weight", kSharedExpert, Dim::kSharedIntermediate,
           Dim::kHidden),
    Linear("feed_forward.shared_expert.up_proj.weight", kSharedExpert, Dim::kSharedIntermediate,
           Dim::kHidden),
    Linear("feed_forward.shared_expert.down_proj.weight", kSharedExpert, Dim::kHidden,
           Dim::kSharedIntermediate),
};

inline constexpr Row kSharedExperts[] = {
    Linear("mlp.shared_experts.gate_proj.weight", kSharedExpert, Dim::kSharedIntermediate,
           Dim::kHidden, When::kShared),
    Linear("mlp.shared_experts.up_proj.weight", kSharedExpert, Dim::kSharedIntermediate,
           Dim::kHidden, When::kShared),
    Linear("mlp.shared_experts.down_proj.weight", kSharedExpert, Dim::kHidden,
           Dim::kSharedIntermediate, When::kShared),
};

}  // namespace ram::rows
