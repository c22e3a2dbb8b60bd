#include "ram/report/report_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "ram/base/bytes.h"
#include "ram/report/html.h"
#include "ram/report/plan_facts.h"
#include "ram/report/report_plots.h"

namespace ram {
namespace {

constexpr size_t kMostWindowsToRead = 24;
constexpr size_t kMostPerReason = 10;
constexpr size_t kMostTextBytes = 16 << 10;  // Of one window.

Estimate Reversed(Estimate estimate) {
  estimate.value = -estimate.value;
  estimate.interval = {-estimate.interval.high, -estimate.interval.low};
  return estimate;
}

double Width(const Interval& interval) { return interval.high - interval.low; }

std::string IntervalText(const Interval& interval) {
  if (!std::isfinite(interval.low) || !std::isfinite(interval.high)) return "none";
  const double width = Width(interval);
  return fmt::format("{} … {}", ChangeText(interval.low, width), ChangeText(interval.high, width));
}

std::string SizeText(double bytes) {
  return std::isfinite(bytes) ? FormatBytesShort(static_cast<uint64_t>(bytes)) : "-";
}

std::string NumberText(double number, int decimals) {
  return std::isfinite(number) ? fmt::format("{:.{}f}", number, decimals) : "-";
}

std::string Leaderboard(const ReportGroup& group) {
  std::vector<size_t> order(group.models.size());
  for (size_t m = 0; m < order.size(); ++m) order[m] = m;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return group.comparison.summaries[a].corpus < group.comparison.summaries[b].corpus;
  });
  const bool has_sizes =
      std::any_of(group.models.begin(), group.models.end(), [](const ModelScores& model) {
        return std::isfinite(model.bytes) || std::isfinite(model.bits_per_weight);
      });
  std::vector<HtmlColumn> columns = {{"model"}};
  if (has_sizes) {
    columns.push_back({"size", true});
    columns.push_back({"bits/weight", true});
  }
  for (const char* title :
       {"corpus", "SE", "median", "trim 10 %", "P95", "P99", "max", "> 100", "tail index"}) {
    columns.push_back({title, true});
  }
  std::vector<std::vector<std::string>> rows;
  for (const size_t m : order) {
    const ModelScores& model = group.models[m];
    const PerplexitySummary& s = group.comparison.summaries[m];
    const double error = s.log_corpus.standard_error;
    std::vector<std::string>& row = rows.emplace_back();
    row.push_back(model.name);
    if (has_sizes) {
      row.push_back(SizeText(model.bytes));
      row.push_back(NumberText(model.bits_per_weight, 2));
    }
    for (std::string cell : {PerplexityText(s.corpus), std::isfinite(error) ? Percent(error) : "-",
                             PerplexityText(s.median), PerplexityText(s.trimmed_10),
                             PerplexityText(s.p95), PerplexityText(s.p99), PerplexityText(s.max),
                             FormatCount(s.num_outliers), NumberText(s.tail.alpha, 1)}) {
      row.push_back(std::move(cell));
    }
  }
  const PerplexitySummary& first = group.comparison.summaries.front();
  return HtmlTable(fmt::format("Perplexity: {}; {}, {}, lowest corpus perplexity first",
                               group.windows.what, Counted(first.num_windows, "window"),
                               Counted(static_cast<uint64_t>(first.num_tokens), "scored token")),
                   columns, rows);
}

std::string PairsTable(const ReportGroup& group) {
  std::vector<std::vector<std::string>> rows;
  for (const PairComparison& pair : group.comparison.pairs) {
    const PairedResult& r = pair.result;
    const auto change = [](const Estimate& e) { return ChangeText(e.value, Width(e.interval)); };
    rows.push_back({group.models[pair.a].name, group.models[pair.b].name, change(r.log_ratio),
                    IntervalText(r.log_ratio.interval), change(r.trimmed),
                    IntervalText(r.trimmed.interval), change(r.hodges_lehmann),
                    PValueText(pair.trimmed_p_holm), std::string(FindingName(pair.finding))});
  }
  return HtmlTable(
      "Pairs on the same windows: how much higher the perplexity of the first is. The typical "
      "window (10 % trimmed mean of the paired log ratios) decides; p by Holm.",
      {{"model"},
       {"against"},
       {"corpus", true},
       {"95 % interval", true},
       {"typical", true},
       {"95 % interval", true},
       {"Hodges-Lehmann", true},
       {"p", true},
       {"finding"}},
      rows);
}

// Whole characters of the first kMostTextBytes.
std::string ShownText(const std::string& text) {
  if (text.size() <= kMostTextBytes) return text;
  size_t end = kMostTextBytes;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0u) == 0x80) --end;
  return text.substr(0, end) + "…";
}

std::string WindowsToReadList(std::string_view id, const ReportGroup& group,
                              const std::vector<size_t>& windows) {
  std::string out;
  std::vector<std::vector<std::string>> rows;
  for (const size_t window : windows) {
    std::vector<std::string> row = {group.windows.labels[window]};
    std::string summary = fmt::format("Window {}:", group.windows.labels[window]);
    for (size_t m = 0; m < group.models.size(); ++m) {
      row.push_back(PerplexityText(std::exp(group.models[m].nll[window])));
      if (m < 6)
        summary += fmt::format("{} {} {}", m == 0 ? "" : ",", group.models[m].name, row.back());
    }
    rows.push_back(std::move(row));
    if (group.windows.texts[window].empty()) continue;
    out += HtmlDetails(
        summary,
        fmt::format("<p class=\"text\" id=\"{}-window-{}\" tabindex=\"0\">{}</p>\n", EscapeHtml(id),
                    window, EscapeHtml(ShownText(group.windows.texts[window]))),
        "window");
  }
  if (!out.empty()) {
    return HtmlParagraph(
               "Windows of highest perplexity, and those that decide a corpus order. "
               "Open one to read it; its dots in the plot lead there too.",
               "note") +
           out;
  }
  std::vector<HtmlColumn> columns = {{"window"}};
  for (const ModelScores& model : group.models) columns.push_back({model.name, true});
  return HtmlDetails(
      "Windows of highest perplexity, and those that decide a corpus order",
      HtmlTable("Perplexity of single windows; the sources hold no text", columns, rows));
}

std::vector<HtmlSection> GroupSections(const ReportGroup& group, size_t number, bool is_alone,
                                       uint64_t uniform_bytes) {
  const std::string id = fmt::format("group{}", number);
  const std::string suffix = is_alone ? "" : fmt::format(", text {}", number);
  std::vector<HtmlSection> sections;
  const std::vector<std::string> verdict =
      VerdictSentences(group.models, group.comparison, group.windows);
  sections.push_back({id, "Verdict" + suffix,
                      HtmlList(verdict, "verdict") +
                          HtmlList(CompareNotes(group.comparison, group.windows), "notes") +
                          Leaderboard(group)});
  const std::string& base = group.models[group.base].name;
  if (const std::string plot = SizePlot(id + "-size-plot", group, uniform_bytes); !plot.empty()) {
    sections.push_back(
        {id + "-size", "Size and quality" + suffix,
         HtmlFigure("Size and quality", plot,
                    fmt::format("Corpus perplexity relative to {} (ring) on the same windows, with "
                                "95 % intervals. Lower is better; further left is smaller. Squares "
                                "are uniform quantization.",
                                base))});
  }
  const std::string window_id = id + "-windows-plot";
  const std::vector<size_t> windows = WindowsToRead(group);
  std::vector<size_t> linked;
  for (const size_t window : windows) {
    if (!group.windows.texts[window].empty()) linked.push_back(window);
  }
  const size_t num_windows = group.comparison.summaries.front().num_windows;
  sections.push_back(
      {id + "-windows", "Window by window" + suffix,
       HtmlFigure(
           "Perplexity of every window", WindowPlot(window_id, group, linked),
           num_windows <= kMostDots
               ? "A dot is a window; diamonds are outliers above 100. Bars hold the middle "
                 "half of the windows, lines 90 % of them, with the median."
               : fmt::format("The {} windows of highest perplexity and {} others, evenly by "
                             "rank, of {}; diamonds are outliers above 100. Bars hold the "
                             "middle half of all windows, lines 90 % of them, with the "
                             "median.",
                             kMostDots / 4, kMostDots - kMostDots / 4, FormatCount(num_windows))) +
           WindowsToReadList(window_id, group, windows)});
  if (const std::string plot = PairPlot(id + "-pairs-plot", group); !plot.empty()) {
    sections.push_back({id + "-pairs", "Paired differences" + suffix,
                        HtmlFigure("Paired differences", plot,
                                   fmt::format("How much higher perplexity is than that of {} on "
                                               "the same windows, with 95 % intervals; best first. "
                                               "Where an interval crosses 0, nothing was shown.",
                                               base)) +
                            PairsTable(group)});
  }
  return sections;
}

HtmlSection NoiseSection(const ReportNoise& noise, size_t number) {
  const std::string id = fmt::format("noise{}", number);
  std::vector<std::vector<std::string>> rows;
  for (const ReportNoiseRow& row : noise.rows) {
    const auto change = [](const Estimate& e) { return ChangeText(e.value, Width(e.interval)); };
    rows.push_back({row.name, change(row.corpus), change(row.typical),
                    IntervalText(row.typical.interval),
                    row.seeds.empty() ? "" : std::to_string(row.seeds.size()),
                    std::isfinite(row.z) ? fmt::format("{:+.1f}", row.z) : ""});
  }
  return {id, fmt::format("Noise control: {}", noise.name),
          HtmlList(noise.sentences, "verdict") +
              HtmlFigure("Noise control", NoisePlot(id + "-plot", noise),
                         "How much perplexity rises when the weights are disturbed as much as "
                         "compression disturbs them. The line through all rows is the compressed "
                         "model: where it crosses the seeds of a control, noise does the same. "
                         "An arrow: beyond the edge.") +
              HtmlTable(fmt::format("Change of perplexity against the original; {}. z: the "
                                    "compressed model among the seeds, by the typical window",
                                    noise.what),
                        {{"condition"},
                         {"corpus", true},
                         {"typical", true},
                         {"95 % interval", true},
                         {"seeds", true},
                         {"z", true}},
                        rows)};
}

std::string PlanTable(const Plan& plan) {
  std::vector<std::vector<std::string>> rows;
  for (const PlannedModule& module : plan.modules) {
    rows.push_back({module.name, SpokenChoice(module.choice), FormatBytesShort(module.bytes),
                    std::isfinite(module.sqnr_db) ? fmt::format("{:.1f}", module.sqnr_db) : "-"});
  }
  return HtmlDetails("The same as a table",
                     HtmlTable("Every module: choice (bits, group size), size, signal to noise",
                               {{"module"}, {"choice"}, {"size", true}, {"dB", true}}, rows));
}

HtmlSection PlanSection(const ReportPlan& named, size_t number) {
  const Plan& plan = named.plan;
  const std::string id = fmt::format("plan{}", number);
  return {id, fmt::format("Plan: {}", named.name),
          HtmlParagraph(fmt::format(
              "{}: {} under a budget of {}, {:.2f} bits per weight, everything counted; predicted "
              "cost {}, {}.",
              ShortModelName(plan.model), FormatBytes(plan.bytes), FormatBytes(plan.budget_bytes),
              plan.bits_per_weight(), CostNumber(plan.cost),
              CertifiedGap(plan) == 0 || plan.proven_by_search
                  ? "proven optimal"
                  : "proven within " + Percent(CertifiedGap(plan)) + " of the optimum")) +
              HtmlFigure("Choices of the plan", PlanMap(id + "-map", plan),
                         "Colour is bits, text is bits and group size; a row is a layer.") +
              PlanTable(plan)};
}

HtmlSection RatesSection(const LoadedRates& rates, const std::vector<ReportPlan>& plans,
                         size_t number) {
  const std::string id = fmt::format("rates{}", number);
  const ReportPlan* plan = nullptr;
  for (const ReportPlan& other : plans) {
    if (plan == nullptr && other.plan.rates_sha256 == rates.sha256) plan = &other;
  }
  const std::string plot =
      RatePlot(id + "-plot", rates.table, plan == nullptr ? nullptr : &plan->plan);
  const std::string caption = fmt::format(
      "Three of {} modules, every choice measured; lines join those that no smaller one beats.{}",
      rates.table.modules.size(),
      plan == nullptr ? "" : fmt::format(" Rings are the choices of {}.", plan->name));
  return {id, fmt::format("What bits buy: {}", ShortModelName(rates.table.model)),
          plot.empty() ? HtmlParagraph("No module of this table can be stored at 4 bits.")
                       : HtmlFigure("Rate and distortion", plot, caption)};
}

}  // namespace

size_t ChooseBase(const std::vector<ModelScores>& models) {
  size_t base = 0;
  const auto most = [&](double ModelScores::*field) {
    for (size_t m = 0; m < models.size(); ++m) {
      if (!std::isfinite(models[m].*field)) continue;
      if (!(models[base].*field >= models[m].*field)) base = m;
    }
    return std::isfinite(models[base].*field);
  };
  if (models.empty() || most(&ModelScores::bytes)) return base;
  most(&ModelScores::bits_per_weight);
  return base;
}

std::vector<AgainstBase> PairsWithBase(const ReportGroup& group) {
  std::vector<AgainstBase> pairs(group.models.size());
  std::vector<bool> found(group.models.size());
  for (const PairComparison& pair : group.comparison.pairs) {
    if (pair.a != group.base && pair.b != group.base) continue;
    const bool is_first = pair.b == group.base;
    const size_t model = is_first ? pair.a : pair.b;
    const auto turned = [&](const Estimate& e) { return is_first ? e : Reversed(e); };
    pairs[model] = {model,
                    turned(pair.result.log_ratio),
                    turned(pair.result.trimmed),
                    turned(pair.result.hodges_lehmann),
                    pair.trimmed_p_holm,
                    pair.finding};
    found[model] = true;
  }
  std::vector<AgainstBase> out;
  for (size_t m = 0; m < pairs.size(); ++m) {
    if (found[m]) out.push_back(pairs[m]);
  }
  return out;
}

std::vector<size_t> WindowsToRead(const ReportGroup& group) {
  if (group.models.empty()) return {};
  std::vector<double> highest = group.models.front().nll;
  for (const ModelScores& model : group.models) {
    for (size_t w = 0; w < highest.size(); ++w) highest[w] = std::max(highest[w], model.nll[w]);
  }
  std::vector<size_t> order(highest.size());
  for (size_t w = 0; w < order.size(); ++w) order[w] = w;
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return highest[a] > highest[b]; });
  std::set<size_t> chosen(order.begin(), order.begin() + static_cast<ptrdiff_t>(std::min(
                                                             order.size(), kMostPerReason)));
  for (const PairComparison& pair : group.comparison.pairs) {
    const std::vector<size_t>& flip = pair.result.flip.windows;
    for (size_t k = 0; k < std::min(flip.size(), kMostPerReason); ++k) {
      if (pair.result.flip.fragile && chosen.size() < kMostWindowsToRead) chosen.insert(flip[k]);
    }
  }
  std::erase_if(order, [&](size_t w) { return !chosen.contains(w); });
  return order;
}

std::string ReportPage(const ReportData& data) {
  const uint64_t uniform_bytes = data.plans.empty() ? 0 : data.plans.front().plan.uniform.bytes;
  std::vector<HtmlSection> sections;
  size_t num_models = 0;
  for (size_t g = 0; g < data.groups.size(); ++g) {
    num_models += data.groups[g].models.size();
    for (HtmlSection& section :
         GroupSections(data.groups[g], g + 1, data.groups.size() == 1, uniform_bytes)) {
      sections.push_back(std::move(section));
    }
  }
  for (size_t n = 0; n < data.noises.size(); ++n) {
    sections.push_back(NoiseSection(data.noises[n], n + 1));
  }
  for (size_t p = 0; p < data.plans.size(); ++p) {
    sections.push_back(PlanSection(data.plans[p], p + 1));
  }
  for (size_t r = 0; r < data.rates.size(); ++r) {
    sections.push_back(RatesSection(data.rates[r], data.plans, r + 1));
  }
  std::vector<std::string> parts;
  if (num_models > 0) parts.push_back(Counted(num_models, "model"));
  if (!data.noises.empty()) parts.push_back(Counted(data.noises.size(), "noise experiment"));
  if (!data.plans.empty()) parts.push_back(Counted(data.plans.size(), "plan"));
  if (!data.rates.empty()) parts.push_back(Counted(data.rates.size(), "rate table"));
  std::string subtitle =
      parts.empty() ? "Nothing to report." : fmt::format("{}", fmt::join(parts, ", "));
  if (data.groups.size() > 1) {
    subtitle += "; texts differ, and numbers of one cannot be compared with those of another";
  }
  return HtmlPage(data.title, subtitle, sections);
}

}  // namespace ram
