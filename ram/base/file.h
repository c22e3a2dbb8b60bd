#pragma once

// Files by position: no shared offset, so threads may read and write the same File at once.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "ram/base/result.h"

namespace ram {

// An open file. Movable; closes itself. Errors are kNotFound, kIo, or kNoSpace (disk full, quota),
// and name the path and the system's reason.
class File {
 public:
  static Result<File> OpenForReading(const std::filesystem::path& path);
  // Creates a file that must not exist yet.
  static Result<File> CreateNew(const std::filesystem::path& path);
  // Creates a file that has no name until LinkAs gives it one, so that nothing is left behind if
  // the program dies. On the file system of `directory`; kUnsupported where the system cannot do
  // it.
  static Result<File> CreateUnnamed(const std::filesystem::path& directory);
  // For reading and writing; created if it is not there.
  static Result<File> OpenOrCreate(const std::filesystem::path& path);

  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File();

  const std::filesystem::path& path() const { return path_; }
  // Size when it was opened [bytes].
  uint64_t size() const { return size_; }

  // Fills `into` from `offset`. kCorrupt if the file ends before. Thread-safe.
  Status ReadAt(uint64_t offset, std::span<uint8_t> into) const;
  // Writes all of `from` at `offset`. Thread-safe.
  Status WriteAt(uint64_t offset, std::span<const uint8_t> from) const;
  // Reserves `bytes` on the disk, so that a full disk shows now and not in the middle.
  Status Reserve(uint64_t bytes) const;
  // Forces the contents to the disk.
  Status Sync() const;
  // Names a file made by CreateUnnamed; `path` must not exist.
  Status LinkAs(const std::filesystem::path& path);
  // Takes the file for this process until it is closed. False if another one has it.
  bool TryLock() const;
  // Hints for the page cache; errors do not matter.
  void AdviseSequential() const;

 private:
  static Result<File> OpenExisting(const std::filesystem::path& path, int flags);
  File(int descriptor, uint64_t size, std::filesystem::path path);

  int descriptor_ = -1;
  uint64_t size_ = 0;
  std::filesystem::path path_;
};

// The whole file. kInvalidArgument if it is larger than `max_bytes`.
Result<std::string> ReadFile(const std::filesystem::path& path, uint64_t max_bytes);

// Replaces `path` by a file with these contents, or leaves what was there: writes a temporary
// sibling, syncs it, renames it.
Status WriteFileAtomically(const std::filesystem::path& path, std::string_view contents);

// Forces the entries of a directory (a rename in it) to the disk.
Status SyncDirectory(const std::filesystem::path& directory);

}  // namespace ram
