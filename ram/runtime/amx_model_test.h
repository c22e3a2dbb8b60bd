#pragma once

// The f16 kernels on a model of the tile unit (amx_model_test.cc).

#include <cstddef>

#include "ram/runtime/amx_product.h"

namespace ram {

// x in 1 or 2 parts. To be called only where the CPU has the vectors of the kernels. Null on other
// CPUs than x86-64.
const TileKernels* ModelTileKernels(size_t x_parts);
// In 2 or 3.
const TileIntegerKernels* ModelTileIntegerKernels(size_t x_parts);

}  // namespace ram
