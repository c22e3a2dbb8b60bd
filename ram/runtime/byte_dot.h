#pragma once

// Products of one to four rows of x with packed weights of 2 to 6 bits, as accurate as f32, by dot
// products of bytes (AVX-512 VNNI): 64 multiply-adds an instruction, on codes that leave their bit
// stream in one instruction or two. In f32 an instruction converts 16 codes and another multiplies
// them, which below 4 bits is slower than memory.
//
// The arithmetic. A lane of 32 bits takes 4, 8 or 16 neighbours of a row, all of one group. Their x
// become integers with one scale: x = s * q, s = max |x| / 8355000, so x is off by at most s / 2,
// 6e-8 of the largest of the neighbours; where that is below 2^-103, by at most 2^-127. q is three
// signed bytes, and the codes, unsigned bytes, meet one after the other: three sums, which together
// are an exact sum of 32 bits. From the start it lacks about what it would be if all codes were in
// the middle of their range, so that it is small where weights are: what is taken, and biases, are
// sums of s * q over groups, times scales and biases. The sum of a lane is rounded to f32 once and
// multiplied by s and its group's scale. A result does not depend on how many rows there are. What
// is not finite in x makes all results of its row NaN.

#include <cstddef>
#include <cstdint>

namespace ram {

enum class ByteCodes : uint8_t { k2, k3, k4, k5, k6, kMxfp4 };
enum class ByteScales : uint8_t { kF32, kF16, kBf16, kE8M0 };

// As in Matrix, of which there is one (count = 1).
struct ByteMatrix {
  ByteCodes codes = ByteCodes::k4;
  ByteScales scale_form = ByteScales::kBf16;  // kE8M0 with kMxfp4, and only there.
  const uint8_t* values = nullptr;
  const uint8_t* scales = nullptr;
  const uint8_t* biases = nullptr;
  size_t row_bytes = 0;
  size_t scale_row_bytes = 0;
  size_t cols = 0;        // A multiple of group_size.
  size_t group_size = 0;  // 32, 64 or 128.
};

// Columns [first_col, first_col + num_cols) of x * matrix^T + bias, 1 to 4 rows.
struct ByteTask {
  ByteMatrix matrix;
  const float* bias = nullptr;      // [first_col + num_cols]; null: none.
  const float* packed_x = nullptr;  // From PackForByteDots, of as many rows.
  size_t rows = 0;
  size_t first_col = 0;  // First row of the matrix.
  size_t num_cols = 0;
  float* out = nullptr;  // [rows, num_cols]
  size_t pitch = 0;
  float* scratch = nullptr;  // [ByteDotScratchFloats]
};

// Whether this build has the functions below and this CPU runs them: AVX-512 F, DQ, BW, VL, VBMI
// and VNNI, and GFNI (Ice Lake, Zen 4 and later).
bool HasByteDots();

// x for all matrices of the same codes, group size and width. `packed` is aligned to 64 bytes; its
// size is a multiple of that.
size_t ByteDotPackedFloats(const ByteMatrix& matrix, size_t rows);
void PackForByteDots(const ByteMatrix& matrix, const float* x, size_t pitch, size_t rows,
                     float* packed);

size_t ByteDotScratchFloats(const ByteMatrix& matrix);
void MultiplyByByteDots(const ByteTask& task);

}  // namespace ram
