#pragma once

// What a model directory is made of, and the sentences for what is found instead.

#include <filesystem>
#include <string_view>

#include "ram/base/result.h"

namespace ram {

inline constexpr std::string_view kConfigName = "config.json";
inline constexpr std::string_view kIndexName = "model.safetensors.index.json";
inline constexpr std::string_view kSafetensorsSuffix = ".safetensors";

// A Git LFS pointer is a text of three lines that stands for a file which was not fetched; this is
// how it starts.
inline constexpr std::string_view kLfsPointerStart = "version https://git-lfs";
inline bool IsLfsPointer(std::string_view start) { return start.starts_with(kLfsPointerStart); }
Error LfsPointerError(std::string_view where);

// A directory with a config.json; otherwise an error that says what `path` is and what to give
// instead. Does not look for weights.
Status CheckModelDirectory(const std::filesystem::path& path);

}  // namespace ram
