#pragma once

// A directory that appears whole or not at all.
//
// Files have no name until the end where the system can do that (O_TMPFILE); elsewhere they lie in
// the hidden sibling ".NAME.ram-partial". Publish() gathers them there and renames it. Whatever
// ends the program before leaves the previous state; a sibling that a killed run left is removed by
// the next run.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ram/base/file.h"
#include "ram/base/result.h"

namespace ram {

class StagedDirectory {
 public:
  // Checks that `directory` can be made there and that `total_bytes` fit on its disk. With
  // `overwrite` an existing directory is replaced when the new one is complete.
  // kInvalidArgument if it exists (without `overwrite`), if it is to be replaced but is no model
  // directory, if its parent does not exist, or if another run is writing it; kNoSpace with the
  // bytes needed and free.
  static Result<StagedDirectory> Create(const std::filesystem::path& directory, bool overwrite,
                                        uint64_t total_bytes);
  // Removes everything that was not published.
  ~StagedDirectory();
  StagedDirectory(StagedDirectory&&) noexcept;
  StagedDirectory& operator=(StagedDirectory&&) = delete;

  // A file of this size, reserved on the disk, for writing at any offset. Owned by the directory.
  Result<File*> AddFile(std::string_view name, uint64_t num_bytes);
  Status AddText(std::string_view name, std::string_view text);
  Status AddCopy(std::string_view name, const std::filesystem::path& from);

  // Syncs everything, then makes it visible in one step.
  Status Publish();

 private:
  struct Staged {
    std::string name;
    std::unique_ptr<File> file;
  };
  struct Directory;  // An open directory, locked.

  StagedDirectory(std::filesystem::path directory, bool overwrite);
  Status MakePartial();

  std::filesystem::path directory_;
  std::filesystem::path partial_;
  bool overwrite_;
  bool unnamed_ = true;                        // Files are made without a name.
  std::unique_ptr<Directory> directory_lock_;  // Of partial_, once it exists.
  std::vector<Staged> files_;
};

}  // namespace ram
