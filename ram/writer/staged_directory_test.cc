#include "ram/writer/staged_directory.h"

#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include "gtest/gtest.h"
#include "ram/checkpoint/testing.h"
#include "ram/writer/staged_file.h"

namespace ram {
namespace {

namespace fs = std::filesystem;

std::set<std::string> NamesIn(const fs::path& directory) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory)) {
    names.insert(entry.path().filename().string());
  }
  return names;
}

std::string Contents(const fs::path& path) {
  auto text = ReadFile(path, 1000);
  return text ? *text : "(" + text.error().message + ")";
}

Status WriteTwoFiles(const fs::path& target, bool overwrite, const std::string& text) {
  RAM_ASSIGN_OR_RETURN(StagedDirectory staged, StagedDirectory::Create(target, overwrite, 100));
  RAM_RETURN_IF_ERROR(staged.AddText("config.json", text));
  RAM_ASSIGN_OR_RETURN(File * file, staged.AddFile("weights", 6));
  RAM_RETURN_IF_ERROR(file->WriteAt(3, std::vector<uint8_t>{'d', 'e', 'f'}));
  RAM_RETURN_IF_ERROR(file->WriteAt(0, std::vector<uint8_t>{'a', 'b', 'c'}));
  return staged.Publish();
}

TEST(StagedDirectory, AppearsWhole) {
  const TempDirectory parent("staged");
  const fs::path target = parent.path() / "model";
  ASSERT_TRUE(WriteTwoFiles(target, /*overwrite=*/false, "one").ok());
  EXPECT_EQ(NamesIn(parent.path()), std::set<std::string>{"model"});
  EXPECT_EQ(NamesIn(target), (std::set<std::string>{"config.json", "weights"}));
  EXPECT_EQ(Contents(target / "weights"), "abcdef");
}

TEST(StagedDirectory, NothingRemainsOfWhatWasNotPublished) {
  const TempDirectory parent("staged_dropped");
  {
    auto staged = StagedDirectory::Create(parent.path() / "model", /*overwrite=*/false, 100);
    ASSERT_TRUE(staged.ok());
    ASSERT_TRUE(staged->AddText("config.json", "one").ok());
  }
  EXPECT_TRUE(NamesIn(parent.path()).empty());
}

TEST(StagedDirectory, RefusesToTouchWhatIsThere) {
  const TempDirectory parent("staged_exists");
  const fs::path target = parent.path() / "model";
  fs::create_directory(target);
  std::ofstream(target / "notes.txt") << "mine";
  const Status exists = WriteTwoFiles(target, /*overwrite=*/false, "one");
  EXPECT_EQ(exists.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(exists.error().message.find("exists already"), std::string::npos);
  const Status not_a_model = WriteTwoFiles(target, /*overwrite=*/true, "one");
  EXPECT_NE(not_a_model.error().message.find("not a model directory"), std::string::npos);
  EXPECT_EQ(Contents(target / "notes.txt"), "mine");
  const Status no_parent = WriteTwoFiles(parent.path() / "no" / "model", false, "one");
  EXPECT_EQ(no_parent.error().code, ErrorCode::kInvalidArgument);
}

TEST(StagedDirectory, ReplacesInOneStep) {
  const TempDirectory parent("staged_replace");
  const fs::path target = parent.path() / "model";
  ASSERT_TRUE(WriteTwoFiles(target, /*overwrite=*/false, "one").ok());
  std::ofstream(target / "model-stale.safetensors") << "stale";
  ASSERT_TRUE(WriteTwoFiles(target, /*overwrite=*/true, "two").ok());
  EXPECT_EQ(Contents(target / "config.json"), "two");
  EXPECT_EQ(NamesIn(target), (std::set<std::string>{"config.json", "weights"}));
  EXPECT_EQ(NamesIn(parent.path()), std::set<std::string>{"model"});
}

TEST(StagedDirectory, RemovesWhatAKilledRunLeft) {
  const TempDirectory parent("staged_stale");
  fs::create_directory(parent.path() / ".model.ram-partial");
  std::ofstream(parent.path() / ".model.ram-partial" / "weights") << "half";
  ASSERT_TRUE(WriteTwoFiles(parent.path() / "model", /*overwrite=*/false, "one").ok());
  EXPECT_EQ(NamesIn(parent.path()), std::set<std::string>{"model"});
}

TEST(StagedDirectory, SaysWhatIsMissingOnTheDisk) {
  const TempDirectory parent("staged_full");
  const auto staged =
      StagedDirectory::Create(parent.path() / "model", /*overwrite=*/false, uint64_t{1} << 60);
  ASSERT_FALSE(staged.ok());
  EXPECT_EQ(staged.error().code, ErrorCode::kNoSpace);
  EXPECT_NE(staged.error().message.find("are needed on its disk"), std::string::npos);
}

TEST(StagedFile, AppearsWholeOrNotAtAll) {
  const TempDirectory parent("staged_file");
  const fs::path target = parent.path() / "out.safetensors";
  {
    const auto dropped = StagedFile::Create(target, /*overwrite=*/false, 3);
    ASSERT_TRUE(dropped.ok());
  }
  EXPECT_TRUE(NamesIn(parent.path()).empty());
  for (const std::string text : {"one", "two"}) {
    auto staged = StagedFile::Create(target, /*overwrite=*/text == "two", 3);
    ASSERT_TRUE(staged.ok());
    ASSERT_TRUE(staged->file()
                    .WriteAt(0, std::span(reinterpret_cast<const uint8_t*>(text.data()), 3))
                    .ok());
    ASSERT_TRUE(staged->Publish().ok());
    EXPECT_EQ(Contents(target), text);
  }
  EXPECT_EQ(StagedFile::Create(target, /*overwrite=*/false, 3).error().code,
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(NamesIn(parent.path()), std::set<std::string>{"out.safetensors"});
}

}  // namespace
}  // namespace ram
