#pragma once

// What the controlled-noise experiment says: scores of the same windows under an original, a
// compressed model and originals with noise of the same size; verdict out. Numbers only; the noise
// itself is noisy_weights.h, the reasoning docs/evaluation.md.
//
// With the error E of the compressed weights, the loss changes by g.E + E'HE / 2 + ...: the second
// part is what noise of this size does whatever its direction, the first exists only where errors
// happen to point along the gradient. Weights with the sign of E reversed tell them apart.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ram/base/result.h"
#include "ram/stats/describe.h"

namespace ram {

inline constexpr double kNoiseZ = 2;           // |z| up to this is like noise.
inline constexpr size_t kSeedsForVerdict = 8;  // With fewer, z is an indication.
inline constexpr double kNoiseTrim = 0.10;     // Of the windows, cut at each end of d.

// Scores of N windows: mean negative log-likelihood [nats per token].
using WindowScores = std::vector<double>;

// One kind of noise at one dose.
struct NoiseControl {
  std::string name;
  double dose = 1;
  std::vector<WindowScores> seeds;  // One or more.
};

struct NoiseExperiment {
  std::vector<double> tokens;  // [N], scored tokens of each window.
  WindowScores original;
  WindowScores compressed;
  WindowScores antithetic;  // Weights 2 W - W^.
  // The first one with a dose of 1 is what the verdict is by.
  std::vector<NoiseControl> controls;
};

// A condition against the original on the same windows, d_s = l_s(condition) - l_s(original).
struct NoiseEffect {
  Estimate corpus;          // sum T_s d_s / sum T_s (RatioEstimate).
  Estimate trimmed;         // The typical window: mean of d without 10 % at each end.
  Estimate hodges_lehmann;  // Of d.
  double median_shift = 0;  // Median l of the condition less that of the original: what
                            // unpaired comparisons look at.
};

// Of the three numbers that null distributions are made for.
struct NoiseStatistics {
  double corpus = 0;
  double trimmed = 0;
  double median_shift = 0;
};

struct ControlEffect {
  std::string name;
  double dose = 1;
  std::vector<NoiseEffect> seeds;
  NoiseEffect average;  // Of the window scores averaged over seeds, with its intervals.
  NoiseStatistics mean;
  NoiseStatistics deviation;  // Over seeds; NaN for one.
  // Where the compressed model lies among them, (its value - mean) / (deviation sqrt(1 + 1 / K));
  // NaN for one seed, and for doses other than 1, which have another size.
  NoiseStatistics z;
};

enum class NoiseVerdict : uint8_t {
  kImproves,    // Below the original for sure, and further than noise goes: z < -2.
  kEquivalent,  // |z| <= 2.
  kMilder,      // z < -2, but not below the original for sure: it harms less than noise.
  kDamage,      // z > 2: more than errors of this size do.
};
std::string_view NoiseVerdictName(NoiseVerdict verdict);  // "quantization improves", ...

struct NoiseResult {
  NoiseEffect compressed;
  NoiseEffect antithetic;
  // (compressed - antithetic) / 2, what errors do by their direction; and
  // (compressed + antithetic) / 2 - original, what they do by their size.
  NoiseEffect first_order;
  NoiseEffect second_order;
  std::vector<ControlEffect> controls;
  size_t judged_by = 0;                              // Index into controls.
  NoiseVerdict verdict = NoiseVerdict::kEquivalent;  // By the typical window.
  NoiseVerdict corpus_verdict = NoiseVerdict::kEquivalent;
};

// `effect` is that of the compressed model. z is not NaN.
NoiseVerdict JudgeNoise(const Estimate& effect, double z);

// kInvalidArgument: fewer than 2 windows, sizes that differ, numbers that are not finite, no
// control of dose 1, or one of a single seed.
Result<NoiseResult> AnalyzeNoise(const NoiseExperiment& experiment);

// One paragraph for people.
std::vector<std::string> NoiseSentences(const NoiseResult& result);

}  // namespace ram
