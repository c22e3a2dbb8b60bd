#include "ram/writer/staged_file.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

namespace ram {

namespace fs = std::filesystem;

StagedFile::StagedFile(File file, fs::path path, fs::path partial, bool unnamed)
    : file_(std::move(file)),
      path_(std::move(path)),
      partial_(std::move(partial)),
      unnamed_(unnamed) {}

StagedFile::StagedFile(StagedFile&& other) noexcept
    : file_(std::move(other.file_)),
      path_(std::move(other.path_)),
      partial_(std::exchange(other.partial_, {})),
      unnamed_(other.unnamed_) {}

StagedFile::~StagedFile() {
  if (!partial_.empty()) ::unlink(partial_.c_str());
}

Result<StagedFile> StagedFile::Create(const fs::path& path, bool overwrite, uint64_t num_bytes) {
  std::error_code error;
  if (!overwrite && fs::exists(fs::symlink_status(path, error))) {
    return Error{
        ErrorCode::kInvalidArgument,
        fmt::format("{}: exists already; choose another name or pass --overwrite", path.string())};
  }
  const fs::path directory = path.has_parent_path() ? path.parent_path() : fs::path(".");
  const fs::path partial =
      directory / fmt::format(".{}.ram-partial-{}", path.filename().string(), ::getpid());
  auto file = File::CreateUnnamed(directory);
  bool unnamed = file.ok();
  if (unnamed) {  // Of use only if it can be given a name in the end.
    unnamed = file->LinkAs(partial).ok();
    if (unnamed) ::unlink(partial.c_str());
  }
  if (unnamed) {
    file = File::CreateUnnamed(directory);
  } else {
    file = File::CreateNew(partial);
  }
  if (!file) return file.error();
  StagedFile staged(*std::move(file), path, partial, unnamed);
  if (num_bytes > 0) RAM_RETURN_IF_ERROR(staged.file_.Reserve(num_bytes));
  return staged;
}

Status StagedFile::Publish() {
  RAM_RETURN_IF_ERROR(file_.Sync());
  if (unnamed_) RAM_RETURN_IF_ERROR(file_.LinkAs(partial_));
  if (::rename(partial_.c_str(), path_.c_str()) != 0) {
    return Error{ErrorCode::kIo,
                 fmt::format("{}: cannot name the finished file: {}", path_.string(),
                             std::system_category().message(errno))};
  }
  partial_.clear();
  return SyncDirectory(path_.has_parent_path() ? path_.parent_path() : fs::path("."));
}

}  // namespace ram
