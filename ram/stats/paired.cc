#include "ram/stats/paired.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "ram/stats/distributions.h"
#include "ram/stats/perplexity.h"
#include "ram/stats/sum.h"

namespace ram {
namespace {

constexpr size_t kNumInfluences = 5;
constexpr size_t kFragileWindows = 5;
constexpr double kFragileShare = 0.01;

std::vector<double> Contributions(std::span<const double> differences,
                                  std::span<const double> tokens) {
  RAM_CHECK(differences.size() == tokens.size());
  std::vector<double> contributions(differences.size());
  for (size_t i = 0; i < contributions.size(); ++i) contributions[i] = tokens[i] * differences[i];
  return contributions;
}

int Sign(double value) { return value > 0 ? 1 : value < 0 ? -1 : 0; }

bool ExcludesZero(const Interval& interval) { return interval.low > 0 || interval.high < 0; }

// Resampled means of the difference of two columns.
std::vector<double> DifferencesOf(const std::vector<double>& means, size_t num_columns, size_t a,
                                  size_t b) {
  std::vector<double> differences(means.size() / num_columns);
  for (size_t r = 0; r < differences.size(); ++r) {
    differences[r] = means[r * num_columns + a] - means[r * num_columns + b];
  }
  return differences;
}

void Bootstrap(std::span<const double> d, std::span<const double> tokens,
               const ResampledMeans& resampled, size_t a, size_t b, PairedResult* out) {
  std::vector<double> means = DifferencesOf(resampled.windows, resampled.num_columns, a, b);
  std::sort(means.begin(), means.end());
  out->is_bca = d.size() < kBcaBelow;
  out->bootstrap = out->is_bca
                       ? BcaInterval(means, out->log_ratio.value, LeaveOneOutMeans(d, tokens))
                       : PercentileInterval(means, d.size());
  if (resampled.blocks.empty()) return;
  out->block_standard_error =
      StandardDeviation(DifferencesOf(resampled.blocks, resampled.num_columns, a, b));
}

}  // namespace

FlipSet SmallestFlipSet(std::span<const double> differences, std::span<const double> tokens) {
  const std::vector<double> c = Contributions(differences, tokens);
  const int sign = Sign(SumOf(c));
  FlipSet flip;
  if (sign == 0) return flip;
  std::vector<size_t> order(c.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return sign * c[a] > sign * c[b]; });
  // rest[k]: the sum when the first k are gone, added from the far end.
  std::vector<double> rest(c.size() + 1, 0.0);
  std::vector<double> rest_tokens(c.size() + 1, 0.0);
  Sum sum;
  Sum token_sum;
  for (size_t k = c.size(); k-- > 0;) {
    sum.Add(c[order[k]]);
    token_sum.Add(tokens[order[k]]);
    rest[k] = sum.value();
    rest_tokens[k] = token_sum.value();
  }
  size_t k = 0;
  while (k < c.size() && sign * rest[k] > 0) ++k;
  flip.windows.assign(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(k));
  if (k < c.size()) flip.log_ratio_without = rest[k] / rest_tokens[k];
  flip.fragile =
      k < c.size() && (k <= kFragileWindows ||
                       static_cast<double>(k) < kFragileShare * static_cast<double>(c.size()));
  return flip;
}

std::vector<Influence> LargestInfluences(std::span<const double> differences,
                                         std::span<const double> tokens, size_t count) {
  const std::vector<double> c = Contributions(differences, tokens);
  Sum total;
  for (const double contribution : c) total.Add(std::abs(contribution));
  if (c.size() < 2 || total.value() == 0) return {};
  const std::vector<double> without = LeaveOneOutMeans(differences, tokens);
  std::vector<Influence> influences(c.size());
  for (size_t i = 0; i < c.size(); ++i) {
    influences[i] = {i, std::abs(c[i]) / total.value(), without[i]};
  }
  std::stable_sort(influences.begin(), influences.end(),
                   [](const Influence& a, const Influence& b) { return a.share > b.share; });
  influences.resize(std::min(count, influences.size()));
  return influences;
}

Inversion FindInversion(const Estimate& corpus, const Estimate& robust) {
  if (Sign(corpus.value) * Sign(robust.value) >= 0) return Inversion::kNone;
  return ExcludesZero(corpus.interval) && ExcludesZero(robust.interval) ? Inversion::kResolved
                                                                        : Inversion::kApparent;
}

std::string_view InversionName(Inversion inversion) {
  switch (inversion) {
    case Inversion::kNone:
      return "none";
    case Inversion::kApparent:
      return "apparent";
    case Inversion::kResolved:
      return "resolved";
  }
  return "none";
}

double DetectableDifference(double standard_error, size_t n, double power) {
  if (n < 2) return kUndefined;
  const auto df = static_cast<double>(n - 1);
  return standard_error * (StudentQuantile((1 + kConfidence) / 2, df) + StudentQuantile(power, df));
}

double WindowsNeeded(double standard_error, size_t n, double difference, double power) {
  const double times = DetectableDifference(standard_error, n, power) / std::abs(difference);
  return std::ceil(static_cast<double>(n) * times * times);
}

ResampledMeans Resample(std::span<const std::span<const double>> columns,
                        std::span<const double> tokens, const BootstrapOptions& options) {
  ResampledMeans means;
  means.num_columns = columns.size();
  means.windows = BootstrapMeans(columns, tokens, options);
  if (tokens.size() < 2 * kBlockWindows) return means;
  BootstrapOptions blocks = options;
  blocks.block = kBlockWindows;
  means.blocks = BootstrapMeans(columns, tokens, blocks);
  return means;
}

Result<PairedResult> ComparePair(std::span<const double> nll_a, std::span<const double> nll_b,
                                 std::span<const double> tokens, const BootstrapOptions& options) {
  RAM_RETURN_IF_ERROR(CheckWindows(nll_a, tokens, "first model"));
  RAM_RETURN_IF_ERROR(CheckWindows(nll_b, tokens, "second model"));
  const std::array<std::span<const double>, 2> columns = {nll_a, nll_b};
  return ComparePair(nll_a, nll_b, tokens, Resample(columns, tokens, options), 0, 1);
}

Result<PairedResult> ComparePair(std::span<const double> nll_a, std::span<const double> nll_b,
                                 std::span<const double> tokens, const ResampledMeans& resampled,
                                 size_t a, size_t b) {
  RAM_RETURN_IF_ERROR(CheckWindows(nll_a, tokens, "first model"));
  RAM_RETURN_IF_ERROR(CheckWindows(nll_b, tokens, "second model"));
  RAM_CHECK(a < resampled.num_columns && b < resampled.num_columns);
  if (tokens.size() < 2) {
    return Error{ErrorCode::kInvalidArgument,
                 "one window holds no evidence: at least 2 are needed"};
  }
  std::vector<double> d(nll_a.begin(), nll_a.end());
  for (size_t i = 0; i < d.size(); ++i) d[i] -= nll_b[i];

  PairedResult out;
  out.num_windows = d.size();
  out.log_ratio = RatioEstimate(Contributions(d, tokens), tokens);
  Bootstrap(d, tokens, resampled, a, b, &out);
  out.trimmed = TrimmedMeanEstimate(d, kTrim);
  out.hodges_lehmann = HodgesLehmann(d);
  out.median = MedianEstimate(d);
  out.wilcoxon = SignedRankTest(d, ZeroRule::kDrop);
  out.wilcoxon_pratt = SignedRankTest(d, ZeroRule::kPratt);
  out.sign = SignTest(d);
  out.standard_deviation = StandardDeviation(d);
  out.autocorrelation = Lag1Autocorrelation(d);
  out.detectable = DetectableDifference(out.trimmed.standard_error, d.size());
  out.detectable_corpus = DetectableDifference(out.log_ratio.standard_error, d.size());
  for (const Estimate* robust : {&out.trimmed, &out.hodges_lehmann, &out.median}) {
    out.inversion = std::max(out.inversion, FindInversion(out.log_ratio, *robust));
  }
  out.flip = SmallestFlipSet(d, tokens);
  out.influences = LargestInfluences(d, tokens, kNumInfluences);
  return out;
}

}  // namespace ram
