// Products on AMX tiles against f64, for every form of weights; what they must not depend on.

#include "ram/runtime/amx.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "ram/base/half.h"
#include "ram/runtime/amx_model_test.h"
#include "ram/runtime/matrix.h"
#include "ram/runtime/products.h"
#include "ram/runtime/products_amx.h"

namespace ram {
namespace {

// A matrix in memory of its exact size, so that a sanitizer sees what reads beyond it.
struct TestMatrix {
  std::vector<uint8_t> values, scales, biases;
  Matrix matrix;
};

void AppendFloat(Dtype dtype, float value, std::vector<uint8_t>* out) {
  const size_t at = out->size();
  if (dtype == Dtype::kF32) {
    out->resize(at + 4);
    std::memcpy(out->data() + at, &value, 4);
    return;
  }
  const uint16_t half = dtype == Dtype::kBF16 ? Bf16FromFloat(value) : F16FromFloat(value);
  out->resize(at + 2);
  std::memcpy(out->data() + at, &half, 2);
}

TestMatrix DenseMatrix(Dtype dtype, uint64_t rows, uint64_t cols) {
  std::mt19937 random(rows * 31 + cols);
  std::normal_distribution<float> normal;
  TestMatrix test;
  for (uint64_t i = 0; i < rows * cols; ++i) {
    AppendFloat(dtype, 0.02F * normal(random), &test.values);
  }
  test.matrix = {.dtype = dtype, .rows = rows, .cols = cols};
  test.matrix.values = test.values.data();
  return test;
}

// Groups of one sign and of both, scales of several sizes.
TestMatrix AffineMatrix(Dtype dtype, int bits, int group_size, uint64_t rows, uint64_t cols) {
  std::mt19937 random(static_cast<uint32_t>(bits * 1000 + group_size));
  std::normal_distribution<float> normal;
  TestMatrix test;
  test.values.resize(rows * cols * static_cast<uint64_t>(bits) / 8);
  for (uint8_t& byte : test.values) byte = static_cast<uint8_t>(random());
  const auto middle = static_cast<float>((1 << bits) - 1) / 2;
  for (uint64_t g = 0; g < rows * cols / static_cast<uint64_t>(group_size); ++g) {
    const float size = 0.05F / middle * std::exp(0.3F * normal(random));
    const float scale = random() % 2 == 0 ? size : -size;
    AppendFloat(dtype, scale, &test.scales);
    AppendFloat(dtype, -scale * (middle + 0.3F * middle * normal(random)), &test.biases);
  }
  test.matrix = {.form = Matrix::Form::kAffine,
                 .dtype = dtype,
                 .bits = bits,
                 .group_size = group_size,
                 .rows = rows,
                 .cols = cols};
  test.matrix.values = test.values.data();
  test.matrix.scales = test.scales.data();
  test.matrix.biases = test.biases.data();
  return test;
}

TestMatrix Mxfp4Matrix(uint64_t rows, uint64_t cols) {
  std::mt19937 random(5);
  TestMatrix test;
  test.values.resize(rows * cols / 2);
  test.scales.resize(rows * cols / 32);
  for (uint8_t& byte : test.values) byte = static_cast<uint8_t>(random());
  for (uint8_t& byte : test.scales) byte = static_cast<uint8_t>(119 + random() % 8);
  test.matrix = {.form = Matrix::Form::kMxfp4, .rows = rows, .cols = cols};
  test.matrix.values = test.values.data();
  test.matrix.scales = test.scales.data();
  return test;
}

// Rows as in a language model: channels of different size, means that are not zero, some channels
// 50 times larger; rows of very different size.
struct TestRows {
  TestRows(uint64_t num, uint64_t cols, uint32_t seed = 1) {
    rows = {nullptr, num, cols, cols + 3};  // No alignment to rely on.
    memory.resize(num == 0 ? 0 : (num - 1) * rows.pitch + cols);
    rows.data = memory.data();
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> gain(cols), mean(cols);
    for (uint64_t c = 0; c < cols; ++c) {
      gain[c] = std::exp(0.5F * normal(random)) * (random() % 200 == 0 ? 50.0F : 1.0F);
      mean[c] = 0.3F * normal(random);
    }
    for (uint64_t r = 0; r < num; ++r) {
      const float size = std::ldexp(1.0F, static_cast<int>(r % 40) - 20);
      for (uint64_t c = 0; c < cols; ++c) {
        rows.row(r)[c] = size * gain[c] * (normal(random) + mean[c]);
      }
    }
  }

  std::vector<float> memory;
  Rows rows;
};

struct Errors {
  double rms = 0;    // Of the error, over that of the row; the worst row's.
  double worst = 0;  // Of a single element, over the rms of its row.
};

// x * matrix^T + bias in f64, against `got`.
Errors CompareWithF64(const Rows& x, const Matrix& matrix, std::span<const float> bias,
                      const Rows& got) {
  std::vector<float> weights(matrix.rows * matrix.cols);
  DecodeRows(matrix, 0, matrix.rows, weights.data());
  Errors errors;
  for (uint64_t r = 0; r < x.rows; ++r) {
    double value2 = 0;
    double error2 = 0;
    double worst = 0;
    for (uint64_t n = 0; n < matrix.rows; ++n) {
      double want = bias.empty() ? 0 : static_cast<double>(bias[n]);
      const float* w = weights.data() + n * matrix.cols;
      for (uint64_t k = 0; k < x.cols; ++k) {
        want += static_cast<double>(x.row(r)[k]) * static_cast<double>(w[k]);
      }
      const double error = std::abs(static_cast<double>(got.row(r)[n]) - want);
      if (std::isnan(error)) return {1e9, 1e9};
      value2 += want * want;
      error2 += error * error;
      worst = std::max(worst, error);
    }
    errors.rms = std::max(errors.rms, std::sqrt(error2 / value2));
    errors.worst =
        std::max(errors.worst, worst / std::sqrt(value2 / static_cast<double>(matrix.rows)));
  }
  return errors;
}

struct Result2d {
  Result2d(uint64_t num, uint64_t cols) : memory(num * cols, NAN) {
    rows = {memory.data(), num, cols, cols};
  }
  std::vector<float> memory;
  Rows rows;
};

Result2d Multiply(Products& products, const Rows& x, const Matrix& matrix,
                  std::span<const float> bias, ThreadPool& pool) {
  Result2d result(x.rows, matrix.rows);
  const ProductGroup group = {x, {{matrix, bias, result.rows}}};
  products.Multiply({&group, 1}, pool);
  return result;
}

std::vector<float> TestBias(uint64_t n) {
  std::vector<float> bias(n);
  for (uint64_t i = 0; i < n; ++i) bias[i] = 1e-5F * static_cast<float>(i % 17);
  return bias;
}

// "f16-model": the f16 kernels on a model of the tile unit, where the CPU has the rest.
std::unique_ptr<Products> Make(const std::string& level, Precision precision) {
  if (level != "f16-model") return MakeAmxProducts(level, precision);
  if (!DetectAmx().bf16) return nullptr;
  return MakeTileProducts(level, *ModelTileKernels(TileParts(TileFormat::kF16, precision)),
                          *ModelTileIntegerKernels(TileIntegerParts(precision)),
                          /*uses_unit=*/false);
}

class AmxTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (Make(GetParam(), Precision::kF32) == nullptr) {
      GTEST_SKIP() << GetParam() << " is not available: " << DetectAmx().why_not;
    }
  }

  // rms: limit of the relative error of a row; 16 of it for one element.
  void ExpectAccurate(Precision precision, const TestMatrix& test, uint64_t num_rows, double rms) {
    ThreadPool pool(2);
    const auto products = Make(GetParam(), precision);
    const TestRows x(num_rows, test.matrix.cols);
    const std::vector<float> bias = TestBias(test.matrix.rows);
    const Result2d got = Multiply(*products, x.rows, test.matrix, bias, pool);
    const Errors errors = CompareWithF64(x.rows, test.matrix, bias, got.rows);
    EXPECT_LE(errors.rms, rms);
    EXPECT_LE(errors.worst, 16 * rms);
  }
};

// f32-accurate: 3e-7 in the mean over rows; single rows of a few hundred elements scatter.
constexpr double kF32Rms = 6e-7;

TEST_P(AmxTest, DenseIsF32Accurate) {
  for (const Dtype dtype : {Dtype::kBF16, Dtype::kF16, Dtype::kF32}) {
    for (const auto& [m, n, k] : {std::array<uint64_t, 3>{70, 300, 1024},
                                  {33, 40, 100},
                                  {16, 16, 32},
                                  {1, 1, 1},
                                  {17, 31, 2500},
                                  {5, 257, 4133}}) {
      SCOPED_TRACE(testing::Message() << DtypeName(dtype) << " " << m << " " << n << " " << k);
      ExpectAccurate(Precision::kF32, DenseMatrix(dtype, n, k), m, kF32Rms);
    }
  }
}

TEST_P(AmxTest, AffineIsF32Accurate) {
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    for (const int group_size : {32, 64, 128}) {
      for (const Dtype dtype : {Dtype::kBF16, Dtype::kF16, Dtype::kF32}) {
        SCOPED_TRACE(testing::Message() << bits << " " << group_size << " " << DtypeName(dtype));
        ExpectAccurate(Precision::kF32, AffineMatrix(dtype, bits, group_size, 77, 640), 41,
                       kF32Rms);
      }
    }
  }
}

TEST_P(AmxTest, AffineInSeveralBlocksOfK) {
  for (const int group_size : {32, 64, 128}) {
    ExpectAccurate(Precision::kF32, AffineMatrix(Dtype::kBF16, 4, group_size, 300, 4096 + 128), 50,
                   kF32Rms);
  }
  // Not a multiple of 128.
  ExpectAccurate(Precision::kF32, AffineMatrix(Dtype::kBF16, 3, 32, 33, 2048 + 96), 5, kF32Rms);
}

// Groups share a scale of x: it must neither hide what is not finite nor lose small numbers, and
// rows keep to themselves.
TEST_P(AmxTest, AffineWithExtremeRows) {
  for (const int group_size : {32, 64, 128}) {
    SCOPED_TRACE(group_size);
    const TestMatrix test = AffineMatrix(Dtype::kBF16, 4, group_size, 50, 384);
    TestRows x(40, 384);
    const auto products = Make(GetParam(), Precision::kF32);
    ThreadPool pool(2);
    const Result2d before = Multiply(*products, x.rows, test.matrix, {}, pool);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const float infinity = std::numeric_limits<float>::infinity();
    x.rows.row(0)[3] = infinity;
    x.rows.row(1)[383] = nan;
    std::fill_n(x.rows.row(2), 384, 0.0F);
    std::fill_n(x.rows.row(3), 256, 0.0F);
    for (int c = 0; c < 384; ++c) x.rows.row(4)[c] = c % 2 == 0 ? 1e-30F : -3e-31F;
    for (int c = 0; c < 384; ++c) x.rows.row(5)[c] = c % 3 == 0 ? 3e30F : -2e30F;
    x.rows.row(6)[200] = 16777215.0F;  // The largest integer, where rounding must not go above it.
    const Result2d got = Multiply(*products, x.rows, test.matrix, {}, pool);
    for (uint64_t n = 0; n < 50; ++n) {
      EXPECT_FALSE(std::isfinite(got.rows.row(0)[n]));
      EXPECT_FALSE(std::isfinite(got.rows.row(1)[n]));
      EXPECT_EQ(got.rows.row(2)[n], 0);
    }
    for (uint64_t r = 3; r < 7; ++r) {
      const Errors errors =
          CompareWithF64(x.rows.slice(r, 1), test.matrix, {}, got.rows.slice(r, 1));
      EXPECT_LE(errors.rms, kF32Rms) << "row " << r;
    }
    EXPECT_TRUE(std::equal(got.rows.row(7), got.rows.row(7) + 33 * 50, before.rows.row(7)));
  }
}

TEST_P(AmxTest, Mxfp4IsF32Accurate) {
  ExpectAccurate(Precision::kF32, Mxfp4Matrix(300, 992), 49, kF32Rms);
}

TEST_P(AmxTest, LowerPrecisions) {
  const bool bf16 = GetParam() == "amx-bf16";
  for (const TestMatrix& test :
       {DenseMatrix(Dtype::kBF16, 64, 512), DenseMatrix(Dtype::kF32, 64, 512),
        AffineMatrix(Dtype::kBF16, 4, 64, 64, 512), Mxfp4Matrix(64, 512)}) {
    ExpectAccurate(Precision::kFast, test, 64, bf16 ? 1e-5 : kF32Rms);
    ExpectAccurate(Precision::kHalf, test, 64, bf16 ? 6e-3 : 7e-4);
  }
}

// Each element depends on its row and its column alone: not on the batch, on what else is
// multiplied, or on the threads.
TEST_P(AmxTest, RowsDoNotDependOnTheRest) {
  for (const TestMatrix& test :
       {DenseMatrix(Dtype::kBF16, 600, 2500), AffineMatrix(Dtype::kF16, 4, 64, 600, 2176),
        DenseMatrix(Dtype::kF32, 600, 1000)}) {
    const auto products = Make(GetParam(), Precision::kF32);
    const TestRows x(1100, test.matrix.cols);
    ThreadPool one(1);
    const Result2d want = Multiply(*products, x.rows, test.matrix, {}, one);
    for (const size_t threads : {2U, 5U}) {
      ThreadPool pool(threads);
      EXPECT_EQ(Multiply(*products, x.rows, test.matrix, {}, pool).memory, want.memory);
    }
    // In pieces, among other groups, by columns.
    ThreadPool pool(3);
    Result2d got(x.rows.rows, test.matrix.rows);
    std::vector<ProductGroup> groups;
    const TestRows other(40, test.matrix.cols, 9);
    Result2d other_result(40, test.matrix.rows);
    uint64_t row = 0;
    for (const uint64_t num : {1U, 15U, 17U, 700U, 367U}) {
      groups.push_back({x.rows.slice(row, num), {}});
      for (const auto& [first, columns] : {std::pair<uint64_t, uint64_t>{0, 256}, {256, 344}}) {
        groups.back().products.push_back({test.matrix.slice(first, columns),
                                          {},
                                          got.rows.slice(row, num).columns(first, columns)});
      }
      groups.push_back({other.rows, {{test.matrix, {}, other_result.rows}}});
      row += num;
    }
    ASSERT_EQ(row, x.rows.rows);
    products->Multiply(groups, pool);
    EXPECT_EQ(got.memory, want.memory);
  }
}

TEST_P(AmxTest, SinksSeeEveryElementOnce) {
  const TestMatrix test = DenseMatrix(Dtype::kBF16, 700, 96);
  const auto products = Make(GetParam(), Precision::kF32);
  const TestRows x(83, 96);
  const std::vector<float> bias = TestBias(700);
  ThreadPool pool(4);
  const Result2d want = Multiply(*products, x.rows, test.matrix, bias, pool);
  Result2d got(83, 700);
  std::vector<int> seen(83 * 700);
  std::atomic<bool> in_order = true;
  Product product = {test.matrix, bias, {}};
  product.sink = [&](size_t thread, const ProductTile& tile) {
    if (thread >= 4 || tile.first_col % 256 != 0 || tile.values.cols > 256) in_order = false;
    for (uint64_t r = 0; r < tile.values.rows; ++r) {
      for (uint64_t c = 0; c < tile.values.cols; ++c) {
        got.rows.row(tile.first_row + r)[tile.first_col + c] = tile.values.row(r)[c];
        ++seen[(tile.first_row + r) * 700 + tile.first_col + c];
      }
    }
  };
  const ProductGroup group = {x.rows, {product}};
  products->Multiply({&group, 1}, pool);
  EXPECT_TRUE(in_order);
  EXPECT_EQ(got.memory, want.memory);
  EXPECT_EQ(std::set<int>(seen.begin(), seen.end()), std::set<int>{1});
}

INSTANTIATE_TEST_SUITE_P(Levels, AmxTest, testing::Values("amx-bf16", "amx-f16", "f16-model"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace ram
