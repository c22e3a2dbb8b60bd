#include "ram/runtime/hidden_store.h"

#include <utility>

namespace ram {
namespace {

std::span<uint8_t> BytesOf(const Rows& rows, uint64_t r) {
  return {reinterpret_cast<uint8_t*>(rows.row(r)), rows.cols * sizeof(float)};
}

}  // namespace

HiddenStore HiddenStore::InMemory(Engine& engine, uint64_t rows, uint64_t hidden) {
  HiddenStore store;
  store.hidden_ = hidden;
  store.memory_ = engine.Allocate(rows, hidden);
  return store;
}

Result<HiddenStore> HiddenStore::InFile(const std::filesystem::path& directory, uint64_t rows,
                                        uint64_t hidden) {
  HiddenStore store;
  store.hidden_ = hidden;
  RAM_ASSIGN_OR_RETURN(store.file_, File::CreateUnnamed(directory));
  RAM_RETURN_IF_ERROR(store.file_->Reserve(rows * hidden * sizeof(float)));
  return store;
}

Rows HiddenStore::Place(uint64_t first, uint64_t num, Rows buffer) const {
  if (in_memory()) return memory_->rows().slice(first, num);
  RAM_CHECK(buffer.rows >= num && buffer.cols == hidden_);
  return buffer.slice(0, num);
}

Result<Rows> HiddenStore::Read(uint64_t first, uint64_t num, Rows buffer) const {
  const Rows into = Place(first, num, buffer);
  if (in_memory()) return into;
  for (uint64_t r = 0; r < num; ++r) {
    RAM_RETURN_IF_ERROR(file_->ReadAt((first + r) * hidden_ * sizeof(float), BytesOf(into, r)));
  }
  return into;
}

Status HiddenStore::Write(uint64_t first, Rows values) {
  if (in_memory()) return Done{};
  for (uint64_t r = 0; r < values.rows; ++r) {
    RAM_RETURN_IF_ERROR(file_->WriteAt((first + r) * hidden_ * sizeof(float), BytesOf(values, r)));
  }
  return Done{};
}

}  // namespace ram
