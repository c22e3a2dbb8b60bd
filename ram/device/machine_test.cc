#include "ram/device/machine.h"

#include <gtest/gtest.h>

#include "ram/base/bytes.h"

namespace ram {
namespace {

namespace fs = std::filesystem;

TEST(ProbeMachine, SaysSomethingPlausible) {
  const Machine machine = ProbeMachine();
  EXPECT_TRUE(machine.system == "Linux" || machine.system == "macOS");
  EXPECT_GE(machine.cores, 1u);
  EXPECT_GT(machine.memory_bytes, 64 * kMiB);
  EXPECT_LE(machine.memory_bytes, machine.physical_bytes);
  EXPECT_LE(machine.available_bytes, machine.physical_bytes);
#if defined(__x86_64__) || defined(__aarch64__)
  EXPECT_FALSE(machine.instruction_sets.empty());
#endif
}

TEST(FreeDiskBytes, LooksAtTheNearestParentThatExists) {
  const fs::path here = fs::temp_directory_path();
  const Result<uint64_t> direct = FreeDiskBytes(here);
  const Result<uint64_t> below = FreeDiskBytes(here / "no" / "such" / "directory");
  ASSERT_TRUE(direct.ok() && below.ok());
  EXPECT_GT(*direct, 0u);
  EXPECT_TRUE(FreeDiskBytes("relative/and/absent").ok());
}

TEST(MemInfoBytes, FindsWholeKeysOnly) {
  const std::string text =
      "MemTotal:       16384 kB\nMemFree:          100 kB\nMemAvailable:    8192 kB\n";
  EXPECT_EQ(machine_detail::MemInfoBytes(text, "MemTotal"), 16 * kMiB);
  EXPECT_EQ(machine_detail::MemInfoBytes(text, "MemAvailable"), 8 * kMiB);
  EXPECT_EQ(machine_detail::MemInfoBytes(text, "Mem"), std::nullopt);
  EXPECT_EQ(machine_detail::MemInfoBytes("MemTotal: many kB", "MemTotal"), std::nullopt);
  EXPECT_EQ(machine_detail::MemInfoBytes("MemTotal:", "MemTotal"), std::nullopt);
  EXPECT_EQ(machine_detail::MemInfoBytes("", "MemTotal"), std::nullopt);
}

TEST(Cgroups, KnowNoLimit) {
  EXPECT_EQ(machine_detail::CgroupLimitBytes("1073741824\n"), kGiB);
  EXPECT_EQ(machine_detail::CgroupLimitBytes("max\n"), std::nullopt);
  EXPECT_EQ(machine_detail::CgroupLimitBytes("9223372036854771712\n"), std::nullopt);
  EXPECT_EQ(machine_detail::CgroupLimitBytes(""), std::nullopt);
  EXPECT_EQ(machine_detail::CgroupCores("200000 100000\n"), 2u);
  EXPECT_EQ(machine_detail::CgroupCores("150000 100000\n"), 2u);
  EXPECT_EQ(machine_detail::CgroupCores("max 100000\n"), std::nullopt);
  EXPECT_EQ(machine_detail::CgroupCores("100000"), std::nullopt);
  EXPECT_EQ(machine_detail::CgroupCores("100000 0"), std::nullopt);
}

TEST(CpuName, LosesRunsOfBlanks) {
  EXPECT_EQ(machine_detail::CpuName("processor : 0\nmodel name\t:  Intel(R)  Xeon(R)   8481C \nx"),
            "Intel(R) Xeon(R) 8481C");
  EXPECT_EQ(machine_detail::CpuName("processor : 0\n"), "");
  EXPECT_EQ(machine_detail::CpuName("model name"), "");
}

}  // namespace
}  // namespace ram
