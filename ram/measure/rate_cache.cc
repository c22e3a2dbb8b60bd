#include "ram/measure/rate_cache.h"

#include <cstdlib>
#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

namespace ram {
namespace {

// Changes whenever the meaning of a measurement does.
constexpr char kMagic[16] = {'r', 'a', 'm', ' ', 'r', 'a', 't', 'e', 's', ' ', '1', '\n'};

struct Record {
  ContentHash key;
  BlockErrors errors;
  ContentHash checksum;  // Of key and errors.
};
static_assert(std::is_trivially_copyable_v<Record>);

std::span<const uint8_t> BytesOf(const Record& record) {
  return {reinterpret_cast<const uint8_t*>(&record), sizeof(record)};
}

ContentHash Checksum(const Record& record) {
  ContentHasher hasher;
  hasher.Add(BytesOf(record).first(offsetof(Record, checksum)));
  return hasher.Finish();
}

}  // namespace

size_t RateCache::KeyHash::operator()(const ContentHash& key) const {
  size_t hash = 0;
  std::memcpy(&hash, key.data(), sizeof(hash));
  return hash;
}

RateCache::RateCache(File file) : file_(std::move(file)) {}

Result<std::unique_ptr<RateCache>> RateCache::Open(const std::filesystem::path& path) {
  std::error_code ignored;  // Opening reports what matters.
  std::filesystem::create_directories(path.parent_path(), ignored);
  RAM_ASSIGN_OR_RETURN(File file, File::OpenOrCreate(path));
  std::unique_ptr<RateCache> cache(new RateCache(std::move(file)));
  RAM_RETURN_IF_ERROR(cache->Load());
  return cache;
}

Status RateCache::Load() {
  writable_ = file_.TryLock();
  char magic[sizeof(kMagic)] = {};
  const auto magic_bytes = std::span(reinterpret_cast<uint8_t*>(magic), sizeof(magic));
  if (file_.size() >= sizeof(kMagic)) RAM_RETURN_IF_ERROR(file_.ReadAt(0, magic_bytes));
  end_ = sizeof(kMagic);
  if (std::memcmp(magic, kMagic, sizeof(kMagic)) != 0) {
    if (!writable_) return Done{};
    return file_.WriteAt(0, std::span(reinterpret_cast<const uint8_t*>(kMagic), sizeof(kMagic)));
  }

  constexpr size_t kRecordsAtOnce = 1024;
  std::vector<Record> records(kRecordsAtOnce);
  while (end_ + sizeof(Record) <= file_.size()) {
    const size_t count = std::min<size_t>(kRecordsAtOnce, (file_.size() - end_) / sizeof(Record));
    RAM_RETURN_IF_ERROR(file_.ReadAt(
        end_, std::span(reinterpret_cast<uint8_t*>(records.data()), count * sizeof(Record))));
    for (size_t i = 0; i < count; ++i) {
      if (Checksum(records[i]) != records[i].checksum) return Done{};  // The torn end.
      records_[records[i].key] = records[i].errors;
      end_ += sizeof(Record);
    }
  }
  return Done{};
}

bool RateCache::Find(const ContentHash& key, BlockErrors* errors) const {
  const std::lock_guard lock(mutex_);
  const auto found = records_.find(key);
  if (found == records_.end()) return false;
  *errors = found->second;
  return true;
}

void RateCache::Add(const ContentHash& key, const BlockErrors& errors) {
  Record record;
  std::memset(static_cast<void*>(&record), 0, sizeof(record));  // Padding too: it is written.
  record.key = key;
  record.errors = errors;
  record.checksum = Checksum(record);
  const std::lock_guard lock(mutex_);
  records_[key] = errors;
  if (writable_ && file_.WriteAt(end_, BytesOf(record)).ok()) {
    end_ += sizeof(record);
  } else {
    complete_ = false;
  }
}

std::filesystem::path DefaultRateCachePath() {
  const auto variable = [](const char* name) -> std::filesystem::path {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
  };
  std::filesystem::path directory = variable("RAM_CACHE");
  if (directory.empty() && !variable("XDG_CACHE_HOME").empty()) {
    directory = variable("XDG_CACHE_HOME") / "ram";
  }
  if (directory.empty() && !variable("HOME").empty()) directory = variable("HOME") / ".cache/ram";
  return directory.empty() ? directory : directory / "measurements.cache";
}

}  // namespace ram
