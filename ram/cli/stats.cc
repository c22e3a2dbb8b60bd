// ram stats FILE.csv: every statistic of columns of numbers, and of their differences row by row.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "ram/base/file.h"
#include "ram/cli/stats_json.h"
#include "ram/cli/verb.h"
#include "ram/eval/csv.h"
#include "ram/report/compare_table.h"

namespace ram::cli {
namespace {

constexpr uint64_t kMaxTableBytes = uint64_t{1} << 32;
constexpr size_t kMinForTail = 20;

struct Columns {
  std::vector<std::string> names;
  std::vector<std::vector<double>> values;
  std::vector<std::string> skipped;  // Without any number.
};

// `wanted`: only these; all if empty.
Result<Columns> ReadColumns(const std::string& path, const std::vector<std::string>& wanted) {
  RAM_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxTableBytes));
  RAM_ASSIGN_OR_RETURN(const CsvTable table, ParseCsv(text, path));
  for (const std::string& name : wanted) {
    if (std::find(table.names.begin(), table.names.end(), name) == table.names.end()) {
      return Error{ErrorCode::kInvalidArgument, fmt::format("{}: no column {} among {}", path, name,
                                                            fmt::join(table.names, ", "))};
    }
  }
  Columns columns;
  for (size_t c = 0; c < table.names.size(); ++c) {
    const std::string& name = table.names[c];
    if (wanted.empty()) {
      if (name == "window" || name == "text" || name == "tokens") continue;
    } else if (std::find(wanted.begin(), wanted.end(), name) == wanted.end()) {
      continue;
    }
    if (!HasNumbers(table, c)) {
      columns.skipped.push_back(name);
      continue;
    }
    RAM_ASSIGN_OR_RETURN(std::vector<double> values, NumberColumn(table, c, path));
    columns.names.push_back(name);
    columns.values.push_back(std::move(values));
  }
  if (columns.names.empty()) {
    return Error{ErrorCode::kCorrupt, fmt::format("{}: no column of numbers", path)};
  }
  return columns;
}

ColumnSummary Summarize(const std::string& name, const std::vector<double>& values) {
  const std::vector<double> ascending = Sorted(values);
  ColumnSummary summary;
  summary.name = name;
  summary.n = values.size();
  summary.mean = MeanEstimate(values);
  summary.median = MedianEstimate(values);
  summary.trimmed = TrimmedMeanEstimate(values, kTrim);
  summary.standard_deviation = StandardDeviation(values);
  summary.min = ascending.front();
  summary.p95 = Quantile(ascending, 0.95);
  summary.p99 = Quantile(ascending, 0.99);
  summary.max = ascending.back();
  return summary;
}

OrderedJson ColumnJson(const std::string& name, const std::vector<double>& values) {
  const std::vector<double> ascending = Sorted(values);
  OrderedJson quantiles;
  for (const auto& [key, q] : {std::pair("p01", 0.01),
                               {"p05", 0.05},
                               {"p25", 0.25},
                               {"p75", 0.75},
                               {"p95", 0.95},
                               {"p99", 0.99}}) {
    quantiles[key] = Quantile(ascending, q);
  }
  OrderedJson trimmed;
  for (const auto& [key, cut] : {std::pair("0.05", 0.05), {"0.10", 0.10}, {"0.25", 0.25}}) {
    trimmed[key] = TestedJson(TrimmedMeanEstimate(values, cut));
  }
  OrderedJson json = {{"name", name},
                      {"n", values.size()},
                      {"mean", TestedJson(MeanEstimate(values))},
                      {"standard_deviation", NumberJson(StandardDeviation(values))},
                      {"median", TestedJson(MedianEstimate(values))},
                      {"hodges_lehmann", TestedJson(HodgesLehmann(values))},
                      {"trimmed_mean", trimmed},
                      {"min", ascending.front()},
                      {"max", ascending.back()},
                      {"quantiles", quantiles},
                      {"skewness", NumberJson(Skewness(values))},
                      {"autocorrelation", NumberJson(Lag1Autocorrelation(values))}};
  if (ascending.front() > 0 && values.size() >= kMinForTail) {
    std::vector<double> logs = values;
    for (double& value : logs) value = std::log(value);
    json["tail_index"] = TailJson(HillTailIndex(logs, values.size() / 10));
  }
  return json;
}

}  // namespace

Verb AddStats(CLI::App& app, Context& context) {
  struct Options {
    std::string file;
    std::vector<std::string> columns;
    CompareOptions compare;
  };
  auto options = std::make_shared<Options>();
  CLI::App* verb =
      app.add_subcommand("stats", "Statistics of columns of numbers, alone and in pairs, from CSV");
  verb->add_option("FILE", options->file,
                   "CSV or tab-separated, names in the first row; columns named window, text and "
                   "tokens, and those without numbers, are passed over")
      ->required();
  verb->add_option("--columns", options->columns, "Only these: NAME,NAME,...")->delimiter(',');
  verb->add_option("--resamples", options->compare.bootstrap.num_resamples,
                   "Of the bootstrap (default: 10,000)")
      ->check(CLI::Range(100, 10'000'000));
  verb->add_option("--seed", options->compare.bootstrap.seed, "Of the bootstrap (default: 42)");

  return {
      verb, [options, &context]() -> Status {
        RAM_ASSIGN_OR_RETURN(const Columns columns, ReadColumns(options->file, options->columns));
        for (const std::string& name : columns.skipped) {
          context.Note(fmt::format("note: column {} holds no numbers and is passed over", name));
        }
        std::vector<ColumnSummary> summaries;
        OrderedJson list = OrderedJson::array();
        std::vector<NamedColumn> named;
        for (size_t c = 0; c < columns.names.size(); ++c) {
          summaries.push_back(Summarize(columns.names[c], columns.values[c]));
          list.push_back(ColumnJson(columns.names[c], columns.values[c]));
          named.push_back({columns.names[c], columns.values[c]});
        }
        std::vector<PairComparison> pairs;
        if (columns.values.front().size() > 1) {
          const std::vector<double> ones(columns.values.front().size(), 1.0);
          RAM_ASSIGN_OR_RETURN(pairs, ComparePairs(named, ones, options->compare));
        }
        context.Print(StatsText(summaries, pairs, context.style()));
        OrderedJson pair_list = OrderedJson::array();
        for (const PairComparison& pair : pairs) {
          OrderedJson json = {{"a", columns.names[pair.a]}, {"b", columns.names[pair.b]}};
          json.update(PairJson(pair));
          pair_list.push_back(std::move(json));
        }
        context.PrintJson({{"file", options->file}, {"columns", list}, {"pairs", pair_list}});
        return Done{};
      }};
}

}  // namespace ram::cli
