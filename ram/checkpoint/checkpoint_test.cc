#include "ram/checkpoint/checkpoint.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "ram/checkpoint/testing.h"

namespace ram {
namespace {

namespace fs = std::filesystem;
using ::testing::IsSubstring;

TensorWithBytes Bytes(const std::string& name, std::vector<uint8_t> bytes) {
  const uint64_t num_bytes = bytes.size();
  return {{name, Dtype::kU8, {num_bytes}}, std::move(bytes)};
}

constexpr const char* kFirst = "model-00001-of-00002.safetensors";
constexpr const char* kSecond = "model-00002-of-00002.safetensors";

// A model directory: config.json and what the test adds.
class CheckpointTest : public ::testing::Test {
 protected:
  CheckpointTest() : directory_("checkpoint") { WriteText(Path("config.json"), "{}"); }

  const fs::path& directory() const { return directory_.path(); }
  fs::path Path(const std::string& name) const { return directory() / name; }

  // Tensors a and b in the first file, c in the second, and the index that says so.
  void WriteTwoShards() {
    WriteSafetensors(Path(kFirst), {Bytes("b", {2, 3}), Bytes("a", {1})});
    WriteSafetensors(Path(kSecond), {Bytes("c", {4, 5, 6})});
    WriteIndex({{"a", kFirst}, {"b", kFirst}, {"c", kSecond}});
  }

  void WriteIndex(const Json& weight_map) {
    WriteText(Path("model.safetensors.index.json"),
              Json{{"metadata", {{"total_size", 6}}}, {"weight_map", weight_map}}.dump());
  }

  // The message and the code of the error that Open gives.
  std::string OpenError(ErrorCode expected) {
    const auto checkpoint = Checkpoint::Open(directory());
    if (checkpoint) return "no error";
    EXPECT_EQ(checkpoint.error().code, expected) << checkpoint.error().message;
    EXPECT_PRED_FORMAT2(IsSubstring, directory().string(), checkpoint.error().message);
    return checkpoint.error().message;
  }
  void ExpectOpenError(ErrorCode code, const std::string& part) {
    EXPECT_PRED_FORMAT2(IsSubstring, part, OpenError(code));
  }

  std::vector<std::string> ShardNames() {
    std::vector<std::string> names;
    const auto checkpoint = Checkpoint::Open(directory());
    EXPECT_TRUE(checkpoint) << checkpoint.error().message;
    if (!checkpoint) return names;
    for (const File& shard : checkpoint->shards()) names.push_back(shard.path().filename());
    return names;
  }

 private:
  TempDirectory directory_;
};

using Names = std::vector<std::string>;

TEST_F(CheckpointTest, OneFile) {
  WriteText(Path("config.json"), R"({"model_type":"qwen3"})");
  WriteSafetensors(Path("model.safetensors"), {Bytes("layers.2", {2}), Bytes("layers.10", {10}),
                                               Bytes("a", {1, 2, 3}), Bytes("Z", {})});
  const auto checkpoint = Checkpoint::Open(directory());
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;
  EXPECT_EQ(checkpoint->directory(), directory());
  EXPECT_EQ(checkpoint->config().at("model_type"), "qwen3");
  EXPECT_EQ(checkpoint->file_bytes(), fs::file_size(Path("model.safetensors")));
  Names names;
  for (const TensorInfo& tensor : checkpoint->tensors()) names.push_back(tensor.name);
  EXPECT_EQ(names, (Names{"Z", "a", "layers.10", "layers.2"}));
  for (const TensorInfo& tensor : checkpoint->tensors()) {
    EXPECT_EQ(checkpoint->Find(tensor.name), &tensor);
  }
  EXPECT_EQ(checkpoint->Find("layers.1"), nullptr);
  EXPECT_EQ(checkpoint->Find("zzz"), nullptr);
  EXPECT_EQ(checkpoint->Find(""), nullptr);
}

TEST_F(CheckpointTest, ShardsAndIndex) {
  WriteTwoShards();
  const auto checkpoint = Checkpoint::Open(directory());
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;
  ASSERT_EQ(checkpoint->tensors().size(), 3u);
  EXPECT_EQ(checkpoint->file_bytes(), fs::file_size(Path(kFirst)) + fs::file_size(Path(kSecond)));
  uint8_t next = 1;
  for (const TensorInfo& tensor : checkpoint->tensors()) {
    std::vector<uint8_t> bytes(tensor.num_bytes);
    ASSERT_TRUE(checkpoint->Read(tensor, 0, bytes));
    for (const uint8_t byte : bytes) EXPECT_EQ(byte, next++);
  }
}

TEST_F(CheckpointTest, ReadsPieces) {
  WriteSafetensors(Path("model.safetensors"), {Bytes("x", {9, 9}), Bytes("y", {1, 2, 3, 4, 5})});
  const auto checkpoint = Checkpoint::Open(directory());
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;
  const TensorInfo& tensor = *checkpoint->Find("y");
  for (size_t begin = 0; begin <= 5; ++begin) {
    for (size_t end = begin; end <= 5; ++end) {
      std::vector<uint8_t> piece(end - begin);
      ASSERT_TRUE(checkpoint->Read(tensor, begin, piece));
      for (size_t i = 0; i < piece.size(); ++i) EXPECT_EQ(piece[i], begin + i + 1);
    }
  }
  std::vector<uint8_t> byte(1);
  EXPECT_DEATH((void)checkpoint->Read(tensor, 5, byte), "RAM_CHECK");
  EXPECT_DEATH((void)checkpoint->Read(tensor, UINT64_MAX, byte), "RAM_CHECK");
}

// Headers are not padded by every writer, so data may lie anywhere (trap 15).
TEST_F(CheckpointTest, ReadsDataAtOddOffsets) {
  for (int padding = 0; padding < 4; ++padding) {
    const std::string header = R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                               R"("b":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}})" +
                               std::string(static_cast<size_t>(padding), ' ');
    std::string contents(8, '\0');
    contents[0] = static_cast<char>(header.size());
    contents += header + 'a';
    const float values[2] = {1.5f, -2.25f};
    contents.append(reinterpret_cast<const char*>(values), sizeof(values));
    WriteText(Path("model.safetensors"), contents);

    const auto checkpoint = Checkpoint::Open(directory());
    ASSERT_TRUE(checkpoint) << checkpoint.error().message;
    const TensorInfo& tensor = *checkpoint->Find("b");
    EXPECT_EQ(tensor.offset, 8 + header.size() + 1);
    std::vector<uint8_t> bytes(tensor.num_bytes);
    ASSERT_TRUE(checkpoint->Read(tensor, 0, bytes));
    EXPECT_EQ(std::memcmp(bytes.data(), values, sizeof(values)), 0);
  }
}

TEST_F(CheckpointTest, FileThatShrinksWhileOpen) {
  WriteSafetensors(Path("model.safetensors"), {Bytes("x", {1, 2, 3})});
  const auto checkpoint = Checkpoint::Open(directory());
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;
  fs::resize_file(Path("model.safetensors"), checkpoint->file_bytes() - 1);
  std::vector<uint8_t> bytes(3);
  const Status read = checkpoint->Read(*checkpoint->Find("x"), 0, bytes);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, ErrorCode::kCorrupt);
  EXPECT_PRED_FORMAT2(IsSubstring, "(in tensor x)", read.error().message);
}

TEST_F(CheckpointTest, ChoosesFiles) {
  WriteSafetensors(Path("other.safetensors"), {Bytes("x", {1})});
  WriteText(Path("._hidden.safetensors"), "not ours");
  WriteText(Path("notes.txt"), "");
  EXPECT_EQ(ShardNames(), Names{"other.safetensors"});
  WriteSafetensors(Path(kSecond), {Bytes("y", {1})});
  WriteSafetensors(Path(kFirst), {Bytes("z", {1})});
  EXPECT_EQ(ShardNames(), (Names{kFirst, kSecond}));
  WriteSafetensors(Path("model.safetensors"), {Bytes("x", {1})});
  EXPECT_EQ(ShardNames(), Names{"model.safetensors"});
  WriteIndex({{"y", kSecond}});
  fs::remove(Path(kFirst));
  EXPECT_EQ(ShardNames(), Names{kSecond});  // The index decides, not the numbers in the name.
  WriteIndex({{"x", "other.safetensors"}});
  EXPECT_EQ(ShardNames(), Names{"other.safetensors"});
}

TEST_F(CheckpointTest, ListsMissingShards) {
  WriteTwoShards();
  fs::remove(Path(kSecond));
  ExpectOpenError(ErrorCode::kNotFound, std::string("1 of 2 files are missing: ") + kSecond);
  fs::remove(Path(kFirst));
  ExpectOpenError(ErrorCode::kNotFound,
                  std::string("2 of 2 files are missing: ") + kFirst + ", " + kSecond);
  // As an unfinished download in the hub's cache leaves it.
  fs::create_symlink("../blobs/none", Path(kFirst));
  ExpectOpenError(ErrorCode::kNotFound, "2 of 2 files are missing");
}

TEST_F(CheckpointTest, ListsMissingShardsWithoutAnIndex) {
  WriteSafetensors(Path("model-00007-of-00012.safetensors"), {Bytes("x", {1})});
  ExpectOpenError(ErrorCode::kNotFound,
                  "11 of 12 files are missing: model-00001-of-00012.safetensors, ");
  ExpectOpenError(ErrorCode::kNotFound, "model-00009-of-00012.safetensors and 3 more");
}

TEST_F(CheckpointTest, NumbersThatMeanNoSeries) {
  const Names names = {"model-00001-of-2.safetensors",     "model-0001-of-00002.safetensors",
                       "model-x0001-of-00002.safetensors", "model-00001-of-0000x.safetensors",
                       "model_00001-of-00002.safetensors", "model-00001-or-00002.safetensors"};
  for (size_t i = 0; i < names.size(); ++i) {
    WriteSafetensors(Path(names[i]), {Bytes(std::to_string(i), {1})});
  }
  EXPECT_EQ(ShardNames().size(), names.size());
}

TEST_F(CheckpointTest, ListsLfsPointers) {
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
  WriteTwoShards();
  WriteText(Path(kSecond), pointer);
  ExpectOpenError(ErrorCode::kCorrupt,
                  std::string("1 of 2 files, ") + kSecond + ": is a Git LFS pointer");
  WriteText(Path(kFirst), pointer);
  ExpectOpenError(ErrorCode::kCorrupt, "2 of 2 files");
  WriteText(Path("model.safetensors.index.json"), pointer);
  ExpectOpenError(ErrorCode::kCorrupt, "index.json: is a Git LFS pointer");
  WriteText(Path("config.json"), pointer);
  ExpectOpenError(ErrorCode::kCorrupt, "config.json: is a Git LFS pointer");
}

TEST_F(CheckpointTest, TensorInTwoFiles) {
  WriteTwoShards();
  WriteSafetensors(Path(kSecond), {Bytes("c", {4, 5, 6}), Bytes("a", {7})});
  const std::string expected =
      std::string("tensor a is in two files, ") + kFirst + " and " + kSecond;
  ExpectOpenError(ErrorCode::kCorrupt, expected);
  fs::remove(Path("model.safetensors.index.json"));
  ExpectOpenError(ErrorCode::kCorrupt, expected);
}

TEST_F(CheckpointTest, IndexMustAgreeWithTheFiles) {
  WriteTwoShards();
  WriteIndex({{"a", kFirst}, {"b", kFirst}, {"c", kSecond}, {"d", kSecond}, {"0", kFirst}});
  ExpectOpenError(ErrorCode::kCorrupt, std::string("names tensors that no file has: 0 (") + kFirst +
                                           "), d (" + kSecond + ")");
  WriteIndex({{"b", kFirst}, {"x", kSecond}});
  ExpectOpenError(ErrorCode::kCorrupt,
                  std::string("names tensors that no file has: x (") + kSecond);
  WriteIndex({{"a", kFirst}, {"b", kSecond}});
  ExpectOpenError(ErrorCode::kCorrupt,
                  std::string("lacks tensors that the files have: c (") + kSecond + ")");
  WriteIndex({{"a", kSecond}, {"b", kFirst}, {"c", kSecond}});
  ExpectOpenError(ErrorCode::kCorrupt, std::string("names the wrong file for tensors: a (") +
                                           kFirst + ", index says " + kSecond + ")");
}

TEST_F(CheckpointTest, StructureHash) {
  const auto hash = [&] {
    const auto checkpoint = Checkpoint::Open(directory());
    return checkpoint ? checkpoint->structure_hash() : checkpoint.error().message;
  };
  WriteTwoShards();
  const std::string two_shards = hash();
  // Of "{}\n", then lines like "\"a\" U8 [1]\n": changing it makes every stored table a stranger.
  EXPECT_EQ(two_shards, "46cdc19a18cd2f97e7b0f58f44ebef35f86bb016ec1fa3acc58be675401ea2a3");

  for (const char* name : {kFirst, kSecond, "model.safetensors.index.json"}) fs::remove(Path(name));
  const fs::path file = Path("model.safetensors");
  WriteText(Path("config.json"), " { } ");
  WriteSafetensors(file, {Bytes("c", {0, 0, 0}), Bytes("a", {0}), Bytes("b", {0, 0})});
  EXPECT_EQ(hash(), two_shards);

  Names others = {two_shards};
  WriteSafetensors(file, {Bytes("c", {0, 0, 0}), Bytes("a", {0}), Bytes("B", {0, 0})});
  others.push_back(hash());
  WriteSafetensors(file, {Bytes("c", {0, 0, 0}), Bytes("a", {0}), Bytes("b", {0})});
  others.push_back(hash());
  WriteSafetensors(file,
                   {Bytes("c", {0, 0, 0}), Bytes("a", {0}), {{"b", Dtype::kI8, {2}}, {0, 0}}});
  others.push_back(hash());
  WriteText(Path("config.json"), R"({"a":1})");
  others.push_back(hash());
  std::sort(others.begin(), others.end());
  EXPECT_EQ(std::unique(others.begin(), others.end()), others.end());
}

TEST_F(CheckpointTest, Config) {
  WriteSafetensors(Path("model.safetensors"), {});
  EXPECT_TRUE(Checkpoint::Open(directory()));
  WriteText(Path("config.json"), "[]");
  ExpectOpenError(ErrorCode::kCorrupt, "config.json: expected an object");
  WriteText(Path("config.json"), "{");
  ExpectOpenError(ErrorCode::kCorrupt, "config.json: not JSON");
  fs::remove(Path("config.json"));
  ExpectOpenError(ErrorCode::kNotFound, "has no config.json");
}

TEST_F(CheckpointTest, NoSafetensors) {
  ExpectOpenError(ErrorCode::kNotFound, "has no .safetensors files");
  WriteText(Path("pytorch_model.bin"), "");
  ExpectOpenError(ErrorCode::kNotFound, "pytorch_model.bin is in another format");
  WriteText(Path("model.gguf"), "");
  ExpectOpenError(ErrorCode::kNotFound, "model.gguf is in another format");
}

TEST_F(CheckpointTest, NotADirectory) {
  WriteSafetensors(Path("model.safetensors"), {});
  const auto checkpoint = Checkpoint::Open(Path("model.safetensors"));
  ASSERT_FALSE(checkpoint);
  EXPECT_EQ(checkpoint.error().code, ErrorCode::kInvalidArgument);
  EXPECT_PRED_FORMAT2(IsSubstring, "is one file of a model", checkpoint.error().message);
  EXPECT_EQ(Checkpoint::Open(Path("none")).error().code, ErrorCode::kNotFound);
}

TEST_F(CheckpointTest, LenientConcernsTheFilesOnly) {
  WriteTwoShards();
  fs::resize_file(Path(kSecond), fs::file_size(Path(kSecond)) + 1);
  ExpectOpenError(ErrorCode::kCorrupt, "last tensor c ends at");
  EXPECT_TRUE(Checkpoint::Open(directory(), Strictness::kLenient));
  WriteIndex({{"a", kFirst}, {"b", kFirst}, {"c", kFirst}});
  EXPECT_FALSE(Checkpoint::Open(directory(), Strictness::kLenient));
}

}  // namespace
}  // namespace ram
