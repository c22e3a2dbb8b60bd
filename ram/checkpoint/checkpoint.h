#pragma once

// A model directory: config.json, one or many safetensors files, and what lies beside them.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ram/base/json.h"
#include "ram/base/result.h"
#include "ram/checkpoint/safetensors.h"

namespace ram {

// Directory of a model named on the command line: a directory with a config.json, or
// "owner/name" (optionally "@revision": a branch, tag or commit) in the local Hugging Face cache.
// The cache is the first that is set of $HF_HUB_CACHE, $HF_HOME/hub,
// $XDG_CACHE_HOME/huggingface/hub and ~/.cache/huggingface/hub, as for every tool of that hub.
// Nothing is downloaded. kNotFound says where it was looked for and what to do, kInvalidArgument
// what `name` is instead of a model.
Result<std::filesystem::path> ResolveModel(std::string_view name);

// Reads headers on opening, data on request, in pieces of the caller's size.
class Checkpoint {
 public:
  // Reads config.json, finds the shards, reads every header and joins them. The shards are those
  // that model.safetensors.index.json names; without an index model.safetensors, else
  // model*.safetensors, else *.safetensors. `strictness` concerns the files; an index must agree
  // with them in any case. Errors: kNotFound lists missing files; kCorrupt names Git LFS pointers,
  // a tensor that occurs in two files, an index that disagrees with the files or leaves the
  // directory.
  static Result<Checkpoint> Open(const std::filesystem::path& directory,
                                 Strictness strictness = Strictness::kStrict);

  const std::filesystem::path& directory() const { return directory_; }
  const Json& config() const { return config_; }
  // By name, in byte order of the names.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  // In byte order of their names.
  const std::vector<File>& shards() const { return shards_; }
  // Of all safetensors files.
  uint64_t file_bytes() const { return file_bytes_; }
  // SHA-256 over the config and all tensor names, dtypes, shapes: which model this is, from headers
  // alone, however it is cut into shards.
  const std::string& structure_hash() const { return structure_hash_; }

  // Null if there is none.
  const TensorInfo* Find(std::string_view name) const;

  // Bytes [offset, offset + into.size()) of the data of a tensor of this checkpoint, which must not
  // reach beyond its num_bytes. Thread-safe.
  Status Read(const TensorInfo& tensor, uint64_t offset, std::span<uint8_t> into) const;

 private:
  std::filesystem::path directory_;
  Json config_;
  std::vector<File> shards_;
  std::vector<TensorInfo> tensors_;
  uint64_t file_bytes_ = 0;
  std::string structure_hash_;
};

}  // namespace ram
