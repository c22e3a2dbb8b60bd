#pragma once

// Which instruction sets the kernels are compiled for; include before any Highway header.
//
// SSSE3 is left out because it costs compile time and no machine of this century's second decade
// stops there; SVE because its vectors have no size that the compiler knows, and the kernels cut 16
// logical lanes into vectors (SVE machines run NEON). What remains on x86: scalar, SSE4, AVX2 and
// AVX-512.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
