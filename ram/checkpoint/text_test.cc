#include "ram/checkpoint/text.h"

#include <gtest/gtest.h>

namespace ram {
namespace {

TEST(Text, ShowsNamesAsTheyAre) {
  EXPECT_EQ(Shown("model.layers.7.mlp.up_proj"), "model.layers.7.mlp.up_proj");
  EXPECT_EQ(Shown("\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80"),
            "\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80");
  EXPECT_EQ(Shown(""), "");
}

TEST(Text, ShowsWhatATerminalWouldObey) {
  EXPECT_EQ(Shown("a\x1B[2Jb\n\x7F"), "a\\x1B[2Jb\\x0A\\x7F");
  EXPECT_EQ(Shown("\xC2\x9B"), "\\xC2\\x9B");
  EXPECT_EQ(Shown("\xC2\xA0"), "\xC2\xA0");
  EXPECT_EQ(Shown("\xFF\xC3"), "\\xFF\\xC3");
  EXPECT_EQ(Shown("\xE2\x82"), "\\xE2\\x82");
  EXPECT_EQ(Shown(std::string_view("\0", 1)), "\\x00");
}

TEST(Text, CutsLongNames) {
  EXPECT_EQ(Shown(std::string(160, 'n')), std::string(160, 'n'));
  EXPECT_EQ(Shown(std::string(161, 'n')), std::string(160, 'n') + "...");
  std::string euros;
  for (int i = 0; i < 100; ++i) euros += "\xE2\x82\xAC";
  EXPECT_EQ(Shown(euros), euros.substr(0, 162) + "...");
}

TEST(Text, Lists) {
  EXPECT_EQ(ShownList({"a"}), "a");
  EXPECT_EQ(ShownList({"a", "b\n"}), "a, b\\x0A");
  EXPECT_EQ(ShownList(std::vector<std::string>(9, "x")), "x, x, x, x, x, x, x, x and 1 more");
}

TEST(Text, JsonStrings) {
  EXPECT_EQ(JsonString("a/b"), R"("a/b")");
  EXPECT_EQ(JsonString("\"\\\n\x1F\x7F"), "\"\\\"\\\\\\u000a\\u001f\x7F\"");
}

}  // namespace
}  // namespace ram
