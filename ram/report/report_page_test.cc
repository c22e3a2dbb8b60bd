// The page: nothing that comes from files breaks out of it, numbers are finite, its size has a
// limit.

#include "ram/report/report_page.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <regex>
#include <set>

#include "ram/plan/testing.h"
#include "ram/report/html.h"
#include "ram/report/report_plots.h"
#include "ram/report/svg.h"

namespace ram {
namespace {

constexpr const char* kHostile = "</title></style><script>alert('\"&')</script>\x01\xff";

ReportGroup MakeGroup(std::vector<ModelScores> models, const std::string& text = "some words") {
  ReportGroup group;
  const size_t n = models.front().nll.size();
  group.comparison =
      *CompareModels(models, std::vector<double>(n, 10), {.bootstrap = {.num_resamples = 200}});
  group.windows.what = "test";
  for (size_t w = 0; w < n; ++w) {
    group.windows.labels.push_back(std::to_string(w));
    group.windows.texts.push_back(text);
  }
  group.base = ChooseBase(models);
  group.models = std::move(models);
  return group;
}

// Windows that vary, every 25th of them an outlier.
ModelScores MakeModel(const std::string& name, size_t num_windows, double shift, double bytes) {
  ModelScores model;
  model.name = name;
  for (size_t w = 0; w < num_windows; ++w) {
    const double noise = std::sin(static_cast<double>(w) * 12.9898 + shift);
    model.nll.push_back(2 + 0.3 * std::cos(static_cast<double>(w)) + shift * (1 + 0.2 * noise) +
                        (w % 25 == 24 ? 4 : 0));
  }
  model.bytes = bytes;
  model.bits_per_weight = bytes / 1e6;
  return model;
}

ReportGroup ThreeModels(size_t num_windows) {
  return MakeGroup({MakeModel("source", num_windows, 0, 16e6),
                    MakeModel("plan", num_windows, 0.02, 4.5e6),
                    MakeModel("uniform-4-64", num_windows, 0.05, 4.6e6)});
}

size_t Count(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

// What every page keeps to: unique ids that links lead to, numbers that are numbers, nothing
// loaded.
void ExpectSound(const std::string& page) {
  std::set<std::string> ids;
  const std::regex id(" id=\"([^\"]*)\"");
  for (std::sregex_iterator match(page.begin(), page.end(), id), end; match != end; ++match) {
    EXPECT_TRUE(ids.insert((*match)[1]).second) << "twice: " << (*match)[1];
  }
  const std::regex link("href=\"#([^\"]*)\"");
  for (std::sregex_iterator match(page.begin(), page.end(), link), end; match != end; ++match) {
    EXPECT_TRUE(ids.contains((*match)[1])) << "leads nowhere: " << (*match)[1];
  }
  for (const char* bad : {"<script", "=\"nan", "=\"-nan", "=\"inf", "=\"-inf", "Lnan", "Linf",
                          "src=", "http:", "https:", "url("}) {
    EXPECT_EQ(page.find(bad), std::string::npos) << bad;
  }
  EXPECT_EQ(Count(page, "<svg"), Count(page, "</svg>"));
  EXPECT_EQ(Count(page, "<details"), Count(page, "</details>"));
}

TEST(Html, EscapesEverything) {
  EXPECT_EQ(EscapeHtml("a<b>&\"'c"), "a&lt;b&gt;&amp;&quot;&#39;c");
  EXPECT_EQ(EscapeHtml("one\n\ttwo"), "one\n two");
  EXPECT_EQ(EscapeHtml(std::string_view("\x01\xff\0x", 4)), "???x");
  EXPECT_EQ(EscapeHtml("Größe ≤ 4 λ"), "Größe ≤ 4 λ");
  EXPECT_EQ(EscapeHtml("\xE2\x80\xAEtxt"), "?txt") << "text that turns the rest around";
}

TEST(Html, TablesHaveCaptionsAndScopes) {
  const std::string table = HtmlTable("what <it> is", {{"a"}, {"b", true}}, {{"x", "1"}, {"y"}});
  EXPECT_NE(table.find("<caption><span>what &lt;it&gt; is</span></caption>"), std::string::npos);
  EXPECT_EQ(Count(table, "scope=\"col\""), 2u);
  EXPECT_EQ(Count(table, "scope=\"row\""), 2u);
  EXPECT_EQ(Count(table, "<td"), 2u);
}

TEST(Svg, AxesKeepToTheirEdges) {
  const SvgAxis axis = {1, 3, 100, 200};
  EXPECT_EQ(axis.At(2), 150);
  EXPECT_EQ(axis.At(std::numeric_limits<double>::infinity()), 200);
  EXPECT_EQ(axis.At(-1e300), 100);
  EXPECT_EQ(SvgNumber(-0.04), "0");
  EXPECT_EQ(SvgNumber(12.25), "12.3");
}

TEST(Svg, TicksAreRound) {
  EXPECT_EQ(NiceTicks(0, 10, 5), (std::vector<double>{0, 2, 4, 6, 8, 10}));
  EXPECT_EQ(RatioTicks(0, 0.05, 5).front().label, "0");
  for (const double high : {1e-6, 1e-3, 0.1, 0.7, 3.0, 50.0, 1e5, 1e6}) {
    const std::vector<RatioTick> ticks = RatioTicks(-high, high, 8);
    EXPECT_GE(ticks.size(), 3u) << high;
    EXPECT_LE(ticks.size(), 10u) << high;
    for (const RatioTick& tick : ticks) {
      EXPECT_TRUE(std::isfinite(tick.log_ratio)) << high;
      EXPECT_EQ(tick.label.find("inf"), std::string::npos) << tick.label;
    }
  }
}

TEST(Page, HasEverySectionAndIsSound) {
  ReportData data;
  data.title = "three models";
  data.groups.push_back(ThreeModels(100));
  data.rates.push_back(testing::Load(testing::MixedTable()));
  const PlanRequest request;
  const Problem problem = *BuildProblem(data.rates[0].table, request);
  const Curve curve = *BuildCurve(problem.knapsack);
  const auto budget =
      static_cast<uint64_t>(5.0 / 8 * static_cast<double>(data.rates[0].table.num_weights()));
  data.plans.push_back({"my plan", *MakePlan(data.rates[0], problem, curve, request, budget)});
  const std::string page = ReportPage(data);
  ExpectSound(page);
  for (const char* title : {"Verdict", "Size and quality", "Window by window", "Paired differences",
                            "Plan: my plan", "What bits buy"}) {
    EXPECT_NE(page.find(title), std::string::npos) << title;
  }
  EXPECT_EQ(Count(page, "<svg"), 5u);
  EXPECT_EQ(Count(page, "class=\"cell b") - 7, data.plans[0].plan.modules.size()) << "with legend";
  EXPECT_EQ(Count(page, "class=\"window\""), WindowsToRead(data.groups[0]).size());
  EXPECT_EQ(page, ReportPage(data)) << "the same data, the same bytes";
}

ReportNoise MakeNoise(const std::string& name) {
  ReportNoise noise = {name, "windows of 256", {}, {"Verdict: noise-equivalent."}};
  noise.rows.push_back({"compressed", 1, {.value = 0.004, .interval = {0.001, 0.007}}, {}, {}});
  noise.rows.push_back({"permuted",
                        1,
                        {.value = 0.003, .interval = {0.002, 0.004}},
                        {.value = 0.003, .interval = {}},
                        {0.002, 0.004},
                        -0.5});
  noise.rows.push_back({name + " ×4",
                        4,
                        {.value = 0.08, .interval = {}},
                        {.value = 0.09, .interval = {}},
                        {0.07, 0.09}});
  return noise;
}

TEST(Page, ShowsNoiseControl) {
  ReportData data;
  data.title = "noise";
  data.noises.push_back(MakeNoise("gaussian"));
  const std::string page = ReportPage(data);
  ExpectSound(page);
  for (const char* part : {"Noise control: gaussian", "Verdict: noise-equivalent.", "permuted",
                           "gaussian ×4", "-0.5", "windows of 256"}) {
    EXPECT_NE(page.find(part), std::string::npos) << part;
  }
  EXPECT_EQ(Count(page, "<svg"), 1u);
  data.noises[0] = MakeNoise(kHostile);
  ExpectSound(ReportPage(data));
}

TEST(Page, IsSafeFromNamesAndTexts) {
  ReportData data;
  data.title = kHostile;
  ModelScores first = MakeModel(kHostile, 30, 0, 16e6);
  ModelScores second = MakeModel(std::string(kHostile) + "2", 30, 0.1, 4e6);
  data.groups.push_back(MakeGroup({first, second}, kHostile));
  data.groups[0].windows.what = kHostile;
  for (std::string& label : data.groups[0].windows.labels) label += kHostile;
  RateTable table = testing::MixedTable();
  table.model = kHostile;
  for (ModuleRates& module : table.modules) module.name += kHostile;
  data.rates.push_back({table, ""});
  ReportPlan plan = {kHostile, {}};
  plan.plan.model = kHostile;
  plan.plan.num_weights = 100;
  plan.plan.bytes = 100;
  plan.plan.modules.push_back({std::string("layers.0.") + kHostile, Choice::Affine(4, 64)});
  plan.plan.modules.push_back({kHostile, Choice::Mxfp4()});
  plan.plan.modules.back().sqnr_db = std::numeric_limits<double>::infinity();
  data.plans.push_back(plan);
  const std::string page = ReportPage(data);
  ExpectSound(page);
  EXPECT_EQ(Count(page, "</title>\n<style>"), 1u);
  EXPECT_EQ(Count(page, "</style>"), 1u);
  EXPECT_EQ(page.find('\x01'), std::string::npos);
  EXPECT_EQ(page.find('\xff'), std::string::npos);
}

TEST(Page, TakesLittleAndOddInput) {
  ReportData data;
  data.title = "nothing";
  ExpectSound(ReportPage(data));
  EXPECT_NE(ReportPage(data).find("Nothing to report"), std::string::npos);

  data.groups.push_back(MakeGroup({MakeModel("one window", 1, 0, kUndefined)}));
  ExpectSound(ReportPage(data));

  ModelScores wild = MakeModel("wild", 2, 0, 1);
  wild.nll = {0, 1e6};
  data.groups = {MakeGroup({wild, MakeModel("tame", 2, 0, 1e15)})};
  ExpectSound(ReportPage(data));

  data.groups = {MakeGroup({MakeModel("a", 40, 0, 5e6), MakeModel("the same", 40, 0, 5e6)})};
  ExpectSound(ReportPage(data));

  data.groups.clear();
  data.plans.push_back({"empty plan", {}});
  data.rates.push_back({});
  ExpectSound(ReportPage(data));
}

TEST(Page, StaysSmallWithManyWindows) {
  ReportData data;
  data.groups.push_back(
      MakeGroup({MakeModel("a", 10'000, 0, 16e6), MakeModel("b", 10'000, 0.1, 4e6)},
                std::string(100'000, 'x')));
  const std::string page = ReportPage(data);
  ExpectSound(page);
  EXPECT_LT(page.size(), size_t{2} << 20);
  EXPECT_LE(Count(page, "<circle") + Count(page, "<path"), 2 * kMostDots + 50);
}

TEST(Page, TakesTheLargestModelAsBase) {
  const ReportGroup group = ThreeModels(50);
  EXPECT_EQ(group.base, 0u);
  const std::vector<AgainstBase> pairs = PairsWithBase(group);
  ASSERT_EQ(pairs.size(), 2u);
  EXPECT_GT(pairs[0].corpus.value, 0);
  // With another base the same pair is turned around.
  ReportGroup turned = group;
  turned.base = 1;
  const std::vector<AgainstBase> other = PairsWithBase(turned);
  EXPECT_EQ(other[0].model, 0u);
  EXPECT_EQ(other[0].corpus.value, -pairs[0].corpus.value);
  EXPECT_EQ(other[0].corpus.interval.low, -pairs[0].corpus.interval.high);
  EXPECT_EQ(other[1].model, 2u);
  EXPECT_EQ(ChooseBase({MakeModel("a", 1, 0, kUndefined), MakeModel("b", 1, 0, kUndefined)}), 0u);
}

TEST(Page, OffersOutliersAndDecidingWindows) {
  const std::vector<size_t> windows = WindowsToRead(ThreeModels(100));
  for (const size_t outlier : {24u, 49u, 74u, 99u}) {
    EXPECT_NE(std::find(windows.begin(), windows.begin() + 4, outlier), windows.begin() + 4)
        << outlier;
  }
  EXPECT_LE(windows.size(), 24u);
}

}  // namespace
}  // namespace ram
