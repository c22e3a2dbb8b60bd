#include "ram/checkpoint/model_files.h"

#include <fmt/format.h>

#include <string>
#include <system_error>

namespace ram {

Error LfsPointerError(std::string_view where) {
  return Error{ErrorCode::kCorrupt,
               fmt::format("{}: is a Git LFS pointer, not the file it stands for; \"git lfs pull\" "
                           "in its directory fetches that",
                           where)};
}

Status CheckModelDirectory(const std::filesystem::path& path) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  const std::string name = path.string();
  if (!std::filesystem::exists(status)) {
    return Error{ErrorCode::kNotFound, fmt::format("{}: no such directory", name)};
  }
  if (!std::filesystem::is_directory(status)) {
    const std::filesystem::path directory = path.has_parent_path() ? path.parent_path() : ".";
    const std::string_view why = path.extension() == kSafetensorsSuffix ? "is one file of a model"
                                 : path.extension() == ".gguf"
                                     ? "is a GGUF file, which ram does not read"
                                     : "is a file";
    return Error{
        ErrorCode::kInvalidArgument,
        fmt::format("{}: {}; expected the directory that holds a model's safetensors files and its "
                    "config.json, e.g. {}",
                    name, why, directory.string())};
  }
  if (!std::filesystem::exists(path / kConfigName, error)) {
    if (std::filesystem::is_directory(path / "snapshots", error)) {
      return Error{
          ErrorCode::kInvalidArgument,
          fmt::format("{}: is a model's place in the Hugging Face cache; name the model as "
                      "owner/name, or give one of the directories in {}",
                      name, (path / "snapshots").string())};
    }
    return Error{
        ErrorCode::kNotFound,
        fmt::format("{}: has no {}; expected a model directory as Hugging Face lays it out", name,
                    kConfigName)};
  }
  return Done{};
}

}  // namespace ram
