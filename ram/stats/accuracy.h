#pragma once

// Two models on the same questions, right or wrong: what a score of 69.5 % against 69.4 % means.

#include <cstdint>
#include <string_view>

#include "ram/stats/describe.h"

namespace ram {

// Questions by who was right.
struct PairedAnswers {
  uint64_t both = 0;
  uint64_t only_a = 0;
  uint64_t only_b = 0;
  uint64_t neither = 0;

  uint64_t num_questions() const { return both + only_a + only_b + neither; }
  uint64_t num_discordant() const { return only_a + only_b; }
};

// McNemar's test that only_a and only_b are equally likely. Exact: the two-sided binomial. Mid-p
// counts half of the observed table, 2 P(X <= m) - P(X = m) for X ~ Binomial(only_a + only_b, 1/2),
// m the smaller: close to 5 % where the exact test is too careful (Fagerland, Lydersen, Laake,
// BMC Med. Res. Methodol. 13:91, 2013). Both at most 1; 1 without discordant questions.
double McNemarExact(const PairedAnswers& answers);
double McNemarMidP(const PairedAnswers& answers);

// Interval of P(A right) - P(B right), Bonett and Price (J. Educ. Behav. Stat. 37:479, 2012):
// q_a = (only_a + 1) / (n + 2), q_b likewise; (q_a - q_b) -+ z sqrt((q_a + q_b - (q_a - q_b)^2) /
// (n + 2)), cut to [-1, 1].
Interval BonettPriceInterval(const PairedAnswers& answers, double confidence = kConfidence);

// Interval of a share k / n, exact in that its level is never below `confidence` (Clopper,
// Pearson).
Interval ShareInterval(uint64_t k, uint64_t n, double confidence = kConfidence);

// The smallest difference of accuracy that McNemar's test at 5 % finds with probability `power`
// among n questions of which a share `discordance` is answered differently: the delta with
//   delta sqrt(n) = z_{0.975} sqrt(discordance) + z_power sqrt(discordance - delta^2)
// (Connor, Biometrics 43:207, 1987). NaN if even delta = discordance is too small to be found.
double DetectableAccuracy(double n, double discordance, double power = 0.8);
// Questions needed to find `delta`: (z_{0.975} sqrt(psi) + z_power sqrt(psi - delta^2))^2 /
// delta^2.
double QuestionsNeeded(double delta, double discordance, double power = 0.8);
// Without pairing, two models of accuracy p: (z_{0.975} + z_power) sqrt(2 p (1 - p) / n).
double DetectableAccuracyUnpaired(double n, double accuracy, double power = 0.8);

struct AccuracyResult {
  double difference = 0;   // P(A right) - P(B right).
  double discordance = 0;  // Share answered differently.
  Interval interval;       // 95 %, Bonett-Price.
  Interval interval_90;    // Inside +-margin: equivalent (two one-sided tests, Schuirmann 1987).
  double exact_p = 1;
  double mid_p = 1;
  double detectable = kUndefined;
  double questions_needed = kUndefined;  // For the margin.
  bool different = false;                // The 95 % interval excludes 0.
  bool equivalent = false;               // Both may hold: different, but by less than the margin.
  bool underpowered = false;             // Neither, and the margin could not have been found.
};
// `margin` is a share: 0.01 is one point. At least one question.
AccuracyResult CompareAccuracy(const PairedAnswers& answers, double margin = 0.01);

}  // namespace ram
