#include <fmt/format.h>
#include <sys/mman.h>

#include <cstdlib>
#include <utility>

#include "ram/base/bytes.h"
#include "ram/runtime/loaded_weights.h"

namespace ram {
namespace {

constexpr uint64_t kAlignment = 64;
// A page table with 4 KiB pages costs a few percent of the time of a pass over the weights.
constexpr uint64_t kHugePage = uint64_t{2} << 20;
constexpr uint64_t kMaxBytes = uint64_t{1} << 40;  // More than any layer, less than any overflow.

}  // namespace

uint64_t AlignedMemory::SizeFor(uint64_t bytes) {
  const uint64_t alignment = bytes < kHugePage ? kAlignment : kHugePage;
  return (bytes + alignment - 1) / alignment * alignment;
}

Result<AlignedMemory> AlignedMemory::Allocate(uint64_t bytes) {
  AlignedMemory memory;
  if (bytes == 0) return memory;
  if (bytes <= kMaxBytes) {
    memory.size_ = SizeFor(bytes);
    memory.data_ = static_cast<uint8_t*>(
        std::aligned_alloc(bytes < kHugePage ? kAlignment : kHugePage, memory.size_));
  }
  if (memory.data_ == nullptr) {
    return Error{ErrorCode::kNoSpace,
                 fmt::format("no memory for weights: {} are needed at once", FormatBytes(bytes))};
  }
#ifdef MADV_HUGEPAGE
  if (memory.size_ >= kHugePage) ::madvise(memory.data_, memory.size_, MADV_HUGEPAGE);
#endif
  return memory;
}

AlignedMemory::AlignedMemory(AlignedMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

AlignedMemory& AlignedMemory::operator=(AlignedMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

AlignedMemory::~AlignedMemory() { std::free(data_); }

}  // namespace ram
