#include "ram/runtime/aligned_rows.h"

#include <algorithm>
#include <cstdlib>

#include "ram/base/result.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace ram {
namespace {

constexpr uint64_t kCacheLine = 64;
constexpr uint64_t kHugePage = uint64_t{2} << 20;

}  // namespace

AlignedBytes::AlignedBytes(uint64_t bytes) {
  const uint64_t alignment = bytes >= 2 * kHugePage ? kHugePage : kCacheLine;
  size_ = (std::max<uint64_t>(bytes, 1) + alignment - 1) / alignment * alignment;
  data_.reset(static_cast<uint8_t*>(std::aligned_alloc(alignment, size_)));
  RAM_CHECK(data_ != nullptr);
#ifdef __linux__
  // Advice: where it is refused, pages are small.
  if (alignment == kHugePage) madvise(data_.get(), size_, MADV_HUGEPAGE);
#endif
}

void AlignedBytes::Free::operator()(uint8_t* data) const { std::free(data); }

void AlignedBytes::Reserve(uint64_t bytes) {
  if (bytes <= size_) return;
  *this = AlignedBytes();  // Not both at once.
  *this = AlignedBytes(bytes);
}

}  // namespace ram
