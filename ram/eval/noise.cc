#include "ram/eval/noise.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "ram/stats/perplexity.h"
#include "ram/stats/rank_tests.h"

namespace ram {
namespace {

constexpr std::array kStatistics = {&NoiseStatistics::corpus, &NoiseStatistics::trimmed,
                                    &NoiseStatistics::median_shift};

NoiseStatistics StatisticsOf(const NoiseEffect& effect) {
  return {effect.corpus.value, effect.trimmed.value, effect.median_shift};
}

// Everything but median_shift, from differences.
NoiseEffect EffectOf(std::span<const double> differences, std::span<const double> tokens) {
  std::vector<double> weighted(differences.size());
  for (size_t s = 0; s < weighted.size(); ++s) weighted[s] = tokens[s] * differences[s];
  NoiseEffect effect;
  effect.corpus = RatioEstimate(weighted, tokens);
  effect.trimmed = TrimmedMeanEstimate(differences, kNoiseTrim);
  effect.hodges_lehmann = HodgesLehmann(differences);
  return effect;
}

// Of scores against the original's.
NoiseEffect EffectAgainst(const WindowScores& scores, const NoiseExperiment& experiment) {
  std::vector<double> differences(scores.size());
  for (size_t s = 0; s < scores.size(); ++s) differences[s] = scores[s] - experiment.original[s];
  NoiseEffect effect = EffectOf(differences, experiment.tokens);
  effect.median_shift = Median(Sorted(scores)) - Median(Sorted(experiment.original));
  return effect;
}

WindowScores Average(const std::vector<WindowScores>& seeds) {
  WindowScores average(seeds[0].size());
  for (size_t s = 0; s < average.size(); ++s) {
    for (const WindowScores& scores : seeds) average[s] += scores[s];
    average[s] /= static_cast<double>(seeds.size());
  }
  return average;
}

double ScoreOf(double value, double mean, double deviation, size_t num_seeds) {
  const double difference = value - mean;
  if (difference == 0) return 0;
  if (deviation == 0) return std::copysign(std::numeric_limits<double>::infinity(), difference);
  return difference / (deviation * std::sqrt(1 + 1 / static_cast<double>(num_seeds)));
}

ControlEffect EffectOfControl(const NoiseControl& control, const NoiseEffect& compressed,
                              const NoiseExperiment& experiment) {
  ControlEffect effect;
  effect.name = control.name;
  effect.dose = control.dose;
  for (const WindowScores& scores : control.seeds) {
    effect.seeds.push_back(EffectAgainst(scores, experiment));
  }
  effect.average = EffectAgainst(Average(control.seeds), experiment);
  for (const auto statistic : kStatistics) {
    std::vector<double> values;
    for (const NoiseEffect& seed : effect.seeds) values.push_back(StatisticsOf(seed).*statistic);
    effect.mean.*statistic = Mean(values);
    effect.deviation.*statistic = StandardDeviation(values);
    effect.z.*statistic = control.dose == 1 && values.size() > 1
                              ? ScoreOf(StatisticsOf(compressed).*statistic, effect.mean.*statistic,
                                        effect.deviation.*statistic, values.size())
                              : kUndefined;
  }
  return effect;
}

Status CheckExperiment(const NoiseExperiment& experiment) {
  if (experiment.tokens.size() < 2) {
    return Error{ErrorCode::kInvalidArgument,
                 "noise control needs at least 2 windows to pair, more to say anything"};
  }
  RAM_RETURN_IF_ERROR(CheckWindows(experiment.original, experiment.tokens, "original"));
  RAM_RETURN_IF_ERROR(CheckWindows(experiment.compressed, experiment.tokens, "compressed"));
  RAM_RETURN_IF_ERROR(CheckWindows(experiment.antithetic, experiment.tokens, "antithetic"));
  for (const NoiseControl& control : experiment.controls) {
    if (control.seeds.empty()) {
      return Error{ErrorCode::kInvalidArgument, fmt::format("{}: no seeds", control.name)};
    }
    for (const WindowScores& scores : control.seeds) {
      RAM_RETURN_IF_ERROR(CheckWindows(scores, experiment.tokens, control.name));
    }
  }
  return Done{};
}

std::string PercentText(double log_ratio) {
  return fmt::format("{:+.2f} %", 100 * std::expm1(log_ratio));
}

std::string EffectText(const Estimate& estimate) {
  return fmt::format("{} ({:+.2f} … {:+.2f} %)", PercentText(estimate.value),
                     100 * std::expm1(estimate.interval.low),
                     100 * std::expm1(estimate.interval.high));
}

}  // namespace

std::string_view NoiseVerdictName(NoiseVerdict verdict) {
  constexpr std::array<std::string_view, 4> kNames = {"quantization improves", "noise-equivalent",
                                                      "milder than noise", "structured damage"};
  return kNames[static_cast<size_t>(verdict)];
}

NoiseVerdict JudgeNoise(const Estimate& effect, double z) {
  RAM_CHECK(!std::isnan(z));
  if (z > kNoiseZ) return NoiseVerdict::kDamage;
  if (z >= -kNoiseZ) return NoiseVerdict::kEquivalent;
  return effect.interval.high < 0 ? NoiseVerdict::kImproves : NoiseVerdict::kMilder;
}

Result<NoiseResult> AnalyzeNoise(const NoiseExperiment& experiment) {
  RAM_RETURN_IF_ERROR(CheckExperiment(experiment));
  NoiseResult result;
  result.compressed = EffectAgainst(experiment.compressed, experiment);
  result.antithetic = EffectAgainst(experiment.antithetic, experiment);
  const size_t n = experiment.tokens.size();
  std::vector<double> first(n);
  std::vector<double> second(n);
  for (size_t s = 0; s < n; ++s) {
    first[s] = (experiment.compressed[s] - experiment.antithetic[s]) / 2;
    second[s] = (experiment.compressed[s] + experiment.antithetic[s]) / 2 - experiment.original[s];
  }
  result.first_order = EffectOf(first, experiment.tokens);
  result.second_order = EffectOf(second, experiment.tokens);
  result.first_order.median_shift = kUndefined;
  result.second_order.median_shift = kUndefined;
  for (const NoiseControl& control : experiment.controls) {
    result.controls.push_back(EffectOfControl(control, result.compressed, experiment));
  }
  const auto judge = std::ranges::find(result.controls, 1.0, &ControlEffect::dose);
  if (judge == result.controls.end() || judge->seeds.size() < 2) {
    return Error{ErrorCode::kInvalidArgument,
                 "a verdict needs a control of dose 1 with at least 2 seeds"};
  }
  result.judged_by = static_cast<size_t>(judge - result.controls.begin());
  result.verdict = JudgeNoise(result.compressed.trimmed, judge->z.trimmed);
  result.corpus_verdict = JudgeNoise(result.compressed.corpus, judge->z.corpus);
  return result;
}

std::vector<std::string> NoiseSentences(const NoiseResult& result) {
  const ControlEffect& judge = result.controls[result.judged_by];
  const size_t seeds = judge.seeds.size();
  std::vector<std::string> sentences;
  std::string meaning;
  switch (result.verdict) {
    case NoiseVerdict::kImproves:
      meaning =
          "The compressed model is better than the original, and more so than noise of the "
          "size of its errors makes it.";
      break;
    case NoiseVerdict::kEquivalent:
      meaning = "What compression did is what noise of the size of its errors does.";
      break;
    case NoiseVerdict::kMilder:
      meaning =
          "Compression did less harm than noise of the size of its errors; it is not shown "
          "to be better than the original.";
      break;
    case NoiseVerdict::kDamage:
      meaning =
          "Compression did more harm than noise of the size of its errors: the errors have a "
          "direction that hurts.";
      break;
  }
  sentences.push_back(fmt::format(
      "Verdict: {}. {} In the typical window perplexity changes by {}; noise ({}, {} seeds) does "
      "{} on average, z = {:+.1f}.",
      NoiseVerdictName(result.verdict), meaning, EffectText(result.compressed.trimmed), judge.name,
      seeds, PercentText(judge.mean.trimmed), judge.z.trimmed));
  if (result.corpus_verdict != result.verdict) {
    sentences.push_back(fmt::format(
        "The corpus says otherwise: {} (z = {:+.1f}), perplexity {}; few windows with large "
        "differences decide it.",
        NoiseVerdictName(result.corpus_verdict), judge.z.corpus,
        EffectText(result.compressed.corpus)));
  }
  sentences.push_back(fmt::format("By their direction the errors do {}, by their size {}.",
                                  EffectText(result.first_order.trimmed),
                                  EffectText(result.second_order.trimmed)));
  if (seeds < kSeedsForVerdict) {
    sentences.push_back(
        fmt::format("{} seeds are few: take z for an indication; a verdict wants "
                    "{}.",
                    seeds, kSeedsForVerdict));
  }
  return sentences;
}

}  // namespace ram
