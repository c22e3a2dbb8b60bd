#include "ram/stats/saturation.h"

#include "ram/base/result.h"
#include "ram/stats/paired.h"

namespace ram {
namespace {

constexpr double kOneSided = 0.90;  // Confidence of an interval with 5 % at each end.

Estimate Difference(std::span<const double> a, std::span<const double> b,
                    std::span<const double> weights, LossMean mean) {
  std::vector<double> differences;
  for (size_t w = 0; w < weights.size(); ++w) {
    differences.push_back((a[w] - b[w]) * (mean == LossMean::kCorpus ? weights[w] : 1));
  }
  return mean == LossMean::kCorpus ? RatioEstimate(differences, weights, kOneSided)
                                   : TrimmedMeanEstimate(differences, kTrim, kOneSided);
}

}  // namespace

Saturation FindSaturation(std::span<const std::span<const double>> losses,
                          std::span<const double> weights, double margin, LossMean mean) {
  RAM_CHECK(!losses.empty() && weights.size() >= 2 && margin > 0);
  for (const std::span<const double> loss : losses) RAM_CHECK(loss.size() == weights.size());
  Saturation found;
  for (size_t rung = 0; rung + 1 < losses.size(); ++rung) {
    RungFinding& finding = found.rungs.emplace_back();
    bool buys = false;
    for (size_t larger = rung + 1; larger < losses.size(); ++larger) {
      const Estimate difference = Difference(losses[rung], losses[larger], weights, mean);
      buys = buys || difference.interval.low > margin;
      if (larger == rung + 1 || difference.interval.high > finding.difference.interval.high) {
        finding.against = larger;
        finding.difference = difference;
      }
    }
    finding.state = buys                                        ? RungState::kBuys
                    : finding.difference.interval.high < margin ? RungState::kSaturated
                                                                : RungState::kUnresolved;
  }
  for (size_t rung = found.rungs.size(); rung-- > 0;) {
    if (found.rungs[rung].state != RungState::kSaturated) break;
    found.smallest = rung;
  }
  return found;
}

}  // namespace ram
