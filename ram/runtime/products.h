#pragma once

// Matrix products of the CPU engine: activations times weights in any stored form. One
// implementation per way of multiplying: f32 FMA on every CPU (products_fma.cc), 16-bit AMX tiles
// (products_amx.cc).

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ram/base/thread_pool.h"
#include "ram/runtime/engine.h"
#include "ram/runtime/matrix.h"

namespace ram {

// A finished part of a product: values[r][c] is element (first_row + r, first_col + c).
struct ProductTile {
  uint64_t first_row = 0;
  uint64_t first_col = 0;
  Rows values;
};

// x * matrix^T + bias. The result goes to `out` [x.rows, matrix.rows], or, if `sink` is set, tile
// by tile to the sink, which may change the values: every element exactly once, full height in
// blocks of rows, tiles of at most 256 columns that begin at multiples of 256. Sinks are called
// from any thread of the pool; `thread` is in [0, num_threads).
struct Product {
  Matrix matrix;  // [out, in], count = 1, any form.
  std::span<const float> bias = {};
  Rows out;
  std::function<void(size_t thread, const ProductTile& tile)> sink = nullptr;
};

// Products with one input, which is prepared (split, packed) once.
struct ProductGroup {
  Rows x;
  std::vector<Product> products;
};

class Products {
 public:
  virtual ~Products() = default;
  // "avx3", "amx-f16", ...
  virtual std::string name() const = 0;
  // All groups (e.g. one per expert) in one parallel pass. Weights are decoded block by block in
  // front of the product, each block once per call (by tiles: once per 4096 rows, and once more
  // where rows are divided among threads). A result element does not depend on the number of rows,
  // on the other groups, or on the threads.
  virtual void Multiply(std::span<const ProductGroup> groups, ThreadPool& pool) = 0;
};

std::unique_ptr<Products> MakeFmaProducts(const std::string& isa, Precision precision);
// Null where the CPU, the system or the self test says no. isa: "amx-f16" or "amx-bf16".
std::unique_ptr<Products> MakeAmxProducts(const std::string& isa, Precision precision);

}  // namespace ram
