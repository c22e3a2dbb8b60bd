#pragma once

// A choice is what one module gets: how its weights are stored. 18 affine choices (bits x group
// size), MXFP4 codes passed through from the source, or 16 bits.
// Source: docs/quantization.md; the format is MLX's.

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "ram/base/dtype.h"
#include "ram/base/result.h"

namespace ram {

enum class Mode : uint8_t {
  kAffine,  // value = code * scale + bias, one scale and bias for each group of a row.
  kMxfp4,   // E2M1 codes, one E8M0 scale for 32; only copied from sources that have them.
  kDense,   // As the source has it, 16 bits (F32 sources are rounded to BF16).
};

struct Choice {
  Mode mode = Mode::kDense;
  int bits = 16;
  int group_size = 0;  // 0 for kDense.

  static constexpr Choice Affine(int bits, int group_size) {
    return Choice{Mode::kAffine, bits, group_size};
  }
  static constexpr Choice Mxfp4() { return Choice{Mode::kMxfp4, 4, 32}; }
  static constexpr Choice Dense() { return Choice{Mode::kDense, 16, 0}; }

  friend constexpr bool operator==(const Choice&, const Choice&) = default;
};

inline constexpr std::array<int, 6> kBits = {2, 3, 4, 5, 6, 8};
inline constexpr std::array<int, 3> kGroupSizes = {32, 64, 128};

// All affine choices by size: (2,128), (2,64), (2,32), (3,128), ... (8,32).
inline constexpr std::array<Choice, 18> kAffineChoices = [] {
  std::array<Choice, 18> choices = {};
  size_t at = 0;
  for (const int bits : kBits) {
    for (const int group_size : {128, 64, 32}) choices[at++] = Choice::Affine(bits, group_size);
  }
  return choices;
}();

// Index in kAffineChoices. `choice` is affine and legal.
size_t AffineIndex(const Choice& choice);

// "4,64", "mxfp4", "16": the form of the command line and of every JSON file.
std::string ChoiceName(const Choice& choice);
// kInvalidArgument names the text and what is possible.
Result<Choice> ParseChoice(std::string_view text);

// Whether rows of `cols` weights can be stored so: cols is a multiple of the group size (32 for
// MXFP4; always true for kDense).
bool IsLegal(const Choice& choice, uint64_t cols);

// Bytes of a stored matrix [rows, cols], scales and biases included, names and headers not.
// `dtype` is that of the stored scales and of 16-bit weights: kBF16, kF16 (2 bytes) or kF32 (4).
// The choice is legal for `cols`.
uint64_t StoredBytes(const Choice& choice, uint64_t rows, uint64_t cols, Dtype dtype);

}  // namespace ram
