#include "ram/device/machine.h"

#include <fmt/format.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <iterator>
#include <thread>

#ifdef __APPLE__
#include <mach/mach.h>
#include <sys/sysctl.h>
#else
#include <sched.h>
#endif

#include "ram/base/bytes.h"

namespace ram {
namespace machine_detail {

std::optional<uint64_t> MemInfoBytes(std::string_view meminfo, std::string_view key) {
  for (size_t at = 0; at < meminfo.size();) {
    const size_t end = std::min(meminfo.find('\n', at), meminfo.size());
    std::string_view line = meminfo.substr(at, end - at);
    at = end + 1;
    if (!line.starts_with(key) || line.substr(key.size()).substr(0, 1) != ":") continue;
    line.remove_prefix(std::min(line.find_first_of("0123456789"), line.size()));
    uint64_t kibibytes = 0;
    const auto parsed = std::from_chars(line.data(), line.data() + line.size(), kibibytes);
    if (parsed.ec != std::errc{}) return std::nullopt;
    return CheckedMul(kibibytes, kKiB);
  }
  return std::nullopt;
}

std::optional<uint64_t> CgroupLimitBytes(std::string_view text) {
  uint64_t bytes = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), bytes);
  // Version 1 says "no limit" with the largest whole number of pages.
  if (parsed.ec != std::errc{} || bytes >= uint64_t{1} << 60) return std::nullopt;
  return bytes;
}

std::optional<size_t> CgroupCores(std::string_view text) {
  uint64_t quota = 0;
  uint64_t period = 0;
  const char* const end = text.data() + text.size();
  const auto first = std::from_chars(text.data(), end, quota);
  if (first.ec != std::errc{} || first.ptr == end) return std::nullopt;
  const auto second = std::from_chars(first.ptr + 1, end, period);
  if (second.ec != std::errc{} || period == 0 || quota == 0) return std::nullopt;
  return static_cast<size_t>(quota / period + (quota % period != 0 ? 1 : 0));
}

std::string CpuName(std::string_view cpuinfo) {
  size_t at = cpuinfo.find("model name");
  if (at == std::string_view::npos) return "";
  at = cpuinfo.find(':', at);
  if (at == std::string_view::npos) return "";
  const size_t end = std::min(cpuinfo.find('\n', at), cpuinfo.size());
  std::string name;
  for (const char c : cpuinfo.substr(at + 1, end - at - 1)) {
    if (c != ' ' || (!name.empty() && name.back() != ' ')) name += c;
  }
  while (!name.empty() && name.back() == ' ') name.pop_back();
  return name;
}

}  // namespace machine_detail

namespace {

std::vector<std::string> InstructionSets() {
  std::vector<std::string> sets;
#if defined(__x86_64__) || defined(__i386__)
  __builtin_cpu_init();
#define RAM_IF_SUPPORTED(name) \
  if (__builtin_cpu_supports(name) != 0) sets.emplace_back(name)
  RAM_IF_SUPPORTED("sse4.2");
  RAM_IF_SUPPORTED("avx2");
  RAM_IF_SUPPORTED("fma");
  RAM_IF_SUPPORTED("avx512f");
  RAM_IF_SUPPORTED("avx512bw");
  RAM_IF_SUPPORTED("avx512vbmi");
  RAM_IF_SUPPORTED("avx512vnni");
  RAM_IF_SUPPORTED("avx512bf16");
#undef RAM_IF_SUPPORTED
#elif defined(__aarch64__)
  sets.emplace_back("neon");
#if defined(__ARM_FEATURE_SVE)
  sets.emplace_back("sve");
#endif
#endif
  return sets;
}

#ifdef __APPLE__

std::optional<uint64_t> SysctlNumber(const char* name) {
  uint64_t value = 0;  // Little-endian: holds 4 bytes as well as 8.
  size_t size = sizeof(value);
  if (sysctlbyname(name, &value, &size, nullptr, 0) != 0) return std::nullopt;
  return value;
}

std::string SysctlText(const char* name) {
  char text[256] = {};
  size_t size = sizeof(text) - 1;
  if (sysctlbyname(name, text, &size, nullptr, 0) != 0) return "";
  return text;
}

void ProbeSystem(Machine* machine) {
  machine->system = "macOS";
  if (const std::string release = SysctlText("kern.osproductversion"); !release.empty()) {
    machine->system_release = release;
  }
  machine->cpu = SysctlText("machdep.cpu.brand_string");
  machine->physical_bytes = SysctlNumber("hw.memsize").value_or(0);
  machine->memory_bytes = machine->physical_bytes;
  if (const auto limit = SysctlNumber("iogpu.wired_limit_mb"); limit && *limit > 0) {
    machine->wired_limit_bytes = CheckedMul(*limit, kMiB);
  }
  vm_statistics64_data_t statistics;
  mach_msg_type_number_t count = HOST_VM_INFO64_COUNT;
  if (host_statistics64(mach_host_self(), HOST_VM_INFO64,
                        reinterpret_cast<host_info64_t>(&statistics), &count) == KERN_SUCCESS) {
    const uint64_t pages =
        uint64_t{statistics.free_count} + statistics.inactive_count + statistics.purgeable_count;
    machine->available_bytes = pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  }
}

#else

// Files of /proc and /sys have no size to ask for.
std::string ReadSystemFile(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(stream), {});
}

// Directory of this process's cgroup below the mount, e.g. "/user.slice/a.scope"; "/" in
// containers.
std::string CgroupOf(std::string_view controller) {
  const std::string text = ReadSystemFile("/proc/self/cgroup");
  std::string_view rest = text;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    const size_t first = line.find(':');
    const size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    if (line.substr(first + 1, second - first - 1) == controller) {
      return std::string(line.substr(second + 1));
    }
  }
  return "";
}

// Calls `visit` with the directory of this process's cgroup and of every one above it.
template <typename Visit>
void ForEachCgroup(const std::string& mount, std::string_view controller, const Visit& visit) {
  std::string group = CgroupOf(controller);
  for (;;) {
    visit(std::filesystem::path(mount + group));
    const size_t slash = group.rfind('/');
    if (slash == std::string::npos) return;
    group.resize(slash);
  }
}

void LowerTo(const std::optional<uint64_t>& limit, uint64_t* value) {
  if (limit.has_value()) *value = std::min(*value, *limit);
}

// A group may take `limit` bytes and has taken some: lowers what is usable and what is free.
void ApplyMemoryLimit(const std::filesystem::path& limit_file,
                      const std::filesystem::path& usage_file, Machine* machine) {
  const auto limit = machine_detail::CgroupLimitBytes(ReadSystemFile(limit_file));
  if (!limit.has_value() || *limit == 0) return;
  LowerTo(limit, &machine->memory_bytes);
  const auto used = machine_detail::CgroupLimitBytes(ReadSystemFile(usage_file));
  if (used.has_value()) LowerTo(*limit - std::min(*used, *limit), &machine->available_bytes);
}

void ProbeSystem(Machine* machine) {
  machine->system = "Linux";
  const std::string meminfo = ReadSystemFile("/proc/meminfo");
  machine->physical_bytes = machine_detail::MemInfoBytes(meminfo, "MemTotal").value_or(0);
  if (machine->physical_bytes == 0) {
    const long pages = sysconf(_SC_PHYS_PAGES);
    const long page_bytes = sysconf(_SC_PAGESIZE);
    if (pages > 0 && page_bytes > 0) {
      machine->physical_bytes = static_cast<uint64_t>(pages) * static_cast<uint64_t>(page_bytes);
    }
  }
  machine->memory_bytes = machine->physical_bytes;
  machine->available_bytes = machine_detail::MemInfoBytes(meminfo, "MemAvailable").value_or(0);
  machine->cpu = machine_detail::CpuName(ReadSystemFile("/proc/cpuinfo"));

  ForEachCgroup("/sys/fs/cgroup", "", [&](const std::filesystem::path& group) {  // Version 2.
    ApplyMemoryLimit(group / "memory.max", group / "memory.current", machine);
    const auto cores = machine_detail::CgroupCores(ReadSystemFile(group / "cpu.max"));
    if (cores.has_value()) machine->cores = std::min(machine->cores, std::max<size_t>(1, *cores));
  });
  ForEachCgroup("/sys/fs/cgroup/memory", "memory", [&](const std::filesystem::path& group) {
    ApplyMemoryLimit(group / "memory.limit_in_bytes", group / "memory.usage_in_bytes", machine);
  });
}

#endif

}  // namespace

Machine ProbeMachine() {
  Machine machine;
  machine.cores = std::max<size_t>(1, std::thread::hardware_concurrency());
#ifdef __linux__
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0) {
    machine.cores = static_cast<size_t>(CPU_COUNT(&set));
  }
#endif
  utsname names = {};
  if (uname(&names) == 0) machine.system_release = names.release;
  ProbeSystem(&machine);
  machine.instruction_sets = InstructionSets();
  return machine;
}

Result<uint64_t> FreeDiskBytes(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::path existing = std::filesystem::absolute(path, error);
  while (!std::filesystem::exists(existing, error) && existing.has_relative_path()) {
    existing = existing.parent_path();
  }
  struct statvfs status = {};
  if (statvfs(existing.c_str(), &status) != 0) {
    return Error{ErrorCode::kIo, fmt::format("{}: free space of its disk cannot be read: {}",
                                             existing.string(), std::strerror(errno))};
  }
  return static_cast<uint64_t>(status.f_bavail) * static_cast<uint64_t>(status.f_frsize);
}

}  // namespace ram
