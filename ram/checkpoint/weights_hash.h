#pragma once

// Which weights these are, from a small part of them: structure_hash() sees shapes only, and two
// compressions of one model have the same shapes.

#include <string>

#include "ram/base/result.h"
#include "ram/checkpoint/checkpoint.h"

namespace ram {

// XXH3-128 in hexadecimal of the structure hash and, for every tensor in the order of names, of its
// bytes: all of them up to kSampledBytes, else kSamples pieces of kSampledBytes / kSamples that lie
// evenly from its beginning to its end. Other quantizers, budgets and trainings change most tensors
// nearly everywhere, so this tells them apart; a change of a few values between two pieces it does
// not see. Reads at most 16 KiB of each tensor. Errors: those of reading.
inline constexpr uint64_t kSampledBytes = 16384;
inline constexpr uint64_t kSamples = 4;
Result<std::string> HashWeights(const Checkpoint& checkpoint);

}  // namespace ram
