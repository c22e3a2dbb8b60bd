#include "ram/family/graph.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "ram/base/half.h"
#include "ram/family/families.h"
#include "ram/family/model_shape.h"
#include "ram/family/rope.h"

namespace ram {
namespace {

constexpr std::string_view kWeight = ".weight";

std::string Module(std::string_view name) {
  if (name.ends_with(kWeight)) name.remove_suffix(kWeight.size());
  return std::string(name);
}

// The first row of a class in a block, or null.
const Row* FindClass(Block block, TensorClass tensor_class) {
  const auto row = std::ranges::find(block, tensor_class, &Row::tensor_class);
  return row == block.end() ? nullptr : &*row;
}

const Row* FindName(const Blocks& blocks, std::string_view name) {
  for (const Block block : blocks) {
    const auto row = std::ranges::find(block, name, &Row::name);
    if (row != block.end()) return &*row;
  }
  return nullptr;
}

class GraphBuilder {
 public:
  GraphBuilder(const ModelShape& shape, const Json& config, Numerics numerics,
               std::string_view where)
      : shape_(shape),
        family_(*shape.family),
        forward_(shape.family->forward),
        text_(TextConfig(config, *shape.family)),
        numerics_(numerics),
        where_(fmt::format("{}{}", where, shape.nested ? ": text_config" : "")) {
    const auto rope = std::ranges::find(forward_.defaults, "rope_scaling", &KeyDefault::key);
    if (!mlx() && rope != forward_.defaults.end()) default_rope_ = Json::parse(rope->value);
  }

  Result<Graph> Build() {
    Graph graph;
    graph.vocabulary = shape_.dim(Dim::kVocabulary);
    graph.hidden = shape_.dim(Dim::kHidden);
    graph.max_context = shape_.max_context;
    RAM_ASSIGN_OR_RETURN(norm_eps_, Float("rms_norm_eps", 1e-6));
    graph.final_norm = {"norm", norm_eps_};
    graph.norms_plus_one = forward_.norms_plus_one;
    graph.head = Module(family_.mlx_head);
    graph.head.erase(0, graph.head.rfind('.') + 1);
    graph.may_be_tied = shape_.tied || family_.tying == TyingRule::kByFile;
    if (forward_.scales_embedding) {
      graph.embed_scale = static_cast<float>(std::sqrt(static_cast<double>(graph.hidden)));
      if (mlx() && forward_.mlx_rounds_embedding_scale)
        graph.embed_scale = FloatFromBf16(Bf16FromFloat(graph.embed_scale));
    }
    if (forward_.softcaps) {
      RAM_ASSIGN_OR_RETURN(graph.logit_softcap, FloatOrNull("final_logit_softcapping"));
    }
    RAM_RETURN_IF_ERROR(RefuseUnknown());
    RAM_ASSIGN_OR_RETURN(activation_, ReadActivation());
    for (size_t layer = 0; layer < shape_.layers.size(); ++layer) {
      RAM_ASSIGN_OR_RETURN(LayerGraph built, BuildLayer(layer));
      graph.layers.push_back(std::move(built));
    }
    return graph;
  }

 private:
  bool mlx() const { return numerics_ == Numerics::kMlx; }

  Error Corrupt(std::string_view what) const {
    return {ErrorCode::kCorrupt, fmt::format("{}: {}", where_, what)};
  }

  // ---- Keys ----

  // The value in the file, or the family's default, or nothing. null counts as missing.
  std::optional<Json> Value(std::string_view key) const {
    if (const Json* value = Find(text_, key); value != nullptr) return *value;
    for (const std::span<const KeyDefault> defaults : {family_.defaults, forward_.defaults}) {
      const auto entry = std::ranges::find(defaults, key, &KeyDefault::key);
      if (entry == defaults.end()) continue;
      const Json value = Json::parse(entry->value);
      if (!value.is_null()) return value;
    }
    return std::nullopt;
  }
  bool SaysNull(std::string_view key) const {
    return text_.contains(key) && text_[std::string(key)].is_null();
  }

  Result<double> Number(std::string_view key, std::optional<double> fallback) const {
    const std::optional<Json> value = Value(key);
    if (!value && fallback) return *fallback;
    if (!value) return Corrupt(fmt::format("key \"{}\" is missing", key));
    const double number = value->is_number() ? value->get<double>() : -1;
    if (!(number >= 0) || !std::isfinite(number)) {
      return Corrupt(fmt::format("key \"{}\": expected a number of at least 0, found {}", key,
                                 Excerpt(*value)));
    }
    return number;
  }
  Result<float> Float(std::string_view key, std::optional<double> fallback = std::nullopt) const {
    RAM_ASSIGN_OR_RETURN(const double number, Number(key, fallback));
    return static_cast<float>(number);
  }
  // 0 where the file says null.
  Result<float> FloatOrNull(std::string_view key) const {
    if (SaysNull(key)) return 0.0F;
    return Float(key);
  }
  Result<uint64_t> Count(std::string_view key, std::optional<uint64_t> fallback,
                         uint64_t min) const {
    const std::optional<Json> value = Value(key);
    if (!value && fallback) return *fallback;
    if (!value) return Corrupt(fmt::format("key \"{}\" is missing", key));
    if (!value->is_number_integer() || *value < min || *value > (uint64_t{1} << 40)) {
      return Corrupt(fmt::format("key \"{}\": expected a whole number from {} on, found {}", key,
                                 min, Excerpt(*value)));
    }
    return value->get<uint64_t>();
  }
  Result<bool> Flag(std::string_view key, bool fallback) const {
    const std::optional<Json> value = Value(key);
    if (!value) return fallback;
    if (!value->is_boolean()) {
      return Corrupt(
          fmt::format("key \"{}\": expected true or false, found {}", key, Excerpt(*value)));
    }
    return value->get<bool>();
  }
  // An entry of a list with one for each layer; nothing if the key is missing.
  Result<std::optional<Json>> OfLayer(std::string_view key, size_t layer) const {
    const Json* values = Find(text_, key);
    if (values == nullptr || (values->is_array() && values->empty())) return std::optional<Json>{};
    if (!values->is_array() || values->size() != shape_.layers.size()) {
      return Corrupt(fmt::format("key \"{}\": expected a list of num_hidden_layers ({}) entries",
                                 key, shape_.layers.size()));
    }
    return std::optional<Json>((*values)[layer]);
  }

  // ---- What the code has no step for ----

  Status RefuseUnknown() const {
    for (const std::string_view key : {"clip_qkv", "use_bidirectional_attention"}) {
      const Json* value = Find(text_, key);
      if (value == nullptr || *value == false || mlx()) continue;
      return Error{ErrorCode::kUnsupported,
                   fmt::format("{}: key \"{}\" is {}: no forward pass here does that", where_, key,
                               Excerpt(*value))};
    }
    if (!forward_.partial_rope) {
      RAM_ASSIGN_OR_RETURN(const double part, Number("partial_rotary_factor", 1.0));
      if (part != 1) {
        return Error{ErrorCode::kUnsupported,
                     fmt::format("{}: key \"partial_rotary_factor\" is {}, but all of a head "
                                 "rotates in {}",
                                 where_, part, family_.name)};
      }
    }
    return Done{};
  }

  Result<Activation> ReadActivation() const {
    const std::optional<Json> value = Value(forward_.activation_key);
    if (!value || forward_.activation == Activation::kClippedSwiglu) return forward_.activation;
    if (*value == "silu" || *value == "swish") return Activation::kSilu;
    if (*value == "gelu_pytorch_tanh" || *value == "gelu_new") return Activation::kGeluTanh;
    return Error{ErrorCode::kUnsupported,
                 fmt::format("{}: key \"{}\" is {}; supported are silu and gelu_pytorch_tanh",
                             where_, forward_.activation_key, Excerpt(*value))};
  }

  // ---- Layers ----

  Result<LayerGraph> BuildLayer(size_t layer) {
    LayerGraph graph;
    graph.norms_plus_one = forward_.norms_plus_one;
    const auto norm = [&](size_t row) {
      return NormGraph{Module(family_.norms[row].name), norm_eps_};
    };
    switch (forward_.norms) {
      case NormPlacement::kBefore:
        graph.before_mixer = norm(0);
        graph.before_ffn = norm(1);
        break;
      case NormPlacement::kAfter:
        graph.after_mixer = norm(0);
        graph.after_ffn = norm(1);
        break;
      case NormPlacement::kBoth:
        graph.before_mixer = norm(0);
        graph.after_mixer = norm(1);
        graph.before_ffn = norm(2);
        graph.after_ffn = norm(3);
        break;
    }
    if (shape_.layers[layer].attention == LayerAttention::kLinear) {
      RAM_ASSIGN_OR_RETURN(graph.mixer, BuildDelta());
    } else if (family_.latent_attention) {
      RAM_ASSIGN_OR_RETURN(graph.mixer, BuildLatent());
    } else {
      RAM_ASSIGN_OR_RETURN(graph.mixer, BuildAttention(layer));
    }
    if (shape_.layers[layer].has_experts) {
      RAM_ASSIGN_OR_RETURN(graph.ffn, BuildExperts());
    } else {
      RAM_ASSIGN_OR_RETURN(graph.ffn, BuildDense());
    }
    return graph;
  }

  // ---- Rotation ----

  // rope_scaling or rope_parameters, of this kind of layer where they say more than one.
  const Json* RopeParameters(bool sliding) const {
    for (const std::string_view key : {"rope_scaling", "rope_parameters"}) {
      const Json* parameters = Find(text_, key);
      if (parameters == nullptr) continue;
      const Json* full = Find(*parameters, "full_attention");
      const Json* local = Find(*parameters, "sliding_attention");
      if (full == nullptr && local == nullptr) return parameters;
      return sliding ? local : full;
    }
    return default_rope_.is_null() ? nullptr : &default_rope_;
  }

  Result<RopeGraph> BuildRopeOf(uint64_t head_dim, bool sliding) const {
    RopeSettings settings;
    settings.where = where_;
    settings.numerics = numerics_;
    settings.max_context = shape_.max_context;
    settings.interleaved = forward_.interleaved_rope;
    if (forward_.interleaved_rope && !mlx()) {
      RAM_ASSIGN_OR_RETURN(settings.interleaved, Flag("rope_interleave", true));
    }
    settings.parameters = RopeParameters(sliding);
    RAM_ASSIGN_OR_RETURN(settings.original_context,
                         Count("original_max_position_embeddings", 0, 0));

    const auto number = [&](std::string_view key, std::string_view outside,
                            double fallback) -> Result<double> {
      const Json* inside =
          settings.parameters == nullptr ? nullptr : Find(*settings.parameters, key);
      if (inside == nullptr) return Number(outside, fallback);
      if (inside->is_number()) return inside->get<double>();
      return Corrupt(fmt::format("key \"{}\": expected a number, found {}", key, Excerpt(*inside)));
    };
    const bool local = sliding && forward_.local_rope;
    RAM_ASSIGN_OR_RETURN(settings.theta,
                         number("rope_theta", local ? "rope_local_base_freq" : "rope_theta", 1e4));
    double part = 1;
    if (forward_.partial_rope) {
      RAM_ASSIGN_OR_RETURN(part, number("partial_rotary_factor", "partial_rotary_factor", 1.0));
      if (!(part > 0 && part <= 1)) {
        return Corrupt(
            fmt::format("partial_rotary_factor {}: expected more than 0, and at most 1", part));
      }
    }
    settings.dims = static_cast<uint64_t>(static_cast<double>(head_dim) * part);

    // Scaling outside the layer's own parameters is that of the layers without a window.
    const bool own = Find(text_, "rope_scaling") == nullptr;
    if ((local && !own) || (mlx() && (local || !forward_.mlx_scales_rope)))
      settings.parameters = nullptr;
    return BuildRope(settings);
  }

  // ---- Mixers ----

  Result<AttentionGraph> BuildAttention(size_t layer) const {
    AttentionGraph graph;
    graph.heads = shape_.dim(Dim::kHeads);
    graph.head_dim = shape_.dim(Dim::kHeadDim);
    graph.kv_heads = shape_.dim(Dim::kKv) / graph.head_dim;
    if (graph.kv_heads == 0 || graph.heads % graph.kv_heads != 0) {
      return Corrupt(
          fmt::format("num_attention_heads {} is not a multiple of num_key_value_heads "
                      "{}",
                      graph.heads, graph.kv_heads));
    }
    graph.fused = FindName(family_.attention, "self_attn.qkv_proj.weight") != nullptr;
    graph.gated = family_.gated_attention;
    graph.sinks = FindName(family_.attention, "self_attn.sinks") != nullptr;
    const Row* norm = FindName(family_.attention, "self_attn.q_norm.weight");
    if (norm != nullptr && shape_.is(norm->when)) {
      graph.head_norm = norm->shape[0] == Dim::kHeadDim ? HeadNorm::kPerHead : HeadNorm::kWholeRow;
      graph.head_norm_eps = norm_eps_;
    }

    double scalar = static_cast<double>(graph.head_dim);
    if (forward_.scalar_in_config) {
      RAM_ASSIGN_OR_RETURN(scalar, Number("query_pre_attn_scalar", std::nullopt));
      if (scalar == 0) return Corrupt("key \"query_pre_attn_scalar\": expected more than 0");
    }
    graph.scale = static_cast<float>(1 / std::sqrt(scalar));
    if (forward_.softcaps) {
      RAM_ASSIGN_OR_RETURN(graph.softcap, FloatOrNull("attn_logit_softcapping"));
    }
    if (forward_.chunks) {
      RAM_RETURN_IF_ERROR(ReadChunks(layer, &graph));
    } else {
      RAM_ASSIGN_OR_RETURN(graph.window, WindowOf(layer));
      const bool sliding = shape_.layers[layer].attention == LayerAttention::kSliding;
      RAM_ASSIGN_OR_RETURN(graph.rope, BuildRopeOf(graph.head_dim, sliding));
    }
    return graph;
  }

  // llama4: which layers rotate and see chunks, and what the others do instead.
  Status ReadChunks(size_t layer, AttentionGraph* graph) const {
    RAM_ASSIGN_OR_RETURN(const uint64_t interval, Count("no_rope_layer_interval", std::nullopt, 1));
    bool rotates = (layer + 1) % interval != 0;
    const bool simple = mlx() && forward_.mlx_simplifies_chunks;
    if (mlx() && !simple) {
      rotates = (layer + 1) % 4 != 0;
    } else {
      RAM_ASSIGN_OR_RETURN(const std::optional<Json> stated, OfLayer("no_rope_layers", layer));
      if (stated) rotates = *stated != 0 && *stated != false;
    }
    bool chunked = rotates;
    if (!mlx()) {
      RAM_ASSIGN_OR_RETURN(const std::optional<Json> kind, OfLayer("layer_types", layer));
      if (kind) chunked = *kind == "chunked_attention";
    }
    if (chunked && !simple && !SaysNull("attention_chunk_size")) {
      RAM_ASSIGN_OR_RETURN(graph->chunk, Count("attention_chunk_size", std::nullopt, 1));
    }
    RAM_ASSIGN_OR_RETURN(const bool has_norm, Flag("use_qk_norm", true));
    if (has_norm && (rotates || simple)) {
      graph->head_norm = HeadNorm::kAfter;
      graph->head_norm_eps = mlx() && !simple ? 1e-6F : norm_eps_;
    }
    if (rotates) {
      RAM_ASSIGN_OR_RETURN(graph->rope, BuildRopeOf(graph->head_dim, /*sliding=*/false));
      return Done{};
    }
    RAM_ASSIGN_OR_RETURN(const bool tuned, Flag("attn_temperature_tuning", true));
    if (tuned && !simple) {
      RAM_ASSIGN_OR_RETURN(graph->temperature, Float("attn_scale"));
      RAM_ASSIGN_OR_RETURN(graph->floor_scale, Float("floor_scale"));
      if (graph->floor_scale < 1) return Corrupt("key \"floor_scale\": expected at least 1");
    }
    return Done{};
  }

  // 0: none.
  Result<uint64_t> WindowOf(size_t layer) const {
    WindowRule rule = mlx() ? forward_.mlx_windows : forward_.windows;
    for (const TypeName& type : family_.other_types) {
      if (!mlx() && type.name == shape_.model_type && type.windows != WindowRule::kNone)
        rule = type.windows;
    }
    if (rule == WindowRule::kNone) return uint64_t{0};
    if (rule == WindowRule::kByKind) {
      const bool sliding = shape_.layers[layer].attention == LayerAttention::kSliding;
      return sliding ? shape_.window_tokens : uint64_t{0};
    }
    const bool only_if_used = rule == WindowRule::kAllIfUsed || rule == WindowRule::kLastIfUsed ||
                              rule == WindowRule::kEveryOtherIfUsed;
    RAM_ASSIGN_OR_RETURN(const bool used, Flag("use_sliding_window", false));
    if (SaysNull("sliding_window") || !Value("sliding_window") || (only_if_used && !used))
      return uint64_t{0};
    RAM_ASSIGN_OR_RETURN(const uint64_t window, Count("sliding_window", std::nullopt, 1));
    const bool all = rule == WindowRule::kAll || rule == WindowRule::kAllIfUsed;
    if (all) return window;
    RAM_ASSIGN_OR_RETURN(const std::optional<Json> kind, OfLayer("layer_types", layer));
    if (kind) return *kind == "sliding_attention" ? window : uint64_t{0};
    bool slides = layer % 2 == 0;
    if (rule != WindowRule::kAlternating) {
      RAM_ASSIGN_OR_RETURN(const uint64_t first, Count("max_window_layers", std::nullopt, 0));
      slides = rule == WindowRule::kLastIfUsed ? layer >= first : slides && layer < first;
    }
    return slides ? window : uint64_t{0};
  }

  Result<LatentGraph> BuildLatent() const {
    LatentGraph graph;
    graph.heads = shape_.dim(Dim::kHeads);
    graph.q_rank = shape_.is(When::kQRank) ? shape_.dim(Dim::kQRank) : 0;
    graph.kv_rank = shape_.dim(Dim::kKvRank);
    graph.nope_dim = shape_.dim(Dim::kNope);
    graph.rope_dim = shape_.dim(Dim::kMlaKvA) - graph.kv_rank;
    graph.value_dim = shape_.dim(Dim::kMlaV);
    graph.latent_norm_eps = mlx() && forward_.mlx_latent_eps_in_config ? norm_eps_ : 1e-6F;
    RAM_ASSIGN_OR_RETURN(graph.rope, BuildRopeOf(graph.rope_dim, /*sliding=*/false));

    double scale = 1 / std::sqrt(static_cast<double>(graph.nope_dim + graph.rope_dim));
    const Json* parameters = RopeParameters(/*sliding=*/false);
    const auto number = [&](std::string_view key) {
      const Json* value = parameters == nullptr ? nullptr : Find(*parameters, key);
      return value != nullptr && value->is_number() ? value->get<double>() : 0.0;
    };
    const double mscale = number("mscale_all_dim");
    if (mscale != 0) scale *= std::pow(YarnScale(number("factor"), mscale), 2);
    graph.scale = static_cast<float>(scale);
    return graph;
  }

  Result<DeltaGraph> BuildDelta() const {
    DeltaGraph graph;
    graph.value_heads = shape_.dim(Dim::kLinearValueHeads);
    graph.key_dim = shape_.dim(Dim::kLinearKeyDim);
    graph.value_dim = shape_.dim(Dim::kLinearValueDim);
    graph.key_heads =
        (shape_.dim(Dim::kLinearQkv) - shape_.dim(Dim::kLinearValue)) / (2 * graph.key_dim);
    graph.taps = shape_.dim(Dim::kConvKernel);
    const Blocks blocks = {family_.linear_attention};
    graph.fused = FindName(blocks, "linear_attn.in_proj_qkvz.weight") != nullptr;
    graph.norm_eps = norm_eps_;
    graph.l2_eps = 1e-6F;
    graph.l2_eps_is_mean = mlx();
    return graph;
  }

  // ---- Feed-forward ----

  Result<MlpGraph> BuildMlp(std::string_view module, uint64_t intermediate, bool fused) const {
    MlpGraph graph;
    graph.module = std::string(module);
    graph.intermediate = intermediate;
    graph.fused = fused;
    graph.activation = activation_;
    if (activation_ == Activation::kClippedSwiglu) {
      RAM_ASSIGN_OR_RETURN(graph.alpha, Float("swiglu_alpha"));
      RAM_ASSIGN_OR_RETURN(graph.limit, Float("swiglu_limit"));
    }
    return graph;
  }

  Result<MlpGraph> BuildDense() const {
    const Row* gate = FindClass(family_.dense, TensorClass::kGate);
    const Row* first = gate != nullptr ? gate : FindClass(family_.dense, TensorClass::kUp);
    RAM_CHECK(first != nullptr);
    const std::string_view module = first->name.substr(0, first->name.rfind(".gate"));
    return BuildMlp(module, shape_.dim(Dim::kIntermediate), /*fused=*/gate == nullptr);
  }

  Result<ExpertsGraph> BuildExperts() const {
    ExpertsGraph graph;
    RAM_ASSIGN_OR_RETURN(
        graph.mlp, BuildMlp(family_.experts.mlx, shape_.dim(Dim::kExpertIntermediate), false));
    for (const Block block : family_.moe) {
      for (const Row& row : block) {
        if (!shape_.is(row.when)) continue;
        if (row.kind == TensorKind::kRouter || row.kind == TensorKind::kRouterRaw) {
          (row.shape[0] == Dim::kExperts ? graph.router : graph.shared_gate) = Module(row.name);
        } else if (row.tensor_class == TensorClass::kSharedExpert && !graph.has_shared) {
          graph.has_shared = true;
          RAM_ASSIGN_OR_RETURN(graph.shared,
                               BuildMlp(row.name.substr(0, row.name.rfind(".gate_proj")),
                                        shape_.dim(Dim::kSharedIntermediate), false));
        }
      }
    }
    graph.kind = forward_.router;
    graph.experts = shape_.dim(Dim::kExperts);
    RAM_ASSIGN_OR_RETURN(graph.top_k, Count("num_experts_per_tok", std::nullopt, 1));
    if (graph.top_k > graph.experts) {
      return Corrupt(fmt::format("num_experts_per_tok {} is more than {} ({})", graph.top_k,
                                 family_.moe_keys.num_experts, graph.experts));
    }
    RAM_ASSIGN_OR_RETURN(graph.renormalize, Flag("norm_topk_prob", false));
    if (forward_.always_renormalizes) graph.renormalize = true;
    if (mlx() && !forward_.mlx_renormalizes) graph.renormalize = false;
    if (graph.kind == RouterKind::kSigmoid) {
      RAM_RETURN_IF_ERROR(ReadSigmoidRouter(&graph));
    }
    return graph;
  }

  Status ReadSigmoidRouter(ExpertsGraph* graph) const {
    graph->renormalize_eps = 1e-20F;
    if (mlx() && graph->top_k == 1) graph->renormalize = false;
    RAM_ASSIGN_OR_RETURN(graph->scale, Float("routed_scaling_factor", 1.0));
    RAM_ASSIGN_OR_RETURN(graph->groups, Count("n_group", 1, 1));
    RAM_ASSIGN_OR_RETURN(graph->top_groups, Count("topk_group", 1, 1));
    graph->rejected_are_zero = mlx();
    if (graph->groups == 1) return Done{};
    const uint64_t size = graph->experts / graph->groups;
    if (graph->experts % graph->groups != 0 || size < 2) {
      return Corrupt(fmt::format("{} experts cannot be {} groups (n_group) of two or more",
                                 graph->experts, graph->groups));
    }
    if (graph->top_groups > graph->groups || graph->top_groups * size < graph->top_k) {
      return Corrupt(
          fmt::format("topk_group {} of {} groups with {} experts each do not hold "
                      "num_experts_per_tok {}",
                      graph->top_groups, graph->groups, size, graph->top_k));
    }
    return Done{};
  }

  const ModelShape& shape_;
  const Family& family_;
  const Forward& forward_;
  const Json& text_;
  Numerics numerics_;
  std::string where_;
  Json default_rope_;  // null: none.
  float norm_eps_ = 0;
  Activation activation_ = Activation::kSilu;
};

}  // namespace

Result<Graph> BuildGraph(const Json& config, Numerics numerics, std::string_view where) {
  RAM_ASSIGN_OR_RETURN(const ModelShape shape, ReadModelShape(config, where));
  return GraphBuilder(shape, config, numerics, where).Build();
}

}  // namespace ram
