#include "ram/quant/quantize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <ostream>
#include <string>
#include <vector>

#include "ram/quant/quantize_reference.h"
#include "ram/quant/simd_targets.h"
#include "ram/quant/test_weights.h"
// After simd_targets.h.
#include "hwy/targets.h"

namespace ram {
namespace {

constexpr Dtype kDtypes[] = {Dtype::kBF16, Dtype::kF16, Dtype::kF32};
constexpr Rounding kRoundings[] = {Rounding::kCpu, Rounding::kMetal};

struct Packed {
  std::vector<uint8_t> codes, scales, biases;
  StoredError error;
};

// Exact-size outputs, at odd addresses if asked.
Result<Packed> QuantizeToVectors(const MatrixView& matrix, const QuantizeOptions& options,
                                 size_t misalign = 0) {
  const size_t weights = matrix.rows * matrix.cols;
  const size_t codes = weights / 8 * static_cast<size_t>(options.choice.bits);
  const size_t values = weights / static_cast<size_t>(options.choice.group_size) *
                        static_cast<size_t>(BitsOf(matrix.dtype)) / 8;
  std::vector<uint8_t> c(codes + misalign), s(values + misalign), b(values + misalign);
  const PackedMatrix out = {std::span(c).subspan(misalign), std::span(s).subspan(misalign),
                            std::span(b).subspan(misalign)};
  RAM_ASSIGN_OR_RETURN(const StoredError error, Quantize(matrix, options, out));
  const auto copy = [](std::span<const uint8_t> bytes) {
    return std::vector<uint8_t>(bytes.begin(), bytes.end());
  };
  return Packed{copy(out.codes), copy(out.scales), copy(out.biases), error};
}

std::string Describe(const MatrixView& matrix, const QuantizeOptions& options) {
  return std::string(QuantizerName(options.quantizer)) + " " + ChoiceName(options.choice) + " " +
         std::string(RoundingName(options.rounding)) + " " + std::string(DtypeName(matrix.dtype)) +
         " " + std::to_string(matrix.rows) + "x" + std::to_string(matrix.cols);
}

void ExpectReference(const MatrixView& matrix, const QuantizeOptions& options,
                     size_t misalign = 0) {
  SCOPED_TRACE(Describe(matrix, options));
  const auto got = QuantizeToVectors(matrix, options, misalign);
  ASSERT_TRUE(got.ok()) << got.error().message;
  const reference::Quantized want = reference::Quantize(matrix, options);
  EXPECT_TRUE(got->scales == want.scales);
  EXPECT_TRUE(got->biases == want.biases);
  EXPECT_TRUE(got->codes == want.codes);
  EXPECT_EQ(got->error.sum_squares, want.error.sum_squares);
  EXPECT_EQ(got->error.largest, want.error.largest);
  const auto error = QuantizeError(matrix, options);
  ASSERT_TRUE(error.ok());
  EXPECT_EQ(error->sum_squares, want.error.sum_squares);
  EXPECT_EQ(error->largest, want.error.largest);
}

// Runs each test once per instruction set the CPU has.
class QuantizeTest : public testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override { hwy::SetSupportedTargetsForTest(GetParam()); }
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }
};

TEST_P(QuantizeTest, RunsOnTheTargetUnderTest) {
  EXPECT_EQ(QuantizeTarget(), hwy::TargetName(GetParam()));
}

TEST_P(QuantizeTest, MatchesReferenceForEveryChoice) {
  for (const Dtype dtype : kDtypes) {
    const TestMatrix special = SpecialMatrix(dtype, kNumSpecialRows, 256);
    const TestMatrix normal = NormalMatrix(dtype, 3, 2048 + 384);
    for (const Choice& choice : kAffineChoices) {
      for (const Rounding rounding : kRoundings) {
        for (const Quantizer quantizer : {Quantizer::kRtn, Quantizer::kRtnPlus}) {
          const QuantizeOptions options = {
              .choice = choice, .quantizer = quantizer, .rounding = rounding};
          ExpectReference(special.View(), options);
          ExpectReference(normal.View(), options);
        }
      }
    }
  }
}

// 5, 10 and 20 groups in a row: the search takes 16 at a time.
TEST_P(QuantizeTest, OptMatchesReference) {
  for (const Dtype dtype : kDtypes) {
    const TestMatrix special = SpecialMatrix(dtype, kNumSpecialRows, 128);
    const TestMatrix normal = NormalMatrix(dtype, 1, 640);
    std::vector<float> columns;
    for (size_t i = 0; i < 640; ++i) {  // A group of zeros and a few others.
      columns.push_back(i < 128 || i % 50 == 0 ? 0.0f : static_cast<float>(RandomUniform(6, i)));
    }
    for (const Choice& choice : kAffineChoices) {
      QuantizeOptions options = {.choice = choice, .quantizer = Quantizer::kOpt};
      ExpectReference(special.View(), options);
      options.column_weights = columns;
      ExpectReference(normal.View(), options);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(EveryTarget, QuantizeTest,
                         testing::ValuesIn(hwy::SupportedAndGeneratedTargets()),
                         [](const auto& target) { return hwy::TargetName(target.param); });

}  // namespace
}  // namespace ram
