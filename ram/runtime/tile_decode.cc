#include "ram/runtime/tile_decode.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "ram/base/half.h"
#include "ram/base/result.h"

namespace ram {
namespace {

// 8 codes are kBits bytes.
template <int kBits>
void DecodeGroup(const uint8_t* codes, uint64_t num_codes, float scale, float bias, float* out) {
  for (uint64_t i = 0; i < num_codes; i += 8, codes += kBits, out += 8) {
    uint64_t word = 0;
    std::memcpy(&word, codes, kBits);
    for (int k = 0; k < 8; ++k) {
      const auto code = static_cast<int32_t>((word >> (k * kBits)) & ((1U << kBits) - 1));
      out[k] = static_cast<float>(code) * scale + bias;
    }
  }
}

void DecodeGroup(int bits, const uint8_t* codes, uint64_t num_codes, float scale, float bias,
                 float* out) {
  switch (bits) {
    case 2:
      return DecodeGroup<2>(codes, num_codes, scale, bias, out);
    case 3:
      return DecodeGroup<3>(codes, num_codes, scale, bias, out);
    case 4:
      return DecodeGroup<4>(codes, num_codes, scale, bias, out);
    case 5:
      return DecodeGroup<5>(codes, num_codes, scale, bias, out);
    case 6:
      return DecodeGroup<6>(codes, num_codes, scale, bias, out);
    default:
      RAM_CHECK(bits == 8);
      return DecodeGroup<8>(codes, num_codes, scale, bias, out);
  }
}

void DecodeDense(const Matrix& matrix, const uint8_t* row, uint64_t first, uint64_t num,
                 float* out) {
  for (uint64_t c = 0; c < num; ++c) out[c] = FloatAt(row, matrix.dtype, first + c);
}

void DecodeAffine(const Matrix& matrix, uint64_t row, uint64_t first, uint64_t num, float* out) {
  const auto bits = static_cast<uint64_t>(matrix.bits);
  const auto group_size = static_cast<uint64_t>(matrix.group_size);
  const uint8_t* codes = matrix.values + row * matrix.row_bytes();
  const uint8_t* scales = matrix.scales + row * matrix.scale_row_bytes();
  const uint8_t* biases = matrix.biases + row * matrix.scale_row_bytes();
  for (uint64_t c = first; c < first + num;) {
    const uint64_t group = c / group_size;
    const uint64_t end = std::min((group + 1) * group_size, first + num);
    DecodeGroup(matrix.bits, codes + c * bits / 8, end - c, FloatAt(scales, matrix.dtype, group),
                FloatAt(biases, matrix.dtype, group), out + (c - first));
    c = end;
  }
}

void DecodeMxfp4(const Matrix& matrix, uint64_t row, uint64_t first, uint64_t num, float* out) {
  static const std::array<float, 16> kValues = [] {
    std::array<float, 16> values = {};
    for (uint8_t code = 0; code < 16; ++code) values[code] = FloatFromE2M1(code);
    return values;
  }();
  const uint8_t* codes = matrix.values + row * matrix.row_bytes() + first / 2;
  const uint8_t* scales = matrix.scales + row * matrix.scale_row_bytes() + first / 32;
  for (uint64_t c = 0; c < num; c += 2) {
    const float scale = FloatFromE8M0(scales[c / 32]);
    out[c] = kValues[codes[c / 2] & 15U] * scale;
    out[c + 1] = kValues[codes[c / 2] >> 4U] * scale;
  }
}

}  // namespace

void DecodeTile(const Matrix& matrix, uint64_t first_row, uint64_t num_rows, uint64_t first_col,
                uint64_t num_cols, float* out, uint64_t pitch) {
  RAM_CHECK(matrix.count == 1 && first_row + num_rows <= matrix.rows);
  RAM_CHECK(first_col % 32 == 0 && first_col + num_cols <= matrix.cols);
  RAM_CHECK(num_cols % 32 == 0 || first_col + num_cols == matrix.cols);
  for (uint64_t r = 0; r < num_rows; ++r, out += pitch) {
    const uint64_t row = first_row + r;
    switch (matrix.form) {
      case Matrix::Form::kDense:
        DecodeDense(matrix, matrix.values + row * matrix.row_bytes(), first_col, num_cols, out);
        break;
      case Matrix::Form::kAffine:
        DecodeAffine(matrix, row, first_col, num_cols, out);
        break;
      case Matrix::Form::kMxfp4:
        DecodeMxfp4(matrix, row, first_col, num_cols, out);
        break;
    }
  }
}

void DecodeTransposed(const Matrix& matrix, float* out, uint64_t pitch) {
  constexpr uint64_t kRows = 16;
  constexpr uint64_t kCols = 256;
  alignas(64) std::array<float, kRows * kCols> block;
  for (uint64_t row = 0; row < matrix.rows; row += kRows) {
    const uint64_t rows = std::min(kRows, matrix.rows - row);
    for (uint64_t col = 0; col < matrix.cols; col += kCols) {
      const uint64_t cols = std::min(kCols, matrix.cols - col);
      DecodeTile(matrix, row, rows, col, cols, block.data(), kCols);
      for (uint64_t c = 0; c < cols; ++c) {
        float* to = out + (col + c) * pitch + row;
        for (uint64_t r = 0; r < rows; ++r) to[r] = block[r * kCols + c];
      }
    }
  }
}

}  // namespace ram
