#include "ram/runtime/router.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "ram/base/result.h"

namespace ram {
namespace {

// Indexes of the `k` largest of values [n], best first, of equals the lowest; and those values.
void Largest(const float* values, uint64_t n, uint64_t k, uint32_t* index, float* value) {
  uint64_t count = 0;
  for (uint64_t i = 0; i < n; ++i) {
    const float v = values[i];
    if (count == k && !(v > value[k - 1])) continue;
    uint64_t at = count < k ? count++ : k - 1;
    for (; at > 0 && v > value[at - 1]; --at) {
      index[at] = index[at - 1];
      value[at] = value[at - 1];
    }
    index[at] = static_cast<uint32_t>(i);
    value[at] = v;
  }
}

// Rejects the experts outside the best groups: the groups whose two best choices sum to most.
void KeepBestGroups(const RouterSpec& spec, float* choices) {
  const uint64_t size = spec.experts / spec.groups;
  std::vector<float> sums(spec.groups);
  uint32_t index[2];
  float value[2];
  for (uint64_t g = 0; g < spec.groups; ++g) {
    Largest(choices + g * size, size, std::min<uint64_t>(2, size), index, value);
    sums[g] = size > 1 ? value[0] + value[1] : value[0];
  }
  std::vector<uint32_t> best(spec.top_groups);
  std::vector<float> best_sums(spec.top_groups);
  Largest(sums.data(), spec.groups, spec.top_groups, best.data(), best_sums.data());
  const float rejected = spec.rejected_are_zero ? 0 : -std::numeric_limits<float>::infinity();
  for (uint64_t g = 0; g < spec.groups; ++g) {
    if (std::ranges::find(best, g) == best.end()) std::fill_n(choices + g * size, size, rejected);
  }
}

}  // namespace

void ChooseExperts(const float* logits, const float* scores, const RouterSpec& spec,
                   uint32_t* expert, float* weight) {
  using Kind = RouterSpec::Kind;
  const uint64_t k = spec.top_k;
  RAM_CHECK(k > 0 && k <= spec.experts);
  if (spec.kind == Kind::kSigmoid && !(spec.correction.empty() && spec.groups == 1)) {
    std::vector<float> choices(scores, scores + spec.experts);
    for (uint64_t e = 0; e < spec.correction.size(); ++e) choices[e] += spec.correction[e];
    if (spec.groups > 1) KeepBestGroups(spec, choices.data());
    Largest(choices.data(), spec.experts, k, expert, weight);
  } else {
    // Scores may be equal where logits are not; sigmoids are what is compared where they are used.
    Largest(spec.kind == Kind::kSigmoid ? scores : logits, spec.experts, k, expert, weight);
  }
  std::sort(expert, expert + k);

  double sum = 1;
  if (spec.kind == Kind::kSoftmax && !spec.renormalize) {
    sum = 0;
    for (uint64_t e = 0; e < spec.experts; ++e) sum += static_cast<double>(scores[e]);
  } else if (spec.kind == Kind::kSoftmax || spec.kind == Kind::kTopkSoftmax || spec.renormalize) {
    const bool softmax = spec.kind == Kind::kSoftmax || spec.kind == Kind::kTopkSoftmax;
    sum = softmax ? 0 : static_cast<double>(spec.renormalize_eps);
    for (uint64_t i = 0; i < k; ++i) sum += static_cast<double>(scores[expert[i]]);
  }
  const double factor = static_cast<double>(spec.scale) / sum;
  for (uint64_t i = 0; i < k; ++i) {
    weight[i] = static_cast<float>(static_cast<double>(scores[expert[i]]) * factor);
  }
}

}  // namespace ram
