#include "ram/family/tensor_layout.h"

#include <fmt/format.h>

#include <utility>

#include "ram/base/bytes.h"

namespace ram {
namespace {

constexpr uint64_t kMaxWeights = uint64_t{1} << 48;

bool IsExpert(Origin origin) {
  return origin >= Origin::kExpertGate && origin <= Origin::kExpertDownBias;
}

// Index of the part that an expert tensor is: gate, up, down.
size_t PartOf(Origin origin) {
  switch (origin) {
    case Origin::kExpertGate:
    case Origin::kExpertGateBias:
      return 0;
    case Origin::kExpertUp:
    case Origin::kExpertUpBias:
      return 1;
    case Origin::kExpertDown:
    case Origin::kExpertDownBias:
      return 2;
    default:
      RAM_CHECK(false);
  }
}

TensorClass ClassIn(const Row& row, const LayerShape* layer, const ModelShape& shape) {
  using enum TensorClass;
  if (row.kind == TensorKind::kEmbedding) return shape.tied ? kTiedEmbedding : kEmbedding;
  const bool is_mlp =
      row.tensor_class == kGate || row.tensor_class == kUp || row.tensor_class == kDown;
  if (is_mlp && layer != nullptr && layer->before_experts) return kFirstDense;
  return row.tensor_class;
}

constexpr Row kEmbeddingRow = {"embed_tokens.weight",
                               TensorKind::kEmbedding,
                               TensorClass::kEmbedding,
                               {Dim::kVocabulary, Dim::kHidden}};
constexpr Row kFinalNormRow = {"norm.weight",   TensorKind::kVector, TensorClass::kOther,
                               {Dim::kHidden},  When::kAlways,       Origin::kSame,
                               /*is_norm=*/true};
constexpr Row kHeadRow = {
    "", TensorKind::kLinear, TensorClass::kHead, {Dim::kVocabulary, Dim::kHidden}};

class Layouter {
 public:
  Layouter(const ModelShape& shape, std::string_view where) : shape_(shape), where_(where) {}

  Status Add(const Row& row, std::string name, int layer) {
    if (!shape_.is(row.when)) return Done{};
    Slot slot;
    slot.row = &row;
    CatalogTensor& tensor = slot.tensor;
    tensor.name = std::move(name);
    tensor.kind = row.kind;
    tensor.layer = layer;
    tensor.tensor_class =
        ClassIn(row, layer < 0 ? nullptr : &shape_.layers[static_cast<size_t>(layer)], shape_);
    uint64_t weights = 1;
    for (const Dim dim : row.shape) {
      if (dim == Dim::kNone) break;
      const uint64_t size = shape_.dim(dim);
      RAM_CHECK(size > 0);
      tensor.shape.push_back(size);
      weights = CheckedMul(weights, size).value_or(kMaxWeights + 1);
      if (weights > kMaxWeights) {
        return Error{
            ErrorCode::kCorrupt,
            fmt::format("{}: tensor {} would have more than 2^48 weights", where_, tensor.name)};
      }
    }
    switch (row.kind) {
      case TensorKind::kSwitch:
      case TensorKind::kMulti:
        tensor.rows = tensor.shape[1];
        tensor.cols = tensor.shape[2];
        break;
      case TensorKind::kEmbedding:
      case TensorKind::kLinear:
      case TensorKind::kRouter:
      case TensorKind::kRouterRaw:
        tensor.rows = tensor.shape[0];
        tensor.cols = tensor.shape[1];
        break;
      case TensorKind::kVector:
      case TensorKind::kVector32:
      case TensorKind::kConv:
        tensor.cols = weights;
        break;
    }
    if (row.kind == TensorKind::kVector32) {
      tensor.dtype = Dtype::kF32;
    } else if (shape_.stated_dtype == Dtype::kF16) {
      tensor.dtype = Dtype::kF16;
    }
    slots_.push_back(std::move(slot));
    return Done{};
  }

  Status AddBlock(Block block, int layer) {
    const Family& family = *shape_.family;
    for (const Row& row : block) {
      const std::string name =
          IsExpert(row.origin) ? fmt::format("{}layers.{}.{}.{}", family.mlx_root, layer,
                                             family.experts.mlx, row.name)
                               : fmt::format("{}layers.{}.{}", family.mlx_root, layer, row.name);
      RAM_RETURN_IF_ERROR(Add(row, name, layer));
    }
    return Done{};
  }

  std::vector<Slot> Take() { return std::move(slots_); }

 private:
  const ModelShape& shape_;
  std::string_view where_;
  std::vector<Slot> slots_;
};

}  // namespace

Result<std::vector<Slot>> LayOutTensors(const ModelShape& shape, std::string_view where) {
  const Family& family = *shape.family;
  Layouter layouter(shape, where);
  const auto outside = [&](const Row& row) {
    return fmt::format("{}{}", family.mlx_root, row.name);
  };
  RAM_RETURN_IF_ERROR(layouter.Add(kEmbeddingRow, outside(kEmbeddingRow), /*layer=*/-1));
  for (size_t i = 0; i < shape.layers.size(); ++i) {
    const LayerShape& layer = shape.layers[i];
    const int number = static_cast<int>(i);
    if (layer.attention == LayerAttention::kLinear) {
      RAM_RETURN_IF_ERROR(layouter.AddBlock(family.linear_attention, number));
    } else {
      for (const Block block : family.attention) {
        RAM_RETURN_IF_ERROR(layouter.AddBlock(block, number));
      }
    }
    RAM_RETURN_IF_ERROR(layouter.AddBlock(family.norms, number));
    if (layer.has_experts) {
      for (const Block block : family.moe) RAM_RETURN_IF_ERROR(layouter.AddBlock(block, number));
    } else {
      RAM_RETURN_IF_ERROR(layouter.AddBlock(family.dense, number));
    }
  }
  RAM_RETURN_IF_ERROR(layouter.Add(kFinalNormRow, outside(kFinalNormRow), /*layer=*/-1));
  if (!shape.tied) {
    RAM_RETURN_IF_ERROR(layouter.Add(kHeadRow, std::string(family.mlx_head), /*layer=*/-1));
  }
  return layouter.Take();
}

uint64_t NumMatrices(const Slot& slot) {
  const TensorKind kind = slot.tensor.kind;
  return kind == TensorKind::kSwitch || kind == TensorKind::kMulti ? slot.tensor.shape[0] : 1;
}

SourceNames PublishedNames(const ModelShape& shape) {
  const Family& family = *shape.family;
  // A flat config belongs to a text model, whose names have no part for the language model.
  const bool text_only = family.nesting == Family::Nesting::kEither && !shape.nested;
  return SourceNames{text_only ? "model." : std::string(family.source_roots.front()),
                     text_only ? "lm_head.weight" : std::string(family.source_heads.front())};
}

std::string SourceName(const Slot& slot, const ModelShape& shape, const SourceNames& names) {
  const Family& family = *shape.family;
  if (slot.row->tensor_class == TensorClass::kHead) return names.head;
  if (slot.tensor.layer < 0) return names.root + std::string(slot.row->name);
  std::string_view below = slot.row->name;
  std::string_view front;
  if (names.use_alias && below.starts_with(family.alias.key)) {
    front = family.alias.value;
    below.remove_prefix(family.alias.key.size());
  }
  return fmt::format("{}layers.{}.{}{}", names.root, slot.tensor.layer, front, below);
}

std::string ExpertPath(int layer, const ModelShape& shape, const SourceNames& names) {
  const Family& family = *shape.family;
  std::string_view below = family.experts.source;
  std::string_view front;
  if (names.use_alias && below.starts_with(family.alias.key)) {
    front = family.alias.value;
    below.remove_prefix(family.alias.key.size());
  }
  return fmt::format("{}layers.{}.{}{}", names.root, layer, front, below);
}

std::vector<SourceView> PlainViews(const Slot& slot, const std::string& source) {
  const CatalogTensor& tensor = slot.tensor;
  std::vector<SourceView> views;
  const uint64_t matrices = NumMatrices(slot);
  views.reserve(matrices);
  for (uint64_t i = 0; i < matrices; ++i) {
    views.push_back({source, i * tensor.rows * tensor.cols, tensor.cols, 1});
  }
  return views;
}

std::vector<SourceView> ExpertViews(const Slot& slot, const ModelShape& shape,
                                    std::string_view path, ExpertForm form) {
  const ExpertNames& experts = shape.family->experts;
  const size_t part = PartOf(slot.row->origin);
  const bool is_down = part == 2;
  const bool is_bias = slot.tensor.kind == TensorKind::kVector;
  const uint64_t hidden = shape.dim(Dim::kHidden);
  const uint64_t intermediate = shape.dim(Dim::kExpertIntermediate);
  // Position of row i of gate (part 0) or up (part 1) on the fused axis: first + i * step.
  const uint64_t step = experts.interleaved ? 2 : 1;
  const uint64_t first = part * (experts.interleaved ? 1 : intermediate);

  if (is_bias) {
    if (form == ExpertForm::kStacked) {
      return PlainViews(slot, fmt::format("{}.{}", path, slot.row->name));
    }
    std::string source = fmt::format("{}.{}_bias", path, is_down ? "down_proj" : "gate_up_proj");
    if (is_down) return PlainViews(slot, source);
    RAM_CHECK(experts.interleaved);  // Halves of [E, 2I] would not be one view.
    return {{std::move(source), first, /*row_stride=*/0, step}};
  }

  std::vector<SourceView> views;
  const uint64_t num_experts = NumMatrices(slot);
  views.reserve(num_experts);
  for (uint64_t e = 0; e < num_experts; ++e) {
    switch (form) {
      case ExpertForm::kPerExpert:
        views.push_back(
            {fmt::format("{}.{}.{}.weight", path, e, experts.parts[part]), 0, slot.tensor.cols, 1});
        break;
      case ExpertForm::kStacked:
        views.push_back({fmt::format("{}.{}", path, slot.row->name), e * intermediate * hidden,
                         slot.tensor.cols, 1});
        break;
      case ExpertForm::kFusedOutMajor:
      case ExpertForm::kMxfp4: {
        const std::string_view suffix = form == ExpertForm::kMxfp4 ? "_blocks" : "";
        if (is_down) {
          views.push_back({fmt::format("{}.down_proj{}", path, suffix), e * hidden * intermediate,
                           intermediate, 1});
        } else {
          views.push_back({fmt::format("{}.gate_up_proj{}", path, suffix),
                           (e * 2 * intermediate + first) * hidden, step * hidden, 1});
        }
        break;
      }
      case ExpertForm::kFusedInMajor:
        if (is_down) {
          views.push_back({fmt::format("{}.down_proj", path), e * hidden * intermediate,
                           /*row_stride=*/1, /*col_stride=*/hidden});
        } else {
          views.push_back({fmt::format("{}.gate_up_proj", path),
                           e * hidden * 2 * intermediate + first, /*row_stride=*/step,
                           /*col_stride=*/2 * intermediate});
        }
        break;
    }
  }
  return views;
}

std::vector<SourceView> KvBViews(const Slot& slot, const ModelShape& shape,
                                 const std::string& source) {
  const uint64_t rank = shape.dim(Dim::kKvRank);
  const uint64_t nope = shape.dim(Dim::kNope);
  const uint64_t rows_per_head = nope + shape.dim(Dim::kMlaV);
  const uint64_t heads = shape.dim(Dim::kHeads);
  const bool is_keys = slot.row->origin == Origin::kKvBKeys;
  std::vector<SourceView> views;
  views.reserve(heads);
  for (uint64_t head = 0; head < heads; ++head) {
    const uint64_t top = head * rows_per_head;
    if (is_keys) {
      views.push_back({source, top * rank, /*row_stride=*/1, /*col_stride=*/rank});
    } else {
      views.push_back({source, (top + nope) * rank, /*row_stride=*/rank, /*col_stride=*/1});
    }
  }
  return views;
}

std::vector<SourceView> PublishedViews(const Slot& slot, const ModelShape& shape,
                                       const SourceNames& names) {
  switch (slot.row->origin) {
    case Origin::kSame:
    case Origin::kConv:
      return PlainViews(slot, SourceName(slot, shape, names));
    case Origin::kExpertGate:
    case Origin::kExpertUp:
    case Origin::kExpertDown:
    case Origin::kExpertGateBias:
    case Origin::kExpertUpBias:
    case Origin::kExpertDownBias:
      return ExpertViews(slot, shape, ExpertPath(slot.tensor.layer, shape, names),
                         shape.family->experts.published);
    case Origin::kKvBKeys:
    case Origin::kKvBValues:
      return KvBViews(
          slot, shape,
          fmt::format("{}layers.{}.self_attn.kv_b_proj.weight", names.root, slot.tensor.layer));
  }
  RAM_CHECK(false);
}

Catalog CatalogHead(const ModelShape& shape) {
  Catalog catalog;
  catalog.model_type = shape.model_type;
  catalog.family = shape.family->name;
  catalog.num_layers = static_cast<int>(shape.layers.size());
  catalog.hidden_size = shape.dim(Dim::kHidden);
  catalog.vocabulary = shape.dim(Dim::kVocabulary);
  catalog.max_context = shape.max_context;
  catalog.tied = shape.tied;
  catalog.state = StateSizeOf(shape);
  catalog.notes = shape.notes;
  catalog.dtype = shape.stated_dtype == Dtype::kF16 ? Dtype::kF16 : Dtype::kBF16;
  return catalog;
}

}  // namespace ram
