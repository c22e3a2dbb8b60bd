#include "ram/report/compare_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "ram/base/bytes.h"

namespace ram {
namespace {

constexpr size_t kMostDetailed = 3;   // Pairs shown with every test unless asked for.
constexpr size_t kMostDeciding = 8;   // Windows listed for one pair.
constexpr size_t kMostNamed = 8;      // Windows named in a sentence.
constexpr double kMostWindows = 1e5;  // Needed: more than that is no advice.
constexpr size_t kMostSpoken = 6;     // Pairs whose sentences have room for advice.
constexpr double kAlike = 1.3;        // Blocks widen the standard error by this: neighbours matter.

using Kind = Column::Kind;

double Width(const Interval& interval) { return (interval.high - interval.low) / 2; }

std::string IntervalText(const Interval& interval) {
  if (std::isinf(interval.low) || std::isnan(interval.low)) return "none";
  const double width = Width(interval);
  std::string low = ChangeText(interval.low, width);
  const std::string high = ChangeText(interval.high, width);
  if (low.ends_with(" %") && high.ends_with(" %")) low.resize(low.size() - 2);
  return fmt::format("{} … {}", low, high);
}

std::string ValueText(const Estimate& estimate) {
  return ChangeText(estimate.value, Width(estimate.interval));
}

// Amount without a sign: "0.4 %" for a difference either way.
std::string AmountText(double log_ratio, double width) {
  const std::string text = ChangeText(std::abs(log_ratio), width);
  return text.starts_with('+') ? text.substr(1) : text;
}

std::string PlainShare(double share) { return fmt::format("{:.1f} %", 100 * share); }

std::string NumberText(double value) {
  if (std::isnan(value)) return "-";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return fmt::format("{:.5g}", value);
}

std::string AlphaText(const TailIndex& tail) {
  return std::isnan(tail.alpha)   ? "-"
         : std::isinf(tail.alpha) ? "inf"
                                  : fmt::format("{:.2f}", tail.alpha);
}

// The interval of b against a, given that of a against b.
Interval Reversed(const Interval& interval) { return {-interval.high, -interval.low}; }

// "32, 41, 82 and 5 more".
std::string WindowList(const std::vector<size_t>& windows, const std::vector<std::string>& labels) {
  std::string text;
  for (size_t i = 0; i < windows.size() && i < kMostNamed; ++i) {
    text += (i == 0 ? "" : ", ") + labels[windows[i]];
  }
  if (windows.size() > kMostNamed) {
    text += fmt::format(" and {} more", windows.size() - kMostNamed);
  }
  return text;
}

// ---- Tables ----

std::string Leaderboard(const std::vector<ModelScores>& models, const Comparison& comparison,
                        const Style& style) {
  const bool has_size = std::any_of(models.begin(), models.end(), [](const ModelScores& model) {
    return !std::isnan(model.bytes);
  });
  std::vector<Column> columns = {{"model", Align::kLeft, Kind::kName}};
  if (has_size) {
    columns.push_back({"size", Align::kRight});
    columns.push_back({"bpw", Align::kRight, Kind::kText, /*optional=*/true});
  }
  for (const char* title : {"corpus", "SE", "median", "trim 10 %"}) {
    columns.push_back({title, Align::kRight});
  }
  columns.push_back({"trim 5 %", Align::kRight, Kind::kText, /*optional=*/true});
  columns.push_back({"trim 25 %", Align::kRight, Kind::kText, /*optional=*/true});
  Table table(columns);
  for (size_t m = 0; m < models.size(); ++m) {
    const PerplexitySummary& s = comparison.summaries[m];
    std::vector<Cell> cells = {models[m].name};
    if (has_size) {
      const double bytes = models[m].bytes;
      cells.emplace_back(std::isnan(bytes) ? "-" : FormatBytesShort(static_cast<uint64_t>(bytes)));
      const double bits = models[m].bits_per_weight;
      cells.emplace_back(std::isnan(bits) ? "-" : fmt::format("{:.2f}", bits));
    }
    cells.emplace_back(PerplexityText(s.corpus));
    const double error = s.log_corpus.standard_error;
    cells.emplace_back(std::isnan(error) ? "-" : fmt::format("{:.2f} %", 100 * error));
    cells.emplace_back(PerplexityText(s.median));
    cells.emplace_back(PerplexityText(s.trimmed_10));
    cells.emplace_back(PerplexityText(s.trimmed_5));
    cells.emplace_back(PerplexityText(s.trimmed_25));
    table.AddRow(std::move(cells));
  }
  return table.Text(style);
}

std::string Tails(const std::vector<ModelScores>& models, const Comparison& comparison,
                  const Style& style) {
  Table table({{"model", Align::kLeft, Kind::kName},
               {"P95", Align::kRight},
               {"P99", Align::kRight},
               {"max", Align::kRight},
               {"> 100", Align::kRight},
               {"corpus without", Align::kRight},
               {"tail index", Align::kRight},
               {"", Align::kLeft, Kind::kText, /*optional=*/true}});
  for (size_t m = 0; m < models.size(); ++m) {
    const PerplexitySummary& s = comparison.summaries[m];
    const bool has_outliers = s.num_outliers > 0;
    table.AddRow({models[m].name,
                  PerplexityText(s.p95),
                  PerplexityText(s.p99),
                  PerplexityText(s.max),
                  {FormatCount(s.num_outliers), has_outliers ? Tint::kBad : Tint::kNone},
                  PerplexityText(s.corpus_without_outliers),
                  {AlphaText(s.tail), s.tail.alpha < 2 ? Tint::kBad : Tint::kNone},
                  {s.heavy_tailed ? "heavy tail" : "", Tint::kWarning}});
  }
  return table.Text(style);
}

Tint TintOf(Finding finding) {
  switch (finding) {
    case Finding::kResolved:
      return Tint::kGood;
    case Finding::kInverted:
      return Tint::kBad;
    case Finding::kTailOnly:
      return Tint::kWarning;
    case Finding::kIdentical:
    case Finding::kUnresolved:
      break;
  }
  return Tint::kDim;
}

std::string PairsTable(const std::vector<ModelScores>& models, const Comparison& comparison,
                       const Style& style) {
  Table table({{"model", Align::kLeft, Kind::kName},
               {"against", Align::kLeft, Kind::kName},
               {"corpus", Align::kRight},
               {"typical", Align::kRight},
               {"95 % interval", Align::kRight},
               {"p (Holm)", Align::kRight},
               {"flips by", Align::kRight, Kind::kText, /*optional=*/true},
               {"finding"}});
  for (const PairComparison& pair : comparison.pairs) {
    const PairedResult& result = pair.result;
    const size_t flips = result.flip.windows.size();
    table.AddRow({models[pair.a].name,
                  models[pair.b].name,
                  ValueText(result.log_ratio),
                  ValueText(result.trimmed),
                  IntervalText(result.trimmed.interval),
                  PValueText(pair.trimmed_p_holm),
                  flips == 0 || flips == result.num_windows ? "-" : FormatCount(flips),
                  {std::string(FindingName(pair.finding)), TintOf(pair.finding)}});
  }
  return table.Text(style);
}

// Every test of one pair.
std::string TestsTable(const PairComparison& pair, const std::vector<std::string>& labels,
                       const Style& style) {
  const PairedResult& r = pair.result;
  Table table({{""},
               {"difference", Align::kRight},
               {"95 % interval", Align::kRight},
               {"p", Align::kRight},
               {"p (Holm)", Align::kRight},
               {"", Align::kLeft, Kind::kRemark, /*optional=*/true}});
  table.AddRow({"corpus", ValueText(r.log_ratio), IntervalText(r.log_ratio.interval),
                PValueText(r.log_ratio.p), PValueText(pair.log_ratio_p_holm), "mean log ratio, t"});
  table.AddRow(
      {"  bootstrap", "", IntervalText(r.bootstrap), "", "", r.is_bca ? "BCa" : "percentile"});
  table.AddRow({"10 % trimmed mean", ValueText(r.trimmed), IntervalText(r.trimmed.interval),
                PValueText(r.trimmed.p), PValueText(pair.trimmed_p_holm), "decides"});
  table.AddRow({"Hodges-Lehmann", ValueText(r.hodges_lehmann),
                IntervalText(r.hodges_lehmann.interval), "", "", "inverts Wilcoxon"});
  table.AddRow(
      {"median", ValueText(r.median), IntervalText(r.median.interval), "", "", "order statistics"});
  table.AddRow({"Wilcoxon", "", "", PValueText(r.wilcoxon.p), PValueText(pair.wilcoxon_p_holm),
                r.wilcoxon.exact ? "exact" : "normal"});
  table.AddRow({"sign test", fmt::format("{} : {}", r.sign.num_positive, r.sign.num_negative), "",
                PValueText(r.sign.p), PValueText(pair.sign_p_holm), "windows worse : better"});
  std::string out = table.Text(style);
  if (!r.influences.empty()) {
    const Influence& first = r.influences.front();
    out +=
        Wrap(fmt::format("window {} moves the corpus most: {:.1f} % of all change; without it the "
                         "corpus differs by {}",
                         labels[first.window], 100 * first.share,
                         ChangeText(first.log_ratio_without, Width(r.log_ratio.interval))),
             style, 2, 2);
  }
  out +=
      Wrap(fmt::format("found with probability 0.8: {} in the typical window, {} over the corpus",
                       AmountText(r.detectable, r.detectable),
                       AmountText(r.detectable_corpus, r.detectable_corpus)),
           style, 2, 2);
  return out;
}

bool IsDecidedByFew(const PairComparison& pair) {
  const FlipSet& flip = pair.result.flip;
  return pair.finding == Finding::kInverted || pair.finding == Finding::kTailOnly ||
         (flip.fragile && pair.log_ratio_p_holm < 1 - kConfidence);
}

// The windows of all flip sets that matter, most often deciding first, with the perplexities of the
// models concerned.
std::string DecidingWindows(const std::vector<ModelScores>& models, const Comparison& comparison,
                            const ComparedWindows& windows, const Style& style) {
  std::map<size_t, size_t> decides;  // Window -> pairs.
  std::set<size_t> concerned;
  for (const PairComparison& pair : comparison.pairs) {
    if (!IsDecidedByFew(pair)) continue;
    concerned.insert({pair.a, pair.b});
    for (const size_t window : pair.result.flip.windows) ++decides[window];
  }
  if (decides.empty()) return "";
  std::vector<std::pair<size_t, size_t>> order(decides.begin(), decides.end());
  std::stable_sort(order.begin(), order.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  const bool has_text = std::any_of(order.begin(), order.end(), [&](const auto& entry) {
    return !windows.texts[entry.first].empty();
  });

  std::vector<Column> columns = {{"window"}, {"pairs", Align::kRight}};
  for (const size_t m : concerned) {
    columns.push_back({models[m].name, Align::kRight, Kind::kText, concerned.size() > 2});
  }
  if (has_text) columns.push_back({"text", Align::kLeft, Kind::kRemark});
  Table table(columns);
  for (size_t i = 0; i < order.size() && i < kMostDeciding; ++i) {
    const auto [window, num_pairs] = order[i];
    std::vector<Cell> cells = {windows.labels[window], FormatCount(num_pairs)};
    for (const size_t m : concerned) {
      cells.emplace_back(PerplexityText(std::exp(models[m].nll[window])));
    }
    if (has_text) {
      std::string text = windows.texts[window];
      std::replace_if(
          text.begin(), text.end(), [](char c) { return c == '\n' || c == '\t' || c == '\r'; },
          ' ');
      cells.emplace_back(text);
    }
    table.AddRow(std::move(cells));
  }
  std::string out = "\n" + Heading("Windows that decide a corpus order", style) + table.Text(style);
  if (order.size() > kMostDeciding) {
    out += Wrap(fmt::format("and {} more", order.size() - kMostDeciding), style, 2, 2);
  }
  return out;
}

// ---- Sentences ----

std::string CountedOf(size_t count, size_t total) {
  return fmt::format("{} of {} windows", FormatCount(count), FormatCount(total));
}

std::string FewWindows(const PairComparison& pair, const ComparedWindows& windows) {
  const FlipSet& flip = pair.result.flip;
  return fmt::format("{} ({:.1f} %; {})", CountedOf(flip.windows.size(), pair.result.num_windows),
                     100.0 * static_cast<double>(flip.windows.size()) /
                         static_cast<double>(pair.result.num_windows),
                     (flip.windows.size() == 1 ? "window " : "windows ") +
                         WindowList(flip.windows, windows.labels));
}

std::string PHolmText(double p, size_t num_pairs) {
  return fmt::format("p {}{}", p < 1e-300 ? "" : "= ", PValueText(p)) +
         (num_pairs > 1 ? fmt::format(" by Holm over {} pairs", num_pairs) : "");
}

std::string UnresolvedSentence(const PairComparison& pair, const std::string& a,
                               const std::string& b, size_t num_pairs) {
  const PairedResult& r = pair.result;
  std::string text = fmt::format(
      "{} against {}: unresolved. {} do not tell them apart: the typical window differs by {} "
      "(95 % interval {}; {})",
      a, b, Counted(r.num_windows, "window"), ValueText(r.trimmed),
      IntervalText(r.trimmed.interval), PHolmText(pair.trimmed_p_holm, num_pairs));
  if (num_pairs > kMostSpoken) return text + ".";
  text += fmt::format(". A difference of {} would have been found with probability 0.8",
                      AmountText(r.detectable, r.detectable));
  const double needed = WindowsNeeded(r.trimmed.standard_error, r.num_windows, r.trimmed.value);
  if (needed <= kMostWindows && needed > static_cast<double>(r.num_windows)) {
    text += fmt::format("; one of {} would take about {} windows",
                        AmountText(r.trimmed.value, Width(r.trimmed.interval)),
                        FormatCount(static_cast<uint64_t>(needed)));
  }
  return text + ".";
}

std::string ResolvedSentence(const PairComparison& pair, const std::string& better,
                             const std::string& worse, const ComparedWindows& windows,
                             size_t num_pairs) {
  const PairedResult& r = pair.result;
  const bool a_is_worse = r.trimmed.value > 0;
  const Interval typical = a_is_worse ? r.trimmed.interval : Reversed(r.trimmed.interval);
  const Interval corpus = a_is_worse ? r.log_ratio.interval : Reversed(r.log_ratio.interval);
  std::string text = fmt::format(
      "{} is better than {}, whose perplexity is {} higher in the typical window (95 % interval "
      "{}; {}) and {} over the corpus ({})",
      better, worse, AmountText(r.trimmed.value, Width(typical)), IntervalText(typical),
      PHolmText(pair.trimmed_p_holm, num_pairs), AmountText(r.log_ratio.value, Width(corpus)),
      IntervalText(corpus));
  if (pair.log_ratio_p_holm >= 1 - kConfidence) {
    return text + "; the corpus difference alone would not show it.";
  }
  if (r.flip.fragile) {
    return text +
           fmt::format("; but the corpus difference hangs on {}.", FewWindows(pair, windows));
  }
  return text + ".";
}

// `ahead`: by the corpus; `better`: in the typical window.
std::string InvertedSentence(const PairComparison& pair, const std::string& ahead,
                             const std::string& better, const ComparedWindows& windows,
                             size_t num_pairs) {
  const PairedResult& r = pair.result;
  const bool a_is_ahead = r.log_ratio.value < 0;
  const Interval corpus = a_is_ahead ? r.log_ratio.interval : Reversed(r.log_ratio.interval);
  const Interval typical = a_is_ahead ? r.trimmed.interval : Reversed(r.trimmed.interval);
  std::string text = fmt::format(
      "Rank inversion ({}): corpus perplexity puts {} ahead of {} ({}, 95 % interval {}), the "
      "typical window says the reverse: {} is worse by {} ({}; {}). The corpus order is the work "
      "of "
      "{}; without them ",
      InversionName(r.inversion), ahead, better,
      ChangeText(-std::abs(r.log_ratio.value), Width(corpus)), IntervalText(corpus), ahead,
      AmountText(r.trimmed.value, Width(typical)), IntervalText(typical),
      PHolmText(pair.trimmed_p_holm, num_pairs), FewWindows(pair, windows));
  if (std::isnan(r.flip.log_ratio_without)) return text + "nothing is left.";
  return text + fmt::format(
                    "{} is worse by {} over the corpus too. Trust the typical window, and "
                    "read these.",
                    ahead, AmountText(r.flip.log_ratio_without, Width(typical)));
}

std::string TailOnlySentence(const PairComparison& pair, const std::string& a, const std::string& b,
                             const ComparedWindows& windows, size_t num_pairs) {
  const PairedResult& r = pair.result;
  return fmt::format(
      "{} against {}: no difference in the typical window ({}, 95 % interval {}), but {} over the "
      "corpus ({}; {}): the difference is in the tail. {} decide its sign.",
      a, b, ValueText(r.trimmed), IntervalText(r.trimmed.interval), ValueText(r.log_ratio),
      IntervalText(r.log_ratio.interval), PHolmText(pair.log_ratio_p_holm, num_pairs),
      FewWindows(pair, windows));
}

std::string PairSentence(const std::vector<ModelScores>& models, const PairComparison& pair,
                         const ComparedWindows& windows, size_t num_pairs) {
  const std::string& a = models[pair.a].name;
  const std::string& b = models[pair.b].name;
  switch (pair.finding) {
    case Finding::kIdentical:
      return fmt::format("{} and {} have the same score in every window.", a, b);
    case Finding::kUnresolved:
      return UnresolvedSentence(pair, a, b, num_pairs);
    case Finding::kResolved:
      return pair.result.trimmed.value > 0 ? ResolvedSentence(pair, b, a, windows, num_pairs)
                                           : ResolvedSentence(pair, a, b, windows, num_pairs);
    case Finding::kInverted:
      return pair.result.log_ratio.value < 0 ? InvertedSentence(pair, a, b, windows, num_pairs)
                                             : InvertedSentence(pair, b, a, windows, num_pairs);
    case Finding::kTailOnly:
      return TailOnlySentence(pair, a, b, windows, num_pairs);
  }
  return "";
}

std::string HeavyTailSentence(const ModelScores& model, const PerplexitySummary& s,
                              const ComparedWindows& windows) {
  const bool is_off = std::abs(s.log_corpus.value - std::log(s.median)) > 0.10;
  std::string text = model.name + ": ";
  if (is_off || s.tail.alpha <= 1) {
    text += fmt::format(
        "the corpus perplexity {} does not describe these windows, whose median is {}. ",
        PerplexityText(s.corpus), PerplexityText(s.median));
  }
  if (s.num_outliers > 0 && s.num_outliers < s.num_windows) {
    const bool is_one = s.num_outliers == 1;
    text += fmt::format("{} {} above {:.0f}; without {} the corpus perplexity is {}, not {}. ",
                        CountedOf(s.num_outliers, s.num_windows), is_one ? "is" : "are",
                        kOutlierPerplexity, is_one ? "it" : "them",
                        PerplexityText(s.corpus_without_outliers), PerplexityText(s.corpus));
  }
  if (s.tail.alpha <= 1) {
    const auto largest = std::max_element(model.nll.begin(), model.nll.end()) - model.nll.begin();
    text += fmt::format(
        "Tail index {}: perplexity has no mean here; of its arithmetic mean {} is "
        "window {} alone. ",
        AlphaText(s.tail), PlainShare(s.largest_share),
        windows.labels[static_cast<size_t>(largest)]);
  } else if (s.tail.alpha <= 2) {
    text += fmt::format("Tail index {}: perplexity has no variance here. ", AlphaText(s.tail));
  }
  text.pop_back();
  return text;
}

}  // namespace

std::string PerplexityText(double perplexity) {
  if (std::isnan(perplexity)) return "-";
  if (perplexity >= 1e12) return fmt::format("{:.2e}", perplexity);
  if (perplexity >= 9999.5) return FormatCount(static_cast<uint64_t>(std::llround(perplexity)));
  if (perplexity >= 99.95) return fmt::format("{:.1f}", perplexity);
  return fmt::format("{:.3f}", perplexity);
}

std::string ChangeText(double log_ratio, double width) {
  if (std::isnan(log_ratio)) return "-";
  if (log_ratio > std::log(11.0)) {  // More than 1000 %.
    const double factor = std::exp(log_ratio);
    if (factor > 1e12) return fmt::format("×{:.0e}", factor);
    return factor < 99.5 ? fmt::format("×{:.1f}", factor)
                         : "×" + FormatCount(static_cast<uint64_t>(std::llround(factor)));
  }
  const double percent = 100 * std::expm1(log_ratio);
  const double reach = 100 * std::abs(width);
  const int decimals = !(reach < 10) ? 0 : reach >= 1 ? 1 : reach >= 0.1 ? 2 : 3;
  return fmt::format("{:+.{}f} %", percent == 0 ? 0.0 : percent, decimals);
}

std::string PValueText(double p) {
  if (std::isnan(p)) return "-";
  if (p < 1e-300) return "<1e-300";
  if (p >= 0.0995) return fmt::format("{:.2f}", p);
  if (p >= 0.000095) return fmt::format("{:.{}f}", p, p >= 0.00995 ? 3 : 4);
  const auto exponent = static_cast<int>(std::floor(std::log10(p)));
  const int digit = static_cast<int>(std::lround(p / std::pow(10.0, exponent)));
  return digit == 10 ? fmt::format("1e{}", exponent + 1) : fmt::format("{}e{}", digit, exponent);
}

std::vector<std::string> VerdictSentences(const std::vector<ModelScores>& models,
                                          const Comparison& comparison,
                                          const ComparedWindows& windows) {
  std::vector<std::string> sentences;
  for (const PairComparison& pair : comparison.pairs) {
    sentences.push_back(PairSentence(models, pair, windows, comparison.pairs.size()));
  }
  if (models.size() > 2 && comparison.tau_corpus_median < 1) {
    sentences.push_back(fmt::format(
        "The orders of the models by corpus perplexity and by median disagree: Kendall's tau-b is "
        "{:.2f}, where 1 is the same order and -1 the reverse.",
        comparison.tau_corpus_median));
  }
  for (size_t m = 0; m < models.size(); ++m) {
    const PerplexitySummary& summary = comparison.summaries[m];
    if (summary.heavy_tailed) {
      sentences.push_back(HeavyTailSentence(models[m], summary, windows));
    }
  }
  return sentences;
}

std::vector<std::string> CompareNotes(const Comparison& comparison,
                                      const ComparedWindows& windows) {
  std::vector<std::string> notes;
  if (windows.resolution > 0) {
    notes.push_back(
        fmt::format("the source prints few digits: the score of a window is known to "
                    "within {:.2g} nat, {:.2g} % of its perplexity.",
                    windows.resolution, 100 * windows.resolution));
  }
  if (!windows.tokens_known && comparison.summaries.size() > 1) {
    notes.emplace_back(
        "these sources do not say which tokens were scored: that their windows are the same is "
        "assumed, not checked.");
  }
  if (!windows.same_numerics) {
    notes.emplace_back(
        "these runs used different engines or precisions: differences of models and of arithmetic "
        "cannot be told apart.");
  }
  double widest = 1;
  for (const PairComparison& pair : comparison.pairs) {
    const double ratio = pair.result.block_standard_error / pair.result.log_ratio.standard_error;
    if (std::isfinite(ratio)) widest = std::max(widest, ratio);
  }
  if (widest > kAlike) {
    notes.push_back(
        fmt::format("neighbouring windows differ alike: in blocks of {} the standard "
                    "error of a corpus difference is up to {:.1f} times as large.",
                    kBlockWindows, widest));
  }
  return notes;
}

std::string CompareText(const std::vector<ModelScores>& models, const Comparison& comparison,
                        const ComparedWindows& windows, bool detail, const Style& style) {
  RAM_CHECK(models.size() == comparison.summaries.size());
  const PerplexitySummary& first = comparison.summaries.front();
  std::string out =
      Heading("Perplexity", style) +
      Wrap(fmt::format("{}; {}, {}", windows.what, Counted(first.num_windows, "window"),
                       Counted(static_cast<uint64_t>(first.num_tokens), "scored token")),
           style, 2, 2) +
      Leaderboard(models, comparison, style) + "\n" + Heading("Tails", style) +
      Tails(models, comparison, style);
  if (!comparison.pairs.empty()) {
    out += "\n" + Heading("Pairs, on the same windows: how much higher is the perplexity", style) +
           PairsTable(models, comparison, style);
    out += Wrap("typical: 10 % trimmed mean of the paired log ratios, which decides.", style, 2, 2);
  }
  for (const PairComparison& pair : comparison.pairs) {
    if (detail || comparison.pairs.size() <= kMostDetailed) {
      out +=
          "\n" +
          Heading(fmt::format("{} against {}", models[pair.a].name, models[pair.b].name), style) +
          TestsTable(pair, windows.labels, style);
    }
  }
  out += DecidingWindows(models, comparison, windows, style);
  const std::vector<std::string> verdict = VerdictSentences(models, comparison, windows);
  if (!verdict.empty()) out += "\n" + Heading("Verdict", style);
  for (const std::string& sentence : verdict) out += Wrap(sentence, style, 2, 4);
  const std::vector<std::string> notes = CompareNotes(comparison, windows);
  if (!notes.empty()) out += "\n";
  for (const std::string& note : notes) out += Wrap("note: " + note, style, 2, 8);
  return out;
}

std::string StatsText(const std::vector<ColumnSummary>& columns,
                      const std::vector<PairComparison>& pairs, const Style& style) {
  Table table({{"column", Align::kLeft, Kind::kName},
               {"n", Align::kRight, Kind::kText, /*optional=*/true},
               {"mean", Align::kRight},
               {"SE", Align::kRight},
               {"median", Align::kRight},
               {"trim 10 %", Align::kRight},
               {"sd", Align::kRight, Kind::kText, /*optional=*/true},
               {"min", Align::kRight, Kind::kText, /*optional=*/true},
               {"P95", Align::kRight, Kind::kText, /*optional=*/true},
               {"P99", Align::kRight, Kind::kText, /*optional=*/true},
               {"max", Align::kRight}});
  for (const ColumnSummary& c : columns) {
    table.AddRow({c.name, FormatCount(c.n), NumberText(c.mean.value),
                  NumberText(c.mean.standard_error), NumberText(c.median.value),
                  NumberText(c.trimmed.value), NumberText(c.standard_deviation), NumberText(c.min),
                  NumberText(c.p95), NumberText(c.p99), NumberText(c.max)});
  }
  std::string out = Heading("Columns", style) + table.Text(style);
  const auto interval = [](const Interval& i) {
    if (std::isinf(i.low) || std::isnan(i.low)) return std::string("none");
    return fmt::format("{:.4g} … {:.4g}", i.low, i.high);
  };
  for (const PairComparison& pair : pairs) {
    const PairedResult& r = pair.result;
    Table tests({{""},
                 {"difference", Align::kRight},
                 {"95 % interval", Align::kRight},
                 {"p", Align::kRight},
                 {"p (Holm)", Align::kRight}});
    tests.AddRow({"mean", NumberText(r.log_ratio.value), interval(r.log_ratio.interval),
                  PValueText(r.log_ratio.p), PValueText(pair.log_ratio_p_holm)});
    tests.AddRow({r.is_bca ? "  bootstrap, BCa" : "  bootstrap", "", interval(r.bootstrap)});
    tests.AddRow({"10 % trimmed mean", NumberText(r.trimmed.value), interval(r.trimmed.interval),
                  PValueText(r.trimmed.p), PValueText(pair.trimmed_p_holm)});
    tests.AddRow({"Hodges-Lehmann", NumberText(r.hodges_lehmann.value),
                  interval(r.hodges_lehmann.interval)});
    tests.AddRow({"median", NumberText(r.median.value), interval(r.median.interval)});
    tests.AddRow({"Wilcoxon", "", "", PValueText(r.wilcoxon.p), PValueText(pair.wilcoxon_p_holm)});
    tests.AddRow({"sign test", fmt::format("{} : {}", r.sign.num_positive, r.sign.num_negative), "",
                  PValueText(r.sign.p), PValueText(pair.sign_p_holm)});
    out += "\n" +
           Heading(fmt::format("{} - {}", columns[pair.a].name, columns[pair.b].name), style) +
           tests.Text(style);
  }
  return out;
}

}  // namespace ram
