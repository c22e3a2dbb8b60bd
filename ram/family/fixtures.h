#pragma once

// Test support: the checkpoints of tests/data/families, and copies of them in other layouts.
// Nothing here returns an error; what fails stops the test program.

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ram/base/json.h"
#include "ram/checkpoint/checkpoint.h"
#include "ram/checkpoint/testing.h"
#include "ram/family/catalog.h"
#include "ram/family/weights.h"

namespace ram {

// The value, or the end of the program with the message.
template <typename T>
T Must(Result<T> result) {
  if (!result.ok()) {
    std::fprintf(stderr, "unexpected error: %s\n", result.error().message.c_str());
    std::abort();
  }
  return *std::move(result);
}

inline std::filesystem::path FixturePath(std::string_view family) {
  return std::filesystem::path(RAM_TEST_DATA_DIR) / "families" / family;
}

inline Checkpoint OpenFixture(std::string_view family) {
  return Must(Checkpoint::Open(FixturePath(family)));
}

// All values of a tensor in `tensor.dtype`, view after view.
inline std::vector<uint8_t> ReadAll(const Checkpoint& checkpoint, const CatalogTensor& tensor) {
  const uint64_t matrix_bytes =
      tensor.rows * tensor.cols * static_cast<uint64_t>(BitsOf(tensor.dtype)) / 8;
  std::vector<uint8_t> bytes(matrix_bytes * tensor.views.size());
  for (size_t view = 0; view < tensor.views.size(); ++view) {
    Must(ReadRows(checkpoint, tensor, view, 0, tensor.rows,
                  std::span(bytes).subspan(view * matrix_bytes, matrix_bytes)));
  }
  return bytes;
}

inline const CatalogTensor& TensorNamed(const Catalog& catalog, std::string_view name) {
  for (const CatalogTensor& tensor : catalog.tensors) {
    if (tensor.name == name) return tensor;
  }
  std::fprintf(stderr, "no tensor %s in the catalog\n", std::string(name).c_str());
  std::abort();
}

// A checkpoint in memory that a test may change and write somewhere else.
struct EditableCheckpoint {
  Json config;
  std::map<std::string, TensorWithBytes> tensors;

  static EditableCheckpoint Load(const Checkpoint& checkpoint) {
    EditableCheckpoint editable;
    editable.config = checkpoint.config();
    for (const TensorInfo& info : checkpoint.tensors()) {
      TensorWithBytes tensor{{info.name, info.dtype, info.shape}, {}};
      tensor.bytes.resize(info.num_bytes);
      Must(checkpoint.Read(info, 0, tensor.bytes));
      editable.tensors[info.name] = std::move(tensor);
    }
    return editable;
  }
  static EditableCheckpoint Load(std::string_view family) { return Load(OpenFixture(family)); }

  void Add(const std::string& name, Dtype dtype, std::vector<uint64_t> shape,
           std::vector<uint8_t> bytes) {
    tensors[name] = TensorWithBytes{{name, dtype, std::move(shape)}, std::move(bytes)};
  }

  TensorWithBytes Take(const std::string& name) {
    const auto found = tensors.find(name);
    RAM_CHECK(found != tensors.end());
    TensorWithBytes tensor = std::move(found->second);
    tensors.erase(found);
    return tensor;
  }

  // Gives every tensor the name that `rename` says.
  void Rename(const std::function<std::string(const std::string&)>& rename) {
    std::map<std::string, TensorWithBytes> renamed;
    for (auto& [name, tensor] : tensors) {
      tensor.spec.name = rename(name);
      renamed[tensor.spec.name] = std::move(tensor);
    }
    tensors = std::move(renamed);
  }

  void Write(const std::filesystem::path& directory) const {
    WriteText(directory / "config.json", config.dump());
    std::vector<TensorWithBytes> list;
    for (const auto& [name, tensor] : tensors) list.push_back(tensor);
    WriteSafetensors(directory / "model.safetensors", list);
  }

  Checkpoint WriteAndOpen(const std::filesystem::path& directory) const {
    Write(directory);
    return Must(Checkpoint::Open(directory));
  }
};

}  // namespace ram
