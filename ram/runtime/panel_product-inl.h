// The f32 product of many rows: blocks of weights are decoded to panels in the second-level cache
// and multiplied by rows of x where they lie.
//
// A panel holds kDepth rows of k of a strip of kStripVectors vectors of columns, which stays in the
// first-level cache while tiles of kTileHeight rows of x pass by. An element of a tile is one
// register lane: a chain of multiply-adds over the k of the panel, from zero, then added to the
// result. So each element has the same order of summation whatever tile it falls into.

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#include "ram/quant/simd_targets.h"
#include "ram/runtime/fma_kernels.h"
// After simd_targets.h.
#include "hwy/highway.h"
#include "ram/runtime/panel_decode-inl.h"

// Compiled once for each instruction set: foreach_target.h toggles this include guard.
#if defined(RAM_RUNTIME_PANEL_PRODUCT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RAM_RUNTIME_PANEL_PRODUCT_INL_H_
#undef RAM_RUNTIME_PANEL_PRODUCT_INL_H_
#else
#define RAM_RUNTIME_PANEL_PRODUCT_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace ram {
namespace HWY_NAMESPACE {

// 28 sums, 2 vectors of weights and 1 of x fill 32 registers; 12 + 2 + 1 of 16.
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL || HWY_TARGET == HWY_NEON
inline constexpr size_t kTileHeight = 14;
#else
inline constexpr size_t kTileHeight = 6;
#endif
inline constexpr size_t kStripVectors = 2;
inline constexpr size_t kMaxStrip = kStripVectors * kLanes;
// Columns of the widest task, and rows of x that stay in the second-level cache (252 KiB).
inline constexpr size_t kMaxColumns = 256;
inline constexpr size_t kRowsInCache = 252;
static_assert(kRowsInCache % kTileHeight == 0);

// out = base + x * panel for kRows rows and one strip; base is out itself or, if `base` is set, one
// row for all.
template <size_t kRows>
void MultiplyTile(size_t depth, const float* HWY_RESTRICT x, size_t x_pitch,
                  const float* HWY_RESTRICT panel, const float* HWY_RESTRICT base,
                  float* HWY_RESTRICT out, size_t out_pitch) {
  const F f;
  const size_t n = hn::Lanes(f);
  FV sums0[kRows];
  FV sums1[kRows];
  [&]<size_t... kRow>(std::index_sequence<kRow...>) HWY_ATTR {
    ((sums0[kRow] = hn::Zero(f), sums1[kRow] = hn::Zero(f)), ...);
    for (size_t k = 0; k < depth; ++k) {
      const auto w0 = hn::Load(f, panel);
      const auto w1 = hn::Load(f, panel + n);
      panel += kStripVectors * n;
      const auto step = [&](size_t row, FV& sum0, FV& sum1) HWY_ATTR {
        const auto value = hn::Set(f, x[row * x_pitch + k]);
        sum0 = hn::MulAdd(value, w0, sum0);
        sum1 = hn::MulAdd(value, w1, sum1);
      };
      (step(kRow, sums0[kRow], sums1[kRow]), ...);
    }
    const auto finish = [&](size_t row, FV sum0, FV sum1) HWY_ATTR {
      float* to = out + row * out_pitch;
      const float* from = base != nullptr ? base : to;
      hn::StoreU(hn::Add(hn::LoadU(f, from), sum0), f, to);
      hn::StoreU(hn::Add(hn::LoadU(f, from + n), sum1), f, to + n);
    };
    (finish(kRow, sums0[kRow], sums1[kRow]), ...);
  }
  (std::make_index_sequence<kRows>());
}

using TileFunction = void (*)(size_t, const float*, size_t, const float*, const float*, float*,
                              size_t);
inline constexpr std::array<TileFunction, kTileHeight> kTileFunctions =
    []<size_t... kRow>(std::index_sequence<kRow...>) {
  return std::array<TileFunction, kTileHeight>{&MultiplyTile<kRow + 1>...};
}
(std::make_index_sequence<kTileHeight>());

// Memory of one thread.
struct PanelScratch {
  LaneRows lanes;
  HWY_ALIGN float panel[kDepth * kMaxColumns];
};

// Tiles of one strip of a panel, all rows of x; `num_cols` of the strip exist.
inline void MultiplyStrip(size_t depth, Rows x, const float* panel, const float* base,
                          size_t num_cols, Rows out) {
  const size_t width = kStripVectors * hn::Lanes(F());
  HWY_ALIGN float edge[kTileHeight * kMaxStrip] = {};
  const bool whole = num_cols == width;
  for (size_t row = 0; row < x.rows; row += kTileHeight) {
    const size_t rows = HWY_MIN(kTileHeight, x.rows - row);
    const TileFunction multiply = kTileFunctions[rows - 1];
    if (whole) {
      multiply(depth, x.row(row), x.pitch, panel, base, out.row(row), out.pitch);
      continue;
    }
    for (size_t r = 0; base == nullptr && r < rows; ++r) {
      std::copy_n(out.row(row + r), num_cols, edge + r * width);
    }
    multiply(depth, x.row(row), x.pitch, panel, base, edge, width);
    for (size_t r = 0; r < rows; ++r) {
      std::copy_n(edge + r * width, num_cols, out.row(row + r));
    }
  }
}

inline void MultiplyPanels(const PanelTask& task, PanelScratch& scratch) {
  const size_t n = hn::Lanes(F());
  const size_t width = kStripVectors * n;
  const size_t num_cols = task.out.cols;
  HWY_ALIGN float bias[kMaxColumns] = {};
  if (task.bias != nullptr) std::copy_n(task.bias + task.first_col, num_cols, bias);
  for (size_t k = 0; k < task.matrix->cols; k += kDepth) {
    const size_t depth = HWY_MIN(kDepth, task.matrix->cols - k);
    for (size_t col = 0; col < num_cols; col += n) {
      float* strip = scratch.panel + col / width * width * kDepth + col % width;
      DecodeLanes(*task.matrix, task.first_col + col, HWY_MIN(n, num_cols - col), k, depth,
                  scratch.lanes, strip, width);
    }
    for (size_t row = 0; row < task.x.rows; row += kRowsInCache) {
      const size_t rows = HWY_MIN(kRowsInCache, task.x.rows - row);
      const Rows x = task.x.slice(row, rows).columns(k, depth);
      for (size_t col = 0; col < num_cols; col += width) {
        const size_t cols = HWY_MIN(width, num_cols - col);
        MultiplyStrip(depth, x, scratch.panel + col * kDepth, k == 0 ? bias + col : nullptr, cols,
                      task.out.slice(row, rows).columns(col, cols));
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace ram
HWY_AFTER_NAMESPACE();

#endif  // RAM_RUNTIME_PANEL_PRODUCT_INL_H_
