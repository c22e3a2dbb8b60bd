#include "ram/family/stored_form.h"

#include <fmt/format.h>

#include <utility>

#include "ram/checkpoint/text.h"

namespace ram {

std::string StoredForm::Name() const {
  if (mode == "16") return "16";
  if (mode == "affine") return fmt::format("{},{}", bits, group_size);
  return mode;
}

StoredForm StoredFormOf(const Choice& choice) {
  switch (choice.mode) {
    case Mode::kAffine:
      return {"affine", choice.bits, choice.group_size};
    case Mode::kMxfp4:
      return {"mxfp4", 4, 32};
    case Mode::kDense:
      break;
  }
  return {"16", 16, 0};
}

StoredForm FormFromShapes(const TensorInfo& weight, const TensorInfo& scales, uint64_t cols) {
  const uint64_t packed = weight.shape.empty() ? 0 : weight.shape.back();
  const uint64_t groups = scales.shape.empty() ? 0 : scales.shape.back();
  StoredForm form;
  form.bits = cols == 0 ? 0 : static_cast<int>(packed * 32 / cols);
  form.group_size = groups == 0 ? 0 : static_cast<int>(cols / groups);
  form.mode = "affine";
  if (scales.dtype == Dtype::kU8) {
    form.mode = form.bits == 8 ? "mxfp8" : form.group_size == 16 ? "nvfp4" : "mxfp4";
  }
  return form;
}

Result<StoredForm> DeclaredForm(const Json& quantization, const std::string& module) {
  const Json* own = Find(quantization, module);
  const Json& entry = own != nullptr && own->is_object() ? *own : quantization;
  StoredForm form;
  form.mode = "affine";
  if (const Json* mode = Find(entry, "mode"); mode != nullptr && mode->is_string()) {
    form.mode = mode->get<std::string>();
  }
  form.group_size = form.mode == "nvfp4" ? 16 : form.mode == "affine" ? 64 : 32;
  form.bits = form.mode == "mxfp8" ? 8 : 4;
  for (const auto& [key, number] :
       {std::pair("bits", &form.bits), std::pair("group_size", &form.group_size)}) {
    const Json* given = Find(entry, key);
    if (given == nullptr) continue;
    if (!given->is_number_integer() || *given < 1 || *given > 1024) {
      return Error{ErrorCode::kCorrupt,
                   fmt::format("{}: \"{}\" is {}, expected a small whole number", module, key,
                               Shown(given->dump()))};
    }
    *number = given->get<int>();
  }
  return form;
}

}  // namespace ram
