#pragma once

// Calls a Highway kernel at a level that the caller names, where HWY_DYNAMIC_DISPATCH takes the
// best one. Include after highway.h and simd_targets.h:
//
//   HWY_EXPORT(MakeKernels);
//   const Kernels& kernels = RAM_SIMD_DISPATCH(MakeKernels, SimdTargets("avx2"))();

#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"
#include "hwy/targets.h"

namespace ram {

// The place of a target in the tables that HWY_EXPORT makes, in this translation unit.
inline size_t SimdTableIndex([[maybe_unused]] int64_t targets) {
#if (HWY_TARGETS & (HWY_TARGETS - 1)) == 0
  return 0;  // One target, a table of one.
#else
  hwy::ChosenTarget chosen;
  chosen.Update(targets);
  return chosen.GetIndex();
#endif
}

#define RAM_SIMD_DISPATCH(FUNCTION, TARGETS) \
  (*(HWY_DISPATCH_TABLE(FUNCTION)[::ram::SimdTableIndex(TARGETS)]))

}  // namespace ram
