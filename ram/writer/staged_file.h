#pragma once

// A file that appears whole or not at all: made without a name where the system can do that, else
// as a hidden sibling.

#include <cstdint>
#include <filesystem>

#include "ram/base/file.h"
#include "ram/base/result.h"

namespace ram {

class StagedFile {
 public:
  // Reserves `num_bytes` on the disk. kInvalidArgument if `path` exists and is not to be replaced;
  // kNoSpace.
  static Result<StagedFile> Create(const std::filesystem::path& path, bool overwrite,
                                   uint64_t num_bytes);
  // Removes what was not published.
  ~StagedFile();
  StagedFile(StagedFile&& other) noexcept;
  StagedFile& operator=(StagedFile&&) = delete;

  const File& file() const { return file_; }
  // Syncs it and gives it its name.
  Status Publish();

 private:
  StagedFile(File file, std::filesystem::path path, std::filesystem::path partial, bool unnamed);

  File file_;
  std::filesystem::path path_;
  std::filesystem::path
      partial_;  // Its name before Publish(), if it has one; empty when moved from.
  bool unnamed_;
};

}  // namespace ram
