#pragma once

// A model whose weights are disturbed as much as a compressed one's, but otherwise than it: the
// control of an experiment that asks whether quantization does anything that noise of its size does
// not (docs/evaluation.md).
//
// W is a matrix of the original, W^ the same one of the compressed model as its loader decodes it,
// E = W^ - W its error. Modules that are quantized in the compressed model become W + dose * Z in
// f32, without any further rounding; everything else is the original's. Z depends on the seed, the
// name of the tensor and the place of the element alone: not on threads, nor on the order in which
// layers are loaded. The same seed gives all kinds and doses the same random numbers.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ram/base/result.h"
#include "ram/base/thread_pool.h"
#include "ram/runtime/loaded_weights.h"

namespace ram {

struct Noise {
  // A group is a run of weights of a row that share a scale in the compressed model.
  enum class Kind : uint8_t {
    kGaussian,       // sigma N(0, 1), sigma^2 the mean of E^2 over a matrix (or a tensor).
    kGroupGaussian,  // sigma_g N(0, 1), sigma_g^2 the mean of E^2 over the group.
    kPermuted,       // The errors of the group in another order.
    kUniform,        // Uniform in +-sigma_g sqrt(3): the error of a quantizer with dither.
    kAntithetic,     // -E: with a dose of 1 the weights are 2 W - W^.
  };
  Kind kind = Kind::kGaussian;
  double dose = 1;
  uint64_t seed = 0;
  bool per_tensor = false;  // kGaussian: one sigma for all experts of a stack, not one for each.
};

// What was done to one tensor.
struct NoiseLevel {
  std::string tensor;
  double signal = 0;  // Sum of W^2,
  double target = 0;  // of (dose E)^2,
  double noise = 0;   // and of what was really added, after rounding to f32.
};

// Signal-to-noise ratios of tensors [dB], 10 log10(sum W^2 / sum E^2).
struct SnrSummary {
  double mean = 0;  // Arithmetic mean over tensors.
  double min = 0;
  double max = 0;
  double pooled = 0;  // All weights together.
};
struct NoiseSnr {
  SnrSummary target;
  SnrSummary realised;
  double largest_difference = 0;  // Of one tensor; small tensors scatter.
};
// `levels` is not empty. Infinite for tensors without error, which the summaries leave out.
NoiseSnr SummarizeLevels(const std::vector<NoiseLevel>& levels);

// Mean and pooled SNR are to be met within this.
inline constexpr double kSnrTolerance_db = 0.05;

class NoisyWeights final : public WeightSource {
 public:
  // Both outlive it. kInvalidArgument: the two are not the same model (names the first tensor that
  // differs), or nothing is quantized in `compressed`.
  static Result<std::unique_ptr<NoisyWeights>> Make(const WeightSource& original,
                                                    const WeightSource& compressed,
                                                    const Noise& noise);

  const Catalog& catalog() const override { return catalog_; }
  std::string description() const override;
  // With both models' own weights of the layer, which are held while the noise is made.
  uint64_t LoadedBytes(int layer) const override;
  Result<LoadedWeights> Load(int layer, ThreadPool* pool) const override;

  // Loads every layer to see what the noise is, tensor by tensor, in the order of the catalog.
  Result<std::vector<NoiseLevel>> MeasureLevels(ThreadPool* pool) const;

 private:
  // A matrix of the layer.
  struct Place {
    size_t tensor;  // Index into catalog_.tensors.
    std::string name;
    bool noisy;
    uint64_t group_size;
  };
  NoisyWeights(const WeightSource& original, const WeightSource& compressed, const Noise& noise)
      : original_(original), compressed_(compressed), noise_(noise) {}
  Result<LoadedWeights> LoadLayer(int layer, ThreadPool* pool,
                                  std::vector<NoiseLevel>* levels) const;

  const WeightSource& original_;
  const WeightSource& compressed_;
  Noise noise_;
  Catalog catalog_;
  std::vector<std::vector<Place>> layers_;  // layers_[layer + 1]
};

// "gaussian", "group", "permuted", "uniform", "antithetic".
std::string_view NoiseKindName(Noise::Kind kind);

}  // namespace ram
