#include "ram/device/device.h"

#include <gtest/gtest.h>

#include "ram/base/bytes.h"

namespace ram {
namespace {

struct Good {
  const char* text;
  DeviceKind kind;
  uint64_t memory_bytes;
  uint64_t usable_bytes;
};

TEST(ParseDevice, ReadsWhatPeopleWrite) {
  const uint64_t mac16 = 16 * kGiB / 3 * 2;
  const Good cases[] = {
      {"16GB Mac", DeviceKind::kMac, 16 * kGiB, mac16},
      {"16GiB", DeviceKind::kMac, 16 * kGiB, mac16},
      {"16gb", DeviceKind::kMac, 16 * kGiB, mac16},
      {"mac 16 gb", DeviceKind::kMac, 16 * kGiB, mac16},
      {"M2 Air 8GB", DeviceKind::kMac, 8 * kGiB, 8 * kGiB / 3 * 2},
      {"MacBook Pro M4 Max, 36 GB RAM", DeviceKind::kMac, 36 * kGiB, 24 * kGiB},
      {"48GB Mac", DeviceKind::kMac, 48 * kGiB, 36 * kGiB},
      {"Mac Studio 512GB", DeviceKind::kMac, 512 * kGiB, 384 * kGiB},
      {"1.5TB mac", DeviceKind::kMac, 1536 * kGiB, 1152 * kGiB},
      {"24 GB GPU", DeviceKind::kGpu, 24 * kGiB, 23 * kGiB},
      {"8GB gpu", DeviceKind::kGpu, 8 * kGiB, 8 * kGiB - 512 * kMiB},
      {"64GB PC", DeviceKind::kPc, 64 * kGiB, 60 * kGiB},
      {"8GB linux", DeviceKind::kPc, 8 * kGiB, 6 * kGiB},
      {"64GB Mac usable 56GB", DeviceKind::kMac, 64 * kGiB, 56 * kGiB},
      {"64GB Mac, wired 57344MB", DeviceKind::kMac, 64 * kGiB, 56 * kGiB},
      {"usable 10GB 16GB", DeviceKind::kMac, 16 * kGiB, 10 * kGiB},
  };
  for (const Good& good : cases) {
    const Result<Device> device = ParseDevice(good.text);
    ASSERT_TRUE(device.ok()) << good.text << ": " << device.error().message;
    EXPECT_EQ(device->name, good.text);
    EXPECT_EQ(device->kind, good.kind) << good.text;
    EXPECT_EQ(device->memory_bytes, good.memory_bytes) << good.text;
    EXPECT_EQ(device->usable_bytes, good.usable_bytes) << good.text;
    EXPECT_FALSE(device->usable_why.empty());
  }
}

TEST(ParseDevice, NamesWhatItDoesNotUnderstand) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "it states no memory"},
      {"Mac", "it states no memory"},
      {"16", "16 has no unit (GB, GiB)"},
      {"16 Mac", "16 has no unit (GB, GiB)"},
      {"16G Mac", "16 has no unit (GB, GiB)"},
      {"16GB 32GB", "it has two sizes"},
      {"16GB toaster", "\"toaster\" is not understood"},
      {"16GB Mac GPU", "it is two kinds of device at once"},
      {"16GB usable", "a size must follow \"usable\""},
      {"16GB Mac usable 17GB", "more is usable than there is"},
      {"1MB Mac", "1.00 MiB (1.05 MB) are too few"},
      {"1.2.3GB Mac", "1.2.3 gb is not a size"},
      {"99999999999TB", "99999999999 tb is not a size"},
      {"16GB\x1b[31m", "16 has no unit"},
  };
  for (const auto& [text, why] : cases) {
    const Result<Device> device = ParseDevice(text);
    ASSERT_FALSE(device.ok()) << text;
    EXPECT_EQ(device.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(device.error().message.find(why), std::string::npos) << device.error().message;
    EXPECT_NE(device.error().message.find("expected e.g. \"16GB Mac\""), std::string::npos);
  }
}

TEST(ParseDevice, ThisIsTheMachine) {
  const Result<Device> device = ParseDevice("this");
  ASSERT_TRUE(device.ok());
  EXPECT_EQ(device->memory_bytes, ProbeMachine().memory_bytes);
  EXPECT_LT(device->usable_bytes, device->memory_bytes);
}

TEST(DeviceOf, ARaisedWiredLimitWins) {
  Machine machine;
  machine.system = "macOS";
  machine.memory_bytes = 64 * kGiB;
  EXPECT_EQ(DeviceOf(machine).usable_bytes, 48 * kGiB);
  machine.wired_limit_bytes = 58 * kGiB;
  EXPECT_EQ(DeviceOf(machine).usable_bytes, 58 * kGiB);
  EXPECT_EQ(DeviceOf(machine).usable_why, "the limit that iogpu.wired_limit_mb sets");
  machine.wired_limit_bytes = 100 * kGiB;
  EXPECT_EQ(DeviceOf(machine).usable_bytes, 64 * kGiB);
}

}  // namespace
}  // namespace ram
