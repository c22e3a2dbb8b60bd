#pragma once

// The hidden states of all tokens of an evaluation between two layers: in memory, or in a file
// where they do not fit.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>

#include "ram/base/file.h"
#include "ram/base/result.h"
#include "ram/runtime/engine.h"

namespace ram {

class HiddenStore {
 public:
  // [rows, hidden] f32 in the engine's memory.
  static HiddenStore InMemory(Engine& engine, uint64_t rows, uint64_t hidden);
  // The same in a file without a name in `directory`, which vanishes with the store. kNoSpace if
  // the disk has no room, which is reserved at once.
  static Result<HiddenStore> InFile(const std::filesystem::path& directory, uint64_t rows,
                                    uint64_t hidden);

  bool in_memory() const { return memory_ != nullptr; }

  // Where rows [first, first + num) are to be written: the store's own memory, or `buffer`.
  Rows Place(uint64_t first, uint64_t num, Rows buffer) const;
  // Rows [first, first + num): the store's own memory, or `buffer` [>= num rows] filled from the
  // file.
  Result<Rows> Read(uint64_t first, uint64_t num, Rows buffer) const;
  // Puts rows back that Read or Place returned, changed by the caller.
  Status Write(uint64_t first, Rows values);

 private:
  HiddenStore() = default;

  uint64_t hidden_ = 0;
  std::unique_ptr<Activations> memory_;
  std::optional<File> file_;
};

}  // namespace ram
