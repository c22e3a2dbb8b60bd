#include "ram/runtime/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "ram/base/random.h"

namespace ram {
namespace {

// Uniform in [0, 1) for one position of one sequence.
double UniformAt(uint64_t seed, uint64_t sequence, uint64_t position) {
  const std::array<uint32_t, 4> words =
      Philox({static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32),
              static_cast<uint32_t>(sequence), static_cast<uint32_t>(sequence >> 32)},
             {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  const uint64_t bits = (static_cast<uint64_t>(words[0]) << 32 | words[1]) >> 11;
  return static_cast<double>(bits) * 0x1p-53;
}

}  // namespace

int32_t SampleToken(std::span<const float> logits, const Sampling& sampling, uint64_t sequence,
                    uint64_t position) {
  const auto largest = std::max_element(logits.begin(), logits.end());
  if (sampling.temperature <= 0) return static_cast<int32_t>(largest - logits.begin());

  std::vector<double> weight(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    weight[i] = std::exp((static_cast<double>(logits[i]) - *largest) / sampling.temperature);
  }
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  if (sampling.top_k != 0 || sampling.top_p < 1) {
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return weight[static_cast<size_t>(a)] > weight[static_cast<size_t>(b)];
    });
    if (sampling.top_k != 0 && sampling.top_k < order.size()) order.resize(sampling.top_k);
  }
  const auto sum_of = [&](size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; ++i) sum += weight[static_cast<size_t>(order[i])];
    return sum;
  };
  double total = sum_of(order.size());
  if (sampling.top_p < 1) {
    double sum = 0;
    size_t kept = 0;
    while (kept < order.size() && (kept == 0 || sum < sampling.top_p * total)) {
      sum += weight[static_cast<size_t>(order[kept++])];
    }
    order.resize(kept);
    total = sum;
  }
  double left = UniformAt(sampling.seed, sequence, position) * total;
  for (const int32_t id : order) {
    left -= weight[static_cast<size_t>(id)];
    if (left < 0) return id;
  }
  return order.back();
}

}  // namespace ram
