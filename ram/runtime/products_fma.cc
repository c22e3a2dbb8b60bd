// Products on every CPU: f32 multiply-adds of Highway vectors. Many rows of x: panel_product-inl.h;
// few rows: packed_dot-inl.h, or byte_dot.h where the level has it; here: the plan of tasks.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "ram/base/result.h"
#include "ram/quant/simd_targets.h"
#include "ram/runtime/aligned_rows.h"
#include "ram/runtime/byte_dot.h"
#include "ram/runtime/fma_kernels.h"
#include "ram/runtime/isa.h"
#include "ram/runtime/products.h"

// Compiles the kernels once per instruction set.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ram/runtime/products_fma.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "hwy/highway.h"
#include "ram/runtime/packed_dot-inl.h"
#include "ram/runtime/panel_product-inl.h"

#ifndef RAM_RUNTIME_PRODUCTS_FMA_CC_ONCE_
#define RAM_RUNTIME_PRODUCTS_FMA_CC_ONCE_
namespace ram {

// Memory of one thread, of any kernel.
class KernelScratch {
 public:
  virtual ~KernelScratch() = default;
};

// The kernels of one instruction set.
class FmaKernels {
 public:
  virtual ~FmaKernels() = default;
  // Rows of x up to which MultiplyDots is to be used; 0 where it does not exist.
  virtual uint64_t few_rows() const = 0;
  // Columns and rows that tasks should be multiples of.
  virtual uint64_t strip_cols() const = 0;
  virtual uint64_t tile_rows() const = 0;
  virtual std::unique_ptr<KernelScratch> MakeScratch() const = 0;
  virtual void MultiplyPanels(const PanelTask& task, KernelScratch& scratch) const = 0;
  virtual uint64_t PackedFloats(const Matrix& matrix, uint64_t rows) const = 0;
  virtual void PackForDot(const Matrix& matrix, Rows x, float* packed) const = 0;
  virtual void MultiplyDots(const DotTask& task, KernelScratch& scratch) const = 0;
};

}  // namespace ram
#endif

HWY_BEFORE_NAMESPACE();
namespace ram {
namespace HWY_NAMESPACE {
namespace {

class Scratch : public KernelScratch {
 public:
  AlignedBytes panels{sizeof(PanelScratch)};
  std::vector<float> dots;
};

class Kernels : public FmaKernels {
 public:
  uint64_t strip_cols() const override { return kStripVectors * hn::Lanes(F()); }
  uint64_t tile_rows() const override { return kTileHeight; }
  std::unique_ptr<KernelScratch> MakeScratch() const override {
    return std::make_unique<Scratch>();
  }
  void MultiplyPanels(const PanelTask& task, KernelScratch& scratch) const override {
    auto& memory = static_cast<Scratch&>(scratch);
    HWY_NAMESPACE::MultiplyPanels(task, *reinterpret_cast<PanelScratch*>(memory.panels.data()));
  }
#if HWY_TARGET == HWY_SCALAR
  uint64_t few_rows() const override { return 0; }
  uint64_t PackedFloats(const Matrix&, uint64_t) const override { return 0; }
  void PackForDot(const Matrix&, Rows, float*) const override { RAM_CHECK(false); }
  void MultiplyDots(const DotTask&, KernelScratch&) const override { RAM_CHECK(false); }
#else
  uint64_t few_rows() const override { return kFewRows; }
  uint64_t PackedFloats(const Matrix& matrix, uint64_t rows) const override {
    return HWY_NAMESPACE::PackedFloats(matrix, rows);
  }
  void PackForDot(const Matrix& matrix, Rows x, float* packed) const override {
    HWY_NAMESPACE::PackForDot(matrix, x, packed);
  }
  void MultiplyDots(const DotTask& task, KernelScratch& scratch) const override {
    HWY_NAMESPACE::MultiplyDots(task, static_cast<Scratch&>(scratch).dots);
  }
#endif
};

std::unique_ptr<FmaKernels> MakeKernels() { return std::make_unique<Kernels>(); }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ram
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "ram/runtime/simd_dispatch.h"

namespace ram {

HWY_EXPORT(MakeKernels);

namespace {

// Few rows of packed weights by dot products of bytes, the rest by other kernels.
class ByteDotKernels : public FmaKernels {
 public:
  explicit ByteDotKernels(std::unique_ptr<FmaKernels> rest) : rest_(std::move(rest)) {}

  uint64_t few_rows() const override { return rest_->few_rows(); }
  uint64_t strip_cols() const override { return rest_->strip_cols(); }
  uint64_t tile_rows() const override { return rest_->tile_rows(); }
  std::unique_ptr<KernelScratch> MakeScratch() const override {
    auto scratch = std::make_unique<Scratch>();
    scratch->rest = rest_->MakeScratch();
    return scratch;
  }
  void MultiplyPanels(const PanelTask& task, KernelScratch& scratch) const override {
    rest_->MultiplyPanels(task, *static_cast<Scratch&>(scratch).rest);
  }
  uint64_t PackedFloats(const Matrix& matrix, uint64_t rows) const override {
    return Takes(matrix) ? ByteDotPackedFloats(AsBytes(matrix), rows)
                         : rest_->PackedFloats(matrix, rows);
  }
  void PackForDot(const Matrix& matrix, Rows x, float* packed) const override {
    if (!Takes(matrix)) return rest_->PackForDot(matrix, x, packed);
    PackForByteDots(AsBytes(matrix), x.data, x.pitch, x.rows, packed);
  }
  void MultiplyDots(const DotTask& task, KernelScratch& scratch) const override {
    auto& memory = static_cast<Scratch&>(scratch);
    if (!Takes(*task.matrix)) return rest_->MultiplyDots(task, *memory.rest);
    const ByteMatrix matrix = AsBytes(*task.matrix);
    const size_t floats = ByteDotScratchFloats(matrix);
    if (memory.floats.size() < floats) memory.floats.resize(floats);
    MultiplyByByteDots({.matrix = matrix,
                        .bias = task.bias,
                        .packed_x = task.packed_x,
                        .rows = task.out.rows,
                        .first_col = task.first_col,
                        .num_cols = task.out.cols,
                        .out = task.out.data,
                        .pitch = task.out.pitch,
                        .scratch = memory.floats.data()});
  }

 private:
  class Scratch : public KernelScratch {
   public:
    std::unique_ptr<KernelScratch> rest;
    std::vector<float> floats;
  };

  // 8 bits keep up with memory as f32.
  static bool Takes(const Matrix& matrix) {
    return matrix.form == Matrix::Form::kMxfp4 ||
           (matrix.form == Matrix::Form::kAffine && matrix.bits != 8);
  }

  static ByteCodes CodesOf(int bits) {
    RAM_CHECK(bits >= 2 && bits <= 6);
    return static_cast<ByteCodes>(static_cast<int>(ByteCodes::k2) + bits - 2);
  }

  static ByteMatrix AsBytes(const Matrix& matrix) {
    const bool mxfp4 = matrix.form == Matrix::Form::kMxfp4;
    return {.codes = mxfp4 ? ByteCodes::kMxfp4 : CodesOf(matrix.bits),
            .scale_form = mxfp4                         ? ByteScales::kE8M0
                          : matrix.dtype == Dtype::kF32 ? ByteScales::kF32
                          : matrix.dtype == Dtype::kF16 ? ByteScales::kF16
                                                        : ByteScales::kBf16,
            .values = matrix.values,
            .scales = matrix.scales,
            .biases = matrix.biases,
            .row_bytes = matrix.row_bytes(),
            .scale_row_bytes = matrix.scale_row_bytes(),
            .cols = matrix.cols,
            .group_size = mxfp4 ? 32 : static_cast<size_t>(matrix.group_size)};
  }

  std::unique_ptr<FmaKernels> rest_;
};

std::unique_ptr<FmaKernels> KernelsOf(const std::string& isa) {
  std::unique_ptr<FmaKernels> kernels = RAM_SIMD_DISPATCH(MakeKernels, SimdTargets(isa))();
  if (!UsesByteDots(isa)) return kernels;
  return std::make_unique<ByteDotKernels>(std::move(kernels));
}

// Columns of the widest task, and of the tiles of sinks.
constexpr uint64_t kTileCols = 256;
// Rows of the highest task: 2 MiB of results for a sink.
constexpr uint64_t kMostRows = 2048;
constexpr uint64_t kFewestRows = 256;
// Tasks per thread, so that none waits long for the last.
constexpr uint64_t kTasksPerThread = 4;
// Weights of the smallest task of few rows: some 10 us of reading.
constexpr uint64_t kDotTaskBytes = 64 * 1024;

uint64_t Blocks(uint64_t size, uint64_t block) { return (size + block - 1) / block; }

// A rectangle of one product's result.
struct Task {
  const ProductGroup* group = nullptr;
  const Product* product = nullptr;
  const float* packed_x = nullptr;
  uint64_t first_row = 0;
  uint64_t num_rows = 0;
  uint64_t first_col = 0;
  uint64_t num_cols = 0;
};

// Whether packed x serves both.
bool SamePacking(const Matrix& a, const Matrix& b) {
  return a.form == b.form && a.cols == b.cols && a.group_size == b.group_size &&
         (a.form == Matrix::Form::kDense ? a.dtype == b.dtype : a.bits == b.bits);
}

class FmaProducts : public Products {
 public:
  explicit FmaProducts(const std::string& isa) : name_(isa), kernels_(KernelsOf(isa)) {}

  std::string name() const override { return name_; }

  void Multiply(std::span<const ProductGroup> groups, ThreadPool& pool) override {
    uint64_t most_rows = 0;
    for (const ProductGroup& group : groups) {
      most_rows = std::max(most_rows, group.x.rows);
      for (const Product& product : group.products) Check(group, product);
    }
    while (threads_.size() < pool.num_threads()) threads_.push_back({kernels_->MakeScratch(), {}});
    const bool few = most_rows <= kernels_->few_rows();
    const std::vector<Task> tasks =
        few ? PlanDots(groups, pool.num_threads()) : PlanPanels(groups, pool.num_threads());
    if (tasks.size() == 1) {
      few ? RunDots(tasks[0], 0) : RunPanels(tasks[0], 0);
      return;
    }
    pool.ParallelFor(tasks.size(), [&](size_t task, size_t thread) {
      few ? RunDots(tasks[task], thread) : RunPanels(tasks[task], thread);
    });
  }

 private:
  struct Thread {
    std::unique_ptr<KernelScratch> scratch;
    ScratchRows tile;  // Of a sink.
  };

  static void Check(const ProductGroup& group, const Product& product) {
    const Matrix& matrix = product.matrix;
    RAM_CHECK(matrix.count == 1 && matrix.cols == group.x.cols);
    RAM_CHECK(product.bias.empty() || product.bias.size() == matrix.rows);
    RAM_CHECK(product.sink ||
              (product.out.rows == group.x.rows && product.out.cols == matrix.rows));
  }

  // Tasks of all products: blocks of at most `rows` x `cols`.
  std::vector<Task> Cut(std::span<const ProductGroup> groups, uint64_t rows, uint64_t cols) const {
    std::vector<Task> tasks;
    for (const ProductGroup& group : groups) {
      // Blocks of equal height, whole tiles.
      const uint64_t num_blocks = Blocks(group.x.rows, rows);
      const uint64_t tile = kernels_->tile_rows();
      const uint64_t height =
          num_blocks == 0 ? 1 : Blocks(Blocks(group.x.rows, num_blocks), tile) * tile;
      for (const Product& product : group.products) {
        const uint64_t width = product.sink ? kTileCols : cols;
        for (uint64_t col = 0; col < product.matrix.rows; col += width) {
          for (uint64_t row = 0; row < group.x.rows; row += height) {
            tasks.push_back({.group = &group,
                             .product = &product,
                             .packed_x = nullptr,
                             .first_row = row,
                             .num_rows = std::min(height, group.x.rows - row),
                             .first_col = col,
                             .num_cols = std::min(width, product.matrix.rows - col)});
          }
        }
      }
    }
    return tasks;
  }

  // As few blocks of rows as possible, for each decodes the weights again; narrower ones first.
  std::vector<Task> PlanPanels(std::span<const ProductGroup> groups, size_t num_threads) const {
    uint64_t rows = kMostRows;
    uint64_t cols = kTileCols;
    std::vector<Task> tasks = Cut(groups, rows, cols);
    while (num_threads > 1 && tasks.size() < kTasksPerThread * num_threads) {
      if (cols > 2 * kernels_->strip_cols()) {
        cols /= 2;
      } else if (rows > kFewestRows) {
        rows /= 2;
      } else {
        break;
      }
      tasks = Cut(groups, rows, cols);
    }
    return tasks;
  }

  void RunPanels(const Task& task, size_t thread) {
    const Product& product = *task.product;
    const Rows out = product.sink ? threads_[thread].tile.Take(task.num_rows, kTileCols)
                                  : product.out.slice(task.first_row, task.num_rows);
    const uint64_t first_out = product.sink ? 0 : task.first_col;
    const PanelTask panels = {
        .matrix = &product.matrix,
        .bias = product.bias.empty() ? nullptr : product.bias.data(),
        .x = task.group->x.slice(task.first_row, task.num_rows),
        .first_col = task.first_col,
        .out = out.columns(first_out, task.num_cols),
    };
    kernels_->MultiplyPanels(panels, *threads_[thread].scratch);
    if (product.sink) product.sink(thread, {task.first_row, task.first_col, panels.out});
  }

  // Packs every x once for each kind of packing.
  std::vector<Task> PlanDots(std::span<const ProductGroup> groups, size_t num_threads) {
    struct Packed {
      const ProductGroup* group;
      const Product* first;
      uint64_t offset;
    };
    std::vector<Packed> packings;
    std::vector<size_t> packing_of_product;
    uint64_t floats = 0;
    uint64_t bytes = 0;
    for (const ProductGroup& group : groups) {
      const size_t first = packings.size();
      for (const Product& product : group.products) {
        bytes += product.matrix.bytes();
        size_t i = first;
        while (i < packings.size() && !SamePacking(packings[i].first->matrix, product.matrix)) ++i;
        if (i == packings.size()) {
          packings.push_back({&group, &product, floats});
          floats += kernels_->PackedFloats(product.matrix, group.x.rows);
        }
        packing_of_product.push_back(i);
      }
    }
    packed_.Reserve(floats * sizeof(float));
    for (const Packed& packing : packings) {
      if (packing.group->x.rows == 0) continue;
      kernels_->PackForDot(packing.first->matrix, packing.group->x,
                           packed_.floats() + packing.offset);
    }
    const uint64_t task_bytes =
        std::max(kDotTaskBytes, bytes / (2 * kTasksPerThread * num_threads));
    std::vector<Task> tasks;
    size_t at = 0;
    for (const ProductGroup& group : groups) {
      for (const Product& product : group.products) {
        const float* packed = packed_.floats() + packings[packing_of_product[at++]].offset;
        if (group.x.rows == 0) continue;
        const uint64_t row_bytes = std::max<uint64_t>(1, product.matrix.row_bytes());
        const uint64_t width =
            product.sink ? kTileCols : std::max<uint64_t>(16, task_bytes / row_bytes / 16 * 16);
        for (uint64_t col = 0; col < product.matrix.rows; col += width) {
          tasks.push_back({.group = &group,
                           .product = &product,
                           .packed_x = packed,
                           .first_row = 0,
                           .num_rows = group.x.rows,
                           .first_col = col,
                           .num_cols = std::min(width, product.matrix.rows - col)});
        }
      }
    }
    return tasks;
  }

  void RunDots(const Task& task, size_t thread) {
    const Product& product = *task.product;
    const Rows out =
        product.sink ? threads_[thread].tile.Take(task.num_rows, kTileCols) : product.out;
    const uint64_t first_out = product.sink ? 0 : task.first_col;
    const DotTask dots = {
        .matrix = &product.matrix,
        .bias = product.bias.empty() ? nullptr : product.bias.data(),
        .packed_x = task.packed_x,
        .first_col = task.first_col,
        .out = out.columns(first_out, task.num_cols),
    };
    kernels_->MultiplyDots(dots, *threads_[thread].scratch);
    if (product.sink) product.sink(thread, {0, task.first_col, dots.out});
  }

  std::string name_;
  std::unique_ptr<FmaKernels> kernels_;
  std::vector<Thread> threads_;
  AlignedBytes packed_;
};

}  // namespace

// Always as accurate as f32: nothing is faster here.
std::unique_ptr<Products> MakeFmaProducts(const std::string& isa, Precision /*precision*/) {
  return std::make_unique<FmaProducts>(isa);
}

}  // namespace ram
#endif  // HWY_ONCE
