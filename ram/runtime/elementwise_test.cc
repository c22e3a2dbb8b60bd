#include "ram/runtime/elementwise.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "ram/runtime/isa.h"
#include "ram/runtime/ops_reference.h"

namespace ram {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr double kUnit = 0x1p-24;  // Largest relative error of one operation.

std::vector<float> Random(size_t n, uint32_t seed, float scale = 1) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(n);
  for (float& value : values) value = normal(engine);
  return values;
}

// All lengths around the vectors and the lanes of sums.
std::vector<size_t> Lengths() {
  std::vector<size_t> lengths;
  for (size_t n = 1; n <= 70; ++n) lengths.push_back(n);
  for (const size_t n : {96U, 127U, 128U, 1000U, 4096U, 5121U}) lengths.push_back(n);
  return lengths;
}

// |got - want| <= units * 2^-24 * size, where size is that of the largest terms.
void ExpectNear(double got, double want, double size, double units, size_t i) {
  EXPECT_LE(std::fabs(got - want), units * kUnit * size + 1e-37)
      << "element " << i << ": " << got << ", want " << want;
}

// Runs each test once per level the CPU has. What is computed has the same bits on all of them.
class ElementwiseTest : public testing::TestWithParam<std::string> {
 protected:
  // Calls body(kernels, out) on the level under test and on the simplest one, with a copy of
  // `values` each; yields the result after their bits were compared.
  template <class Body>
  std::vector<float> RunBoth(const std::vector<float>& values, const Body& body) const {
    std::vector<float> got = values, simple = values;
    body(*kernels_, got.data());
    body(*simplest_, simple.data());
    EXPECT_EQ(std::memcmp(got.data(), simple.data(), got.size() * sizeof(float)), 0);
    return got;
  }

  std::unique_ptr<Elementwise> kernels_ = MakeElementwise(GetParam());
  std::unique_ptr<Elementwise> simplest_ = MakeElementwise(SimdLevels().back());
};

TEST_P(ElementwiseTest, HasItsName) { EXPECT_EQ(kernels_->name(), GetParam()); }

TEST_P(ElementwiseTest, AmxLevelsUseAvx3Dl) {
  if (GetParam() != "avx3_dl") GTEST_SKIP();
  EXPECT_EQ(MakeElementwise("amx-f16")->name(), "avx3_dl");
}

TEST_P(ElementwiseTest, RmsNorm) {
  for (const size_t n : Lengths()) {
    const std::vector<float> x = Random(n, 1), weight = Random(n, 2);
    const std::vector<float> got = RunBoth(x, [&](const Elementwise& k, float* out) {
      k.RmsNorm(x.data(), weight.data(), n, 1e-5f, out);
    });
    std::vector<float> want(n), in_place = x;
    RmsNormReference(x.data(), weight.data(), n, 1e-5f, want.data());
    // A lane sums n / 32 squares; half of that error passes the root.
    const double units = static_cast<double>(n) / 64 + 10;
    for (size_t i = 0; i < n; ++i) ExpectNear(got[i], want[i], std::fabs(want[i]), units, i);
    kernels_->RmsNorm(in_place.data(), weight.data(), n, 1e-5f, in_place.data());
    EXPECT_EQ(in_place, got);
  }
}

void ExpectHeads(const std::vector<float>& got, std::vector<float> want, uint64_t position,
                 const HeadSpec& spec) {
  const std::vector<float> x = want;
  PrepareHeadsReference(want.data(), position, spec);
  double size = 0;  // A rotation mixes two elements.
  for (const float v : want) size = std::max(size, std::fabs(static_cast<double>(v)));
  const double units = static_cast<double>(spec.heads * spec.head_dim) / 64 + 20;
  for (size_t i = 0; i < got.size(); ++i) ExpectNear(got[i], want[i], size, units, i);
}

TEST_P(ElementwiseTest, PrepareHeadsWithEveryOption) {
  using Norm = HeadSpec::Norm;
  struct Shape {
    uint64_t head_dim, pairs, first;
  };
  uint32_t seed = 10;
  for (const Shape shape :
       {Shape{64, 32, 0}, Shape{128, 64, 0}, Shape{256, 32, 0}, Shape{192, 32, 128},
        Shape{80, 40, 0}, Shape{10, 3, 2}, Shape{6, 3, 0}, Shape{64, 0, 0}}) {
    const std::vector<float> weight = Random(4 * shape.head_dim, ++seed);
    std::vector<float> inv_freq(shape.pairs);
    for (size_t i = 0; i < shape.pairs; ++i) {
      inv_freq[i] = std::pow(10000.0f, -static_cast<float>(i) / static_cast<float>(shape.pairs));
    }
    for (const Norm norm : {Norm::kNone, Norm::kPerHead, Norm::kWholeRow, Norm::kAfter}) {
      for (const bool interleaved : {false, true}) {
        for (const uint64_t position : {0ULL, 1ULL, 17ULL, 8191ULL, 131071ULL, 999'999ULL}) {
          HeadSpec spec = {.heads = 4, .head_dim = shape.head_dim, .norm = norm};
          spec.norm_weight = std::span(weight).first(
              norm == Norm::kWholeRow ? 4 * shape.head_dim
                                      : (norm == Norm::kPerHead ? shape.head_dim : 0));
          spec.norm_eps = 1e-6f;
          spec.inv_freq = inv_freq;
          spec.rope_first = shape.first;
          spec.interleaved = interleaved;
          spec.rope_scale = interleaved ? 1.0f : 1.25f;
          spec.temperature = interleaved ? 0.1f : 0.0f;
          const std::vector<float> x = Random(4 * shape.head_dim, ++seed);
          const std::vector<float> got = RunBoth(
              x, [&](const Elementwise& k, float* row) { k.PrepareHeads(row, position, spec); });
          ExpectHeads(got, x, position, spec);
        }
      }
    }
  }
}

TEST_P(ElementwiseTest, Glu) {
  for (const size_t n : Lengths()) {
    const std::vector<float> gate = Random(n, 3, 6), up = Random(n, 4, 5);
    for (const Activation activation :
         {Activation::kSilu, Activation::kGeluTanh, Activation::kClippedSwiglu}) {
      const GluSpec spec = {.activation = activation};
      const std::vector<float> got = RunBoth(gate, [&](const Elementwise& k, float* out) {
        k.Glu(gate.data(), up.data(), n, spec, out);
      });
      for (size_t i = 0; i < n; ++i) {
        const double want = GluReference(gate[i], up[i], spec);
        // The exponential of a rounded argument: its rounding counts in units of the result.
        const double g = gate[i];
        double argument = 0;
        if (activation == Activation::kGeluTanh) argument = 1.6 * (g + 0.0447 * g * g * g);
        if (activation == Activation::kClippedSwiglu) argument = 1.702 * g;
        const double units = 10 + 4 * std::fabs(argument);
        // The reference adds 1 to a hyperbolic tangent near -1, in f64.
        const double size = std::fabs(want) + 1e-9 * std::fabs(g * static_cast<double>(up[i]));
        if (std::fabs(argument) < 85) ExpectNear(got[i], want, size, units, i);
      }
      std::vector<float> in_place = up;
      kernels_->Glu(gate.data(), in_place.data(), n, spec, in_place.data());
      EXPECT_EQ(in_place, got);
    }
  }
}

TEST_P(ElementwiseTest, ActivationsOfExtremeValues) {
  const std::vector<float> gate = {-1e30f, -200, 0, 200, 1e30f, NAN, 1, -kInfinity, kInfinity};
  const std::vector<float> up(gate.size(), 2.0f);
  std::vector<float> out(gate.size());
  for (const Activation activation :
       {Activation::kSilu, Activation::kGeluTanh, Activation::kClippedSwiglu}) {
    const GluSpec spec = {.activation = activation};
    kernels_->Glu(gate.data(), up.data(), gate.size(), spec, out.data());
    EXPECT_EQ(out[0], 0);
    EXPECT_EQ(out[1], 0);
    EXPECT_EQ(out[2], 0);
    EXPECT_EQ(out[3], GluReference(200, 2, spec));
    EXPECT_FLOAT_EQ(out[4], GluReference(1e30f, 2, spec));
    EXPECT_TRUE(std::isnan(out[5]));
  }
}

TEST_P(ElementwiseTest, AddScaleAndGate) {
  for (const size_t n : Lengths()) {
    const std::vector<float> x = Random(n, 5), y = Random(n, 6, 8);
    const auto added =
        RunBoth(x, [&](const Elementwise& k, float* out) { k.Add(y.data(), n, out); });
    const auto scaled_added =
        RunBoth(x, [&](const Elementwise& k, float* out) { k.AddScaled(y.data(), 0.3f, n, out); });
    const auto scaled =
        RunBoth(x, [&](const Elementwise& k, float* out) { k.Scale(0.3f, n, out); });
    const auto gated =
        RunBoth(x, [&](const Elementwise& k, float* out) { k.Gate(y.data(), n, out); });
    for (size_t i = 0; i < n; ++i) {
      EXPECT_EQ(added[i], x[i] + y[i]);
      const float product = 0.3f * y[i];
      EXPECT_EQ(scaled_added[i], x[i] + product);
      EXPECT_EQ(scaled[i], 0.3f * x[i]);
      const double want = static_cast<double>(x[i]) * static_cast<double>(SigmoidReference(y[i]));
      ExpectNear(gated[i], want, std::fabs(want), 8, i);
    }
  }
}

void ExpectRoutes(const Elementwise& kernels, const std::vector<float>& logits,
                  const RouterSpec& spec) {
  std::vector<uint32_t> expert(spec.top_k), want_expert(spec.top_k);
  std::vector<float> weight(spec.top_k), want_weight(spec.top_k);
  kernels.Route(logits.data(), spec, expert.data(), weight.data());
  RouteReference(logits.data(), spec, want_expert.data(), want_weight.data());
  EXPECT_EQ(expert, want_expert);
  EXPECT_TRUE(std::ranges::is_sorted(expert));
  for (size_t i = 0; i < spec.top_k; ++i) {
    ExpectNear(weight[i], want_weight[i], std::fabs(want_weight[i]), 20, i);
  }
}

TEST_P(ElementwiseTest, RoutesOfEveryKind) {
  using Kind = RouterSpec::Kind;
  struct Sizes {
    uint64_t experts, top_k, groups, top_groups;
  };
  uint32_t seed = 100;
  for (const Sizes sizes :
       {Sizes{8, 2, 1, 1}, Sizes{16, 1, 1, 1}, Sizes{60, 4, 1, 1}, Sizes{128, 8, 4, 2},
        Sizes{256, 8, 8, 4}, Sizes{5, 5, 1, 1}, Sizes{4, 2, 4, 3}}) {
    for (const Kind kind :
         {Kind::kSoftmax, Kind::kTopkSoftmax, Kind::kSigmoid, Kind::kSigmoidInput}) {
      for (const bool renormalize : {false, true}) {
        for (const bool corrected : {false, true}) {
          const std::vector<float> correction = Random(sizes.experts, ++seed, 0.2f);
          RouterSpec spec = {.kind = kind, .experts = sizes.experts, .top_k = sizes.top_k};
          spec.renormalize = renormalize;
          spec.renormalize_eps = 1e-20f;
          spec.scale = 1.8f;
          spec.groups = kind == Kind::kSigmoid ? sizes.groups : 1;
          spec.top_groups = kind == Kind::kSigmoid ? sizes.top_groups : 1;
          if (corrected && kind == Kind::kSigmoid) spec.correction = correction;
          for (int i = 0; i < 20; ++i) {
            ExpectRoutes(*kernels_, Random(sizes.experts, ++seed, 2), spec);
          }
        }
      }
    }
  }
}

TEST_P(ElementwiseTest, RoutesToTheLowestOfEqualExperts) {
  using Kind = RouterSpec::Kind;
  std::vector<float> logits(40, 0.5f);
  logits[7] = logits[30] = logits[31] = 1;
  for (const Kind kind : {Kind::kSoftmax, Kind::kTopkSoftmax, Kind::kSigmoid}) {
    for (const uint64_t top_k : {1ULL, 2ULL, 3ULL, 4ULL, 6ULL}) {
      ExpectRoutes(*kernels_, logits, {.kind = kind, .experts = 40, .top_k = top_k});
    }
    RouterSpec grouped = {.kind = Kind::kSigmoid, .experts = 40, .top_k = 3};
    grouped.groups = 4;
    grouped.top_groups = 2;
    ExpectRoutes(*kernels_, logits, grouped);
  }
}

// With a correction below zero for all, the zero of an expert outside the best groups wins where
// such experts count as zero.
TEST_P(ElementwiseTest, ExpertsOutsideTheBestGroups) {
  const std::vector<float> correction(8, -2.0f);
  RouterSpec spec = {.kind = RouterSpec::Kind::kSigmoid, .experts = 8, .top_k = 2};
  spec.groups = 4;
  spec.top_groups = 2;
  spec.correction = correction;
  for (const bool zero : {false, true}) {
    spec.rejected_are_zero = zero;
    ExpectRoutes(*kernels_, Random(8, 7), spec);
  }
}

TEST_P(ElementwiseTest, RoutesOfNotANumberStayInRange) {
  std::vector<float> logits(16, NAN);
  for (int i = 0; i < 2; ++i, logits[3] = 1) {
    for (int kind = 0; kind < 4; ++kind) {
      const RouterSpec spec = {
          .kind = static_cast<RouterSpec::Kind>(kind), .experts = 16, .top_k = 4};
      uint32_t expert[4] = {99, 99, 99, 99};
      float weight[4];
      kernels_->Route(logits.data(), spec, expert, weight);
      for (int j = 1; j < 4; ++j) EXPECT_LT(expert[j - 1], expert[j]);
      EXPECT_LT(expert[3], 16U);
    }
  }
}

TEST_P(ElementwiseTest, ReduceLogits) {
  for (const size_t n : Lengths()) {
    for (const float softcap : {0.0f, 30.0f}) {
      const std::vector<float> logits = Random(n, static_cast<uint32_t>(n), 12);
      LogitBlock block, simple;
      const std::vector<float> got = RunBoth(logits, [&](const Elementwise& k, float* out) {
        (&k == kernels_.get() ? block : simple) = k.ReduceLogits(out, n, softcap);
      });
      EXPECT_EQ(block.sum, simple.sum);
      EXPECT_EQ(block.max, simple.max);
      EXPECT_EQ(block.argmax, simple.argmax);
      for (size_t i = 0; i < n; ++i) {
        const double want = SoftcapReference(logits[i], softcap);
        ExpectNear(got[i], want, std::fabs(want), softcap > 0 ? 8 : 0, i);
      }
      const HeadResult want = ReduceLogitsReference(got, -1);
      EXPECT_EQ(block.max, want.max_logit);
      EXPECT_EQ(block.argmax, want.argmax);
      const double sum =
          std::exp(static_cast<double>(want.logsumexp) - static_cast<double>(want.max_logit));
      // The reference's own rounding of the logarithm, and ours of the sum.
      const double units =
          static_cast<double>(n) / 32 + 10 + 2 * std::fabs(static_cast<double>(want.logsumexp));
      ExpectNear(block.sum, sum, sum, units, n);
    }
  }
}

TEST_P(ElementwiseTest, TheLowestOfEqualLogitsWins) {
  for (const size_t n : {3U, 20U, 100U}) {
    for (size_t first = 0; first < n; ++first) {
      std::vector<float> logits(n, -1.0f);
      logits[first] = logits[n - 1] = 2;
      EXPECT_EQ(kernels_->ReduceLogits(logits.data(), n, 0).argmax, first);
    }
  }
}

TEST_P(ElementwiseTest, LogitsThatAreNotNumbersShow) {
  for (const size_t at : {0U, 5U, 39U}) {
    std::vector<float> logits = Random(40, 8);
    logits[at] = NAN;
    EXPECT_TRUE(std::isnan(kernels_->ReduceLogits(logits.data(), 40, 0).sum));
    logits[at] = -kInfinity;
    EXPECT_TRUE(std::isfinite(kernels_->ReduceLogits(logits.data(), 40, 0).sum));
  }
}

INSTANTIATE_TEST_SUITE_P(Levels, ElementwiseTest, testing::ValuesIn(SimdLevels()),
                         [](const auto& level) { return level.param; });

}  // namespace
}  // namespace ram
