#pragma once

// How long work tells its caller where it is, and how the caller stops it.

#include <atomic>
#include <cstdint>
#include <functional>
#include <string_view>

#include "ram/base/result.h"

namespace ram {

struct Progress {
  enum class Unit : uint8_t { kBytes, kTokens };

  std::string_view stage;  // "measure", "write", ...
  uint64_t done;
  uint64_t total;
  std::string_view item;  // What is being worked on, e.g. a module; may be empty.
  Unit unit = Unit::kBytes;
};

// Passed to every step that can take more than a second. Both parts are optional.
struct Watcher {
  // Called from one thread at a time, several times a second at most, if the step can help it.
  std::function<void(const Progress&)> report;
  // Set from anywhere (a signal handler) to make the step end soon with kCancelled.
  const std::atomic<bool>* cancelled = nullptr;

  void Report(const Progress& progress) const {
    if (report) report(progress);
  }
  // kCancelled once the flag is set.
  Status Check() const {
    if (cancelled != nullptr && cancelled->load(std::memory_order_relaxed)) {
      return Error{ErrorCode::kCancelled, "stopped on request; nothing was left behind"};
    }
    return Done{};
  }
};

}  // namespace ram
