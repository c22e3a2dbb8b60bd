#pragma once

// Instruction sets by the names people give them. Highway kernels come in levels (avx3: AVX-512;
// avx2, sse4, scalar; neon). avx3_dl, the AVX-512 of Ice Lake and Zen 4, is avx3, but multiplies
// few rows with packed weights by dot products of bytes (byte_dot.h). The AMX levels use the tiles
// of the CPU for products and attention, and avx3_dl for the rest.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ram {

// Levels that this build has Highway kernels for and this CPU runs, best first. Never empty.
std::vector<std::string> SimdLevels();

// Whether `level` is one of them.
bool HasSimdLevel(std::string_view level);

// The level that `isa` uses beside tiles: avx3_dl for amx-f16 and amx-bf16, else itself. Whether
// this CPU has it is another question.
std::string SimdLevelOf(std::string_view isa);

// Whether products of few rows at `level` are dot products of bytes, where weights allow it.
bool UsesByteDots(std::string_view level);

// Highway's targets (a mask) that are called `level`. `level` is one of SimdLevels(); RAM_CHECKs
// otherwise.
int64_t SimdTargets(std::string_view level);

}  // namespace ram
