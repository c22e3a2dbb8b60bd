#pragma once

// What the tile unit of an x86 CPU could do at best: products of tiles from the first-level cache,
// on random data (on zeros the clock is a fifth higher).

#include <cstdint>
#include <random>

#include "ram/base/half.h"
#include "ram/runtime/amx_tiles-inl.h"

namespace ram {

template <TileFormat kFormat>
class TileWork {
 public:
  TileWork() {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (auto& tile : tiles_) {
      for (uint16_t& value : tile) {
        const float x = normal(random);
        value = kFormat == TileFormat::kBf16 ? Bf16FromFloat(x) : F16FromFloat(x);
      }
    }
  }

  // Floating-point operations of so many rounds. Any thread; the CPU has the tiles (DetectAmx).
  double Run(int rounds) const {
    const TileScope scope;
    TileUnit::Zero<0>();
    TileUnit::Zero<1>();
    TileUnit::Zero<2>();
    TileUnit::Zero<3>();
    for (int i = 0; i < rounds; ++i) {
      TileUnit::Load<4>(tiles_[0]);
      TileUnit::Load<6>(tiles_[2]);
      TileUnit::Dot<kFormat, 0, 6, 4>();
      TileUnit::Load<5>(tiles_[1]);
      TileUnit::Dot<kFormat, 1, 6, 5>();
      TileUnit::Load<7>(tiles_[3]);
      TileUnit::Dot<kFormat, 2, 7, 4>();
      TileUnit::Dot<kFormat, 3, 7, 5>();
    }
    return rounds * 4 * 16384.0;
  }

 private:
  alignas(64) uint16_t tiles_[4][512];
};

}  // namespace ram
