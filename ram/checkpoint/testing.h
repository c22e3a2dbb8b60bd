#pragma once

// Test support, for the tests of every room: a directory that goes away, and safetensors files with
// contents of the test's choice. Nothing here returns an error; what fails stops the test program.

#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "ram/base/dtype.h"
#include "ram/base/file.h"
#include "ram/base/result.h"
#include "ram/checkpoint/safetensors.h"

namespace ram {

// A new, empty directory, removed with all it holds when this goes out of scope. `name` is part of
// its path, to tell which test it belongs to.
class TempDirectory {
 public:
  explicit TempDirectory(std::string_view name) {
    std::string pattern = std::filesystem::temp_directory_path() / "ram-";
    pattern += std::string(name) + "-XXXXXX";
    RAM_CHECK(::mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~TempDirectory() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// Replaces what is there; makes the directories above it.
inline void WriteText(const std::filesystem::path& path, std::string_view text) {
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path());
  std::ofstream stream(path, std::ios::binary | std::ios::trunc);
  stream.write(text.data(), static_cast<std::streamsize>(text.size()));
  stream.close();
  RAM_CHECK(stream.good());
}

struct TensorWithBytes {
  TensorSpec spec;
  std::vector<uint8_t> bytes;  // As many as dtype and shape say.
};

// The bytes of a file with these tensors, in this order.
inline std::string SafetensorsBytes(const std::vector<TensorWithBytes>& tensors) {
  std::vector<TensorSpec> specs;
  for (const TensorWithBytes& tensor : tensors) specs.push_back(tensor.spec);
  const SafetensorsLayout layout = LayOutSafetensors(specs);
  std::string file = layout.prefix;
  for (size_t i = 0; i < tensors.size(); ++i) {
    RAM_CHECK(file.size() == layout.offsets[i]);
    file.append(tensors[i].bytes.begin(), tensors[i].bytes.end());
  }
  RAM_CHECK(file.size() == layout.file_bytes);
  return file;
}

inline void WriteSafetensors(const std::filesystem::path& path,
                             const std::vector<TensorWithBytes>& tensors) {
  WriteText(path, SafetensorsBytes(tensors));
}

}  // namespace ram
