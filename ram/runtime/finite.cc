#include "ram/runtime/finite.h"

#include <cstring>

#include "ram/base/result.h"

namespace ram {
namespace {

// The first element that `is_bad`.
template <typename Bits, typename IsBad>
std::optional<uint64_t> Find(std::span<const uint8_t> bytes, const IsBad& is_bad) {
  constexpr uint64_t kBlock = 256;  // Bytes; a fixed count, so that compilers use vectors.
  constexpr uint64_t kCount = kBlock / sizeof(Bits);
  const uint64_t count = bytes.size() / sizeof(Bits);
  uint64_t first = 0;
  for (; first + kCount <= count; first += kCount) {
    Bits values[kCount];
    std::memcpy(values, bytes.data() + first * sizeof(Bits), kBlock);
    Bits found = 0;
    for (const Bits value : values) found = static_cast<Bits>(found | (is_bad(value) ? 1 : 0));
    if (found != 0) break;
  }
  for (; first < count; ++first) {
    Bits value;
    std::memcpy(&value, bytes.data() + first * sizeof(Bits), sizeof value);
    if (is_bad(value)) return first;
  }
  return std::nullopt;
}

// NaN and infinity have all bits of the exponent.
template <typename Bits>
std::optional<uint64_t> FindExponent(std::span<const uint8_t> bytes, Bits exponent) {
  return Find<Bits>(bytes, [=](Bits value) { return (value & exponent) == exponent; });
}

}  // namespace

std::optional<uint64_t> FindNotFinite(std::span<const uint8_t> bytes, Dtype dtype) {
  switch (dtype) {
    case Dtype::kF32:
      return FindExponent<uint32_t>(bytes, 0x7F800000);
    case Dtype::kBF16:
      return FindExponent<uint16_t>(bytes, 0x7F80);
    case Dtype::kF16:
      return FindExponent<uint16_t>(bytes, 0x7C00);
    case Dtype::kU8:
      return Find<uint8_t>(bytes, [](uint8_t scale) { return scale >= 253; });
    default:
      RAM_CHECK(false);
  }
}

}  // namespace ram
