#pragma once

// NumPy's legacy generator, np.random.RandomState(seed): the order in which published perplexity
// scripts draw their windows. Source: the Mersenne twister of Matsumoto and Nishimura (1998);
// numpy.random.RandomState.permutation.

#include <array>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

namespace ram {

class NumpyRandomState {
 public:
  explicit NumpyRandomState(uint32_t seed) {
    state_[0] = seed;
    for (uint32_t i = 1; i < kSize; ++i) {
      state_[i] = 1812433253U * (state_[i - 1] ^ (state_[i - 1] >> 30)) + i;
    }
  }

  uint32_t Next() {
    if (position_ == kSize) Refill();
    uint32_t word = state_[position_++];
    word ^= word >> 11;
    word ^= (word << 7) & 0x9D2C5680U;
    word ^= (word << 15) & 0xEFC60000U;
    return word ^ (word >> 18);
  }

  // In [0, most]: low bits are drawn until they fit.
  uint32_t UpTo(uint32_t most) {
    uint32_t mask = most;
    for (const int shift : {1, 2, 4, 8, 16}) mask |= mask >> shift;
    uint32_t value = Next() & mask;
    while (value > most) value = Next() & mask;
    return value;
  }

  // A random order of 0 .. n-1.
  std::vector<uint32_t> Permutation(uint32_t n) {
    std::vector<uint32_t> order(n);
    std::iota(order.begin(), order.end(), 0U);
    for (uint32_t i = n; i-- > 1;) std::swap(order[i], order[UpTo(i)]);
    return order;
  }

 private:
  static constexpr uint32_t kSize = 624;

  void Refill() {
    for (uint32_t i = 0; i < kSize; ++i) {
      const uint32_t y = (state_[i] & 0x80000000U) | (state_[(i + 1) % kSize] & 0x7FFFFFFFU);
      state_[i] = state_[(i + 397) % kSize] ^ (y >> 1) ^ ((y & 1) != 0 ? 0x9908B0DFU : 0);
    }
    position_ = 0;
  }

  std::array<uint32_t, kSize> state_ = {};
  uint32_t position_ = kSize;
};

}  // namespace ram
