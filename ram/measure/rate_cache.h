#pragma once

// Remembers what chunks of weights cost, by the hash of their bytes: a second run, another budget
// or a fine-tune measures only what changed, and an interrupted run goes on where it stopped.
//
// One append-only file. A record is written whole and carries a checksum; what a crash leaves at
// the end is ignored and overwritten. A second process that finds the file locked reads it and adds
// nothing.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "ram/base/file.h"
#include "ram/base/hash.h"
#include "ram/base/result.h"
#include "ram/measure/block_errors.h"

namespace ram {

class RateCache {
 public:
  // Opens or creates the file, with its directory. kIo, kNoSpace. A file of another version is
  // emptied.
  static Result<std::unique_ptr<RateCache>> Open(const std::filesystem::path& path);

  // Thread-safe.
  bool Find(const ContentHash& key, BlockErrors* errors) const;
  // Thread-safe. Failing to write (a full disk) does not fail the measurement: the record is then
  // remembered in memory only, and `complete` becomes false.
  void Add(const ContentHash& key, const BlockErrors& errors);

  bool complete() const { return complete_; }
  size_t size() const { return records_.size(); }

 private:
  struct KeyHash {
    size_t operator()(const ContentHash& key) const;
  };

  explicit RateCache(File file);
  Status Load();

  mutable std::mutex mutex_;
  File file_;
  uint64_t end_ = 0;
  bool writable_ = false;
  bool complete_ = true;
  std::unordered_map<ContentHash, BlockErrors, KeyHash> records_;
};

// $RAM_CACHE, else $XDG_CACHE_HOME/ram, else ~/.cache/ram: the file measurements.cache in it.
// Empty if there is no home.
std::filesystem::path DefaultRateCachePath();

}  // namespace ram
