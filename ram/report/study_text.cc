#include "ram/report/study_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "ram/base/bytes.h"
#include "ram/report/compare_table.h"

namespace ram {
namespace {

constexpr double kSignificant = 0.05;

double Width(const Interval& interval) { return interval.high - interval.low; }

std::string ChangeIntervalText(const Interval& interval) {
  const double width = Width(interval);
  if (!std::isfinite(width)) return "none";
  return fmt::format("{} … {}", ChangeText(interval.low, width), ChangeText(interval.high, width));
}

std::string SizeText(const StudyArm& arm) {
  return fmt::format("{}, {:.2f} bpw", FormatBytesShort(arm.bytes), arm.bits_per_weight);
}

// "44 % less", "1.9 times as much".
std::string AmountText(double log_ratio) {
  const double ratio = std::exp(log_ratio);
  if (ratio >= 1.995) return fmt::format("{} times as much", RatioText(log_ratio));
  return fmt::format("{} {}", Percent(std::abs(1 - ratio)), ratio < 1 ? "less" : "more");
}

const StudyPair* FindPair(const Study& study, size_t a, size_t b) {
  for (const StudyPair& pair : study.pairs) {
    if (pair.a == a && pair.b == b) return &pair;
  }
  return nullptr;
}

// Our plan against an arm of the same bytes that is no plan.
std::string BaselineSentence(const Study& study, const StudyPair& pair) {
  const StudyArm& ours = study.arms[pair.a];
  const StudyArm& baseline = study.arms[pair.b];
  std::string text = fmt::format("At the bytes of {} ({})", baseline.name, SizeText(baseline));
  if (!std::isfinite(pair.kl.value)) {
    return text + fmt::format(" {} cannot be compared: a divergence is 0.", ours.method);
  }
  if (!(pair.kl_p < kSignificant)) {
    text += fmt::format(
        " no difference between {} and it was shown: {} times its divergence ({}; p = {}).",
        ours.method, RatioText(pair.kl.value), RatioIntervalText(pair.kl.interval),
        PValueText(pair.kl_p));
  } else {
    text += fmt::format(
        " {} diverges {} from the original: KL {} against {}, ratio {} ({}; p = {}).", ours.method,
        AmountText(pair.kl.value), DivergenceText(ours.token_kl.mean.value),
        DivergenceText(baseline.token_kl.mean.value), RatioText(pair.kl.value),
        RatioIntervalText(pair.kl.interval), PValueText(pair.kl_p));
  }
  const std::string change =
      fmt::format("{} ({})", ChangeText(pair.typical.value, Width(pair.typical.interval)),
                  ChangeIntervalText(pair.typical.interval));
  if (pair.typical_p < kSignificant) {
    return text + fmt::format(" Its perplexity in the typical window is {}: {}.",
                              pair.typical.value < 0 ? "lower" : "higher", change);
  }
  return text + fmt::format(" Perplexity does not settle it: {} in the typical window, p = {}.",
                            change, PValueText(pair.typical_p));
}

// All sizes of one method against ours.
std::string MethodSentence(const Study& study, const std::string& method,
                           const std::vector<const StudyPair*>& pairs) {
  double low = HUGE_VAL;
  double high = -HUGE_VAL;
  size_t more = 0;
  size_t less = 0;
  size_t same = 0;
  for (const StudyPair* pair : pairs) {
    low = std::min(low, pair->kl.value);
    high = std::max(high, pair->kl.value);
    if (pair->kl.value == 0 && Width(pair->kl.interval) == 0) ++same;
    if (pair->kl_p < kSignificant) ++(pair->kl.value > 0 ? more : less);
  }
  const StudyArm& arm = study.arms[pairs.front()->a];
  const std::string of =
      arm.is_null && arm.method.starts_with("shuffled")
          ? fmt::format("With the sensitivities of each class dealt out anew ({})", method)
      : arm.is_null ? fmt::format("With every sensitivity 1 ({})", method)
                    : fmt::format("Planned by {}", method);
  std::string text =
      fmt::format("{} the divergence is {}{} times that of {} at equal bytes", of, RatioText(low),
                  pairs.size() > 1 ? " to " + RatioText(high) : "", *study.ours);
  std::vector<std::string> parts;
  if (more > 0) parts.push_back(fmt::format("higher at {}", more));
  if (less > 0) parts.push_back(fmt::format("lower at {}", less));
  const size_t open = pairs.size() - more - less - same;
  if (open > 0) parts.push_back(fmt::format("not resolved at {}", open));
  if (same > 0) parts.push_back(fmt::format("the very same plan at {}", same));
  return text + fmt::format(" ({} of {}).", fmt::join(parts, ", "), Counted(pairs.size(), "size"));
}

// What part of our gain on a baseline a null does not have.
std::string GainSentence(const Study& study, const StudyPair& ours) {
  const StudyArm& baseline = study.arms[ours.b];
  const double gain = 1 - std::exp(ours.kl.value);
  if (!(ours.kl_p < kSignificant) || gain <= 0) return "";
  std::map<std::string, std::vector<double>> ratios;  // Of nulls to the baseline, by method.
  for (const StudyPair& pair : study.pairs) {
    const StudyArm& arm = study.arms[pair.a];
    if (pair.b != ours.b || !arm.is_null) continue;
    const bool is_shuffled = arm.method.starts_with("shuffled");
    ratios[is_shuffled ? "shuffled" : arm.method].push_back(std::exp(pair.kl.value));
  }
  std::vector<std::string> parts;
  for (const auto& [method, values] : ratios) {
    const double mean = Mean(values);
    const double share = (mean - std::exp(ours.kl.value)) / gain;
    parts.push_back(
        fmt::format("{} has {:.3g} of its divergence, so {} of the gain is {}", method, mean,
                    share <= 0   ? std::string("nothing")
                    : share >= 1 ? std::string("all")
                                 : Percent(share),
                    method == "shuffled" ? "which layer of a class gets which sensitivity"
                                         : "the sensitivities"));
  }
  if (parts.empty()) return "";
  return fmt::format(
      "How much of the gain is the sensitivities, at the bytes of {}: {} has {:.3g} of its "
      "divergence; {}.",
      baseline.name, study.arms[ours.a].method, std::exp(ours.kl.value), fmt::join(parts, "; "));
}

std::string CurveSentence(const Study& study) {
  if (study.steps.empty()) return "";
  size_t resolved = 0;
  double largest_p = 0;
  const StudyStep* open = nullptr;
  for (const StudyStep& step : study.steps) {
    if (step.kl_p < kSignificant && step.kl.value > 0) {
      ++resolved;
      largest_p = std::max(largest_p, step.kl_p);
    } else if (open == nullptr) {
      open = &step;
    }
  }
  const StudyArm& first = study.arms[study.steps.front().smaller];
  const StudyArm& last = study.arms[study.steps.back().larger];
  std::string text = fmt::format(
      "The curve of {}: from {} to {} the divergence falls from {} to {}; ", *study.ours,
      FormatBytesShort(first.bytes), FormatBytesShort(last.bytes),
      DivergenceText(first.token_kl.mean.value), DivergenceText(last.token_kl.mean.value));
  if (resolved == study.steps.size()) {
    return text +
           fmt::format("{} (p by Holm at most {}).",
                       resolved == 1
                           ? "the step is one that the paired test supports"
                           : fmt::format("the paired test supports each of the {} steps", resolved),
                       PValueText(largest_p));
  }
  return text + fmt::format("the paired test supports {} of {}, not that from {} to {} (p = {}).",
                            resolved, Counted(study.steps.size(), "step"),
                            study.arms[open->smaller].name, study.arms[open->larger].name,
                            PValueText(open->kl_p));
}

// A gain in the unit of its measure: "0.50 %" of perplexity, "0.005 nats" of divergence.
std::string GainText(double gain, bool by_perplexity) {
  if (gain <= 0) return "nothing";
  return by_perplexity ? fmt::format("{:.2g} %", 100 * std::expm1(gain))
                       : fmt::format("{:.2g} nats", gain);
}

std::string SaturationSentence(const Study& study, const Saturation& saturation,
                               bool by_perplexity) {
  if (saturation.rungs.empty()) return "";
  const auto arm_of = [&](size_t rung) -> const StudyArm& {
    return study.arms[study.ladder[rung]];
  };
  const std::string margin = GainText(study.margin, by_perplexity);
  const std::string text = fmt::format(
      "Saturation by {}: ", by_perplexity ? "perplexity in the typical window" : "divergence");
  if (saturation.smallest) {
    const RungFinding& rung = saturation.rungs[*saturation.smallest];
    const StudyArm& arm = arm_of(*saturation.smallest);
    return text + fmt::format(
                      "{}{} ({}). Neither a larger plan nor the original is better by {}; with "
                      "95 % confidence the most that any of them gains is {}.",
                      *saturation.smallest == 0 ? "at or below " : "", arm.name, SizeText(arm),
                      margin, GainText(rung.difference.interval.high, by_perplexity));
  }
  const RungFinding& last = saturation.rungs.back();
  const StudyArm& arm = arm_of(saturation.rungs.size() - 1);
  if (last.state == RungState::kBuys) {
    return text + fmt::format(
                      "above the largest plan. The original is better than {} ({}) by more "
                      "than {}.",
                      arm.name, SizeText(arm), margin);
  }
  return text + fmt::format(
                    "these windows cannot tell. The original may be better than the largest "
                    "plan, {} ({}), by {}, which is not below {}.",
                    arm.name, SizeText(arm), GainText(last.difference.interval.high, by_perplexity),
                    margin);
}

std::string RoundedSentence(const StudyArm& arm) {
  return fmt::format(
      "{}: KL {}, perplexity {} ({}).", arm.name, DivergenceText(arm.token_kl.mean.value),
      ChangeText(arm.typical.value, std::max(Width(arm.typical.interval), 1e-6)), arm.about);
}

std::string RungText(const Saturation& saturation, size_t rung, bool by_perplexity) {
  const RungFinding& finding = saturation.rungs[rung];
  const double high = finding.difference.interval.high;
  const std::string reach = GainText(high, by_perplexity);
  switch (finding.state) {
    case RungState::kSaturated:
      return high <= 0 ? reach : "< margin, at most " + reach;
    case RungState::kBuys:
      return "> margin, up to " + reach;
    case RungState::kUnresolved:
      break;
  }
  return "unresolved, up to " + reach;
}

}  // namespace

std::string RatioText(double log_ratio) {
  if (!std::isfinite(log_ratio)) return "-";
  return fmt::format("{:.3g}", std::exp(log_ratio));
}

std::string RatioIntervalText(const Interval& log_interval) {
  if (!std::isfinite(log_interval.low) || !std::isfinite(log_interval.high)) return "-";
  return fmt::format("{} … {}", RatioText(log_interval.low), RatioText(log_interval.high));
}

std::string DivergenceText(double kl) { return kl == 0 ? "0" : fmt::format("{:.3g}", kl); }

std::vector<std::vector<StudyRow>> StudyRows(const Study& study) {
  std::vector<std::vector<StudyRow>> groups(1);
  const auto is_size = [&](size_t arm) {
    return std::ranges::any_of(study.sizes,
                               [&](const StudySize& size) { return size.baseline == arm; });
  };
  for (size_t m = 0; m < study.arms.size(); ++m) {
    if (study.arms[m].size.empty() && !is_size(m)) groups.front().push_back({m});
  }
  std::vector<const StudySize*> sizes;
  for (const StudySize& size : study.sizes) sizes.push_back(&size);
  std::ranges::stable_sort(
      sizes, [](const StudySize* a, const StudySize* b) { return a->bytes > b->bytes; });
  for (const StudySize* size : sizes) {
    std::vector<StudyRow> rows;
    if (size->baseline) rows.push_back({*size->baseline});
    for (size_t m = 0; m < study.arms.size(); ++m) {
      if (study.arms[m].size != size->label) continue;
      rows.push_back({m, size->baseline ? FindPair(study, m, *size->baseline) : nullptr});
    }
    if (!rows.empty()) groups.push_back(std::move(rows));
  }
  return groups;
}

std::vector<RungRow> RungRows(const Study& study) {
  std::vector<RungRow> rows;
  for (size_t r = 0; r < study.by_perplexity.rungs.size(); ++r) {
    const StudyArm& arm = study.arms[study.ladder[r]];
    rows.push_back({arm.name, SizeText(arm), RungText(study.by_perplexity, r, true),
                    RungText(study.by_divergence, r, false)});
  }
  return rows;
}

std::vector<std::string> StudyVerdict(const Study& study) {
  std::vector<std::string> verdict;
  const auto add = [&](std::string sentence) {
    if (!sentence.empty()) verdict.push_back(std::move(sentence));
  };
  const StudyPair* gain = nullptr;
  std::vector<std::string> methods;  // Of plans other than ours, in their order.
  std::map<std::string, std::vector<const StudyPair*>> by_method;
  for (const StudyPair& pair : study.pairs) {
    const StudyArm& a = study.arms[pair.a];
    const StudyArm& b = study.arms[pair.b];
    const bool is_ours = study.ours && a.method == *study.ours;
    if (is_ours) {
      add(BaselineSentence(study, pair));
      if (gain == nullptr || b.name == "uniform-4-64") gain = &pair;
    } else if (study.ours && b.method == *study.ours) {
      if (!by_method.contains(a.method)) methods.push_back(a.method);
      by_method[a.method].push_back(&pair);
    }
  }
  for (const std::string& method : methods) add(MethodSentence(study, method, by_method[method]));
  if (gain != nullptr) add(GainSentence(study, *gain));
  add(CurveSentence(study));
  if (study.ours) {
    add(SaturationSentence(study, study.by_perplexity, true));
    add(SaturationSentence(study, study.by_divergence, false));
  }
  for (const StudyArm& arm : study.arms) {
    if (arm.kind == ArmSpec::Kind::kRounded && !arm.is_original) add(RoundedSentence(arm));
  }
  return verdict;
}

std::string StudyText(const Study& study, const Style& style) {
  using Kind = Column::Kind;
  double tokens = 0;
  for (const double size : study.window_tokens) tokens += size;
  std::string text =
      Heading(fmt::format("Study of {}", study.model), style) +
      Facts({{"text", fmt::format("{}: {}, {}", study.text, study.protocol, study.settings)},
             {"scored", fmt::format("{} tokens in {}; windows are the unit",
                                    FormatCount(static_cast<uint64_t>(tokens)),
                                    Counted(study.window_tokens.size(), "window"))},
             {"numerics",
              fmt::format("{}, products {}, {}", study.numerics, study.precision, study.engine)}},
            style) +
      "\n";
  Table table({{"arm", Align::kLeft, Kind::kName},
               {"size", Align::kRight},
               {"bpw", Align::kRight},
               {"corpus", Align::kRight},
               {"KL", Align::kRight},
               {"of baseline", Align::kRight},
               {"95 % interval", Align::kRight, Kind::kText, true},
               {"SE", Align::kRight, Kind::kText, true},
               {"median", Align::kRight, Kind::kText, true},
               {"P95", Align::kRight, Kind::kText, true},
               {"P99", Align::kRight, Kind::kText, true},
               {"trim 10 %", Align::kRight, Kind::kText, true}});
  bool first = true;
  for (const std::vector<StudyRow>& group : StudyRows(study)) {
    if (!first) table.AddRule();
    first = false;
    for (const StudyRow& row : group) {
      const StudyArm& arm = study.arms[row.arm];
      const PerplexitySummary& s = arm.perplexity;
      const StudyPair* pair = row.against_baseline;
      const bool significant = pair != nullptr && pair->kl_p < kSignificant;
      const Tint tint = !significant ? Tint::kNone : pair->kl.value < 0 ? Tint::kGood : Tint::kBad;
      const double error = s.log_corpus.standard_error;
      table.AddRow({arm.name, FormatBytesShort(arm.bytes),
                    fmt::format("{:.2f}", arm.bits_per_weight), PerplexityText(s.corpus),
                    DivergenceText(arm.token_kl.mean.value),
                    Cell(pair == nullptr ? "" : RatioText(pair->kl.value), tint),
                    pair == nullptr ? "" : RatioIntervalText(pair->kl.interval),
                    std::isfinite(error) ? Percent(error) : "-", PerplexityText(s.median),
                    PerplexityText(s.p95), PerplexityText(s.p99), PerplexityText(s.trimmed_10)});
    }
  }
  text += table.Text(style);
  if (const std::vector<RungRow> rungs = RungRows(study); !rungs.empty()) {
    Table steps({{"plan", Align::kLeft, Kind::kName},
                 {"in perplexity", Align::kLeft},
                 {"in divergence", Align::kLeft}});
    for (const RungRow& rung : rungs)
      steps.AddRow({rung.arm, rung.by_perplexity, rung.by_divergence});
    text += "\n" + Heading("What more bytes buy", style) + steps.Text(style);
  }
  text += "\n" + Heading("Verdict", style);
  for (const std::string& sentence : StudyVerdict(study)) text += Wrap(sentence, style, 2, 4);
  if (!study.notes.empty()) {
    text += "\n" + Heading("Notes", style);
    for (const std::string& note : study.notes) text += Wrap(note, style, 2, 4);
  }
  return text;
}

}  // namespace ram
