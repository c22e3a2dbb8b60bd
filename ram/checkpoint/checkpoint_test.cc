#include "ram/checkpoint/checkpoint.h"

#include <gtest/gtest.h>

#include "ram/checkpoint/testing.h"

namespace ram {
namespace {

TEST(Checkpoint, Opens) {
  const TempDirectory directory("checkpoint");
  WriteText(directory.path() / "config.json", "{}");
  WriteSafetensors(directory.path() / "model.safetensors",
                   {{{"x", Dtype::kU8, {3}}, {1, 2, 3}}, {{"a", Dtype::kBF16, {}}, {4, 5}}});
  const auto checkpoint = Checkpoint::Open(directory.path());
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;
  ASSERT_NE(checkpoint->Find("a"), nullptr);
  EXPECT_EQ(checkpoint->Find("b"), nullptr);
}

}  // namespace
}  // namespace ram
