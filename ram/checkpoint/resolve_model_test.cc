#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>

#include "ram/checkpoint/checkpoint.h"
#include "ram/checkpoint/testing.h"

namespace ram {
namespace {

namespace fs = std::filesystem;
using ::testing::IsSubstring;

// Sets an environment variable, or with null removes it, until the end of the scope.
class ScopedVariable {
 public:
  ScopedVariable(const char* name, const char* value) : name_(name) {
    if (const char* old = std::getenv(name); old != nullptr) old_ = old;
    Set(value);
  }
  ~ScopedVariable() { Set(old_ ? old_->c_str() : nullptr); }
  ScopedVariable(const ScopedVariable&) = delete;
  ScopedVariable& operator=(const ScopedVariable&) = delete;

 private:
  void Set(const char* value) {
    RAM_CHECK((value != nullptr ? ::setenv(name_, value, 1) : ::unsetenv(name_)) == 0);
  }

  const char* name_;
  std::optional<std::string> old_;
};

constexpr const char* kCommit = "0123456789abcdef0123456789abcdef01234567";

class ResolveModelTest : public ::testing::Test {
 protected:
  const fs::path& root() const { return root_.path(); }

  // A model in a cache as the hub's tools lay it out: the snapshot's files are links to blobs.
  void WriteCachedModel(const fs::path& cache, const std::string& commit = kCommit) {
    const fs::path model = cache / "models--owner--na.me";
    WriteText(model / "refs" / "main", commit + "\n");
    WriteText(model / "blobs" / "c0ffee", "{}");
    fs::create_directories(model / "snapshots" / commit);
    fs::create_symlink("../../blobs/c0ffee", model / "snapshots" / commit / "config.json");
  }

  void ExpectError(std::string_view name, ErrorCode code, const std::string& part) {
    const auto found = ResolveModel(name);
    ASSERT_FALSE(found) << *found;
    EXPECT_EQ(found.error().code, code) << found.error().message;
    EXPECT_PRED_FORMAT2(IsSubstring, part, found.error().message);
  }

 private:
  TempDirectory root_{"resolve"};
  ScopedVariable hub_cache_{"HF_HUB_CACHE", (root() / "hub").c_str()};
  ScopedVariable hf_home_{"HF_HOME", nullptr};
  ScopedVariable xdg_cache_home_{"XDG_CACHE_HOME", nullptr};
  ScopedVariable home_{"HOME", (root() / "home").c_str()};
};

TEST_F(ResolveModelTest, Directories) {
  ExpectError((root() / "none").string(), ErrorCode::kNotFound, "no such directory");
  ExpectError("", ErrorCode::kNotFound, "no such directory; expected a model directory");
  ExpectError(root().string(), ErrorCode::kNotFound, "has no config.json");
  WriteText(root() / "config.json", "{}");
  const auto found = ResolveModel(root().string());
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(*found, root());
}

TEST_F(ResolveModelTest, FilesGivenAsModels) {
  WriteText(root() / "a.safetensors", "");
  WriteText(root() / "a.gguf", "");
  ExpectError((root() / "a.safetensors").string(), ErrorCode::kInvalidArgument,
              "is one file of a model; expected the directory that holds a model's safetensors "
              "files and its config.json, e.g. " +
                  root().string());
  ExpectError((root() / "a.gguf").string(), ErrorCode::kInvalidArgument, "is a GGUF file");
}

TEST_F(ResolveModelTest, FindsModelsInTheCache) {
  WriteCachedModel(root() / "hub");
  const fs::path model = root() / "hub" / "models--owner--na.me";
  WriteText(model / "refs" / "pr" / "1", kCommit);
  for (const std::string name : {"owner/na.me", "owner/na.me@main", "owner/na.me@pr/1",
                                 "owner/na.me@0123456789abcdef0123456789abcdef01234567"}) {
    const auto found = ResolveModel(name);
    ASSERT_TRUE(found) << found.error().message;
    EXPECT_EQ(*found, model / "snapshots" / kCommit);
  }
}

TEST_F(ResolveModelTest, LooksWhereTheHubsToolsLook) {
  const ScopedVariable hub_cache("HF_HUB_CACHE", nullptr);
  const auto expect_in = [&](const fs::path& cache) {
    ExpectError("owner/na.me", ErrorCode::kNotFound, "cache " + cache.string() + "; \"hf download");
    WriteCachedModel(cache);
    const auto found = ResolveModel("owner/na.me");
    ASSERT_TRUE(found) << found.error().message;
    EXPECT_EQ(*found, cache / "models--owner--na.me" / "snapshots" / kCommit);
  };
  expect_in(root() / "home" / ".cache" / "huggingface" / "hub");
  const ScopedVariable xdg("XDG_CACHE_HOME", (root() / "xdg").c_str());
  expect_in(root() / "xdg" / "huggingface" / "hub");
  const ScopedVariable hf_home("HF_HOME", (root() / "hf").c_str());
  expect_in(root() / "hf" / "hub");
  const ScopedVariable tilde("HF_HUB_CACHE", "~/models");
  expect_in(root() / "home" / "models");
}

TEST_F(ResolveModelTest, NoHome) {
  const ScopedVariable hub_cache("HF_HUB_CACHE", nullptr);
  const ScopedVariable home("HOME", nullptr);
  ExpectError("owner/name", ErrorCode::kNotFound, "no Hugging Face cache to look in");
}

TEST_F(ResolveModelTest, SaysWhatIsMissingInTheCache) {
  ExpectError("owner/na.me", ErrorCode::kNotFound, "\"hf download owner/na.me\" fetches it");
  WriteCachedModel(root() / "hub");
  const fs::path model = root() / "hub" / "models--owner--na.me";
  ExpectError("owner/na.me@v2", ErrorCode::kNotFound,
              std::string("has no revision v2, only ") + kCommit +
                  "; \"hf download owner/na.me --revision v2\" fetches it");
  ExpectError(model.string(), ErrorCode::kInvalidArgument, "name the model as owner/name");
  fs::remove(model / "blobs" / "c0ffee");
  ExpectError("owner/na.me", ErrorCode::kNotFound, "has no config.json");
  fs::remove_all(model / "snapshots");
  ExpectError("owner/na.me", ErrorCode::kNotFound, "has no revision main, only an unfinished");
}

TEST_F(ResolveModelTest, NamesCannotLeaveTheCache) {
  WriteText(root() / "hub" / "secret" / "config.json", "{}");
  WriteCachedModel(root() / "hub");
  for (const std::string name : {"../secret", "owner/../secret", "owner/..", "a/b/c", "name", "-/",
                                 "owner/na me", "owner/\x1B[2J"}) {
    ExpectError(name, ErrorCode::kNotFound, "expected a model directory, or owner/name");
  }
  for (const std::string revision : {"", "..", "../..", "a//b", "/", "a/", "a\\b"}) {
    ExpectError("owner/na.me@" + revision, ErrorCode::kInvalidArgument,
                "expected a branch, tag or commit after the @");
  }
  WriteText(root() / "hub" / "models--owner--na.me" / "refs" / "main", "../../secret");
  ExpectError("owner/na.me", ErrorCode::kCorrupt,
              "expected the name of a commit, found \"../../secret\"");
}

}  // namespace
}  // namespace ram
