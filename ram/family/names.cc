// The words for kinds and classes that reports, plans and rate tables use.

#include <algorithm>
#include <array>

#include "ram/family/catalog.h"

namespace ram {
namespace {

constexpr std::array<std::string_view, 9> kKindNames = {
    "embedding", "linear", "router", "switch", "multi", "router_raw", "vector", "vector32", "conv",
};

constexpr std::array<std::string_view, 26> kClassNames = {
    "other",
    "embedding",
    "tied_embedding",
    "head",
    "q",
    "k",
    "v",
    "o",
    "gate",
    "up",
    "down",
    "expert_gate",
    "expert_up",
    "expert_down",
    "shared_expert",
    "first_dense",
    "mla_kv_a",
    "mla_embed_q",
    "mla_unembed_out",
    "mla_q_a",
    "mla_q_b",
    "linear_qkv",
    "linear_gate",
    "linear_out",
    "linear_alpha_beta",
    "router",
};
static_assert(kKindNames.size() == static_cast<size_t>(TensorKind::kConv) + 1);
static_assert(kClassNames.size() == static_cast<size_t>(TensorClass::kRouter) + 1);

}  // namespace

std::string_view KindName(TensorKind kind) { return kKindNames[static_cast<size_t>(kind)]; }

bool IsQuantizable(TensorKind kind) {
  switch (kind) {
    case TensorKind::kEmbedding:
    case TensorKind::kLinear:
    case TensorKind::kRouter:
    case TensorKind::kSwitch:
    case TensorKind::kMulti:
      return true;
    case TensorKind::kRouterRaw:
    case TensorKind::kVector:
    case TensorKind::kVector32:
    case TensorKind::kConv:
      return false;
  }
  RAM_CHECK(false);
}

bool IsMatrix(TensorKind kind) { return IsQuantizable(kind) || kind == TensorKind::kRouterRaw; }

std::string_view ClassName(TensorClass tensor_class) {
  return kClassNames[static_cast<size_t>(tensor_class)];
}

std::optional<TensorClass> ParseClass(std::string_view name) {
  const auto found = std::ranges::find(kClassNames, name);
  if (found == kClassNames.end()) return std::nullopt;
  return static_cast<TensorClass>(found - kClassNames.begin());
}

std::string CatalogTensor::module() const {
  constexpr std::string_view kSuffix = ".weight";
  return name.ends_with(kSuffix) ? name.substr(0, name.size() - kSuffix.size()) : name;
}

uint64_t Catalog::num_weights() const {
  uint64_t total = 0;
  for (const CatalogTensor& tensor : tensors) total += tensor.num_weights();
  return total;
}

}  // namespace ram
