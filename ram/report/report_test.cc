// The reports about plans: widths, what they say, and that they say it the same way twice.

#include <gtest/gtest.h>

#include <sstream>
#include <vector>

#include "ram/base/bytes.h"
#include "ram/plan/testing.h"
#include "ram/report/compress_table.h"
#include "ram/report/curve_svg.h"
#include "ram/report/curve_text.h"
#include "ram/report/model_card.h"
#include "ram/report/plan_facts.h"
#include "ram/report/plot_scale.h"

namespace ram {
namespace {

// A problem and its plans at some budgets, kept alive together.
struct Planned {
  LoadedRates rates;
  Problem problem;
  Curve curve;
  std::vector<Plan> plans;

  std::vector<const Plan*> pointers() const {
    std::vector<const Plan*> all;
    for (const Plan& plan : plans) all.push_back(&plan);
    return all;
  }
};

Planned MakePlans(RateTable table, const std::vector<double>& bits_per_weight,
                  const PlanRequest& request = {}) {
  Planned planned;
  planned.rates = testing::Load(std::move(table));
  planned.problem = *BuildProblem(planned.rates.table, request);
  planned.curve = *BuildCurve(planned.problem.knapsack);
  const double num_weights = static_cast<double>(planned.rates.table.num_weights());
  for (const double bits : bits_per_weight) {
    planned.plans.push_back(*MakePlan(planned.rates, planned.problem, planned.curve, request,
                                      static_cast<uint64_t>(bits / 8 * num_weights)));
  }
  return planned;
}

// Every table that the tests have, with budgets from tight to everything.
std::vector<Planned> AllPlans() {
  std::vector<Planned> all;
  all.push_back(MakePlans(testing::DenseTable(), {3.6, 4.5, 6.5, 17}));
  all.push_back(MakePlans(testing::DenseTable(1), {5, 9}));
  all.push_back(MakePlans(testing::MixedTable(), {4.6, 6, 17}));
  return all;
}

void ExpectFits(const std::string& text, int width) {
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    EXPECT_LE(DisplayWidth(line), width) << line;
    EXPECT_TRUE(line.empty() || line.back() != ' ') << "trailing blank: " << line;
  }
}

ModelFacts SomeFacts() {
  return {"test",
          true,
          {{"vision tower", 312, 900'000'000}, {"multi-token prediction layer", 1, 5}},
          {"rope_theta is not stated: 10000 is assumed"}};
}

TEST(Reports, FitEveryTerminal) {
  for (const Planned& planned : AllPlans()) {
    const RateTable& table = planned.rates.table;
    CurvePlotData plot = MakeCurvePlot(table, planned.problem, planned.curve, Objective::kWeights,
                                       planned.pointers());
    for (const bool unicode : {true, false}) {
      for (int width = 40; width <= 200; width += width < 100 ? 1 : 10) {
        const Style style{width, false, unicode};
        for (const Plan& plan : planned.plans) {
          ExpectFits(CompressSummary(plan, table, style), width);
        }
        ExpectFits(BudgetTable(planned.pointers(), table, style), width);
        ExpectFits(ModelSummary(table, SomeFacts(), style), width);
        ExpectFits(CurveText(plot, style), width);
        ExpectFits(CurveTable(plot, style), width);
      }
    }
  }
}

TEST(Reports, AreAsciiOnRequest) {
  for (const Planned& planned : AllPlans()) {
    const RateTable& table = planned.rates.table;
    const Style style{100, false, false};
    const CurvePlotData plot = MakeCurvePlot(table, planned.problem, planned.curve,
                                             Objective::kWeights, planned.pointers());
    const std::string all = CompressSummary(planned.plans[0], table, style) +
                            BudgetTable(planned.pointers(), table, style) +
                            ModelSummary(table, SomeFacts(), style) + CurveText(plot, style) +
                            CurveTable(plot, style);
    for (const char c : all) {
      EXPECT_TRUE(c == '\n' || (c >= ' ' && c <= '~')) << static_cast<int>(c);
    }
  }
}

// A plan made by hand, so that every figure below can be checked with a pencil.
struct HandMade {
  RateTable table;
  Plan plan;
};

HandMade MakeByHand() {
  HandMade made;
  made.table = testing::MakeTable({
      {"model.embed_tokens", "embedding", "embedding", -1, {1024, 256}, 20},
      {"model.layers.0.mlp.gate", "router", "router", 0, {8, 256}, 1, 3, false, "8,64"},
      {"model.layers.0.mlp.down_proj", "linear", "down", 0, {256, 512}, 10},
      {"model.layers.1.mlp.down_proj", "linear", "down", 1, {256, 512}, 10},
  });
  const Choice choices[] = {Choice::Affine(4, 64), Choice::Dense(), Choice::Affine(3, 128),
                            Choice::Affine(3, 128)};
  const double alphas[] = {16, 1, 2, 2};
  Plan& plan = made.plan;
  plan.model = "test/model";
  plan.budget_bytes = 262'144;
  plan.fixed_bytes = 1600;
  plan.bytes = plan.fixed_bytes;
  plan.num_weights = made.table.num_weights();
  plan.dense_bytes = made.table.dense_bytes();
  for (size_t i = 0; i < 4; ++i) {
    const ModuleRates& module = made.table.modules[i];
    const ChoiceRate& rate = *module.Find(choices[i]);
    PlannedModule planned;
    planned.name = module.name;
    planned.choice = choices[i];
    planned.bytes = rate.bytes;
    planned.alpha = alphas[i];
    planned.cost =
        ChoiceCost(Objective::kWeights, alphas[i], rate.sum_squares_error, module.sum_squares);
    planned.relative_mse = rate.sum_squares_error / module.sum_squares;
    planned.sqnr_db = SqnrDb(module.sum_squares, rate.sum_squares_error);
    plan.bytes += planned.bytes;
    plan.cost += planned.cost;
    plan.modules.push_back(planned);
    plan.items.push_back({{i}, {choices[i]}, i == 1 ? "router" : ""});
  }
  plan.lower_bound = plan.cost - plan.cost / 1000;
  plan.lambda = {1'000'000'000, 1};
  plan.proven_by_search = true;
  plan.core_items = 3;
  plan.uniform = {Choice::Affine(4, 64), 300'000, 2 * plan.cost, plan.cost};
  plan.next_gib_saving = 1;
  plan.notes = {"a note"};
  return made;
}

TEST(CompressSummary, IsAsThePencilSays) {
  const HandMade made = MakeByHand();
  // Costs: 16 x 8.28e-3 + 2 x 2 x 42.9e-3 = 0.30408. Harm per weight: 8.28e-3 x alpha / weights
  // against the average (16 + 3 + 2 + 2) x 8.28e-3 / 526,336.
  EXPECT_EQ(CompressSummary(made.plan, made.table, {80, false, true}), R"(test/model in 254.5 KiB
  budget       262,144 bytes
  size         260,648 bytes, 1.5 KiB under the budget
  bits/weight  3.960, scales, headers and 16-bit tensors counted
  cost         0.3041, predicted; 0 is the source
  uniform      (4,64): 293.0 KiB, cost 0.6082; a plan of that size costs 50.0 %
               less
  next GiB     775.4 KiB more hold all of it in 16 bits
  proof        optimal: no plan within the budget costs less, 3 modules searched
               to the end; by the certificate alone within 0.1 % (λ 1.05 per
               MiB)

Choices
  choice         modules  weights                                 size   bits
  ───────────────────────────────────────────────────────────────────────────
  16 bits              1    0.4 %  ▏                           4.1 KiB  16.39
  (4,64)               1   49.8 %  ████████████              144.3 KiB   4.51
  (3,128)              2   49.8 %  ████████████              104.6 KiB   3.27
  small tensors        1  0.049 %  ▏                             600 B  18.75

Modules, most bits first
  model.layers.0.mlp.gate           16 bits   0.4 %  router
  model.embed_tokens                (4,64)   49.8 %  1.4× harm
  model.layers.*.mlp.down_proj  ×2  (3,128)  49.8 %  0.35× harm
  harm: what (4,64) would cost per weight, against the average of the model

  note: a note
)");
}

TEST(CompressSummary, SaysWhatWasAskedAndGot) {
  const Planned planned = MakePlans(testing::DenseTable(), {4.5});
  const Plan& plan = planned.plans[0];
  const std::string text = CompressSummary(plan, planned.rates.table, {100, false, true});
  EXPECT_NE(text.find("budget       " + FormatBytes(plan.budget_bytes)), std::string::npos);
  EXPECT_NE(text.find("size         " + FormatBytes(plan.bytes)), std::string::npos);
  EXPECT_NE(text.find("cost         " + CostNumber(plan.cost)), std::string::npos);
  EXPECT_NE(text.find("a plan of that size costs"), std::string::npos);
  EXPECT_NE(text.find("optimal"), std::string::npos);
  EXPECT_NE(text.find("harm"), std::string::npos);
  EXPECT_EQ(text, CompressSummary(plan, planned.rates.table, {100, false, true}));
}

TEST(CompressSummary, NamesRules) {
  PlanRequest request;
  request.rules.push_back(*ParsePin("lm_head=8,64"));
  const Planned planned = MakePlans(testing::DenseTable(), {4.5}, request);
  const std::string text =
      CompressSummary(planned.plans[0], planned.rates.table, {120, false, true});
  EXPECT_NE(text.find("lm_head=8,64"), std::string::npos) << text;
}

TEST(CompressSummary, OfTheWholeModelSaysThatNothingIsLost) {
  const Planned planned = MakePlans(testing::DenseTable(1), {20});
  const std::string text =
      CompressSummary(planned.plans[0], planned.rates.table, {80, false, true});
  EXPECT_NE(text.find("0: nothing is lost"), std::string::npos) << text;
  EXPECT_EQ(text.find("nan"), std::string::npos);
  EXPECT_EQ(text.find("inf"), std::string::npos);
}

TEST(BudgetTable, HasARowPerPlan) {
  const Planned planned = MakePlans(testing::DenseTable(), {3.6, 4.5, 6.5});
  const std::string text = BudgetTable(planned.pointers(), planned.rates.table, {120, false, true});
  for (const Plan& plan : planned.plans) {
    EXPECT_NE(text.find(CostNumber(plan.cost)), std::string::npos);
  }
  EXPECT_EQ(BudgetTable({}, planned.rates.table, {}), "");
}

TEST(ModelSummary, NeedsNoErrors) {
  RateTable table = testing::DenseTable();
  for (ModuleRates& module : table.modules) {
    for (ChoiceRate& rate : module.choices) rate.sum_squares_error = 0.0 / 0.0;
  }
  const std::string text = ModelSummary(table, SomeFacts(), {80, false, true});
  EXPECT_EQ(text.find("nan"), std::string::npos);
  EXPECT_NE(text.find("embedding serves as head"), std::string::npos);
  EXPECT_NE(text.find("vision tower                      312"), std::string::npos) << text;
  EXPECT_NE(text.find("2,752,768"), std::string::npos) << text;
}

TEST(GroupModules, CountsEveryWeightOnce) {
  for (const Planned& planned : AllPlans()) {
    for (const Plan& plan : planned.plans) {
      size_t modules = 0;
      uint64_t bytes = 0;
      for (const ModuleGroup& group : GroupModules(plan, planned.rates.table)) {
        modules += group.num_modules;
        bytes += group.bytes;
        EXPECT_EQ(group.num_modules > 1, group.name.find(".*.") != std::string::npos) << group.name;
      }
      EXPECT_EQ(modules, plan.modules.size());
      EXPECT_EQ(bytes + plan.fixed_bytes, plan.bytes);
    }
  }
}

TEST(ShortModelName, IsWhatPeopleCallIt) {
  EXPECT_EQ(ShortModelName("Qwen/Qwen3-8B"), "Qwen/Qwen3-8B");
  EXPECT_EQ(ShortModelName("qwen"), "qwen");
  EXPECT_EQ(ShortModelName("/models/qwen/"), "qwen");
  EXPECT_EQ(ShortModelName("./qwen"), "qwen");
  EXPECT_EQ(ShortModelName("/models/qwen/hf"), "qwen");
  EXPECT_EQ(ShortModelName("/c/hub/models--Qwen--Qwen3-8B/snapshots/0123abc"), "Qwen/Qwen3-8B");
  EXPECT_EQ(ShortModelName("/"), "");
  EXPECT_EQ(ShortModelName(""), "");
}

TEST(UniformReference, IsThePlans) {
  for (const Planned& planned : AllPlans()) {
    const RateTable& table = planned.rates.table;
    const Choice choice = Choice::Affine(4, 64);
    EXPECT_EQ(UniformReferenceBytes(table, choice), planned.plans[0].uniform.bytes);
    EXPECT_EQ(UniformReferenceCost(table, choice, planned.problem.alphas, Objective::kWeights) ==
                  planned.plans[0].uniform.cost,
              true);
  }
}

// ---- The curve ----

// Enough of a parser to find what browsers refuse: unbalanced tags, unquoted attributes, stray "<"
// and "&".
std::string XmlMistake(const std::string& text) {
  std::vector<std::string> open;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '&') {
      bool is_known = false;
      for (const char* entity : {"&amp;", "&lt;", "&gt;", "&quot;"}) {
        is_known = is_known || text.compare(i, std::string_view(entity).size(), entity) == 0;
      }
      if (!is_known) return "stray &";
    }
    if (text[i] != '<') continue;
    const size_t end = text.find('>', i);
    if (end == std::string::npos) return "tag without end";
    std::string tag = text.substr(i + 1, end - i - 1);
    i = end;
    if (tag.find('<') != std::string::npos) return "tag in a tag";
    if (tag[0] == '/') {
      if (open.empty() || open.back() != tag.substr(1)) return "</" + tag.substr(1) + "> alone";
      open.pop_back();
      continue;
    }
    const bool is_empty = tag.back() == '/';
    if (is_empty) tag.pop_back();
    const size_t name_end = std::min(tag.find(' '), tag.size());
    for (size_t at = name_end; at < tag.size();) {  // Attributes: name="value"
      at = tag.find_first_not_of(' ', at);
      if (at == std::string::npos) break;
      const size_t equals = tag.find("=\"", at);
      if (equals == std::string::npos) return "attribute in <" + tag + ">";
      const size_t quote = tag.find('"', equals + 2);
      if (quote == std::string::npos) return "open quote in <" + tag + ">";
      at = quote + 1;
    }
    if (!is_empty) open.push_back(tag.substr(0, name_end));
  }
  return open.empty() ? "" : "<" + open.back() + "> left open";
}

TEST(CurveSvg, IsWellFormedAndTheSameTwice) {
  for (const Planned& planned : AllPlans()) {
    CurvePlotData data = MakeCurvePlot(planned.rates.table, planned.problem, planned.curve,
                                       Objective::kWeights, planned.pointers());
    data.title = "a<b>&\"c\"\x1b";
    data.subtitle = "x & y";
    const std::string svg = CurveSvg(data);
    EXPECT_EQ(XmlMistake(svg), "");
    EXPECT_EQ(svg, CurveSvg(data));
    EXPECT_TRUE(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
    EXPECT_NE(svg.find("a&lt;b&gt;&amp;&quot;c&quot;?"), std::string::npos);
    EXPECT_EQ(svg.find("nan"), std::string::npos);
    EXPECT_EQ(svg.find("inf"), std::string::npos);
    EXPECT_NE(svg.find("prefers-color-scheme: dark"), std::string::npos);
    EXPECT_NE(svg.find("uniform 4-bit"), std::string::npos);
    EXPECT_NE(svg.find("16 bits, "), std::string::npos);
  }
}

TEST(CurveSvg, SaysWhenThereIsNothingToPlot) {
  CurvePlotData data;
  data.title = "empty";
  EXPECT_EQ(XmlMistake(CurveSvg(data)), "");
  EXPECT_NE(CurveSvg(data).find("nothing to plot"), std::string::npos);
  data.curve = {{100, 0, ""}};
  EXPECT_NE(CurveSvg(data).find("nothing to plot"), std::string::npos);
  data.curve = {{100, 1, ""}, {200, 0, ""}};
  EXPECT_NE(CurveSvg(data).find("nothing to plot"), std::string::npos);
  EXPECT_EQ(CurveText(data, {}), "");
  data.curve = {{100, 1, ""}, {101, 0.5, ""}};
  EXPECT_EQ(XmlMistake(CurveSvg(data)), "");
  EXPECT_EQ(CurveSvg(data).find("nothing to plot"), std::string::npos);
}

TEST(CurveSvg, StaysSmallForManyModules) {
  const Planned planned = MakePlans(testing::DenseTable(200), {4.5});
  const CurvePlotData data = MakeCurvePlot(planned.rates.table, planned.problem, planned.curve,
                                           Objective::kWeights, planned.pointers());
  EXPECT_GT(data.curve.size(), 5000u);
  EXPECT_LT(CurveSvg(data).size(), 60'000u);
}

TEST(CurveCostAt, IsLinearBetweenPoints) {
  CurvePlotData data;
  data.curve = {{100, 8, ""}, {200, 4, ""}, {400, 0, ""}};
  EXPECT_DOUBLE_EQ(CurveCostAt(data, 50), 8);
  EXPECT_DOUBLE_EQ(CurveCostAt(data, 150), 6);
  EXPECT_DOUBLE_EQ(CurveCostAt(data, 200), 4);
  EXPECT_DOUBLE_EQ(CurveCostAt(data, 300), 2);
  EXPECT_DOUBLE_EQ(CurveCostAt(data, 900), 0);
}

TEST(SizeTicks, AreFewAndInsideTheRange) {
  for (uint64_t first = 1; first < uint64_t{1} << 42; first = first * 3 + 1) {
    for (const double factor : {1.01, 1.5, 3.0, 20.0}) {
      const auto last = static_cast<uint64_t>(static_cast<double>(first) * factor) + 1;
      const SizeAxis axis = SizeTicks(first, last, 10);
      EXPECT_LE(axis.ticks.size(), 11u) << first << " " << last;
      for (const SizeTick& tick : axis.ticks) {
        EXPECT_GE(tick.bytes, static_cast<double>(first) * (1 - 1e-9));
        EXPECT_LE(tick.bytes, static_cast<double>(last) * (1 + 1e-9));
      }
    }
  }
  const SizeAxis gib = SizeTicks(11 * kGiB, 57 * kGiB, 10);
  EXPECT_EQ(gib.unit, "GiB");
  ASSERT_EQ(gib.ticks.size(), 6u);
  EXPECT_EQ(gib.ticks[0].label, "16");
}

TEST(CostTicks, CoverTheRange) {
  EXPECT_EQ(CostTicks(0.0001, 20).size(), 6u);
  EXPECT_EQ(CostTicks(0.3, 4), (std::vector<double>{0.5, 1, 2}));
  EXPECT_EQ(CostTickText(0.01), "0.01");
  EXPECT_EQ(CostTickText(1e-5), "1e-5");
  EXPECT_EQ(CostTickText(1e-12), "1e-12");
  EXPECT_EQ(CostTickText(1e7), "1e+7");
}

TEST(CurveText, MarksPlans) {
  const Planned planned = MakePlans(testing::DenseTable(), {4.5});
  const CurvePlotData data = MakeCurvePlot(planned.rates.table, planned.problem, planned.curve,
                                           Objective::kWeights, planned.pointers());
  const std::string text = CurveText(data, {80, false, true});
  EXPECT_NE(text.find("●"), std::string::npos);
  EXPECT_NE(text.find("● plan"), std::string::npos);
  EXPECT_EQ(CurveText(data, {39, false, true}), "");
  const std::string table = CurveTable(data, {80, false, true});
  EXPECT_NE(table.find("smallest plan"), std::string::npos);
  EXPECT_NE(table.find("uniform 4-bit"), std::string::npos);
}

// ---- The card ----

TEST(LooksLikeHubName, KnowsNamesFromPaths) {
  for (const char* name : {"Qwen/Qwen3-8B", "mlx-community/a.b_c-1", "a/b"}) {
    EXPECT_TRUE(LooksLikeHubName(name)) << name;
  }
  for (const char* name : {"", "qwen", "/models/qwen", "./qwen", "../a/b", "models/", "a/b/c",
                           "~/models", "a b/c", "a/..", "-a/b", "a/b--c", "a/b\nlicense: x"}) {
    EXPECT_FALSE(LooksLikeHubName(name)) << name;
  }
}

TEST(ModelCard, HasFrontMatterForTheHub) {
  const Planned planned = MakePlans(testing::DenseTable(), {4.5});
  const std::string card = ModelCard(planned.plans[0], planned.rates.table,
                                     {"Qwen3-8B-4GiB", "Qwen/Qwen3-8B", "apache-2.0"});
  EXPECT_TRUE(
      card.starts_with("---\n"
                       "library_name: mlx\n"
                       "pipeline_tag: text-generation\n"
                       "license: apache-2.0\n"
                       "base_model: Qwen/Qwen3-8B\n"
                       "base_model_relation: quantized\n"
                       "tags:\n- mlx\n- quantized\n- mixed-precision\n- ram\n"
                       "---\n\n# Qwen3-8B-4GiB\n"))
      << card;
  EXPECT_EQ(card, ModelCard(planned.plans[0], planned.rates.table,
                            {"Qwen3-8B-4GiB", "Qwen/Qwen3-8B", "apache-2.0"}));
}

TEST(ModelCard, ClaimsOnlyWhatIsKnown) {
  const Planned planned = MakePlans(testing::MixedTable(), {6});
  const std::string card =
      ModelCard(planned.plans[0], planned.rates.table, {"out", "/home/me/models/x_y", ""});
  EXPECT_EQ(card.find("base_model"), std::string::npos);
  EXPECT_EQ(card.find("license"), std::string::npos);
  EXPECT_EQ(card.find("/home/me"), std::string::npos);
  EXPECT_NE(card.find("x\\_y for [MLX]"), std::string::npos);
  EXPECT_NE(card.find("predictions from the weights, not measurements"), std::string::npos);
  EXPECT_NE(card.find("check_certificate.py plan.json rates.json"), std::string::npos);
  EXPECT_NE(card.find("divisible by no group size"), std::string::npos) << card;
  EXPECT_EQ(card.find("nan"), std::string::npos);
  EXPECT_EQ(card.find("inf "), std::string::npos);
}

TEST(ModelCard, ListsEveryModuleOnce) {
  for (const Planned& planned : AllPlans()) {
    for (const Plan& plan : planned.plans) {
      const std::string card = ModelCard(plan, planned.rates.table, {"out", "a/b", ""});
      std::istringstream stream(card);
      size_t modules = 0;
      for (std::string line; std::getline(stream, line);) {
        if (!line.starts_with("| `")) continue;
        std::vector<std::string> cells;
        std::istringstream cells_stream(line);
        for (std::string cell; std::getline(cells_stream, cell, '|');) cells.push_back(cell);
        ASSERT_EQ(cells.size(), 7u) << line;
        modules += std::stoul(cells[3]);
      }
      EXPECT_EQ(modules, plan.modules.size());
    }
  }
}

TEST(ModelCard, CannotBeBrokenByNames) {
  RateTable table = testing::DenseTable(1);
  table.modules[1].name = "a`b|c\x1b[31m";
  const Planned planned = MakePlans(table, {6});
  const std::string card =
      ModelCard(planned.plans[0], planned.rates.table, {"x\ny: \"z\"", "a/b", "x: y"});
  EXPECT_EQ(card.find('\x1b'), std::string::npos);
  EXPECT_NE(card.find("license: \"x: y\"\n"), std::string::npos);
  EXPECT_NE(card.find("# x?y: \"z\"\n"), std::string::npos) << card;
}

}  // namespace
}  // namespace ram
