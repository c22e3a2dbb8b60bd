#include "ram/eval/csv.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "ram/base/number.h"

namespace ram {
namespace {

constexpr size_t kMostShown = 40;  // Characters of a cell in a message.

Error Wrong(std::string_view where, std::string_view what) {
  return Error{ErrorCode::kCorrupt, fmt::format("{}: {}", where, what)};
}

std::string_view Trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

std::optional<double> ParseNumber(std::string_view text) {
  text = Trimmed(text);
  if (text.starts_with('+')) text.remove_prefix(1);
  return ParseDouble(text);
}

// Takes records off a text, one by one.
class CsvReader {
 public:
  CsvReader(std::string_view text, char separator) : text_(text), separator_(separator) {}

  bool AtEnd() const { return at_ >= text_.size(); }
  size_t line() const { return line_; }

  // The next record; false if a quote is never closed.
  bool Next(std::vector<std::string>* cells) {
    cells->assign(1, "");
    bool quoted = false;
    while (at_ < text_.size()) {
      const char c = text_[at_++];
      if (c == '\n') ++line_;
      if (quoted) {
        if (c != '"') {
          cells->back() += c;
        } else if (at_ < text_.size() && text_[at_] == '"') {
          cells->back() += text_[at_++];
        } else {
          quoted = false;
        }
      } else if (c == '"' && Trimmed(cells->back()).empty()) {
        cells->back().clear();
        quoted = true;
      } else if (c == separator_) {
        cells->emplace_back();
      } else if (c == '\n') {
        return true;
      } else if (c != '\r') {
        cells->back() += c;
      }
    }
    return !quoted;
  }

 private:
  std::string_view text_;
  char separator_;
  size_t at_ = 0;
  size_t line_ = 1;
};

Status CheckNames(const std::vector<std::string>& names, std::string_view where) {
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i].empty()) {
      return Wrong(where, fmt::format("column {} has no name in the first row", i + 1));
    }
    if (std::find(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(i), names[i]) !=
        names.begin() + static_cast<std::ptrdiff_t>(i)) {
      return Wrong(where, fmt::format("two columns are called \"{}\"", names[i]));
    }
  }
  if (std::all_of(names.begin(), names.end(),
                  [](const std::string& name) { return ParseNumber(name).has_value(); })) {
    return Wrong(where, "the first row holds numbers, expected the names of the columns");
  }
  return Done{};
}

}  // namespace

Result<CsvTable> ParseCsv(std::string_view text, std::string_view where) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  const bool has_tab = text.substr(0, text.find('\n')).find('\t') != std::string_view::npos;
  CsvReader reader(text, has_tab ? '\t' : ',');
  CsvTable table;
  std::vector<std::string> cells;
  while (!reader.AtEnd()) {
    const size_t line = reader.line();
    if (!reader.Next(&cells)) {
      return Wrong(where, fmt::format("line {}: a quote is opened and never closed", line));
    }
    if (cells.size() == 1 && Trimmed(cells[0]).empty()) continue;
    if (table.names.empty()) {
      for (const std::string& name : cells) table.names.emplace_back(Trimmed(name));
      RAM_RETURN_IF_ERROR(CheckNames(table.names, where));
      continue;
    }
    if (cells.size() != table.names.size()) {
      return Wrong(where, fmt::format("line {} has {} cells, the first row has {}", line,
                                      cells.size(), table.names.size()));
    }
    table.rows.push_back(cells);
    table.lines.push_back(line);
  }
  if (table.names.empty())
    return Wrong(where, "empty, expected a row of names and rows of numbers");
  if (table.rows.empty()) return Wrong(where, "no rows below the names of the columns");
  return table;
}

bool HasNumbers(const CsvTable& table, size_t index) {
  return std::any_of(table.rows.begin(), table.rows.end(),
                     [&](const auto& row) { return ParseNumber(row[index]).has_value(); });
}

Result<std::vector<double>> NumberColumn(const CsvTable& table, size_t index,
                                         std::string_view where) {
  std::vector<double> column;
  for (size_t i = 0; i < table.rows.size(); ++i) {
    const std::string& cell = table.rows[i][index];
    const std::optional<double> value = ParseNumber(cell);
    if (!value.has_value() || !std::isfinite(*value)) {
      return Wrong(where,
                   fmt::format("line {}, column {}: \"{}\" is not a finite number", table.lines[i],
                               table.names[index], cell.substr(0, kMostShown)));
    }
    if (std::abs(*value) > kLargestNumber) {
      return Wrong(where, fmt::format("line {}, column {}: {} is larger than {}", table.lines[i],
                                      table.names[index], *value, kLargestNumber));
    }
    column.push_back(*value);
  }
  return column;
}

}  // namespace ram
