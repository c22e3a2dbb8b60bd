#include "ram/family/bind_packed.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "ram/base/bytes.h"
#include "ram/family/model_shape.h"
#include "ram/family/stored_form.h"

namespace ram {
namespace {

using Shape = std::vector<uint64_t>;

std::string FileOf(const Checkpoint& checkpoint, const TensorInfo& info) {
  return checkpoint.shards()[info.shard].path().filename().string();
}

Error Corrupt(const Checkpoint& checkpoint, const TensorInfo& info, std::string_view problem) {
  return Error{ErrorCode::kCorrupt,
               fmt::format("{}: tensor {} {}", FileOf(checkpoint, info), info.name, problem)};
}

Status ExpectShape(const Checkpoint& checkpoint, const TensorInfo& info, const Shape& expected,
                   std::string_view why) {
  if (info.shape == expected) return Done{};
  return Corrupt(checkpoint, info,
                 fmt::format("has shape {}, expected {} ({})", ShapeText(info.shape),
                             ShapeText(expected), why));
}

bool IsFloat(Dtype dtype) {
  return dtype == Dtype::kBF16 || dtype == Dtype::kF16 || dtype == Dtype::kF32;
}

// ---- MLX ----

bool IsAffineChoice(const StoredForm& form) {
  return std::ranges::any_of(kAffineChoices, [&](const Choice& choice) {
    return choice.bits == form.bits && choice.group_size == form.group_size;
  });
}

class MlxModule {
 public:
  MlxModule(const Checkpoint& checkpoint, const PackedConfig& config, const std::string& module,
            const std::string& key, const Shape& shape)
      : checkpoint_(checkpoint),
        quantization_(config.quantization),
        module_(module),
        key_(Find(quantization_, module) != nullptr ? module : key),
        shape_(shape),
        weight_(checkpoint.Find(module + ".weight")),
        scales_(checkpoint.Find(module + ".scales")),
        biases_(checkpoint.Find(module + ".biases")) {}

  Result<std::optional<PackedModule>> Read() const {
    if (weight_ == nullptr) return std::optional<PackedModule>();
    const Json* entry = Find(quantization_, key_);
    if (scales_ == nullptr) {
      if (entry != nullptr && entry->is_object()) {
        return Corrupt(checkpoint_, *weight_,
                       "is quantized as config.json says, but has no scales in the files");
      }
      if (weight_->dtype == Dtype::kU32) {
        return Corrupt(checkpoint_, *weight_,
                       fmt::format("is packed, but {}.scales is missing", module_));
      }
      return std::optional<PackedModule>();
    }
    if (entry != nullptr && entry->is_boolean() && !entry->get<bool>()) {
      return Corrupt(checkpoint_, *scales_,
                     "belongs to a module that config.json does not "
                     "quantize (\"quantization\" says false)");
    }
    RAM_ASSIGN_OR_RETURN(const StoredForm form, Form());
    PackedModule packed;
    packed.source = weight_->name;
    packed.scales = scales_->name;
    packed.parts = {weight_, scales_};
    if (form.mode == "mxfp4") {
      packed.encoding = Encoding::kMxfp4;
      packed.choice = Choice::Mxfp4();
      packed.dtype = Dtype::kBF16;
      if (biases_ != nullptr) return Corrupt(checkpoint_, *biases_, "has no place in mxfp4");
    } else {
      packed.encoding = Encoding::kAffine;
      packed.choice = Choice::Affine(form.bits, form.group_size);
      packed.dtype = scales_->dtype;
      packed.parts.push_back(biases_);
      RAM_RETURN_IF_ERROR(CheckBiases());
    }
    return std::optional<PackedModule>(std::move(packed));
  }

 private:
  // The form that the config declares, which the shapes must have.
  Result<StoredForm> Form() const {
    if (weight_->dtype != Dtype::kU32) {
      return Corrupt(
          checkpoint_, *weight_,
          fmt::format("is {}, expected U32 beside {}", DtypeName(weight_->dtype), scales_->name));
    }
    auto form = DeclaredForm(quantization_, key_);
    if (!form) {
      return Error{form.error().code, fmt::format("config.json: {}", form.error().message)};
    }
    const bool affine = form->mode == "affine" && IsAffineChoice(*form);
    const bool mxfp4 = form->mode == "mxfp4" && form->bits == 4 && form->group_size == 32;
    if (!affine && !mxfp4) {
      return Error{ErrorCode::kUnsupported,
                   fmt::format("config.json: {} has mode {} with {} bits and groups of {}; affine "
                               "with 2, 3, 4, 5, 6 or 8 bits and groups of 32, 64 or 128, and "
                               "mxfp4, are read",
                               key_, Excerpt(Json(form->mode)), form->bits, form->group_size)};
    }
    const uint64_t cols = shape_.back();
    const auto group = static_cast<uint64_t>(form->group_size);
    if (cols % group != 0) {
      return Corrupt(checkpoint_, *weight_,
                     fmt::format("has rows of {} weights, no multiple of the group size {} that "
                                 "config.json says",
                                 cols, group));
    }
    const std::string why = fmt::format("{} in config.json", form->Name());
    Shape codes = shape_;
    codes.back() = cols / 32 * static_cast<uint64_t>(form->bits);
    RAM_RETURN_IF_ERROR(ExpectShape(checkpoint_, *weight_, codes, why));
    Shape groups = shape_;
    groups.back() = cols / group;
    RAM_RETURN_IF_ERROR(ExpectShape(checkpoint_, *scales_, groups, why));
    if (mxfp4 ? scales_->dtype != Dtype::kU8 : !IsFloat(scales_->dtype)) {
      return Corrupt(checkpoint_, *scales_,
                     fmt::format("is {}, expected {} ({})", DtypeName(scales_->dtype),
                                 mxfp4 ? "U8" : "BF16, F16 or F32", why));
    }
    return *std::move(form);
  }

  Status CheckBiases() const {
    if (biases_ == nullptr) {
      return Corrupt(checkpoint_, *scales_,
                     fmt::format("is there, but {}.biases is missing", module_));
    }
    if (biases_->shape == scales_->shape && biases_->dtype == scales_->dtype) return Done{};
    return Corrupt(checkpoint_, *biases_,
                   fmt::format("is {} {}, expected {} {} like the scales",
                               DtypeName(biases_->dtype), ShapeText(biases_->shape),
                               DtypeName(scales_->dtype), ShapeText(scales_->shape)));
  }

  const Checkpoint& checkpoint_;
  const Json& quantization_;
  const std::string& module_;
  const std::string& key_;
  const Shape& shape_;
  const TensorInfo* weight_;
  const TensorInfo* scales_;
  const TensorInfo* biases_;
};

}  // namespace

const Json* FindQuantizationConfig(const Json& config) {
  if (const Json* found = Find(config, "quantization_config"); found != nullptr) return found;
  const Json* text = Find(config, "text_config");
  return text == nullptr ? nullptr : Find(*text, "quantization_config");
}

Result<PackedConfig> ReadPackedConfig(const Json& config, std::string_view where) {
  PackedConfig packed;
  if (const Json* quantization = Find(config, "quantization"); quantization != nullptr) {
    if (!quantization->is_object()) {
      return Error{ErrorCode::kCorrupt,
                   fmt::format("{}: key \"quantization\": expected an object", where)};
    }
    packed.method = PackedConfig::Method::kMlx;
    packed.quantization = *quantization;
  }
  return packed;
}

Result<std::optional<PackedModule>> FindPackedModule(const Checkpoint& checkpoint,
                                                     const PackedConfig& config,
                                                     const std::string& module,
                                                     const std::string& key, const Shape& shape) {
  switch (config.method) {
    case PackedConfig::Method::kNone:
      return std::optional<PackedModule>();
    case PackedConfig::Method::kMlx:
      return MlxModule(checkpoint, config, module, key, shape).Read();
    case PackedConfig::Method::kGptq:
    case PackedConfig::Method::kAwq:
      break;
  }
  RAM_CHECK(false);
}

}  // namespace ram
