#include "ram/text/decoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "ram/text/byte_alphabet.h"
#include "ram/text/unicode.h"

namespace ram {
namespace {

std::string Join(const std::vector<std::string>& tokens) {
  std::string text;
  for (const std::string& token : tokens) text += token;
  return text;
}

std::string Replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  size_t done = 0;
  for (size_t at = 0; (at = text.find(from, done)) != std::string_view::npos;
       done = at + from.size()) {
    out.append(text, done, at - done);
    out += to;
  }
  out.append(text, done);
  return out;
}

// "<0xE2>": its byte.
std::optional<char> FallbackByte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  int value = 0;
  for (const char c : token.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                             : -1;
    if (digit < 0) return std::nullopt;
    value = value * 16 + digit;
  }
  return static_cast<char>(value);
}

// Runs of byte tokens become their characters, or U+FFFD for each byte if they are none.
std::vector<std::string> JoinFallbackBytes(const std::vector<std::string>& tokens) {
  std::vector<std::string> joined;
  std::string bytes;
  const auto flush = [&] {
    if (bytes.empty()) return;
    if (FindInvalidUtf8(bytes)) {
      joined.insert(joined.end(), bytes.size(), "\uFFFD");
    } else {
      joined.push_back(bytes);
    }
    bytes.clear();
  };
  for (const std::string& token : tokens) {
    if (const std::optional<char> byte = FallbackByte(token)) {
      bytes += *byte;
    } else {
      flush();
      joined.push_back(token);
    }
  }
  flush();
  return joined;
}

std::string JoinByteLevel(const std::vector<std::string>& tokens) {
  std::string bytes;
  for (const std::string& token : tokens) bytes += BytesOfByteLevel(token).value_or(token);
  return bytes;
}

std::string Stripped(std::string_view text, std::string_view character, size_t num_start,
                     size_t num_stop) {
  for (size_t i = 0; i < num_start && text.starts_with(character); ++i) {
    text.remove_prefix(character.size());
  }
  for (size_t i = 0; i < num_stop && text.ends_with(character); ++i) {
    text.remove_suffix(character.size());
  }
  return std::string(text);
}

size_t NumCharacters(std::string_view text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; }));
}

Result<std::string> GetCharacter(const Json& json, std::string_view key, std::string_view where) {
  RAM_ASSIGN_OR_RETURN(std::string character, GetString(json, key, where));
  if (NumCharacters(character) != 1) {
    return Error{ErrorCode::kCorrupt,
                 fmt::format("{}: decoder: \"{}\" is not one character", where, key)};
  }
  return character;
}

Result<size_t> GetCount(const Json& json, std::string_view key, std::string_view where) {
  RAM_ASSIGN_OR_RETURN(const int64_t count, GetInt(json, key, where));
  if (count < 0 || count > 1000) {
    return Error{ErrorCode::kCorrupt,
                 fmt::format("{}: decoder: \"{}\" is {}, expected 0 to 1000", where, key, count)};
  }
  return static_cast<size_t>(count);
}

}  // namespace

Result<Decoder> Decoder::Parse(const Json& json, std::string_view where) {
  Decoder decoder;
  if (!json.is_null()) RAM_RETURN_IF_ERROR(decoder.Append(json, where));
  return decoder;
}

Status Decoder::Append(const Json& json, std::string_view where) {
  RAM_ASSIGN_OR_RETURN(const std::string type, GetString(json, "type", where));
  using Kind = Step::Kind;
  if (type == "Sequence") {
    RAM_ASSIGN_OR_RETURN(const Json* parts, GetArray(json, "decoders", where));
    for (const Json& part : *parts) RAM_RETURN_IF_ERROR(Append(part, where));
  } else if (type == "ByteLevel") {
    steps_.push_back({.kind = Kind::kByteLevel});
  } else if (type == "ByteFallback") {
    steps_.push_back({.kind = Kind::kByteFallback});
  } else if (type == "Fuse") {
    steps_.push_back({.kind = Kind::kFuse});
  } else if (type == "Replace") {
    RAM_ASSIGN_OR_RETURN(const Json* pattern, GetObject(json, "pattern", where));
    RAM_ASSIGN_OR_RETURN(std::string from, GetString(*pattern, "String", where));
    RAM_ASSIGN_OR_RETURN(std::string to, GetString(json, "content", where));
    if (from.empty()) {
      return Error{ErrorCode::kCorrupt, fmt::format("{}: decoder: Replace of nothing", where)};
    }
    steps_.push_back({.kind = Kind::kReplace, .from = std::move(from), .to = std::move(to)});
  } else if (type == "Strip") {
    RAM_ASSIGN_OR_RETURN(std::string character, GetCharacter(json, "content", where));
    RAM_ASSIGN_OR_RETURN(const size_t num_start, GetCount(json, "start", where));
    RAM_ASSIGN_OR_RETURN(const size_t num_stop, GetCount(json, "stop", where));
    steps_.push_back({.kind = Kind::kStrip,
                      .from = std::move(character),
                      .num_start = num_start,
                      .num_stop = num_stop});
  } else if (type == "Metaspace") {
    RAM_ASSIGN_OR_RETURN(std::string mark, GetCharacter(json, "replacement", where));
    const Json* scheme = Find(json, "prepend_scheme");
    const Json* adds_space = Find(json, "add_prefix_space");
    const bool never = (scheme != nullptr && *scheme == "never") ||
                       (adds_space != nullptr && *adds_space == false);
    steps_.push_back({.kind = Kind::kMetaspace, .from = std::move(mark), .drops_first = !never});
  } else {
    return Error{ErrorCode::kUnsupported,
                 fmt::format("{}: decoder \"{}\" is not supported", where, type.substr(0, 80))};
  }
  return Done{};
}

std::string Decoder::Decode(std::vector<std::string> tokens, bool is_first, bool is_last) const {
  if (steps_.empty()) {
    std::string text;
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (i > 0 || !is_first) text += ' ';
      text += tokens[i];
    }
    return text;
  }
  bool is_fused = false;  // Everything is one token by now.
  for (const Step& step : steps_) {
    switch (step.kind) {
      case Step::Kind::kReplace:
        for (std::string& token : tokens) token = Replaced(token, step.from, step.to);
        break;
      case Step::Kind::kByteFallback:
        tokens = JoinFallbackBytes(tokens);
        break;
      case Step::Kind::kFuse:
        tokens = {Join(tokens)};
        is_fused = true;
        break;
      case Step::Kind::kStrip:
        for (std::string& token : tokens) {
          token = Stripped(token, step.from, is_fused && !is_first ? 0 : step.num_start,
                           is_fused && !is_last ? 0 : step.num_stop);
        }
        break;
      case Step::Kind::kMetaspace:
        for (size_t i = 0; i < tokens.size(); ++i) {
          tokens[i] =
              Replaced(tokens[i], step.from, i == 0 && is_first && step.drops_first ? "" : " ");
        }
        break;
      case Step::Kind::kByteLevel:
        tokens = {ReplaceInvalidUtf8(JoinByteLevel(tokens))};
        is_fused = true;
        break;
    }
  }
  return Join(tokens);
}

std::string Decoder::BytesOf(std::string token) const {
  for (const Step& step : steps_) {
    if (step.kind == Step::Kind::kReplace) token = Replaced(token, step.from, step.to);
    if (step.kind == Step::Kind::kMetaspace) token = Replaced(token, step.from, " ");
    if (step.kind == Step::Kind::kByteLevel) token = BytesOfByteLevel(token).value_or(token);
    if (step.kind == Step::Kind::kByteFallback) {
      if (const std::optional<char> byte = FallbackByte(token)) token = std::string(1, *byte);
    }
  }
  return token;
}

bool Decoder::CanEndPart(const std::vector<std::string>& tokens) const {
  if (tokens.empty()) return false;
  bool is_fused = false;
  for (const Step& step : steps_) {
    switch (step.kind) {
      case Step::Kind::kByteFallback:
        if (is_fused || FallbackByte(tokens.back())) return false;
        break;
      case Step::Kind::kByteLevel:
        if (is_fused || EndsWithinCharacter(JoinByteLevel(tokens))) return false;
        is_fused = true;
        break;
      case Step::Kind::kFuse:
        is_fused = true;
        break;
      case Step::Kind::kReplace:
        if (is_fused) return false;  // A match may reach into what follows.
        break;
      case Step::Kind::kStrip:
        if (is_fused && step.num_stop > 0) return false;
        break;
      case Step::Kind::kMetaspace:
        if (is_fused) return false;
        break;
    }
  }
  return true;
}

}  // namespace ram
