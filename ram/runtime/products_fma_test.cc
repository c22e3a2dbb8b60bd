// Products of f32 multiply-adds against f64, for every form of weights at every level of
// instruction sets; what they must not depend on; the decoders in front of them.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ram/base/thread_pool.h"
#include "ram/runtime/isa.h"
#include "ram/runtime/products.h"
#include "ram/runtime/test_matrix.h"
#include "ram/runtime/tile_decode.h"

namespace ram {
namespace {

std::vector<float> Decode(const Matrix& matrix) {
  std::vector<float> weights(matrix.rows * matrix.cols);
  DecodeRows(matrix, 0, matrix.rows, weights.data());
  return weights;
}

std::vector<Matrix> PackedForms() {
  std::vector<Matrix> forms = AllForms();
  std::erase_if(forms, [](const Matrix& form) { return form.form == Matrix::Form::kDense; });
  return forms;
}

// Relative root mean square error of out against f64.
double ErrorOf(Rows x, const Matrix& matrix, std::span<const float> bias, Rows out) {
  const std::vector<float> weights = Decode(matrix);
  double error = 0;
  double power = 0;
  for (uint64_t r = 0; r < out.rows; ++r) {
    for (uint64_t c = 0; c < out.cols; ++c) {
      double sum = bias.empty() ? 0.0 : double{bias[c]};
      for (uint64_t k = 0; k < x.cols; ++k) {
        sum += double{x.row(r)[k]} * double{weights[c * x.cols + k]};
      }
      const double difference = double{out.row(r)[c]} - sum;
      error += difference * difference;
      power += sum * sum;
    }
  }
  return std::sqrt(error / power);
}

class ProductsFmaTest : public testing::TestWithParam<std::string> {
 protected:
  void Multiply(Rows x, const Matrix& matrix, std::span<const float> bias, Rows out) {
    ProductGroup group = {.x = x, .products = {}};
    group.products.push_back({.matrix = matrix, .bias = bias, .out = out});
    products_->Multiply({&group, 1}, pool_);
  }

  // Of the error of few rows and up to 4096 columns.
  static double FewRowsLimit(const Matrix& form) {
    return UsesByteDots(GetParam()) && form.bits != 8 ? 3e-7 : 1.2e-6;
  }

  ThreadPool pool_{3};
  std::unique_ptr<Products> products_ = MakeFmaProducts(GetParam(), Precision::kF32);
};

TEST_P(ProductsFmaTest, IsNamedAfterItsInstructions) { EXPECT_EQ(products_->name(), GetParam()); }

// Rows beside the tiles, columns beside the strips, steps and blocks of k that are not whole; few
// and many rows.
// Measured up to 5.3e-7 where vectors are short (NEON).
TEST_P(ProductsFmaTest, EveryFormIsAsExactAsF32) {
  for (const Matrix& form : AllForms()) {
    const bool dense = form.form == Matrix::Form::kDense;
    for (const uint64_t cols : {dense ? 301U : 128U, dense ? 6U : 384U}) {
      const TestMatrix matrix = RandomMatrix(form, 1, 39, cols);
      std::vector<float> bias(matrix.shape.rows);
      for (size_t i = 0; i < bias.size(); ++i) bias[i] = static_cast<float>(i % 7) - 3;
      for (const uint64_t rows : {1U, 2U, 3U, 4U, 5U, 31U}) {
        SCOPED_TRACE(matrix.name + " " + std::to_string(rows) + " rows of " + std::to_string(cols));
        TestRows x = TestRows::Random(rows, cols);
        TestRows out(rows, matrix.shape.rows);
        Multiply(x.view(), matrix.view(), bias, out.view());
        EXPECT_LE(ErrorOf(x.view(), matrix.view(), bias, out.view()), 6e-7);
        EXPECT_TRUE(out.BetweenIsUntouched());
        Multiply(x.view(), matrix.view(), {}, out.view());
        EXPECT_LE(ErrorOf(x.view(), matrix.view(), {}, out.view()), 6e-7);
      }
    }
  }
}

// Many rows measured 3e-7 everywhere; few rows, whose sums are longer where vectors are short, up
// to 1.1e-6 and 2.1e-6 (SSE4).
TEST_P(ProductsFmaTest, LongSumsStayExact) {
  for (const auto& [cols, limit] : {std::pair<uint64_t, double>{4096, 1.2e-6}, {14336, 2.5e-6}}) {
    for (const Matrix& form :
         {Matrix{.dtype = Dtype::kF32}, Matrix{.dtype = Dtype::kBF16},
          Matrix{.form = Matrix::Form::kAffine, .dtype = Dtype::kBF16, .bits = 4, .group_size = 64},
          Matrix{
              .form = Matrix::Form::kAffine, .dtype = Dtype::kBF16, .bits = 8, .group_size = 128},
          Matrix{.form = Matrix::Form::kMxfp4}}) {
      const TestMatrix matrix = RandomMatrix(form, 1, 24, cols);
      for (const uint64_t rows : {2U, 9U}) {
        SCOPED_TRACE(matrix.name + " " + std::to_string(rows));
        TestRows x = TestRows::Random(rows, cols);
        TestRows out(rows, 24);
        Multiply(x.view(), matrix.view(), {}, out.view());
        EXPECT_LE(ErrorOf(x.view(), matrix.view(), {}, out.view()), limit);
      }
    }
  }
}

// Widths that leave every kind of rest of a step; few rows, which use packed weights as they are.
TEST_P(ProductsFmaTest, FewRowsOfEveryWidth) {
  for (const Matrix& form : PackedForms()) {
    const uint64_t group_size =
        form.form == Matrix::Form::kMxfp4 ? 32 : static_cast<uint64_t>(form.group_size);
    for (const uint64_t groups : {1U, 2U, 3U, 5U, 7U, 9U, 17U}) {
      const uint64_t cols = groups * group_size;
      const TestMatrix matrix = RandomMatrix(form, 1, 37, cols);
      for (const uint64_t rows : {1U, 2U, 3U, 4U}) {
        SCOPED_TRACE(matrix.name + " " + std::to_string(rows) + " rows of " + std::to_string(cols));
        TestRows x = TestRows::Random(rows, cols);
        TestRows out(rows, matrix.shape.rows);
        Multiply(x.view(), matrix.view(), {}, out.view());
        EXPECT_LE(ErrorOf(x.view(), matrix.view(), {}, out.view()), FewRowsLimit(form));
        EXPECT_TRUE(out.BetweenIsUntouched());
      }
    }
  }
}

// Dot products of bytes have few roundings: measured at most 1.8e-7.
TEST_P(ProductsFmaTest, LongSumsOfBytesStayExact) {
  if (!UsesByteDots(GetParam())) GTEST_SKIP();
  for (const Matrix& form : PackedForms()) {
    if (form.bits == 8) continue;
    for (const uint64_t cols : {4096U, 14336U}) {
      const TestMatrix matrix = RandomMatrix(form, 1, 64, cols);
      for (const uint64_t rows : {1U, 4U}) {
        SCOPED_TRACE(matrix.name + " " + std::to_string(rows) + " rows of " + std::to_string(cols));
        TestRows x = TestRows::Random(rows, cols);
        TestRows out(rows, 64);
        Multiply(x.view(), matrix.view(), {}, out.view());
        EXPECT_LE(ErrorOf(x.view(), matrix.view(), {}, out.view()), 3e-7);
      }
    }
  }
}

// Zeros, and values much larger or smaller than their neighbours.
TEST_P(ProductsFmaTest, FewRowsOfUnevenActivations) {
  constexpr uint64_t kCols = 640;
  for (const Matrix& form : PackedForms()) {
    const TestMatrix matrix = RandomMatrix(form, 1, 37, kCols);
    SCOPED_TRACE(matrix.name);
    TestRows x = TestRows::Random(4, kCols);
    for (uint64_t k = 0; k < kCols; ++k) {
      if (k / 128 == 1) x.view().row(0)[k] = 0;          // Whole groups of zeros,
      if (k % 32 == 5) x.view().row(0)[k] *= 1e6F;       // one outlier in each group,
      if (k >= 512) x.view().row(1)[k] *= 1e-20F;        // groups that do not matter,
      if (k != 77) x.view().row(2)[k] = 0;               // one value,
      x.view().row(3)[k] *= k % 2 == 0 ? 1e30F : 1e25F;  // and large ones.
    }
    for (uint64_t r = 0; r < 4; ++r) {
      TestRows out(1, 37);
      Multiply(x.view().slice(r, 1), matrix.view(), {}, out.view());
      EXPECT_LE(ErrorOf(x.view().slice(r, 1), matrix.view(), {}, out.view()), FewRowsLimit(form))
          << "row " << r;
    }
  }
}

// Rows that are zero have a product of zero, and tiny ones one that is off by little.
TEST_P(ProductsFmaTest, FewRowsOfTinyActivations) {
  constexpr uint64_t kCols = 384;
  for (const Matrix& form : PackedForms()) {
    const TestMatrix matrix = RandomMatrix(form, 1, 37, kCols);
    SCOPED_TRACE(matrix.name);
    TestRows x = TestRows::Random(4, kCols);
    for (uint64_t k = 0; k < kCols; ++k) {
      x.view().row(0)[k] = 0;
      x.view().row(1)[k] *= 1e-30F;
      x.view().row(2)[k] *= 1e-36F;
      x.view().row(3)[k] *= 1e-40F;  // Denormal.
    }
    TestRows out(4, 37);
    Multiply(x.view(), matrix.view(), {}, out.view());
    const std::vector<float> weights = Decode(matrix.view());
    for (uint64_t c = 0; c < 37; ++c) {
      EXPECT_EQ(out.view().row(0)[c], 0.0F);
      for (uint64_t r = 1; r < 4; ++r) {
        double sum = 0;
        double magnitude = 0;
        double weight = 0;
        for (uint64_t k = 0; k < kCols; ++k) {
          const double w = weights[c * kCols + k];
          sum += double{x.view().row(r)[k]} * w;
          magnitude += std::abs(double{x.view().row(r)[k]} * w);
          weight += 0.5;  // No weight is larger; each x is off by at most 2^-126.
        }
        EXPECT_NEAR(out.view().row(r)[c], sum, 2e-6 * magnitude + weight * 0x1p-126);
      }
    }
  }
}

// What is not a number stays visible in all of its row, and in no other.
TEST_P(ProductsFmaTest, FewRowsThatAreNotFinite) {
  constexpr uint64_t kCols = 384;
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const Matrix& form : PackedForms()) {
    const TestMatrix matrix = RandomMatrix(form, 1, 37, kCols);
    SCOPED_TRACE(matrix.name);
    TestRows x = TestRows::Random(4, kCols);
    TestRows expected(4, 37);
    Multiply(x.view(), matrix.view(), {}, expected.view());
    for (const uint64_t k : {0U, 77U, 255U, 383U}) {
      for (const float bad : {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN()}) {
        for (const uint64_t row : {0U, 3U}) {
          const float good = std::exchange(x.view().row(row)[k], bad);
          TestRows out(4, 37);
          Multiply(x.view(), matrix.view(), {}, out.view());
          x.view().row(row)[k] = good;
          for (uint64_t r = 0; r < 4; ++r) {
            for (uint64_t c = 0; c < 37; ++c) {
              const float got = out.view().row(r)[c];
              EXPECT_TRUE(r == row ? !std::isfinite(got) : got == expected.view().row(r)[c])
                  << got << " in row " << r;
            }
          }
        }
      }
    }
  }
}

// Rows of the identity pick single weights: the decoder of panels is exact. (With f32 scales,
// code * scale + bias may be rounded once where DecodeRows rounds twice.)
TEST_P(ProductsFmaTest, PanelsHoldTheWeightsThatTheModelMeans) {
  for (const Matrix& form : AllForms()) {
    if (form.form == Matrix::Form::kAffine && form.dtype == Dtype::kF32) continue;
    const TestMatrix matrix = RandomMatrix(form, 1, 19, 384);
    SCOPED_TRACE(matrix.name);
    TestRows x(384, 384, 0);
    for (uint64_t k = 0; k < 384; ++k) {
      for (uint64_t c = 0; c < 384; ++c) x.view().row(k)[c] = c == k ? 1.0F : 0.0F;
    }
    TestRows out(384, 19);
    Multiply(x.view(), matrix.view(), {}, out.view());
    const std::vector<float> weights = Decode(matrix.view());
    size_t different = 0;
    for (uint64_t k = 0; k < 384; ++k) {
      for (uint64_t c = 0; c < 19; ++c) different += out.view().row(k)[c] != weights[c * 384 + k];
    }
    EXPECT_EQ(different, 0U);
  }
}

// A row has the same bits alone and in a batch, at any place of it. Few rows (up to 4) and many are
// two kernels.
TEST_P(ProductsFmaTest, RowsDoNotDependOnEachOther) {
  for (const Matrix& form : AllForms()) {
    if (form.form == Matrix::Form::kAffine && form.group_size != 64) continue;
    const TestMatrix matrix = RandomMatrix(form, 1, 45, 320);
    SCOPED_TRACE(matrix.name);
    TestRows x = TestRows::Random(37, 320);
    TestRows all(37, 45);
    Multiply(x.view(), matrix.view(), {}, all.view());
    for (const uint64_t first : {0U, 3U, 17U}) {
      for (const uint64_t rows : {5U, 6U, 20U}) {
        TestRows part(rows, 45);
        Multiply(x.view().slice(first, rows), matrix.view(), {}, part.view());
        for (uint64_t r = 0; r < rows; ++r) {
          const float* row = part.view().row(r);
          EXPECT_TRUE(std::equal(row, row + 45, all.view().row(first + r)));
        }
      }
    }
    TestRows few(4, 45);
    Multiply(x.view().slice(0, 4), matrix.view(), {}, few.view());
    for (uint64_t r = 0; r < 4; ++r) {
      for (uint64_t rows = 1; r + rows <= 4; ++rows) {
        TestRows part(rows, 45);
        Multiply(x.view().slice(r, rows), matrix.view(), {}, part.view());
        const float* row = part.view().row(0);
        EXPECT_TRUE(std::equal(row, row + 45, few.view().row(r)));
      }
    }
  }
}

// Any number of threads cuts the work otherwise, with the same result.
TEST_P(ProductsFmaTest, ThreadsDoNotMatter) {
  const TestMatrix matrix = RandomMatrix(
      {.form = Matrix::Form::kAffine, .dtype = Dtype::kBF16, .bits = 4, .group_size = 64}, 1, 700,
      320);
  for (const uint64_t rows : {3U, 530U}) {
    TestRows x = TestRows::Random(rows, 320);
    TestRows expected(rows, 700);
    Multiply(x.view(), matrix.view(), {}, expected.view());
    for (const size_t threads : {1U, 2U, 16U}) {
      ThreadPool pool(threads);
      TestRows out(rows, 700);
      ProductGroup group = {.x = x.view(), .products = {}};
      group.products.push_back({.matrix = matrix.view(), .out = out.view()});
      products_->Multiply({&group, 1}, pool);
      EXPECT_TRUE(out == expected) << threads << " threads";
    }
  }
}

TEST_P(ProductsFmaTest, SinksGetEveryElementOnce) {
  const TestMatrix matrix = RandomMatrix({.dtype = Dtype::kBF16}, 1, 600, 96);
  std::vector<float> bias(600, 0.5F);
  for (const uint64_t rows : {2U, 300U}) {
    TestRows x = TestRows::Random(rows, 96);
    TestRows expected(rows, 600);
    Multiply(x.view(), matrix.view(), bias, expected.view());
    TestRows out(rows, 600);
    std::vector<std::atomic<int>> visits(rows * 600);
    ProductGroup group = {.x = x.view(), .products = {}};
    group.products.push_back({.matrix = matrix.view(), .bias = bias, .out = {}});
    group.products[0].sink = [&](size_t thread, const ProductTile& tile) {
      EXPECT_LT(thread, pool_.num_threads());
      EXPECT_EQ(tile.first_col % 256, 0U);
      EXPECT_LE(tile.values.cols, 256U);
      for (uint64_t r = 0; r < tile.values.rows; ++r) {
        for (uint64_t c = 0; c < tile.values.cols; ++c) {
          ++visits[(tile.first_row + r) * 600 + tile.first_col + c];
          out.view().row(tile.first_row + r)[tile.first_col + c] = tile.values.row(r)[c];
        }
      }
    };
    products_->Multiply({&group, 1}, pool_);
    EXPECT_TRUE(out == expected);
    for (const std::atomic<int>& count : visits) EXPECT_EQ(count, 1);
  }
}

// Groups of different heights, one without rows, several products with one input.
TEST_P(ProductsFmaTest, GroupsAreIndependent) {
  const TestMatrix experts = RandomMatrix(
      {.form = Matrix::Form::kAffine, .dtype = Dtype::kF16, .bits = 3, .group_size = 32}, 3, 40,
      96);
  const TestMatrix other = RandomMatrix({.dtype = Dtype::kF32}, 1, 33, 96);
  for (const bool many : {false, true}) {
    const std::vector<uint64_t> heights = {many ? 20U : 3U, 0, 1};
    std::vector<TestRows> x, first, second;
    for (const uint64_t rows : heights) {
      x.push_back(TestRows::Random(rows, 96, static_cast<uint32_t>(rows)));
      first.emplace_back(rows, 40);
      second.emplace_back(rows, 33);
    }
    std::vector<ProductGroup> groups;
    for (size_t i = 0; i < heights.size(); ++i) {
      groups.push_back({x[i].view(), {}});
      groups[i].products.push_back({.matrix = experts.view().at(i), .out = first[i].view()});
      groups[i].products.push_back({.matrix = other.view(), .out = second[i].view()});
    }
    products_->Multiply(groups, pool_);
    for (const size_t i : {0U, 2U}) {
      EXPECT_LE(ErrorOf(x[i].view(), experts.view().at(i), {}, first[i].view()), 5e-7);
      EXPECT_LE(ErrorOf(x[i].view(), other.view(), {}, second[i].view()), 5e-7);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Levels, ProductsFmaTest, testing::ValuesIn(SimdLevels()),
                         [](const auto& level) { return level.param; });

TEST(TileDecodeTest, IsTheDefinition) {
  for (const Matrix& form : AllForms()) {
    const uint64_t cols = form.form == Matrix::Form::kDense ? 333 : 384;
    const TestMatrix matrix = RandomMatrix(form, 1, 21, cols);
    SCOPED_TRACE(matrix.name);
    const std::vector<float> weights = Decode(matrix.view());
    for (const uint64_t first : {0U, 64U, 128U}) {
      for (const uint64_t num : {uint64_t{96}, cols - first}) {
        TestRows out(7, num);
        DecodeTile(matrix.view(), 5, 7, first, num, out.view().data, out.view().pitch);
        for (uint64_t r = 0; r < 7; ++r) {
          EXPECT_EQ(std::memcmp(out.view().row(r), &weights[(5 + r) * cols + first], num * 4), 0);
        }
        EXPECT_TRUE(out.BetweenIsUntouched());
      }
    }
    TestRows transposed(cols, 21);
    DecodeTransposed(matrix.view(), transposed.view().data, transposed.view().pitch);
    for (uint64_t r = 0; r < 21; ++r) {
      for (uint64_t c = 0; c < cols; ++c) {
        ASSERT_EQ(transposed.view().row(c)[r], weights[r * cols + c]);
      }
    }
    EXPECT_TRUE(transposed.BetweenIsUntouched());
  }
}

// avx3_dl is avx3 but for the kernel that it is there for, which is really taken.
TEST(IsaTest, ByteDotsAreTakenForFewRowsOfPackedWeightsOnly) {
  const std::vector<std::string> levels = SimdLevels();
  if (std::ranges::find(levels, "avx3_dl") == levels.end()) GTEST_SKIP();
  ThreadPool pool(1);
  const auto multiply = [&](const char* level, const TestMatrix& matrix, TestRows& x) {
    TestRows out(x.view().rows, matrix.shape.rows);
    ProductGroup group = {.x = x.view(), .products = {}};
    group.products.push_back({.matrix = matrix.view(), .out = out.view()});
    MakeFmaProducts(level, Precision::kF32)->Multiply({&group, 1}, pool);
    return out;
  };
  for (const Matrix& form : AllForms()) {
    const TestMatrix matrix = RandomMatrix(form, 1, 64, 384);
    const bool packed = form.form != Matrix::Form::kDense && form.bits != 8;
    for (const uint64_t rows : {1U, 4U, 5U}) {
      SCOPED_TRACE(matrix.name + " " + std::to_string(rows));
      TestRows x = TestRows::Random(rows, 384);
      EXPECT_NE(multiply("avx3", matrix, x) == multiply("avx3_dl", matrix, x), packed && rows <= 4);
    }
  }
}

TEST(IsaTest, LevelsAreNamedBestFirst) {
  const std::vector<std::string> levels = SimdLevels();
  ASSERT_FALSE(levels.empty());
  for (const std::string& level : levels) {
    EXPECT_NE(SimdTargets(level), 0);
    EXPECT_EQ(SimdLevelOf(level), level);
  }
  EXPECT_EQ(SimdLevelOf("amx-f16"), "avx3_dl");
  EXPECT_EQ(SimdLevelOf("amx-bf16"), "avx3_dl");
  EXPECT_TRUE(UsesByteDots("avx3_dl"));
  EXPECT_FALSE(UsesByteDots("avx3"));
}

}  // namespace
}  // namespace ram
