#pragma once

// The forward pass of one model as data: what every layer computes, with which numbers, and the
// names of its weights. Built from config.json by the family's table row; the code that runs it
// (ram/runtime/layer.h) knows no family. docs/runtime.md has the arithmetic.

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "ram/base/json.h"
#include "ram/base/result.h"
#include "ram/family/kinds.h"

namespace ram {

// Rotation of the first 2 * inv_freq.size() columns of a head (or of its rotary part). The angle of
// pair i at position p is p * inv_freq[i]; cosine and sine are multiplied by `scale`.
struct RopeGraph {
  std::vector<float> inv_freq;  // Empty: no rotation.
  // longrope: instead of inv_freq where a sequence is longer than long_from tokens. Empty: never.
  std::vector<float> long_inv_freq;
  uint64_t long_from = 0;
  float scale = 1;
  bool interleaved = false;  // Pairs (2i, 2i + 1); otherwise (i, i + n).
};

struct AttentionGraph {
  uint64_t heads = 0;
  uint64_t kv_heads = 0;
  uint64_t head_dim = 0;
  bool fused = false;  // qkv_proj: queries, keys, values one after the other.
  bool gated = false;  // q_proj: per head the query, then its output gate.
  bool sinks = false;
  HeadNorm head_norm = HeadNorm::kNone;
  float head_norm_eps = 0;
  RopeGraph rope;
  float temperature = 0;  // Of the queries; 0: none.
  float floor_scale = 8192;
  float scale = 1;  // Of the scores.
  float softcap = 0;
  uint64_t window = 0;  // 0: none.
  uint64_t chunk = 0;   // 0: none.
};

// Latent attention (deepseek_v3): one latent vector and one rotary key per token for all heads.
struct LatentGraph {
  uint64_t heads = 0;
  uint64_t q_rank = 0;   // 0: queries straight from q_proj.
  uint64_t kv_rank = 0;  // Of the latent.
  uint64_t nope_dim = 0;
  uint64_t rope_dim = 0;
  uint64_t value_dim = 0;
  float latent_norm_eps = 0;
  RopeGraph rope;
  float scale = 1;
};

struct DeltaGraph {
  uint64_t key_heads = 0;
  uint64_t value_heads = 0;
  uint64_t key_dim = 0;
  uint64_t value_dim = 0;
  uint64_t taps = 0;
  bool fused = false;  // in_proj_qkvz and in_proj_ba, per key head (qwen3_next); or one each.
  float norm_eps = 0;
  float l2_eps = 0;
  bool l2_eps_is_mean = false;
};

// gate, up and down with an activation between; `module` is in front of "gate_proj", or of
// "gate_up_proj" where both are in one matrix.
struct MlpGraph {
  std::string module;  // "mlp", "feed_forward", "mlp.shared_expert", ...
  uint64_t intermediate = 0;
  bool fused = false;
  Activation activation = Activation::kSilu;
  float alpha = 0;  // Of kClippedSwiglu.
  float limit = 0;
};

struct ExpertsGraph {
  std::string router;  // "mlp.gate", ...
  RouterKind kind = RouterKind::kSoftmax;
  uint64_t experts = 0;
  uint64_t top_k = 0;
  bool renormalize = false;
  float renormalize_eps = 0;
  float scale = 1;
  uint64_t groups = 1;
  uint64_t top_groups = 1;
  bool rejected_are_zero = false;
  MlpGraph mlp;             // Of the experts: `module` holds the stacks.
  bool has_shared = false;  // One more that every token goes to ...
  MlpGraph shared;
  std::string shared_gate;  // ... times the sigmoid of this; empty: ungated.
};

struct NormGraph {
  std::string name;  // Empty: no norm here.
  float eps = 0;
};

// x += after_mixer(mixer(before_mixer(x))); x += after_ffn(ffn(before_ffn(x))).
struct LayerGraph {
  NormGraph before_mixer, after_mixer, before_ffn, after_ffn;
  bool norms_plus_one = false;  // 1 is added to every norm weight, here and in heads, when it runs.
  std::variant<AttentionGraph, LatentGraph, DeltaGraph> mixer;
  std::variant<MlpGraph, ExpertsGraph> ffn;
};

struct Graph {
  uint64_t vocabulary = 0;
  uint64_t hidden = 0;
  uint64_t max_context = 0;  // Tokens; 0: not stated.
  float embed_scale = 1;
  float logit_softcap = 0;  // 0: none.
  NormGraph final_norm;
  bool norms_plus_one = false;  // Of the final norm.
  std::string head;             // "lm_head"; ...
  bool may_be_tied = false;     // ... the embedding serves where the model has no such tensor.
  std::vector<LayerGraph> layers;
};

// kUnsupported names the model_type, or the setting that no forward pass here computes. kCorrupt:
// everything that ReadModelShape says, and numbers that contradict each other.
Result<Graph> BuildGraph(const Json& config, Numerics numerics,
                         std::string_view where = "config.json");

}  // namespace ram
