#include "ram/text/jinja_lexer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>

#include "ram/text/jinja_syntax.h"
#include "ram/text/unicode.h"

namespace ram::jinja {
namespace {

bool IsSpace(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsNameStart(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool IsNamePart(char c) { return IsNameStart(c) || IsDigit(c); }

// With \n for all line ends, and without the last one.
std::string Prepared(std::string_view text) {
  std::string prepared;
  prepared.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\r') {
      prepared += text[i];
    } else if (i + 1 == text.size() || text[i + 1] != '\n') {
      prepared += '\n';
    }
  }
  if (prepared.ends_with('\n')) prepared.pop_back();
  return prepared;
}

class Lexer {
 public:
  Lexer(std::string text, std::string_view where) : text_(std::move(text)), where_(where) {}

  Result<std::vector<Token>> Run() {
    while (at_ < text_.size()) {
      const size_t tag = FindTag(at_);
      AddText(tag);
      if (tag == text_.size()) break;
      const char kind = text_[tag + 1];
      at_ = tag + 2;
      if (at_ < text_.size() && (text_[at_] == '-' || text_[at_] == '+')) ++at_;
      if (kind == '#') {
        RAM_RETURN_IF_ERROR(SkipComment(tag));
      } else {
        RAM_RETURN_IF_ERROR(LexTag(kind == '%', tag));
      }
    }
    Add(Token::Kind::kEnd, "", text_.size());
    return std::move(tokens_);
  }

 private:
  Error Fail(size_t at, std::string message) {
    const std::string_view before = std::string_view(text_).substr(0, at);
    const auto line = static_cast<uint32_t>(std::count(before.begin(), before.end(), '\n') + 1);
    const auto column = static_cast<uint32_t>(at - (before.rfind('\n') + 1) + 1);
    return ErrorAt(where_, line, column, Error{ErrorCode::kCorrupt, std::move(message)});
  }

  // Positions of tokens only grow, so lines are counted once.
  std::pair<uint32_t, uint32_t> PlaceOf(size_t at) {
    for (; counted_ < at && counted_ < text_.size(); ++counted_) {
      if (text_[counted_] == '\n') {
        ++line_;
        line_begin_ = counted_ + 1;
      }
    }
    const size_t column = at >= line_begin_ ? at - line_begin_ + 1 : 1;
    return {line_, static_cast<uint32_t>(column)};
  }

  void Add(Token::Kind kind, std::string text, size_t at) {
    const auto [line, column] = PlaceOf(at);
    tokens_.push_back({kind, std::move(text), line, column});
  }

  size_t FindTag(size_t from) const {
    for (size_t at = from; (at = text_.find('{', at)) != std::string::npos; ++at) {
      if (at + 1 == text_.size()) break;
      const char next = text_[at + 1];
      if (next == '{' || next == '%' || next == '#') return at;
    }
    return text_.size();
  }

  // What lies between the last tag and the one at `tag`, less what the tags strip.
  void AddText(size_t tag) {
    size_t begin = at_, end = tag;
    if (strips_next_) {
      while (begin < end && IsSpace(text_[begin])) ++begin;
    } else if (trims_next_ && begin < end && text_[begin] == '\n') {
      ++begin;
    }
    strips_next_ = trims_next_ = false;
    if (tag < text_.size()) {
      const char sign = tag + 2 < text_.size() ? text_[tag + 2] : ' ';
      if (sign == '-') {
        while (end > begin && IsSpace(text_[end - 1])) --end;
      } else if (sign != '+' && text_[tag + 1] != '{') {
        // Blanks alone on the line before a block.
        size_t blank = end;
        while (blank > at_ && text_[blank - 1] != '\n' && IsSpace(text_[blank - 1])) --blank;
        const bool at_line_begin = blank == 0 || text_[blank - 1] == '\n';
        if (at_line_begin) end = std::max(begin, blank);
      }
    }
    if (begin < end) Add(Token::Kind::kText, text_.substr(begin, end - begin), begin);
    at_ = tag;
  }

  Status SkipComment(size_t tag) {
    const size_t end = text_.find("#}", at_);
    if (end == std::string::npos) return Fail(tag, "comment without end");
    EndTag(end, /*is_block=*/true);
    return Done{};
  }

  // `end`: of the two characters that close a tag.
  void EndTag(size_t end, bool is_block) {
    const char sign = end > 0 ? text_[end - 1] : ' ';
    strips_next_ = sign == '-';
    trims_next_ = is_block && sign != '+';
    at_ = end + 2;
  }

  Status LexTag(bool is_block, size_t tag) {
    if (is_block) {
      if (const std::optional<size_t> end = SkipWord(at_, "raw")) return LexRaw(tag, *end);
    }
    Add(is_block ? Token::Kind::kBlockBegin : Token::Kind::kPrintBegin, "", tag);
    const std::string_view close = is_block ? "%}" : "}}";
    int open_brackets = 0;
    while (true) {
      while (at_ < text_.size() && IsSpace(text_[at_])) ++at_;
      if (at_ >= text_.size()) return Fail(tag, "tag without end");
      const bool has_sign = text_[at_] == '-' || (is_block && text_[at_] == '+');
      const size_t end = at_ + (has_sign ? 1 : 0);
      if (open_brackets == 0 && std::string_view(text_).substr(end).starts_with(close)) {
        Add(is_block ? Token::Kind::kBlockEnd : Token::Kind::kPrintEnd, "", at_);
        EndTag(end, is_block);
        return Done{};
      }
      const char c = text_[at_];
      if (c == '(' || c == '[' || c == '{') ++open_brackets;
      if ((c == ')' || c == ']' || c == '}') && --open_brackets < 0) {
        return Fail(at_, fmt::format("'{}' closes nothing", c));
      }
      RAM_RETURN_IF_ERROR(LexToken());
    }
  }

  // After `word` and the end of its tag, both from `at`; nullopt if something else is there.
  std::optional<size_t> SkipWord(size_t at, std::string_view word) const {
    while (at < text_.size() && IsSpace(text_[at])) ++at;
    if (!std::string_view(text_).substr(at).starts_with(word)) return std::nullopt;
    at += word.size();
    while (at < text_.size() && IsSpace(text_[at])) ++at;
    if (at < text_.size() && (text_[at] == '-' || text_[at] == '+')) ++at;
    if (!std::string_view(text_).substr(at).starts_with("%}")) return std::nullopt;
    return at + 2;
  }

  // {% raw %} up to {% endraw %}.
  Status LexRaw(size_t tag, size_t begin) {
    EndTag(begin - 2, /*is_block=*/true);
    for (size_t at = begin; (at = text_.find("{%", at)) != std::string::npos; at += 2) {
      size_t name = at + 2;
      if (name < text_.size() && (text_[name] == '-' || text_[name] == '+')) ++name;
      const std::optional<size_t> end = SkipWord(name, "endraw");
      if (!end) continue;
      AddText(at);
      EndTag(*end - 2, /*is_block=*/true);
      return Done{};
    }
    return Fail(tag, "raw block without end");
  }

  Status LexToken() {
    const size_t begin = at_;
    const char c = text_[at_];
    if (c == '"' || c == '\'') return LexString();
    if (IsDigit(c)) {
      while (at_ < text_.size() && IsDigit(text_[at_])) ++at_;
      bool is_float = false;
      if (at_ + 1 < text_.size() && text_[at_] == '.' && IsDigit(text_[at_ + 1])) {
        is_float = true;
        for (++at_; at_ < text_.size() && IsDigit(text_[at_]);) ++at_;
      }
      const size_t sign = at_ + 1;
      const size_t exponent =
          sign < text_.size() && (text_[sign] == '-' || text_[sign] == '+') ? sign + 1 : sign;
      if (at_ < text_.size() && (text_[at_] == 'e' || text_[at_] == 'E') &&
          exponent < text_.size() && IsDigit(text_[exponent])) {
        is_float = true;
        for (at_ = exponent; at_ < text_.size() && IsDigit(text_[at_]);) ++at_;
      }
      if (at_ < text_.size() && IsNameStart(text_[at_])) return Fail(begin, "not a number");
      Add(is_float ? Token::Kind::kFloat : Token::Kind::kInteger, text_.substr(begin, at_ - begin),
          begin);
      return Done{};
    }
    if (IsNameStart(c)) {
      while (at_ < text_.size() && IsNamePart(text_[at_])) ++at_;
      Add(Token::Kind::kName, text_.substr(begin, at_ - begin), begin);
      return Done{};
    }
    constexpr std::array<std::string_view, 27> kOperators = {
        "//", "**", "==", "!=", ">=", "<=", "+", "-", "*", "/", "%", "~", "<", ">",
        "=",  "(",  ")",  "[",  "]",  "{",  "}", ".", ",", ":", "|", ";", "!"};
    for (const std::string_view text : kOperators) {
      if (!std::string_view(text_).substr(at_).starts_with(text)) continue;
      Add(Token::Kind::kOperator, std::string(text), at_);
      at_ += text.size();
      return Done{};
    }
    return Fail(at_, "unexpected character");
  }

  // Python's escapes.
  Status LexString() {
    const size_t begin = at_;
    const char quote = text_[at_++];
    std::string value;
    while (true) {
      if (at_ >= text_.size()) return Fail(begin, "string without end");
      const char c = text_[at_++];
      if (c == quote) break;
      if (c != '\\') {
        value += c;
        continue;
      }
      if (at_ >= text_.size()) return Fail(begin, "string without end");
      const char escape = text_[at_++];
      constexpr std::string_view kFrom = "ntrabfv\\'\"", kTo = "\n\t\r\a\b\f\v\\'\"";
      const size_t simple = kFrom.find(escape);
      if (simple != std::string_view::npos) {
        value += kTo[simple];
      } else if (escape == 'x' || escape == 'u' || escape == 'U') {
        RAM_RETURN_IF_ERROR(AppendCodePoint(escape == 'x' ? 2 : escape == 'u' ? 4 : 8, value));
      } else if (escape != '\n') {
        value += '\\';
        value += escape;
      }
    }
    Add(Token::Kind::kString, std::move(value), begin);
    return Done{};
  }

  Status AppendCodePoint(size_t num_digits, std::string& value) {
    uint64_t code_point = 0;
    for (size_t i = 0; i < num_digits; ++i, ++at_) {
      const char c = at_ < text_.size() ? text_[at_] : ' ';
      const int digit = IsDigit(c)             ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) return Fail(at_, "expected a hexadecimal digit");
      code_point = code_point * 16 + static_cast<uint64_t>(digit);
    }
    if (code_point > 0x10FFFF || (code_point >= 0xD800 && code_point < 0xE000)) {
      return Fail(at_, "no such character");
    }
    AppendUtf8(static_cast<char32_t>(code_point), value);
    return Done{};
  }

  std::string text_;
  std::string_view where_;
  std::vector<Token> tokens_;
  size_t at_ = 0;
  bool strips_next_ = false;  // All white space behind the last tag,
  bool trims_next_ = false;   // or one line end.
  size_t counted_ = 0, line_begin_ = 0;
  uint32_t line_ = 1;
};

}  // namespace

Result<std::vector<Token>> CutIntoTokens(std::string_view text, std::string_view where) {
  if (const std::optional<size_t> invalid = FindInvalidUtf8(text)) {
    return Error{ErrorCode::kCorrupt, fmt::format("{}: byte {} is not UTF-8", where, *invalid)};
  }
  return Lexer(Prepared(text), where).Run();
}

Error ErrorAt(std::string_view where, uint32_t line, uint32_t column, const Error& error) {
  return Error{error.code,
               fmt::format("{}: line {}, column {}: {}", where, line, column, error.message)};
}

}  // namespace ram::jinja
