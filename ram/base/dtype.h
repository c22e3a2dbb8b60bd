#pragma once

// Element types of tensors, with the names that safetensors gives them.

#include <cstdint>
#include <optional>
#include <string_view>

namespace ram {

enum class Dtype : uint8_t {
  kBool,
  kF4,
  kF6E2M3,
  kF6E3M2,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kF8E8M0,
  kF8E4M3Fnuz,
  kF8E5M2Fnuz,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kC64,
  kF64,
  kI64,
  kU64,
};

// Bits of one element: 4, 6, or a multiple of 8.
int BitsOf(Dtype dtype);

// Name in a safetensors header, e.g. "BF16".
std::string_view DtypeName(Dtype dtype);

// Inverse of DtypeName; nothing for an unknown name.
std::optional<Dtype> ParseDtype(std::string_view name);

}  // namespace ram
