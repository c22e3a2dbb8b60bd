#include "ram/text/normalizer.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <string>
#include <utility>

#include "ram/text/splitter.h"
#include "ram/text/unicode.h"

namespace ram {
namespace {

struct CodePointRange {
  char32_t first, last;
};

constexpr CodePointRange kUnicode9[] = {
#include "ram/text/unicode9.inc"
};

// Code points that NFC leaves alone, whatever is before them. Not all of them: those of most text,
// so that it passes without a look at larger tables.
constexpr CodePointRange kInertUnderNfc[] = {
    {0x00, 0x2FF},    {0x400, 0x482},   {0x561, 0x587},   {0x5D0, 0x5EA},   {0x621, 0x64A},
    {0x904, 0x928},   {0xE01, 0xE30},   {0x10D0, 0x10F0}, {0x1E00, 0x1EF9}, {0x2010, 0x2027},
    {0x2190, 0x21FF}, {0x3001, 0x3029}, {0x3041, 0x3096}, {0x30A1, 0x30FA}, {0x4E00, 0x9FD5},
    {0xAC00, 0xD7A3}, {0xFF01, 0xFF5E},
};

bool IsIn(char32_t c, const CodePointRange* begin, const CodePointRange* end) {
  const CodePointRange* range = std::upper_bound(
      begin, end, c, [](char32_t value, const CodePointRange& r) { return value < r.first; });
  return range != begin && c <= (range - 1)->last;
}

// utf8proc over one part of a text in which all code points are known to Unicode 9.
void AppendNormalized(std::string_view part, utf8proc_option_t form, std::string& to) {
  if (part.empty()) return;
  utf8proc_uint8_t* normalized = nullptr;
  const utf8proc_ssize_t num_bytes =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(part.data()),
                   static_cast<utf8proc_ssize_t>(part.size()), &normalized, form);
  RAM_CHECK(num_bytes >= 0);  // Fails on invalid UTF-8 and without memory.
  to.append(normalized, normalized + num_bytes);
  std::free(normalized);  // NOLINT: utf8proc gives memory of malloc.
}

Result<std::string_view> NormalForm(std::string_view text, utf8proc_option_t form,
                                    TextArena& arena) {
  const bool is_nfc = form == (UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  const auto is_inert = [is_nfc](char32_t c) {
    return c < 0xA0 || (is_nfc && IsIn(c, std::begin(kInertUnderNfc), std::end(kInertUnderNfc)));
  };
  std::string out;
  size_t copied = 0;      // What is before it is in `out`.
  size_t last_inert = 0;  // Beginning of the character that what follows may combine with.
  for (size_t at = 0; at < text.size();) {
    const Character c = CharacterAt(text, at);
    if (is_inert(c.code_point)) {
      last_inert = at;
      at += c.num_bytes;
      continue;
    }
    // A stretch that may change: from the last inert character to the next.
    out.append(text, copied, last_inert - copied);
    size_t part = last_inert;
    for (; at < text.size();) {
      const Character next = CharacterAt(text, at);
      if (is_inert(next.code_point)) break;
      if (!IsIn(next.code_point, std::begin(kUnicode9), std::end(kUnicode9))) {
        AppendNormalized(text.substr(part, at - part), form, out);
        out.append(text, at, next.num_bytes);
        part = at + next.num_bytes;
      }
      at += next.num_bytes;
    }
    AppendNormalized(text.substr(part, at - part), form, out);
    copied = last_inert = at;
  }
  if (copied == 0) return text;  // Nothing to look at.
  out.append(text, copied);
  return arena.Keep(std::move(out));
}

std::string Lowercase(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Character c = CharacterAt(text, at);
    if (c.code_point == 0x130) {
      out += "i\u0307";  // The only character whose lower case is two.
    } else {
      AppendUtf8(
          static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c.code_point))),
          out);
    }
    at += c.num_bytes;
  }
  return out;
}

std::string_view Strip(std::string_view text, bool left, bool right) {
  size_t begin = 0, end = text.size();
  while (left && begin < end) {
    const Character c = CharacterAt(text, begin);
    if (!IsWhiteSpace(c.code_point)) break;
    begin += c.num_bytes;
  }
  while (right && end > begin) {
    const size_t last = PreviousCharacter(text, end);
    if (!IsWhiteSpace(CharacterAt(text, last).code_point)) break;
    end = last;
  }
  return text.substr(begin, end - begin);
}

std::string StripAccents(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const Character c = CharacterAt(text, at);
    const bool is_mark = (ClassesOf(c.code_point) & kMark) != 0 &&
                         IsIn(c.code_point, std::begin(kUnicode9), std::end(kUnicode9));
    if (!is_mark) out.append(text, at, c.num_bytes);
    at += c.num_bytes;
  }
  return out;
}

}  // namespace

Result<Normalizer> Normalizer::Parse(const Json& json, std::string_view where) {
  Normalizer normalizer;
  if (!json.is_null()) RAM_RETURN_IF_ERROR(normalizer.Append(json, where));
  return normalizer;
}

Status Normalizer::Append(const Json& json, std::string_view where) {
  RAM_ASSIGN_OR_RETURN(const std::string type, GetString(json, "type", where));
  constexpr std::pair<std::string_view, int> kForms[] = {
      {"NFC", UTF8PROC_COMPOSE},
      {"NFD", UTF8PROC_DECOMPOSE},
      {"NFKC", UTF8PROC_COMPOSE | UTF8PROC_COMPAT},
      {"NFKD", UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT},
  };
  for (const auto& [name, options] : kForms) {
    if (type != name) continue;
    const auto form = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | options);
    steps_.push_back(
        [form](std::string_view text, TextArena& arena) { return NormalForm(text, form, arena); });
    return Done{};
  }
  if (type == "Sequence") {
    RAM_ASSIGN_OR_RETURN(const Json* parts, GetArray(json, "normalizers", where));
    for (const Json& part : *parts) RAM_RETURN_IF_ERROR(Append(part, where));
    return Done{};
  }
  if (type == "Prepend") {
    RAM_ASSIGN_OR_RETURN(std::string prefix, GetString(json, "prepend", where));
    steps_.push_back([prefix = std::move(prefix)](std::string_view text,
                                                  TextArena& arena) -> Result<std::string_view> {
      return text.empty() ? text : arena.Keep(fmt::format("{}{}", prefix, text));
    });
    return Done{};
  }
  if (type == "Replace") {
    RAM_ASSIGN_OR_RETURN(const Json* pattern, GetObject(json, "pattern", where));
    RAM_ASSIGN_OR_RETURN(std::string content, GetString(json, "content", where));
    RAM_ASSIGN_OR_RETURN(Splitter splitter, Splitter::OfPattern(*pattern, SplitBehavior::kIsolated,
                                                                /*invert=*/false, where));
    steps_.push_back([splitter = std::move(splitter), content = std::move(content)](
                         std::string_view text, TextArena& arena) -> Result<std::string_view> {
      RAM_ASSIGN_OR_RETURN(std::string replaced, splitter.Replace(text, content));
      return arena.Keep(std::move(replaced));
    });
    return Done{};
  }
  if (type == "Lowercase") {
    steps_.push_back([](std::string_view text, TextArena& arena) -> Result<std::string_view> {
      return arena.Keep(Lowercase(text));
    });
    return Done{};
  }
  if (type == "Strip") {
    RAM_ASSIGN_OR_RETURN(const bool left, GetBool(json, "strip_left", where));
    RAM_ASSIGN_OR_RETURN(const bool right, GetBool(json, "strip_right", where));
    steps_.push_back([left, right](std::string_view text, TextArena&) -> Result<std::string_view> {
      return Strip(text, left, right);
    });
    return Done{};
  }
  if (type == "StripAccents") {
    steps_.push_back([](std::string_view text, TextArena& arena) -> Result<std::string_view> {
      return arena.Keep(StripAccents(text));
    });
    return Done{};
  }
  return Error{ErrorCode::kUnsupported,
               fmt::format("{}: normalizer \"{}\" is not supported", where, type.substr(0, 80))};
}

Result<std::string_view> Normalizer::Run(std::string_view text, TextArena& arena) const {
  for (const Step& step : steps_) {
    RAM_ASSIGN_OR_RETURN(text, step(text, arena));
  }
  return text;
}

}  // namespace ram
