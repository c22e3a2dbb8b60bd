#include "ram/device/diagnosis.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "ram/base/bytes.h"

namespace ram {
namespace {

using Level = Finding::Level;

// A few MiB per thread while measuring and writing, the table and the search on top.
constexpr uint64_t kWorkingBytes = 400 * kMiB;
constexpr uint64_t kLittleDiskBytes = 4 * kGiB;

bool Has(const Machine& machine, const std::string& instruction_set) {
  const auto& sets = machine.instruction_sets;
  return std::find(sets.begin(), sets.end(), instruction_set) != sets.end();
}

double BitsPerWeight(uint64_t bytes, uint64_t num_weights) {
  return num_weights == 0 ? 0 : 8 * static_cast<double>(bytes) / static_cast<double>(num_weights);
}

std::string SizeWithBits(uint64_t bytes, const ModelSizes& model) {
  return fmt::format("{}, {:.2f} bits per weight", FormatBytes(bytes),
                     BitsPerWeight(bytes, model.num_weights));
}

// Bytes that compress leaves on the disk at most, for a model of `bytes`: everything else in the
// directory (tokenizer, rate table) is small beside the weights.
uint64_t DiskBytes(uint64_t bytes) { return bytes + bytes / 100 + 64 * kMiB; }

// The largest context (a multiple of 1,024) that leaves `bytes` for the weights; 0: none.
uint64_t LargestContext(const ModelSizes& model, const DoctorRequest& request, uint64_t bytes) {
  const auto fits = [&](uint64_t context) {
    const auto budget =
        BudgetForDevice({request.device, context, request.kv_bits, 1, 2048}, model.state);
    return budget.ok() && budget->budget_bytes >= bytes;
  };
  uint64_t low = 0;  // In 1,024 tokens.
  uint64_t high = request.context_tokens / 1024;
  while (low < high) {
    const uint64_t middle = low + (high - low + 1) / 2;
    if (fits(middle * 1024)) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low * 1024;
}

// Device memory that would do, as devices are sold.
std::string LargerDevice(const ModelSizes& model, DoctorRequest request) {
  for (const int gib : {8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512}) {
    const std::string kind = request.device.kind == DeviceKind::kMac   ? "Mac"
                             : request.device.kind == DeviceKind::kGpu ? "GPU"
                                                                       : "PC";
    const Result<Device> device = ParseDevice(fmt::format("{}GB {}", gib, kind));
    RAM_CHECK(device.ok());
    request.device = *device;
    const auto budget = BudgetForDevice(
        {request.device, request.context_tokens, request.kv_bits, 1, 2048}, model.state);
    if (budget.ok() && budget->budget_bytes >= model.smallest_bytes) return device->name;
  }
  return "";
}

Finding DiagnoseFit(const ModelSizes& model, const DoctorRequest& request) {
  const std::string context =
      fmt::format("{} tokens of context", FormatCount(request.context_tokens));
  const Result<DeviceBudget> budget = BudgetForDevice(
      {request.device, request.context_tokens, request.kv_bits, 1, 2048}, model.state);
  const uint64_t bytes = budget.ok() ? budget->budget_bytes : 0;
  if (bytes >= model.dense_bytes) {
    return {Level::kOk,
            fmt::format("fits {} uncompressed, with {}: up to {} are free for it",
                        request.device.name, context, FormatBytes(bytes)),
            ""};
  }
  if (bytes >= model.smallest_bytes) {
    const std::string what = fmt::format("fits {} with {}: the largest budget is {}",
                                         request.device.name, context, SizeWithBits(bytes, model));
    if (bytes >= model.uniform_bytes) return {Level::kOk, what, ""};
    const uint64_t shorter = LargestContext(model, request, model.uniform_bytes);
    return {Level::kWarning, what + ", less than uniform 4-bit",
            shorter == 0 ? "expect a visible loss of quality, or take a smaller model"
                         : fmt::format("with --context {} it would have {}", shorter,
                                       FormatBytes(model.uniform_bytes))};
  }
  const std::string what =
      budget.ok()
          ? fmt::format(
                "does not fit {} with {}: {} are free for it, the smallest "
                "version takes about {}",
                request.device.name, context, FormatBytes(bytes), FormatBytes(model.smallest_bytes))
          : budget.error().message;
  const uint64_t shorter = LargestContext(model, request, model.smallest_bytes);
  if (shorter != 0) return {Level::kProblem, what, fmt::format("pass --context {}", shorter)};
  const std::string larger = LargerDevice(model, request);
  return {Level::kProblem, what,
          larger.empty() ? "take a smaller model"
                         : fmt::format("take a smaller model, or a {}", larger)};
}

}  // namespace

std::string RoughDuration(double seconds) {
  if (!(seconds >= 0) || seconds > 1e9) return "unknown";
  if (seconds < 1) return "a second";
  if (seconds < 90) return fmt::format("{:.0f} s", seconds);
  const auto minutes = static_cast<uint64_t>(std::llround(seconds / 60));
  if (minutes < 90) return fmt::format("{} min", minutes);
  if (minutes < 10 * 60) return fmt::format("{} h {} min", minutes / 60, minutes % 60 / 10 * 10);
  return fmt::format("{:.0f} h", seconds / 3600);
}

std::vector<Finding> DiagnoseMachine(const Machine& machine, uint64_t free_disk_bytes) {
  std::vector<Finding> findings;
  const std::string limited =
      machine.memory_bytes < machine.physical_bytes
          ? fmt::format(" (a container's share of {})", FormatBytesShort(machine.physical_bytes))
          : "";
  findings.push_back(
      {Level::kOk,
       fmt::format("{}{}{}: {} core{}, {} of memory{}", machine.system,
                   machine.cpu.empty() ? "" : ", ", machine.cpu, machine.cores,
                   machine.cores == 1 ? "" : "s", FormatBytesShort(machine.memory_bytes), limited),
       ""});

  if (Has(machine, "avx512bw") || Has(machine, "avx2") || Has(machine, "neon")) {
    findings.push_back(
        {Level::kOk, fmt::format("instruction sets: {}", fmt::join(machine.instruction_sets, " ")),
         ""});
  } else {
    findings.push_back({Level::kWarning,
                        "neither AVX2 nor NEON: measuring takes several times as long",
                        "measure on another machine; the rate table can be copied"});
  }

  if (machine.available_bytes == 0) {
    findings.push_back({Level::kWarning, "free memory is unknown",
                        fmt::format("see that {} are free", FormatBytesShort(kWorkingBytes))});
  } else if (machine.available_bytes < kWorkingBytes) {
    findings.push_back(
        {Level::kProblem,
         fmt::format("{} of memory are free, compressing takes up to {}",
                     FormatBytesShort(machine.available_bytes), FormatBytesShort(kWorkingBytes)),
         "close other programs, or pass --threads 1"});
  } else {
    findings.push_back(
        {Level::kOk,
         fmt::format("{} of memory are free; compressing a model of any size takes "
                     "up to {}",
                     FormatBytesShort(machine.available_bytes), FormatBytesShort(kWorkingBytes)),
         ""});
  }

  if (free_disk_bytes < kLittleDiskBytes) {
    findings.push_back({Level::kWarning,
                        fmt::format("{} of disk are free here", FormatBytesShort(free_disk_bytes)),
                        "write elsewhere with -o, or free some"});
  } else {
    findings.push_back({Level::kOk,
                        fmt::format("{} of disk are free here", FormatBytesShort(free_disk_bytes)),
                        ""});
  }

  const Device device = DeviceOf(machine);
  findings.push_back({Level::kOk,
                      fmt::format("a model and its caches may take {} of it: {}",
                                  FormatBytes(device.usable_bytes), device.usable_why),
                      ""});
  return findings;
}

std::vector<Finding> DiagnoseModel(const ModelSizes& model, const DoctorRequest& request) {
  std::vector<Finding> findings;
  findings.push_back({Level::kOk,
                      fmt::format("{}: {} weights, {} in 16 bits", model.name,
                                  FormatCount(model.num_weights), FormatBytes(model.dense_bytes)),
                      ""});
  findings.push_back(
      {Level::kOk, fmt::format("uniform 4-bit: {}", SizeWithBits(model.uniform_bytes, model)), ""});
  findings.push_back({Level::kOk,
                      fmt::format("smallest: about {}; 2 bits rarely pass the floor of 9 dB, so "
                                  "every module is counted at 3",
                                  SizeWithBits(model.smallest_bytes, model)),
                      ""});
  if (model.state.max_context != 0 && request.context_tokens > model.state.max_context) {
    findings.push_back(
        {Level::kWarning,
         fmt::format("{} tokens of context are more than the model's {}",
                     FormatCount(request.context_tokens), FormatCount(model.state.max_context)),
         fmt::format("pass --context {}", model.state.max_context)});
  }
  findings.push_back(DiagnoseFit(model, request));

  // The largest model that one would write: what fits, at most the whole in 16 bits.
  const Result<DeviceBudget> budget = BudgetForDevice(
      {request.device, request.context_tokens, request.kv_bits, 1, 2048}, model.state);
  const uint64_t written_bytes =
      std::clamp(budget.ok() ? budget->budget_bytes : model.uniform_bytes, model.smallest_bytes,
                 std::max(model.smallest_bytes, model.dense_bytes));
  const uint64_t disk_bytes = DiskBytes(written_bytes);
  if (request.free_disk_bytes >= disk_bytes) {
    findings.push_back(
        {Level::kOk,
         fmt::format("disk: up to {} will be written, {} are free", FormatBytes(disk_bytes),
                     FormatBytesShort(request.free_disk_bytes)),
         ""});
  } else if (request.free_disk_bytes >= DiskBytes(model.smallest_bytes)) {
    findings.push_back(
        {Level::kWarning,
         fmt::format("disk: {} are free, the largest budget takes {}",
                     FormatBytesShort(request.free_disk_bytes), FormatBytes(disk_bytes)),
         "write to another disk with -o"});
  } else {
    findings.push_back({Level::kProblem,
                        fmt::format("disk: {} are free, even the smallest version takes {}",
                                    FormatBytesShort(request.free_disk_bytes),
                                    FormatBytes(DiskBytes(model.smallest_bytes))),
                        "write to another disk with -o"});
  }

  const double source = static_cast<double>(model.source_bytes);
  const double measure = source * request.measure_seconds_per_byte;
  const double write = source * request.write_seconds_per_byte;
  findings.push_back({Level::kOk,
                      fmt::format("time: about {} to measure (once), {} to write",
                                  RoughDuration(measure), RoughDuration(write)),
                      ""});
  return findings;
}

}  // namespace ram
