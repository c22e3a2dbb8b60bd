#pragma once

// Two models on the same windows: d_s = l_s(A) - l_s(B), the log ratio of their perplexities in
// window s. Levels vary from window to window by 30 %, d by half a percent: pairing is what
// resolves models that differ by a tenth of a percent. Everything here is about d; exp(d) - 1 is
// how much worse A is.

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "ram/base/result.h"
#include "ram/stats/bootstrap.h"
#include "ram/stats/describe.h"
#include "ram/stats/rank_tests.h"

namespace ram {

inline constexpr double kTrim = 0.10;  // Of the windows, cut at each end of d.
inline constexpr double kPower = 0.80;
// Below this many windows the bootstrap interval is BCa, from it on the percentile interval.
inline constexpr size_t kBcaBelow = 60;

// The smallest set of windows whose removal turns the sign of the corpus difference, or makes it 0.
// Contributions are c_s = T_s d_s; those that push the sum its way leave in descending order, which
// is exact because the sign of the remaining mean is the sign of the remaining sum. (The question
// is that of Broderick, Giordano and Meager, arXiv:2011.14999; for a mean it needs no
// approximation.)
struct FlipSet {
  std::vector<size_t> windows;            // In the order of leaving; empty if the sum is 0.
  double log_ratio_without = kUndefined;  // Corpus difference without them; NaN if none is left.
  // At most 5 windows, or fewer than 1 % of them.
  bool fragile = false;
};
FlipSet SmallestFlipSet(std::span<const double> differences, std::span<const double> tokens);

// What one window does to the corpus difference.
struct Influence {
  size_t window = 0;
  double share = 0;  // |c_s| / sum |c|
  double log_ratio_without = kUndefined;
};
// The `count` most influential windows, largest share first.
std::vector<Influence> LargestInfluences(std::span<const double> differences,
                                         std::span<const double> tokens, size_t count);

// The corpus says one thing, the typical window another.
enum class Inversion : uint8_t {
  kNone,
  kApparent,  // The two estimates have opposite signs.
  kResolved,  // And neither 95 % interval contains 0.
};
Inversion FindInversion(const Estimate& corpus, const Estimate& robust);
std::string_view InversionName(Inversion inversion);  // "none", "apparent", "resolved"

// The smallest true difference that a test at 5 % finds with probability `power`, for a mean with
// this standard error over n windows: SE (t_{n-1}(0.975) + t_{n-1}(power)). NaN for n < 2.
double DetectableDifference(double standard_error, size_t n, double power = kPower);
// Windows needed to find a true difference of `difference` with that probability, if they scatter
// as these n did: n (detectable / difference)^2, rounded up. Infinite for 0.
double WindowsNeeded(double standard_error, size_t n, double difference, double power = kPower);

struct PairedResult {
  size_t num_windows = 0;
  // Corpus: sum T_s d_s / sum T_s = ln(PPL_A / PPL_B), windows as the unit (RatioEstimate).
  Estimate log_ratio;
  Interval bootstrap;  // Of the same: percentile, or BCa below kBcaBelow windows.
  bool is_bca = false;
  double block_standard_error = kUndefined;  // Of the same; blocks of kBlockWindows.
  // The typical window. These do not weigh by T_s.
  Estimate trimmed;  // kTrim.
  Estimate hodges_lehmann;
  Estimate median;
  SignedRankResult wilcoxon;
  SignedRankResult wilcoxon_pratt;
  SignTestResult sign;
  double standard_deviation = kUndefined;  // Of d.
  double autocorrelation = kUndefined;     // Of d, window to next.
  double detectable = kUndefined;          // By the trimmed mean.
  double detectable_corpus = kUndefined;   // By the corpus difference.
  Inversion inversion = Inversion::kNone;  // The worst over trimmed mean, Hodges-Lehmann, median.
  FlipSet flip;
  std::vector<Influence> influences;  // The five largest.
};

// The corpus means of several models over the same resamples, so that every pair of them can be
// compared from one pass. [num_resamples x num_columns], as BootstrapMeans gives them.
struct ResampledMeans {
  size_t num_columns = 0;
  std::vector<double> windows;  // Drawn one by one.
  std::vector<double> blocks;   // In blocks of kBlockWindows; empty below 2 blocks.
};
ResampledMeans Resample(std::span<const std::span<const double>> columns,
                        std::span<const double> tokens, const BootstrapOptions& options);

// Windows in the order of the text, as in SummarizePerplexity. kInvalidArgument as there, and for
// fewer than 2 windows.
Result<PairedResult> ComparePair(std::span<const double> nll_a, std::span<const double> nll_b,
                                 std::span<const double> tokens,
                                 const BootstrapOptions& options = {});
// The same, where columns `a` and `b` have been resampled already, among others.
Result<PairedResult> ComparePair(std::span<const double> nll_a, std::span<const double> nll_b,
                                 std::span<const double> tokens, const ResampledMeans& resampled,
                                 size_t a, size_t b);

}  // namespace ram
