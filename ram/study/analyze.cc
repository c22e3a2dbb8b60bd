#include <algorithm>
#include <utility>

#include "ram/base/result.h"
#include "ram/stats/paired.h"
#include "ram/stats/rank_tests.h"
#include "ram/study/study.h"

namespace ram {
namespace {

// ln of the ratio of the corpus means of two losses.
Estimate CompareKl(const StudyArm& a, const StudyArm& b, const std::vector<double>& tokens) {
  std::vector<double> of_a;
  std::vector<double> of_b;
  for (size_t w = 0; w < tokens.size(); ++w) {
    of_a.push_back(tokens[w] * a.kl[w]);
    of_b.push_back(tokens[w] * b.kl[w]);
  }
  return LogRatioEstimate(of_a, of_b);
}

Estimate CompareTypical(const StudyArm& a, const StudyArm& b) {
  std::vector<double> differences;
  for (size_t w = 0; w < a.nll.size(); ++w) differences.push_back(a.nll[w] - b.nll[w]);
  return TrimmedMeanEstimate(differences, kTrim);
}

void CompareWithOriginal(const StudyArm& original, const std::vector<double>& tokens,
                         StudyArm* arm) {
  std::vector<double> sums;
  for (size_t w = 0; w < tokens.size(); ++w) {
    sums.push_back(tokens[w] * (arm->nll[w] - original.nll[w]));
  }
  arm->corpus = RatioEstimate(sums, tokens);
  arm->typical = CompareTypical(*arm, original);
}

// The plans that others are judged by: the first method that is neither the seeds' nor a control.
std::optional<std::string> FindOurs(const std::vector<StudyArm>& arms) {
  for (const StudyArm& arm : arms) {
    if (arm.kind == ArmSpec::Kind::kPlanned && !arm.is_null && arm.method.starts_with("weights")) {
      return arm.method;
    }
  }
  return std::nullopt;
}

std::optional<size_t> FindArm(const Study& study, const std::string& method,
                              const std::string& size) {
  for (size_t m = 0; m < study.arms.size(); ++m) {
    if (study.arms[m].method == method && study.arms[m].size == size) return m;
  }
  return std::nullopt;
}

void AddPair(size_t a, size_t b, const std::string& size, Study* study) {
  const StudyArm& of_a = study->arms[a];
  const StudyArm& of_b = study->arms[b];
  StudyPair pair{a, b, size, CompareKl(of_a, of_b, study->window_tokens),
                 CompareTypical(of_a, of_b)};
  study->pairs.push_back(std::move(pair));
}

void MakePairs(Study* study) {
  for (const StudySize& size : study->sizes) {
    std::optional<size_t> ours;
    if (study->ours) ours = FindArm(*study, *study->ours, size.label);
    for (size_t m = 0; m < study->arms.size(); ++m) {
      if (study->arms[m].size != size.label) continue;
      if (size.baseline) AddPair(m, *size.baseline, size.label, study);
    }
    for (size_t m = 0; m < study->arms.size(); ++m) {
      if (study->arms[m].size != size.label || !ours || m == *ours) continue;
      AddPair(m, *ours, size.label, study);
    }
  }
  std::vector<double> kl;
  std::vector<double> typical;
  for (const StudyPair& pair : study->pairs) {
    kl.push_back(pair.kl.p);
    typical.push_back(pair.typical.p);
  }
  kl = Holm(kl);
  typical = Holm(typical);
  for (size_t i = 0; i < study->pairs.size(); ++i) {
    study->pairs[i].kl_p = kl[i];
    study->pairs[i].typical_p = typical[i];
  }
}

void MakeLadder(Study* study) {
  if (!study->ours) return;
  for (size_t m = 0; m < study->arms.size(); ++m) {
    if (study->arms[m].method == *study->ours) study->ladder.push_back(m);
  }
  std::stable_sort(study->ladder.begin(), study->ladder.end(),
                   [&](size_t a, size_t b) { return study->arms[a].bytes < study->arms[b].bytes; });
  // Two sizes may lead to the same plan.
  const auto again =
      std::unique(study->ladder.begin(), study->ladder.end(),
                  [&](size_t a, size_t b) { return study->arms[a].bytes == study->arms[b].bytes; });
  study->ladder.erase(again, study->ladder.end());

  std::vector<double> p;
  for (size_t i = 1; i < study->ladder.size(); ++i) {
    StudyStep step{study->ladder[i - 1], study->ladder[i], {}};
    step.kl = CompareKl(study->arms[step.smaller], study->arms[step.larger], study->window_tokens);
    p.push_back(step.kl.p);
    study->steps.push_back(step);
  }
  p = Holm(p);
  for (size_t i = 0; i < p.size(); ++i) study->steps[i].kl_p = p[i];
  study->ladder.push_back(0);  // The original.
}

}  // namespace

void AnalyzeStudy(Study* study) {
  RAM_CHECK(!study->arms.empty() && study->arms.front().is_original);
  study->ladder.clear();
  study->pairs.clear();
  study->steps.clear();
  study->by_perplexity = {};
  study->by_divergence = {};
  for (StudyArm& arm : study->arms)
    CompareWithOriginal(study->arms.front(), study->window_tokens, &arm);
  study->ours = FindOurs(study->arms);
  MakePairs(study);
  MakeLadder(study);
  if (study->ladder.empty()) return;
  std::vector<std::span<const double>> nll;
  std::vector<std::span<const double>> kl;
  for (const size_t m : study->ladder) {
    nll.emplace_back(study->arms[m].nll);
    kl.emplace_back(study->arms[m].kl);
  }
  study->by_perplexity =
      FindSaturation(nll, study->window_tokens, study->margin, LossMean::kTypical);
  study->by_divergence = FindSaturation(kl, study->window_tokens, study->margin, LossMean::kCorpus);
}

}  // namespace ram
