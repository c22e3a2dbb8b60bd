// Products on AMX tiles. The kernels and their arithmetic: amx_product.h.
//
// Order of the work, for one input and one matrix (limits measured on Sapphire and Emerald Rapids:
// L1 48 KiB, L2 2 MiB; docs/speed.md):
//   1. For affine weights, rows of x become integers and sums of groups, once for all products of a
//      group, in panels of at most kPanelBytes. (f16: the powers of all rows are found.)
//   2. A task takes 512 columns of the result, so that x need not come from L3 too often. It
//      decodes and packs their weights for up to kMaxK of k into its thread's half of L2; the rows
//      sweep over them, 32 at a time. Where weights are not affine, the next rows are read from x
//      and split into parts while some are multiplied: 4 bytes of L3 for each x, where packed parts
//      would be 6, and written once.
//   3. The sums of 32 x 32 leave the tiles after each block of k and are added up in f32: what is
//      not final lies in L3.
// The blocks of k depend on K and the stored form alone, so each element has one order of summation
// whatever the batch and the threads are.

#include "ram/runtime/products_amx.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "ram/base/result.h"
#include "ram/runtime/aligned_memory.h"
#include "ram/runtime/buffer_plan.h"

namespace ram {
namespace {

constexpr size_t kColumns = 512;                        // Of a task, at most.
constexpr size_t kSinkColumns = 256;                    // Of a tile for a sink.
constexpr size_t kPanelBytes = size_t{128} << 20;       // Integers of x in memory at a time.
constexpr size_t kPackedWeightBytes = size_t{1} << 20;  // Half of L2.
constexpr size_t kMaxK = 1024;                          // Of one sum; longer ones are less exact.
constexpr size_t kGroupMultiple = 128;  // Blocks of k end where groups of every size end.
constexpr size_t kMinSliceRows = 512;   // Fewer rows do not pay for decoding weights once more.
constexpr size_t kMaxSliceRows = 4096;  // Of a task: 8 MiB of sums that are not final.

constexpr size_t RoundUp(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

TileWeights TileForm(Dtype dtype) {
  if (dtype == Dtype::kF32) return TileWeights::kF32;
  RAM_CHECK(dtype == Dtype::kF16 || dtype == Dtype::kBF16);
  return dtype == Dtype::kF16 ? TileWeights::kF16 : TileWeights::kBf16;
}

TileWeights TileForm(const Matrix& matrix) {
  if (matrix.form == Matrix::Form::kAffine) return TileWeights::kCodes;
  return matrix.form == Matrix::Form::kMxfp4 ? TileWeights::kMxfp4 : TileForm(matrix.dtype);
}

// Parts that make a weight exact (f16: 2^-23), if so many are worth it beside the parts of x.
size_t WeightParts(const TileKernels& kernels, TileWeights form) {
  size_t parts = 1;
  if (form == TileWeights::kF32) parts = kernels.format == TileFormat::kBf16 ? 3 : 2;
  if (form == TileWeights::kF16) parts = kernels.format == TileFormat::kBf16 ? 2 : 1;
  return std::min(parts, kernels.x_parts);
}

// Whether weights meet x in integers.
bool UsesIntegers(const Matrix& matrix) {
  return matrix.form == Matrix::Form::kAffine && matrix.group_size != 32;
}

// Rows of one group of products, and what its products need of them, by blocks of 32 rows.
struct Panel {
  const ProductGroup* group = nullptr;
  size_t first_row = 0;
  size_t rows = 0;
  float* unscale = nullptr;         // [block][32]; f16 only.
  float* sums[2] = {};              // [block][steps of 32, of 64][32]; if some matrix needs it.
  uint8_t* integers = nullptr;      // [block][steps][2 tiles][parts]; likewise.
  float* integer_scales = nullptr;  // [block][steps][32]
  size_t integer_block_bytes = 0;   // Of 32 rows.

  size_t num_blocks() const { return (rows + kTileRows - 1) / kTileRows; }
  size_t block_rows(size_t block) const { return std::min(kTileRows, rows - block * kTileRows); }
  size_t cols() const { return group->x.cols; }
  const float* x(size_t block) const { return group->x.row(first_row + block * kTileRows); }
  // Of a block of rows.
  size_t StepFloats(bool of_integers) const {
    return cols() / (of_integers ? kIntegerStep : kTileStep) * kTileRows;
  }
  float* sums_of(bool of_integers, size_t block) const {
    return sums[of_integers] + block * StepFloats(of_integers);
  }
  uint8_t* integers_of(size_t block) const { return integers + block * integer_block_bytes; }
  float* scales_of(size_t block) const { return integer_scales + block * StepFloats(true); }
};

// 512 columns of one product, or less, for some of the rows of a panel.
struct Task {
  const Panel* panel = nullptr;
  const Product* product = nullptr;
  size_t first_col = 0;
  size_t first_block = 0;  // Blocks of 32 rows.
  size_t num_blocks = 0;
};

// How a product with K = cols is cut, and what a thread needs for it.
struct Blocking {
  size_t parts = 1;    // Of the weights.
  size_t columns = 0;  // Of a task.
  size_t block_k = 0;

  Blocking(const TileKernels& kernels, const Matrix& matrix) {
    const TileWeights form = TileForm(matrix);
    parts = form == TileWeights::kCodes ? 1 : WeightParts(kernels, form);
    columns = parts == 1 ? kColumns : kColumns / 2;
    const size_t max_k = std::min(
        kMaxK, kPackedWeightBytes / (columns * 2 * parts) / kGroupMultiple * kGroupMultiple);
    const size_t num_blocks = (matrix.cols + max_k - 1) / max_k;
    block_k = RoundUp((matrix.cols + num_blocks - 1) / num_blocks, kGroupMultiple);
  }
};

// Working memory of a thread.
struct Scratch {
  uint8_t* packed = nullptr;        // Weights.
  uint8_t* rows[2] = {};            // Rows of x for one block of k: these and the next ones.
  float* group_terms = nullptr;     // kCodes: [512 / 32][groups][2][32]
  float* powers = nullptr;          // f16: [512]
  float* unscale_column = nullptr;  // [512]
  float* tile = nullptr;            // For sinks: [32][512]
  float* sums = nullptr;            // [row blocks][32 x 512]

  Scratch(BufferPlan plan, size_t x_parts, size_t sum_blocks, size_t* bytes) {
    packed = plan.Take<uint8_t>(kPackedWeightBytes);
    for (uint8_t*& r : rows) r = plan.Take<uint8_t>(kTileRows * kMaxK * 2 * x_parts);
    group_terms = plan.Take<float>(kPackedWeightBytes / 2 / 32 * 2);
    powers = plan.Take<float>(kColumns);
    unscale_column = plan.Take<float>(kColumns);
    tile = plan.Take<float>(kTileRows * kColumns);
    sums = plan.Take<float>(sum_blocks * kTileRows * kColumns);
    if (bytes != nullptr) *bytes = plan.bytes();
  }
};

class TileProducts : public Products {
 public:
  TileProducts(std::string name, const TileKernels& kernels, const TileIntegerKernels& integers,
               bool uses_unit)
      : name_(std::move(name)), kernels_(kernels), integers_(integers), uses_unit_(uses_unit) {}

  std::string name() const override { return name_; }
  void Multiply(std::span<const ProductGroup> groups, ThreadPool& pool) override;

 private:
  size_t PanelRowBytes(const ProductGroup& group) const;
  Panel PlacePanel(const ProductGroup& group, size_t first_row, size_t rows,
                   BufferPlan* plan) const;
  void PrepareRows(const Panel& panel, size_t block) const;
  void MultiplyPanels(std::span<const Panel> panels, ThreadPool& pool);
  TileWeightBlock WeightBlock(const Task& task, size_t columns, const Scratch& scratch) const;
  void RunTask(const Task& task, const Scratch& scratch, size_t thread) const;
  TileSplit RowsOfBlock(const Task& task, const TileWeightBlock& weights, const Scratch& scratch,
                        size_t block) const;
  void MultiplyBlock(const Task& task, const TileWeightBlock& weights, const Scratch& scratch,
                     size_t parts, size_t block, float* sums, size_t thread) const;
  void MultiplyIntegers(const Task& task, const TileWeightBlock& weights, size_t block,
                        TileProduct product) const;

  std::string name_;
  const TileKernels& kernels_;
  const TileIntegerKernels& integers_;
  bool uses_unit_;
  AlignedBytes panel_buffer_;
  std::vector<AlignedBytes> thread_buffers_;
};

// Whether some affine matrix of the group meets x in integers, or does not.
bool NeedsSums(const ProductGroup& group, bool of_integers) {
  return std::ranges::any_of(group.products, [&](const Product& product) {
    return product.matrix.form == Matrix::Form::kAffine &&
           UsesIntegers(product.matrix) == of_integers;
  });
}

// About: sums and scales are a few percent.
size_t TileProducts::PanelRowBytes(const ProductGroup& group) const {
  return NeedsSums(group, /*of_integers=*/true) ? group.x.cols * integers_.x_parts : 0;
}

Panel TileProducts::PlacePanel(const ProductGroup& group, size_t first_row, size_t rows,
                               BufferPlan* plan) const {
  Panel panel;
  panel.group = &group;
  panel.first_row = first_row;
  panel.rows = rows;
  const size_t blocks = panel.num_blocks();
  if (kernels_.format == TileFormat::kF16) panel.unscale = plan->Take<float>(blocks * kTileRows);
  for (const bool of_integers : {false, true}) {
    if (!NeedsSums(group, of_integers)) continue;
    panel.sums[of_integers] = plan->Take<float>(blocks * panel.StepFloats(of_integers));
  }
  if (NeedsSums(group, /*of_integers=*/true)) {
    panel.integer_block_bytes = group.x.cols / kIntegerStep * 2 * integers_.x_parts * kTileBytes;
    panel.integers = plan->Take<uint8_t>(blocks * panel.integer_block_bytes);
    panel.integer_scales = plan->Take<float>(blocks * panel.StepFloats(true));
  }
  return panel;
}

void TileProducts::PrepareRows(const Panel& panel, size_t block) const {
  const float* x = panel.x(block);
  const size_t pitch = panel.group->x.pitch;
  const size_t rows = panel.block_rows(block);
  const auto sum_steps = [&](bool of_integers) {
    integers_.sum_steps({.x = x,
                         .pitch = pitch,
                         .rows = rows,
                         .cols = panel.cols(),
                         .step = of_integers ? kIntegerStep : kTileStep,
                         .sums = panel.sums_of(of_integers, block)});
  };
  const float* unscale = nullptr;
  if (panel.unscale != nullptr) {
    kernels_.find_row_powers({.x = x, .pitch = pitch, .rows = rows, .num_k = panel.cols()},
                             panel.unscale + block * kTileRows);
    unscale = panel.unscale + block * kTileRows;
  }
  if (panel.sums[0] != nullptr) {
    sum_steps(false);
    float* sums = panel.sums_of(false, block);
    for (size_t i = 0; unscale != nullptr && i < panel.StepFloats(false); ++i) {
      if (i % kTileRows < rows) sums[i] /= unscale[i % kTileRows];  // As x is.
    }
  }
  if (panel.integers == nullptr) return;
  sum_steps(true);
  integers_.split({.x = x,
                   .pitch = pitch,
                   .rows = rows,
                   .cols = panel.cols(),
                   .packed = panel.integers_of(block),
                   .scales = panel.scales_of(block)});
}

// Panels until the memory for them is used up, then their products.
void TileProducts::Multiply(std::span<const ProductGroup> groups, ThreadPool& pool) {
  struct Range {
    const ProductGroup* group;
    size_t first_row, rows;
  };
  std::vector<Range> ranges;
  size_t bytes = 0;
  const auto flush = [&] {
    BufferPlan count(nullptr);
    for (const Range& r : ranges) PlacePanel(*r.group, r.first_row, r.rows, &count);
    panel_buffer_.Reserve(count.bytes());
    BufferPlan place(panel_buffer_.data());
    std::vector<Panel> panels;
    panels.reserve(ranges.size());
    for (const Range& r : ranges) {
      panels.push_back(PlacePanel(*r.group, r.first_row, r.rows, &place));
    }
    MultiplyPanels(panels, pool);
    ranges.clear();
    bytes = 0;
  };
  for (const ProductGroup& group : groups) {
    for (const Product& product : group.products) {
      RAM_CHECK(product.matrix.count == 1 && product.matrix.cols == group.x.cols);
      RAM_CHECK(product.bias.empty() || product.bias.size() == product.matrix.rows);
      RAM_CHECK(product.matrix.form != Matrix::Form::kAffine ||
                group.x.cols % static_cast<uint64_t>(product.matrix.group_size) == 0);
      RAM_CHECK(product.sink != nullptr ||
                (product.out.rows == group.x.rows && product.out.cols == product.matrix.rows));
    }
    const size_t row_bytes = PanelRowBytes(group);
    const size_t max_rows =
        row_bytes == 0 ? group.x.rows
                       : std::max(kMinSliceRows, kPanelBytes / row_bytes / kTileRows * kTileRows);
    for (size_t row = 0; row < group.x.rows; row += max_rows) {
      const size_t rows = std::min(max_rows, group.x.rows - row);
      if (bytes + rows * row_bytes > kPanelBytes && !ranges.empty()) flush();
      ranges.push_back({&group, row, rows});
      bytes += rows * row_bytes;
    }
  }
  if (!ranges.empty()) flush();
}

void TileProducts::MultiplyPanels(std::span<const Panel> panels, ThreadPool& pool) {
  std::vector<std::pair<const Panel*, size_t>> blocks;
  for (const Panel& panel : panels) {
    if (panel.unscale == nullptr && std::ranges::count(panel.sums, nullptr) == 2) continue;
    for (size_t b = 0; b < panel.num_blocks(); ++b) blocks.emplace_back(&panel, b);
  }
  constexpr size_t kBlocksPerTask = 4;
  pool.ParallelFor((blocks.size() + kBlocksPerTask - 1) / kBlocksPerTask, [&](size_t i, size_t) {
    const size_t end = std::min(blocks.size(), (i + 1) * kBlocksPerTask);
    for (size_t b = i * kBlocksPerTask; b < end; ++b) {
      PrepareRows(*blocks[b].first, blocks[b].second);
    }
  });

  // Cut into tasks: by columns, and by rows too where there are few of those.
  size_t num_tasks = 0;
  for (const Panel& panel : panels) {
    for (const Product& product : panel.group->products) {
      const size_t columns = Blocking(kernels_, product.matrix).columns;
      num_tasks += (product.matrix.rows + columns - 1) / columns;
    }
  }
  const size_t enough = pool.num_threads() == 1 ? 1 : 3 * pool.num_threads();
  const size_t slices = num_tasks == 0 ? 1 : (enough + num_tasks - 1) / num_tasks;
  std::vector<Task> tasks;
  size_t sum_blocks = 1;
  for (const Panel& panel : panels) {
    const size_t blocks_per_slice =
        std::clamp((panel.num_blocks() + slices - 1) / slices, kMinSliceRows / kTileRows,
                   kMaxSliceRows / kTileRows);
    for (const Product& product : panel.group->products) {
      const Blocking blocking(kernels_, product.matrix);
      for (size_t col = 0; col < product.matrix.rows; col += blocking.columns) {
        for (size_t b = 0; b < panel.num_blocks(); b += blocks_per_slice) {
          const size_t num = std::min(blocks_per_slice, panel.num_blocks() - b);
          tasks.push_back({&panel, &product, col, b, num});
          if (blocking.block_k < product.matrix.cols) sum_blocks = std::max(sum_blocks, num);
        }
      }
    }
  }

  size_t scratch_bytes = 0;
  Scratch(BufferPlan(nullptr), kernels_.x_parts, sum_blocks, &scratch_bytes);
  if (thread_buffers_.size() < pool.num_threads()) thread_buffers_.resize(pool.num_threads());
  pool.ParallelFor(tasks.size(), [&](size_t i, size_t thread) {
    AlignedBytes& buffer = thread_buffers_[thread];
    buffer.Reserve(scratch_bytes);
    std::optional<TileScope> scope;
    if (uses_unit_) scope.emplace();
    RunTask(tasks[i], Scratch(BufferPlan(buffer.data()), kernels_.x_parts, sum_blocks, nullptr),
            thread);
  });
}

TileSplit TileProducts::RowsOfBlock(const Task& task, const TileWeightBlock& weights,
                                    const Scratch& scratch, size_t block) const {
  const Panel& panel = *task.panel;
  TileSplit split;
  split.x = panel.x(block) + weights.first_k;
  split.pitch = panel.group->x.pitch;
  split.rows = panel.block_rows(block);
  split.num_k = weights.num_k;
  if (panel.unscale != nullptr) split.unscale = panel.unscale + block * kTileRows;
  split.packed = scratch.rows[block % 2];
  return split;
}

TileWeightBlock TileProducts::WeightBlock(const Task& task, size_t columns,
                                          const Scratch& scratch) const {
  const Matrix& matrix = task.product->matrix;
  TileWeightBlock block;
  block.form = TileForm(matrix);
  if (block.form == TileWeights::kCodes) {
    block.scale_form = TileForm(matrix.dtype);
    block.bits = matrix.bits;
    block.group_size = static_cast<size_t>(matrix.group_size);
    block.biases = matrix.biases + task.first_col * matrix.scale_row_bytes();
  }
  block.row_bytes = matrix.row_bytes();
  block.scale_row_bytes = matrix.scale_row_bytes();
  block.values = matrix.values + task.first_col * block.row_bytes;
  if (matrix.scales != nullptr) {
    block.scales = matrix.scales + task.first_col * block.scale_row_bytes;
  }
  block.columns = std::min(columns, matrix.rows - task.first_col);
  block.cols = matrix.cols;
  block.powers = scratch.powers;
  block.packed = scratch.packed;
  block.group_terms = scratch.group_terms;
  return block;
}

void TileProducts::RunTask(const Task& task, const Scratch& scratch, size_t thread) const {
  const Blocking blocking(kernels_, task.product->matrix);
  TileWeightBlock weights = WeightBlock(task, blocking.columns, scratch);
  if (kernels_.format == TileFormat::kF16) {
    std::fill_n(scratch.unscale_column, kColumns, 1.0F);
    if (weights.form != TileWeights::kCodes) {
      kernels_.find_powers(weights);
      for (size_t c = 0; c < weights.columns; ++c) {
        scratch.unscale_column[c] = 1 / scratch.powers[c];
      }
    }
  }
  const bool one_block = blocking.block_k >= weights.cols;
  for (size_t k = 0; k < weights.cols; k += blocking.block_k) {
    weights.first_k = k;
    weights.num_k = std::min(blocking.block_k, weights.cols - k);
    if (UsesIntegers(task.product->matrix)) {
      integers_.pack(weights);
    } else {
      kernels_.pack[blocking.parts - 1](weights);
      kernels_.split(RowsOfBlock(task, weights, scratch, task.first_block));
    }
    for (size_t b = 0; b < task.num_blocks; ++b) {
      float* sums = one_block ? nullptr : scratch.sums + b * kTileRows * kColumns;
      MultiplyBlock(task, weights, scratch, blocking.parts, task.first_block + b, sums, thread);
    }
  }
}

// `product` without x, in integers.
void TileProducts::MultiplyIntegers(const Task& task, const TileWeightBlock& weights, size_t block,
                                    TileProduct product) const {
  const Panel& panel = *task.panel;
  const size_t first_step = weights.first_k / kIntegerStep;
  product.x = panel.integers_of(block) + first_step * 2 * integers_.x_parts * kTileBytes;
  product.steps = weights.num_k / kIntegerStep;
  product.group_steps = weights.group_size / kIntegerStep;
  product.step_scales = panel.scales_of(block) + first_step * kTileRows;
  integers_.multiply(product);
}

// 32 rows times the columns of a task, over one block of k.
void TileProducts::MultiplyBlock(const Task& task, const TileWeightBlock& weights,
                                 const Scratch& scratch, size_t parts, size_t block, float* sums,
                                 size_t thread) const {
  const Panel& panel = *task.panel;
  const Product& product = *task.product;
  const size_t row = panel.first_row + block * kTileRows;
  const bool integers = UsesIntegers(product.matrix);
  TileProduct one;
  one.w = weights.packed;
  one.rows = panel.block_rows(block);
  one.columns = weights.columns;
  one.sums = sums;
  one.first = weights.first_k == 0;
  one.last = weights.first_k + weights.num_k == weights.cols;
  if (one.last) {
    one.out = product.sink != nullptr ? scratch.tile : product.out.row(row) + task.first_col;
    one.pitch = product.sink != nullptr ? kColumns : product.out.pitch;
    if (!product.bias.empty()) one.bias = product.bias.data() + task.first_col;
    if (kernels_.format == TileFormat::kF16 && !integers) {
      one.unscale_row = panel.unscale + block * kTileRows;
      one.unscale_column = scratch.unscale_column;
    }
  }
  if (weights.form == TileWeights::kCodes) {
    one.terms = weights.group_terms;
    one.step_sums = panel.sums_of(integers, block) +
                    weights.first_k / (integers ? kIntegerStep : kTileStep) * kTileRows;
  }
  if (integers) {
    MultiplyIntegers(task, weights, block, one);
  } else {
    one.x = scratch.rows[block % 2];
    one.steps = (weights.num_k + kTileStep - 1) / kTileStep;
    TileSplit ahead;
    if (block + 1 < task.first_block + task.num_blocks) {
      ahead = RowsOfBlock(task, weights, scratch, block + 1);
      one.ahead = &ahead;
    }
    weights.form == TileWeights::kCodes ? kernels_.multiply_codes(one)
                                        : kernels_.multiply[parts - 1](one);
  }
  if (one.last && product.sink != nullptr) {
    for (size_t c = 0; c < one.columns; c += kSinkColumns) {
      product.sink(thread, {row,
                            task.first_col + c,
                            {scratch.tile + c, one.rows, std::min(kSinkColumns, one.columns - c),
                             kColumns}});
    }
  }
}

}  // namespace

size_t TileParts(TileFormat format, Precision precision) {
  if (precision == Precision::kHalf) return 1;
  return format == TileFormat::kBf16 && precision == Precision::kF32 ? 3 : 2;
}

size_t TileIntegerParts(Precision precision) { return precision == Precision::kHalf ? 2 : 3; }

std::unique_ptr<Products> MakeTileProducts(std::string name, const TileKernels& kernels,
                                           const TileIntegerKernels& integers, bool uses_unit) {
  return std::make_unique<TileProducts>(std::move(name), kernels, integers, uses_unit);
}

std::unique_ptr<Products> MakeAmxProducts(const std::string& isa, Precision precision) {
  const bool f16 = isa == "amx-f16";
  RAM_CHECK(f16 || isa == "amx-bf16");
  const AmxSupport& amx = DetectAmx();
  if (!(f16 ? amx.f16 : amx.bf16)) return nullptr;
  const TileFormat format = f16 ? TileFormat::kF16 : TileFormat::kBf16;
  return MakeTileProducts(isa, *FindTileKernels(format, TileParts(format, precision)),
                          *FindTileIntegerKernels(TileIntegerParts(precision)),
                          /*uses_unit=*/true);
}

}  // namespace ram
