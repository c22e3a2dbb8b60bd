#include "ram/report/study_page.h"

#include <fmt/format.h>

#include <cmath>
#include <vector>

#include "ram/base/bytes.h"
#include "ram/report/compare_table.h"
#include "ram/report/html.h"
#include "ram/report/study_text.h"

namespace ram {
namespace {

double Width(const Interval& interval) { return interval.high - interval.low; }

std::string ChangeIntervalText(const Interval& interval) {
  const double width = Width(interval);
  if (!std::isfinite(width)) return "-";
  return fmt::format("{} … {}", ChangeText(interval.low, width), ChangeText(interval.high, width));
}

std::string DivergenceIntervalText(const Interval& interval) {
  if (!std::isfinite(interval.low) || !std::isfinite(interval.high)) return "-";
  return fmt::format("{} … {}", DivergenceText(interval.low), DivergenceText(interval.high));
}

std::string Leaderboard(const Study& study) {
  std::vector<std::vector<std::string>> rows;
  for (const std::vector<StudyRow>& group : StudyRows(study)) {
    for (const StudyRow& row : group) {
      const StudyArm& arm = study.arms[row.arm];
      const PerplexitySummary& s = arm.perplexity;
      const double error = s.log_corpus.standard_error;
      const StudyPair* pair = row.against_baseline;
      rows.push_back({arm.name, FormatBytesShort(arm.bytes),
                      fmt::format("{:.2f}", arm.bits_per_weight),
                      DivergenceText(arm.token_kl.mean.value),
                      DivergenceIntervalText(arm.token_kl.mean.interval),
                      pair == nullptr ? "" : RatioText(pair->kl.value),
                      pair == nullptr ? "" : RatioIntervalText(pair->kl.interval),
                      fmt::format("{:.2f} %", 100 * arm.same_top.value), PerplexityText(s.corpus),
                      std::isfinite(error) ? "± " + Percent(error) : "-", PerplexityText(s.median),
                      PerplexityText(s.trimmed_10), PerplexityText(s.p95), PerplexityText(s.p99),
                      FormatCount(s.num_outliers)});
    }
  }
  return HtmlTable(
      "Every arm, largest size first; a plan follows the arm whose bytes it was given. KL is the "
      "mean divergence from the original in nats per token, \"of baseline\" its ratio to that arm, "
      "paired by window. Perplexity: corpus with the standard error of windows, then of single "
      "windows.",
      {{"arm"},
       {"size", true},
       {"bpw", true},
       {"KL", true},
       {"95 % interval", true},
       {"of baseline", true},
       {"95 % interval", true},
       {"same top", true},
       {"corpus", true},
       {"SE", true},
       {"median", true},
       {"trim 10 %", true},
       {"P95", true},
       {"P99", true},
       {"> 100", true}},
      rows);
}

std::string PerplexityTable(const Study& study) {
  std::vector<std::vector<std::string>> rows;
  for (const std::vector<StudyRow>& group : StudyRows(study)) {
    for (const StudyRow& row : group) {
      const StudyArm& arm = study.arms[row.arm];
      if (arm.is_original) continue;
      const auto change = [](const Estimate& e) {
        return std::isfinite(Width(e.interval)) ? ChangeText(e.value, Width(e.interval)) : "-";
      };
      rows.push_back({arm.name, change(arm.typical), ChangeIntervalText(arm.typical.interval),
                      change(arm.corpus), ChangeIntervalText(arm.corpus.interval)});
    }
  }
  return HtmlDetails(
      "The same as a table",
      HtmlTable("Perplexity against the original on the same windows: the typical "
                "window (10 % trimmed mean of the paired log ratios) and the corpus.",
                {{"arm"},
                 {"typical", true},
                 {"95 % interval", true},
                 {"corpus", true},
                 {"95 % interval", true}},
                rows));
}

std::string PairsTable(const Study& study) {
  std::vector<std::vector<std::string>> rows;
  for (const StudyPair& pair : study.pairs) {
    rows.push_back({study.arms[pair.a].name, study.arms[pair.b].name, RatioText(pair.kl.value),
                    RatioIntervalText(pair.kl.interval), PValueText(pair.kl_p),
                    ChangeText(pair.typical.value, Width(pair.typical.interval)),
                    PValueText(pair.typical_p)});
  }
  return HtmlDetails(
      "Every comparison at equal bytes",
      HtmlTable("Divergence of the first as a multiple of the second's, and perplexity in the "
                "typical window; p by Holm over all rows.",
                {{"arm"},
                 {"against"},
                 {"KL ratio", true},
                 {"95 % interval", true},
                 {"p", true},
                 {"perplexity", true},
                 {"p", true}},
                rows));
}

std::string SaturationBody(const Study& study) {
  std::vector<std::vector<std::string>> rows;
  for (const RungRow& rung : RungRows(study)) {
    rows.push_back({rung.arm, rung.size, rung.by_perplexity, rung.by_divergence});
  }
  return HtmlParagraph(fmt::format(
             "A plan buys nothing more with further bytes if no larger plan, and not the original, "
             "is better by the margin: {:.2g} % of perplexity in the typical window, {:.2g} nats "
             "of "
             "divergence (what the same share is on a text that the original writes). Each "
             "comparison is paired by window, with 95 % confidence on the side that matters; too "
             "few windows give no answer instead of that one.",
             100 * std::expm1(study.margin), study.margin)) +
         HtmlTable(
             "What more bytes buy beyond each plan: the largest gain that its worst "
             "comparison leaves possible.",
             {{"plan"}, {"size"}, {"in perplexity"}, {"in divergence"}}, rows);
}

std::string ArmsTable(const Study& study) {
  std::vector<std::vector<std::string>> rows;
  for (const StudyArm& arm : study.arms) {
    std::string about = arm.about;
    if (!arm.size.empty()) about += fmt::format(", in the bytes of {}", arm.size);
    if (!arm.same_as.empty()) about += fmt::format("; the same weights as {}", arm.same_as);
    rows.push_back({arm.name, about, FormatCount(arm.bytes)});
  }
  return HtmlDetails("What the arms are",
                     HtmlTable("Every arm and the bytes of its safetensors files.",
                               {{"arm"}, {"what it is"}, {"bytes", true}}, rows));
}

}  // namespace

std::string StudyPage(const Study& study) {
  std::vector<HtmlSection> sections;
  sections.push_back({"verdict", "Verdict", HtmlList(StudyVerdict(study), "verdict")});
  if (const std::string plot = StudyDivergencePlot("divergence-plot", study); !plot.empty()) {
    sections.push_back(
        {"divergence", "Size and divergence",
         HtmlFigure(
             "Size and divergence", plot,
             "Lower is closer to the original. Lines join plans of one method; bars are 95 % "
             "intervals over windows, which pairing makes much narrower for differences.")});
  }
  if (const std::string plot = StudyRatioPlot("ratio-plot", study); !plot.empty()) {
    sections.push_back({"ratios", "At equal bytes",
                        HtmlFigure("Divergence at equal bytes", plot,
                                   "Left of 0: closer to the original than the arm whose bytes the "
                                   "plan was given. Paired by window.") +
                            PairsTable(study)});
  }
  if (const std::string plot = StudyPerplexityPlot("perplexity-plot", study); !plot.empty()) {
    sections.push_back(
        {"perplexity", "Size and perplexity",
         HtmlFigure("Size and perplexity", plot,
                    "How much higher perplexity is than the original's in the typical window, with "
                    "95 % intervals. What is far beyond the others stands at the edge with its "
                    "number.") +
             PerplexityTable(study)});
  }
  if (!study.by_perplexity.rungs.empty()) {
    sections.push_back({"saturation", "Saturation", SaturationBody(study)});
  }
  sections.push_back({"arms", "All numbers", Leaderboard(study) + ArmsTable(study)});
  if (!study.notes.empty()) {
    sections.push_back({"notes", "Notes", HtmlList(study.notes, "notes")});
  }
  return HtmlPage(fmt::format("Study of {}", study.model),
                  fmt::format("{}, {} on {}: {}; {}, products {}, {}.",
                              Counted(study.arms.size(), "arm"), study.protocol, study.text,
                              study.settings, study.numerics, study.precision, study.engine),
                  sections);
}

}  // namespace ram
