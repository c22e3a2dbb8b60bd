#pragma once

// Text for terminals: tables, labelled facts, bars, wrapped paragraphs. Nothing here is ever wider
// than Style::width, whatever it is given, and the same input gives the same text.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ram {

// What the reader's screen can show.
struct Style {
  int width = 80;  // Columns, >= 1.
  bool color = false;
  bool unicode = true;  // Else ASCII only.
};

enum class Tint : uint8_t { kNone, kBold, kDim, kGood, kWarning, kBad };

// `text` between escape sequences, or as it is if the style has no colour. Takes no columns.
std::string Paint(std::string_view text, Tint tint, const Style& style);

// Columns that UTF-8 text takes on a screen: combining marks none, CJK and emoji two.
int DisplayWidth(std::string_view text);

// What a terminal may be given: control characters and broken UTF-8 become "?", and without unicode
// every other character that is not ASCII ("x" for "×", "..." for "…", "-" for dashes).
std::string Printable(std::string_view text, const Style& style);

// At most `width` columns: the middle goes, "model.lay…down_proj", because both ends of a module's
// name tell it apart; or the end.
std::string CutMiddle(std::string_view text, int width, const Style& style);
std::string CutEnd(std::string_view text, int width, const Style& style);

// A bar for `share` in [0, 1], at most `width` columns, in steps of an eighth of a column; without
// unicode of "#". What is not 0 shows.
std::string Bar(double share, int width, const Style& style);

// Breaks at blanks, but not before "%", and inside words that are wider than a line. Lines after
// the first begin with `indent` blanks, the first with `first`. Ends in a newline unless empty.
std::string Wrap(std::string_view text, const Style& style, int first = 0, int indent = 0);

// Underlined by nothing, bold where there is colour.
std::string Heading(std::string_view text, const Style& style);

// "3 modules", "1 module".
std::string Counted(uint64_t count, std::string_view noun);

// "12.3 %", "0.011 %", "<0.0001 %": two or three digits that mean something.
std::string Percent(double share);

// Facts with labels, values in one column, long values wrapped:
//   size    15.26 GiB (16.38 GB)
//   proof   optimal
std::string Facts(const std::vector<std::pair<std::string, std::string>>& facts,
                  const Style& style);

enum class Align : uint8_t { kLeft, kRight };

struct Column {
  enum class Kind : uint8_t {
    kText,    // As wide as its widest cell.
    kName,    // May lose the middle of its cells where room is short.
    kRemark,  // May lose the end.
    kBar,     // Cells are shares; as wide as the room that is left, absent where there is little.
  };
  std::string title;
  Align align = Align::kLeft;
  Kind kind = Kind::kText;
  bool optional = false;  // Left out, rightmost first, before names are cut short.
};

struct Cell {
  std::string text;
  double share = 0;  // In columns of bars.
  Tint tint = Tint::kNone;

  Cell(std::string cell_text, Tint cell_tint = Tint::kNone)  // NOLINT: implicit on purpose
      : text(std::move(cell_text)), tint(cell_tint) {}
  Cell(const char* cell_text) : text(cell_text) {}  // NOLINT: implicit on purpose
  Cell(double cell_share) : share(cell_share) {}    // NOLINT: implicit on purpose
};

class Table {
 public:
  explicit Table(std::vector<Column> columns);

  // As many cells as columns, or fewer: the rest is empty.
  void AddRow(std::vector<Cell> cells);
  // A thin line between rows.
  void AddRule();
  bool empty() const { return rows_.empty(); }

  // Titles, a line, rows; indented by two. Ends in a newline. Titles are left out if all are empty.
  std::string Text(const Style& style) const;

 private:
  struct Row {
    std::vector<Cell> cells;
    bool is_rule = false;
  };
  std::vector<int> Widths(const Style& style) const;

  std::vector<Column> columns_;
  std::vector<Row> rows_;
};

}  // namespace ram
