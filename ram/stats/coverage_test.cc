// Intervals contain the truth as often as they say: within one point of 95 % (of their exact level,
// where order statistics cannot hit 95 %), over simulated samples.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "ram/stats/bootstrap.h"
#include "ram/stats/paired.h"
#include "ram/stats/testing.h"

namespace ram {
namespace {

constexpr int kRuns = 10'000;  // Standard deviation of a coverage of 95 %: 0.22 points.

enum class Shape : uint8_t { kNormal, kHeavy, kSkewed };

// Center 0 for means, trimmed means and medians of symmetric shapes; kSkewed has mean 0.
std::vector<double> Draw(Shape shape, size_t n, uint64_t stream) {
  NormalStream random(77, stream);
  std::vector<double> sample = random.Sample(n);
  for (double& value : sample) {
    if (shape == Shape::kHeavy) {  // Student's t with 3 degrees of freedom.
      const double a = random.Next();
      const double b = random.Next();
      const double c = random.Next();
      value /= std::sqrt((a * a + b * b + c * c) / 3);
    }
    if (shape == Shape::kSkewed) {  // Lognormal of spread 0.3, as ln PPL differences may be.
      value = std::exp(0.3 * value) - std::exp(0.045);
    }
  }
  return sample;
}

template <typename IntervalOf>
double Coverage(Shape shape, size_t n, const IntervalOf& interval_of, int runs = kRuns) {
  int covered = 0;
  for (int run = 0; run < runs; ++run) {
    covered += interval_of(Draw(shape, n, static_cast<uint64_t>(run))).Contains(0);
  }
  return 100.0 * covered / runs;
}

Interval Mean95(const std::vector<double>& x) { return MeanEstimate(x).interval; }
Interval Trimmed95(const std::vector<double>& x) { return TrimmedMeanEstimate(x, kTrim).interval; }
Interval Pairs95(const std::vector<double>& x) { return HodgesLehmann(x).interval; }
Interval Median95(const std::vector<double>& x) { return MedianEstimate(x).interval; }

Interval Bootstrap95(const std::vector<double>& x) {
  const std::span<const double> column = x;
  const std::vector<double> ones(x.size(), 1.0);
  std::vector<double> means = BootstrapMeans({&column, 1}, ones, {.num_resamples = 500});
  std::sort(means.begin(), means.end());
  if (x.size() >= kBcaBelow) return PercentileInterval(means, x.size());
  return BcaInterval(means, Mean(x), LeaveOneOutMeans(x, ones));
}

TEST(CoverageTest, Mean) {
  EXPECT_NEAR(Coverage(Shape::kNormal, 12, Mean95), 95, 1);
  EXPECT_NEAR(Coverage(Shape::kNormal, 146, Mean95), 95, 1);
  EXPECT_NEAR(Coverage(Shape::kSkewed, 146, Mean95), 95, 1);
}

TEST(CoverageTest, TrimmedMean) {
  EXPECT_NEAR(Coverage(Shape::kNormal, 40, Trimmed95), 95, 1);
  EXPECT_NEAR(Coverage(Shape::kHeavy, 40, Trimmed95), 95, 1);
  EXPECT_NEAR(Coverage(Shape::kHeavy, 146, Trimmed95), 95, 1);
}

TEST(CoverageTest, HodgesLehmann) {
  EXPECT_NEAR(Coverage(Shape::kNormal, 30, Pairs95, 5'000), 95, 1);
  EXPECT_NEAR(Coverage(Shape::kHeavy, 30, Pairs95, 5'000), 95, 1);
  EXPECT_NEAR(Coverage(Shape::kHeavy, 80, Pairs95, 4'000), 95, 1);  // Normal approximation.
}

// n = 40: x_(14), P(X <= 13) = 0.0192: level 96.15 %. n = 146: x_(61), 0.0231: 95.4 %.
TEST(CoverageTest, Median) {
  for (const size_t n : {size_t{40}, size_t{146}}) {
    int64_t k = 0;
    while (BinomialCdf(k, static_cast<int64_t>(n), 0.5) <= 0.025) ++k;
    const double level = 100 * (1 - 2 * BinomialCdf(k - 1, static_cast<int64_t>(n), 0.5));
    EXPECT_GE(level, 95);
    EXPECT_NEAR(Coverage(Shape::kHeavy, n, Median95), level, 1);
  }
}

TEST(CoverageTest, Bootstrap) {
  EXPECT_NEAR(Coverage(Shape::kNormal, 20, Bootstrap95, 3'000), 95, 1);
  EXPECT_NEAR(Coverage(Shape::kSkewed, 40, Bootstrap95, 3'000), 95, 1);
  EXPECT_NEAR(Coverage(Shape::kNormal, 100, Bootstrap95, 3'000), 95, 1);
}

TEST(BootstrapTest, DrawsAreThoseOfTheStream) {
  const std::vector<double> x = {1, 2, 4, 8, 16};
  const std::vector<double> weights = {1, 1, 2, 3, 1};
  const std::span<const double> columns[] = {x, weights};
  const std::vector<double> means = BootstrapMeans(columns, weights, {.num_resamples = 50});
  for (size_t r = 0; r < 50; ++r) {
    RandomStream random(42, r);
    double sum = 0;
    double total = 0;
    for (int i = 0; i < 5; ++i) {
      const uint32_t draw = random.Below(5);
      sum += weights[draw] * x[draw];
      total += weights[draw];
    }
    EXPECT_NEAR(means[2 * r], sum / total, 1e-13);
  }
}

TEST(BootstrapTest, BlocksKeepNeighboursTogether) {
  // +1 and -1 in turn: blocks of 4 have mean 0, so resampled means are 0.
  std::vector<double> x;
  for (int i = 0; i < 40; ++i) x.push_back(i % 2 == 0 ? 1 : -1);
  const std::span<const double> column = x;
  for (const double mean : BootstrapMeans({&column, 1}, std::vector<double>(40, 1.0),
                                          {.num_resamples = 100, .block = 4})) {
    EXPECT_NEAR(mean, 0, 1e-15);
  }
}

TEST(BootstrapTest, ConstantsAndHugeOutliers) {
  const std::vector<double> constant(30, 2.5);
  EXPECT_EQ(Bootstrap95(constant).low, 2.5);
  EXPECT_EQ(Bootstrap95(constant).high, 2.5);
  std::vector<double> x(100, 1.0);
  x[0] = 1e12;
  EXPECT_GE(Bootstrap95(x).low, 1);
  EXPECT_GT(Bootstrap95(x).high, 1e10);
}

}  // namespace
}  // namespace ram
