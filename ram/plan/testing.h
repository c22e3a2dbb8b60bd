#pragma once

// Hand-made rate tables for the tests of this folder.

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "ram/base/hash.h"
#include "ram/rates/rate_table.h"

namespace ram::testing {

// Relative MSE of Gaussian weights (x 1e-3), in the order of kAffineChoices, as plain rounding
// leaves it.
inline constexpr double kGaussianRates[18] = {180,  156,  131,  42.9,  36.3,  29.3,
                                              10,   8.28, 6.57, 2.38,  1.97,  1.55,
                                              .595, .493, .389, .0605, .0523, .0409};

struct ModuleSpec {
  std::string name;
  std::string kind;
  std::string tensor_class;
  int layer;
  std::vector<uint64_t> shape;
  double norm = 1;       // ||W||^2
  double heaviness = 1;  // Errors are those of Gaussian weights, times this.
  bool mxfp4 = false;
  std::string mlx_default = "uniform";
};

inline ModuleRates MakeModule(const ModuleSpec& spec) {
  ModuleRates module;
  module.name = spec.name;
  module.kind = spec.kind;
  module.tensor_class = spec.tensor_class;
  module.layer = spec.layer;
  module.shape = spec.shape;
  module.mlx_default = spec.mlx_default;
  module.sum_squares = spec.norm;
  module.weighted_sum_squares = spec.norm;
  module.kurtosis = 3;
  module.largest = 0.25;
  module.hash = "00112233445566778899aabbccddeeff";
  const uint64_t cols = spec.shape.back();
  const uint64_t rows = module.num_weights() / cols;
  for (size_t i = 0; i < kAffineChoices.size(); ++i) {
    const Choice& choice = kAffineChoices[i];
    if (!IsLegal(choice, cols)) continue;
    ChoiceRate rate;
    rate.choice = choice;
    rate.bytes = StoredBytes(choice, rows, cols, module.dtype) + 300;
    const double error = spec.norm * spec.heaviness * kGaussianRates[i] / 1e3;
    rate.sum_squares_error = choice.bits == 8 ? error * 0.6 : error;
    rate.weighted_error = rate.sum_squares_error;
    rate.largest_error = 0.25 * std::exp2(-choice.bits);
    if (choice.bits == 8) rate.rtn_sum_squares_error = error;
    module.choices.push_back(rate);
  }
  if (spec.mxfp4) {
    ChoiceRate rate;
    rate.choice = Choice::Mxfp4();
    rate.bytes = StoredBytes(rate.choice, rows, cols, module.dtype) + 200;
    module.choices.push_back(rate);
  }
  ChoiceRate dense;
  dense.bytes = StoredBytes(dense.choice, rows, cols, module.dtype) + 100;
  module.choices.push_back(dense);
  return module;
}

inline RateTable MakeTable(const std::vector<ModuleSpec>& specs) {
  RateTable table;
  table.model = "test/model";
  table.model_type = "test";
  table.structure_hash = "aa";
  table.weights_hash = "bb";
  for (const ModuleSpec& spec : specs) {
    table.modules.push_back(MakeModule(spec));
    table.num_layers = std::max(table.num_layers, spec.layer + 1);
  }
  table.hidden_size = 256;
  table.vocabulary = 1024;
  table.max_context = 4096;
  table.overhead_bytes = 1000;
  table.fixed.push_back({"model.norm.weight", 256, 600});
  table.source_bytes = table.dense_bytes();
  return table;
}

// A dense transformer.
inline RateTable DenseTable(int num_layers = 4) {
  std::vector<ModuleSpec> specs = {
      {"model.embed_tokens", "embedding", "embedding", -1, {1024, 256}, 20}};
  for (int layer = 0; layer < num_layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    const double norm = 10 + layer;
    specs.push_back({prefix + "self_attn.q_proj", "linear", "q", layer, {256, 256}, norm});
    specs.push_back({prefix + "self_attn.k_proj", "linear", "k", layer, {64, 256}, norm, 1.1});
    specs.push_back({prefix + "self_attn.v_proj", "linear", "v", layer, {64, 256}, norm});
    specs.push_back({prefix + "self_attn.o_proj", "linear", "o", layer, {256, 256}, norm, 1.05});
    specs.push_back({prefix + "mlp.gate_proj", "linear", "gate", layer, {512, 256}, norm});
    specs.push_back({prefix + "mlp.up_proj", "linear", "up", layer, {512, 256}, norm});
    specs.push_back({prefix + "mlp.down_proj", "linear", "down", layer, {256, 512}, norm, 1.3});
  }
  specs.push_back({"lm_head", "linear", "head", -1, {1024, 256}, 30});
  return MakeTable(specs);
}

// A mixture of experts with a tied embedding, a router, a gate of linear attention, a width that no
// group divides, one that only 32 divides, experts that come in MXFP4, and a matrix of zeros.
inline RateTable MixedTable() {
  return MakeTable({
      {"model.embed_tokens", "embedding", "tied_embedding", -1, {1024, 256}, 20},
      {"model.layers.0.linear_attn.in_proj_a", "linear", "linear_alpha_beta", 0, {16, 256}, 2},
      {"model.layers.0.linear_attn.in_proj_qkv", "linear", "linear_qkv", 0, {512, 256}, 10},
      {"model.layers.0.mlp.gate", "router", "router", 0, {8, 256}, 1, 3, false, "8,64"},
      {"model.layers.0.mlp.switch_mlp.up_proj", "switch", "expert_up", 0, {8, 128, 256}, 40},
      {"model.layers.0.mlp.switch_mlp.down_proj", "switch", "expert_down", 0, {8, 256, 128}, 40},
      {"model.layers.1.mlp.switch_mlp.up_proj",
       "switch",
       "expert_up",
       1,
       {8, 128, 256},
       40,
       1,
       true},
      {"model.layers.1.mlp.odd_proj", "linear", "other", 1, {256, 172}, 10},
      {"model.layers.1.mlp.narrow_proj", "linear", "other", 1, {256, 352}, 10},
      {"model.layers.1.mlp.zero_proj", "linear", "other", 1, {256, 256}, 0},
  });
}

inline LoadedRates Load(RateTable table) {
  std::string sha256 = Sha256Hex(ToJsonText(table));
  return {std::move(table), std::move(sha256)};
}

}  // namespace ram::testing
