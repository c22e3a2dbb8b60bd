#include "ram/runtime/matrix.h"

#include <array>
#include <cstring>

#include "ram/base/half.h"
#include "ram/base/result.h"

namespace ram {
namespace {

// Bits [first, first + bits) of a little-endian bit stream; at most 8.
uint32_t ReadCode(const uint8_t* stream, uint64_t first, int bits) {
  const uint64_t byte = first / 8;
  const uint64_t shift = first % 8;
  uint32_t word = stream[byte];
  if (shift + static_cast<uint64_t>(bits) > 8) word |= static_cast<uint32_t>(stream[byte + 1]) << 8;
  return (word >> shift) & ((1U << bits) - 1);
}

}  // namespace

uint64_t Matrix::row_bytes() const {
  if (form == Form::kDense) return cols * static_cast<uint64_t>(BitsOf(dtype)) / 8;
  return cols * static_cast<uint64_t>(form == Form::kMxfp4 ? 4 : bits) / 8;
}

uint64_t Matrix::scale_row_bytes() const {
  if (form == Form::kDense) return 0;
  if (form == Form::kMxfp4) return cols / 32;
  return cols / static_cast<uint64_t>(group_size) * static_cast<uint64_t>(BitsOf(dtype)) / 8;
}

Matrix Matrix::at(uint64_t index) const {
  RAM_CHECK(index < count);
  Matrix one = *this;
  one.count = 1;
  one.values += index * rows * row_bytes();
  if (scales != nullptr) one.scales += index * rows * scale_row_bytes();
  if (biases != nullptr) one.biases += index * rows * scale_row_bytes();
  return one;
}

Matrix Matrix::slice(uint64_t first, uint64_t num) const {
  RAM_CHECK(count == 1 && first + num <= rows);
  Matrix part = *this;
  part.rows = num;
  part.values += first * row_bytes();
  if (scales != nullptr) part.scales += first * scale_row_bytes();
  if (biases != nullptr) part.biases += first * scale_row_bytes();
  return part;
}

uint64_t Matrix::bytes() const {
  const uint64_t scale_parts = form == Form::kAffine ? 2 : 1;
  return count * rows * (row_bytes() + scale_parts * scale_row_bytes());
}

void DecodeRows(const Matrix& matrix, uint64_t first, uint64_t num, float* out) {
  RAM_CHECK(matrix.count == 1 && first + num <= matrix.rows);
  for (uint64_t r = 0; r < num; ++r) {
    const uint8_t* row = matrix.values + (first + r) * matrix.row_bytes();
    const uint64_t scale_row = (first + r) * matrix.scale_row_bytes();
    for (uint64_t c = 0; c < matrix.cols; ++c, ++out) {
      if (matrix.form == Matrix::Form::kDense) {
        *out = FloatAt(row, matrix.dtype, c);
      } else if (matrix.form == Matrix::Form::kAffine) {
        const uint64_t group = c / static_cast<uint64_t>(matrix.group_size);
        const uint32_t code = ReadCode(row, c * static_cast<uint64_t>(matrix.bits), matrix.bits);
        const float scale = FloatAt(matrix.scales + scale_row, matrix.dtype, group);
        *out = static_cast<float>(code) * scale +
               FloatAt(matrix.biases + scale_row, matrix.dtype, group);
      } else {
        *out = FloatFromE2M1(static_cast<uint8_t>(ReadCode(row, c * 4, 4))) *
               FloatFromE8M0(matrix.scales[scale_row + c / 32]);
      }
    }
  }
}

}  // namespace ram
