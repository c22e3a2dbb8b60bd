#include "ram/writer/verify_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "ram/base/bytes.h"
#include "ram/base/json.h"
#include "ram/checkpoint/checkpoint.h"
#include "ram/checkpoint/text.h"
#include "ram/family/catalog.h"
#include "ram/plan/plan.h"

namespace ram {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxProblemsOfAKind = 8;

class Verifier {
 public:
  Verifier(const fs::path& directory, const Checkpoint& checkpoint)
      : directory_(directory), checkpoint_(checkpoint) {}

  VerifiedModel Run() {
    if (const Json* type = Find(checkpoint_.config(), "model_type");
        type != nullptr && type->is_string()) {
      report_.model_type = type->get<std::string>();
    }
    report_.file_bytes = checkpoint_.file_bytes();
    report_.num_tensors = checkpoint_.tensors().size();
    for (const TensorInfo& tensor : checkpoint_.tensors()) report_.tensor_bytes += tensor.num_bytes;

    ReadCatalog();
    ReadModules();
    CompareWithConfig();
    CompareWithCatalog();
    CompareWithPlan();
    CheckFiles();
    for (const auto& [kind, count] : problem_counts_) {
      if (count > kMaxProblemsOfAKind) {
        report_.problems.push_back(
            fmt::format("... and {} more: {}", count - kMaxProblemsOfAKind, kind));
      }
    }
    return std::move(report_);
  }

 private:
  void Problem(const std::string& kind, std::string text) {
    if (++problem_counts_[kind] <= kMaxProblemsOfAKind) {
      report_.problems.push_back(std::move(text));
    }
  }

  // What the model's config says it must hold; unknown families are judged by the tensors alone.
  void ReadCatalog() {
    auto catalog = BuildCatalog(checkpoint_.config(), (directory_ / "config.json").string());
    if (catalog) {
      catalog_ = *std::move(catalog);
      for (const CatalogTensor& tensor : catalog_->tensors) by_name_[tensor.name] = &tensor;
    } else {
      report_.notes.push_back(
          fmt::format("shapes are judged by the tensors alone: {}", catalog.error().message));
    }
  }

  void ReadModules() {
    const Json* quantization = Find(checkpoint_.config(), "quantization");
    for (const TensorInfo& tensor : checkpoint_.tensors()) {
      if (tensor.name.ends_with(".scales") || tensor.name.ends_with(".biases")) {
        const std::string module = tensor.name.substr(0, tensor.name.rfind('.'));
        const TensorInfo* weight = checkpoint_.Find(module + ".weight");
        if (weight == nullptr || weight->dtype != Dtype::kU32) {
          Problem(
              "scales without codes",
              fmt::format("{}: no packed weight {}.weight (U32) beside it", tensor.name, module));
        }
        continue;
      }
      if (!tensor.name.ends_with(".weight")) {
        report_.num_weights += NumElements(tensor);
        continue;
      }
      ReadModule(tensor, quantization);
    }
  }

  void ReadModule(const TensorInfo& weight, const Json* quantization) {
    const std::string module = weight.name.substr(0, weight.name.size() - 7);
    const auto known = by_name_.find(weight.name);
    const TensorInfo* scales = checkpoint_.Find(module + ".scales");
    if (scales == nullptr) {
      const uint64_t elements = NumElements(weight);
      report_.num_weights += elements;
      const bool could_be =
          known != by_name_.end() ? IsQuantizable(known->second->kind) : weight.shape.size() >= 2;
      if (weight.dtype == Dtype::kU32) {
        Problem("codes without scales",
                fmt::format("{}: packed (U32) but {}.scales is missing", weight.name, module));
      }
      if (could_be) {
        report_.modules.push_back({module, StoredFormOf(Choice::Dense()), std::nullopt,
                                   std::nullopt, elements, weight.num_bytes});
      }
      return;
    }

    if (weight.shape.empty() || scales->shape.empty()) {
      Problem("impossible shapes", fmt::format("{}: codes {} and scales {} are no matrices", module,
                                               ShapeText(weight.shape), ShapeText(scales->shape)));
      return;
    }
    uint64_t cols = 0;
    if (known != by_name_.end()) {
      cols = known->second->cols;
    } else if (quantization != nullptr) {
      const auto declared = DeclaredForm(*quantization, module);
      if (declared) {
        cols = weight.shape.back() * 32 / static_cast<uint64_t>(declared->bits);
      }
    }
    const TensorInfo* biases = checkpoint_.Find(module + ".biases");
    StoredModule stored;
    stored.name = module;
    stored.stored = FormFromShapes(weight, *scales, cols);
    stored.bytes =
        weight.num_bytes + scales->num_bytes + (biases != nullptr ? biases->num_bytes : 0);
    uint64_t rows = 1;
    for (size_t i = 0; i + 1 < weight.shape.size(); ++i) rows *= weight.shape[i];
    stored.num_weights = rows * cols;
    report_.num_weights += stored.num_weights;

    const StoredForm& form = stored.stored;
    const auto bits = static_cast<uint64_t>(form.bits);
    const auto group = static_cast<uint64_t>(form.group_size);
    if (cols == 0 || bits * cols != weight.shape.back() * 32 ||
        group * scales->shape.back() != cols) {
      Problem("impossible shapes",
              fmt::format("{}: codes {} and scales {} fit no bits and group size{}", module,
                          ShapeText(weight.shape), ShapeText(scales->shape),
                          cols == 0 ? "" : fmt::format(" for rows of {} weights", cols)));
    }
    if (form.mode == "affine" &&
        (biases == nullptr || biases->shape != scales->shape || biases->dtype != scales->dtype)) {
      Problem("biases", fmt::format("{}: affine codes need biases like its scales ({} {})", module,
                                    DtypeName(scales->dtype), ShapeText(scales->shape)));
    }
    report_.modules.push_back(std::move(stored));
  }

  void CompareWithConfig() {
    const Json* quantization = Find(checkpoint_.config(), "quantization");
    const bool any_quantized = std::ranges::any_of(
        report_.modules, [](const StoredModule& module) { return module.stored.mode != "16"; });
    if (quantization == nullptr) {
      if (any_quantized) {
        Problem("config", "config.json: no \"quantization\", but the files hold quantized modules");
      }
      return;
    }
    if (const Json* copy = Find(checkpoint_.config(), "quantization_config");
        copy == nullptr || *copy != *quantization) {
      report_.notes.push_back(
          "config.json: \"quantization_config\" is not a copy of "
          "\"quantization\"; the hub's model tree reads it");
    }
    std::set<std::string> seen;
    for (StoredModule& module : report_.modules) {
      const Json* entry = Find(*quantization, module.name);
      if (entry != nullptr) seen.insert(module.name);
      if (module.stored.mode == "16") {
        if (entry != nullptr && entry->is_object()) {
          Problem("config and files",
                  fmt::format("{}: config.json lists it as quantized, the file has it in 16 bits",
                              module.name));
        }
        continue;
      }
      if (entry != nullptr && entry->is_boolean() && !entry->get<bool>()) {
        Problem("config and files", fmt::format("{}: config.json says false, the file has it as {}",
                                                module.name, module.stored.Name()));
        continue;
      }
      const auto declared = DeclaredForm(*quantization, module.name);
      if (!declared) {
        Problem("config", fmt::format("config.json: {}", declared.error().message));
        continue;
      }
      module.declared = *declared;
      if (*declared != module.stored) {
        Problem("config and files",
                fmt::format("{}: config.json says {}, the file has it as {}", module.name,
                            declared->Name(), module.stored.Name()));
      }
    }
    static const std::set<std::string> kDefaults = {"group_size", "bits", "mode"};
    for (const auto& [key, entry] : quantization->items()) {
      if (kDefaults.contains(key) || seen.contains(key)) continue;
      const bool module = entry.is_object() || entry.is_boolean();
      if (module && entry.is_boolean()) continue;
      Problem("config", module
                            ? fmt::format("config.json: \"quantization\" lists {}, which no file "
                                          "has",
                                          key)
                            : fmt::format("config.json: \"quantization\" has the key \"{}\", "
                                          "which mlx-swift refuses",
                                          key));
    }
  }

  void CompareWithCatalog() {
    if (!catalog_) return;
    for (const CatalogTensor& tensor : catalog_->tensors) {
      const TensorInfo* found = checkpoint_.Find(tensor.name);
      if (found == nullptr) {
        Problem("missing", fmt::format("{}: missing", tensor.name));
      } else if (found->dtype != Dtype::kU32 && found->shape != tensor.shape) {
        Problem("shapes", fmt::format("{}: shape {}, expected {}", tensor.name,
                                      ShapeText(found->shape), ShapeText(tensor.shape)));
      }
    }
    for (const TensorInfo& tensor : checkpoint_.tensors()) {
      std::string name = tensor.name;
      for (const std::string_view suffix : {".scales", ".biases"}) {
        if (name.ends_with(suffix)) {
          name = name.substr(0, name.size() - suffix.size()) + ".weight";
        }
      }
      if (!by_name_.contains(name) && !by_name_.contains(tensor.name)) {
        Problem("unexpected",
                fmt::format("{}: a {} model has no such tensor", tensor.name, report_.model_type));
      }
    }
  }

  void CompareWithPlan() {
    const fs::path path = directory_ / "plan.json";
    std::error_code error;
    if (!fs::exists(path, error)) return;
    auto text = ReadFile(path, kMaxJsonBytes);
    if (!text) {
      Problem("plan", text.error().message);
      return;
    }
    const auto plan = ParsePlan(*text, path.string());
    if (!plan) {
      report_.notes.push_back(fmt::format("plan.json is not ours: {}", plan.error().message));
      return;
    }
    report_.has_plan = true;
    report_.planned_bytes = plan->bytes;
    report_.budget_bytes = plan->budget_bytes;
    std::map<std::string_view, StoredModule*> modules;
    for (StoredModule& module : report_.modules) modules[module.name] = &module;
    for (const PlannedModule& planned : plan->modules) {
      const auto found = modules.find(planned.name);
      if (found == modules.end()) {
        Problem("plan and files", fmt::format("{}: planned, but not in the files", planned.name));
        continue;
      }
      found->second->planned = StoredFormOf(planned.choice);
      if (*found->second->planned != found->second->stored) {
        Problem("plan and files",
                fmt::format("{}: planned as {}, the file has it as {}", planned.name,
                            ChoiceName(planned.choice), found->second->stored.Name()));
      }
      if (found->second->bytes > planned.bytes) {
        Problem("plan and files", fmt::format("{}: {} bytes planned, {} in the file", planned.name,
                                              planned.bytes, found->second->bytes));
      }
    }
    if (plan->modules.size() != modules.size()) {
      Problem("plan and files", fmt::format("plan.json has {} modules, the files {}",
                                            plan->modules.size(), modules.size()));
    }
    if (report_.file_bytes > plan->bytes) {
      Problem("budget", fmt::format("the files take {} bytes, the plan says at most {}",
                                    report_.file_bytes, plan->bytes));
    }
    if (report_.file_bytes > plan->budget_bytes) {
      Problem("budget", fmt::format("the files take {} bytes, the budget was {}",
                                    report_.file_bytes, plan->budget_bytes));
    }
  }

  // Loaders take every model*.safetensors, whatever the index says.
  void CheckFiles() {
    std::set<std::string> known;
    for (const File& shard : checkpoint_.shards()) known.insert(shard.path().filename().string());
    std::error_code error;
    for (fs::directory_iterator it(directory_, error), end; !error && it != end;
         it.increment(error)) {
      const std::string name = it->path().filename().string();
      if (name.starts_with("model") && name.ends_with(".safetensors") && !known.contains(name)) {
        Problem("files", fmt::format("{}: not in the index, but mlx-lm loads it", name));
      }
    }
  }

  const fs::path& directory_;
  const Checkpoint& checkpoint_;
  std::optional<Catalog> catalog_;
  std::map<std::string, const CatalogTensor*> by_name_;
  std::map<std::string, size_t> problem_counts_;
  VerifiedModel report_;
};

}  // namespace

double VerifiedModel::bits_per_weight() const {
  return num_weights == 0
             ? 0
             : 8 * static_cast<double>(tensor_bytes) / static_cast<double>(num_weights);
}

Result<VerifiedModel> VerifyModel(const fs::path& directory) {
  auto checkpoint = Checkpoint::Open(directory);
  if (!checkpoint) return checkpoint.error();
  return Verifier(directory, *checkpoint).Run();
}

}  // namespace ram
