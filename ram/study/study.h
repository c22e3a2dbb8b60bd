#pragma once

// What a study found: arms with their losses per window, comparisons at equal bytes, and where more
// bytes stop buying anything. Plain numbers; ram/report says it in words and pictures.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ram/base/json.h"
#include "ram/eval/divergence.h"
#include "ram/stats/describe.h"
#include "ram/stats/perplexity.h"
#include "ram/stats/saturation.h"
#include "ram/study/arms.h"

namespace ram {

struct StudyArm {
  std::string name;    // "weights@uniform-4-64"
  std::string method;  // "weights"; the name for arms that have a size of their own.
  std::string size;    // Label of the size it was made for; empty for those and the original.
  std::string about;   // One line for people.
  ArmSpec::Kind kind = ArmSpec::Kind::kRounded;
  bool is_original = false;
  bool is_null = false;  // A control: sensitivities flat or shuffled.
  uint64_t bytes = 0;    // Of its safetensors files.
  double bits_per_weight = 0;
  std::string same_as;  // Name of an arm with the very same weights, which was run in its place.
  double seconds = 0;   // To run it; 0 for the original.

  std::vector<double> nll;  // Mean of each window [nats per token].
  std::vector<double> kl;   // Mean KL(original || arm) of each window [nats per token].
  PerplexitySummary perplexity;
  Estimate typical;  // ln of the perplexity ratio to the original, paired: the typical window,
  Estimate corpus;   // and the whole text.
  TokenSummary token_kl;
  Estimate same_top;
};

// A number of bytes, from a budget or from an arm that has a size of its own.
struct StudySize {
  std::string label;
  uint64_t bytes = 0;
  std::optional<size_t> baseline;  // That arm.
};

// Two arms of the same bytes on the same windows.
struct StudyPair {
  size_t a = 0;
  size_t b = 0;
  std::string size;
  Estimate kl;       // ln of KL of a / KL of b; negative: a is closer to the original.
  Estimate typical;  // ln of the ratio of perplexities in the typical window; negative: a lower.
  double kl_p = kUndefined;       // By Holm over all pairs of the study,
  double typical_p = kUndefined;  // likewise.
};

// Two neighbours on the ladder of our plans, the smaller one first.
struct StudyStep {
  size_t smaller = 0;
  size_t larger = 0;
  Estimate kl;               // ln of KL of the smaller / KL of the larger.
  double kl_p = kUndefined;  // By Holm over all steps.
};

struct Study {
  std::string model;
  std::string text;       // "wikitext-2 test"
  std::string protocol;   // "ram-wikitext2"
  std::string settings;   // "windows of 2048, 146 of 146, seed 42, no BOS"
  std::string numerics;   // "ram, numerics hf"
  std::string precision;  // "f32"
  std::string engine;     // "cpu amx-f16"
  double margin = 0;      // Of saturation [nats per token].
  std::vector<double> window_tokens;

  std::vector<StudyArm>
      arms;  // The original first, then those with sizes of their own, then plans.
  std::vector<StudySize> sizes;
  std::optional<std::string> ours;  // Method whose plans are the ladder; none without plans.
  std::vector<size_t> ladder;       // Arms by size, the original last.
  std::vector<StudyPair> pairs;     // Plans against what has their bytes, ours against other plans.
  std::vector<StudyStep> steps;
  Saturation by_perplexity;  // Rungs are those of the ladder.
  Saturation by_divergence;
  std::vector<std::string> notes;  // What was not possible, and what to know.
};

// Fills what follows from arms, sizes, window_tokens and margin: `ours`, ladder, pairs, steps,
// saturation. At least two windows.
void AnalyzeStudy(Study* study);

OrderedJson StudyJson(const Study& study);

}  // namespace ram
