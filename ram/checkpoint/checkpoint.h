#pragma once

// A model directory: config.json, one or many safetensors files, and what lies beside them.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "ram/base/json.h"
#include "ram/base/result.h"
#include "ram/checkpoint/safetensors.h"

namespace ram {

// Directory of a model named on the command line: a directory with a config.json, or
// "owner/name" (optionally "@revision") in the local Hugging Face cache ($HF_HUB_CACHE,
// $HF_HOME/hub, ~/.cache/huggingface/hub). kNotFound says where it was looked for.
Result<std::filesystem::path> ResolveModel(std::string_view name);

// Reads headers on opening, data on request, in pieces of the caller's size.
class Checkpoint {
 public:
  // Finds the shards (model.safetensors.index.json, else model.safetensors, else every
  // *.safetensors in the directory that is not named by an index), reads every header and joins
  // them. Errors: kNotFound lists missing shards; kCorrupt names a Git-LFS pointer file, a tensor
  // that occurs in two files, an index that disagrees with the files, a shard name that leaves the
  // directory.
  static Result<Checkpoint> Open(const std::filesystem::path& directory,
                                 Strictness strictness = Strictness::kStrict);

  const std::filesystem::path& directory() const { return directory_; }
  const Json& config() const { return config_; }
  // By name, in byte order of the names.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  const std::vector<File>& shards() const { return shards_; }
  // Of all safetensors files.
  uint64_t file_bytes() const { return file_bytes_; }
  // SHA-256 over the config and all tensor names, dtypes, shapes: which model this is, from headers
  // alone.
  const std::string& structure_hash() const { return structure_hash_; }

  // Null if there is none.
  const TensorInfo* Find(std::string_view name) const;

  // Bytes [offset, offset + into.size()) of the tensor's data. Thread-safe.
  Status Read(const TensorInfo& tensor, uint64_t offset, std::span<uint8_t> into) const;

 private:
  std::filesystem::path directory_;
  Json config_;
  std::vector<File> shards_;
  std::vector<TensorInfo> tensors_;
  std::unordered_map<std::string, size_t> by_name_;
  uint64_t file_bytes_ = 0;
  std::string structure_hash_;
};

}  // namespace ram
