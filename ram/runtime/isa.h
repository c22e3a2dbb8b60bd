#pragma once

// Instruction sets by the names people give them. Highway kernels come in levels (avx3: AVX-512;
// avx2, sse4, scalar; neon); the AMX levels use the tiles of the CPU for products and attention,
// and avx3 for the rest.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ram {

// Levels that this build has Highway kernels for and this CPU runs, best first. Never empty.
std::vector<std::string> SimdLevels();

// The Highway level that `isa` uses: avx3 for amx-f16 and amx-bf16, else itself. Whether this CPU
// has it is another question.
std::string SimdLevelOf(std::string_view isa);

// Highway's targets (a mask) that are called `level`. `level` is one of SimdLevels(); RAM_CHECKs
// otherwise.
int64_t SimdTargets(std::string_view level);

}  // namespace ram
