#include "ram/family/model_shape.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "ram/base/bytes.h"

namespace ram {
namespace {

constexpr uint64_t kMaxLayers = 1024;
constexpr uint64_t kMaxExperts = 16384;
constexpr uint64_t kMaxHeads = 65536;
constexpr uint64_t kMaxSize = uint64_t{1} << 28;
constexpr uint64_t kMaxContext = uint64_t{1} << 40;

// Names that transformers v5 exchanged when it saved configs again (qwen3_moe).
constexpr std::pair<std::string_view, std::string_view> kSpellings[] = {
    {"num_experts", "num_local_experts"},
    {"num_local_experts", "num_experts"},
};

// Reads the keys of one config with the defaults of its family and notes what it used.
class ConfigReader {
 public:
  ConfigReader(const Json& config, const Json& text, const Family& family, std::string where,
               Json& resolved)
      : config_(config),
        text_(text),
        family_(family),
        where_(std::move(where)),
        resolved_(resolved) {}

  const std::string& where() const { return where_; }

  // The value in the file, or the family's default, or nothing. null counts as missing, but a
  // default of null is kept.
  std::optional<Json> Value(std::string_view key) const {
    if (const Json* found = FindSpelled(key); found != nullptr) return *found;
    const auto entry = std::ranges::find(family_.defaults, key, &KeyDefault::key);
    if (entry == family_.defaults.end()) return std::nullopt;
    return Json::parse(entry->value);
  }

  // Whether the file itself has the key, and not null.
  bool InFile(std::string_view key) const { return FindSpelled(key) != nullptr; }
  // Whether the file says null where missing would mean the default.
  bool NullInFile(std::string_view key) const {
    return text_.is_object() && text_.contains(key) && text_[std::string(key)].is_null();
  }

  // A whole number in [min, max].
  Result<uint64_t> Size(std::string_view key, uint64_t max = kMaxSize, uint64_t min = 1) {
    const std::optional<Json> value = Value(key);
    if (!value)
      return Error{ErrorCode::kCorrupt, fmt::format("{}: key \"{}\" is missing", where_, key)};
    return Check(key, *value, max, min);
  }

  // The same; `fallback` if the key is missing everywhere.
  Result<uint64_t> SizeOr(std::string_view key, uint64_t fallback, uint64_t max = kMaxSize,
                          uint64_t min = 1) {
    const std::optional<Json> value = Value(key);
    if (value && !value->is_null()) return Check(key, *value, max, min);
    Note(key, fallback);
    return fallback;
  }

  // The same; nothing if the key is missing or null. A null in the file beats a default.
  Result<std::optional<uint64_t>> OptionalSize(std::string_view key, uint64_t max = kMaxSize) {
    const std::optional<Json> value = Value(key);
    if (!value || value->is_null() || NullInFile(key)) return std::optional<uint64_t>{};
    RAM_ASSIGN_OR_RETURN(const uint64_t size, Check(key, *value, max, /*min=*/1));
    return std::optional<uint64_t>{size};
  }

  Result<bool> Flag(std::string_view key, bool fallback) {
    const std::optional<Json> value = Value(key);
    if (value && !value->is_null() && !value->is_boolean()) {
      return Error{ErrorCode::kCorrupt,
                   fmt::format("{}: key \"{}\": expected true or false, found {}", where_, key,
                               Excerpt(*value))};
    }
    // null is false to mlx-lm, whatever the default.
    bool flag = value && value->is_boolean() ? value->get<bool>() : fallback;
    if (NullInFile(key)) flag = false;
    Note(key, flag);
    return flag;
  }

  template <typename T>
  void Note(std::string_view key, const T& value) {
    resolved_[std::string(key)] = value;
  }

 private:
  // Outside where mlx-lm looks there; under this name or, if that is missing, the other one.
  const Json* FindSpelled(std::string_view key) const {
    if (std::ranges::find(family_.required_outside, key) != family_.required_outside.end()) {
      if (const Json* found = Find(config_, key); found != nullptr) return found;
    }
    if (const Json* found = Find(text_, key); found != nullptr) return found;
    for (const auto& [name, other] : kSpellings) {
      if (name == key) return Find(text_, other);
    }
    return nullptr;
  }

  Result<uint64_t> Check(std::string_view key, const Json& value, uint64_t max, uint64_t min) {
    // A negative number compares greater than max once it is unsigned.
    if (!value.is_number_integer() || (!value.is_number_unsigned() && value.get<int64_t>() < 0) ||
        value.get<uint64_t>() < min || value.get<uint64_t>() > max) {
      return Error{ErrorCode::kCorrupt,
                   fmt::format("{}: key \"{}\": expected a whole number from {} to {}, found {}",
                               where_, key, min, max, Excerpt(value))};
    }
    const uint64_t size = value.get<uint64_t>();
    Note(key, size);
    return size;
  }

  const Json& config_;
  const Json& text_;
  const Family& family_;
  std::string where_;
  Json& resolved_;
};

// ---- What is refused ----

// Settings for which mlx-lm builds another model than the config describes, or none.
Status RefuseFixedSettings(const Json& text, const Family& family, std::string_view where) {
  for (const KeyDefault& fixed : family.fixed) {
    const Json* value = Find(text, fixed.key);
    if (value == nullptr || *value == Json::parse(fixed.value)) continue;
    return Error{ErrorCode::kUnsupported,
                 fmt::format("{}: key \"{}\" is {}, but mlx-lm knows only {} for {}", where,
                             fixed.key, Excerpt(*value), fixed.value, family.name)};
  }
  return Done{};
}

// ---- Which layer is what ----

// Values of layer_types or mlp_layer_types; empty if the key is missing.
Result<std::vector<std::string>> LayerNames(const Json& text, std::string_view key,
                                            size_t num_layers, std::string_view where) {
  std::vector<std::string> names;
  const Json* values = Find(text, key);
  if (values == nullptr) return names;
  if (!values->is_array() || values->size() != num_layers ||
      !std::ranges::all_of(*values, [](const Json& value) { return value.is_string(); })) {
    return Error{ErrorCode::kCorrupt,
                 fmt::format("{}: key \"{}\": expected a list of num_hidden_layers ({}) names",
                             where, key, num_layers)};
  }
  for (const Json& value : *values) names.push_back(value.get<std::string>());
  return names;
}

// How often full attention comes back: from the key, else from layer_types, else the default.
Result<uint64_t> FullAttentionPeriod(ConfigReader& reader, std::string_view key,
                                     const std::vector<std::string>& types) {
  const auto full = std::ranges::find(types, "full_attention");
  if (!reader.InFile(key) && full != types.end()) {
    const auto period = static_cast<uint64_t>(full - types.begin()) + 1;
    reader.Note(key, period);
    return period;
  }
  return reader.Size(key, kMaxLayers);
}

Status ReadAttentionKinds(ConfigReader& reader, const Json& text, ModelShape& shape) {
  const size_t num_layers = shape.layers.size();
  RAM_ASSIGN_OR_RETURN(const std::vector<std::string> types,
                       LayerNames(text, "layer_types", num_layers, reader.where()));
  const auto set = [&](auto kind_of) {
    for (size_t layer = 0; layer < num_layers; ++layer)
      shape.layers[layer].attention = kind_of(layer);
  };
  using enum LayerAttention;
  switch (shape.family->attention_rule) {
    case AttentionRule::kFull:
      return Done{};
    case AttentionRule::kLayerTypes:
    case AttentionRule::kAlternating: {
      const bool alternating = shape.family->attention_rule == AttentionRule::kAlternating;
      set([&](size_t layer) {
        if (types.empty()) return alternating && layer % 2 == 0 ? kSliding : kFull;
        return types[layer] == "sliding_attention" ? kSliding : kFull;
      });
      break;
    }
    case AttentionRule::kEveryNthFull: {
      RAM_ASSIGN_OR_RETURN(const uint64_t period,
                           FullAttentionPeriod(reader, "full_attention_interval", types));
      set([&](size_t layer) { return (layer + 1) % period == 0 ? kFull : kLinear; });
      break;
    }
    case AttentionRule::kEveryNthSlides: {
      RAM_ASSIGN_OR_RETURN(const uint64_t period,
                           FullAttentionPeriod(reader, "sliding_window_pattern", types));
      set([&](size_t layer) { return (layer + 1) % period == 0 ? kFull : kSliding; });
      break;
    }
    case AttentionRule::kChunks:
      set([&](size_t layer) { return (layer + 1) % 4 == 0 ? kFull : kSliding; });
      break;
  }
  if (std::ranges::any_of(shape.layers,
                          [](const LayerShape& layer) { return layer.attention == kSliding; })) {
    const std::string_view key = shape.family->attention_rule == AttentionRule::kChunks
                                     ? "attention_chunk_size"
                                     : "sliding_window";
    RAM_ASSIGN_OR_RETURN(shape.window_tokens, reader.Size(key, kMaxContext));
  }
  return Done{};
}

Status ReadExpertLayers(ConfigReader& reader, const Json& text, ModelShape& shape) {
  const size_t num_layers = shape.layers.size();
  const auto set = [&](auto has_experts) {
    for (size_t layer = 0; layer < num_layers; ++layer) {
      shape.layers[layer].has_experts = has_experts(layer);
    }
  };
  switch (shape.family->moe_keys.rule) {
    case MoeRule::kNone:
      return Done{};
    case MoeRule::kAll:
      set([](size_t) { return true; });
      break;
    case MoeRule::kSparseStep: {
      RAM_ASSIGN_OR_RETURN(const uint64_t step, reader.Size("decoder_sparse_step", kMaxLayers));
      const Json dense = reader.Value("mlp_only_layers").value_or(Json::array());
      if (!dense.is_array()) {
        return Error{
            ErrorCode::kCorrupt,
            fmt::format("{}: key \"mlp_only_layers\": expected a list of layers", reader.where())};
      }
      reader.Note("mlp_only_layers", dense);
      set([&](size_t layer) {
        return (layer + 1) % step == 0 && std::ranges::find(dense, Json(layer)) == dense.end();
      });
      break;
    }
    case MoeRule::kFirstDense: {
      RAM_ASSIGN_OR_RETURN(const std::vector<std::string> types,
                           LayerNames(text, "mlp_layer_types", num_layers, reader.where()));
      uint64_t first = static_cast<uint64_t>(
          std::ranges::find_if(types, [](const std::string& type) { return type != "dense"; }) -
          types.begin());
      if (types.empty() || reader.InFile("first_k_dense_replace")) {
        RAM_ASSIGN_OR_RETURN(first, reader.Size("first_k_dense_replace", kMaxLayers, /*min=*/0));
      }
      reader.Note("first_k_dense_replace", first);
      RAM_ASSIGN_OR_RETURN(const uint64_t step, reader.SizeOr("moe_layer_freq", 1, kMaxLayers));
      set([&](size_t layer) { return layer >= first && layer % step == 0; });
      break;
    }
    case MoeRule::kInterleave: {
      RAM_ASSIGN_OR_RETURN(const uint64_t step,
                           reader.Size("interleave_moe_layer_step", kMaxLayers));
      set([&](size_t layer) { return layer % step == step - 1; });
      break;
    }
  }
  const auto first = std::ranges::find_if(shape.layers, &LayerShape::has_experts);
  if (first != shape.layers.end()) {
    for (auto layer = shape.layers.begin(); layer != first; ++layer) layer->before_experts = true;
  }
  return Done{};
}

// ---- Sizes ----

Status ReadAttentionSizes(ConfigReader& reader, ModelShape& shape) {
  const Family& family = *shape.family;
  const auto set = [&](Dim dim, uint64_t value) { shape.dims[static_cast<size_t>(dim)] = value; };
  const uint64_t hidden = shape.dim(Dim::kHidden);
  RAM_ASSIGN_OR_RETURN(const uint64_t heads, reader.Size("num_attention_heads", kMaxHeads));
  set(Dim::kHeads, heads);
  if (family.latent_attention) {
    RAM_ASSIGN_OR_RETURN(const std::optional<uint64_t> q_rank, reader.OptionalSize("q_lora_rank"));
    RAM_ASSIGN_OR_RETURN(const uint64_t kv_rank, reader.Size("kv_lora_rank"));
    RAM_ASSIGN_OR_RETURN(const uint64_t nope, reader.Size("qk_nope_head_dim", kMaxHeads));
    RAM_ASSIGN_OR_RETURN(const uint64_t rope, reader.Size("qk_rope_head_dim", kMaxHeads));
    RAM_ASSIGN_OR_RETURN(const uint64_t value, reader.Size("v_head_dim", kMaxHeads));
    shape.holds[static_cast<size_t>(When::kQRank)] = q_rank.has_value();
    shape.holds[static_cast<size_t>(When::kNoQRank)] = !q_rank.has_value();
    set(Dim::kQRank, q_rank.value_or(0));
    set(Dim::kKvRank, kv_rank);
    set(Dim::kNope, nope);
    set(Dim::kMlaQ, heads * (nope + rope));
    set(Dim::kMlaKvA, kv_rank + rope);
    set(Dim::kMlaV, value);
    set(Dim::kMlaOut, heads * value);
    return Done{};
  }
  RAM_ASSIGN_OR_RETURN(const uint64_t kv_heads,
                       reader.SizeOr("num_key_value_heads", heads, kMaxHeads));
  uint64_t head_dim = hidden / heads;
  if (family.head_dim == HeadDimRule::kRequired) {
    RAM_ASSIGN_OR_RETURN(head_dim, reader.Size("head_dim", kMaxHeads));
  } else if (family.head_dim == HeadDimRule::kOptional && reader.Value("head_dim")) {
    RAM_ASSIGN_OR_RETURN(head_dim, reader.SizeOr("head_dim", head_dim, kMaxHeads));
  }
  if (head_dim == 0) {
    return Error{ErrorCode::kCorrupt,
                 fmt::format("{}: hidden_size {} is smaller than num_attention_heads {}",
                             reader.where(), hidden, heads)};
  }
  set(Dim::kHeadDim, head_dim);
  set(Dim::kQ, heads * head_dim * (family.gated_attention ? 2 : 1));
  set(Dim::kKv, kv_heads * head_dim);
  set(Dim::kQkv, (heads + 2 * kv_heads) * head_dim);
  set(Dim::kAttention, heads * head_dim);
  return Done{};
}

Status ReadLinearAttentionSizes(ConfigReader& reader, ModelShape& shape) {
  const auto set = [&](Dim dim, uint64_t value) { shape.dims[static_cast<size_t>(dim)] = value; };
  RAM_ASSIGN_OR_RETURN(const uint64_t key_heads, reader.Size("linear_num_key_heads", kMaxHeads));
  RAM_ASSIGN_OR_RETURN(const uint64_t value_heads,
                       reader.Size("linear_num_value_heads", kMaxHeads));
  RAM_ASSIGN_OR_RETURN(const uint64_t key_dim, reader.Size("linear_key_head_dim", kMaxHeads));
  RAM_ASSIGN_OR_RETURN(const uint64_t value_dim, reader.Size("linear_value_head_dim", kMaxHeads));
  RAM_ASSIGN_OR_RETURN(const uint64_t taps, reader.Size("linear_conv_kernel_dim", kMaxHeads));
  if (value_heads % key_heads != 0) {
    return Error{ErrorCode::kCorrupt,
                 fmt::format("{}: linear_num_value_heads {} is not a multiple of "
                             "linear_num_key_heads {}",
                             reader.where(), value_heads, key_heads)};
  }
  const uint64_t keys = key_heads * key_dim;
  const uint64_t values = value_heads * value_dim;
  set(Dim::kLinearQkv, 2 * keys + values);
  set(Dim::kLinearQkvz, 2 * keys + 2 * values);
  set(Dim::kLinearValue, values);
  set(Dim::kLinearValueHeads, value_heads);
  set(Dim::kLinearTwoHeads, 2 * value_heads);
  set(Dim::kLinearValueDim, value_dim);
  set(Dim::kLinearKeyDim, key_dim);
  set(Dim::kConvKernel, taps);
  return Done{};
}

Status ReadExpertSizes(ConfigReader& reader, ModelShape& shape) {
  const MoeKeys& keys = shape.family->moe_keys;
  const auto set = [&](Dim dim, uint64_t value) { shape.dims[static_cast<size_t>(dim)] = value; };
  RAM_ASSIGN_OR_RETURN(const uint64_t intermediate, reader.Size(keys.intermediate));
  set(Dim::kExpertIntermediate, intermediate);
  bool has_shared = false;
  uint64_t shared = 0;
  if (!keys.shared_intermediate.empty()) {
    has_shared = true;
    RAM_ASSIGN_OR_RETURN(shared, reader.Size(keys.shared_intermediate));
  } else if (!keys.shared_count.empty()) {
    RAM_ASSIGN_OR_RETURN(const std::optional<uint64_t> count,
                         reader.OptionalSize(keys.shared_count, kMaxExperts));
    has_shared = count.has_value();
    shared = count.value_or(0) * intermediate;
  }
  shape.holds[static_cast<size_t>(When::kShared)] = has_shared;
  set(Dim::kSharedIntermediate, shared);
  return Done{};
}

// ---- Flags and the rest ----

Status ReadFlags(ConfigReader& reader, const Json& config, const Json& text, ModelShape& shape) {
  const Family& family = *shape.family;
  const auto set = [&](When when, bool value) { shape.holds[static_cast<size_t>(when)] = value; };
  RAM_ASSIGN_OR_RETURN(const bool attention_bias, reader.Flag("attention_bias", false));
  const auto bias = [&](BiasRule rule) {
    return rule == BiasRule::kYes || (rule == BiasRule::kAttentionBias && attention_bias);
  };
  set(When::kAlways, true);
  set(When::kQkvBias, bias(family.qkv_bias));
  set(When::kOBias, bias(family.o_bias));
  set(When::kQRankBias, bias(family.qkv_bias) && shape.is(When::kQRank));
  RAM_ASSIGN_OR_RETURN(const bool mlp_bias, reader.Flag("mlp_bias", false));
  set(When::kMlpBias, family.reads_mlp_bias && mlp_bias);
  RAM_ASSIGN_OR_RETURN(const bool use_qk_norm, reader.Flag("use_qk_norm", true));
  set(When::kQkNorm, !family.reads_use_qk_norm || use_qk_norm);

  // Some nested configs say it only outside.
  const bool only_outside = shape.nested && Find(text, "tie_word_embeddings") == nullptr;
  const Json* outside = only_outside ? Find(config, "tie_word_embeddings") : nullptr;
  const bool fallback = outside != nullptr && outside->is_boolean() && outside->get<bool>();
  if (outside != nullptr && outside->is_boolean()) {
    shape.config_ties = fallback;
    reader.Note("tie_word_embeddings", fallback);
  } else {
    RAM_ASSIGN_OR_RETURN(shape.config_ties, reader.Flag("tie_word_embeddings", false));
  }
  const bool stated = outside != nullptr || reader.InFile("tie_word_embeddings");
  switch (family.tying) {
    case TyingRule::kByConfig:
      shape.tied = shape.config_ties;
      break;
    case TyingRule::kAlways:
      shape.tied = true;
      break;
    case TyingRule::kByFile:
      shape.tied = shape.config_ties || !stated;
      break;
    case TyingRule::kNever:
      shape.tied = false;
      break;
  }
  return Done{};
}

Dtype StatedDtype(const Json& config, const Json& text) {
  for (const Json* object : {&config, &text}) {
    for (const std::string_view key : {"torch_dtype", "dtype"}) {  // The second since v5.
      const Json* value = Find(*object, key);
      if (value == nullptr || !value->is_string()) continue;
      const std::string& name = value->get_ref<const std::string&>();
      if (name == "bfloat16") return Dtype::kBF16;
      if (name == "float16") return Dtype::kF16;
      return Dtype::kF32;
    }
  }
  return Dtype::kF32;
}

// Every tensor must have a size that fits, and all of them a number that memory holds.
Status CheckTotals(const ModelShape& shape, std::string_view where) {
  constexpr uint64_t kMaxMatrices = uint64_t{1} << 19;
  const uint64_t matrices_per_layer =
      3 * shape.dim(Dim::kExperts) +
      (shape.family->latent_attention ? 2 * shape.dim(Dim::kHeads) : 0);
  if (shape.layers.size() * matrices_per_layer > kMaxMatrices) {
    return Error{ErrorCode::kCorrupt,
                 fmt::format("{}: {} layers of {} matrices are more than this version handles ({})",
                             where, shape.layers.size(), matrices_per_layer, kMaxMatrices)};
  }
  return Done{};
}

}  // namespace

std::string Excerpt(const Json& value) {
  constexpr size_t kMaxLength = 40;
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > kMaxLength) text = text.substr(0, kMaxLength) + "...";
  return text;
}

const Json& TextConfig(const Json& config, const Family& family) {
  if (family.nesting == Family::Nesting::kFlat) return config;
  const Json* text = Find(config, "text_config");
  return text != nullptr && text->is_object() ? *text : config;
}

Result<ModelShape> ReadModelShape(const Json& config, std::string_view where) {
  ModelShape shape;
  RAM_ASSIGN_OR_RETURN(shape.model_type, GetString(config, "model_type", where));
  RAM_ASSIGN_OR_RETURN(shape.family, FindFamily(shape.model_type, where));
  const Family& family = *shape.family;
  if (family.nesting == Family::Nesting::kNested) {
    RAM_RETURN_IF_ERROR(GetObject(config, "text_config", where));
  }
  const Json& text = TextConfig(config, family);
  shape.nested = &text != &config;
  const std::string inner = fmt::format("{}{}", where, shape.nested ? ": text_config" : "");
  RAM_RETURN_IF_ERROR(RefuseFixedSettings(text, family, inner));

  ConfigReader reader(config, text, family, inner, shape.resolved);
  const auto set = [&](Dim dim, uint64_t value) { shape.dims[static_cast<size_t>(dim)] = value; };
  set(Dim::kOne, 1);
  RAM_ASSIGN_OR_RETURN(const uint64_t num_layers, reader.Size("num_hidden_layers", kMaxLayers));
  RAM_ASSIGN_OR_RETURN(const uint64_t hidden, reader.Size("hidden_size"));
  RAM_ASSIGN_OR_RETURN(const uint64_t vocabulary, reader.Size("vocab_size"));
  shape.layers.resize(num_layers);
  set(Dim::kHidden, hidden);
  set(Dim::kVocabulary, vocabulary);

  RAM_RETURN_IF_ERROR(ReadAttentionSizes(reader, shape));
  RAM_RETURN_IF_ERROR(ReadAttentionKinds(reader, text, shape));
  if (std::ranges::any_of(shape.layers, [](const LayerShape& layer) {
        return layer.attention == LayerAttention::kLinear;
      })) {
    RAM_RETURN_IF_ERROR(ReadLinearAttentionSizes(reader, shape));
  }

  if (family.moe_keys.rule != MoeRule::kNone) {
    const std::string_view key = family.moe_keys.num_experts;
    std::optional<Json> stated = reader.Value(key);
    if (reader.NullInFile(key)) stated = Json(nullptr);
    uint64_t experts = 0;  // null and 0 say that every layer is dense.
    const MoeRule rule = family.moe_keys.rule;
    const bool may_be_zero = rule == MoeRule::kAll || rule == MoeRule::kSparseStep;
    if (!stated || !stated->is_null()) {
      RAM_ASSIGN_OR_RETURN(experts, reader.Size(key, kMaxExperts, may_be_zero ? 0 : 1));
    }
    set(Dim::kExperts, experts);
    if (experts > 0) {
      RAM_RETURN_IF_ERROR(ReadExpertSizes(reader, shape));
      RAM_RETURN_IF_ERROR(ReadExpertLayers(reader, text, shape));
    }
  }
  if (!std::ranges::all_of(shape.layers, &LayerShape::has_experts)) {
    if (family.dense.empty()) {
      return Error{ErrorCode::kUnsupported,
                   fmt::format("{}: {} without experts is not supported", inner, family.name)};
    }
    RAM_ASSIGN_OR_RETURN(const uint64_t intermediate, reader.Size(family.intermediate));
    set(Dim::kIntermediate, intermediate);
    set(Dim::kTwoIntermediate, 2 * intermediate);
  }
  RAM_RETURN_IF_ERROR(ReadFlags(reader, config, text, shape));
  RAM_ASSIGN_OR_RETURN(const std::optional<uint64_t> max_context,
                       reader.OptionalSize("max_position_embeddings", kMaxContext));
  shape.max_context = max_context.value_or(0);
  shape.stated_dtype = StatedDtype(config, text);
  RAM_RETURN_IF_ERROR(CheckTotals(shape, inner));
  return shape;
}

}  // namespace ram
