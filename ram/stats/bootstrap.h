#pragma once

// The bootstrap: windows are drawn again with replacement, the same ones for every model.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "ram/stats/describe.h"

namespace ram {

struct BootstrapOptions {
  size_t num_resamples = 10'000;
  uint64_t seed = 42;
  // Windows drawn together, consecutive in the order given; 1: one by one. Blocks keep what
  // neighbours have in common (Kuensch 1989).
  size_t block = 1;
};

// Weighted means of many columns over the same resamples:
//   means[r * num_columns + c] = sum_i weights[i] values[c][i] / sum_i weights[i],  i over draw r.
// Draw r is `n` numbers of RandomStream(seed, r).Below(n); with blocks of L, starts from
// Below(n - L + 1), each followed by its L - 1 successors, cut to n. So results depend on nothing
// but the input: not on the number of threads or columns.
// `weights` are > 0, [n], as long as every column; block <= n < 2^32. Differences of columns are
// paired differences. 10,000 resamples of 10 columns of 256 windows: some 40 ms.
std::vector<double> BootstrapMeans(std::span<const std::span<const double>> columns,
                                   std::span<const double> weights,
                                   const BootstrapOptions& options);

// Percentile interval of an ascending bootstrap distribution, widened for the size of the sample: a
// percentile at level a is taken at Phi(z') with z' = sqrt(n / (n - 1)) t_{n-1}(a), because the
// distribution is narrower than the truth by sqrt((n - 1) / n) and knows no t (Hesterberg, "What
// teachers should know about the bootstrap", Am. Stat. 69:371, 2015). At n = 146 this is 0.5 %.
Interval PercentileInterval(std::span<const double> ascending, size_t n,
                            double confidence = kConfidence);

// Bias-corrected and accelerated interval (Efron 1987), widened in the same way:
//   level a -> Phi(z0 + (z0 + z') / (1 - acceleration (z0 + z'))),
// z0 = Phi^-1(share of the distribution below `value`, halves of ties counted), and acceleration
// sum (m - m_i)^3 / (6 (sum (m - m_i)^2)^1.5) over the n leave-one-out values m_i with mean m.
Interval BcaInterval(std::span<const double> ascending, double value,
                     std::span<const double> leave_one_out, double confidence = kConfidence);

// The weighted mean without each window in turn [n]; n >= 2.
std::vector<double> LeaveOneOutMeans(std::span<const double> values,
                                     std::span<const double> weights);

}  // namespace ram
