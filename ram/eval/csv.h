#pragma once

// Tables of numbers as people keep them: CSV (RFC 4180) or tab-separated, names in the first row.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "ram/base/result.h"

namespace ram {

struct CsvTable {
  std::vector<std::string> names;
  std::vector<std::vector<std::string>> rows;  // As many cells as names.
  std::vector<size_t> lines;                   // Where each row begins, counted from 1.
};

// The separator is a tab if the first line has one, else a comma. Cells may be in double quotes,
// and then hold separators, line ends and doubled quotes. A UTF-8 byte order mark, CRLF and empty
// lines are skipped. kCorrupt names `where` and the line: no rows, a row of another length, names
// that are empty, occur twice or are all numbers, an open quote.
Result<CsvTable> ParseCsv(std::string_view text, std::string_view where);

// Whether any cell of column `index` is a number, finite or not: names and remarks have none.
bool HasNumbers(const CsvTable& table, size_t index);

// Squares and cubes of numbers up to here, and sums of them, stay finite.
inline constexpr double kLargestNumber = 1e100;

// Column `index` as numbers. kCorrupt names the line and what is no number there, or one that is
// not finite or above kLargestNumber.
Result<std::vector<double>> NumberColumn(const CsvTable& table, size_t index,
                                         std::string_view where);

}  // namespace ram
