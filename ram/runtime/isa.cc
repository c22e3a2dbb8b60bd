#include "ram/runtime/isa.h"

#include <algorithm>
#include <array>

#include "ram/base/result.h"
#include "ram/quant/simd_targets.h"
#include "ram/runtime/byte_dot.h"
// After simd_targets.h.
#include "hwy/highway.h"
#include "hwy/targets.h"

namespace ram {
namespace {

struct Level {
  std::string_view name;
  int64_t targets;  // Of the kernels.
};

constexpr std::string_view kByteDots = "avx3_dl";

// Best first.
constexpr std::array<Level, 6> kLevels = {{
    {kByteDots, HWY_AVX3 | HWY_AVX3_DL},
    {"avx3", HWY_AVX3 | HWY_AVX3_DL},
    {"avx2", HWY_AVX2},
    {"sse4", HWY_SSE4},
    {"neon", HWY_NEON},
    {"scalar", HWY_SCALAR | HWY_EMU128},
}};

// Targets that this build has and this CPU runs. The fallback always runs, whether or not Highway
// says so.
int64_t RunningTargets() {
  return (hwy::SupportedTargets() | HWY_SCALAR | HWY_EMU128) & HWY_TARGETS;
}

}  // namespace

std::vector<std::string> SimdLevels() {
  std::vector<std::string> levels;
  for (const Level& level : kLevels) {
    if ((level.targets & RunningTargets()) == 0) continue;
    if (UsesByteDots(level.name) && !HasByteDots()) continue;
    levels.emplace_back(level.name);
  }
  RAM_CHECK(!levels.empty());
  return levels;
}

bool HasSimdLevel(std::string_view level) {
  const std::vector<std::string> levels = SimdLevels();
  return std::ranges::find(levels, level) != levels.end();
}

std::string SimdLevelOf(std::string_view isa) {
  return isa == "amx-f16" || isa == "amx-bf16" ? std::string(kByteDots) : std::string(isa);
}

bool UsesByteDots(std::string_view level) { return level == kByteDots; }

int64_t SimdTargets(std::string_view level) {
  RAM_CHECK(HasSimdLevel(level));
  // A CPU with AVX-512 need not have all of its targets.
  return std::ranges::find(kLevels, level, &Level::name)->targets & RunningTargets();
}

}  // namespace ram
