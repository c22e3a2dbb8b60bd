#include "ram/checkpoint/shard_index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

namespace ram {
namespace {

using ::testing::IsSubstring;

// In a buffer of exactly its size, so that a read beyond it shows.
Result<ShardIndex> Parse(std::string_view text) {
  const auto exact = std::make_unique<char[]>(text.size());
  std::copy(text.begin(), text.end(), exact.get());
  return ParseShardIndex({exact.get(), text.size()}, "index");
}

constexpr std::string_view kIndex =
    R"({"metadata":{"total_size":1.5e10},"weight_map":)"
    R"({"b":"m-2.safetensors","a":"m-1.safetensors","c":"m-1.safetensors"}})";

TEST(ShardIndex, Reads) {
  const auto index = Parse(kIndex);
  ASSERT_TRUE(index) << index.error().message;
  EXPECT_EQ(index->files, (std::vector<std::string>{"m-1.safetensors", "m-2.safetensors"}));
  ASSERT_EQ(index->entries.size(), 3u);
  EXPECT_EQ(index->entries[0].tensor, "a");
  EXPECT_EQ(index->entries[1].tensor, "b");
  EXPECT_EQ(index->entries[1].file, 1u);
  EXPECT_EQ(index->entries[2].file, 0u);
}

TEST(ShardIndex, EveryTruncationIsAnError) {
  for (size_t size = 0; size < kIndex.size(); ++size) {
    EXPECT_FALSE(Parse(kIndex.substr(0, size))) << size;
  }
}

TEST(ShardIndex, FilesMustLieBesideTheIndex) {
  for (const std::string file :
       {"../m.safetensors", "/m.safetensors", "sub/m.safetensors", "sub\\\\m.safetensors", "..",
        ".", "", ".safetensors", ".hidden.safetensors", "m.bin", "m.safetensors/",
        "a\\u0000b.safetensors"}) {
    const auto index = Parse(R"({"weight_map":{"t":")" + file + "\"}}");
    ASSERT_FALSE(index) << file;
    EXPECT_EQ(index.error().code, ErrorCode::kCorrupt);
    EXPECT_PRED_FORMAT2(IsSubstring,
                        "index: weight_map of tensor t: expected the name of a .safetensors file",
                        index.error().message);
  }
}

TEST(ShardIndex, SaysWhatIsWrong) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "index: not JSON"},
      {"[]", "key \"weight_map\": expected an object"},
      {"{}", "key \"weight_map\": expected an object"},
      {R"({"weight_map":null})", "key \"weight_map\": expected an object"},
      {R"({"weight_map":[]})", "key \"weight_map\": expected an object"},
      {R"({"weight_map":{}})", "weight_map names no tensor"},
      {R"({"weight_map":{"t":1}})", "found number"},
      {R"({"weight_map":{"t":null}})", "found null"},
      {R"({"weight_map":{"t":"a.safetensors","t":"b.safetensors"}})", "key \"t\" appears twice"},
      {"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"},
  };
  for (const auto& [text, expected] : cases) {
    const auto index = Parse(text);
    ASSERT_FALSE(index) << text;
    EXPECT_EQ(index.error().code, ErrorCode::kCorrupt);
    EXPECT_PRED_FORMAT2(IsSubstring, expected, index.error().message);
  }
}

}  // namespace
}  // namespace ram
