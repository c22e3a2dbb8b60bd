#include "ram/text/pre_tokenizer.h"

#include <fmt/format.h>

#include <string>
#include <utility>

#include "ram/text/unicode.h"

namespace ram {
namespace {

constexpr std::string_view kGpt2Regex =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

struct Piece {
  std::string_view text;
  bool at_start;
};

bool IsPunctuation(char32_t c) {
  const bool is_ascii_symbol = c < 0x80 && (ClassesOf(c) & kSymbol) != 0;  // $ + < = > ^ ` | ~
  return is_ascii_symbol || (ClassesOf(c) & kPunctuation) != 0;
}

// A string that may be missing.
Result<std::string> GetStringOr(const Json& object, std::string_view key,
                                std::string_view otherwise, std::string_view where) {
  if (Find(object, key) == nullptr) return std::string(otherwise);
  return GetString(object, key, where);
}

}  // namespace

Result<bool> GetBoolOr(const Json& object, std::string_view key, bool otherwise,
                       std::string_view where) {
  if (Find(object, key) == nullptr) return otherwise;
  return GetBool(object, key, where);
}

Result<PreTokenizer> PreTokenizer::Parse(const Json& json, std::string_view where) {
  PreTokenizer pre_tokenizer;
  if (!json.is_null()) RAM_RETURN_IF_ERROR(pre_tokenizer.Append(json, where));
  return pre_tokenizer;
}

Status PreTokenizer::Append(const Json& json, std::string_view where) {
  if (is_byte_level_) {
    return Error{ErrorCode::kUnsupported,
                 fmt::format("{}: a pre-tokenizer behind ByteLevel is not supported", where)};
  }
  RAM_ASSIGN_OR_RETURN(const std::string type, GetString(json, "type", where));
  if (type == "Sequence") {
    RAM_ASSIGN_OR_RETURN(const Json* parts, GetArray(json, "pretokenizers", where));
    for (const Json& part : *parts) RAM_RETURN_IF_ERROR(Append(part, where));
    return Done{};
  }
  if (type == "ByteLevel") return AppendByteLevel(json, where);
  if (type == "Metaspace") return AppendMetaspace(json, where);
  if (type == "Split") return AppendSplit(json, where);
  if (type == "Digits") {
    RAM_ASSIGN_OR_RETURN(const bool single, GetBoolOr(json, "individual_digits", false, where));
    steps_.push_back(
        Splitter::OfCharacters([](char32_t c) { return (ClassesOf(c) & kNumber) != 0; },
                               single ? SplitBehavior::kIsolated : SplitBehavior::kContiguous));
    return Done{};
  }
  if (type == "Punctuation") {
    RAM_ASSIGN_OR_RETURN(const std::string name, GetStringOr(json, "behavior", "Isolated", where));
    RAM_ASSIGN_OR_RETURN(const SplitBehavior behavior, ParseSplitBehavior(name, where));
    steps_.push_back(Splitter::OfCharacters(IsPunctuation, behavior));
    return Done{};
  }
  if (type == "WhitespaceSplit") {
    steps_.push_back(Splitter::OfCharacters(IsWhiteSpace, SplitBehavior::kRemoved));
    return Done{};
  }
  if (type == "Whitespace") {  // \w+|[^\w\s]+
    steps_.push_back(Splitter::OfCharacters(IsWhiteSpace, SplitBehavior::kRemoved));
    steps_.push_back(Splitter::OfCharacters(IsWordCharacter, SplitBehavior::kContiguous));
    return Done{};
  }
  return Error{ErrorCode::kUnsupported,
               fmt::format("{}: pre-tokenizer \"{}\" is not supported", where, type.substr(0, 80))};
}

Status PreTokenizer::AppendByteLevel(const Json& json, std::string_view where) {
  RAM_ASSIGN_OR_RETURN(const bool adds_space, GetBoolOr(json, "add_prefix_space", true, where));
  RAM_ASSIGN_OR_RETURN(const bool uses_regex, GetBoolOr(json, "use_regex", true, where));
  if (adds_space) {
    steps_.push_back(Rewrite([](std::string_view text, bool, TextArena& arena) {
      return text.starts_with(' ') ? text : arena.Keep(fmt::format(" {}", text));
    }));
  }
  if (uses_regex) {
    RAM_ASSIGN_OR_RETURN(Splitter splitter, Splitter::OfRegex(kGpt2Regex, SplitBehavior::kIsolated,
                                                              /*invert=*/false, where));
    steps_.push_back(std::move(splitter));
  }
  is_byte_level_ = true;
  return Done{};
}

Status PreTokenizer::AppendMetaspace(const Json& json, std::string_view where) {
  RAM_ASSIGN_OR_RETURN(const std::string mark, GetString(json, "replacement", where));
  RAM_ASSIGN_OR_RETURN(std::string scheme, GetStringOr(json, "prepend_scheme", "always", where));
  RAM_ASSIGN_OR_RETURN(const bool adds_space, GetBoolOr(json, "add_prefix_space", true, where));
  RAM_ASSIGN_OR_RETURN(const bool splits, GetBoolOr(json, "split", true, where));
  if (!adds_space) scheme = "never";  // As older files say it.
  if (scheme != "always" && scheme != "first" && scheme != "never") {
    return Error{ErrorCode::kUnsupported,
                 fmt::format("{}: Metaspace: prepend_scheme \"{}\"", where, scheme.substr(0, 80))};
  }
  const Splitter spaces = Splitter::OfLiteral(" ", SplitBehavior::kIsolated, /*invert=*/false);
  steps_.push_back(
      Rewrite([mark, scheme, spaces](std::string_view text, bool at_start, TextArena& arena) {
        Result<std::string> replaced = spaces.Replace(text, mark);
        RAM_CHECK(replaced.ok());  // Only a regex fails.
        const bool prepends = scheme == "always" || (scheme == "first" && at_start);
        if (prepends && !replaced->starts_with(mark)) replaced->insert(0, mark);
        return arena.Keep(*std::move(replaced));
      }));
  if (splits) {
    steps_.push_back(Splitter::OfLiteral(mark, SplitBehavior::kMergedWithNext, /*invert=*/false));
  }
  return Done{};
}

Status PreTokenizer::AppendSplit(const Json& json, std::string_view where) {
  RAM_ASSIGN_OR_RETURN(const Json* pattern, GetObject(json, "pattern", where));
  RAM_ASSIGN_OR_RETURN(const std::string name, GetString(json, "behavior", where));
  RAM_ASSIGN_OR_RETURN(const SplitBehavior behavior, ParseSplitBehavior(name, where));
  RAM_ASSIGN_OR_RETURN(const bool invert, GetBoolOr(json, "invert", false, where));
  RAM_ASSIGN_OR_RETURN(Splitter splitter, Splitter::OfPattern(*pattern, behavior, invert, where));
  steps_.push_back(std::move(splitter));
  return Done{};
}

Status PreTokenizer::ForEachPiece(std::string_view text, bool at_start, TextArena& arena,
                                  const std::function<void(std::string_view)>& on_piece) const {
  std::vector<Piece> pieces = {{text, at_start}};
  std::vector<Piece> next;
  for (size_t i = 0; i < steps_.size(); ++i) {
    if (const auto* rewrite = std::get_if<Rewrite>(&steps_[i]); rewrite != nullptr) {
      for (Piece& piece : pieces) piece.text = (*rewrite)(piece.text, piece.at_start, arena);
      continue;
    }
    const auto& splitter = std::get<Splitter>(steps_[i]);
    const bool is_last = i + 1 == steps_.size();
    next.clear();
    for (const Piece& piece : pieces) {
      RAM_RETURN_IF_ERROR(splitter.ForEachPiece(piece.text, [&](size_t begin, size_t end) {
        const std::string_view part = piece.text.substr(begin, end - begin);
        if (is_last) {
          on_piece(part);
        } else {
          next.push_back({part, piece.at_start && begin == 0});
        }
      }));
    }
    if (is_last) return Done{};
    pieces.swap(next);
  }
  for (const Piece& piece : pieces) {
    if (!piece.text.empty()) on_piece(piece.text);
  }
  return Done{};
}

}  // namespace ram
