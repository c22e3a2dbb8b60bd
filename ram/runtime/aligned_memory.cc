#include "ram/runtime/aligned_memory.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "ram/base/bytes.h"

namespace ram {
namespace {

constexpr uint64_t kAlignment = 64;
// A page table with 4 KiB pages costs a few percent of the time of a pass over the weights.
constexpr uint64_t kHugePage = uint64_t{2} << 20;
constexpr uint64_t kMaxBytes = uint64_t{1} << 40;  // More than any layer, less than any overflow.

}  // namespace

void AlignedMemory::Free::operator()(uint8_t* data) const { std::free(data); }

uint64_t AlignedMemory::SizeFor(uint64_t bytes) {
  const uint64_t alignment = bytes < kHugePage ? kAlignment : kHugePage;
  return (bytes + alignment - 1) / alignment * alignment;
}

Result<AlignedMemory> AlignedMemory::Allocate(uint64_t bytes) {
  AlignedMemory memory;
  if (bytes == 0) return memory;
  if (bytes <= kMaxBytes) {
    memory.size_ = SizeFor(bytes);
    memory.data_.reset(static_cast<uint8_t*>(
        std::aligned_alloc(bytes < kHugePage ? kAlignment : kHugePage, memory.size_)));
  }
  if (memory.data_ == nullptr) {
    return Error{ErrorCode::kNoSpace,
                 fmt::format("no memory: {} are needed at once", FormatBytes(bytes))};
  }
#ifdef MADV_HUGEPAGE
  // Advice: where it is refused, pages are small.
  if (memory.size_ >= kHugePage) ::madvise(memory.data(), memory.size_, MADV_HUGEPAGE);
#endif
  return memory;
}

AlignedBytes::AlignedBytes(uint64_t bytes) {
  Result<AlignedMemory> memory = AlignedMemory::Allocate(std::max<uint64_t>(bytes, 1));
  RAM_CHECK(memory.ok());
  memory_ = *std::move(memory);
}

void AlignedBytes::Reserve(uint64_t bytes) {
  if (bytes <= size()) return;
  *this = AlignedBytes();  // Not both at once.
  *this = AlignedBytes(bytes);
}

}  // namespace ram
