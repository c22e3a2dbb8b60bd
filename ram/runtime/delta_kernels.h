#pragma once

// Vector kernels of the gated delta net (delta_net.cc has the design).

#include <cstddef>
#include <string_view>

namespace ram {

// One head and a slab of value columns over some tokens. Token t has rows q, k [key_dim] at
// t * key_dim, v and out at t * value_pitch.
struct DeltaSlab {
  size_t tokens = 0;
  size_t key_dim = 0;
  size_t value_pitch = 0;
  const float* q = nullptr;
  const float* k = nullptr;
  const float* v = nullptr;
  const float* kq = nullptr;     // [tokens]: k * q.
  const float* decay = nullptr;  // [tokens]
  const float* beta = nullptr;   // [tokens]
  float* state = nullptr;        // [key_dim, slab], read and replaced.
  float* out = nullptr;
};

struct DeltaKernels {
  size_t slab;  // Columns of a slab; a multiple of 4.
  // out[c] = silu(sum over taps of rows[tap][c] * weights[tap * n + c]), c < n.
  void (*convolve)(const float* const* rows, const float* weights, size_t taps, size_t n,
                   float* out);
  float (*dot)(const float* a, const float* b, size_t n);
  void (*recur)(const DeltaSlab& slab);
  // state [num, key_dim] to slab [key_dim, slab] and back; num <= slab columns, others are zero.
  void (*load_state)(const float* state, size_t num, size_t key_dim, float* slab);
  void (*store_state)(const float* slab, size_t num, size_t key_dim, float* state);
};

// `level`: one of SimdLevels().
const DeltaKernels& DeltaKernelsOf(std::string_view level);

}  // namespace ram
