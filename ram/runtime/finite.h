#pragma once

// Finding NaN and infinity in weights while they are read: at the speed of memory.

#include <cstdint>
#include <optional>
#include <span>

#include "ram/base/dtype.h"

namespace ram {

// Index of the first element that is NaN or infinite; nothing if all are finite. dtype kF32, kF16,
// kBF16, or kU8 for E8M0 scales of MXFP4: 255 is none, and 6 times 253 (2^126) overflows.
std::optional<uint64_t> FindNotFinite(std::span<const uint8_t> bytes, Dtype dtype);

}  // namespace ram
