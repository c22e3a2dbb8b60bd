#include <fmt/format.h>

#include <array>
#include <charconv>

#include "ram/plan/plan.h"

namespace ram {
namespace {

constexpr std::string_view kPinForm =
    "expected PATTERN=CHOICE, PATTERN>=BITS or PATTERN<=BITS, e.g. lm_head=8,64";
constexpr std::string_view kBanForm =
    "expected PATTERN=CHOICE, PATTERN=BITS or BITS, e.g. down_proj=2,128";

Error NotARule(std::string_view text, std::string_view why, std::string_view form) {
  return Error{ErrorCode::kInvalidArgument, fmt::format("\"{}\": {}: {}", text, why, form)};
}

std::string_view Trim(std::string_view text) {
  constexpr std::string_view kBlanks = " \t";
  const size_t begin = text.find_first_not_of(kBlanks);
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1);
}

// Components are never empty; brackets and the like are no letters of module names.
bool IsPattern(std::string_view pattern) {
  if (pattern.empty() || pattern.front() == '.' || pattern.back() == '.') return false;
  if (pattern.find("..") != pattern.npos) return false;
  for (const char c : pattern) {
    const bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                           (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '/';
    if (!is_letter && c != '.' && c != '*' && c != '?') return false;
  }
  return true;
}

// A number of bits that some choice has, or nothing.
std::optional<int> ParseBits(std::string_view text) {
  int bits = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), bits);
  if (error != std::errc() || end != text.data() + text.size()) return {};
  for (const int known : kBits) {
    if (bits == known) return bits;
  }
  if (bits == 16) return bits;
  return {};
}

// * is any run of characters, ? is one.
bool MatchesComponent(std::string_view pattern, std::string_view name) {
  size_t p = 0;
  size_t n = 0;
  size_t star = pattern.npos;  // Last * so far, and where its run ends.
  size_t star_end = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_end = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star != pattern.npos) {
      p = star + 1;
      n = ++star_end;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

// Takes the first component off `path`.
std::string_view TakeComponent(std::string_view& path) {
  const size_t dot = path.find('.');
  const std::string_view component = path.substr(0, dot);
  path = dot == path.npos ? std::string_view() : path.substr(dot + 1);
  return component;
}

bool MatchesStart(std::string_view pattern, std::string_view module) {
  while (!pattern.empty()) {
    if (module.empty()) return false;
    if (!MatchesComponent(TakeComponent(pattern), TakeComponent(module))) return false;
  }
  return true;
}

}  // namespace

Result<Rule> ParsePin(std::string_view text) {
  const std::string_view trimmed = Trim(text);
  Rule rule;
  rule.text = trimmed;
  const size_t sign = trimmed.find_first_of("=<>");
  if (sign == trimmed.npos) return NotARule(text, "no =, >= or <= in it", kPinForm);
  rule.pattern = Trim(trimmed.substr(0, sign));
  if (!IsPattern(rule.pattern)) {
    return NotARule(text, "what stands in front is no pattern of module names", kPinForm);
  }
  if (trimmed[sign] == '=') {
    const std::string_view name = Trim(trimmed.substr(sign + 1));
    const auto choice = ParseChoice(name);
    if (!choice) return NotARule(text, choice.error().message, kPinForm);
    rule.kind = Rule::Kind::kPin;
    rule.choice = *choice;
    return rule;
  }
  if (sign + 1 >= trimmed.size() || trimmed[sign + 1] != '=') {
    return NotARule(text, "= is missing after < or >", kPinForm);
  }
  rule.kind = trimmed[sign] == '>' ? Rule::Kind::kAtLeast : Rule::Kind::kAtMost;
  const auto bits = ParseBits(Trim(trimmed.substr(sign + 2)));
  if (!bits) return NotARule(text, "bits are 2, 3, 4, 5, 6, 8 or 16", kPinForm);
  rule.bits = *bits;
  return rule;
}

Result<Rule> ParseBan(std::string_view text) {
  const std::string_view trimmed = Trim(text);
  Rule rule;
  rule.kind = Rule::Kind::kBan;
  rule.text = trimmed;
  const size_t sign = trimmed.find('=');
  // Without a pattern: everywhere.
  rule.pattern = sign == trimmed.npos ? std::string_view("*") : Trim(trimmed.substr(0, sign));
  if (!IsPattern(rule.pattern)) {
    return NotARule(text, "what stands in front is no pattern of module names", kBanForm);
  }
  const std::string_view what = Trim(sign == trimmed.npos ? trimmed : trimmed.substr(sign + 1));
  if (const auto bits = ParseBits(what)) {
    rule.bits = *bits;
    return rule;
  }
  const auto choice = ParseChoice(what);
  if (!choice) return NotARule(text, choice.error().message, kBanForm);
  rule.choice = *choice;
  return rule;
}

bool MatchesPattern(std::string_view pattern, std::string_view module) {
  while (!module.empty()) {
    if (MatchesStart(pattern, module)) return true;
    TakeComponent(module);
  }
  return false;
}

}  // namespace ram
