#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "ram/quant/simd_targets.h"
#include "ram/runtime/isa.h"

// Compiles the rest of this file once per instruction set.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ram/runtime/vector_math_test.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "hwy/highway.h"
#include "ram/runtime/simd_dispatch.h"
#include "ram/runtime/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ram {
namespace HWY_NAMESPACE {
namespace {

enum class Function { kExp, kFusedExp, kSigmoid, kSilu, kTanh, kSin, kCos };

FV Evaluate(Function function, FV x) {
  const F f;
  switch (function) {
    case Function::kExp:
      return Exp(f, x);
    case Function::kFusedExp:
      return Exp<true>(f, x);
    case Function::kSigmoid:
      return ram::HWY_NAMESPACE::Sigmoid(f, x);
    case Function::kSilu:
      return Silu(f, x);
    case Function::kTanh:
      return Tanh(f, x);
    default:
      return x;
  }
}

// y[i] = function(x[i]), i < 16 * k.
void EvaluateAll(int function, const float* x, size_t n, float* y) {
  const auto which = static_cast<Function>(function);
  if (which == Function::kSin || which == Function::kCos) {
    const hn::CappedTag<double, 8> d;
    const hn::Rebind<float, decltype(d)> f;
    for (size_t i = 0; i < n; i += hn::Lanes(f)) {
      auto sine = hn::Zero(f), cosine = sine;
      SinCos(d, hn::LoadU(f, x + i), sine, cosine);
      hn::StoreU(which == Function::kSin ? sine : cosine, f, y + i);
    }
    return;
  }
  for (size_t i = 0; i < n; i += kVectorLanes) {
    hn::StoreU(Evaluate(which, hn::LoadU(F(), x + i)), F(), y + i);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ram
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ram {
namespace {

HWY_EXPORT(EvaluateAll);

enum Function : int { kExp, kFusedExp, kSigmoid, kSilu, kTanh, kSin, kCos };
constexpr float kInfinity = std::numeric_limits<float>::infinity();

class VectorMathTest : public testing::TestWithParam<std::string> {
 protected:
  static std::vector<float> Evaluate(Function function, std::vector<float> x,
                                     const std::string& level = GetParam()) {
    const size_t n = x.size();
    x.resize((n + 15) / 16 * 16, 0.0f);
    std::vector<float> y(x.size());
    RAM_SIMD_DISPATCH(EvaluateAll, SimdTargets(level))(function, x.data(), x.size(), y.data());
    y.resize(n);
    return y;
  }

  // Largest |got - want| / |want| over floats spread over [low, high].
  template <class Want>
  static double LargestError(Function function, float low, float high, const Want& want) {
    std::vector<float> x;
    constexpr int kPoints = 300'000;
    for (int i = 0; i <= kPoints; ++i) {
      x.push_back(low + (high - low) * (static_cast<float>(i) / kPoints));
    }
    const std::vector<float> y = Evaluate(function, x);
    double largest = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double expected = want(static_cast<double>(x[i]));
      if (expected == 0) continue;
      largest = std::max(largest, std::fabs((static_cast<double>(y[i]) - expected) / expected));
    }
    return largest;
  }
};

TEST_P(VectorMathTest, ExpIsAccurate) {
  const auto exp = [](double x) { return std::exp(x); };
  EXPECT_LT(LargestError(kFusedExp, -87.6f, 88.3f, exp), 1.2e-7);
  EXPECT_LT(LargestError(kExp, -87.6f, 88.3f, exp), 1.2e-7);
  EXPECT_LT(LargestError(kExp, -1, 1, exp), 1.2e-7);
}

TEST_P(VectorMathTest, ExpAtItsEnds) {
  const std::vector<float> y =
      Evaluate(kExp, {-kInfinity, -1e30f, -88, 0, 88.3f, 88.5f, 1e30f, kInfinity, NAN});
  EXPECT_EQ(y[0], 0);
  EXPECT_EQ(y[1], 0);
  EXPECT_EQ(y[2], 0);
  EXPECT_EQ(y[3], 1);
  EXPECT_LT(y[4], kInfinity);
  EXPECT_EQ(y[5], kInfinity);
  EXPECT_EQ(y[6], kInfinity);
  EXPECT_EQ(y[7], kInfinity);
  EXPECT_TRUE(std::isnan(y[8]));
}

TEST_P(VectorMathTest, SigmoidAndSiluAreAccurate) {
  const auto sigmoid = [](double x) { return 1 / (1 + std::exp(-x)); };
  EXPECT_LT(LargestError(kSigmoid, -86, 90, sigmoid), 3e-7);
  EXPECT_LT(LargestError(kSilu, -86, 90, [&](double x) { return x * sigmoid(x); }), 3e-7);
  const std::vector<float> y = Evaluate(kSigmoid, {-200, -kInfinity, 200, kInfinity, NAN});
  EXPECT_EQ(y[0], 0);
  EXPECT_EQ(y[1], 0);
  EXPECT_EQ(y[2], 1);
  EXPECT_EQ(y[3], 1);
  EXPECT_TRUE(std::isnan(y[4]));
}

TEST_P(VectorMathTest, TanhIsAccurate) {
  const auto tanh = [](double x) { return std::tanh(x); };
  EXPECT_LT(LargestError(kTanh, -0.7f, 0.7f, tanh), 3e-7);
  EXPECT_LT(LargestError(kTanh, -20, 20, tanh), 3e-7);
  const std::vector<float> y = Evaluate(kTanh, {-kInfinity, -100, 0, 100, kInfinity, NAN});
  EXPECT_EQ(y[0], -1);
  EXPECT_EQ(y[1], -1);
  EXPECT_EQ(y[2], 0);
  EXPECT_EQ(y[3], 1);
  EXPECT_EQ(y[4], 1);
  EXPECT_TRUE(std::isnan(y[5]));
}

// Also near the zeros, where the reduction of the angle matters most: relative to 2^-24.
TEST_P(VectorMathTest, SineAndCosineAreRoundedOnce) {
  for (const float high : {8.0f, 3000.0f, 200'000.0f, 1'000'000.0f}) {
    std::vector<float> x;
    for (int i = 0; i <= 100'000; ++i)
      x.push_back(high * (static_cast<float>(i - 20'000) / 80'000));
    for (int i = 0; i < 1000; ++i) x.push_back(static_cast<float>(i * 1.5707963267948966));
    const std::vector<float> sine = Evaluate(kSin, x), cosine = Evaluate(kCos, x);
    size_t different = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double s = std::sin(static_cast<double>(x[i])), c = std::cos(static_cast<double>(x[i]));
      ASSERT_NEAR(sine[i], s, 0x1.01p-24 * std::fabs(s) + 1e-11) << x[i];
      ASSERT_NEAR(cosine[i], c, 0x1.01p-24 * std::fabs(c) + 1e-11) << x[i];
      different += sine[i] != static_cast<float>(s);
    }
    EXPECT_LT(different, x.size() / 1000);
  }
}

TEST_P(VectorMathTest, SameBitsOnEveryTarget) {
  std::vector<float> x;
  for (int i = -100'000; i < 100'000; ++i) x.push_back(static_cast<float>(i) * 1.03e-3f);
  for (const Function function : {kExp, kSigmoid, kSilu, kTanh, kSin, kCos}) {
    const std::vector<float> want = Evaluate(function, x, SimdLevels().back());
    const std::vector<float> got = Evaluate(function, x);
    EXPECT_EQ(std::memcmp(got.data(), want.data(), got.size() * sizeof(float)), 0) << function;
  }
}

INSTANTIATE_TEST_SUITE_P(Levels, VectorMathTest, testing::ValuesIn(SimdLevels()),
                         [](const auto& level) { return level.param; });

}  // namespace
}  // namespace ram
#endif  // HWY_ONCE
