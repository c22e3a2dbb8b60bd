#include "ram/family/bind_packed.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

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

// ---- GPTQ and AWQ ----

Result<int> GroupSize(const Json& quantization, std::string_view where) {
  RAM_ASSIGN_OR_RETURN(const int64_t group_size, GetInt(quantization, "group_size", where));
  if (group_size == -1) return 0;
  if (group_size > 0 && group_size <= (1 << 28)) return static_cast<int>(group_size);
  return Error{
      ErrorCode::kCorrupt,
      fmt::format("{}: key \"group_size\" is {}, expected -1 or a size", where, group_size)};
}

std::string Lower(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) {
    return static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  });
  return text;
}

// The string of the first of `keys` that is there, in lower case.
std::string Layout(const Json& quantization, std::initializer_list<std::string_view> keys) {
  for (const std::string_view key : keys) {
    const Json* value = Find(quantization, key);
    if (value != nullptr && value->is_string()) return Lower(value->get<std::string>());
  }
  return "";
}

Error UnknownLayout(std::string_view where, std::string_view method, const std::string& layout,
                    std::string_view known) {
  return Error{ErrorCode::kUnsupported, fmt::format("{}: {} weights in the layout {}; {} is read",
                                                    where, method, Excerpt(Json(layout)), known)};
}

Status CheckBits(std::string_view where, std::string_view method, int64_t bits,
                 std::initializer_list<int> known) {
  if (std::ranges::find(known, bits) != known.end()) return Done{};
  return Error{ErrorCode::kUnsupported, fmt::format("{}: {} with {} bits; {} are read", where,
                                                    method, bits, fmt::join(known, ", "))};
}

Result<PackedConfig> ReadGptqConfig(const Json& quantization, const std::string& where) {
  PackedConfig packed;
  packed.method = PackedConfig::Method::kGptq;
  RAM_ASSIGN_OR_RETURN(const int64_t bits, GetInt(quantization, "bits", where));
  RAM_RETURN_IF_ERROR(CheckBits(where, "GPTQ", bits, {2, 3, 4, 8}));
  packed.bits = static_cast<int>(bits);
  RAM_ASSIGN_OR_RETURN(packed.group_size, GroupSize(quantization, where));
  const std::string layout = Layout(quantization, {"checkpoint_format"});
  if (layout != "" && layout != "gptq" && layout != "gptq_v2") {
    return UnknownLayout(where, "GPTQ", layout, "gptq or gptq_v2");
  }
  const Json* symmetric = Find(quantization, "sym");
  if (symmetric != nullptr && *symmetric == true) {
    packed.encoding = Encoding::kGptqSymmetric;
  } else {
    packed.encoding = layout == "gptq_v2" ? Encoding::kGptq : Encoding::kGptqLessOne;
  }
  const Json* dynamic = Find(quantization, "dynamic");
  packed.per_module = dynamic != nullptr && !dynamic->empty();
  return packed;
}

Result<PackedConfig> ReadAwqConfig(const Json& quantization, const std::string& where) {
  PackedConfig packed;
  packed.method = PackedConfig::Method::kAwq;
  packed.encoding = Encoding::kAwq;
  packed.bits = 4;
  RAM_ASSIGN_OR_RETURN(const int64_t bits, GetInt(quantization, "bits", where));
  RAM_RETURN_IF_ERROR(CheckBits(where, "AWQ", bits, {4}));
  RAM_ASSIGN_OR_RETURN(packed.group_size, GroupSize(quantization, where));
  const std::string layout = Layout(quantization, {"version", "checkpoint_format"});
  if (layout != "" && layout != "gemm") return UnknownLayout(where, "AWQ", layout, "gemm");
  return packed;
}

// A linear layer [out, in] stored column by column.
class InMajorModule {
 public:
  InMajorModule(const Checkpoint& checkpoint, const PackedConfig& config, const std::string& module,
                const Shape& shape)
      : checkpoint_(checkpoint), config_(config), module_(module), shape_(shape) {}

  Result<std::optional<PackedModule>> Read() const {
    const TensorInfo* codes = checkpoint_.Find(module_ + ".qweight");
    if (codes == nullptr) return std::optional<PackedModule>();
    const uint64_t in = shape_.back();
    const uint64_t out = shape_.front();
    if (shape_.size() != 2) {
      return Corrupt(checkpoint_, *codes, "is where a stack of matrices should be");
    }
    RAM_ASSIGN_OR_RETURN(const TensorInfo* scales, Part(".scales"));
    RAM_ASSIGN_OR_RETURN(const TensorInfo* zeros, Part(".qzeros"));
    RAM_ASSIGN_OR_RETURN(const Choice choice, ChoiceOf(*codes, *scales));
    const auto bits = static_cast<uint64_t>(choice.bits);
    const auto group = choice.group_size == 0 ? in : static_cast<uint64_t>(choice.group_size);
    const uint64_t groups = (in + group - 1) / group;
    const bool awq = config_.method == PackedConfig::Method::kAwq;
    if (out * bits % 32 != 0 || in * bits % 32 != 0) {
      return Corrupt(checkpoint_, *codes,
                     fmt::format("cannot hold {} with {} bits", ShapeText(shape_), bits));
    }
    const std::string why =
        fmt::format("{} x {} weights, {} in config.json", out, in, StoredFormOf(choice).Name());
    const uint64_t packed_out = out * bits / 32;
    RAM_RETURN_IF_ERROR(ExpectShape(checkpoint_, *codes,
                                    awq ? Shape{in, packed_out} : Shape{in * bits / 32, out}, why));
    RAM_RETURN_IF_ERROR(ExpectShape(checkpoint_, *scales, {groups, out}, why));
    RAM_RETURN_IF_ERROR(ExpectShape(checkpoint_, *zeros, {groups, packed_out}, why));
    PackedModule packed = {config_.encoding, choice,       Dtype::kF32,
                           codes->name,      scales->name, {codes, scales, zeros}};
    if (const TensorInfo* order = checkpoint_.Find(module_ + ".g_idx"); order != nullptr && !awq) {
      RAM_RETURN_IF_ERROR(ExpectShape(checkpoint_, *order, {in}, why));
      packed.parts.push_back(order);
    }
    if (!IsFloat(scales->dtype)) return WrongDtype(*scales, "BF16, F16 or F32");
    for (const TensorInfo* info : packed.parts) {
      if (info != scales && info->dtype != Dtype::kI32) return WrongDtype(*info, "I32");
    }
    return std::optional<PackedModule>(std::move(packed));
  }

 private:
  Result<const TensorInfo*> Part(std::string_view suffix) const {
    const TensorInfo* info = checkpoint_.Find(module_ + std::string(suffix));
    if (info != nullptr) return info;
    return Error{ErrorCode::kCorrupt,
                 fmt::format("{}: tensor {}{} is missing beside {}.qweight",
                             checkpoint_.directory().string(), module_, suffix, module_)};
  }

  Error WrongDtype(const TensorInfo& info, std::string_view expected) const {
    return Corrupt(checkpoint_, info,
                   fmt::format("is {}, expected {}", DtypeName(info.dtype), expected));
  }

  // The config's, or what the shapes say where modules may differ.
  Result<Choice> ChoiceOf(const TensorInfo& codes, const TensorInfo& scales) const {
    Choice choice = Choice::Affine(config_.bits, config_.group_size);
    if (!config_.per_module || codes.shape.size() != 2 || scales.shape.size() != 2) return choice;
    const uint64_t in = shape_.back();
    const uint64_t bits = std::min<uint64_t>(codes.shape[0] * 32 / in, 32);
    RAM_RETURN_IF_ERROR(CheckBits(codes.name, "GPTQ", static_cast<int64_t>(bits), {2, 3, 4, 8}));
    choice.bits = static_cast<int>(bits);
    const uint64_t groups = scales.shape[0];
    const auto declared = static_cast<uint64_t>(config_.group_size);
    if (groups <= 1) {
      choice.group_size = 0;
    } else if (declared == 0 || (in + declared - 1) / declared != groups) {
      choice.group_size = static_cast<int>((in + groups - 1) / groups);
    }
    return choice;
  }

  const Checkpoint& checkpoint_;
  const PackedConfig& config_;
  const std::string& module_;
  const Shape& shape_;
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
    return packed;
  }
  const Json* quantization = FindQuantizationConfig(config);
  if (quantization == nullptr) return packed;
  const std::string inside = fmt::format("{}: quantization_config", where);
  const std::string method = Layout(*quantization, {"quant_method"});
  if (method == "gptq") return ReadGptqConfig(*quantization, inside);
  if (method == "awq") return ReadAwqConfig(*quantization, inside);
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
      return InMajorModule(checkpoint, config, module, shape).Read();
  }
  RAM_CHECK(false);
}

}  // namespace ram
