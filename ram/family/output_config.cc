// config.json of the output. mlx-lm must build the same model from it as from the source: so keys
// that its classes require and that newer configs moved or left out are written back, and nothing
// remains that describes what is no longer there.

#include <string>
#include <utility>

#include "ram/family/catalog.h"
#include "ram/family/model_shape.h"

namespace ram {
namespace {

constexpr std::string_view kRemoved[] = {
    "_name_or_path", "quantization", "quantization_config", "vision_config", "model_file",
};

bool Has(const Json& object, std::string_view key) { return Find(object, key) != nullptr; }

void SetIfMissing(Json& object, std::string_view key, const Json& value) {
  if (!Has(object, key)) object[std::string(key)] = value;
}

// transformers v5 moved rope_theta, rope_scaling and partial_rotary_factor into rope_parameters,
// with one object for each kind of layer where they differ (gemma3).
void RestoreRopeKeys(const Family& family, Json& text) {
  const Json* parameters = Find(text, "rope_parameters");
  if (parameters == nullptr || !parameters->is_object() || family.reads_rope_parameters) return;
  if (const Json* sliding = Find(*parameters, "sliding_attention"); sliding != nullptr) {
    if (const Json* theta = Find(*sliding, "rope_theta"); theta != nullptr) {
      SetIfMissing(text, "rope_local_base_freq", *theta);
    }
  }
  if (const Json* full = Find(*parameters, "full_attention"); full != nullptr) parameters = full;
  if (!parameters->is_object()) return;
  Json scaling = *parameters;
  for (const char* key : {"rope_theta", "partial_rotary_factor"}) {
    if (const Json* value = Find(*parameters, key); value != nullptr) {
      SetIfMissing(text, key, *value);
    }
    scaling.erase(key);
  }
  const Json* type = Find(*parameters, "rope_type");
  if (type == nullptr) type = Find(*parameters, "type");
  if (type == nullptr || *type == "default" || !family.keeps_rope_scaling) return;
  scaling["type"] = *type;  // Some classes of mlx-lm know only this name.
  scaling["rope_type"] = *type;
  SetIfMissing(text, "rope_scaling", scaling);
}

// The output says what it holds, for readers that believe it: a head that the file has although the
// config ties, or the other way round.
void CorrectTying(const ModelShape& shape, bool tied, Json& output, Json& text) {
  constexpr std::string_view kKey = "tie_word_embeddings";
  const bool stated = Has(output, kKey) || Has(text, kKey);
  const bool by_file = shape.family->tying == TyingRule::kByFile;
  if (stated ? shape.config_ties == tied : tied || !by_file) return;
  text[std::string(kKey)] = tied;
  if (Has(output, kKey)) output[std::string(kKey)] = tied;
}

void SetDtype(Json& object, std::string_view name) {
  for (const char* key : {"torch_dtype", "dtype"}) {
    if (object.contains(key)) object[key] = name;
  }
}

}  // namespace

Result<Json> OutputConfig(const Json& source_config, const Catalog& catalog) {
  RAM_ASSIGN_OR_RETURN(const ModelShape shape, ReadModelShape(source_config, "config.json"));
  const Family& family = *shape.family;
  Json output = source_config;
  for (const std::string_view key : kRemoved) output.erase(std::string(key));
  if (shape.nested) {
    for (const std::string_view key : kRemoved) output["text_config"].erase(std::string(key));
  }
  Json& text = shape.nested ? output["text_config"] : output;

  for (const TypeName& type : family.other_types) {
    if (type.name == shape.model_type && !type.known_to_mlx) output["model_type"] = family.name;
  }
  RestoreRopeKeys(family, text);
  const auto value_of = [&](std::string_view key) -> const Json* {
    return Find(shape.resolved, key);
  };
  for (const std::string_view key : family.required_by_mlx) {
    if (text.contains(key) && !text[std::string(key)].is_null()) continue;
    if (const Json* value = value_of(key); value != nullptr) {
      text[std::string(key)] = *value;
      continue;
    }
    for (const KeyDefault& entry : family.defaults) {
      if (entry.key == key) text[std::string(key)] = Json::parse(entry.value);
    }
  }
  for (const std::string_view key : family.required_outside) {
    if (const Json* value = value_of(key); value != nullptr) SetIfMissing(output, key, *value);
  }

  CorrectTying(shape, catalog.tied, output, text);
  const std::string_view dtype = catalog.dtype == Dtype::kF16 ? "float16" : "bfloat16";
  SetDtype(output, dtype);
  if (shape.nested) SetDtype(text, dtype);
  output["torch_dtype"] = dtype;
  return output;
}

}  // namespace ram
