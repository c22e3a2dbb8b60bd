// Where the tools of the Hugging Face hub keep what they downloaded:
//   CACHE/models--OWNER--NAME/refs/REVISION        a text: the commit that a branch or tag means
//   CACHE/models--OWNER--NAME/snapshots/COMMIT/    the files, as links to ../../blobs/
// Source: "Manage huggingface_hub cache-system" in the documentation of huggingface_hub.

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <system_error>

#include "ram/base/file.h"
#include "ram/checkpoint/checkpoint.h"
#include "ram/checkpoint/model_files.h"
#include "ram/checkpoint/text.h"

namespace ram {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxRefBytes = 4096;

bool IsDirectory(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

// A part of an owner's, model's or revision's name: nothing that a path would read otherwise.
bool IsPlainName(std::string_view name) {
  const auto is_plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  };
  return !name.empty() && name.front() != '.' && std::all_of(name.begin(), name.end(), is_plain);
}

// Branches may be named "a/b".
bool IsRevision(std::string_view name) {
  while (true) {
    const size_t slash = name.find('/');
    if (!IsPlainName(name.substr(0, slash))) return false;
    if (slash == name.npos) return true;
    name.remove_prefix(slash + 1);
  }
}

// Value of an environment variable with a leading "~/" replaced; empty if it is not set.
fs::path PathFromEnvironment(const char* variable) {
  const char* value = std::getenv(variable);
  if (value == nullptr) return {};
  const std::string_view text = value;
  const char* home = std::getenv("HOME");
  if (text.starts_with("~/") && home != nullptr) return fs::path(home) / text.substr(2);
  return text;
}

// Empty if not even $HOME is set.
fs::path HubCache() {
  if (const fs::path cache = PathFromEnvironment("HF_HUB_CACHE"); !cache.empty()) return cache;
  if (const fs::path home = PathFromEnvironment("HF_HOME"); !home.empty()) return home / "hub";
  if (const fs::path cache = PathFromEnvironment("XDG_CACHE_HOME"); !cache.empty()) {
    return cache / "huggingface" / "hub";
  }
  const fs::path home = PathFromEnvironment("HOME");
  return home.empty() ? fs::path() : home / ".cache" / "huggingface" / "hub";
}

// Directory of the commit that `revision` means, or nothing (an empty path) if it is not there.
Result<fs::path> FindSnapshot(const fs::path& model, const std::string& revision) {
  const fs::path ref = model / "refs" / revision;
  std::string commit = revision;
  std::error_code error;
  if (fs::is_regular_file(ref, error)) {
    RAM_ASSIGN_OR_RETURN(commit, ReadFile(ref, kMaxRefBytes));
    commit.erase(commit.find_last_not_of(" \r\n") + 1);
    if (!IsPlainName(commit)) {
      return Error{ErrorCode::kCorrupt,
                   fmt::format("{}: expected the name of a commit, found \"{}\"", ref.string(),
                               Shown(commit))};
    }
  }
  const fs::path snapshot = model / "snapshots" / commit;
  return IsDirectory(snapshot) ? snapshot : fs::path();
}

std::vector<std::string> ListSnapshots(const fs::path& model) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(model / "snapshots", error), end; !error && entry != end;
       entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

Result<fs::path> ResolveModel(std::string_view name) {
  const fs::path path = name;
  std::error_code error;
  if (fs::exists(path, error)) {
    RAM_RETURN_IF_ERROR(CheckModelDirectory(path));
    return path;
  }

  const size_t at = name.find('@');
  const std::string_view id = name.substr(0, at);
  const size_t slash = id.find('/');
  if (slash == id.npos || !IsPlainName(id.substr(0, slash)) || !IsPlainName(id.substr(slash + 1))) {
    return Error{ErrorCode::kNotFound,
                 fmt::format("\"{}\": no such directory; expected a model directory, or owner/name "
                             "of a model in the Hugging Face cache",
                             Shown(name))};
  }
  const std::string revision(at == name.npos ? "main" : name.substr(at + 1));
  if (!IsRevision(revision)) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("\"{}\": expected a branch, tag or commit after the @", Shown(name))};
  }
  const std::string download =
      fmt::format("\"hf download {}{}\" fetches it", id,
                  at == name.npos ? "" : fmt::format(" --revision {}", revision));

  const fs::path cache = HubCache();
  if (cache.empty()) {
    return Error{ErrorCode::kNotFound,
                 fmt::format("{}: no such directory, and no Hugging Face cache to look in: none of "
                             "HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME and HOME is set",
                             name)};
  }
  const fs::path model =
      cache / fmt::format("models--{}--{}", id.substr(0, slash), id.substr(slash + 1));
  if (!IsDirectory(model)) {
    return Error{ErrorCode::kNotFound,
                 fmt::format("{}: no such directory, and not in the Hugging Face cache {}; {}",
                             name, cache.string(), download)};
  }
  RAM_ASSIGN_OR_RETURN(const fs::path snapshot, FindSnapshot(model, revision));
  if (snapshot.empty()) {
    const std::vector<std::string> others = ListSnapshots(model);
    return Error{
        ErrorCode::kNotFound,
        fmt::format("{}: {} has no revision {}, only {}; {}", id, model.string(), revision,
                    others.empty() ? "an unfinished download" : ShownList(others), download)};
  }
  RAM_RETURN_IF_ERROR(CheckModelDirectory(snapshot));
  return snapshot;
}

}  // namespace ram
