#pragma once

// Frequencies of rotary embeddings, from what a config says about them.

#include <cstdint>
#include <string>

#include "ram/base/json.h"
#include "ram/base/result.h"
#include "ram/family/graph.h"
#include "ram/family/kinds.h"

namespace ram {

struct RopeSettings {
  // rope_scaling or rope_parameters of this kind of layer; null: the default kind.
  const Json* parameters = nullptr;
  double theta = 10000;
  uint64_t dims = 0;  // Columns that rotate.
  uint64_t max_context = 0;
  uint64_t original_context = 0;  // Of the config itself, outside `parameters`; 0: not there.
  bool interleaved = false;
  Numerics numerics = Numerics::kHf;
  std::string where;
};

// default, linear, llama3, yarn, longrope; dynamic within max_context, where it is the default; the
// kinds with sections (mrope), which are the default for text. Frequencies are computed in f32 in
// the order of transformers. kUnsupported names another kind; kCorrupt a missing or impossible key.
Result<RopeGraph> BuildRope(const RopeSettings& settings);

// 0.1 * mscale * ln(factor) + 1: what yarn multiplies scores with, once per factor of the product.
double YarnScale(double factor, double mscale);

}  // namespace ram
