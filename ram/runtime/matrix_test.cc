// Decoding of every stored form against ram_quant's own unpacking.

#include "ram/runtime/matrix.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "ram/base/half.h"
#include "ram/quant/quantize.h"
#include "ram/quant/quantize_reference.h"
#include "ram/quant/test_weights.h"

namespace ram {
namespace {

constexpr Dtype kDtypes[] = {Dtype::kF32, Dtype::kF16, Dtype::kBF16};

std::vector<float> Decode(const Matrix& matrix, uint64_t first, uint64_t num) {
  std::vector<float> values(num * matrix.cols);
  DecodeRows(matrix, first, num, values.data());
  return values;
}

TEST(MatrixTest, DenseOfEveryDtype) {
  for (const Dtype dtype : kDtypes) {
    const TestMatrix weights = SpecialMatrix(dtype, kNumSpecialRows, 96);
    const MatrixView view = weights.View();
    const Matrix matrix = {.dtype = dtype, .rows = view.rows, .cols = 96, .values = view.data};
    EXPECT_EQ(matrix.bytes(), view.rows * 96 * static_cast<uint64_t>(BitsOf(dtype)) / 8);
    const std::vector<float> values = Decode(matrix, 0, matrix.rows);
    for (size_t i = 0; i < values.size(); ++i) {
      ASSERT_EQ(values[i], reference::LoadWeight(view, i));
    }
  }
}

TEST(MatrixTest, AffineOfEveryChoice) {
  constexpr uint64_t kCount = 3;
  constexpr uint64_t kRows = 6;
  constexpr uint64_t kCols = 256;
  for (const Dtype dtype : kDtypes) {
    const TestMatrix weights = SpecialMatrix(dtype, kCount * kRows, kCols);
    for (const Choice& choice : kAffineChoices) {
      SCOPED_TRACE(ChoiceName(choice));
      const reference::Quantized packed = reference::Quantize(weights.View(), {.choice = choice});
      const Matrix stack = {.form = Matrix::Form::kAffine,
                            .dtype = dtype,
                            .bits = choice.bits,
                            .group_size = choice.group_size,
                            .count = kCount,
                            .rows = kRows,
                            .cols = kCols,
                            .values = packed.codes.data(),
                            .scales = packed.scales.data(),
                            .biases = packed.biases.data()};
      EXPECT_EQ(stack.bytes(), packed.codes.size() + packed.scales.size() + packed.biases.size());
      EXPECT_EQ(stack.bytes(), StoredBytes(choice, kCount * kRows, kCols, dtype));
      std::vector<float> expected(kCount * kRows * kCols);
      ASSERT_TRUE(Dequantize(packed.codes, packed.scales, packed.biases, dtype, choice,
                             kCount * kRows, kCols, expected)
                      .ok());
      for (uint64_t i = 0; i < kCount; ++i) {
        const Matrix one = stack.at(i);
        const auto* want = expected.data() + i * kRows * kCols;
        const std::vector<float> all = Decode(one, 0, kRows);
        EXPECT_TRUE(std::equal(all.begin(), all.end(), want));
        const std::vector<float> some = Decode(one.slice(2, 3), 1, 2);
        EXPECT_TRUE(std::equal(some.begin(), some.end(), want + 3 * kCols));
        EXPECT_EQ(Decode(one, 3, 2), some);
      }
    }
  }
}

TEST(MatrixTest, Mxfp4OfEveryCodeAndScale) {
  // Row r has scale byte r for its first 32 codes and 252 - r after; larger ones overflow.
  constexpr uint64_t kRows = 253;
  constexpr uint64_t kCols = 64;
  std::vector<uint8_t> codes(kRows * kCols / 2);
  std::vector<uint8_t> scales(kRows * 2);
  for (uint64_t i = 0; i < codes.size(); ++i) {
    codes[i] = static_cast<uint8_t>(RandomBits(3, i));
  }
  for (uint64_t r = 0; r < kRows; ++r) {
    scales[2 * r] = static_cast<uint8_t>(r);
    scales[2 * r + 1] = static_cast<uint8_t>(252 - r);
  }
  const Matrix matrix = {.form = Matrix::Form::kMxfp4,
                         .bits = 4,
                         .group_size = 32,
                         .rows = kRows,
                         .cols = kCols,
                         .values = codes.data(),
                         .scales = scales.data()};
  EXPECT_EQ(matrix.bytes(), codes.size() + scales.size());
  const std::vector<float> values = Decode(matrix, 0, kRows);
  constexpr double kMagnitudes[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  for (uint64_t i = 0; i < values.size(); ++i) {
    const int code = codes[i / 2] >> (i % 2 * 4) & 15;
    const double sign = code >= 8 ? -1 : 1;
    const double want = sign * std::ldexp(kMagnitudes[code & 7], scales[i / 32] - 127);
    ASSERT_EQ(static_cast<double>(values[i]), want) << i;
  }
}

}  // namespace
}  // namespace ram
