#pragma once

// A study in words and as text: verdict, table of all arms, saturation (docs/study.md).

#include <string>
#include <vector>

#include "ram/report/table.h"
#include "ram/study/study.h"

namespace ram {

// What may be concluded, a sentence or two each; the same in text, JSON and HTML.
std::vector<std::string> StudyVerdict(const Study& study);

std::string StudyText(const Study& study, const Style& style);

// What text and page share.

// The arms in the order of reading: the original and what is near it, then size by size the arm
// that set the size and the plans of its bytes.
struct StudyRow {
  size_t arm = 0;
  const StudyPair* against_baseline = nullptr;  // Null where there is none.
};
std::vector<std::vector<StudyRow>> StudyRows(const Study& study);  // By size.

// "0.558", "1.06", "12": digits that a ratio has; "0.536 … 0.581".
std::string RatioText(double log_ratio);
std::string RatioIntervalText(const Interval& log_interval);
// "0.0151", "3.1e-05", "0".
std::string DivergenceText(double kl);

// One row for each rung of the ladder but the last, what it was compared with and what follows.
struct RungRow {
  std::string arm;
  std::string size;
  std::string by_perplexity;
  std::string by_divergence;
};
std::vector<RungRow> RungRows(const Study& study);

}  // namespace ram
