// Runs a fuzz target over every file of a corpus directory. Linked in place of libFuzzer in normal
// builds, so that fuzz targets compile, and what they once found stays found.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "ram/base/file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

constexpr uint64_t kMaxInputBytes = 16 << 20;

int Replay(const std::filesystem::path& directory) {
  std::vector<std::filesystem::path> paths;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    paths.push_back(entry->path());
  }
  if (error || paths.empty()) {
    std::fprintf(stderr, "%s: no inputs to replay\n", directory.c_str());
    return 1;
  }
  std::sort(paths.begin(), paths.end());
  for (const std::filesystem::path& path : paths) {
    const ram::Result<std::string> text = ram::ReadFile(path, kMaxInputBytes);
    if (!text) {
      std::fprintf(stderr, "%s\n", text.error().message.c_str());
      return 1;
    }
    // Printed first: after a crash the last line names the input.
    std::printf("%s\n", path.filename().c_str());
    std::fflush(stdout);
    const auto exact = std::make_unique<uint8_t[]>(text->size());  // A read beyond it shows.
    std::copy(text->begin(), text->end(), exact.get());
    (void)LLVMFuzzerTestOneInput(exact.get(), text->size());
  }
  std::printf("%zu inputs replayed\n", paths.size());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s CORPUS_DIRECTORY\n", argv[0]);
    return 2;
  }
  return Replay(argv[1]);
}
