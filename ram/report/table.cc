#include "ram/report/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "ram/base/bytes.h"
#include "ram/base/result.h"

namespace ram {
namespace {

constexpr int kIndent = 2;  // Of tables and facts.
constexpr int kGap = 2;     // Between columns.
constexpr int kMinBar = 6;  // Narrower bars say nothing.
constexpr int kMaxBar = 24;
constexpr int kMinName = 20;  // Optional columns go before names are cut to less.
constexpr int kMaxParagraph = 100;

// One character of UTF-8. `size` is 0 where the bytes are none.
struct Character {
  char32_t code = 0;
  size_t size = 0;
};

Character NextCharacter(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return {first, 1};
  const size_t size = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() < size) return {};
  char32_t code = first & (0xFFu >> (size + 1));
  for (size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xC0u) != 0x80) return {};
    code = code << 6 | (byte(i) & 0x3Fu);
  }
  constexpr std::array<char32_t, 5> kSmallest = {0, 0, 0x80, 0x800, 0x10000};
  const bool is_surrogate = code >= 0xD800 && code <= 0xDFFF;
  if (code < kSmallest[size] || code > 0x10FFFF || is_surrogate) return {};
  return {code, size};
}

struct Range {
  char32_t first, last;
};

template <size_t kSize>
bool IsIn(char32_t code, const std::array<Range, kSize>& ranges) {
  return std::any_of(ranges.begin(), ranges.end(), [code](const Range& range) {
    return range.first <= code && code <= range.last;
  });
}

int CharacterWidth(char32_t code) {
  constexpr std::array<Range, 7> kNone = {{{0x300, 0x36F},
                                           {0x200B, 0x200F},
                                           {0x202A, 0x202E},
                                           {0x2060, 0x2069},
                                           {0x20D0, 0x20FF},
                                           {0xFE00, 0xFE0F},
                                           {0xFEFF, 0xFEFF}}};
  constexpr std::array<Range, 8> kWide = {{{0x1100, 0x115F},
                                           {0x2E80, 0xA4CF},
                                           {0xAC00, 0xD7A3},
                                           {0xF900, 0xFAFF},
                                           {0xFE30, 0xFE6F},
                                           {0xFF00, 0xFF60},
                                           {0x1F300, 0x1FAFF},
                                           {0x20000, 0x3FFFD}}};
  if (IsIn(code, kNone)) return 0;
  return IsIn(code, kWide) ? 2 : 1;
}

// Of what ram itself writes; everything else becomes "?".
std::string_view AsciiFor(char32_t code) {
  switch (code) {
    case U'×':
      return "x";
    case U'…':
      return "...";
    case U'–':
    case U'—':
    case U'−':
      return "-";
    case U'→':
      return "->";
    case U'·':
      return "-";
    case U'λ':
      return "lambda";
    case U'≤':
      return "<=";
    case U'≥':
      return ">=";
    default:
      return "?";
  }
}

std::string_view Ellipsis(const Style& style) { return style.unicode ? "…" : "~"; }

// The longest beginning of at most `width` columns.
std::string_view Head(std::string_view text, int width) {
  size_t at = 0;
  while (at < text.size()) {
    const Character next = NextCharacter(text.substr(at));
    const int columns = next.size == 0 ? 1 : CharacterWidth(next.code);
    if (columns > width) break;
    width -= columns;
    at += std::max<size_t>(next.size, 1);
  }
  return text.substr(0, at);
}

// The longest end of at most `width` columns.
std::string_view Tail(std::string_view text, int width) {
  int skip = DisplayWidth(text) - width;
  size_t at = 0;
  while (at < text.size() && skip > 0) {
    const Character next = NextCharacter(text.substr(at));
    skip -= next.size == 0 ? 1 : CharacterWidth(next.code);
    at += std::max<size_t>(next.size, 1);
  }
  return text.substr(at);
}

std::string Blanks(int count) { return std::string(static_cast<size_t>(std::max(count, 0)), ' '); }

void TrimEnd(std::string* line) {
  while (!line->empty() && line->back() == ' ') line->pop_back();
}

int RowWidth(const std::vector<int>& widths) {
  int total = 0;
  int shown = 0;
  for (const int width : widths) {
    if (width < 0) continue;
    total += width;
    ++shown;
  }
  return total + kGap * std::max(shown - 1, 0);
}

}  // namespace

std::string Paint(std::string_view text, Tint tint, const Style& style) {
  constexpr std::array<std::string_view, 6> kCodes = {"", "1", "2", "32", "33", "31"};
  if (!style.color || tint == Tint::kNone || text.empty()) return std::string(text);
  return fmt::format("\x1b[{}m{}\x1b[0m", kCodes[static_cast<size_t>(tint)], text);
}

int DisplayWidth(std::string_view text) {
  int width = 0;
  while (!text.empty()) {
    const Character next = NextCharacter(text);
    width += next.size == 0 ? 1 : CharacterWidth(next.code);
    text.remove_prefix(std::max<size_t>(next.size, 1));
  }
  return width;
}

std::string Printable(std::string_view text, const Style& style) {
  std::string out;
  while (!text.empty()) {
    const Character next = NextCharacter(text);
    const bool is_control = next.code < 0x20 || (next.code >= 0x7F && next.code < 0xA0);
    const bool turns_text = (next.code >= 0x202A && next.code <= 0x202E) ||
                            (next.code >= 0x2066 && next.code <= 0x2069);
    if (next.size == 0 || is_control || turns_text) {
      out += '?';
    } else if (next.code >= 0x80 && !style.unicode) {
      out += AsciiFor(next.code);
    } else {
      out += text.substr(0, next.size);
    }
    text.remove_prefix(std::max<size_t>(next.size, 1));
  }
  return out;
}

std::string CutMiddle(std::string_view text, int width, const Style& style) {
  if (DisplayWidth(text) <= width) return std::string(text);
  const std::string_view dots = Ellipsis(style);
  const int room = width - DisplayWidth(dots);
  if (room < 2) return std::string(Head(text, std::max(width, 0)));
  const int tail = (room + 1) / 2;  // Ends differ more often than beginnings.
  return fmt::format("{}{}{}", Head(text, room - tail), dots, Tail(text, tail));
}

std::string CutEnd(std::string_view text, int width, const Style& style) {
  if (DisplayWidth(text) <= width) return std::string(text);
  const std::string_view dots = Ellipsis(style);
  const int room = width - DisplayWidth(dots);
  if (room < 2) return std::string(Head(text, std::max(width, 0)));
  std::string head(Head(text, room));
  TrimEnd(&head);
  return head.append(dots);
}

std::string Bar(double share, int width, const Style& style) {
  constexpr std::array<std::string_view, 8> kEighths = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  if (!(share > 0) || width <= 0) return "";
  const double columns = std::min(share, 1.0) * width;
  std::string bar;
  if (!style.unicode) {
    return std::string(static_cast<size_t>(std::max(1.0, std::round(columns))), '#');
  }
  const auto eighths = static_cast<size_t>(std::max(1.0, std::round(columns * 8)));
  for (size_t i = 0; i < eighths / 8; ++i) bar += "█";
  return bar.append(kEighths[eighths % 8]);
}

std::string Wrap(std::string_view text, const Style& style, int first, int indent) {
  const std::string clean = Printable(text, style);
  const int width = std::max(std::min(style.width, kMaxParagraph), 1);
  indent = std::min(indent, std::max(width - 2, 0));  // Room for a wide character.
  first = std::min(first, std::max(width - 2, 0));
  std::string out = Blanks(first);
  int column = first;
  bool at_start = true;
  std::string_view rest = clean;
  while (!rest.empty()) {
    size_t blank = rest.find(' ');
    while (rest.substr(std::min(blank, rest.size())).starts_with(" %")) {  // Stays with its number.
      blank = rest.find(' ', blank + 1);
    }
    blank = std::min(blank, rest.size());
    std::string_view word = rest.substr(0, blank);
    rest.remove_prefix(std::min(blank + 1, rest.size()));
    if (word.empty()) continue;
    if (!at_start && column + 1 + DisplayWidth(word) > width) {
      out += '\n';
      out += Blanks(indent);
      column = indent;
      at_start = true;
    }
    if (!at_start) {
      out += ' ';
      ++column;
    }
    while (DisplayWidth(word) > width - column) {
      std::string_view head = Head(word, width - column);
      if (head.empty()) head = word.substr(0, std::max<size_t>(NextCharacter(word).size, 1));
      out += head;
      word.remove_prefix(head.size());
      out += '\n';
      out += Blanks(indent);
      column = indent;
    }
    out += word;
    column += DisplayWidth(word);
    at_start = false;
  }
  return out.find_first_not_of(' ') == std::string::npos ? "" : out + "\n";
}

std::string Heading(std::string_view text, const Style& style) {
  return Paint(CutMiddle(Printable(text, style), style.width, style), Tint::kBold, style) + "\n";
}

std::string Counted(uint64_t count, std::string_view noun) {
  return fmt::format("{} {}{}", FormatCount(count), noun, count == 1 ? "" : "s");
}

std::string Percent(double share) {
  const double percent = 100 * share;
  const double size = std::abs(percent);
  if (!std::isfinite(percent)) return "-";
  if (size == 0 || size >= 99.95) return fmt::format("{:.0f} %", percent);
  if (size >= 0.095) return fmt::format("{:.1f} %", percent);
  if (size < 0.0001) return fmt::format("<{}0.0001 %", percent < 0 ? "-" : "");
  return fmt::format("{:.2g} %", percent);
}

std::string Facts(const std::vector<std::pair<std::string, std::string>>& facts,
                  const Style& style) {
  int label_width = 0;
  for (const auto& [label, value] : facts) {
    label_width = std::max(label_width, DisplayWidth(Printable(label, style)));
  }
  // Where labels would take most of the line, values go below them.
  const bool is_narrow = label_width + kIndent + kGap > style.width / 2;
  const int value_column = is_narrow ? std::min(2 * kIndent, std::max(style.width - 1, 0))
                                     : kIndent + label_width + kGap;
  std::string out;
  for (const auto& [label, value] : facts) {
    const int indent = std::min(kIndent, std::max(style.width - 1, 0));
    const std::string shown = CutEnd(Printable(label, style), style.width - indent, style);
    std::string lines = Wrap(value, style, value_column, value_column);
    if (is_narrow) {
      out += Blanks(indent) + Paint(shown, Tint::kDim, style) + "\n" + lines;
    } else {
      lines.erase(
          0, static_cast<size_t>(std::min(value_column - kGap, static_cast<int>(lines.size()))));
      out += Blanks(kIndent) + Paint(shown, Tint::kDim, style) +
             Blanks(label_width - DisplayWidth(shown)) + (lines.empty() ? "\n" : lines);
    }
  }
  return out;
}

Table::Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

void Table::AddRow(std::vector<Cell> cells) {
  RAM_CHECK(cells.size() <= columns_.size());
  rows_.push_back({std::move(cells), false});
}

void Table::AddRule() { rows_.push_back({{}, true}); }

// Width of every column; -1: not shown.
std::vector<int> Table::Widths(const Style& style) const {
  const int room = std::max(style.width - kIndent, 1);
  std::vector<int> widths(columns_.size(), 0);
  const auto is_flexible = [&](size_t i) {
    return columns_[i].kind == Column::Kind::kName || columns_[i].kind == Column::Kind::kRemark;
  };
  for (size_t i = 0; i < columns_.size(); ++i) {
    widths[i] = DisplayWidth(Printable(columns_[i].title, style));
    if (columns_[i].kind == Column::Kind::kBar) {
      widths[i] = kMinBar;
      continue;
    }
    for (const Row& row : rows_) {
      if (i >= row.cells.size()) continue;
      widths[i] = std::max(widths[i], DisplayWidth(Printable(row.cells[i].text, style)));
    }
  }

  // What the columns need at least: names may be cut, but not to nothing while others can go.
  const auto needed = [&] {
    std::vector<int> least = widths;
    for (size_t i = 0; i < least.size(); ++i) {
      if (is_flexible(i)) least[i] = std::min(least[i], kMinName);
    }
    return RowWidth(least);
  };
  for (size_t i = columns_.size(); i-- > 0 && needed() > room;) {
    if (columns_[i].kind == Column::Kind::kBar) widths[i] = -1;
  }
  for (size_t i = columns_.size(); i-- > 0 && needed() > room;) {
    if (columns_[i].optional) widths[i] = -1;
  }

  // The widest flexible column gives way first, then the widest of all; then columns go.
  const auto shrink = [&](bool flexible_only, int least) {
    while (RowWidth(widths) > room) {
      size_t widest = columns_.size();
      for (size_t i = 0; i < columns_.size(); ++i) {
        if (widths[i] <= least || (flexible_only && !is_flexible(i))) continue;
        if (widest == columns_.size() || widths[i] > widths[widest]) widest = i;
      }
      if (widest == columns_.size()) return;
      --widths[widest];
    }
  };
  shrink(/*flexible_only=*/true, kMinName);
  shrink(/*flexible_only=*/true, 8);
  shrink(/*flexible_only=*/false, 3);
  for (size_t i = columns_.size(); i-- > 1 && RowWidth(widths) > room;) widths[i] = -1;
  shrink(/*flexible_only=*/false, 1);

  for (size_t i = 0; i < columns_.size(); ++i) {  // Bars take what is left.
    if (columns_[i].kind != Column::Kind::kBar || widths[i] < 0) continue;
    widths[i] = std::clamp(widths[i] + room - RowWidth(widths), widths[i], kMaxBar);
  }
  return widths;
}

std::string Table::Text(const Style& style) const {
  const std::vector<int> widths = Widths(style);
  const int indent = std::min(kIndent, std::max(style.width - 1, 0));
  const auto line = [&](const std::vector<Cell>& cells, bool is_title) {
    std::string out = Blanks(indent);
    int column = 0;  // Where the text ends, from the indent.
    int start = 0;   // Where this cell begins.
    for (size_t i = 0; i < columns_.size(); ++i) {
      if (widths[i] < 0) continue;
      if (i < cells.size()) {
        const Cell& cell = cells[i];
        std::string text;
        if (columns_[i].kind == Column::Kind::kBar && !is_title) {
          text = Bar(cell.share, widths[i], style);
        } else {
          text = Printable(cell.text, style);
          text = columns_[i].kind == Column::Kind::kName ? CutMiddle(text, widths[i], style)
                                                         : CutEnd(text, widths[i], style);
        }
        const int width = DisplayWidth(text);
        const int shift = columns_[i].align == Align::kRight ? widths[i] - width : 0;
        if (width > 0) {
          out += Blanks(start + shift - column) +
                 Paint(text, is_title ? Tint::kDim : cell.tint, style);
          column = start + shift + width;
        }
      }
      start += widths[i] + kGap;
    }
    TrimEnd(&out);
    return out + "\n";
  };
  std::string rule = Blanks(indent);
  for (int i = 0; i < RowWidth(widths) && i < style.width - indent; ++i) {
    rule += style.unicode ? "─" : "-";
  }
  rule = Paint(rule, Tint::kDim, style) + "\n";

  std::string out;
  const bool has_titles = std::any_of(columns_.begin(), columns_.end(),
                                      [](const Column& column) { return !column.title.empty(); });
  if (has_titles) {
    std::vector<Cell> titles;
    for (const Column& column : columns_) titles.emplace_back(column.title);
    out += line(titles, /*is_title=*/true) + rule;
  }
  for (const Row& row : rows_) out += row.is_rule ? rule : line(row.cells, /*is_title=*/false);
  return out;
}

}  // namespace ram
