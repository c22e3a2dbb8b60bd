#include "ram/text/regex.h"

#include <fmt/format.h>

#include <array>
#include <optional>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "ram/text/unicode.h"

namespace ram {
namespace {

constexpr size_t kMaxPatternBytes = 64 << 10;
constexpr uint32_t kMatchLimit = 10'000'000;

// White_Space; PCRE2's \s has U+180E as well.
constexpr std::string_view kSpaces =
    R"(\x{9}-\x{D}\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
constexpr std::string_view kNotSpaces =
    R"(\x{0}-\x{8}\x{E}-\x{1F}\x{21}-\x{84}\x{86}-\x{9F}\x{A1}-\x{167F}\x{1681}-\x{1FFF})"
    R"(\x{200B}-\x{2027}\x{202A}-\x{202E}\x{2030}-\x{205E}\x{2060}-\x{2FFF}\x{3001}-\x{10FFFF})";
// Letters, marks, decimal and letter numbers, connectors, the fractions and superscripts of
// Latin-1, circled letters.
constexpr std::string_view kWords =
    R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{B2}\x{B3}\x{B9}\x{BC}-\x{BE}\x{24B6}-\x{24E9})"
    R"(\x{1F130}-\x{1F149}\x{1F150}-\x{1F169}\x{1F170}-\x{1F189})";

bool IsHexDigit(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

// Copies the pattern, rewriting what has to be.
class Translator {
 public:
  Translator(std::string_view pattern, std::string_view where) : pattern_(pattern), where_(where) {}

  Result<std::string> Run() {
    while (at_ < pattern_.size()) {
      const char c = pattern_[at_];
      if (c == '\\') {
        RAM_RETURN_IF_ERROR(Escape());
        continue;
      }
      RAM_RETURN_IF_ERROR(in_brackets_ ? CheckInBrackets() : CheckOutside());
      out_ += pattern_[at_++];
    }
    return std::move(out_);
  }

 private:
  Error Unsupported(std::string_view what) const {
    return Error{
        ErrorCode::kUnsupported,
        fmt::format("{}: regex {}: {} at byte {} is not supported", where_, Quoted(), what, at_)};
  }
  std::string Quoted() const { return fmt::format("\"{}\"", pattern_.substr(0, 200)); }
  bool NextIs(std::string_view text) const { return pattern_.substr(at_).starts_with(text); }

  Status Escape() {
    if (at_ + 1 >= pattern_.size()) return Unsupported("a backslash at the end");
    const char c = pattern_[at_ + 1];
    const auto put_set = [&](std::string_view set, std::string_view open) {
      out_ += in_brackets_ ? std::string(set) : fmt::format("{}{}]", open, set);
      at_ += 2;
      return Done{};
    };
    if (c == 's') return put_set(kSpaces, "[");
    if (c == 'S') return put_set(kNotSpaces, "[");
    if (c == 'w') return put_set(kWords, "[");
    if (c == 'W' && !in_brackets_) return put_set(kWords, "[^");
    if (c == 'u') {
      const std::string_view digits = pattern_.substr(at_ + 2, 4);
      if (digits.size() != 4) return Unsupported("\\u");
      for (const char digit : digits) {
        if (!IsHexDigit(digit)) return Unsupported("\\u");
      }
      out_ += fmt::format("\\x{{{}}}", digits);
      at_ += 6;
      return Done{};
    }
    const bool is_letter_or_digit =
        (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    constexpr std::string_view kSame = "dDpPrntfx";
    if (is_letter_or_digit && kSame.find(c) == std::string_view::npos) {
      return Unsupported(fmt::format("\\{}", c));
    }
    if (static_cast<uint8_t>(c) >= 0x80) return Unsupported("a backslash before a letter");
    // With what is in braces: \p{L}, \x{3042}.
    const bool has_braces =
        (c == 'p' || c == 'P' || c == 'x') && pattern_.substr(at_ + 2, 1) == "{";
    const size_t close = has_braces ? pattern_.find('}', at_) : at_ + 1;
    if (close == std::string_view::npos) return Unsupported("an open brace");
    out_.append(pattern_, at_, close + 1 - at_);
    at_ = close + 1;
    return Done{};
  }

  // `at_` is in [...]; Ruby's classes have intersections and nest.
  Status CheckInBrackets() {
    if (NextIs("&&")) return Unsupported("&& in a class");
    if (NextIs("[")) return Unsupported("[ in a class");
    if (NextIs("]")) {
      if (at_ == first_in_brackets_) return Unsupported("] at the beginning of a class");
      in_brackets_ = false;
    }
    return Done{};
  }

  Status CheckOutside() {
    if (NextIs("[")) {
      in_brackets_ = true;
      first_in_brackets_ = at_ + (NextIs("[^") ? 2 : 1);
      if (NextIs("[^")) out_ += pattern_[at_++];
      return Done{};
    }
    if (NextIs("(?")) {
      constexpr std::array<std::string_view, 6> kGroups = {"(?:", "(?i:", "(?!",
                                                           "(?=", "(?<!", "(?<="};
      bool is_known = false;
      for (const std::string_view group : kGroups) is_known = is_known || NextIs(group);
      if (!is_known) return Unsupported("this kind of group");
    }
    // In Ruby x{1,3}+ repeats x{1,3}, and x{,3} is x{0,3}.
    if (NextIs("}+")) return Unsupported("}+");
    if (NextIs("{,")) return Unsupported("{,");
    // "$" and "^" are about lines in Ruby.
    if (NextIs("^") || NextIs("$")) return Unsupported("an anchor");
    return Done{};
  }

  std::string_view pattern_, where_;
  std::string out_;
  size_t at_ = 0;
  size_t first_in_brackets_ = 0;
  bool in_brackets_ = false;
};

struct MatchContext {
  MatchContext() {
    pcre2_set_match_limit(context, kMatchLimit);
    pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~MatchContext() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
  MatchContext(const MatchContext&) = delete;
  MatchContext& operator=(const MatchContext&) = delete;

  pcre2_jit_stack* stack = pcre2_jit_stack_create(32 << 10, 1 << 20, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);  // The whole match only.
};

std::string PcreMessage(int code) {
  std::array<PCRE2_UCHAR, 256> text = {};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

}  // namespace

Result<std::string> ToPcreSyntax(std::string_view pattern, std::string_view where) {
  return Translator(pattern, where).Run();
}

struct Regex::Code {
  explicit Code(pcre2_code* compiled) : pcre(compiled) {}
  ~Code() { pcre2_code_free(pcre); }
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;

  pcre2_code* pcre;
};

Result<Regex> Regex::Compile(std::string_view pattern, std::string_view where) {
  if (pattern.size() > kMaxPatternBytes) {
    return Error{ErrorCode::kUnsupported, fmt::format("{}: a regex of {} bytes (limit {})", where,
                                                      pattern.size(), kMaxPatternBytes)};
  }
  RAM_ASSIGN_OR_RETURN(const std::string pcre, ToPcreSyntax(pattern, where));
  int code = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* const compiled =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pcre.data()), pcre.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &offset, nullptr);
  if (compiled == nullptr) {
    return Error{ErrorCode::kCorrupt, fmt::format("{}: regex \"{}\": {}", where,
                                                  pattern.substr(0, 200), PcreMessage(code))};
  }
  pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE);  // Where it cannot, matching interprets.
  Regex regex;
  regex.code_ = std::make_shared<const Code>(compiled);
  return regex;
}

Status Regex::ForEachMatch(std::string_view text,
                           const std::function<void(size_t, size_t)>& on_match) const {
  thread_local const MatchContext kMatch;
  const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const PCRE2_SIZE* const bounds = pcre2_get_ovector_pointer(kMatch.data);
  for (size_t at = 0; at <= text.size();) {
    const int result = pcre2_match(code_->pcre, subject, text.size(), at, PCRE2_NO_UTF_CHECK,
                                   kMatch.data, kMatch.context);
    if (result == PCRE2_ERROR_NOMATCH) break;
    if (result < 0) {
      return Error{
          ErrorCode::kInvalidArgument,
          fmt::format("the tokenizer's regex gives up at byte {} of a text of {} bytes: {}", at,
                      text.size(), PcreMessage(result))};
    }
    const size_t begin = bounds[0], end = bounds[1];
    on_match(begin, end);
    at = end;
    if (begin == end) {
      if (at >= text.size()) break;
      at += CharacterAt(text, at).num_bytes;
    }
  }
  return Done{};
}

}  // namespace ram
