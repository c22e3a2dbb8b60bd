#include "ram/cli/eval_options.h"

#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <utility>

#include "ram/base/file.h"

namespace ram::cli {
namespace {

constexpr uint64_t kMaxTextBytes = uint64_t{1} << 32;

// The folder of bundled texts: $RAM_DATA, where the command was installed, where it was built.
std::filesystem::path DataFolder() {
  if (const char* folder = std::getenv("RAM_DATA"); folder != nullptr && *folder != '\0') {
    return folder;
  }
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (!error) {
    const std::filesystem::path installed = program.parent_path() / "../share/ram";
    if (std::filesystem::exists(installed, error)) return installed;
  }
  return RAM_DATA_DIR;
}

}  // namespace

void TextOptions::Add(CLI::App* verb) {
  verb->add_option("--data", data, "A text file (default: the WikiText-2 test set)");
  verb->add_option("--protocol", protocol,
                   fmt::format("{} (docs/perplexity.md)", fmt::join(ProtocolNames(), ", ")))
      ->check(CLI::IsMember(ProtocolNames()));
  verb->add_option("--context", context, "Tokens of a window (default: the protocol's)")
      ->check(CLI::Range(2, 1 << 24));
  verb->add_option("--windows", windows, "At most so many windows (lm-eval: documents)");
  verb->add_option("--seed", seed, "Of the order of the windows (42)");
  verb->add_option("--bos", bos,
                   "Beginning-of-sequence token of every window: none (default), replace, prepend")
      ->check(CLI::IsMember({"none", "replace", "prepend"}));
  verb->add_option("--prefix-tokens", prefix, "Token ids in front of every window")->delimiter(',');
}

Result<Text> TextOptions::Read() const {
  Text text;
  const std::filesystem::path path =
      data.empty() ? DataFolder() / "wikitext-2/test.txt" : std::filesystem::path(data);
  text.name = data.empty() ? "wikitext-2 test" : path.filename().string();
  RAM_ASSIGN_OR_RETURN(text.bytes, ReadFile(path, kMaxTextBytes));
  if (text.bytes.empty()) {
    return Error{ErrorCode::kInvalidArgument, fmt::format("{}: the text is empty", path.string())};
  }
  return text;
}

Result<CutRequest> TextOptions::Request() const {
  CutRequest request;
  RAM_ASSIGN_OR_RETURN(Protocol made, FindProtocol(protocol));
  if (context != 0) made.context = context;
  if (windows != 0) made.max_windows = windows;
  if (made.stride > made.context) made.stride = made.context;
  if (seed != 42) made.seed = seed;
  made.bos = bos == "replace"   ? Protocol::Bos::kReplace
             : bos == "prepend" ? Protocol::Bos::kPrepend
                                : Protocol::Bos::kNone;
  request.protocol = std::move(made);
  request.prefix = prefix;
  return request;
}

Result<CutText> TextOptions::Cut(const Text& text, const Tokenizer& tokenizer,
                                 uint64_t model_context) const {
  RAM_ASSIGN_OR_RETURN(const CutRequest request, Request());
  return CutTextFor(text, request, tokenizer, model_context);
}

void NoteMissing(const CutText& cut, Context& context) {
  if (cut.protocol.max_windows <= cut.set.num_available) return;
  context.Note(fmt::format("note: {} windows were asked for, the text has {}",
                           cut.protocol.max_windows, cut.set.num_available));
}

ScoredNumerics DescribeNumerics(const RunOptions& options, const Engine& engine) {
  return {fmt::format("ram, numerics {}", options.numerics_name), options.precision_name,
          engine.name()};
}

}  // namespace ram::cli
