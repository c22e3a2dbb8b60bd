#pragma once

// Everything that scores are read from, told apart by content: *.scores, logs of llama-perplexity,
// CSV and tab-separated tables.

#include <filesystem>
#include <string_view>
#include <vector>

#include "ram/base/result.h"
#include "ram/eval/scores.h"

namespace ram {

// What the numbers of a table are, window by window.
enum class TableValues : uint8_t {
  kNll,         // Mean negative log-likelihood [nats per token].
  kPerplexity,  // Its exponential.
};

// One model for each column of a table; one for every other file. In a table the columns "tokens"
// (scored tokens of the window; 1 without it), "window" (what to call it) and "text" are not
// models. The windows of a table are known by their names, or by their number. kCorrupt for what is
// none of these.
Result<std::vector<Scores>> ReadScoreSource(const std::filesystem::path& path, TableValues values);

// A table in memory; `where` begins messages and names the table's model if it has one column only.
Result<std::vector<Scores>> ParseScoreTable(std::string_view text, std::string_view where,
                                            TableValues values);

}  // namespace ram
