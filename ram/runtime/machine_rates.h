#pragma once

// What this machine could do at best, measured in the process that reports a share of it: nothing
// else is comparable on a machine whose clock and neighbours change.

#include "ram/base/thread_pool.h"

namespace ram {

// All threads of a pool together.
struct MachineRates {
  double fma_flops = 0;   // f32 multiply-adds in registers [operations/s], 2 each.
  double tile_flops = 0;  // 16-bit tile products from the first-level cache; 0: no tiles.
  double read_bytes = 0;  // Reading memory [bytes/s]: 256 MiB of random data, in turn.
};

// Takes about a second, and 256 MiB.
MachineRates MeasureMachine(ThreadPool& pool);

}  // namespace ram
