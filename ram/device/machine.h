#pragma once

// The machine that ram runs on.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ram/base/result.h"

namespace ram {

struct Machine {
  std::string system;          // "Linux", "macOS"
  std::string system_release;  // "6.1.0"; may be empty.
  std::string cpu;             // "Apple M2", "AMD EPYC 9R14"; may be empty.
  size_t cores = 1;            // That this process may use: affinity and CPU quota respected.
  uint64_t memory_bytes = 0;   // That this process may use: the container's limit, if it has one.
  uint64_t physical_bytes = 0;
  uint64_t available_bytes = 0;               // Without pushing others out; 0: unknown.
  std::optional<uint64_t> wired_limit_bytes;  // macOS, where iogpu.wired_limit_mb was raised.
  // Of those that matter to ram's kernels, weakest first: "avx2", "avx512f", ..., "neon".
  std::vector<std::string> instruction_sets;
};

// Never fails: what the system does not say stays empty or 0.
Machine ProbeMachine();

// What this user may still write to the file system of `path`, or of its nearest parent that
// exists. kIo names the path and the system's reason.
Result<uint64_t> FreeDiskBytes(const std::filesystem::path& path);

// Parsers of what Linux says, apart for tests.
namespace machine_detail {
// Bytes of "MemAvailable:  123 kB" for key "MemAvailable".
std::optional<uint64_t> MemInfoBytes(std::string_view meminfo, std::string_view key);
// The limit in a cgroup's memory.max ("max" and the huge number of version 1: none).
std::optional<uint64_t> CgroupLimitBytes(std::string_view text);
// Cores of cpu.max: "150000 100000" -> 2 (rounded up), "max 100000" -> none.
std::optional<size_t> CgroupCores(std::string_view text);
// "model name : X" of /proc/cpuinfo, without runs of spaces.
std::string CpuName(std::string_view cpuinfo);
}  // namespace machine_detail

}  // namespace ram
