#pragma once

// What one core of this machine could do at best, measured in the process that reports a share of
// it: nothing else is comparable on a machine whose clock and neighbours change.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <ctime>
#include <vector>

namespace ram {

// CPU seconds of this thread: what others run does not count.
inline double ThreadSeconds() {
  timespec time = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// Shortest of several runs.
template <class Function>
double BestSeconds(int runs, Function function) {
  double best = 1e30;
  for (int run = 0; run < runs; ++run) {
    const double start = ThreadSeconds();
    function();
    best = std::min(best, ThreadSeconds() - start);
  }
  return best;
}

// Bytes a second that one core reads from a block larger than its own caches.
inline double ReadBandwidth() {
  static const double kBandwidth = [] {
    const std::vector<char> block(size_t{64} << 20, 'a');
    volatile bool found = false;
    const auto scan = [&] { found = std::memchr(block.data(), 'b', block.size()) != nullptr; };
    return static_cast<double>(block.size()) / BestSeconds(10, scan);
  }();
  return kBandwidth;
}

using Vector16 = float __attribute__((vector_size(64)));

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
__attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#endif
inline float
MultiplyAndAdd(size_t rounds) {
  // Enough chains to hide the latency of two units.
  Vector16 chains[12];
  for (size_t i = 0; i < 12; ++i) chains[i] = Vector16{} + static_cast<float>(i + 1);
  const Vector16 factor = Vector16{} + 0.999f;
  for (size_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (size_t i = 0; i < 12; ++i) chains[i] = chains[i] * factor;
#pragma GCC unroll 12
    for (size_t i = 0; i < 12; ++i) chains[i] = chains[i] + factor;
  }
  float sum = 0;
  for (const Vector16& chain : chains) sum += chain[0];
  return sum;
}

// f32 additions and multiplications a second on one core; none are fused, as in our kernels.
inline double FloatOperations() {
  static const double kRate = [] {
    constexpr size_t kRounds = 1'000'000;
    volatile float result = 0;
    const double seconds = BestSeconds(10, [&] { result = MultiplyAndAdd(kRounds); });
    return kRounds * 12.0 * 2 * 16 / seconds;
  }();
  return kRate;
}

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
__attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"),
               optimize("fp-contract=fast")))
#endif
inline float
FusedMultiplyAndAdd(size_t rounds) {
#ifdef __clang__
#pragma clang fp contract(fast)
#endif
  Vector16 chains[12];
  for (size_t i = 0; i < 12; ++i) chains[i] = Vector16{} + static_cast<float>(i + 1);
  const Vector16 factor = Vector16{} + 0.999f;
  for (size_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (size_t i = 0; i < 12; ++i) chains[i] = chains[i] * factor + factor;
  }
  float sum = 0;
  for (const Vector16& chain : chains) sum += chain[0];
  return sum;
}

// f32 additions and multiplications a second on one core, fused where the CPU can.
inline double FusedFloatOperations() {
  static const double kRate = [] {
    constexpr size_t kRounds = 2'000'000;
    volatile float result = 0;
    const double seconds = BestSeconds(10, [&] { result = FusedMultiplyAndAdd(kRounds); });
    return kRounds * 12.0 * 2 * 16 / seconds;
  }();
  return kRate;
}

}  // namespace ram
