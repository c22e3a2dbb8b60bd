#pragma once

// Random weights in every stored form, for tests: memory of exactly the size that is needed, so
// that sanitizers see what reads beyond it.

#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "ram/base/half.h"
#include "ram/runtime/engine.h"
#include "ram/runtime/matrix.h"

namespace ram {

struct TestMatrix {
  std::string name;
  std::vector<uint8_t> values, scales, biases;
  Matrix shape;  // Without pointers.

  Matrix view() const {
    Matrix matrix = shape;
    matrix.values = values.data();
    matrix.scales = scales.empty() ? nullptr : scales.data();
    matrix.biases = biases.empty() ? nullptr : biases.data();
    return matrix;
  }
};

inline void AppendStored(float value, Dtype dtype, std::vector<uint8_t>& bytes) {
  const uint32_t bits = dtype == Dtype::kF32    ? std::bit_cast<uint32_t>(value)
                        : dtype == Dtype::kBF16 ? Bf16FromFloat(value)
                                                : F16FromFloat(value);
  for (int i = 0; i < BitsOf(dtype) / 8; ++i) bytes.push_back(static_cast<uint8_t>(bits >> 8 * i));
}

// [count, rows, cols] like `form` (its form, dtype, bits and group size), about N(0, 0.05).
inline TestMatrix RandomMatrix(const Matrix& form, uint64_t count, uint64_t rows, uint64_t cols,
                               uint32_t seed = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, 0.05F);
  std::uniform_real_distribution<float> uniform(0.7F, 1.3F);
  TestMatrix test;
  test.shape = form;
  test.shape.count = count;
  test.shape.rows = rows;
  test.shape.cols = cols;
  if (form.form == Matrix::Form::kDense) {
    test.name = std::string(DtypeName(form.dtype));
    for (uint64_t i = 0; i < count * rows * cols; ++i) {
      AppendStored(normal(random), form.dtype, test.values);
    }
    return test;
  }
  test.values.resize(count * rows * test.shape.row_bytes());
  for (uint8_t& byte : test.values) byte = static_cast<uint8_t>(random());
  if (form.form == Matrix::Form::kMxfp4) {
    test.name = "MXFP4";
    for (uint64_t i = 0; i < count * rows * cols / 32; ++i) {
      test.scales.push_back(static_cast<uint8_t>(118 + random() % 6));
    }
    return test;
  }
  test.name = std::to_string(form.bits) + "," + std::to_string(form.group_size) + " " +
              std::string(DtypeName(form.dtype));
  const auto levels = static_cast<float>((1 << form.bits) - 1);
  for (uint64_t i = 0; i < count * rows * cols / static_cast<uint64_t>(form.group_size); ++i) {
    const float scale = 0.2F / levels * uniform(random) * (random() % 2 == 0 ? 1.0F : -1.0F);
    AppendStored(scale, form.dtype, test.scales);
    AppendStored(-scale * levels / 2 * uniform(random), form.dtype, test.biases);
  }
  return test;
}

// Dense in three types, affine with all bits, group sizes and types of scales, MXFP4.
inline std::vector<Matrix> AllForms() {
  std::vector<Matrix> forms;
  for (const Dtype dtype : {Dtype::kF32, Dtype::kBF16, Dtype::kF16}) {
    forms.push_back({.dtype = dtype});
    for (const int bits : {2, 3, 4, 5, 6, 8}) {
      for (const int group_size : {32, 64, 128}) {
        forms.push_back({.form = Matrix::Form::kAffine,
                         .dtype = dtype,
                         .bits = bits,
                         .group_size = group_size});
      }
    }
  }
  forms.push_back({.form = Matrix::Form::kMxfp4});
  return forms;
}

// Activations with memory between the rows, which must stay as it is: kBetween.
class TestRows {
 public:
  static constexpr float kBetween = -123.25F;

  TestRows(uint64_t rows, uint64_t cols, uint64_t extra = 3)
      : rows_(rows), cols_(cols), pitch_(cols + extra), data_(rows * pitch_, kBetween) {}
  static TestRows Random(uint64_t rows, uint64_t cols, uint32_t seed = 2) {
    TestRows x(rows, cols);
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (uint64_t r = 0; r < rows; ++r) {
      for (uint64_t c = 0; c < cols; ++c) x.view().row(r)[c] = normal(random);
    }
    return x;
  }

  Rows view() { return {data_.data(), rows_, cols_, pitch_}; }
  bool BetweenIsUntouched() const {
    for (uint64_t i = 0; i < data_.size(); ++i) {
      if (i % pitch_ >= cols_ && data_[i] != kBetween) return false;
    }
    return true;
  }
  // Compares bits, also of what lies between.
  friend bool operator==(const TestRows& a, const TestRows& b) {
    return a.data_.size() == b.data_.size() &&
           (a.data_.empty() ||
            std::memcmp(a.data_.data(), b.data_.data(), a.data_.size() * sizeof(float)) == 0);
  }

 private:
  uint64_t rows_, cols_, pitch_;
  std::vector<float> data_;
};

}  // namespace ram
