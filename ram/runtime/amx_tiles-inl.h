// Tile instructions. A tile is 1 KiB, 16 rows of 64 bytes; in memory its rows lie one after the
// other.
//
// Not those of <immintrin.h>: in GCC 12 _tile_loadd names no memory operand and _tile_loadconfig
// only the first 8 bytes of the configuration, so stores before them may be dropped or come late.
// tdpfp16ps is unknown to GCC 12 and clang 14, so it is spelled in bytes. No compiler flag is
// needed.

#ifndef RAM_RUNTIME_AMX_TILES_INL_H_
#define RAM_RUNTIME_AMX_TILES_INL_H_

#include <cstddef>

#include "ram/runtime/amx.h"

#define RAM_TILE_INLINE inline __attribute__((always_inline))

namespace ram {
namespace {

// The unit itself. Kernels take it as a template argument, so that tests can put a model of it in
// its place (amx_model.h).
struct TileUnit {
  template <int kTile>
  static RAM_TILE_INLINE void Zero() {
    asm volatile("tilezero %%tmm%c0" ::"i"(kTile));
  }

  template <int kTile>
  static RAM_TILE_INLINE void Load(const void* from) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(size_t{64}), "i"(kTile)
                 : "memory");
  }

  template <int kTile>
  static RAM_TILE_INLINE void Store(void* to) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(size_t{64}), "i"(kTile)
                 : "memory");
  }

  // sum[i][j] += a[i][2p] * b[p][2j] + a[i][2p + 1] * b[p][2j + 1] over the 16 pairs p of a row:
  // products exact, sums f32, subnormal results flushed to zero.
  template <TileFormat kFormat, int kSum, int kA, int kB>
  static RAM_TILE_INLINE void Dot() {
    if constexpr (kFormat == TileFormat::kBf16) {
      asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kA), "i"(kB));
    } else {  // tdpfp16ps
      asm volatile(".byte 0xc4, 0xe2, %c0, 0x5c, %c1" ::"i"((~kB & 15) << 3 | 3),
                   "i"(0xc0 | kSum << 3 | kA));
    }
  }

  // The same with integers: sum[i][j] += the four bytes of a[i] times those of b[p] over the 16
  // quadruples p. b has a sign; a has one, or not.
  template <int kSum, int kA, int kB>
  static RAM_TILE_INLINE void DotSigned() {
    asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kA), "i"(kB));
  }
  template <int kSum, int kA, int kB>
  static RAM_TILE_INLINE void DotUnsigned() {
    asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kA), "i"(kB));
  }
};

}  // namespace
}  // namespace ram

#endif  // RAM_RUNTIME_AMX_TILES_INL_H_
