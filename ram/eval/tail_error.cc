#include "ram/eval/tail_error.h"

#include <vector>

#include "ram/base/result.h"
#include "ram/stats/sum.h"

namespace ram {

TailError MeasureTail(std::span<const TokenDivergence> tokens,
                      std::span<const TokenDivergence> exact, uint64_t every,
                      std::span<const uint64_t> window_tokens) {
  RAM_CHECK(every > 0 && exact.size() == (tokens.size() + every - 1) / every);
  const auto estimate = [&](double TokenDivergence::*value) {
    std::vector<double> sums;
    std::vector<double> sizes;
    uint64_t end = 0;
    size_t i = 0;
    for (const uint64_t size : window_tokens) {
      end += size;
      const size_t first = i;
      Sum sum;
      for (; i < exact.size() && i * every < end; ++i) {
        sum.Add(exact[i].*value - tokens[i * every].*value);
      }
      if (i == first) continue;
      sums.push_back(sum.value());
      sizes.push_back(static_cast<double>(i - first));
    }
    RAM_CHECK(i == exact.size() && end == tokens.size());
    return RatioEstimate(sums, sizes);
  };
  return {exact.size(), estimate(&TokenDivergence::kl), estimate(&TokenDivergence::reverse_kl),
          estimate(&TokenDivergence::jensen_shannon)};
}

}  // namespace ram
