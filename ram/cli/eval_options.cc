#include "ram/cli/eval_options.h"

#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>

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
  verb->add_option("--windows", windows, "At most so many windows");
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

Result<Protocol> TextOptions::MakeProtocol() const {
  RAM_ASSIGN_OR_RETURN(Protocol made, FindProtocol(protocol));
  if (context != 0) made.context = context;
  if (windows != 0) made.max_windows = windows;
  if (made.stride > made.context) made.stride = made.context;
  if (seed != 42) made.seed = seed;
  made.bos = bos == "replace"   ? Protocol::Bos::kReplace
             : bos == "prepend" ? Protocol::Bos::kPrepend
                                : Protocol::Bos::kNone;
  return made;
}

std::string TextOptions::SettingsText(const Protocol& made, const WindowSet& set) const {
  std::string text =
      fmt::format("windows of {}, {} of {}", made.context, set.windows.size(), set.num_available);
  if (made.kind == Protocol::Kind::kRam) text += fmt::format(", seed {}", made.seed);
  text += bos == "none" ? ", no BOS" : fmt::format(", BOS {} per window", bos);
  if (!prefix.empty()) text += fmt::format(", {} prefix tokens", prefix.size());
  return text;
}

Result<CutText> TextOptions::Cut(const Text& text, const Tokenizer& tokenizer) const {
  CutText cut;
  RAM_ASSIGN_OR_RETURN(cut.protocol, MakeProtocol());
  RAM_ASSIGN_OR_RETURN(const TokenIds ids,
                       tokenizer.Encode(text.bytes, cut.protocol.special_at_start));
  RAM_ASSIGN_OR_RETURN(cut.set, CutWindows(ids, cut.protocol, prefix, tokenizer.bos_id()));
  cut.settings = SettingsText(cut.protocol, cut.set);
  return cut;
}

void CutText::NoteMissing(Context& context) const {
  if (protocol.max_windows <= set.num_available) return;
  context.Note(fmt::format("note: {} windows were asked for, the text has {}", protocol.max_windows,
                           set.num_available));
}

ScoredModel DescribeModel(const RunnableModel& model) {
  ScoredModel described;
  described.name = std::filesystem::path(model.name).filename().string();
  if (described.name.empty()) described.name = model.name;
  described.bytes = model.checkpoint->file_bytes();
  described.bits_per_weight = 8 * static_cast<double>(model.checkpoint->file_bytes()) /
                              static_cast<double>(model.source->catalog().num_weights());
  described.structure_hash = model.checkpoint->structure_hash();
  return described;
}

ScoredNumerics DescribeNumerics(const RunOptions& options, const Engine& engine) {
  return {fmt::format("ram, numerics {}", options.numerics_name), options.precision_name,
          engine.name()};
}

}  // namespace ram::cli
