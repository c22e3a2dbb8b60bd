#pragma once

// A model of random numbers, for timing: what a config describes, in any stored form, without a
// checkpoint.

#include <string>

#include "ram/base/result.h"
#include "ram/family/catalog.h"
#include "ram/quant/choice.h"
#include "ram/runtime/loaded_weights.h"

namespace ram {

// Writes random weights where the pointers of `matrix` lie: dense values uniform in +-0.035, or
// random codes with scales and biases that span it (16-bit scales only). pool may be null.
void FillRandom(const Matrix& matrix, ThreadPool* pool);

// Matrices of the size of trained ones (about +-0.035), of `choice` where their shape allows it and
// they are no routers, else of 16 bits; norms are ones. The same for the same layer.
class RandomWeights : public WeightSource {
 public:
  RandomWeights(Catalog catalog, const Choice& choice);

  const Catalog& catalog() const override { return catalog_; }
  std::string description() const override;
  uint64_t LoadedBytes(int layer) const override;
  Result<LoadedWeights> Load(int layer, ThreadPool* pool) const override;

 private:
  // Its shape and form; pointers are offsets from the beginning of the layer's memory.
  struct Place {
    std::string name;
    Matrix matrix;
    uint64_t values = 0;
    uint64_t scales = 0;
    uint64_t biases = 0;
  };
  std::vector<Place> Places(int layer, uint64_t* bytes) const;

  Catalog catalog_;
  Choice choice_;
};

}  // namespace ram
