#include "ram/checkpoint/safetensors.h"

#include <gtest/gtest.h>

#include "ram/checkpoint/testing.h"

namespace ram {
namespace {

TEST(Safetensors, RoundTrip) {
  const TempDirectory directory("safetensors");
  WriteSafetensors(directory.path() / "a.safetensors",
                   {{{"x", Dtype::kU8, {3}}, {1, 2, 3}}, {{"y", Dtype::kBF16, {}}, {4, 5}}});
  const auto file = File::OpenForReading(directory.path() / "a.safetensors");
  ASSERT_TRUE(file);
  const auto header = ReadSafetensorsHeader(*file);
  ASSERT_TRUE(header) << header.error().message;
  ASSERT_EQ(header->tensors.size(), 2u);
  EXPECT_EQ(header->tensors[1].offset % 64, 3u);
  EXPECT_EQ(header->metadata.at("format"), "mlx");
}

}  // namespace
}  // namespace ram
