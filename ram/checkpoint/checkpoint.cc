#include "ram/checkpoint/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>
#include <system_error>
#include <tuple>
#include <utility>

#include "ram/base/hash.h"
#include "ram/checkpoint/model_files.h"
#include "ram/checkpoint/shard_index.h"
#include "ram/checkpoint/text.h"

namespace ram {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxConfigBytes = 64 << 20;
constexpr uint64_t kMaxIndexBytes = 100'000'000;  // As for the header of a file.

Result<Json> ReadConfig(const fs::path& directory) {
  const fs::path path = directory / kConfigName;
  RAM_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxConfigBytes));
  if (IsLfsPointer(text)) return LfsPointerError(path.string());
  RAM_ASSIGN_OR_RETURN(Json config, ParseJson(text, path.string()));
  if (!config.is_object()) {
    return Error{ErrorCode::kCorrupt, fmt::format("{}: expected an object", path.string())};
  }
  return config;
}

Result<std::optional<ShardIndex>> ReadIndex(const fs::path& directory) {
  const fs::path path = directory / kIndexName;
  std::error_code error;
  if (!fs::exists(path, error)) return std::optional<ShardIndex>();
  RAM_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxIndexBytes));
  RAM_ASSIGN_OR_RETURN(ShardIndex index, ParseShardIndex(text, path.string()));
  return std::optional<ShardIndex>(std::move(index));
}

// Names of everything in the directory, sorted; without hidden files, among which macOS keeps
// doubles ("._model.safetensors") on foreign disks.
Result<std::vector<std::string>> ListDirectory(const fs::path& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    std::string name = entry->path().filename().string();
    if (!name.starts_with('.')) names.push_back(std::move(name));
  }
  if (error) {
    return Error{ErrorCode::kIo,
                 fmt::format("{}: cannot list it: {}", directory.string(), error.message())};
  }
  std::sort(names.begin(), names.end());
  return names;
}

Error NoSafetensors(const fs::path& directory, const std::vector<std::string>& names) {
  std::string instead;
  for (const std::string_view suffix : {".gguf", ".bin", ".pth", ".pt", ".ckpt"}) {
    const auto found = std::find_if(names.begin(), names.end(), [&](const std::string& name) {
      return name.ends_with(suffix);
    });
    if (found == names.end()) continue;
    instead = fmt::format("; {} is in another format, which ram does not read", Shown(*found));
    break;
  }
  return Error{ErrorCode::kNotFound, fmt::format("{}: has no {} files{}", directory.string(),
                                                 kSafetensorsSuffix, instead)};
}

// Without an index: the files that other loaders would take.
Result<std::vector<std::string>> FindShards(const fs::path& directory) {
  RAM_ASSIGN_OR_RETURN(std::vector<std::string> names, ListDirectory(directory));
  std::vector<std::string> all;
  std::vector<std::string> models;
  for (const std::string& name : names) {
    if (!name.ends_with(kSafetensorsSuffix)) continue;
    if (name == "model.safetensors") return std::vector<std::string>{name};
    all.push_back(name);
    if (name.starts_with("model")) models.push_back(name);
  }
  if (all.empty()) return NoSafetensors(directory, names);
  return models.empty() ? all : models;
}

// The series of three files that "model-00002-of-00003.safetensors" belongs to starts with "model-"
// and ends with "-of-00003.safetensors". Most names belong to none.
struct Series {
  std::string_view start;
  std::string_view end;
  size_t num_files;

  bool operator<(const Series& other) const {
    return std::tie(start, end) < std::tie(other.start, other.end);
  }
};

bool IsNumber(std::string_view text) { return text.find_first_not_of("0123456789") == text.npos; }

std::optional<Series> SeriesOf(std::string_view name) {
  constexpr std::string_view kOf = "-of-";
  constexpr size_t kDigits = 5;
  constexpr size_t kEndBytes = kOf.size() + kDigits + kSafetensorsSuffix.size();
  if (name.size() < kDigits + kEndBytes) return std::nullopt;
  const std::string_view start = name.substr(0, name.size() - kEndBytes - kDigits);
  const std::string_view number = name.substr(start.size(), kDigits);
  const std::string_view end = name.substr(name.size() - kEndBytes);
  const std::string_view count = end.substr(kOf.size(), kDigits);
  if (!start.ends_with('-') || !IsNumber(number) || !end.starts_with(kOf) || !IsNumber(count) ||
      !end.ends_with(kSafetensorsSuffix)) {
    return std::nullopt;
  }
  size_t num_files = 0;
  for (const char digit : count) num_files = num_files * 10 + static_cast<size_t>(digit - '0');
  return Series{start, end, num_files};
}

// `files` and all others of their series, sorted.
std::set<std::string> CompleteSeries(const std::vector<std::string>& files) {
  std::set<std::string> complete(files.begin(), files.end());
  std::set<Series> all_series;
  for (const std::string& name : files) {
    if (const std::optional<Series> series = SeriesOf(name)) all_series.insert(*series);
  }
  for (const Series& series : all_series) {
    for (size_t i = 1; i <= series.num_files; ++i) {
      complete.insert(fmt::format("{}{:05}{}", series.start, i, series.end));
    }
  }
  return complete;
}

// Before any of them is read, so that all that must be fetched is said at once.
Status CheckShardsArePresent(const fs::path& directory, const std::vector<std::string>& files,
                             bool has_index) {
  // An index is the authority: a file that it does not name may have been left out on purpose.
  const std::set<std::string> expected =
      has_index ? std::set<std::string>(files.begin(), files.end()) : CompleteSeries(files);
  std::vector<std::string> missing;
  std::vector<std::string> pointers;
  for (const std::string& name : expected) {
    std::error_code error;
    if (!fs::exists(directory / name, error)) {
      missing.push_back(name);
      continue;
    }
    RAM_ASSIGN_OR_RETURN(const File file, File::OpenForReading(directory / name));
    std::string start(std::min<uint64_t>(file.size(), kLfsPointerStart.size()), '\0');
    RAM_RETURN_IF_ERROR(
        file.ReadAt(0, std::span(reinterpret_cast<uint8_t*>(start.data()), start.size())));
    if (IsLfsPointer(start)) pointers.push_back(name);
  }
  if (!missing.empty()) {
    return Error{ErrorCode::kNotFound,
                 fmt::format("{}: {} of {} files are missing: {}", directory.string(),
                             missing.size(), expected.size(), ShownList(missing))};
  }
  if (!pointers.empty()) {
    return LfsPointerError(fmt::format("{}: {} of {} files, {}", directory.string(),
                                       pointers.size(), expected.size(), ShownList(pointers)));
  }
  return Done{};
}

// Both sorted by name.
Status CheckIndexAgrees(const ShardIndex& index, const std::vector<TensorInfo>& tensors,
                        const fs::path& directory) {
  std::vector<std::string> only_in_index;
  std::vector<std::string> only_in_files;
  std::vector<std::string> elsewhere;
  auto entry = index.entries.begin();
  auto tensor = tensors.begin();
  while (entry != index.entries.end() || tensor != tensors.end()) {
    if (tensor == tensors.end() || (entry != index.entries.end() && entry->tensor < tensor->name)) {
      only_in_index.push_back(fmt::format("{} ({})", entry->tensor, index.files[entry->file]));
      ++entry;
    } else if (entry == index.entries.end() || tensor->name < entry->tensor) {
      only_in_files.push_back(fmt::format("{} ({})", tensor->name, index.files[tensor->shard]));
      ++tensor;
    } else {
      if (entry->file != tensor->shard) {
        elsewhere.push_back(fmt::format("{} ({}, index says {})", tensor->name,
                                        index.files[tensor->shard], index.files[entry->file]));
      }
      ++entry;
      ++tensor;
    }
  }
  const std::string where = (directory / kIndexName).string();
  const auto disagrees = [&](std::string_view what, const std::vector<std::string>& names) {
    return Error{ErrorCode::kCorrupt, fmt::format("{}: {}: {}", where, what, ShownList(names))};
  };
  if (!only_in_index.empty()) return disagrees("names tensors that no file has", only_in_index);
  if (!only_in_files.empty()) return disagrees("lacks tensors that the files have", only_in_files);
  if (!elsewhere.empty()) return disagrees("names the wrong file for tensors", elsewhere);
  return Done{};
}

std::string HashStructure(const Json& config, const std::vector<TensorInfo>& tensors) {
  std::string text = config.dump() + '\n';
  for (const TensorInfo& tensor : tensors) {
    text += fmt::format("{} {} {}\n", JsonString(tensor.name), DtypeName(tensor.dtype),
                        ShapeText(tensor.shape));
  }
  return Sha256Hex(text);
}

}  // namespace

Result<Checkpoint> Checkpoint::Open(const fs::path& directory, Strictness strictness) {
  RAM_RETURN_IF_ERROR(CheckModelDirectory(directory));
  Checkpoint checkpoint;
  checkpoint.directory_ = directory;
  RAM_ASSIGN_OR_RETURN(checkpoint.config_, ReadConfig(directory));

  RAM_ASSIGN_OR_RETURN(const std::optional<ShardIndex> index, ReadIndex(directory));
  std::vector<std::string> files;
  if (index) {
    files = index->files;
  } else {
    RAM_ASSIGN_OR_RETURN(files, FindShards(directory));
  }
  RAM_RETURN_IF_ERROR(CheckShardsArePresent(directory, files, index.has_value()));

  std::vector<TensorInfo>& tensors = checkpoint.tensors_;
  for (size_t shard = 0; shard < files.size(); ++shard) {
    RAM_ASSIGN_OR_RETURN(File file, File::OpenForReading(directory / files[shard]));
    RAM_ASSIGN_OR_RETURN(SafetensorsHeader header, ReadSafetensorsHeader(file, strictness));
    for (TensorInfo& tensor : header.tensors) {
      tensor.shard = shard;
      tensors.push_back(std::move(tensor));
    }
    checkpoint.file_bytes_ += file.size();
    checkpoint.shards_.push_back(std::move(file));
  }
  std::sort(tensors.begin(), tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return a.name != b.name ? a.name < b.name : a.shard < b.shard;
  });
  const auto twice =
      std::adjacent_find(tensors.begin(), tensors.end(),
                         [](const TensorInfo& a, const TensorInfo& b) { return a.name == b.name; });
  if (twice != tensors.end()) {
    return Error{ErrorCode::kCorrupt,
                 fmt::format("{}: tensor {} is in two files, {} and {}", directory.string(),
                             Shown(twice->name), files[twice[0].shard], files[twice[1].shard])};
  }
  if (index) RAM_RETURN_IF_ERROR(CheckIndexAgrees(*index, tensors, directory));
  checkpoint.structure_hash_ = HashStructure(checkpoint.config_, tensors);
  return checkpoint;
}

const TensorInfo* Checkpoint::Find(std::string_view name) const {
  const auto found = std::lower_bound(
      tensors_.begin(), tensors_.end(), name,
      [](const TensorInfo& tensor, std::string_view wanted) { return tensor.name < wanted; });
  return found == tensors_.end() || found->name != name ? nullptr : &*found;
}

Status Checkpoint::Read(const TensorInfo& tensor, uint64_t offset, std::span<uint8_t> into) const {
  RAM_CHECK(tensor.shard < shards_.size());
  RAM_CHECK(offset <= tensor.num_bytes && into.size() <= tensor.num_bytes - offset);
  const Status read = shards_[tensor.shard].ReadAt(tensor.offset + offset, into);
  if (read) return read;
  return Error{read.error().code,
               fmt::format("{} (in tensor {})", read.error().message, Shown(tensor.name))};
}

}  // namespace ram
