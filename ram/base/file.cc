#include "ram/base/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

namespace ram {
namespace {

Error SystemError(const std::filesystem::path& path, std::string_view what, int number) {
  ErrorCode code = ErrorCode::kIo;
  if (number == ENOENT || number == ENOTDIR) code = ErrorCode::kNotFound;
  if (number == ENOSPC || number == EDQUOT || number == EFBIG || number == ENOMEM) {
    code = ErrorCode::kNoSpace;
  }
  return Error{code, fmt::format("{}: cannot {}: {}", path.string(), what,
                                 std::system_category().message(number))};
}

}  // namespace

File::File(int descriptor, uint64_t size, std::filesystem::path path)
    : descriptor_(descriptor), size_(size), path_(std::move(path)) {}

File::File(File&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)),
      size_(other.size_),
      path_(std::move(other.path_)) {}

File& File::operator=(File&& other) noexcept {
  if (this != &other) {
    if (descriptor_ >= 0) ::close(descriptor_);
    descriptor_ = std::exchange(other.descriptor_, -1);
    size_ = other.size_;
    path_ = std::move(other.path_);
  }
  return *this;
}

File::~File() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<File> File::OpenExisting(const std::filesystem::path& path, int flags) {
  const int descriptor = ::open(path.c_str(), flags | O_CLOEXEC, 0644);
  if (descriptor < 0) return SystemError(path, "open", errno);
  struct stat status = {};
  if (::fstat(descriptor, &status) != 0) {
    const int number = errno;
    ::close(descriptor);
    return SystemError(path, "read its size", number);
  }
  File file(descriptor, static_cast<uint64_t>(status.st_size), path);
  if (!S_ISREG(status.st_mode)) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("{}: expected a regular file", path.string())};
  }
  return file;
}

Result<File> File::OpenForReading(const std::filesystem::path& path) {
  return OpenExisting(path, O_RDONLY);
}

Result<File> File::CreateNew(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (descriptor < 0) return SystemError(path, "create", errno);
  return File(descriptor, 0, path);
}

Result<File> File::CreateUnnamed(const std::filesystem::path& directory) {
#if defined(O_TMPFILE)
  const int descriptor = ::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0644);
  if (descriptor >= 0) return File(descriptor, 0, directory / "(unnamed)");
  if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL && errno != ENOENT) {
    return SystemError(directory, "create a file in it", errno);
  }
#endif
  return Error{ErrorCode::kUnsupported,
               fmt::format("{}: no unnamed files on this file system", directory.string())};
}

Result<File> File::OpenOrCreate(const std::filesystem::path& path) {
  return OpenExisting(path, O_RDWR | O_CREAT);
}

Status File::ReadAt(uint64_t offset, std::span<uint8_t> into) const {
  size_t done = 0;
  while (done < into.size()) {
    const ssize_t got = ::pread(descriptor_, into.data() + done, into.size() - done,
                                static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return SystemError(path_, "read", errno);
    if (got == 0) {
      return Error{ErrorCode::kCorrupt,
                   fmt::format("{}: {} bytes expected at {}, the file ends at {}", path_.string(),
                               into.size(), offset, offset + done)};
    }
    done += static_cast<size_t>(got);
  }
  return Done{};
}

Status File::WriteAt(uint64_t offset, std::span<const uint8_t> from) const {
  size_t done = 0;
  while (done < from.size()) {
    const ssize_t put = ::pwrite(descriptor_, from.data() + done, from.size() - done,
                                 static_cast<off_t>(offset + done));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return SystemError(path_, "write", errno);
    done += static_cast<size_t>(put);
  }
  return Done{};
}

Status File::Reserve(uint64_t bytes) const {
#if defined(__linux__)
  const int number = ::posix_fallocate(descriptor_, 0, static_cast<off_t>(bytes));
  if (number != 0 && number != EOPNOTSUPP && number != EINVAL) {
    return SystemError(path_, fmt::format("reserve {} bytes for it", bytes), number);
  }
#endif
  if (::ftruncate(descriptor_, static_cast<off_t>(bytes)) != 0) {
    return SystemError(path_, "set its size", errno);
  }
  return Done{};
}

Status File::Sync() const {
  if (::fsync(descriptor_) != 0) return SystemError(path_, "write it to the disk", errno);
  return Done{};
}

Status File::LinkAs(const std::filesystem::path& path) {
#if defined(O_TMPFILE)
  const std::string source = fmt::format("/proc/self/fd/{}", descriptor_);
  if (::linkat(AT_FDCWD, source.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) == 0) {
    path_ = path;
    return Done{};
  }
#else
  errno = ENOTSUP;
#endif
  return SystemError(path, "name it", errno);
}

bool File::TryLock() const { return ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0; }

void File::AdviseSequential() const {
#if defined(POSIX_FADV_SEQUENTIAL)
  (void)::posix_fadvise(descriptor_, 0, 0, POSIX_FADV_SEQUENTIAL);
#endif
}

Result<std::string> ReadFile(const std::filesystem::path& path, uint64_t max_bytes) {
  RAM_ASSIGN_OR_RETURN(const File file, File::OpenForReading(path));
  if (file.size() > max_bytes) {
    return Error{ErrorCode::kInvalidArgument, fmt::format("{}: {} bytes, at most {} are expected",
                                                          path.string(), file.size(), max_bytes)};
  }
  std::string contents(file.size(), '\0');
  RAM_RETURN_IF_ERROR(
      file.ReadAt(0, std::span(reinterpret_cast<uint8_t*>(contents.data()), contents.size())));
  return contents;
}

Status WriteFileAtomically(const std::filesystem::path& path, std::string_view contents) {
  static std::atomic<int> counter = 0;
  std::filesystem::path temporary = path;
  temporary += fmt::format(".tmp-{}-{}", ::getpid(), counter++);
  std::filesystem::path directory = path.parent_path();
  if (directory.empty()) directory = ".";

  Status written = [&]() -> Status {
    RAM_ASSIGN_OR_RETURN(const File file, File::CreateNew(temporary));
    RAM_RETURN_IF_ERROR(file.WriteAt(
        0, std::span(reinterpret_cast<const uint8_t*>(contents.data()), contents.size())));
    RAM_RETURN_IF_ERROR(file.Sync());
    if (::rename(temporary.c_str(), path.c_str()) != 0) {
      return SystemError(path, "replace it", errno);
    }
    return SyncDirectory(directory);
  }();
  if (!written) ::unlink(temporary.c_str());
  return written;
}

Status SyncDirectory(const std::filesystem::path& directory) {
  const int descriptor = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return SystemError(directory, "open", errno);
  const int failed = ::fsync(descriptor) != 0 ? errno : 0;
  ::close(descriptor);
  // Some file systems do not sync directories; that is no reason to fail.
  if (failed != 0 && failed != EINVAL) return SystemError(directory, "sync", failed);
  return Done{};
}

}  // namespace ram
