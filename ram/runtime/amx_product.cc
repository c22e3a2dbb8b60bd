#include "ram/runtime/amx_product.h"

#if defined(__x86_64__)

#include "ram/runtime/amx_codes-inl.h"
#include "ram/runtime/amx_product-inl.h"

namespace ram {

const TileKernels* FindTileKernels(TileFormat format, size_t x_parts) {
  static constexpr TileKernels kBf16[3] = {MakeTileKernels<TileUnit, TileFormat::kBf16, 1>(),
                                           MakeTileKernels<TileUnit, TileFormat::kBf16, 2>(),
                                           MakeTileKernels<TileUnit, TileFormat::kBf16, 3>()};
  static constexpr TileKernels kF16[2] = {MakeTileKernels<TileUnit, TileFormat::kF16, 1>(),
                                          MakeTileKernels<TileUnit, TileFormat::kF16, 2>()};
  return format == TileFormat::kBf16 ? &kBf16[x_parts - 1] : &kF16[x_parts - 1];
}

const TileIntegerKernels* FindTileIntegerKernels(size_t x_parts) {
  static constexpr TileIntegerKernels kIntegers[2] = {MakeIntegerKernels<TileUnit, 2>(),
                                                      MakeIntegerKernels<TileUnit, 3>()};
  return &kIntegers[x_parts - 2];
}

}  // namespace ram

#else

namespace ram {

const TileKernels* FindTileKernels(TileFormat, size_t) { return nullptr; }
const TileIntegerKernels* FindTileIntegerKernels(size_t) { return nullptr; }

}  // namespace ram

#endif
