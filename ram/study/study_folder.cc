#include "ram/study/study_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "ram/base/bytes.h"
#include "ram/base/file.h"
#include "ram/base/hash.h"
#include "ram/base/json.h"
#include "ram/base/number.h"

namespace ram {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFormat = "ram.study.inputs.v1";
constexpr uint64_t kHashedAtOnce = 8 * kMiB;

bool MakesTheModel(const fs::path& file) {
  const std::string name = file.filename().string();
  return file.extension() == ".safetensors" || name == "config.json" || name == "tokenizer.json";
}

std::string InputsText(const std::vector<StudyInput>& inputs) {
  OrderedJson json = {{"format", kFormat}};
  for (const StudyInput& input : inputs) json[input.what] = input.value;
  return json.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
}

// The first input that an earlier study had otherwise.
Result<std::string> FindDifference(const fs::path& path, const std::vector<StudyInput>& inputs) {
  RAM_ASSIGN_OR_RETURN(const Json json, ReadJsonFile(path, kMiB));
  RAM_ASSIGN_OR_RETURN(const std::string format, GetString(json, "format", path.string()));
  if (format != kFormat) {
    return Error{ErrorCode::kCorrupt,
                 fmt::format("{}: key \"format\": expected \"{}\"", path.string(), kFormat)};
  }
  for (const StudyInput& input : inputs) {
    const Json* found = Find(json, input.what);
    if (found == nullptr || *found != input.value) return input.what;
  }
  return std::string();
}

}  // namespace

Result<std::string> HashModelFiles(const fs::path& directory) {
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    if (MakesTheModel(it->path())) files.push_back(it->path());
  }
  if (error) {
    return Error{ErrorCode::kIo,
                 fmt::format("{}: cannot list it: {}", directory.string(), error.message())};
  }
  std::ranges::sort(files);
  ContentHasher hasher;
  std::vector<uint8_t> buffer(kHashedAtOnce);
  for (const fs::path& path : files) {
    RAM_ASSIGN_OR_RETURN(const File file, File::OpenForReading(path));
    hasher.Add(fmt::format("{} {}\n", path.filename().string(), file.size()));
    for (uint64_t at = 0; at < file.size(); at += kHashedAtOnce) {
      const std::span<uint8_t> piece =
          std::span(buffer).first(std::min(kHashedAtOnce, file.size() - at));
      RAM_RETURN_IF_ERROR(file.ReadAt(at, piece));
      hasher.Add(piece);
    }
  }
  return ToHex(hasher.Finish());
}

Result<StudyFolder> StudyFolder::Open(const fs::path& path, const std::vector<StudyInput>& inputs,
                                      bool restart) {
  const StudyFolder folder(path);
  const fs::path file = path / "inputs.json";
  std::error_code error;
  if (fs::exists(file, error)) {
    RAM_ASSIGN_OR_RETURN(const std::string difference, FindDifference(file, inputs));
    if (!difference.empty() && !restart) {
      return Error{ErrorCode::kInvalidArgument,
                   fmt::format("{} holds a study of something else: {} changed; --restart replaces "
                               "it, another -o keeps it",
                               path.string(), difference)};
    }
    if (restart) {
      for (const char* part : {"arms", "models", "base.logits", "study.json", "report.html"}) {
        fs::remove_all(path / part, error);
      }
    }
  } else if (fs::exists(path, error) && !fs::is_empty(path, error)) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("{}: not empty, and no study (inputs.json is missing); choose another "
                             "folder with -o",
                             path.string())};
  }
  fs::create_directories(path / "arms", error);
  if (!error) fs::create_directories(path / "models", error);
  if (error) {
    return Error{ErrorCode::kIo,
                 fmt::format("{}: cannot be made: {}", path.string(), error.message())};
  }
  RAM_RETURN_IF_ERROR(WriteFileAtomically(file, InputsText(inputs)));
  return folder;
}

std::optional<ArmResult> StudyFolder::Find(const std::string& arm, const std::string& key) const {
  std::error_code error;
  if (!fs::exists(divergence(arm), error) || !fs::exists(scores(arm), error)) return std::nullopt;
  auto file = ReadDivergence(divergence(arm));
  if (!file || file->facts["key"] != key) return std::nullopt;
  ArmResult result;
  result.key = key;
  result.content = file->facts["content"];
  result.same_as = file->facts["same_as"];
  const auto bytes = ParseDouble(file->facts["bytes"]);
  const auto bits = ParseDouble(file->facts["bits_per_weight"]);
  const auto seconds = ParseDouble(file->facts["seconds"]);
  if (!bytes || !bits || !seconds) return std::nullopt;
  result.bytes = static_cast<uint64_t>(*bytes);
  result.bits_per_weight = *bits;
  result.seconds = *seconds;
  result.tokens = std::move(file->tokens);
  return result;
}

bool StudyFolder::Has(const std::string& arm) const {
  std::error_code error;
  return fs::exists(divergence(arm), error);
}

Status StudyFolder::Keep(const std::string& arm, const ArmResult& result, const std::string& base,
                         const std::vector<uint64_t>& window_tokens, const Scores& of_arm) const {
  // The scores first: the other file says that the arm is done.
  RAM_RETURN_IF_ERROR(WriteScores(of_arm, scores(arm)));
  DivergenceFile file;
  file.base = base;
  file.text = fmt::format("{}: {}, {}", of_arm.text.name, of_arm.protocol, of_arm.settings);
  file.model = arm;
  file.facts = {{"key", result.key},
                {"content", result.content},
                {"same_as", result.same_as},
                {"bytes", fmt::format("{}", result.bytes)},
                {"bits_per_weight", fmt::format("{}", result.bits_per_weight)},
                {"seconds", fmt::format("{}", result.seconds)}};
  file.tokens = result.tokens;
  file.window_tokens = window_tokens;
  return WriteDivergence(file, divergence(arm));
}

void StudyFolder::Tidy(bool keep_models) const {
  std::error_code error;
  fs::remove(logits(), error);
  if (!keep_models) fs::remove_all(path_ / "models", error);
}

}  // namespace ram
