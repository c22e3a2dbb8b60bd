#pragma once

// Which instruction sets the kernels are compiled for; include before any Highway header.
//
// Left out: SSSE3, which costs compile time and serves few CPUs that lack SSE4; SVE, whose vectors
// have no size that the compiler knows, while the kernels cut 16 logical lanes into vectors (such
// CPUs run NEON). What remains on x86: no SIMD, SSE4, AVX2 and AVX-512.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
