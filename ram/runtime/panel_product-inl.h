// The f32 product of many rows: blocks of weights are decoded to panels in the second-level cache
// and multiplied by rows of x where they lie.
//
// A panel holds kPanelDepth rows of k, strip by strip of kStripVectors vectors of columns. A tile
// of kTileHeight rows of x stays in the first-level cache while the strips pass by, asked for a
// little ahead. An element of a tile is one register lane: chains of kDepth multiply-adds, from
// zero, each then added to the result. So each element has the same order of summation whatever
// tile it falls into.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "ram/quant/simd_targets.h"
#include "ram/runtime/fma_kernels.h"
// After simd_targets.h.
#include "hwy/cache_control.h"
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
// Columns of the widest task, and rows of k in a panel.
inline constexpr size_t kMaxColumns = 256;
inline constexpr size_t kPanelDepth = 2 * kDepth;
// Rows of k in one pass of the loop, and how far ahead of them weights are asked for.
inline constexpr size_t kUnroll = 8;
inline constexpr size_t kPrefetch = 16;

// Rows of x at one k. Five rows are one pointer and multiples of the pitch, which x86 adds while it
// loads: with a pointer for each row of a tile, some would be fetched again at every k.
struct XRows {
  XRows(const float* x, size_t pitch)
      : row0(reinterpret_cast<const uint8_t*>(x)),
        row5(row0 + 5 * pitch * sizeof(float)),
        row10(row5 + 5 * pitch * sizeof(float)),
        pitch1(pitch * sizeof(float)),
        pitch3(3 * pitch1) {}

  template <size_t kRow>
  HWY_INLINE float Get(size_t k) const {
    const uint8_t* row = kRow < 5 ? row0 : kRow < 10 ? row5 : row10;
    if constexpr (kRow % 5 == 3) {
      row += pitch3;
    } else {
      row += kRow % 5 * pitch1;
    }
    return reinterpret_cast<const float*>(row)[k];
  }
  // The compiler must not replace the pointers by one for each row.
  HWY_INLINE void Advance(size_t k) {
    row0 += k * sizeof(float);
    row5 += k * sizeof(float);
    row10 += k * sizeof(float);
#if HWY_ARCH_X86
    asm("" : "+r"(row0), "+r"(row5), "+r"(row10), "+r"(pitch1), "+r"(pitch3));
#endif
  }

  const uint8_t* row0;
  const uint8_t* row5;
  const uint8_t* row10;
  size_t pitch1;
  size_t pitch3;
};
static_assert(kTileHeight <= 15);

// One row of a tile: two vectors of sums.
template <class V>
HWY_INLINE void AddToRow(float x, V w0, V w1, FV& sum0, FV& sum1) {
  const auto lanes = hn::Set(F(), x);
  sum0 = hn::MulAdd(lanes, w0, sum0);
  sum1 = hn::MulAdd(lanes, w1, sum1);
}

// to = from + sums.
template <class V>
HWY_INLINE void StoreRow(const float* from, V sum0, V sum1, float* to) {
  const F f;
  const size_t n = hn::Lanes(f);
  hn::StoreU(hn::Add(hn::LoadU(f, from), sum0), f, to);
  hn::StoreU(hn::Add(hn::LoadU(f, from + n), sum1), f, to + n);
}

// sums += x * w for one k, or for as many as there are steps; the w behind them are asked for.
template <size_t... kRow>
HWY_INLINE void AddStep(std::index_sequence<kRow...>, const XRows& x, size_t k,
                        const float* HWY_RESTRICT w, FV* HWY_RESTRICT sums0,
                        FV* HWY_RESTRICT sums1) {
  const F f;
  const size_t n = hn::Lanes(f);
  const auto w0 = hn::Load(f, w);
  const auto w1 = hn::Load(f, w + n);
  hwy::Prefetch(w + kPrefetch * kStripVectors * n);
  hwy::Prefetch(w + kPrefetch * kStripVectors * n + n);
  (AddToRow(x.template Get<kRow>(k), w0, w1, sums0[kRow], sums1[kRow]), ...);
}

template <class TileRows, size_t... kStep>
HWY_INLINE void AddSteps(TileRows rows, std::index_sequence<kStep...>, XRows& x,
                         const float* HWY_RESTRICT w, FV* HWY_RESTRICT sums0,
                         FV* HWY_RESTRICT sums1) {
  const size_t width = kStripVectors * hn::Lanes(F());
  (AddStep(rows, x, kStep, w + kStep * width, sums0, sums1), ...);
  x.Advance(sizeof...(kStep));
}

// One chain of multiply-adds for each element of a tile.
template <size_t... kRow>
HWY_INLINE void MultiplyRows(std::index_sequence<kRow...> rows, size_t depth,
                             const float* HWY_RESTRICT x, size_t x_pitch,
                             const float* HWY_RESTRICT panel, const float* HWY_RESTRICT base,
                             float* HWY_RESTRICT out, size_t out_pitch) {
  const F f;
  const size_t n = hn::Lanes(f);
  FV sums0[sizeof...(kRow)];
  FV sums1[sizeof...(kRow)];
  XRows x_rows(x, x_pitch);
  ((sums0[kRow] = sums1[kRow] = hn::Zero(f)), ...);
  (hwy::Prefetch(out + kRow * out_pitch), ...);
  (hwy::Prefetch(out + kRow * out_pitch + n), ...);
  size_t k = 0;
  for (; k + kUnroll <= depth; k += kUnroll) {
    AddSteps(rows, std::make_index_sequence<kUnroll>(), x_rows, panel, sums0, sums1);
    panel += kUnroll * kStripVectors * n;
  }
  for (; k < depth; ++k) {
    AddSteps(rows, std::make_index_sequence<1>(), x_rows, panel, sums0, sums1);
    panel += kStripVectors * n;
  }
  (StoreRow(base != nullptr ? base : out + kRow * out_pitch, sums0[kRow], sums1[kRow],
            out + kRow * out_pitch),
   ...);
}

// out = base + x * panel for kRows rows and one strip; base is out itself or, if `base` is set, one
// row for all. In chains of kDepth: one over the whole panel would be less accurate.
template <size_t kRows>
void MultiplyTile(size_t depth, const float* HWY_RESTRICT x, size_t x_pitch,
                  const float* HWY_RESTRICT panel, const float* HWY_RESTRICT base,
                  float* HWY_RESTRICT out, size_t out_pitch) {
  const size_t width = kStripVectors * hn::Lanes(F());
  for (size_t k = 0; k < depth; k += kDepth) {
    MultiplyRows(std::make_index_sequence<kRows>(), HWY_MIN(kDepth, depth - k), x + k, x_pitch,
                 panel + k * width, k == 0 ? base : nullptr, out, out_pitch);
  }
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
  HWY_ALIGN float panel[kPanelDepth * kMaxColumns];
};

// One tile of a strip of which only `num_cols` columns exist.
inline void MultiplyEdge(TileFunction multiply, size_t depth, Rows x, const float* panel,
                         const float* base, size_t num_cols, Rows out) {
  const size_t width = kStripVectors * hn::Lanes(F());
  HWY_ALIGN float edge[kTileHeight * kMaxStrip] = {};
  for (size_t r = 0; base == nullptr && r < x.rows; ++r) {
    std::copy_n(out.row(r), num_cols, edge + r * width);
  }
  multiply(depth, x.data, x.pitch, panel, base, edge, width);
  for (size_t r = 0; r < x.rows; ++r) std::copy_n(edge + r * width, num_cols, out.row(r));
}

// All strips of a panel, tile by tile of x, which stays in the first-level cache meanwhile.
inline void MultiplyPanel(size_t depth, Rows x, const float* panel, const float* base, Rows out) {
  const size_t width = kStripVectors * hn::Lanes(F());
  for (size_t row = 0; row < x.rows; row += kTileHeight) {
    const size_t rows = HWY_MIN(kTileHeight, x.rows - row);
    const TileFunction multiply = kTileFunctions[rows - 1];
    const Rows tile = x.slice(row, rows);
    for (size_t col = 0; col < out.cols; col += width) {
      const float* strip = panel + col * kPanelDepth;
      const float* strip_base = base != nullptr ? base + col : nullptr;
      const size_t cols = HWY_MIN(width, out.cols - col);
      const Rows to = out.slice(row, rows).columns(col, cols);
      if (cols == width) {
        multiply(depth, tile.data, tile.pitch, strip, strip_base, to.data, to.pitch);
      } else {
        MultiplyEdge(multiply, depth, tile, strip, strip_base, cols, to);
      }
    }
  }
}

inline void MultiplyPanels(const PanelTask& task, PanelScratch& scratch) {
  const size_t n = hn::Lanes(F());
  const size_t width = kStripVectors * n;
  const size_t num_cols = task.out.cols;
  const size_t num_k = task.matrix->cols;
  HWY_ALIGN float bias[kMaxColumns] = {};
  if (task.bias != nullptr) std::copy_n(task.bias + task.first_col, num_cols, bias);
  for (size_t first = 0; first < num_k; first += kPanelDepth) {
    const size_t depth = HWY_MIN(kPanelDepth, num_k - first);
    for (size_t col = 0; col < num_cols; col += n) {
      float* strip = scratch.panel + col / width * width * kPanelDepth + col % width;
      for (size_t k = 0; k < depth; k += kDepth) {
        DecodeLanes(*task.matrix, task.first_col + col, HWY_MIN(n, num_cols - col), first + k,
                    HWY_MIN(kDepth, depth - k), scratch.lanes, strip + k * width, width);
      }
    }
    MultiplyPanel(depth, task.x.columns(first, depth), scratch.panel, first == 0 ? bias : nullptr,
                  task.out);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace ram
HWY_AFTER_NAMESPACE();

#endif  // RAM_RUNTIME_PANEL_PRODUCT_INL_H_
