#include "ram/runtime/machine_rates.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "ram/quant/simd_targets.h"
#include "ram/runtime/aligned_memory.h"
#if defined(__x86_64__)
#include "ram/runtime/tile_rate.h"
#endif

// Compiles the kernels once per instruction set.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ram/runtime/machine_rates.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ram {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// 12 chains hide a latency of 4 at 2 per cycle; returns floating-point operations.
double MultiplyAddChains(size_t rounds, float* sum) {
  const hn::ScalableTag<float> f;
  const auto factor = hn::Set(f, 0.999999F);
  const auto term = hn::Set(f, 1e-7F);
  auto a0 = hn::Iota(f, 0), a1 = a0, a2 = a0, a3 = a0, a4 = a0, a5 = a0;
  auto a6 = hn::Iota(f, 1), a7 = a6, a8 = a6, a9 = a6, a10 = a6, a11 = a6;
  for (size_t i = 0; i < rounds; ++i) {
    a0 = hn::MulAdd(a0, factor, term);
    a1 = hn::MulAdd(a1, term, factor);
    a2 = hn::MulAdd(a2, factor, a2);
    a3 = hn::MulAdd(a3, term, term);
    a4 = hn::MulAdd(a4, term, a4);
    a5 = hn::MulAdd(a5, factor, factor);
    a6 = hn::MulAdd(a6, factor, term);
    a7 = hn::MulAdd(a7, term, factor);
    a8 = hn::MulAdd(a8, factor, a8);
    a9 = hn::MulAdd(a9, term, term);
    a10 = hn::MulAdd(a10, term, a10);
    a11 = hn::MulAdd(a11, factor, factor);
  }
  const auto b0 = hn::Add(hn::Add(a0, a1), hn::Add(a2, a3));
  const auto b1 = hn::Add(hn::Add(a4, a5), hn::Add(a6, a7));
  const auto b2 = hn::Add(hn::Add(a8, a9), hn::Add(a10, a11));
  *sum = hn::GetLane(hn::SumOfLanes(f, hn::Add(b0, hn::Add(b1, b2))));
  return static_cast<double>(rounds * hn::Lanes(f)) * 12 * 2;
}

uint64_t SumWords(const uint64_t* words, size_t num) {
  const hn::ScalableTag<uint64_t> u;
  const size_t n = hn::Lanes(u);
  auto s0 = hn::Zero(u), s1 = s0, s2 = s0, s3 = s0;
  for (size_t i = 0; i + 4 * n <= num; i += 4 * n) {
    s0 = hn::Add(s0, hn::LoadU(u, words + i));
    s1 = hn::Add(s1, hn::LoadU(u, words + i + n));
    s2 = hn::Add(s2, hn::LoadU(u, words + i + 2 * n));
    s3 = hn::Add(s3, hn::LoadU(u, words + i + 3 * n));
  }
  return hn::GetLane(hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)));
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace ram
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ram {

HWY_EXPORT(MultiplyAddChains);
HWY_EXPORT(SumWords);

namespace {

using Clock = std::chrono::steady_clock;

#if defined(__x86_64__)
constexpr int kTileRounds = 20'000;  // Half a millisecond: a neighbour spoils few of the runs.
#endif

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Largest of `runs` of work(), which returns what it did.
template <class Work>
double BestRate(int runs, const Work& work) {
  double best = 0;
  for (int run = 0; run < runs; ++run) {
    const Clock::time_point start = Clock::now();
    const double done = work();
    best = std::max(best, done / SecondsSince(start));
  }
  return best;
}

}  // namespace

MachineRates MeasureMachine(ThreadPool& pool) {
  MachineRates rates;
  const size_t threads = pool.num_threads();
  std::vector<double> done(threads);
  std::vector<float> sums(threads);
  const auto add_up = [&] {
    double all = 0;
    for (const double part : done) all += part;
    return all;
  };
  rates.fma_flops = BestRate(12, [&] {
    pool.ParallelFor(threads, [&](size_t task, size_t) {
      done[task] = HWY_DYNAMIC_DISPATCH(MultiplyAddChains)(400'000, &sums[task]);
    });
    return add_up();
  });
#if defined(__x86_64__)
  const AmxSupport& amx = DetectAmx();
  if (amx.bf16) {
    const TileWork<TileFormat::kBf16> bf16;
    const TileWork<TileFormat::kF16> f16;
    rates.tile_flops = BestRate(12, [&] {
      pool.ParallelFor(threads, [&](size_t task, size_t) {
        done[task] = amx.f16 ? f16.Run(kTileRounds) : bf16.Run(kTileRounds);
      });
      return add_up();
    });
  }
#endif
  const AlignedBytes memory(uint64_t{256} << 20);
  auto* const words = reinterpret_cast<uint64_t*>(memory.data());
  const size_t num_words = memory.size() / sizeof(uint64_t);
  const size_t num_parts = 8 * threads;
  const size_t part = num_words / num_parts;
  pool.ParallelFor(num_parts, [&](size_t task, size_t) {
    std::mt19937_64 random(task);
    for (size_t i = task * part; i < (task + 1) * part; ++i) words[i] = random();
  });
  std::atomic<uint64_t> sum = 0;
  rates.read_bytes = BestRate(7, [&] {
    pool.ParallelFor(num_parts, [&](size_t task, size_t) {
      sum += HWY_DYNAMIC_DISPATCH(SumWords)(words + task * part, part);
    });
    return static_cast<double>(num_parts * part * sizeof(uint64_t));
  });
  return rates;
}

}  // namespace ram
#endif  // HWY_ONCE
