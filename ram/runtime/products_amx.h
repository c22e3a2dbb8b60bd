#pragma once

// Products made of tile kernels: what MakeAmxProducts returns, for any kernels. Tests put a model
// of the tile unit behind it (amx_model.h).

#include <memory>
#include <string>

#include "ram/runtime/amx_product.h"
#include "ram/runtime/products.h"

namespace ram {

// Parts of the activations that a precision needs.
size_t TileParts(TileFormat format, Precision precision);
// The same where the weights are integers.
size_t TileIntegerParts(Precision precision);

// `uses_unit`: the kernels need a TileScope.
std::unique_ptr<Products> MakeTileProducts(std::string name, const TileKernels& kernels,
                                           const TileIntegerKernels& integers, bool uses_unit);

}  // namespace ram
