#pragma once

// From the shape of a model to its tensors in the order of writing, and from tensors to the names
// and views under which a checkpoint may store them.

#include <string>
#include <string_view>
#include <vector>

#include "ram/base/result.h"
#include "ram/family/catalog.h"
#include "ram/family/model_shape.h"

namespace ram {

// A tensor of the catalog and the row it came from. `below` is the part of its name below the root
// ("layers.3.mlp.gate.weight"), or below the experts' path for experts.
struct Slot {
  CatalogTensor tensor;
  const Row* row = nullptr;
};

// All tensors with names, shapes, kinds, classes, layers, rows and cols; no views yet. kCorrupt if
// a tensor would have more than 2^48 weights.
Result<std::vector<Slot>> LayOutTensors(const ModelShape& shape, std::string_view where);

// Number of matrices of a slot: experts, heads, or 1.
uint64_t NumMatrices(const Slot& slot);

// Where in a checkpoint the names of a family begin. Normally the first entries of its lists.
struct SourceNames {
  std::string root;        // "model."
  std::string head;        // "lm_head.weight"
  bool use_alias = false;  // Family::alias applies to the names below layers.
};

SourceNames PublishedNames(const ModelShape& shape);

// Name in the checkpoint of a tensor that is stored as it is (Origin::kSame and kConv).
std::string SourceName(const Slot& slot, const ModelShape& shape, const SourceNames& names);

// Path of the experts of a layer in the checkpoint: "model.layers.3.mlp.experts".
std::string ExpertPath(int layer, const ModelShape& shape, const SourceNames& names);

// Views of a slot that is stored as it is: one, contiguous.
std::vector<SourceView> PlainViews(const Slot& slot, const std::string& source);

// Views of an expert tensor (weights or biases) below `path` in the given form.
std::vector<SourceView> ExpertViews(const Slot& slot, const ModelShape& shape,
                                    std::string_view path, ExpertForm form);

// Views of the halves of kv_b_proj [heads * (nope + value), rank], one for each head.
std::vector<SourceView> KvBViews(const Slot& slot, const ModelShape& shape,
                                 const std::string& source);

// The views of the layout that the authors publish.
std::vector<SourceView> PublishedViews(const Slot& slot, const ModelShape& shape,
                                       const SourceNames& names);

// What all layers keep while generating, as mlx-lm does it (state_size.cc).
StateSize StateSizeOf(const ModelShape& shape);

// The catalog without tensors.
Catalog CatalogHead(const ModelShape& shape);

}  // namespace ram
