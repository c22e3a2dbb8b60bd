// A model of the tile unit in vectors, and the f16 kernels on it: so that they are tested on CPUs
// without AMX-FP16 too. Compiled for AVX-512, as amx_product.cc is: no test framework in here.

#include "ram/runtime/amx_model_test.h"

#if defined(__x86_64__)

#include "ram/runtime/amx_codes-inl.h"
#include "ram/runtime/amx_product-inl.h"

namespace ram {
namespace {

struct ModelUnit {
  static __m512i* Tile(int tile) {
    alignas(64) static thread_local __m512i tiles[8][16];
    return tiles[tile];
  }

  template <int kTile>
  static void Zero() {
    for (int r = 0; r < 16; ++r) Tile(kTile)[r] = _mm512_setzero_si512();
  }

  template <int kTile>
  static void Load(const void* from) {
    for (int r = 0; r < 16; ++r) {
      Tile(kTile)[r] = _mm512_loadu_si512(static_cast<const uint8_t*>(from) + 64 * r);
    }
  }

  template <int kTile>
  static void Store(void* to) {
    for (int r = 0; r < 16; ++r) {
      _mm512_storeu_si512(static_cast<uint8_t*>(to) + 64 * r, Tile(kTile)[r]);
    }
  }

  // Halves 0 or 1 of 16 pairs.
  static __m512 Half(__m512i pairs, int half) {
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(half == 0 ? pairs : _mm512_srli_epi32(pairs, 16)));
  }

  template <TileFormat kFormat, int kSum, int kA, int kB>
  static void Dot() {
    static_assert(kFormat == TileFormat::kF16);
    for (int r = 0; r < 16; ++r) {
      alignas(64) uint32_t a[16];
      _mm512_store_si512(a, Tile(kA)[r]);
      __m512 sums[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
      for (int p = 0; p < 16; ++p) {
        const __m512i pair = _mm512_set1_epi32(static_cast<int32_t>(a[p]));
        for (int half = 0; half < 2; ++half) {
          sums[half] = _mm512_fmadd_ps(Half(pair, half), Half(Tile(kB)[p], half), sums[half]);
        }
      }
      const __m512 sum = _mm512_add_ps(sums[0], sums[1]);
      Tile(kSum)[r] = _mm512_castps_si512(_mm512_add_ps(_mm512_castsi512_ps(Tile(kSum)[r]), sum));
    }
  }

  template <bool kSigned, int kSum, int kA, int kB>
  static void DotBytes() {
    for (int r = 0; r < 16; ++r) {
      alignas(64) uint8_t a[64];
      alignas(64) int32_t sums[16];
      _mm512_store_si512(a, Tile(kA)[r]);
      _mm512_store_si512(sums, Tile(kSum)[r]);
      for (int p = 0; p < 16; ++p) {
        alignas(64) int8_t b[64];
        _mm512_store_si512(b, Tile(kB)[p]);
        for (int i = 0; i < 64; ++i) {
          const uint8_t byte = a[4 * p + i % 4];
          sums[i / 4] += (kSigned ? static_cast<int8_t>(byte) : byte) * b[i];
        }
      }
      Tile(kSum)[r] = _mm512_load_si512(sums);
    }
  }
  template <int kSum, int kA, int kB>
  static void DotSigned() {
    DotBytes<true, kSum, kA, kB>();
  }
  template <int kSum, int kA, int kB>
  static void DotUnsigned() {
    DotBytes<false, kSum, kA, kB>();
  }
};

}  // namespace

const TileKernels* ModelTileKernels(size_t x_parts) {
  static constexpr TileKernels kF16[2] = {MakeTileKernels<ModelUnit, TileFormat::kF16, 1>(),
                                          MakeTileKernels<ModelUnit, TileFormat::kF16, 2>()};
  return &kF16[x_parts - 1];
}

const TileIntegerKernels* ModelTileIntegerKernels(size_t x_parts) {
  static constexpr TileIntegerKernels kIntegers[2] = {MakeIntegerKernels<ModelUnit, 2>(),
                                                      MakeIntegerKernels<ModelUnit, 3>()};
  return &kIntegers[x_parts - 2];
}

}  // namespace ram

#else

namespace ram {

const TileKernels* ModelTileKernels(size_t) { return nullptr; }
const TileIntegerKernels* ModelTileIntegerKernels(size_t) { return nullptr; }

}  // namespace ram

#endif
