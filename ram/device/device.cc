#include "ram/device/device.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <vector>

#include "ram/base/bytes.h"

namespace ram {
namespace {

constexpr uint64_t kSmallMacBytes = 36 * kGiB;

// The limits of kinds, and why.
void ApplyRule(Device* device) {
  const uint64_t memory = device->memory_bytes;
  switch (device->kind) {
    case DeviceKind::kMac: {
      const bool is_small = memory <= kSmallMacBytes;
      device->usable_bytes = is_small ? memory / 3 * 2 : memory / 4 * 3;
      device->usable_why = fmt::format(
          "what macOS lets a GPU wire by default, about {} of memory; sudo sysctl "
          "iogpu.wired_limit_mb=... raises it",
          is_small ? "2/3" : "3/4");
      return;
    }
    case DeviceKind::kGpu: {
      const uint64_t reserve = std::min(memory / 16, kGiB);
      device->usable_bytes = memory - reserve;
      device->usable_why =
          fmt::format("all but {} for driver and display", FormatBytesShort(reserve));
      return;
    }
    case DeviceKind::kPc: {
      const uint64_t reserve = std::min(memory / 4, 4 * kGiB);
      device->usable_bytes = memory - reserve;
      device->usable_why = fmt::format("all but {} for the system", FormatBytesShort(reserve));
      return;
    }
  }
}

// Lower case; numbers are cut from the letters after them and "m4" is not: {"16", "gb", "m2",
// "air"}.
std::vector<std::string> Words(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  const auto end_word = [&] {
    if (!word.empty()) words.push_back(std::move(word));
    word.clear();
  };
  for (const char raw : text) {
    const auto c = static_cast<unsigned char>(raw);
    const bool is_digit = std::isdigit(c) != 0 || c == '.';
    if (!is_digit && std::isalpha(c) == 0) {
      if (std::isspace(c) == 0 && c != ',' && c != '-' && c != '_')
        word += raw;
      else
        end_word();
      continue;
    }
    const bool after_number = !word.empty() && std::isdigit(static_cast<unsigned char>(word[0]));
    if (after_number && !is_digit && std::isalpha(static_cast<unsigned char>(word.back())) == 0) {
      end_word();
    }
    word += static_cast<char>(std::tolower(c));
  }
  end_word();
  return words;
}

bool IsNumber(const std::string& word) { return std::isdigit(static_cast<unsigned char>(word[0])); }

std::optional<DeviceKind> KindOf(const std::string& word) {
  constexpr std::array<std::string_view, 4> kMacWords = {"mac", "macbook", "imac", "studio"};
  if (std::find(kMacWords.begin(), kMacWords.end(), word) != kMacWords.end()) {
    return DeviceKind::kMac;
  }
  if (word.size() == 2 && word[0] == 'm' && word[1] >= '1' && word[1] <= '9') {
    return DeviceKind::kMac;
  }
  if (word == "gpu") return DeviceKind::kGpu;
  if (word == "pc" || word == "linux") return DeviceKind::kPc;
  return std::nullopt;
}

bool MeansNothing(const std::string& word) {
  constexpr std::array<std::string_view, 13> kFillers = {"a",       "an",  "the",   "with",  "of",
                                                         "pro",     "max", "air",   "ultra", "mini",
                                                         "unified", "ram", "memory"};
  return std::find(kFillers.begin(), kFillers.end(), word) != kFillers.end();
}

}  // namespace

Result<Device> ParseDevice(std::string_view text) {
  const std::vector<std::string> words = Words(text);
  if (words.size() == 1 && words[0] == "this") return DeviceOf(ProbeMachine());

  const auto wrong = [&](const std::string& why) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("device \"{}\": {}; expected e.g. \"16GB Mac\", \"24GB GPU\", "
                             "\"64GB PC\", \"64GB Mac usable 56GB\" or \"this\"",
                             text, why)};
  };
  Device device;
  device.name = std::string(text);
  std::optional<DeviceKind> kind;
  std::optional<uint64_t> memory;
  std::optional<uint64_t> usable;
  bool usable_next = false;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (IsNumber(word)) {
      std::string unit = i + 1 < words.size() ? words[i + 1] : "";
      if (unit.size() == 2 && unit[1] == 'b') unit.insert(1, "i");  // "gb" -> "gib"
      if (unit != "mib" && unit != "gib" && unit != "tib") {
        return wrong(fmt::format("{} has no unit (GB, GiB)", word));
      }
      const Result<uint64_t> bytes = ParseBytes(word + unit);
      if (!bytes) return wrong(fmt::format("{} {} is not a size", word, words[i + 1]));
      std::optional<uint64_t>& size = usable_next ? usable : memory;
      if (size.has_value()) return wrong("it has two sizes");
      size = *bytes;
      usable_next = false;
      ++i;
    } else if (word == "usable" || word == "wired") {
      usable_next = true;
    } else if (const std::optional<DeviceKind> named = KindOf(word)) {
      if (kind.has_value() && kind != named) return wrong("it is two kinds of device at once");
      kind = named;
    } else if (!MeansNothing(word)) {
      return wrong(fmt::format("\"{}\" is not understood", word));
    }
  }
  if (!memory.has_value()) return wrong("it states no memory");
  if (usable_next) return wrong("a size must follow \"usable\"");
  if (*memory < 64 * kMiB) return wrong(fmt::format("{} are too few", FormatBytes(*memory)));
  device.memory_bytes = *memory;
  device.kind = kind.value_or(DeviceKind::kMac);
  ApplyRule(&device);
  if (usable.has_value()) {
    if (*usable > *memory) return wrong("more is usable than there is");
    device.usable_bytes = *usable;
    device.usable_why = "as stated";
  }
  return device;
}

Device DeviceOf(const Machine& machine) {
  Device device;
  device.name = "this machine";
  device.kind = machine.system == "macOS" ? DeviceKind::kMac : DeviceKind::kPc;
  device.memory_bytes = machine.memory_bytes;
  ApplyRule(&device);
  if (machine.wired_limit_bytes.has_value()) {
    device.usable_bytes = std::min(*machine.wired_limit_bytes, machine.memory_bytes);
    device.usable_why = "the limit that iogpu.wired_limit_mb sets";
  }
  return device;
}

}  // namespace ram
