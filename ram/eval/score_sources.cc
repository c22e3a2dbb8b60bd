#include "ram/eval/score_sources.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "ram/base/file.h"
#include "ram/base/hash.h"
#include "ram/eval/csv.h"
#include "ram/eval/llama_log.h"

namespace ram {
namespace {

constexpr uint64_t kMaxSourceBytes = uint64_t{1} << 36;
constexpr double kMaxTokens = 1e12;

Error Wrong(std::string_view where, std::string_view what) {
  return Error{ErrorCode::kCorrupt, fmt::format("{}: {}", where, what)};
}

std::optional<size_t> FindColumn(const CsvTable& table, std::string_view name) {
  const auto found = std::find(table.names.begin(), table.names.end(), name);
  if (found == table.names.end()) return std::nullopt;
  return static_cast<size_t>(found - table.names.begin());
}

// The windows of a table, without scores.
Result<std::vector<ScoredWindow>> TableWindows(const CsvTable& table, std::string_view where) {
  std::vector<ScoredWindow> windows(table.rows.size());
  const std::optional<size_t> labels = FindColumn(table, "window");
  const std::optional<size_t> texts = FindColumn(table, "text");
  for (size_t i = 0; i < windows.size(); ++i) {
    windows[i].start = i;
    if (labels.has_value()) windows[i].label = table.rows[i][*labels];
    if (texts.has_value()) windows[i].text = table.rows[i][*texts];
  }
  if (const std::optional<size_t> column = FindColumn(table, "tokens"); column.has_value()) {
    RAM_ASSIGN_OR_RETURN(const std::vector<double> tokens, NumberColumn(table, *column, where));
    for (size_t i = 0; i < windows.size(); ++i) {
      if (tokens[i] < 1 || tokens[i] > kMaxTokens || tokens[i] != std::floor(tokens[i])) {
        return Wrong(where, fmt::format("line {}, column tokens: {} is no number of tokens",
                                        table.lines[i], tokens[i]));
      }
      windows[i].num_tokens = static_cast<uint64_t>(tokens[i]);
    }
  }
  return windows;
}

bool IsSafetensors(std::string_view bytes) { return bytes.size() > 8 && bytes[8] == '{'; }

bool IsTable(const std::filesystem::path& path) {
  const std::string extension = path.extension().string();
  return extension == ".csv" || extension == ".tsv";
}

}  // namespace

Result<std::vector<Scores>> ParseScoreTable(std::string_view text, std::string_view where,
                                            TableValues values) {
  RAM_ASSIGN_OR_RETURN(const CsvTable table, ParseCsv(text, where));
  RAM_ASSIGN_OR_RETURN(const std::vector<ScoredWindow> windows, TableWindows(table, where));
  std::string labels;
  for (const ScoredWindow& window : windows) labels += window.label + '\n';
  std::vector<Scores> models;
  for (size_t c = 0; c < table.names.size(); ++c) {
    const std::string& name = table.names[c];
    if (name == "window" || name == "tokens" || name == "text") continue;
    RAM_ASSIGN_OR_RETURN(const std::vector<double> column, NumberColumn(table, c, where));
    Scores scores;
    scores.model.name = name;
    scores.protocol = "table";
    scores.assumed_windows = fmt::format("{} rows", windows.size());
    if (FindColumn(table, "window").has_value()) {
      scores.assumed_windows += " named " + Sha256Hex(labels);
    }
    scores.windows = windows;
    for (size_t i = 0; i < column.size(); ++i) {
      const bool is_perplexity = values == TableValues::kPerplexity;
      if (!is_perplexity && column[i] > kLargestNll) {
        return Wrong(where,
                     fmt::format("line {}, column {}: {} nats per token is more than any model "
                                 "can lose",
                                 table.lines[i], name, column[i]));
      }
      if (is_perplexity ? column[i] < 1 : column[i] < 0) {
        return Wrong(where,
                     fmt::format("line {}, column {}: {} is no {}", table.lines[i], name, column[i],
                                 values == TableValues::kPerplexity
                                     ? "perplexity, which is 1 at least"
                                     : "negative log-likelihood, which is never below 0"));
      }
      scores.windows[i].nll = values == TableValues::kPerplexity ? std::log(column[i]) : column[i];
    }
    models.push_back(std::move(scores));
  }
  if (models.empty()) return Wrong(where, "no column holds scores");
  return models;
}

Result<std::vector<Scores>> ReadScoreSource(const std::filesystem::path& path, TableValues values) {
  RAM_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path, kMaxSourceBytes));
  const std::string where = path.string();
  if (bytes.empty()) return Wrong(where, "empty: no scores in it");
  if (IsTable(path)) return ParseScoreTable(bytes, where, values);
  if (IsSafetensors(bytes) || path.extension() == ".scores") {
    RAM_ASSIGN_OR_RETURN(Scores scores, ParseScores(bytes, where));
    return std::vector<Scores>{std::move(scores)};
  }
  if (bytes.find('\0') != std::string::npos) {
    return Wrong(where, "not a score file, a log of llama-perplexity, or a table (*.csv, *.tsv)");
  }
  RAM_ASSIGN_OR_RETURN(Scores scores, ParseLlamaLog(bytes, where));
  if (scores.model.name.empty()) scores.model.name = path.stem().string();
  return std::vector<Scores>{std::move(scores)};
}

}  // namespace ram
