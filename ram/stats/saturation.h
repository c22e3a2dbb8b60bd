#pragma once

// Where more bytes stop buying anything that can be measured.
//
// A ladder of models of one kind, smallest first, ending with the original; each with a loss per
// window. A rung buys nothing more if against every larger one its loss is higher by less than a
// margin: the upper end of the 90 % interval of the paired difference lies below the margin. That
// is the half of two one-sided tests (Schuirmann, J. Pharmacokinet. Biopharm. 15:657, 1987) that
// the question is about: each at 5 %, and, since all of them must hold, no correction for their
// number (Berger, Technometrics 24:295, 1982). The saturation size is the smallest rung from which
// on no rung buys more. So a study too small to tell says that it cannot tell, not that nothing is
// bought.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "ram/stats/describe.h"

namespace ram {

enum class LossMean : uint8_t {
  kTypical,  // 10 % trimmed mean of the windows' differences (kTrim).
  kCorpus,   // Mean over all tokens, windows as the unit (RatioEstimate).
};

enum class RungState : uint8_t {
  kSaturated,   // No larger rung is better by the margin.
  kBuys,        // Some larger rung is better by more than the margin.
  kUnresolved,  // These windows cannot tell.
};

struct RungFinding {
  RungState state = RungState::kUnresolved;
  size_t against = 0;   // The larger rung of the highest upper end,
  Estimate difference;  // and the loss above it; 90 % interval.
};

struct Saturation {
  std::vector<RungFinding> rungs;  // All but the last, which has no larger one.
  std::optional<size_t> smallest;  // Rung; nothing if none but the last is saturated.
};

// `losses`: per rung the loss of each window [nats per token], all of weights.size(); at least two
// windows. `weights` are the windows' scored tokens. `margin` > 0 [nats per token].
Saturation FindSaturation(std::span<const std::span<const double>> losses,
                          std::span<const double> weights, double margin, LossMean mean);

}  // namespace ram
