#include "ram/stats/accuracy.h"

#include <algorithm>
#include <cmath>

#include "ram/base/result.h"
#include "ram/stats/distributions.h"

namespace ram {
namespace {

double AsDouble(uint64_t count) { return static_cast<double>(count); }

}  // namespace

double McNemarExact(const PairedAnswers& answers) {
  const auto n = static_cast<int64_t>(answers.num_discordant());
  const auto fewer = static_cast<int64_t>(std::min(answers.only_a, answers.only_b));
  return std::min(1.0, 2 * BinomialCdf(fewer, n, 0.5));
}

double McNemarMidP(const PairedAnswers& answers) {
  const auto n = static_cast<int64_t>(answers.num_discordant());
  const auto fewer = static_cast<int64_t>(std::min(answers.only_a, answers.only_b));
  const double at_most = BinomialCdf(fewer, n, 0.5);
  const double below = BinomialCdf(fewer - 1, n, 0.5);
  return std::min(1.0, at_most + below);  // 2 P(X <= m) - P(X = m).
}

Interval BonettPriceInterval(const PairedAnswers& answers, double confidence) {
  const double n = AsDouble(answers.num_questions()) + 2;
  const double a = (AsDouble(answers.only_a) + 1) / n;
  const double b = (AsDouble(answers.only_b) + 1) / n;
  const double z = NormalQuantile((1 + confidence) / 2);
  const double reach = z * std::sqrt((a + b - (a - b) * (a - b)) / n);
  return {std::max(-1.0, a - b - reach), std::min(1.0, a - b + reach)};
}

Interval ShareInterval(uint64_t k, uint64_t n, double confidence) {
  RAM_CHECK(k <= n && n > 0);
  const double tail = (1 - confidence) / 2;
  const double right = AsDouble(k);
  const double wrong = AsDouble(n - k);
  return {k == 0 ? 0 : BetaQuantile(tail, right, wrong + 1),
          k == n ? 1 : BetaQuantile(1 - tail, right + 1, wrong)};
}

double DetectableAccuracy(double n, double discordance, double power) {
  RAM_CHECK(n > 0 && discordance >= 0 && discordance <= 1);
  const double z_a = NormalQuantile((1 + kConfidence) / 2);
  const double z_b = NormalQuantile(power);
  const auto surplus = [&](double delta) {  // Rises with delta.
    return delta * std::sqrt(n) - z_a * std::sqrt(discordance) -
           z_b * std::sqrt(discordance - delta * delta);
  };
  double low = 0;
  double high = discordance;
  if (!(surplus(high) >= 0)) return kUndefined;
  for (int i = 0; i < 200 && low < high; ++i) {
    const double middle = low + (high - low) / 2;
    (surplus(middle) < 0 ? low : high) = middle;
  }
  return high;
}

double QuestionsNeeded(double delta, double discordance, double power) {
  RAM_CHECK(delta > 0);
  const double rest = std::max(0.0, discordance - delta * delta);
  const double root = NormalQuantile((1 + kConfidence) / 2) * std::sqrt(discordance) +
                      NormalQuantile(power) * std::sqrt(rest);
  return root * root / (delta * delta);
}

double DetectableAccuracyUnpaired(double n, double accuracy, double power) {
  return (NormalQuantile((1 + kConfidence) / 2) + NormalQuantile(power)) *
         std::sqrt(2 * accuracy * (1 - accuracy) / n);
}

AccuracyResult CompareAccuracy(const PairedAnswers& answers, double margin) {
  RAM_CHECK(answers.num_questions() > 0 && margin > 0);
  const double n = AsDouble(answers.num_questions());
  AccuracyResult out;
  out.difference = (AsDouble(answers.only_a) - AsDouble(answers.only_b)) / n;
  out.discordance = AsDouble(answers.num_discordant()) / n;
  out.interval = BonettPriceInterval(answers);
  out.interval_90 = BonettPriceInterval(answers, 0.90);
  out.exact_p = McNemarExact(answers);
  out.mid_p = McNemarMidP(answers);
  out.detectable = DetectableAccuracy(n, out.discordance);
  out.questions_needed = QuestionsNeeded(margin, out.discordance);
  out.different = !out.interval.Contains(0);
  out.equivalent = out.interval_90.low > -margin && out.interval_90.high < margin;
  out.underpowered = !out.different && !out.equivalent && !(out.detectable <= margin);
  return out;
}

}  // namespace ram
