#pragma once

// Vector kernels of the gated delta net (delta_net.cc has the design).

#include <cstddef>
#include <string_view>

namespace ram {

// One head and a slab of value columns over some tokens. Token t has rows q, k [key_dim] at
// t * key_dim, v and out at t * value_pitch.
struct DeltaRows {
  size_t tokens = 0;
  size_t key_dim = 0;
  size_t value_pitch = 0;
  const float* q = nullptr;
  const float* k = nullptr;
  const float* v = nullptr;
  const float* beta = nullptr;  // [tokens]
  float* state = nullptr;       // [key_dim, slab], read and replaced.
  float* out = nullptr;
};

// Token by token.
struct DeltaSlab : DeltaRows {
  const float* kq = nullptr;     // [tokens]: k * q.
  const float* decay = nullptr;  // [tokens]
};

// Tokens of a chunk, at most; a multiple of kDeltaRows, the tokens that its products take at once.
// Rows and weights of a chunk are there for a whole number of kDeltaRows tokens, zero beyond the
// last one.
inline constexpr size_t kDeltaChunk = 32;
inline constexpr size_t kDeltaRows = 4;

// What the tokens of a chunk are to each other in one value head. With l[t] = the sum of ln(decay)
// from the start of the chunk to token t:
struct DeltaWeights {
  size_t tokens = 0;
  const double* log_decay = nullptr;      // [tokens]: l, never growing.
  const float* beta = nullptr;            // [tokens]
  const float* key_products = nullptr;    // [tokens, kDeltaChunk]: k[t] * k[s], s <= t.
  const float* query_products = nullptr;  // q[t] * k[s]
  // Results.
  float* change = nullptr;  // [tokens, kDeltaChunk]: -beta[t] exp(l[t] - l[s]) k[t] * k[s], s < t.
  float* result = nullptr;  // [tokens, kDeltaChunk]: exp(l[t] - l[s]) q[t] * k[s], s <= t.
  float* begin = nullptr;   // [tokens]: exp(l[t])
  float* end = nullptr;     // [tokens]: exp(l[tokens - 1] - l[t])
};

// A chunk at once.
struct DeltaChunk : DeltaRows {
  const float* keys = nullptr;    // k, turned as for multiply_keys.
  const float* change = nullptr;  // Of DeltaWeights, as the three below.
  const float* result = nullptr;
  const float* begin = nullptr;
  const float* end = nullptr;
  float* changes = nullptr;  // Scratch [kDeltaChunk, slab].
};

struct DeltaKernels {
  size_t slab;  // Columns of a slab; a multiple of 4.
  // out[c] = silu(sum over taps of rows[tap][c] * weights[tap * n + c]), c < n.
  void (*convolve)(const float* const* rows, const float* weights, size_t taps, size_t n,
                   float* out);
  float (*dot)(const float* a, const float* b, size_t n);
  void (*recur)(const DeltaSlab& slab);
  // Keys k [tokens, key_dim] turned, [key_dim, kDeltaChunk]. Reads all of k's kDeltaChunk rows.
  void (*turn_keys)(const float* k, size_t tokens, size_t key_dim, float* keys);
  // out[t * kDeltaChunk + s] = x[t] * k[s] for s <= t, where x is [tokens, key_dim].
  void (*multiply_keys)(const float* x, const float* keys, size_t tokens, size_t key_dim,
                        float* out);
  void (*weigh)(const DeltaWeights& weights);
  void (*run_chunk)(const DeltaChunk& chunk);
  // state [num, key_dim] to slab [key_dim, slab] and back; num <= slab columns, others are zero.
  void (*load_state)(const float* state, size_t num, size_t key_dim, float* slab);
  void (*store_state)(const float* slab, size_t num, size_t key_dim, float* state);
};

// `level`: one of SimdLevels().
const DeltaKernels& DeltaKernelsOf(std::string_view level);

}  // namespace ram
