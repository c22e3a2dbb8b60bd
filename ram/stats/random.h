#pragma once

// Random numbers that depend on a seed and a position only, so that threads cannot matter.

#include <array>
#include <cstdint>

namespace ram {

// Philox4x32-10: 128 random bits for each counter and key. No state, passes BigCrush.
// Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC11.
inline std::array<uint32_t, 4> Philox(std::array<uint32_t, 4> counter,
                                      std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * counter[0];
    const uint64_t b = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

// The numbers of one stream, in order: word i of stream s under a seed is word i % 4 of
// Philox({i / 4, 0, s low, s high}, {seed low, seed high}). At most 2^34 of them.
class RandomStream {
 public:
  RandomStream(uint64_t seed, uint64_t stream) : seed_(seed), stream_(stream) {}

  uint32_t Next() {
    if (used_ == 4) {
      words_ = Philox(
          {block_++, 0, static_cast<uint32_t>(stream_), static_cast<uint32_t>(stream_ >> 32)},
          {static_cast<uint32_t>(seed_), static_cast<uint32_t>(seed_ >> 32)});
      used_ = 0;
    }
    return words_[used_++];
  }
  // In [0, bound), each with probability 1/bound to within 2^-32.
  uint32_t Below(uint32_t bound) { return static_cast<uint32_t>(uint64_t{Next()} * bound >> 32); }
  // In (0, 1), a multiple of 2^-33.
  double Uniform() { return (Next() + 0.5) * 0x1p-32; }

 private:
  uint64_t seed_;
  uint64_t stream_;
  uint32_t block_ = 0;
  size_t used_ = 4;
  std::array<uint32_t, 4> words_ = {};
};

}  // namespace ram
