// Ties the tensors of a catalog to those of a checkpoint. Every tensor of the checkpoint is either
// used, or dropped for a reason that the catalog lists, or an error: nothing is lost silently.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ram/base/bytes.h"
#include "ram/family/bind_packed.h"
#include "ram/family/catalog.h"
#include "ram/family/model_shape.h"
#include "ram/family/stored_form.h"
#include "ram/family/tensor_layout.h"

namespace ram {
namespace {

using Shape = std::vector<uint64_t>;

constexpr std::string_view kWeightSuffix = ".weight";

// The path of the module with this weight.
std::string_view ModuleOf(std::string_view name) {
  return name.substr(0, name.size() - kWeightSuffix.size());
}

constexpr uint64_t kFp8Block = 128;
constexpr uint64_t kMxfp4Group = 32;

// Ends of names that only occur in checkpoints that are compressed, and whether a catalog for
// running reads them (bind_packed.cc).
struct CompressedSuffix {
  std::string_view suffix;
  std::string_view format;
  bool runs = false;
};
constexpr CompressedSuffix kCompressedSuffixes[] = {
    {".qweight", "AWQ or GPTQ", true},
    {".qzeros", "AWQ or GPTQ", true},
    {".g_idx", "GPTQ", true},
    {".weight_packed", "compressed-tensors"},
    {".weight_shape", "compressed-tensors"},
    {".weight_scale", "compressed-tensors or ModelOpt"},
    {".weight_scale_2", "ModelOpt"},
    {".absmax", "bitsandbytes"},
    {".quant_map", "bitsandbytes"},
    {".scales", "MLX", true},
    {".biases", "MLX", true},
};

// Tensors of any family that carry nothing a model needs once its weights are read.
constexpr DropRule kIgnorable[] = {
    {DropRule::Match::kContains, "rotary_emb.inv_freq", "rotary frequencies, which are computed"},
    {DropRule::Match::kSuffix, ".input_scale", "scale of quantized activations"},
    {DropRule::Match::kSuffix, ".activation_scale", "scale of quantized activations"},
    {DropRule::Match::kSuffix, ".k_scale", "scale of a quantized cache"},
    {DropRule::Match::kSuffix, ".v_scale", "scale of a quantized cache"},
};

bool Matches(const DropRule& rule, std::string_view name) {
  switch (rule.match) {
    case DropRule::Match::kPrefix:
      return name.starts_with(rule.text);
    case DropRule::Match::kSuffix:
      return name.ends_with(rule.text);
    case DropRule::Match::kContains:
      return name.find(rule.text) != std::string_view::npos;
  }
  RAM_CHECK(false);
}

uint64_t CeilDiv(uint64_t a, uint64_t b) { return (a + b - 1) / b; }

// [..., rows, cols] -> [..., rows / 128, cols / 128], both rounded up.
Shape Fp8ScaleShape(Shape shape) {
  for (const size_t back : {size_t{1}, size_t{2}}) {
    uint64_t& size = shape[shape.size() - back];
    size = CeilDiv(size, kFp8Block);
  }
  return shape;
}

enum class Purpose : uint8_t { kCompress, kRun };

// A source that is already compressed cannot be the yardstick for what compression costs. FP8 in
// blocks and MXFP4 are how some models are published, so they are read. For running only methods
// that nothing here decodes are refused.
Status RefuseCompressedSource(const Json& config, std::string_view where, Purpose purpose) {
  if (Find(config, "quantization") != nullptr) {
    return Error{ErrorCode::kUnsupported,
                 fmt::format("{}: the source is already quantized for MLX (key \"quantization\"); "
                             "give the checkpoint it was made from",
                             where)};
  }
  const Json* quantization = FindQuantizationConfig(config);
  if (quantization == nullptr) return Done{};
  const Json* method = Find(*quantization, "quant_method");
  const std::string name =
      method != nullptr && method->is_string() ? method->get<std::string>() : "unnamed";
  if (name == "mxfp4") return Done{};
  if (name == "fp8") {
    const Json* block = Find(*quantization, "weight_block_size");
    if (block != nullptr && *block == Json::array({128, 128})) return Done{};
    return Error{ErrorCode::kUnsupported,
                 fmt::format("{}: quant_method \"fp8\" with weight_block_size {} is not supported; "
                             "only blocks of [128, 128] are",
                             where, block != nullptr ? Excerpt(*block) : "missing")};
  }
  if (purpose == Purpose::kRun) {
    return Error{ErrorCode::kUnsupported,
                 fmt::format("{}: quant_method {} is not read; BF16, F16, F32, FP8 blocks, MXFP4, "
                             "MLX, GPTQ and AWQ are",
                             where, Excerpt(Json(name)))};
  }
  return Error{ErrorCode::kUnsupported,
               fmt::format("{}: the source is already compressed (quant_method {}); give a "
                           "checkpoint in BF16, F16, F32, FP8 blocks or MXFP4",
                           where, Excerpt(Json(name)))};
}

class Binder {
 public:
  Binder(const Checkpoint& checkpoint, ModelShape shape, std::string where, Purpose purpose,
         PackedConfig packed)
      : checkpoint_(checkpoint),
        shape_(std::move(shape)),
        family_(*shape_.family),
        where_(std::move(where)),
        runs_(purpose == Purpose::kRun),
        packed_(std::move(packed)),
        used_(checkpoint.tensors().size(), false) {}

  Result<Catalog> Bind() {
    RAM_RETURN_IF_ERROR(RefuseCompressedTensors());
    RAM_RETURN_IF_ERROR(FindNames());
    RAM_ASSIGN_OR_RETURN(std::vector<Slot> slots, LayOutTensors(shape_, where_));
    FindAlias(slots);
    plus_one_ = family_.norms_plus_one && IsUnconverted();
    for (Slot& slot : slots) {
      RAM_RETURN_IF_ERROR(BindSlot(slot));
      slot.tensor.add_one = plus_one_ && slot.row->is_norm;
    }
    Catalog catalog = CatalogHead(shape_);
    RAM_RETURN_IF_ERROR(ListDropped(catalog));
    catalog.dtype = ResultingDtype();
    if (!runs_) RAM_RETURN_IF_ERROR(NoteMissingKeys(catalog));
    catalog.tensors.reserve(slots.size());
    for (Slot& slot : slots) {
      if (runs_) {
        if (!IsMatrix(slot.tensor.kind)) slot.tensor.dtype = Dtype::kF32;
      } else if (slot.tensor.kind != TensorKind::kVector32) {
        slot.tensor.dtype = catalog.dtype;
      }
      catalog.tensors.push_back(std::move(slot.tensor));
    }
    return catalog;
  }

 private:
  // ---- Messages ----

  std::string FileOf(const TensorInfo& info) const {
    return checkpoint_.shards()[info.shard].path().filename().string();
  }

  Error Missing(std::string_view name, std::string_view hint = "") const {
    return Error{ErrorCode::kCorrupt, fmt::format("{}: tensor {} is missing{}",
                                                  checkpoint_.directory().string(), name, hint)};
  }

  Error WrongShape(const TensorInfo& info, std::string_view expected) const {
    return Error{ErrorCode::kCorrupt,
                 fmt::format("{}: tensor {} has shape {}, expected {}", FileOf(info), info.name,
                             ShapeText(info.shape), expected)};
  }

  Error WrongDtype(const TensorInfo& info, std::string_view expected) const {
    return Error{ErrorCode::kUnsupported,
                 fmt::format("{}: tensor {} is {}, expected {}", FileOf(info), info.name,
                             DtypeName(info.dtype), expected)};
  }

  // ---- What the checkpoint looks like ----

  Status RefuseCompressedTensors() const {
    for (const TensorInfo& info : checkpoint_.tensors()) {
      for (const auto& [suffix, format, runs] : kCompressedSuffixes) {
        if (!info.name.ends_with(suffix)) continue;
        if (runs && packed_.method != PackedConfig::Method::kNone) continue;
        if (runs && runs_) {
          return Error{ErrorCode::kCorrupt,
                       fmt::format("{}: tensor {} belongs to a quantized model ({}), but "
                                   "config.json does not say how it is quantized",
                                   FileOf(info), info.name, format)};
        }
        return Error{ErrorCode::kUnsupported,
                     fmt::format("{}: tensor {} belongs to a checkpoint that is already compressed "
                                 "({}); give one in BF16, F16, F32, FP8 blocks or MXFP4",
                                 FileOf(info), info.name, format)};
      }
    }
    return Done{};
  }

  // Whether GPTQ or AWQ store this weight.
  bool IsInMajor(std::string_view name) const {
    return runs_ && name.ends_with(kWeightSuffix) &&
           checkpoint_.Find(fmt::format("{}.qweight", ModuleOf(name))) != nullptr;
  }

  // The root and the head are the first of the family's that exist.
  Status FindNames() {
    names_ = PublishedNames(shape_);
    const auto root = std::ranges::find_if(family_.source_roots, [&](std::string_view candidate) {
      return checkpoint_.Find(fmt::format("{}embed_tokens.weight", candidate)) != nullptr;
    });
    if (root == family_.source_roots.end()) return Missing(names_.root + "embed_tokens.weight");
    names_.root = *root;
    const auto head = std::ranges::find_if(family_.source_heads, [&](std::string_view candidate) {
      return checkpoint_.Find(candidate) != nullptr || IsInMajor(candidate);
    });
    const bool has_head = head != family_.source_heads.end();
    if (has_head) names_.head = *head;
    if (family_.tying == TyingRule::kByFile) shape_.tied = !has_head;
    if (!has_head && family_.tying == TyingRule::kNever && shape_.config_ties) {
      names_.head = names_.root + "embed_tokens.weight";
      shape_.notes.push_back(
          fmt::format("the embedding is stored twice: this checkpoint ties it to the head, which "
                      "mlx-lm does not do for {}",
                      family_.name));
    }
    return Done{};
  }

  void FindAlias(const std::vector<Slot>& slots) {
    if (family_.alias.key.empty()) return;
    SourceNames other = names_;
    other.use_alias = true;
    for (const Slot& slot : slots) {
      if (slot.row->origin != Origin::kSame || !slot.row->name.starts_with(family_.alias.key)) {
        continue;
      }
      names_.use_alias = checkpoint_.Find(SourceName(slot, shape_, names_)) == nullptr &&
                         checkpoint_.Find(SourceName(slot, shape_, other)) != nullptr;
      return;
    }
  }

  // Whether the convolutions have the layout of the authors and not yet MLX's: then nobody has
  // added 1 to the norms either. mlx-lm tells the same from the same (qwen3_5), or from the experts
  // not being stacked (qwen3_next), which comes to the same in every file that exists whole.
  bool IsUnconverted() const {
    return std::ranges::any_of(checkpoint_.tensors(), [](const TensorInfo& info) {
      return info.name.find("conv1d.weight") != std::string::npos && !info.shape.empty() &&
             info.shape.back() != 1;
    });
  }

  // ---- Sources ----

  // Finds a tensor and checks its shape against any of `shapes`.
  Result<const TensorInfo*> Take(std::string_view name, std::initializer_list<Shape> shapes,
                                 std::string_view hint = "") {
    const TensorInfo* info = checkpoint_.Find(name);
    if (info == nullptr) return Missing(name, hint);
    if (std::ranges::find(shapes, info->shape) == shapes.end()) {
      std::string expected;
      for (const Shape& shape : shapes) {
        expected += (expected.empty() ? "" : " or ") + ShapeText(shape);
      }
      return WrongShape(*info, expected);
    }
    Use(*info);
    return info;
  }

  void Use(const TensorInfo& info) {
    used_[static_cast<size_t>(&info - checkpoint_.tensors().data())] = true;
  }

  // Sets encoding and scales of `tensor` from the tensor that its next view reads.
  // `weights` of it belong to this view.
  Status AddSource(CatalogTensor& tensor, const TensorInfo& info, uint64_t weights) {
    Encoding encoding = Encoding::kPlain;
    uint64_t bytes = 0;
    if (runs_) {
      const Dtype dtype = info.dtype == Dtype::kF8E4M3 ? Dtype::kF32 : info.dtype;
      const bool is_first = tensor.source_bytes == 0;
      tensor.dtype = is_first || tensor.dtype == dtype ? dtype : Dtype::kF32;
    }
    switch (info.dtype) {
      case Dtype::kBF16:
      case Dtype::kF16:
      case Dtype::kF32:
        has_f16_ |= info.dtype == Dtype::kF16;
        has_bf16_ |= info.dtype == Dtype::kBF16;
        bytes = weights * static_cast<uint64_t>(BitsOf(info.dtype)) / 8;
        break;
      case Dtype::kF8E4M3: {
        if (info.shape.size() < 2) return WrongDtype(info, "BF16, F16 or F32 for a vector");
        encoding = Encoding::kFp8Block;
        RAM_ASSIGN_OR_RETURN(const TensorInfo* scale,
                             Take(info.name + "_scale_inv", {Fp8ScaleShape(info.shape)},
                                  "; FP8 weights need their scales"));
        if (scale->dtype != Dtype::kF32 && scale->dtype != Dtype::kBF16 &&
            scale->dtype != Dtype::kF16) {
          return WrongDtype(*scale, "F32, BF16 or F16");
        }
        has_bf16_ = true;
        tensor.scale_sources.push_back(scale->name);
        bytes = weights + Share(scale->num_bytes, weights, NumElements(info));
        break;
      }
      default:
        return WrongDtype(info, "BF16, F16, F32 or F8_E4M3 with block scales");
    }
    return AddEncoding(tensor, info, encoding, bytes);
  }

  Status AddEncoding(CatalogTensor& tensor, const TensorInfo& info, Encoding encoding,
                     uint64_t bytes) {
    if (tensor.source_bytes > 0 && tensor.encoding != encoding) {
      return Error{ErrorCode::kUnsupported,
                   fmt::format("{}: tensor {} is stored in another way than the rest of {}",
                               FileOf(info), info.name, tensor.name)};
    }
    tensor.encoding = encoding;
    tensor.source_bytes += bytes;
    return Done{};
  }

  static uint64_t Share(uint64_t bytes, uint64_t part, uint64_t whole) {
    return static_cast<uint64_t>(static_cast<double>(bytes) * static_cast<double>(part) /
                                 static_cast<double>(whole));
  }

  // Binds views [first, first + count) of a tensor to the module of weight `name`, of this shape,
  // if the checkpoint has it packed; false if it has not.
  Result<bool> BindPacked(CatalogTensor& tensor, const std::string& name, const Shape& shape,
                          size_t first, size_t count) {
    if (packed_.method == PackedConfig::Method::kNone || !IsQuantizable(tensor.kind)) return false;
    if (!name.ends_with(kWeightSuffix)) return false;
    RAM_ASSIGN_OR_RETURN(const std::optional<PackedModule> packed,
                         FindPackedModule(checkpoint_, packed_, std::string(ModuleOf(name)),
                                          tensor.module(), shape));
    if (!packed) return false;
    uint64_t bytes = 0;
    for (const TensorInfo* info : packed->parts) {
      Use(*info);
      bytes += info->num_bytes;
    }
    const TensorInfo& codes = *packed->parts.front();
    if (tensor.source_bytes > 0 && tensor.packed != packed->choice) {
      return Error{ErrorCode::kUnsupported,
                   fmt::format("{}: tensor {} is stored as {}, the rest of {} as {}", FileOf(codes),
                               codes.name, StoredFormOf(packed->choice).Name(), tensor.name,
                               StoredFormOf(tensor.packed).Name())};
    }
    RAM_RETURN_IF_ERROR(AddEncoding(tensor, codes, packed->encoding, bytes));
    tensor.packed = packed->choice;
    tensor.dtype = packed->dtype;
    for (size_t i = first; i < first + count; ++i) {
      tensor.views[i].source = packed->source;
      tensor.scale_sources.push_back(packed->scales);
    }
    return true;
  }

  // ---- Slots ----

  Status BindSlot(Slot& slot) {
    switch (slot.row->origin) {
      case Origin::kSame:
        return BindPlain(slot, SourceName(slot, shape_, names_), {slot.tensor.shape});
      case Origin::kConv: {
        const Shape& mlx = slot.tensor.shape;
        return BindPlain(slot, SourceName(slot, shape_, names_), {{mlx[0], 1, mlx[1]}, mlx});
      }
      case Origin::kExpertGate:
      case Origin::kExpertUp:
      case Origin::kExpertDown:
      case Origin::kExpertGateBias:
      case Origin::kExpertUpBias:
      case Origin::kExpertDownBias:
        return BindExperts(slot);
      case Origin::kKvBKeys:
      case Origin::kKvBValues:
        return BindKvB(slot);
    }
    RAM_CHECK(false);
  }

  Status BindPlain(Slot& slot, const std::string& name, std::initializer_list<Shape> shapes) {
    slot.tensor.views = PlainViews(slot, name);
    RAM_ASSIGN_OR_RETURN(const bool is_packed, BindPacked(slot.tensor, name, slot.tensor.shape, 0,
                                                          slot.tensor.views.size()));
    if (is_packed) return Done{};
    RAM_ASSIGN_OR_RETURN(const TensorInfo* info, Take(name, shapes));
    for (size_t i = 0; i < slot.tensor.views.size(); ++i) {
      RAM_RETURN_IF_ERROR(AddSource(slot.tensor, *info, slot.tensor.rows * slot.tensor.cols));
    }
    return Done{};
  }

  Status BindKvB(Slot& slot) {
    const std::string layer = fmt::format("{}layers.{}.", names_.root, slot.tensor.layer);
    const std::string converted = layer + std::string(slot.row->name);
    if (checkpoint_.Find(converted) != nullptr) {
      return BindPlain(slot, converted, {slot.tensor.shape});
    }
    const uint64_t rows =
        shape_.dim(Dim::kHeads) * (shape_.dim(Dim::kNope) + shape_.dim(Dim::kMlaV));
    const std::string name = layer + "self_attn.kv_b_proj.weight";
    const Shape shape = {rows, shape_.dim(Dim::kKvRank)};
    slot.tensor.views = KvBViews(slot, shape_, name);
    if (packed_.method == PackedConfig::Method::kMlx) {
      if (const TensorInfo* scales = checkpoint_.Find(layer + "self_attn.kv_b_proj.scales")) {
        return Error{
            ErrorCode::kUnsupported,
            fmt::format("{}: tensor {} belongs to a kv_b_proj that was quantized whole, by "
                        "an old mlx-lm; convert the model again",
                        FileOf(*scales), scales->name)};
      }
    } else {
      RAM_ASSIGN_OR_RETURN(const bool is_packed,
                           BindPacked(slot.tensor, name, shape, 0, slot.tensor.views.size()));
      if (is_packed) return Done{};
    }
    RAM_ASSIGN_OR_RETURN(const TensorInfo* info, Take(name, {shape}));
    for (size_t i = 0; i < slot.tensor.views.size(); ++i) {
      RAM_RETURN_IF_ERROR(AddSource(slot.tensor, *info, slot.tensor.rows * slot.tensor.cols));
    }
    return Done{};
  }

  // ---- Experts ----

  struct LayerExperts {
    int layer = -1;
    ExpertForm form = ExpertForm::kPerExpert;
    std::string path;
  };

  Status FindExperts(int layer) {
    if (experts_.layer == layer) return Done{};
    experts_ = {layer, ExpertForm::kPerExpert, ExpertPath(layer, shape_, names_)};
    const std::string stacked =
        fmt::format("{}layers.{}.{}", names_.root, layer, family_.experts.mlx);
    if (checkpoint_.Find(experts_.path + ".gate_up_proj_blocks") != nullptr) {
      experts_.form = ExpertForm::kMxfp4;
    } else if (checkpoint_.Find(experts_.path + ".gate_up_proj") != nullptr) {
      return FindOrientation();
    } else if (checkpoint_.Find(stacked + ".gate_proj.weight") != nullptr) {
      experts_.form = ExpertForm::kStacked;
      experts_.path = stacked;
    }
    return Done{};
  }

  // Whether the rows of a fused tensor are outputs or inputs. One of the two tensors may be square,
  // never both: 2I = H and H = I exclude each other.
  Status FindOrientation() {
    const uint64_t e = shape_.dim(Dim::kExperts);
    const uint64_t i = shape_.dim(Dim::kExpertIntermediate);
    const uint64_t h = shape_.dim(Dim::kHidden);
    const std::string down_name = experts_.path + ".down_proj";
    const TensorInfo* gate_up = checkpoint_.Find(experts_.path + ".gate_up_proj");
    const TensorInfo* down = checkpoint_.Find(down_name);
    if (down == nullptr) return Missing(down_name);
    const bool gate_up_out = gate_up->shape == Shape{e, 2 * i, h};
    const bool gate_up_in = gate_up->shape == Shape{e, h, 2 * i};
    const bool down_out = down->shape == Shape{e, h, i};
    const bool down_in = down->shape == Shape{e, i, h};
    if (!gate_up_out && !gate_up_in) {
      return WrongShape(
          *gate_up, fmt::format("{} or {}", ShapeText({e, 2 * i, h}), ShapeText({e, h, 2 * i})));
    }
    if (!(gate_up_out && down_out) && !(gate_up_in && down_in)) {
      return WrongShape(*down, ShapeText(gate_up_out ? Shape{e, h, i} : Shape{e, i, h}));
    }
    experts_.form =
        gate_up_out && down_out ? ExpertForm::kFusedOutMajor : ExpertForm::kFusedInMajor;
    return Done{};
  }

  Status BindExperts(Slot& slot) {
    RAM_RETURN_IF_ERROR(FindExperts(slot.tensor.layer));
    CatalogTensor& tensor = slot.tensor;
    tensor.views = ExpertViews(slot, shape_, experts_.path, experts_.form);
    const uint64_t e = shape_.dim(Dim::kExperts);
    const uint64_t i = shape_.dim(Dim::kExpertIntermediate);
    const uint64_t h = shape_.dim(Dim::kHidden);
    const uint64_t weights = tensor.rows * tensor.cols;
    const bool is_down = slot.row->origin == Origin::kExpertDown;
    if (tensor.kind == TensorKind::kVector) {  // Biases of all experts: one view.
      const Shape fused = {e, tensor.views[0].col_stride == 2 ? 2 * i : tensor.shape[1]};
      RAM_ASSIGN_OR_RETURN(const TensorInfo* info, Take(tensor.views[0].source, {fused}));
      return AddSource(tensor, *info, weights);
    }
    if (experts_.form == ExpertForm::kStacked) {
      const std::string name = tensor.views[0].source;
      RAM_ASSIGN_OR_RETURN(const bool is_packed,
                           BindPacked(tensor, name, tensor.shape, 0, tensor.views.size()));
      if (is_packed) return Done{};
    }
    for (size_t expert = 0; expert < tensor.views.size(); ++expert) {
      const std::string name = tensor.views[expert].source;
      switch (experts_.form) {
        case ExpertForm::kPerExpert: {
          RAM_ASSIGN_OR_RETURN(const bool is_packed,
                               BindPacked(tensor, name, {tensor.rows, tensor.cols}, expert, 1));
          if (is_packed) break;
          const std::string hint =
              fmt::format(": layer {}, expert {} of {}", tensor.layer, expert, e);
          RAM_ASSIGN_OR_RETURN(const TensorInfo* info,
                               Take(name, {{tensor.rows, tensor.cols}}, hint));
          RAM_RETURN_IF_ERROR(AddSource(tensor, *info, weights));
          break;
        }
        case ExpertForm::kStacked: {
          RAM_ASSIGN_OR_RETURN(const TensorInfo* info, Take(name, {tensor.shape}));
          RAM_RETURN_IF_ERROR(AddSource(tensor, *info, weights));
          break;
        }
        case ExpertForm::kFusedOutMajor:
        case ExpertForm::kFusedInMajor: {
          const TensorInfo* info = checkpoint_.Find(name);  // FindOrientation has seen it.
          Use(*info);
          RAM_RETURN_IF_ERROR(AddSource(tensor, *info, weights));
          break;
        }
        case ExpertForm::kMxfp4:
          RAM_RETURN_IF_ERROR(AddMxfp4(tensor, name, e, is_down ? h : 2 * i, is_down ? i : h));
          break;
      }
    }
    return Done{};
  }

  Status AddMxfp4(CatalogTensor& tensor, const std::string& blocks_name, uint64_t experts,
                  uint64_t rows, uint64_t cols) {
    constexpr std::string_view kBlocks = "_blocks";
    if (cols % kMxfp4Group != 0) {
      return Error{ErrorCode::kCorrupt,
                   fmt::format("{}: tensor {} has {} weights in a row, not a multiple of {}",
                               where_, tensor.name, cols, kMxfp4Group)};
    }
    const uint64_t groups = cols / kMxfp4Group;
    RAM_ASSIGN_OR_RETURN(const TensorInfo* blocks,
                         Take(blocks_name, {{experts, rows, groups, kMxfp4Group / 2}}));
    const std::string scales_name =
        blocks_name.substr(0, blocks_name.size() - kBlocks.size()) + "_scales";
    RAM_ASSIGN_OR_RETURN(const TensorInfo* scales, Take(scales_name, {{experts, rows, groups}}));
    for (const TensorInfo* info : {blocks, scales}) {
      if (info->dtype != Dtype::kU8) return WrongDtype(*info, "U8");
    }
    has_bf16_ = true;
    tensor.packed = Choice::Mxfp4();
    tensor.scale_sources.push_back(scales_name);
    const uint64_t weights = tensor.rows * tensor.cols;
    return AddEncoding(tensor, *blocks, Encoding::kMxfp4, weights / 2 + weights / kMxfp4Group);
  }

  // ---- The rest of the checkpoint ----

  std::optional<std::string> DropReason(const TensorInfo& info) const {
    for (const std::span<const DropRule> rules :
         {std::span<const DropRule>(kIgnorable), family_.drops}) {
      for (const DropRule& rule : rules) {
        if (Matches(rule, info.name)) return std::string(rule.reason);
      }
    }
    if (shape_.tied &&
        std::ranges::find(family_.source_heads, info.name) != family_.source_heads.end()) {
      return "tied to the embedding";
    }
    const std::string layers = names_.root + "layers.";
    if (family_.has_mtp_layers && info.name.starts_with(layers)) {
      uint64_t layer = 0;
      const char* digits = info.name.data() + layers.size();
      const auto parsed = std::from_chars(digits, info.name.data() + info.name.size(), layer);
      if (parsed.ec == std::errc() && layer >= shape_.layers.size()) {
        return "multi-token prediction layer";
      }
    }
    return std::nullopt;
  }

  // Early GPTQ writers gave every layer a bias, of zeros where the model has none.
  Result<bool> IsZeroBias(const TensorInfo& info) const {
    constexpr std::string_view kBias = ".bias";
    if (!info.name.ends_with(kBias)) return false;
    const std::string_view module(info.name.data(), info.name.size() - kBias.size());
    if (!IsInMajor(fmt::format("{}.weight", module))) return false;
    std::vector<uint8_t> bytes(info.num_bytes);
    RAM_RETURN_IF_ERROR(checkpoint_.Read(info, 0, bytes));
    return std::ranges::all_of(bytes, [](uint8_t byte) { return byte == 0; });
  }

  Status ListDropped(Catalog& catalog) const {
    const std::vector<TensorInfo>& tensors = checkpoint_.tensors();
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (used_[i]) continue;
      std::optional<std::string> reason = DropReason(tensors[i]);
      if (!reason) {
        RAM_ASSIGN_OR_RETURN(const bool is_zero, IsZeroBias(tensors[i]));
        if (is_zero) reason = "bias of zeros";
      }
      if (!reason) {
        return Error{ErrorCode::kCorrupt,
                     fmt::format("{}: tensor {} {} belongs to no part of a {} with {} layers",
                                 FileOf(tensors[i]), tensors[i].name, ShapeText(tensors[i].shape),
                                 shape_.model_type, shape_.layers.size())};
      }
      catalog.dropped.push_back({tensors[i].name, *std::move(reason), tensors[i].num_bytes});
    }
    return Done{};
  }

  // Keys that shapes do not need, but mlx-lm does: better said now than after hours of work.
  Status NoteMissingKeys(Catalog& catalog) const {
    RAM_ASSIGN_OR_RETURN(const Json output, OutputConfig(checkpoint_.config(), catalog));
    const Json& text = TextConfig(output, family_);
    for (const std::string_view key : family_.required_by_mlx) {
      if (text.contains(key)) continue;
      catalog.notes.push_back(
          fmt::format("{}: key \"{}\" is missing; mlx-lm does not build {} without it", where_, key,
                      family_.name));
    }
    return Done{};
  }

  // One type for the whole model, since mixing BF16 and F16 makes MLX compute in F32.
  Dtype ResultingDtype() const {
    if (shape_.stated_dtype != Dtype::kF32) return shape_.stated_dtype;
    return has_f16_ && !has_bf16_ ? Dtype::kF16 : Dtype::kBF16;
  }

  const Checkpoint& checkpoint_;
  ModelShape shape_;
  const Family& family_;
  std::string where_;
  bool runs_;
  PackedConfig packed_;
  std::vector<bool> used_;
  SourceNames names_;
  LayerExperts experts_;
  bool plus_one_ = false;
  bool has_f16_ = false;
  bool has_bf16_ = false;
};

}  // namespace

Result<Catalog> BindCatalog(const Checkpoint& checkpoint) {
  const std::string where = (checkpoint.directory() / "config.json").string();
  RAM_ASSIGN_OR_RETURN(ModelShape shape, ReadModelShape(checkpoint.config(), where));
  RAM_RETURN_IF_ERROR(RefuseCompressedSource(checkpoint.config(), where, Purpose::kCompress));
  return Binder(checkpoint, std::move(shape), where, Purpose::kCompress, PackedConfig()).Bind();
}

Result<Catalog> BindRunnable(const Checkpoint& checkpoint) {
  const std::string where = (checkpoint.directory() / "config.json").string();
  RAM_ASSIGN_OR_RETURN(ModelShape shape, ReadModelShape(checkpoint.config(), where));
  RAM_ASSIGN_OR_RETURN(PackedConfig packed, ReadPackedConfig(checkpoint.config(), where));
  if (packed.method == PackedConfig::Method::kNone) {
    RAM_RETURN_IF_ERROR(RefuseCompressedSource(checkpoint.config(), where, Purpose::kRun));
  }
  return Binder(checkpoint, std::move(shape), where, Purpose::kRun, std::move(packed)).Bind();
}

}  // namespace ram
