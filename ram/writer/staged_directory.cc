#include "ram/writer/staged_directory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <system_error>
#include <utility>

#include "ram/base/bytes.h"

#if defined(__linux__)
#include <linux/fs.h>
#include <sys/syscall.h>
#endif

namespace ram {
namespace {

namespace fs = std::filesystem;

Error SystemError(const fs::path& path, std::string_view what, int number) {
  return Error{number == ENOSPC ? ErrorCode::kNoSpace : ErrorCode::kIo,
               fmt::format("{}: cannot {}: {}", path.string(), what,
                           std::system_category().message(number))};
}

enum class Rename : uint8_t { kOnlyIfAbsent, kExchange };

// 0 or errno. ENOSYS, EINVAL or ENOTSUP where the system or the file system cannot do it.
int RenameDirectory(const fs::path& from, const fs::path& to, Rename how) {
#if defined(__linux__) && defined(SYS_renameat2)
  const unsigned flags = how == Rename::kExchange ? RENAME_EXCHANGE : RENAME_NOREPLACE;
  return ::syscall(SYS_renameat2, AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags) == 0 ? 0
                                                                                            : errno;
#elif defined(__APPLE__)
  const unsigned flags = how == Rename::kExchange ? RENAME_SWAP : RENAME_EXCL;
  return ::renamex_np(from.c_str(), to.c_str(), flags) == 0 ? 0 : errno;
#else
  (void)from, (void)to, (void)how;
  return ENOSYS;
#endif
}

bool IsUnsupported(int number) {
  return number == ENOSYS || number == EINVAL || number == ENOTSUP || number == EOPNOTSUPP;
}

// Guards against replacing something that was never ours to replace.
bool LooksLikeModel(const fs::path& directory) {
  std::error_code error;
  return fs::is_directory(directory, error) &&
         (fs::is_empty(directory, error) || fs::exists(directory / "config.json", error));
}

}  // namespace

struct StagedDirectory::Directory {
  explicit Directory(int open_descriptor) : descriptor(open_descriptor) {}
  ~Directory() { ::close(descriptor); }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  int descriptor;
};

StagedDirectory::StagedDirectory(fs::path directory, bool overwrite)
    : directory_(std::move(directory)), overwrite_(overwrite) {
  partial_ = directory_.parent_path() / ("." + directory_.filename().string() + ".ram-partial");
}

StagedDirectory::StagedDirectory(StagedDirectory&&) noexcept = default;

StagedDirectory::~StagedDirectory() {
  files_.clear();
  if (directory_lock_ != nullptr) {
    std::error_code ignored;
    fs::remove_all(partial_, ignored);
  }
}

Result<StagedDirectory> StagedDirectory::Create(const fs::path& directory, bool overwrite,
                                                uint64_t total_bytes) {
  std::error_code error;
  fs::path target = fs::absolute(directory, error).lexically_normal();
  if (target.filename().empty()) target = target.parent_path();  // "out/" is "out".
  const fs::path parent = target.parent_path();
  if (!fs::is_directory(parent, error)) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("{}: its parent is not a directory", directory.string())};
  }
  if (fs::exists(fs::symlink_status(target, error))) {
    if (!overwrite) {
      return Error{ErrorCode::kInvalidArgument,
                   fmt::format("{}: exists already; choose another name or pass --overwrite",
                               directory.string())};
    }
    if (!LooksLikeModel(target)) {
      return Error{
          ErrorCode::kInvalidArgument,
          fmt::format("{}: is not a model directory (no config.json), so it is not replaced",
                      directory.string())};
    }
  }

  struct statvfs disk = {};
  if (::statvfs(parent.c_str(), &disk) != 0) {
    return SystemError(parent, "read the free space of its disk", errno);
  }
  const uint64_t free_bytes = static_cast<uint64_t>(disk.f_bavail) * disk.f_frsize;
  constexpr uint64_t kMargin = kMiB;  // Directory entries, block rounding.
  if (free_bytes < total_bytes + kMargin) {
    return Error{ErrorCode::kNoSpace,
                 fmt::format("{}: {} are needed on its disk, {} are free", directory.string(),
                             FormatBytes(total_bytes + kMargin), FormatBytes(free_bytes))};
  }

  StagedDirectory staged(target, overwrite);
  // Unnamed files are of use only if they can be given a name in the end: try one.
  auto probe = File::CreateUnnamed(parent);
  const fs::path probe_name =
      parent / fmt::format(".{}.ram-probe-{}", target.filename().string(), ::getpid());
  if (!probe && probe.error().code != ErrorCode::kUnsupported) return probe.error();
  staged.unnamed_ = probe.ok() && probe->LinkAs(probe_name).ok();
  if (staged.unnamed_) ::unlink(probe_name.c_str());
  if (fs::exists(staged.partial_, error) || !staged.unnamed_) {
    RAM_RETURN_IF_ERROR(staged.MakePartial());
  }
  return staged;
}

// Creates the sibling and takes it; first removes what a killed run left there.
Status StagedDirectory::MakePartial() {
  for (int attempt = 0; attempt < 2; ++attempt) {
    const bool created = ::mkdir(partial_.c_str(), 0755) == 0;
    if (!created && errno != EEXIST) return SystemError(partial_, "create it", errno);
    const int descriptor = ::open(partial_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) return SystemError(partial_, "open it", errno);
    auto lock = std::make_unique<Directory>(descriptor);
    if (::flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
      return Error{ErrorCode::kInvalidArgument,
                   fmt::format("{}: another run is writing it", directory_.string())};
    }
    if (created) {
      directory_lock_ = std::move(lock);
      return Done{};
    }
    std::error_code error;
    fs::remove_all(partial_, error);
    if (error) return SystemError(partial_, "remove what an earlier run left", error.value());
  }
  return Error{ErrorCode::kIo, fmt::format("{}: cannot be created", partial_.string())};
}

Result<File*> StagedDirectory::AddFile(std::string_view name, uint64_t num_bytes) {
  RAM_CHECK(name.find('/') == std::string_view::npos);
  auto file =
      unnamed_ ? File::CreateUnnamed(directory_.parent_path()) : File::CreateNew(partial_ / name);
  if (!file) return file.error();
  if (num_bytes > 0) RAM_RETURN_IF_ERROR(file->Reserve(num_bytes));
  files_.push_back({std::string(name), std::make_unique<File>(*std::move(file))});
  return files_.back().file.get();
}

Status StagedDirectory::AddText(std::string_view name, std::string_view text) {
  RAM_ASSIGN_OR_RETURN(File * file, AddFile(name, text.size()));
  return file->WriteAt(0, std::span(reinterpret_cast<const uint8_t*>(text.data()), text.size()));
}

Status StagedDirectory::AddCopy(std::string_view name, const fs::path& from) {
  constexpr uint64_t kPieceBytes = 4 * kMiB;
  RAM_ASSIGN_OR_RETURN(const File source, File::OpenForReading(from));
  RAM_ASSIGN_OR_RETURN(File * file, AddFile(name, source.size()));
  std::vector<uint8_t> piece(std::min(kPieceBytes, source.size()));
  for (uint64_t at = 0; at < source.size(); at += kPieceBytes) {
    const std::span<uint8_t> part =
        std::span(piece).first(std::min(kPieceBytes, source.size() - at));
    RAM_RETURN_IF_ERROR(source.ReadAt(at, part));
    RAM_RETURN_IF_ERROR(file->WriteAt(at, part));
  }
  return Done{};
}

Status StagedDirectory::Publish() {
  for (const Staged& staged : files_) RAM_RETURN_IF_ERROR(staged.file->Sync());
  if (directory_lock_ == nullptr) RAM_RETURN_IF_ERROR(MakePartial());
  if (unnamed_) {
    for (const Staged& staged : files_) {
      RAM_RETURN_IF_ERROR(staged.file->LinkAs(partial_ / staged.name));
    }
  }
  RAM_RETURN_IF_ERROR(SyncDirectory(partial_));

  std::error_code error;
  const bool exists = fs::exists(fs::symlink_status(directory_, error));
  if (exists && !overwrite_) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("{}: appeared while this run was writing it", directory_.string())};
  }
  const Rename how = exists ? Rename::kExchange : Rename::kOnlyIfAbsent;
  int failed = RenameDirectory(partial_, directory_, how);
  if (IsUnsupported(
          failed)) {  // Old file systems: two steps, the old directory kept until the end.
    const fs::path aside = partial_.string() + "-old";
    if (exists && ::rename(directory_.c_str(), aside.c_str()) != 0) {
      return SystemError(directory_, "replace it", errno);
    }
    failed = ::rename(partial_.c_str(), directory_.c_str()) == 0 ? 0 : errno;
    if (failed != 0 && exists) (void)::rename(aside.c_str(), directory_.c_str());
    if (failed == 0 && exists) fs::remove_all(aside, error);
  } else if (failed == 0 && exists) {
    fs::remove_all(partial_, error);  // It holds the old directory now.
  }
  if (failed != 0) return SystemError(directory_, "name the finished directory", failed);
  directory_lock_.reset();
  return SyncDirectory(directory_.parent_path());
}

}  // namespace ram
