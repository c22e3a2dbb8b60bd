#include "ram/measure/block_errors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "ram/measure/block_errors_reference.h"
#include "ram/quant/simd_targets.h"
#include "ram/quant/test_weights.h"
// After simd_targets.h.
#include "hwy/targets.h"

namespace ram {
namespace {

constexpr Dtype kDtypes[] = {Dtype::kBF16, Dtype::kF16, Dtype::kF32};

void ExpectSame(const BlockErrors& got, const BlockErrors& want) {
  for (size_t i = 0; i < kAffineChoices.size(); ++i) {
    SCOPED_TRACE(ChoiceName(kAffineChoices[i]));
    EXPECT_EQ(got.choices[i].sum_squares, want.choices[i].sum_squares);
    EXPECT_EQ(got.choices[i].weighted_sum_squares, want.choices[i].weighted_sum_squares);
    EXPECT_EQ(got.choices[i].largest, want.choices[i].largest);
  }
  EXPECT_EQ(got.sum, want.sum);
  EXPECT_EQ(got.sum_squares, want.sum_squares);
  EXPECT_EQ(got.weighted_sum_squares, want.weighted_sum_squares);
  EXPECT_EQ(got.sum_fourths, want.sum_fourths);
  EXPECT_EQ(got.largest, want.largest);
  EXPECT_EQ(got.num_nan, want.num_nan);
  EXPECT_EQ(got.num_inf, want.num_inf);
  EXPECT_EQ(got.num_weights, want.num_weights);
}

void ExpectReference(const MatrixView& rows, const ErrorWeights& weights = {}) {
  SCOPED_TRACE(std::string(DtypeName(rows.dtype)) + " " + std::to_string(rows.rows) + "x" +
               std::to_string(rows.cols));
  const auto got = MeasureBlock(rows, weights);
  ASSERT_TRUE(got.ok()) << got.error().message;
  ExpectSame(*got, reference::MeasureBlock(rows, weights));
}

std::vector<float> RandomWeights(size_t count, uint64_t seed) {
  std::vector<float> weights;
  for (size_t i = 0; i < count; ++i) {
    weights.push_back(static_cast<float>(RandomUniform(seed, i)));
  }
  return weights;
}

// Runs each test once per instruction set the CPU has.
class BlockErrorsTest : public testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override { hwy::SetSupportedTargetsForTest(GetParam()); }
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }
};

TEST_P(BlockErrorsTest, RunsOnTheTargetUnderTest) {
  EXPECT_EQ(MeasureTarget(), hwy::TargetName(GetParam()));
}

// Columns that 128, 64, 32 and no group size divides; short, full and several batches.
TEST_P(BlockErrorsTest, MatchesReference) {
  for (const Dtype dtype : kDtypes) {
    for (const size_t cols : {1u, 31u, 32u, 96u, 128u, 192u, 1024u, 2048u, 2080u}) {
      ExpectReference(NormalMatrix(dtype, 5, cols).View());
    }
    ExpectReference(SpecialMatrix(dtype, kNumSpecialRows, 256).View());
  }
}

TEST_P(BlockErrorsTest, MatchesReferenceWithErrorWeights) {
  for (const Dtype dtype : kDtypes) {
    for (const size_t cols : {31u, 96u, 1024u, 2080u}) {
      const TestMatrix matrix = NormalMatrix(dtype, 3, cols);
      const std::vector<float> rows = RandomWeights(3, 10), columns = RandomWeights(cols, 11);
      ExpectReference(matrix.View(), {.rows = rows, .columns = columns});
      ExpectReference(matrix.View(), {.rows = rows});
      ExpectReference(matrix.View(), {.columns = columns});
    }
  }
}

TEST_P(BlockErrorsTest, TakesUnalignedBytesOfExactlyItsSize) {
  for (const Dtype dtype : kDtypes) {
    for (size_t misalign = 0; misalign < 8; ++misalign) {
      ExpectReference(NormalMatrix(dtype, 2, 160, 0.02, 1, misalign).View());
    }
  }
}

TEST_P(BlockErrorsTest, CountsWhatIsNotFinite) {
  for (const Dtype dtype : kDtypes) {
    const auto value = [](size_t row, size_t col) -> double {
      if (row == 0 && col == 5) return std::numeric_limits<double>::quiet_NaN();
      if (row == 1 && col == 0) return std::numeric_limits<double>::infinity();
      if (row == 2 && col == 2099) return -std::numeric_limits<double>::infinity();
      return 0.01;
    };
    const auto got = MeasureBlock(TestMatrix(dtype, 3, 2100, value).View(), {});
    ASSERT_TRUE(got.ok());
    EXPECT_EQ(got->num_nan, 1u);
    EXPECT_EQ(got->num_inf, 2u);
    EXPECT_EQ(got->num_weights, 6300u);
  }
}

TEST_P(BlockErrorsTest, RefusesGroupsWithoutAScale) {
  const auto value = [](size_t row, size_t col) -> double {
    return row == 1 && col / 32 == 70 ? 1e35 : 0.01;
  };
  const TestMatrix matrix(Dtype::kBF16, 2, 2304, value);
  const std::vector<float> columns(2304, 1.0f);
  for (const ErrorWeights& weights : {ErrorWeights{}, ErrorWeights{.columns = columns}}) {
    const auto got = MeasureBlock(matrix.View(), weights);
    ASSERT_FALSE(got.ok());
    EXPECT_EQ(got.error().code, ErrorCode::kCorrupt);
    EXPECT_EQ(got.error().message,
              "row 1 of the block, column 2240: the group of weights that starts here is too large "
              "for a scale");
  }
}

INSTANTIATE_TEST_SUITE_P(EveryTarget, BlockErrorsTest,
                         testing::ValuesIn(hwy::SupportedAndGeneratedTargets()),
                         [](const auto& target) { return hwy::TargetName(target.param); });

// The two definitions of the error differ in rounding only: (w - bias) - code * scale here,
// w - (code * scale + bias) there.
TEST(BlockErrors, AgreeWithQuantizeError) {
  for (const Dtype dtype : kDtypes) {
    const TestMatrix matrix = NormalMatrix(dtype, 64, 4096);
    const auto block = MeasureBlock(matrix.View(), {});
    ASSERT_TRUE(block.ok());
    for (const Choice& choice : kAffineChoices) {
      SCOPED_TRACE(ChoiceName(choice));
      const auto error = QuantizeError(matrix.View(), {.choice = choice});
      ASSERT_TRUE(error.ok());
      const ChoiceErrors& got = block->choices[AffineIndex(choice)];
      EXPECT_NEAR(got.sum_squares / error->sum_squares, 1, 1e-5);
      EXPECT_NEAR(got.largest / error->largest, 1, 1e-3);
    }
  }
}

// Rows may be measured alone, e.g. by another thread: only blocks are one sum.
TEST(BlockErrors, AddUpInTheOrderOfRows) {
  const size_t cols = 4096, rows = RowsPerBlock(cols);
  const TestMatrix matrix = NormalMatrix(Dtype::kBF16, 2 * rows, cols);
  const MatrixView all = matrix.View();
  const auto above = MeasureBlock({all.data, all.dtype, rows, cols}, {});
  const auto below = MeasureBlock({all.data + rows * cols * 2, all.dtype, rows, cols}, {});
  ASSERT_TRUE(above.ok() && below.ok());
  BlockErrors sum = *above;
  sum.Add(*below);
  EXPECT_EQ(sum.num_weights, 2 * rows * cols);
  EXPECT_EQ(sum.largest, std::max(above->largest, below->largest));
  for (size_t i = 0; i < kAffineChoices.size(); ++i) {
    EXPECT_EQ(sum.choices[i].sum_squares,
              above->choices[i].sum_squares + below->choices[i].sum_squares);
  }
}

TEST(BlockErrors, RefuseWhatDoesNotFit) {
  const TestMatrix matrix = NormalMatrix(Dtype::kBF16, 2, 64);
  const MatrixView view = matrix.View();
  const std::vector<float> three(3, 1.0f);
  const auto error = [](const Result<BlockErrors>& result) {
    return result.ok() ? std::string() : result.error().message;
  };
  EXPECT_EQ(error(MeasureBlock({view.data, Dtype::kI32, 2, 64}, {})),
            "dtype I32: expected BF16, F16 or F32");
  EXPECT_EQ(error(MeasureBlock(view, {.rows = three})), "3 row weights for 2 rows");
  EXPECT_EQ(error(MeasureBlock(view, {.columns = three})), "3 column weights for 64 columns");
  EXPECT_EQ(error(MeasureBlock({view.data, Dtype::kBF16, 5000, 64}, {})),
            "5000 rows in one block: at most 4096 of 64 columns");
}

}  // namespace
}  // namespace ram
