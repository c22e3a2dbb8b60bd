#include "ram/text/jinja_text_methods.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <iterator>

#include "ram/base/number.h"
#include "ram/text/unicode.h"

namespace ram::jinja {
namespace {

// str.isspace(): White_Space, and the four separators of ASCII.
bool IsPythonSpace(char32_t c) { return IsWhiteSpace(c) || (c >= 0x1C && c <= 0x1F); }

std::string MapCharacters(std::string_view text, utf8proc_int32_t (*map)(utf8proc_int32_t),
                          bool upper) {
  std::string mapped;
  mapped.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Character c = CharacterAt(text, at);
    if (upper && c.code_point == 0xDF) {
      mapped += "SS";
    } else if (!upper && c.code_point == 0x130) {
      mapped += "i\u0307";
    } else {
      AppendUtf8(static_cast<char32_t>(map(static_cast<utf8proc_int32_t>(c.code_point))), mapped);
    }
    at += c.num_bytes;
  }
  return mapped;
}

std::string Upper(std::string_view text) {
  return MapCharacters(text, utf8proc_toupper, /*upper=*/true);
}

// "they're HERE" as "They'Re Here".
std::string Title(std::string_view text) {
  std::string title;
  bool in_word = false;
  for (const std::string_view character : Characters(text)) {
    title += in_word ? Lower(character) : Upper(character);
    in_word = (ClassesOf(CharacterAt(character, 0).code_point) & kLetter) != 0;
  }
  return title;
}

std::string Capitalize(std::string_view text) {
  if (text.empty()) return "";
  const size_t first = CharacterAt(text, 0).num_bytes;
  return Upper(text.substr(0, first)) + Lower(text.substr(first));
}

// What strip() takes away: the characters of its argument, or white space.
Result<Value> Strip(std::string_view text, const Arguments& arguments, bool left, bool right) {
  const Value* given = arguments.Get(0, "chars");
  if (given != nullptr && !given->is_text() && !given->is_none()) {
    return Mistake("strip: expected a text");
  }
  const std::optional<std::vector<std::string_view>> set =
      given != nullptr && given->is_text()
          ? std::optional<std::vector<std::string_view>>(Characters(given->text()))
          : std::nullopt;
  const auto goes = [&](std::string_view character) {
    return set ? std::find(set->begin(), set->end(), character) != set->end()
               : IsPythonSpace(CharacterAt(character, 0).code_point);
  };
  while (left && !text.empty()) {
    const size_t num_bytes = CharacterAt(text, 0).num_bytes;
    if (!goes(text.substr(0, num_bytes))) break;
    text.remove_prefix(num_bytes);
  }
  while (right && !text.empty()) {
    const size_t last = PreviousCharacter(text, text.size());
    if (!goes(text.substr(last))) break;
    text = text.substr(0, last);
  }
  return Value(text);
}

Result<Value> SplitAtSpace(std::string_view text, int64_t max_splits) {
  std::vector<Value> parts;
  size_t at = 0;
  const auto skip = [&](bool space) {
    while (at < text.size()) {
      const Character c = CharacterAt(text, at);
      if (IsPythonSpace(c.code_point) != space) break;
      at += c.num_bytes;
    }
  };
  for (skip(true); at < text.size(); skip(true)) {
    const size_t begin = at;
    if (max_splits >= 0 && static_cast<int64_t>(parts.size()) == max_splits) {
      RAM_ASSIGN_OR_RETURN(Value rest, Strip(text.substr(begin), {}, false, true));
      parts.push_back(std::move(rest));
      break;
    }
    skip(false);
    parts.push_back(text.substr(begin, at - begin));
  }
  return Value::OfList(std::move(parts));
}

// split and rsplit.
Result<Value> Split(std::string_view text, const Arguments& arguments, bool from_right) {
  const Value* separator = arguments.Get(0, "sep");
  const Value* max = arguments.Get(1, "maxsplit");
  const int64_t max_splits = max != nullptr && max->is_int() ? max->AsInt() : -1;
  if (separator == nullptr || separator->is_none()) {
    if (from_right && max_splits >= 0) return NotSupported("rsplit at white space with a limit");
    return SplitAtSpace(text, max_splits);
  }
  if (!separator->is_text() || separator->text().empty()) return Mistake("split at nothing");
  const std::string& between = separator->text();
  std::vector<Value> parts;
  while (max_splits < 0 || static_cast<int64_t>(parts.size()) < max_splits) {
    const size_t found = from_right ? text.rfind(between) : text.find(between);
    if (found == std::string_view::npos) break;
    const size_t behind = found + between.size();
    parts.push_back(from_right ? text.substr(behind) : text.substr(0, found));
    text = from_right ? text.substr(0, found) : text.substr(behind);
    if (parts.size() > kMaxItems) return NotSupported("a text of more than a million parts");
  }
  parts.push_back(text);
  if (from_right) std::reverse(parts.begin(), parts.end());
  return Value::OfList(std::move(parts));
}

Result<Value> SplitLines(std::string_view text, const Arguments& arguments) {
  const Value* keeps = arguments.Get(0, "keepends");
  std::vector<Value> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find_first_of("\n\r"), text.size());
    size_t behind = std::min(end + 1, text.size());
    if (text.substr(end).starts_with("\r\n")) ++behind;
    lines.push_back(text.substr(0, keeps != nullptr && keeps->IsTrue() ? behind : end));
    text.remove_prefix(behind);
  }
  return Value::OfList(std::move(lines));
}

// startswith and endswith: a text or several.
Result<Value> BeginsOrEnds(std::string_view text, const std::string& name,
                           const Arguments& arguments) {
  const Value* given = arguments.Get(0, "");
  if (arguments.positional.size() > 1) return NotSupported(name + " with bounds");
  const auto holds = [&](const Value& part) {
    return part.is_text() &&
           (name == "startswith" ? text.starts_with(part.text()) : text.ends_with(part.text()));
  };
  if (given != nullptr && given->is_text()) return Value(holds(*given));
  if (given != nullptr && given->is_list()) {
    return Value(std::any_of(given->list().begin(), given->list().end(), holds));
  }
  return Mistake(name + ": expected a text");
}

Result<Value> Replace(std::string_view text, const Arguments& arguments) {
  const Value* from = arguments.Get(0, "old");
  const Value* to = arguments.Get(1, "new");
  const Value* count = arguments.Get(2, "count");
  if (from == nullptr || to == nullptr || !from->is_text() || !to->is_text()) {
    return Mistake("replace: expected two texts");
  }
  int64_t left = count != nullptr && count->is_int() ? count->AsInt() : -1;
  const std::string& old = from->text();
  std::string replaced;
  size_t done = 0;
  for (; left != 0; --left) {
    size_t found = text.find(old, done);
    if (found == std::string_view::npos) break;
    if (old.empty()) {  // Before each character, and at the end.
      replaced += to->text();
      if (done == text.size()) break;
      found = done;
      const size_t num_bytes = CharacterAt(text, done).num_bytes;
      replaced.append(text, done, num_bytes);
      done += num_bytes;
    } else {
      replaced.append(text, done, found - done);
      replaced += to->text();
      done = found + old.size();
    }
    if (replaced.size() > kMaxTextBytes) return NotSupported("a text of more than 32 MiB");
  }
  replaced.append(text, done);
  return Value(std::move(replaced));
}

// find, rfind, index, count.
Result<Value> Find(std::string_view text, const std::string& name, const Arguments& arguments) {
  const Value* part = arguments.Get(0, "");
  if (part == nullptr || !part->is_text()) return Mistake(name + ": expected a text");
  if (arguments.positional.size() > 1) return NotSupported(name + " with bounds");
  const std::string& wanted = part->text();
  if (name == "count") {
    if (wanted.empty()) return Value(static_cast<int64_t>(NumCharacters(text)) + 1);
    int64_t count = 0;
    for (size_t at = 0; (at = text.find(wanted, at)) != std::string_view::npos;
         at += wanted.size()) {
      ++count;
    }
    return Value(count);
  }
  const size_t found = name == "rfind" ? text.rfind(wanted) : text.find(wanted);
  if (found != std::string_view::npos) {
    return Value(static_cast<int64_t>(NumCharacters(text.substr(0, found))));
  }
  if (name == "index") return Mistake("index: it is not in the text");
  return Value(int64_t{-1});
}

Result<Value> JoinList(const std::string& between, const Arguments& arguments) {
  const Value* parts = arguments.Get(0, "");
  if (parts == nullptr || !parts->is_list()) return Mistake("join: expected a list");
  std::string joined;
  bool is_first = true;
  for (const Value& part : parts->list()) {
    if (!part.is_text()) return Mistake("join: expected texts");
    if (!is_first) joined += between;
    is_first = false;
    joined += part.text();
    if (joined.size() > kMaxTextBytes) return NotSupported("a text of more than 32 MiB");
  }
  return Value(std::move(joined));
}

Result<Value> RemoveAffix(std::string_view text, const std::string& name,
                          const Arguments& arguments) {
  const Value* part = arguments.Get(0, "");
  if (part == nullptr || !part->is_text()) return Mistake(name + ": expected a text");
  if (name == "removeprefix" && text.starts_with(part->text())) {
    text.remove_prefix(part->text().size());
  }
  if (name == "removesuffix" && text.ends_with(part->text())) {
    text.remove_suffix(part->text().size());
  }
  return Value(text);
}

bool AreAll(std::string_view text, uint8_t classes) {
  const std::vector<std::string_view> characters = Characters(text);
  return !characters.empty() &&
         std::all_of(characters.begin(), characters.end(), [&](std::string_view character) {
           return (ClassesOf(CharacterAt(character, 0).code_point) & classes) != 0;
         });
}

constexpr std::string_view kMethods[] = {
    "strip",    "lstrip",  "rstrip",  "split",        "rsplit",      "splitlines", "startswith",
    "endswith", "upper",   "lower",   "title",        "capitalize",  "replace",    "find",
    "rfind",    "index",   "count",   "join",         "isdigit",     "isalpha",    "isspace",
    "isupper",  "islower", "isalnum", "removeprefix", "removesuffix"};

}  // namespace

bool IsTextMethod(std::string_view name) {
  return std::find(std::begin(kMethods), std::end(kMethods), name) != std::end(kMethods);
}

Result<Value> CallTextMethod(const std::string& text, const std::string& name,
                             const Arguments& arguments) {
  if (name == "strip") return Strip(text, arguments, true, true);
  if (name == "lstrip") return Strip(text, arguments, true, false);
  if (name == "rstrip") return Strip(text, arguments, false, true);
  if (name == "split") return Split(text, arguments, /*from_right=*/false);
  if (name == "rsplit") return Split(text, arguments, /*from_right=*/true);
  if (name == "splitlines") return SplitLines(text, arguments);
  if (name == "startswith" || name == "endswith") return BeginsOrEnds(text, name, arguments);
  if (name == "upper") return Value(Upper(text));
  if (name == "lower") return Value(Lower(text));
  if (name == "title") return Value(Title(text));
  if (name == "capitalize") return Value(Capitalize(text));
  if (name == "replace") return Replace(text, arguments);
  if (name == "join") return JoinList(text, arguments);
  if (name.starts_with("remove")) return RemoveAffix(text, name, arguments);
  if (name == "isdigit") return Value(AreAll(text, kNumber));
  if (name == "isalpha") return Value(AreAll(text, kLetter));
  if (name == "isalnum") return Value(AreAll(text, kLetter | kNumber));
  if (name == "isspace") return Value(AreAll(text, kWhiteSpace));
  if (name == "isupper" || name == "islower") return Value(IsCased(text, name == "isupper"));
  return Find(text, name, arguments);
}

size_t NumCharacters(std::string_view text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; }));
}

std::string Lower(std::string_view text) {
  return MapCharacters(text, utf8proc_tolower, /*upper=*/false);
}

bool IsCased(std::string_view text, bool upper) {
  bool has_case = false;
  for (const std::string_view character : Characters(text)) {
    const uint8_t classes = ClassesOf(CharacterAt(character, 0).code_point);
    if ((classes & (upper ? kLower : kUpperOrTitle)) != 0) return false;
    has_case = has_case || (classes & (upper ? kUpperOrTitle : kLower)) != 0;
  }
  return has_case;
}

std::optional<double> ParseNumber(std::string_view text) {
  while (!text.empty() && IsPythonSpace(static_cast<uint8_t>(text.front()))) text.remove_prefix(1);
  while (!text.empty() && IsPythonSpace(static_cast<uint8_t>(text.back()))) text.remove_suffix(1);
  if (text.starts_with('+')) text.remove_prefix(1);
  return ParseDouble(text);
}

Result<Value> Indent(const std::string& text, const Arguments& arguments) {
  std::string prefix(4, ' ');
  if (const Value* width = arguments.Get(0, "width"); width != nullptr) {
    if (width->is_text()) {
      prefix = width->text();
    } else if (width->is_int()) {
      prefix.assign(static_cast<size_t>(std::clamp<int64_t>(width->AsInt(), 0, 1000)), ' ');
    }
  }
  const Value* first = arguments.Get(1, "first");
  const Value* blank = arguments.Get(2, "blank");
  const bool indents_blank = blank != nullptr && blank->IsTrue();
  std::string indented = first != nullptr && first->IsTrue() ? prefix : "";
  for (size_t i = 0; i < text.size(); ++i) {
    indented += text[i];
    if (text[i] != '\n') continue;
    const bool is_blank = i + 1 == text.size() || text[i + 1] == '\n';
    if (indents_blank || !is_blank) indented += prefix;
    if (indented.size() > kMaxTextBytes) return NotSupported("a text of more than 32 MiB");
  }
  return Value(std::move(indented));
}

std::string TitleWords(std::string_view text) {
  std::string title;
  bool in_word = false;
  for (const std::string_view character : Characters(text)) {
    title += in_word ? Lower(character) : Upper(character);
    in_word = !IsPythonSpace(CharacterAt(character, 0).code_point) &&
              std::string_view("-({[<").find(character) == std::string_view::npos;
  }
  return title;
}

std::string EscapeHtml(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&#34;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

}  // namespace ram::jinja
