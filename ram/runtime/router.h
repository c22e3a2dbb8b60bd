#pragma once

// Which experts a token goes to, and with what weights.

#include <cstdint>

#include "ram/runtime/engine.h"

namespace ram {

// logits [experts]; scores [experts]: sigmoid(logit) for the sigmoid kinds, exp(logit - largest)
// for the others. Yields expert and weight [top_k], ascending experts. The top_k
// largest win, of equals the lowest; top_k <= experts.
void ChooseExperts(const float* logits, const float* scores, const RouterSpec& spec,
                   uint32_t* expert, float* weight);

}  // namespace ram
