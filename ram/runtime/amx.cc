#include "ram/runtime/amx.h"

#include "ram/base/result.h"

#if defined(__x86_64__) && defined(__linux__)

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "ram/base/half.h"
#include "ram/runtime/amx_tiles-inl.h"
#include "ram/runtime/byte_dot.h"
#include "ram/runtime/isa.h"

namespace ram {
namespace {

struct Registers {
  uint32_t a = 0, b = 0, c = 0, d = 0;
};

// The instruction, not /proc/cpuinfo, which can leave out AMX-FP16.
Registers Cpuid(uint32_t leaf, uint32_t subleaf) {
  Registers r;
  asm volatile("cpuid" : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d) : "a"(leaf), "c"(subleaf));
  return r;
}

bool Has(uint32_t reg, int bit) { return (reg >> bit & 1) != 0; }

// State that the system saves when it switches threads (XCR0).
uint32_t SavedState() {
  uint32_t low;
  uint32_t high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

// What the kernels of tiles are compiled for: AVX-512 F, DQ, BW, VL, VBMI, BF16. Few rows are
// multiplied without tiles, by dot products of bytes.
bool HasVectorExtensions() {
  const Registers seven = Cpuid(7, 0);
  return Has(seven.b, 16) && Has(seven.b, 17) && Has(seven.b, 30) && Has(seven.b, 31) &&
         Has(seven.c, 1) && Has(Cpuid(7, 1).a, 5);
}

// Row r of a is a tile row of 32 k; row p of b holds k = 2p and 2p + 1 of 16 columns. Integers of
// up to 7 bits with a sign, so that the sums are exact.
template <TileFormat kFormat>
bool ProductIsRight() {
  const auto narrow = [](int value) {
    const auto number = static_cast<float>(value);
    return kFormat == TileFormat::kBf16 ? Bf16FromFloat(number) : F16FromFloat(number);
  };
  const auto integer = [](size_t i) {
    return static_cast<int>((i * 2654435761U >> 8 & 255U)) - 128;
  };
  alignas(64) uint16_t a[16][32];
  alignas(64) uint16_t b[16][16][2];
  alignas(64) float sum[16][16];
  alignas(64) float want[16][16];
  for (size_t r = 0; r < 16; ++r) {
    for (size_t k = 0; k < 32; ++k) a[r][k] = narrow(integer(r * 32 + k));
    for (size_t k = 0; k < 32; ++k) b[k / 2][r][k % 2] = narrow(integer(1000 + r * 32 + k));
    for (size_t c = 0; c < 16; ++c) {
      int exact = integer(r + c);
      sum[r][c] = static_cast<float>(exact);
      for (size_t k = 0; k < 32; ++k) exact += integer(r * 32 + k) * integer(1000 + c * 32 + k);
      want[r][c] = static_cast<float>(exact);
    }
  }
  const TileScope scope;
  TileUnit::Load<0>(sum);
  TileUnit::Load<3>(a);
  TileUnit::Load<7>(b);
  TileUnit::Dot<kFormat, 0, 3, 7>();
  TileUnit::Store<0>(sum);
  return std::equal(&sum[0][0], &sum[0][0] + 256, &want[0][0]);
}

// The same with bytes, four k side by side: those of a with a sign, and without.
bool IntegerProductIsRight() {
  const auto byte = [](size_t i) { return static_cast<uint8_t>(i * 2654435761U >> 8); };
  alignas(64) uint8_t a[16][64];
  alignas(64) uint8_t b[16][16][4];
  alignas(64) int32_t sums[2][16][16];
  alignas(64) int32_t want[2][16][16];
  for (size_t r = 0; r < 16; ++r) {
    for (size_t k = 0; k < 64; ++k) {
      a[r][k] = byte(r * 64 + k);
      b[k / 4][r][k % 4] = byte(5000 + r * 64 + k);
    }
    for (size_t c = 0; c < 16; ++c) {
      for (const bool has_sign : {false, true}) {
        int32_t exact = sums[has_sign][r][c] = byte(r + c);
        for (size_t k = 0; k < 64; ++k) {
          const uint8_t x = byte(r * 64 + k);
          exact += (has_sign ? static_cast<int8_t>(x) : x) *
                   static_cast<int8_t>(byte(5000 + c * 64 + k));
        }
        want[has_sign][r][c] = exact;
      }
    }
  }
  const TileScope scope;
  TileUnit::Load<0>(sums[0]);
  TileUnit::Load<1>(sums[1]);
  TileUnit::Load<3>(a);
  TileUnit::Load<7>(b);
  TileUnit::DotUnsigned<0, 3, 7>();
  TileUnit::DotSigned<1, 3, 7>();
  TileUnit::Store<0>(sums[0]);
  TileUnit::Store<1>(sums[1]);
  return std::memcmp(sums, want, sizeof sums) == 0;
}

AmxSupport Detect() {
  constexpr int kOsxsave = 27;          // Leaf 1, ecx.
  constexpr int kAmxTile = 24;          // Leaf 7, edx.
  constexpr int kAmxInt8 = 25;          // Leaf 7, edx.
  constexpr int kAmxBf16 = 22;          // Leaf 7, edx.
  constexpr int kAmxF16 = 21;           // Leaf 7.1, eax.
  constexpr uint32_t kAvx512 = 0xE6;    // XCR0: xmm, ymm, masks and both halves of zmm.
  constexpr uint32_t kTiles = 3 << 17;  // XCR0: tile configuration and data.
  constexpr int kRequestPermission = 0x1023;
  constexpr int kTileData = 18;

  AmxSupport support;
  if (Cpuid(0, 0).a < 7 || !Has(Cpuid(7, 0).d, kAmxTile) || !Has(Cpuid(7, 0).d, kAmxBf16) ||
      !Has(Cpuid(7, 0).d, kAmxInt8)) {
    support.why_not = "the CPU has no AMX-BF16 and AMX-INT8";
  } else if (!HasVectorExtensions() || !HasByteDots()) {
    support.why_not = "the CPU lacks an AVX-512 extension (F, DQ, BW, VL, VBMI, BF16, VNNI, GFNI)";
  } else if (!HasSimdLevel(SimdLevelOf("amx-bf16"))) {
    support.why_not = "this build has no AVX-512 kernels, which tiles need beside them";
  } else if (!Has(Cpuid(1, 0).c, kOsxsave) ||
             (SavedState() & (kTiles | kAvx512)) != (kTiles | kAvx512)) {
    support.why_not = "the system does not save tiles when it switches threads";
  } else if (syscall(SYS_arch_prctl, kRequestPermission, kTileData) != 0) {
    support.why_not = "Linux refused the permission for tiles (it needs 5.16 or newer)";
  } else {
    support.bf16 = ProductIsRight<TileFormat::kBf16>() && IntegerProductIsRight();
    support.f16 = support.bf16 && Has(Cpuid(7, 1).a, kAmxF16) && ProductIsRight<TileFormat::kF16>();
    if (!support.bf16) support.why_not = "a product of tiles came out wrong";
  }
  return support;
}

struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64);

}  // namespace

const AmxSupport& DetectAmx() {
  static const AmxSupport kSupport = Detect();
  return kSupport;
}

TileScope::TileScope() {
  static constexpr TileConfig kConfig;
  asm volatile("ldtilecfg %0" ::"m"(kConfig));
}

TileScope::~TileScope() { asm volatile("tilerelease" ::: "memory"); }

}  // namespace ram

#else

namespace ram {

const AmxSupport& DetectAmx() {
  static const AmxSupport kSupport = {.why_not = "AMX needs Linux on x86-64"};
  return kSupport;
}

TileScope::TileScope() { RAM_CHECK(DetectAmx().bf16); }
TileScope::~TileScope() = default;

}  // namespace ram

#endif
