#pragma once

// Choosing the next token from logits.

#include <cstdint>
#include <span>

namespace ram {

struct Sampling {
  double temperature = 0;  // 0: the most likely token. Else p is proportional to exp(logit / t).
  uint32_t top_k = 0;      // Of the k most likely tokens only; 0: of all.
  double top_p = 1;        // Of the most likely tokens that hold this share of p, at least one.
  uint64_t seed = 0;
};

// The token that follows position `position` of sequence `sequence`. The choice depends on the
// logits, the sampling and these two numbers alone: the same seed gives the same text, whatever
// runs beside it. Of equal logits the lowest id comes first. logits are not empty and hold no NaN.
int32_t SampleToken(std::span<const float> logits, const Sampling& sampling, uint64_t sequence,
                    uint64_t position);

}  // namespace ram
