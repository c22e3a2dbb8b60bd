#include "ram/stats/bootstrap.h"

#include <algorithm>
#include <cmath>

#include "ram/base/random.h"
#include "ram/base/result.h"
#include "ram/stats/distributions.h"
#include "ram/stats/sum.h"

namespace ram {
namespace {

// Fills `draw` with the windows of resample r.
void Draw(size_t r, const BootstrapOptions& options, std::vector<uint32_t>* draw) {
  RandomStream random(options.seed, r);
  const auto n = static_cast<uint32_t>(draw->size());
  const auto block = static_cast<uint32_t>(options.block);
  for (size_t i = 0; i < draw->size(); i += block) {
    const uint32_t start = random.Below(n - block + 1);
    for (uint32_t k = 0; k < block && i + k < draw->size(); ++k) (*draw)[i + k] = start + k;
  }
}

// Phi of sqrt(n / (n - 1)) t, see PercentileInterval.
double WidenedNormalQuantile(double level, size_t n) {
  const auto size = static_cast<double>(n);
  return std::sqrt(size / (size - 1)) * StudentQuantile(level, size - 1);
}

}  // namespace

std::vector<double> BootstrapMeans(std::span<const std::span<const double>> columns,
                                   std::span<const double> weights,
                                   const BootstrapOptions& options) {
  const size_t n = weights.size();
  const size_t num_columns = columns.size();
  RAM_CHECK(n > 0 && n < (uint64_t{1} << 32) && options.block >= 1 && options.block <= n);

  // Window by window, so that a draw touches one short row: weight x value of every column, weight.
  // Plain sums: values are shifted by their column's mean, so that what is added is small.
  const size_t row_size = num_columns + 1;
  std::vector<double> centers(num_columns);
  std::vector<double> rows(n * row_size);
  for (size_t c = 0; c < num_columns; ++c) {
    RAM_CHECK(columns[c].size() == n);
    centers[c] = Mean(columns[c]);
    for (size_t i = 0; i < n; ++i) {
      rows[i * row_size + c] = weights[i] * (columns[c][i] - centers[c]);
    }
  }
  for (size_t i = 0; i < n; ++i) rows[i * row_size + num_columns] = weights[i];

  std::vector<double> means(options.num_resamples * num_columns);
  std::vector<uint32_t> draw(n);
  std::vector<double> sums(row_size);
  for (size_t r = 0; r < options.num_resamples; ++r) {
    Draw(r, options, &draw);
    std::fill(sums.begin(), sums.end(), 0.0);
    for (const uint32_t window : draw) {
      const double* row = &rows[window * row_size];
      for (size_t c = 0; c < row_size; ++c) sums[c] += row[c];
    }
    for (size_t c = 0; c < num_columns; ++c) {
      means[r * num_columns + c] = centers[c] + sums[c] / sums[num_columns];
    }
  }
  return means;
}

Interval PercentileInterval(std::span<const double> ascending, size_t n, double confidence) {
  if (n < 2) return {};
  const double level = NormalCdf(WidenedNormalQuantile((1 - confidence) / 2, n));
  return {Quantile(ascending, level), Quantile(ascending, 1 - level)};
}

Interval BcaInterval(std::span<const double> ascending, double value,
                     std::span<const double> leave_one_out, double confidence) {
  const size_t n = leave_one_out.size();
  if (n < 2) return {};
  if (ascending.front() == ascending.back()) return {ascending.front(), ascending.back()};
  const auto [first, last] = std::equal_range(ascending.begin(), ascending.end(), value);
  const auto below = static_cast<double>(first - ascending.begin());
  const auto equal = static_cast<double>(last - first);
  const double share = (below + equal / 2) / static_cast<double>(ascending.size());
  if (share <= 0 || share >= 1) return PercentileInterval(ascending, n, confidence);
  const double bias = NormalQuantile(share);

  const double mean = Mean(leave_one_out);
  Sum squares;
  Sum cubes;
  for (const double without : leave_one_out) {
    const double d = mean - without;
    squares.Add(d * d);
    cubes.Add(d * d * d);
  }
  const double acceleration =
      squares.value() > 0 ? cubes.value() / (6 * std::pow(squares.value(), 1.5)) : 0;
  const auto end = [&](double level) {
    const double z = bias + WidenedNormalQuantile(level, n);
    return Quantile(ascending, NormalCdf(bias + z / (1 - acceleration * z)));
  };
  return {end((1 - confidence) / 2), end((1 + confidence) / 2)};
}

std::vector<double> LeaveOneOutMeans(std::span<const double> values,
                                     std::span<const double> weights) {
  RAM_CHECK(values.size() == weights.size() && values.size() >= 2);
  Sum weighted;
  for (size_t i = 0; i < values.size(); ++i) weighted.Add(weights[i] * values[i]);
  const double mean = weighted.value() / SumOf(weights);
  const double total = SumOf(weights);
  std::vector<double> means(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    // mean - w (x - mean) / (W - w): no difference of two large sums.
    means[i] = mean - weights[i] * (values[i] - mean) / (total - weights[i]);
  }
  return means;
}

}  // namespace ram
