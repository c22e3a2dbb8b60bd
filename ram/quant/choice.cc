#include "ram/quant/choice.h"

#include <fmt/format.h>

#include <algorithm>

namespace ram {

size_t AffineIndex(const Choice& choice) {
  const auto found = std::ranges::find(kAffineChoices, choice);
  RAM_CHECK(found != kAffineChoices.end());
  return static_cast<size_t>(found - kAffineChoices.begin());
}

std::string ChoiceName(const Choice& choice) {
  switch (choice.mode) {
    case Mode::kAffine:
      return fmt::format("{},{}", choice.bits, choice.group_size);
    case Mode::kMxfp4:
      return "mxfp4";
    case Mode::kDense:
      return "16";
  }
  RAM_CHECK(false);
}

Result<Choice> ParseChoice(std::string_view text) {
  for (const Choice& choice : kAffineChoices) {
    if (text == ChoiceName(choice)) return choice;
  }
  if (text == "mxfp4") return Choice::Mxfp4();
  if (text == "16") return Choice::Dense();
  return Error{
      ErrorCode::kInvalidArgument,
      fmt::format("\"{}\" is not a choice: expected BITS,GROUP with bits 2, 3, 4, 5, 6 or 8 "
                  "and group 32, 64 or 128 (e.g. 4,64), or 16, or mxfp4",
                  text)};
}

bool IsLegal(const Choice& choice, uint64_t cols) {
  if (choice.mode == Mode::kDense) return true;
  return cols != 0 && cols % static_cast<uint64_t>(choice.group_size) == 0;
}

uint64_t StoredBytes(const Choice& choice, uint64_t rows, uint64_t cols, Dtype dtype) {
  RAM_CHECK(IsLegal(choice, cols));
  const auto element_bytes = static_cast<uint64_t>(BitsOf(dtype)) / 8;
  const uint64_t weights = rows * cols;
  if (choice.mode == Mode::kDense) return weights * element_bytes;
  const uint64_t codes = weights * static_cast<uint64_t>(choice.bits) / 8;
  const uint64_t groups = weights / static_cast<uint64_t>(choice.group_size);
  return codes + groups * (choice.mode == Mode::kMxfp4 ? 1 : 2 * element_bytes);
}

}  // namespace ram
