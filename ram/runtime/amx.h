#pragma once

// The tile unit (AMX) of x86 CPUs: whether it may be used here, and by whom. Products of tiles of
// 16-bit numbers, summed in f32, at 12 times the rate of f32 FMA, and of bytes, summed in integers,
// at twice that.

#include <cstdint>

namespace ram {

// 16-bit formats of tile products.
enum class TileFormat : uint8_t {
  kBf16,  // 8 significant bits, the range of f32.
  kF16,   // 11 significant bits, 2^-24 ... 2^16.
};

// Every CPU with tiles of bf16 has those of bytes.
struct AmxSupport {
  bool bf16 = false;  // And bytes.
  bool f16 = false;
  const char* why_not = "";  // Where bf16 is false: what refused, in a few words.
};

// Asks the CPU, then Linux for the permission to use tiles (for the whole process), and then tries
// the instructions themselves: a format is offered only if its products of small integers are
// right to the bit. Also asks for the AVX-512 extensions that the kernels around the tiles use. At
// most once per process; any thread.
const AmxSupport& DetectAmx();

// Tiles of this thread are configured (all eight: 16 rows of 64 bytes) while one of these lives,
// and released afterwards, so that an idle thread has less to save. Not nested. Only where
// DetectAmx() found something.
class TileScope {
 public:
  TileScope();
  ~TileScope();
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;
};

}  // namespace ram
