#include "ram/plan/plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <set>
#include <string>

#include "ram/base/bytes.h"
#include "ram/base/file.h"
#include "ram/plan/testing.h"

namespace ram {
namespace {

using testing::DenseTable;
using testing::Load;
using testing::MakeTable;
using testing::MixedTable;

struct Planned {
  LoadedRates rates;
  Problem problem;
  Curve curve;
  PlanRequest request;

  Result<Plan> At(uint64_t budget) const {
    return MakePlan(rates, problem, curve, request, budget);
  }
};

Planned Prepare(RateTable table, PlanRequest request = {}) {
  Planned planned{Load(std::move(table)), {}, {}, std::move(request)};
  auto problem = BuildProblem(planned.rates.table, planned.request);
  EXPECT_TRUE(problem.ok()) << problem.error().message;
  planned.problem = *std::move(problem);
  auto curve = BuildCurve(planned.problem.knapsack);
  EXPECT_TRUE(curve.ok());
  planned.curve = *std::move(curve);
  return planned;
}

Plan MustPlan(const Planned& planned, uint64_t budget) {
  auto plan = planned.At(budget);
  EXPECT_TRUE(plan.ok()) << plan.error().message;
  return *std::move(plan);
}

// About `bits` per weight.
uint64_t BudgetOf(const RateTable& table, double bits) {
  return static_cast<uint64_t>(static_cast<double>(table.num_weights()) * bits / 8);
}

std::string ProblemError(const RateTable& table, const PlanRequest& request) {
  const auto problem = BuildProblem(table, request);
  return problem.ok() ? "" : problem.error().message;
}

Rule Pin(std::string_view text) {
  auto rule = ParsePin(text);
  EXPECT_TRUE(rule.ok()) << rule.error().message;
  return *std::move(rule);
}

Rule Ban(std::string_view text) {
  auto rule = ParseBan(text);
  EXPECT_TRUE(rule.ok()) << rule.error().message;
  return *std::move(rule);
}

const PlannedModule& ModuleOf(const Plan& plan, std::string_view name) {
  const auto found = std::ranges::find(plan.modules, name, &PlannedModule::name);
  EXPECT_NE(found, plan.modules.end()) << name;
  return *found;
}

// Names of the choices that the item of this module may have.
std::string AllowedFor(const RateTable& table, const Problem& problem, std::string_view name) {
  for (const ProblemItem& item : problem.items) {
    for (const size_t module : item.modules) {
      if (table.modules[module].name != name) continue;
      std::string names;
      for (const Choice& choice : item.options) {
        names += (names.empty() ? "" : " ") + ChoiceName(choice);
      }
      return names;
    }
  }
  return "?";
}

TEST(Plan, NeverExceedsTheBudgetAndNeverGetsWorseWithMore) {
  for (const bool is_mixed : {false, true}) {
    const Planned planned = Prepare(is_mixed ? MixedTable() : DenseTable());
    const uint64_t least = MinSafeBytes(planned.problem, planned.curve);
    const uint64_t most = planned.rates.table.dense_bytes();
    WideInt previous = 0;
    for (uint64_t i = 0; i <= 40; ++i) {
      const uint64_t budget = least + (most - least) * i / 40;
      const Plan plan = MustPlan(planned, budget);
      EXPECT_LE(plan.bytes, budget);
      uint64_t bytes = planned.rates.table.fixed_bytes();
      for (const PlannedModule& module : plan.modules) {
        bytes += planned.rates.table.Find(module.name)->Find(module.choice)->bytes;
      }
      EXPECT_EQ(bytes, plan.bytes);
      EXPECT_LE(plan.lower_bound, plan.cost);
      if (i != 0) {
        EXPECT_LE(plan.cost, previous);
      }
      previous = plan.cost;
      const Status checked = CheckPlan(plan, planned.rates);
      EXPECT_TRUE(checked.ok()) << checked.error().message;
    }
    EXPECT_EQ(previous, 0);
  }
}

TEST(Plan, SmallestAndLargestBudgets) {
  const Planned planned = Prepare(DenseTable());
  const uint64_t least = MinSafeBytes(planned.problem, planned.curve);
  EXPECT_EQ(MustPlan(planned, least).bytes, least);
  const auto below = planned.At(least - 1);
  ASSERT_FALSE(below.ok());
  EXPECT_EQ(below.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(below.error().message, "a budget of " + FormatBytes(least - 1) +
                                       " is 1 bytes below the smallest plan, which takes " +
                                       FormatBytes(least) + " above the floor of 9 dB");
  const Plan most = MustPlan(planned, INT64_MAX);
  EXPECT_EQ(most.bytes, planned.rates.table.dense_bytes());
  EXPECT_EQ(most.cost, 0);
  EXPECT_TRUE(CheckPlan(most, planned.rates).ok());
  // A request that changes nothing says so.
  ASSERT_FALSE(most.notes.empty());
  EXPECT_TRUE(most.notes.back().starts_with("this plan changes nothing"));
  for (const PlannedModule& module : most.modules) EXPECT_EQ(ChoiceName(module.choice), "16");
}

// ---- What others miscount ----

TEST(Plan, CountsScalesHeadersAndWhatStaysIn16Bits) {
  // One module of 1024 x 256 and one that no group divides, at (4,64): 4.5 bits per weight and two
  // header entries, not 4; and 16 bits for the other, not 4.
  const RateTable table = MakeTable({{"model.layers.0.a", "linear", "other", 0, {1024, 256}},
                                     {"model.layers.0.b", "linear", "other", 0, {64, 172}}});
  PlanRequest request;
  request.menu = {Choice::Affine(4, 64)};
  const Planned planned = Prepare(table, request);
  const uint64_t expected =
      1600 + (1024 * 256 / 2 + 1024 * 256 / 64 * 4 + 300) + (64 * 172 * 2 + 100);
  EXPECT_EQ(MinSafeBytes(planned.problem, planned.curve), expected);
  const Plan plan = MustPlan(planned, expected);
  EXPECT_EQ(plan.bytes, expected);
  EXPECT_NEAR(plan.bits_per_weight(),
              8 * static_cast<double>(expected) / (1024 * 256 + 64 * 172 + 256), 1e-12);
}

TEST(Plan, EmbeddingsAreItemsInsideTheBudget) {
  const Planned planned = Prepare(MixedTable());
  EXPECT_EQ(planned.problem.knapsack[0].options.size(), planned.problem.items[0].options.size());
  EXPECT_GT(planned.problem.items[0].options.size(), 2u);
  const Plan plan = MustPlan(planned, MinSafeBytes(planned.problem, planned.curve) + 1000);
  EXPECT_EQ(ModuleOf(plan, "model.embed_tokens").choice.mode, Mode::kAffine);
}

TEST(Plan, PassedThroughMxfp4TakesFourAndAQuarterBits) {
  const RateTable table = MixedTable();
  const ModuleRates& experts = *table.Find("model.layers.1.mlp.switch_mlp.up_proj");
  EXPECT_EQ(experts.Find(Choice::Mxfp4())->bytes - 200, experts.num_weights() * 17 / 4 / 8);
  const Planned planned = Prepare(table);
  const Plan plan = MustPlan(planned, BudgetOf(table, 6));
  const PlannedModule& module = ModuleOf(plan, experts.name);
  EXPECT_EQ(ChoiceName(module.choice), "mxfp4");
  EXPECT_EQ(module.cost, 0);
  EXPECT_EQ(module.bytes, experts.Find(Choice::Mxfp4())->bytes);
}

// ---- Certificate ----

TEST(Certificate, HoldsForOursAndForNothingElse) {
  PlanRequest request;
  request.ties = {{"q_proj", "k_proj"}};
  request.rules = {Pin("lm_head=8,64")};
  const Planned planned = Prepare(DenseTable(), request);
  const Plan plan = MustPlan(planned, BudgetOf(planned.rates.table, 5));
  ASSERT_TRUE(CheckPlan(plan, planned.rates).ok());
  const auto why = [&](const std::function<void(Plan&)>& change) {
    Plan changed = plan;
    change(changed);
    const Status status = CheckPlan(changed, planned.rates);
    if (status) return std::string();
    EXPECT_EQ(status.error().code, ErrorCode::kCorrupt);
    EXPECT_TRUE(status.error().message.starts_with("the certificate does not hold: "));
    return status.error().message.substr(31);
  };
  EXPECT_EQ(why([](Plan&) {}), "");
  EXPECT_EQ(why([](Plan& p) { p.modules[0].choice = Choice::Affine(2, 128); }),
            "model.embed_tokens has 2,128, which is not allowed for it");
  EXPECT_NE(why([](Plan& p) { p.modules[0].choice = Choice::Dense(); }), "");
  EXPECT_EQ(why([](Plan& p) { p.modules.back().choice = Choice::Affine(8, 32); }),
            "lm_head has 8,32, which is not allowed for it");
  EXPECT_NE(why([](Plan& p) {
              p.modules[2].choice =
                  p.modules[1].choice == Choice::Dense() ? Choice::Affine(4, 64) : Choice::Dense();
            }).find("are tied, but have"),
            std::string::npos);
  EXPECT_NE(why([](Plan& p) { --p.modules[0].bytes; }).find("bytes, not"), std::string::npos);
  EXPECT_NE(why([](Plan& p) { ++p.modules[0].cost; }).find("model.embed_tokens costs"),
            std::string::npos);
  EXPECT_NE(why([](Plan& p) { p.modules[0].alpha *= 1.01; }).find("has alpha"), std::string::npos);
  EXPECT_NE(why([](Plan& p) { --p.bytes; }).find("the plan takes"), std::string::npos);
  EXPECT_NE(why([](Plan& p) { p.budget_bytes = p.bytes - 1; }).find("the budget is"),
            std::string::npos);
  EXPECT_NE(why([](Plan& p) { p.budget_bytes += 10000; }).find("its lambda proves"),
            std::string::npos);
  EXPECT_NE(why([](Plan& p) { ++p.fixed_bytes; }), "");
  EXPECT_NE(why([](Plan& p) { ++p.min_safe_bytes; }).find("the smallest plan"), std::string::npos);
  EXPECT_NE(why([](Plan& p) { ++p.cost; }).find("the plan costs"), std::string::npos);
  EXPECT_NE(why([](Plan& p) { ++p.lower_bound; }).find("its lambda proves"), std::string::npos);
  EXPECT_NE(why([](Plan& p) { p.lambda.num = 2 * p.lambda.num + 1; }).find("its lambda proves"),
            std::string::npos);
  EXPECT_NE(why([](Plan& p) { p.lambda.num = -1; }).find("is no price"), std::string::npos);
  EXPECT_NE(why([](Plan& p) { p.lambda.den = 0; }).find("is no price"), std::string::npos);
  EXPECT_NE(why([](Plan& p) { p.lambda = {INT64_MAX, 1}; }), "");
  EXPECT_NE(why([](Plan& p) { p.items[0].options.pop_back(); }).find("what is allowed"),
            std::string::npos);
  EXPECT_NE(why([](Plan& p) { p.request.floor_db = 20; }).find("what is allowed"),
            std::string::npos);
  EXPECT_NE(why([](Plan& p) { p.request.ties.clear(); }).find("items"), std::string::npos);
  EXPECT_NE(why([](Plan& p) { p.request.priors.head = 1; }).find("has alpha"), std::string::npos);
  EXPECT_NE(why([](Plan& p) { p.rates_sha256[0] ^= 1; }).find("another rate table"),
            std::string::npos);
  EXPECT_NE(why([](Plan& p) { p.modules.pop_back(); }), "");
}

TEST(Certificate, NoticesATamperedTable) {
  const Planned planned = Prepare(DenseTable());
  Plan plan = MustPlan(planned, BudgetOf(planned.rates.table, 5));
  RateTable table = planned.rates.table;
  const Choice& choice = plan.modules[3].choice;
  for (ChoiceRate& rate : table.modules[3].choices) {
    if (rate.choice == choice) rate.sum_squares_error *= 0.99;
  }
  const LoadedRates tampered = Load(std::move(table));
  EXPECT_FALSE(CheckPlan(plan, tampered).ok());
  plan.rates_sha256 = tampered.sha256;  // Even if somebody signs it again.
  EXPECT_FALSE(CheckPlan(plan, tampered).ok());
}

// ---- plan.json ----

Plan RichPlan() {
  PlanRequest request;
  request.rules = {Pin("embed_tokens>=4"), Ban("3,32"), Pin("up_proj<=8"), Pin("zero_proj=16"),
                   Ban("down_proj=2")};
  request.ties = {{"up_proj", "down_proj"}};
  request.priors.shuffle_seed = 7;
  const Planned planned = Prepare(MixedTable(), request);
  Plan plan = MustPlan(planned, BudgetOf(planned.rates.table, 6));
  plan.rates_file = "model.rates.json";
  EXPECT_TRUE(CheckPlan(plan, planned.rates).ok());
  return plan;
}

TEST(PlanJson, RoundTripGivesTheSameBytes) {
  const Plan plan = RichPlan();
  const std::string text = ToJsonText(plan);
  EXPECT_EQ(text.back(), '\n');
  const auto parsed = ParsePlan(text, "plan.json");
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  EXPECT_EQ(ToJsonText(*parsed), text);
  const Status checked = CheckPlan(*parsed, Load(MixedTable()));
  EXPECT_TRUE(checked.ok()) << checked.error().message;
}

TEST(PlanJson, SameRequestSameBytes) { EXPECT_EQ(ToJsonText(RichPlan()), ToJsonText(RichPlan())); }

TEST(PlanJson, EveryTruncationIsAnError) {
  const std::string text = ToJsonText(RichPlan());
  for (size_t size = 0; size + 1 < text.size(); ++size) {
    const std::vector<char> exact(text.begin(), text.begin() + static_cast<ptrdiff_t>(size));
    ASSERT_FALSE(ParsePlan({exact.data(), exact.size()}, "plan.json").ok()) << size;
  }
}

TEST(PlanJson, ErrorsNameFileAndKey) {
  const std::string text = ToJsonText(RichPlan());
  const auto error = [&](std::string_view from, std::string_view to) {
    std::string changed = text;
    const size_t at = changed.find(from);
    EXPECT_NE(at, changed.npos) << from;
    changed.replace(at, from.size(), to);
    const auto parsed = ParsePlan(changed, "plan.json");
    if (parsed) return std::string();
    EXPECT_EQ(parsed.error().code, ErrorCode::kCorrupt);
    return parsed.error().message;
  };
  EXPECT_EQ(error("ram.plan.v1", "ram.plan.v9"),
            "plan.json: key \"format\": expected \"ram.plan.v1\"");
  EXPECT_EQ(error("\"protect\": true", "\"protect\": 1"),
            "plan.json: key \"protect\": expected true or false");
  EXPECT_EQ(error("\"floor_db\": 9", "\"floor_db\": -9"),
            "plan.json: key \"floor_db\": expected a finite number that is not negative");
  EXPECT_EQ(error("\"den\": \"", "\"den\": \"-"),
            "plan.json: key \"certificate\": key \"den\": expected a whole number from 0 to 2^63 - "
            "1, in quotes");
  EXPECT_EQ(error("\"notes\"", "\"note\""),
            "plan.json: key \"note\": not part of the format ram.plan.v1");
  EXPECT_EQ(error("\"kind\": \"ban\", \"pattern\": \"*\"", "\"kind\": \"ban\", \"pattern\": \"?\""),
            "plan.json: key \"rules\": key \"text\": \"3,32\" means another rule than the keys "
            "beside it");
  EXPECT_EQ(error("{\"name\": \"model.embed_tokens\"", "{\"name\": \"model.layers.0.mlp.gate\""),
            "plan.json: key \"modules\": model.layers.0.mlp.gate is there twice");
  EXPECT_NE(error("{\"modules\": [\"model.embed_tokens\"]", "{\"modules\": [\"lm_head\"]")
                .find("lm_head is no module of the plan"),
            std::string::npos);
}

// ---- What may be chosen ----

TEST(Problem, FloorProtectionAndWidthsDecideWhatIsAllowed) {
  const RateTable table = MixedTable();
  const auto problem = BuildProblem(table, {});
  ASSERT_TRUE(problem.ok()) << problem.error().message;
  const auto allowed = [&](std::string_view name) { return AllowedFor(table, *problem, name); };
  EXPECT_EQ(allowed("model.layers.0.mlp.gate"), "8,64 8,32 16");
  EXPECT_EQ(allowed("model.layers.0.linear_attn.in_proj_a"), "8,64 8,32 16");
  EXPECT_EQ(allowed("model.layers.1.mlp.odd_proj"), "16");
  EXPECT_EQ(allowed("model.layers.1.mlp.narrow_proj"), "3,32 4,32 5,32 6,32 8,32 16");
  EXPECT_EQ(allowed("model.layers.0.linear_attn.in_proj_qkv"),
            "3,128 3,64 3,32 4,128 4,64 4,32 5,128 5,64 5,32 6,128 6,64 6,32 8,128 8,64 8,32 16");
  EXPECT_TRUE(allowed("model.layers.1.mlp.switch_mlp.up_proj").ends_with("8,32 mxfp4 16"));
  EXPECT_TRUE(allowed("model.layers.1.mlp.zero_proj").starts_with("2,128"));
  EXPECT_NE(std::ranges::find(problem->notes,
                              "model.layers.1.mlp.odd_proj: width 172 is divisible by no group "
                              "size: stays in 16 bits"),
            problem->notes.end());
}

TEST(Problem, NarrowRoutersGetTheEightBitsTheyCan) {
  const RateTable table = MakeTable({{"model.layers.0.gate", "router", "router", 0, {8, 96}},
                                     {"model.layers.0.up", "linear", "up", 0, {8, 96}}});
  const auto problem = BuildProblem(table, {});
  ASSERT_TRUE(problem.ok());
  EXPECT_EQ(AllowedFor(table, *problem, "model.layers.0.gate"), "8,32 16");
  PlanRequest request;
  request.protect = false;
  EXPECT_EQ(AllowedFor(table, *BuildProblem(table, request), "model.layers.0.gate"),
            "3,32 4,32 5,32 6,32 8,32 16");
}

TEST(Problem, FloorIsJudgedOnPlainRounding) {
  RateTable table = MakeTable({{"model.layers.0.a", "linear", "up", 0, {64, 64}}});
  ChoiceRate& two_bits = table.modules[0].choices[1];
  ASSERT_EQ(ChoiceName(two_bits.choice), "2,32");
  two_bits.sum_squares_error = 0.1 * table.modules[0].sum_squares;       // 10 dB as shipped,
  two_bits.rtn_sum_squares_error = 0.13 * table.modules[0].sum_squares;  // 8.9 dB plainly.
  EXPECT_TRUE(AllowedFor(table, *BuildProblem(table, {}), "model.layers.0.a").starts_with("3,64"));
  two_bits.rtn_sum_squares_error = 0.125 * table.modules[0].sum_squares;
  EXPECT_TRUE(AllowedFor(table, *BuildProblem(table, {}), "model.layers.0.a").starts_with("2,32"));
  PlanRequest request;
  request.floor_db = 0;
  EXPECT_TRUE(
      AllowedFor(table, *BuildProblem(table, request), "model.layers.0.a").starts_with("2,64"));
  request.floor_db = 60;
  const auto problem = BuildProblem(table, request);
  EXPECT_EQ(AllowedFor(table, *problem, "model.layers.0.a"), "16");
  EXPECT_EQ(problem->notes.front(),
            "model.layers.0.a: no choice of the menu reaches the floor of 60 dB: stays in 16 bits");
}

TEST(Problem, RulesNarrowAndLaterOnesWin) {
  const RateTable table = MixedTable();
  const auto allowed = [&](std::vector<Rule> rules, std::string_view name) {
    PlanRequest request;
    request.rules = std::move(rules);
    const auto problem = BuildProblem(table, request);
    return problem.ok() ? AllowedFor(table, *problem, name) : problem.error().message;
  };
  const std::string_view narrow = "model.layers.1.mlp.narrow_proj";
  EXPECT_EQ(allowed({Pin("narrow_proj>=4"), Pin("narrow_proj<=6")}, narrow), "4,32 5,32 6,32");
  EXPECT_EQ(allowed({Pin("layers.1>=8"), Pin("narrow_proj=4,32")}, narrow), "4,32");
  EXPECT_EQ(allowed({Pin("narrow_proj=4,32"), Pin("mlp.*>=8")}, narrow), "8,32 16");
  EXPECT_EQ(allowed({Pin("narrow_proj=8,32"), Pin("mlp.*>=8")}, narrow), "8,32");
  EXPECT_EQ(allowed({Ban("narrow_proj=16"), Ban("5,32")}, narrow), "3,32 4,32 6,32 8,32");
  // Protection is narrowed like everything else, and goes only where nothing of it would be left.
  const std::string_view router = "model.layers.0.mlp.gate";
  EXPECT_EQ(allowed({Pin("*>=4")}, router), "8,64 8,32 16");
  EXPECT_EQ(allowed({Pin("layers.0.mlp<=8")}, router), "8,64 8,32");
  EXPECT_EQ(allowed({Pin("mlp.gate=4,64")}, router), "4,64");
  EXPECT_EQ(allowed({Pin("mlp.gate<=4")}, router), "3,64 3,32 4,128 4,64 4,32");
  // The menu and the floor yield to a pin only.
  EXPECT_EQ(allowed({Pin("narrow_proj=2,32")}, narrow), "2,32");
  EXPECT_EQ(allowed({Pin("narrow_proj<=2")}, narrow),
            "\"narrow_proj<=2\" leaves no choice for model.layers.1.mlp.narrow_proj: 2,32 has 8.8 "
            "dB, below the floor of 9 dB");
  EXPECT_EQ(allowed({Pin("odd_proj<=8")}, narrow),
            "\"odd_proj<=8\" leaves no choice for model.layers.1.mlp.odd_proj: width 172 is "
            "divisible by no group size");
  EXPECT_EQ(allowed({Pin("narrow_proj=4,64")}, narrow),
            "\"narrow_proj=4,64\" cannot be done for model.layers.1.mlp.narrow_proj: rows of 352 "
            "weights have no such choice in the rate table");
  EXPECT_EQ(allowed({Pin("narrow_proj=mxfp4")}, narrow),
            "\"narrow_proj=mxfp4\" cannot be done for model.layers.1.mlp.narrow_proj: the source "
            "does not have it in MXFP4");
  // MXFP4 loses nothing: rules about bits leave it.
  EXPECT_EQ(allowed({Pin("switch_mlp.up_proj>=16")}, "model.layers.1.mlp.switch_mlp.up_proj"),
            "mxfp4 16");
}

TEST(Problem, NotesTellWhatPinsOverride) {
  PlanRequest request;
  request.rules = {Pin("mlp.gate=4,64"), Pin("narrow_proj=2,32"), Pin("embed_tokens>=6"),
                   Pin("embed_tokens=4,64")};
  const auto problem = BuildProblem(MixedTable(), request);
  ASSERT_TRUE(problem.ok());
  const auto has = [&](std::string_view note) {
    return std::ranges::find(problem->notes, note) != problem->notes.end();
  };
  EXPECT_TRUE(
      has("model.layers.0.mlp.gate: \"pin mlp.gate=4,64\" takes it below 8 bits or groups of "
          "64"));
  EXPECT_TRUE(
      has("model.layers.1.mlp.narrow_proj: 2,32 is below the floor of 9 dB, and was pinned "
          "(\"narrow_proj=2,32\")"));
  EXPECT_TRUE(
      has("model.embed_tokens: \"pin embed_tokens=4,64\" contradicts \"pin "
          "embed_tokens>=6\", and the later rule wins"));
}

TEST(Problem, RulesThatMatchNothingNameWhatIsNear) {
  PlanRequest request;
  request.rules = {Pin("lmhead=8,64")};
  EXPECT_EQ(ProblemError(DenseTable(), request),
            "\"lmhead=8,64\" matches no module; near it: lm_head");
  request.rules = {Ban("layers.9.mlp.gate_prj=4")};
  EXPECT_EQ(ProblemError(DenseTable(), request),
            "\"layers.9.mlp.gate_prj=4\" matches no module; near it: layers.0.mlp.gate_proj");
  request.rules = {Pin("x=8,64")};
  EXPECT_EQ(ProblemError(DenseTable(), request),
            "\"x=8,64\" matches no module; the first is model.embed_tokens");
  request.rules.clear();
  request.ties = {{"q_proj", "kproj"}};
  EXPECT_EQ(ProblemError(DenseTable(), request),
            "\"kproj\" of \"tie q_proj,kproj\" matches no module; near it: k_proj, o_proj, q_proj");
}

TEST(Problem, TiesShareOneChoiceWithinALayer) {
  PlanRequest request;
  request.ties = {{"q_proj", "k_proj", "v_proj"}};
  const RateTable table = DenseTable();
  const Planned planned = Prepare(table, request);
  EXPECT_EQ(planned.problem.items.size(), table.modules.size() - 2 * 4);
  const Plan plan = MustPlan(planned, BudgetOf(table, 5));
  bool layers_differ = false;
  for (int layer = 0; layer < 4; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".self_attn.";
    const Choice& q = ModuleOf(plan, prefix + "q_proj").choice;
    EXPECT_EQ(ModuleOf(plan, prefix + "k_proj").choice, q);
    EXPECT_EQ(ModuleOf(plan, prefix + "v_proj").choice, q);
    layers_differ |= q != ModuleOf(plan, "model.layers.0.self_attn.q_proj").choice;
  }
  // A tied plan costs no less than a free one.
  EXPECT_GE(plan.cost, MustPlan(Prepare(table), BudgetOf(table, 5)).cost);

  request.rules = {Pin("q_proj=4,64"), Pin("k_proj=8,64")};
  EXPECT_EQ(ProblemError(table, request),
            "model.layers.0.self_attn.q_proj and model.layers.0.self_attn.k_proj are tied, but no "
            "choice is allowed for both (pin q_proj=4,64)");
  request.rules.clear();
  request.ties = {{"lm_head"}};
  EXPECT_EQ(Prepare(table, request).problem.notes.front(),
            "\"tie lm_head\" changes nothing: no layer has two such modules");
}

TEST(Problem, RefusesNanAndBadFloors) {
  RateTable table = DenseTable();
  table.modules[5].num_nan = 3;
  const auto problem = BuildProblem(table, {});
  ASSERT_FALSE(problem.ok());
  EXPECT_EQ(problem.error().code, ErrorCode::kCorrupt);
  EXPECT_TRUE(problem.error().message.starts_with(table.modules[5].name + " holds 3 NaN"));
  PlanRequest request;
  for (const double floor : {-1.0, std::nan(""), HUGE_VAL}) {
    request.floor_db = floor;
    EXPECT_NE(ProblemError(DenseTable(), request), "");
  }
}

TEST(Problem, ZeroWeightsCostNothingAtTheSmallestChoice) {
  const Planned planned = Prepare(MixedTable());
  const Plan plan = MustPlan(planned, BudgetOf(planned.rates.table, 6));
  EXPECT_EQ(ChoiceName(ModuleOf(plan, "model.layers.1.mlp.zero_proj").choice), "2,128");
  EXPECT_EQ(ModuleOf(plan, "model.layers.1.mlp.zero_proj").cost, 0);
}

// ---- Rules ----

TEST(Rules, PatternsAreRunsOfWholeComponents) {
  EXPECT_TRUE(MatchesPattern("lm_head", "lm_head"));
  EXPECT_TRUE(MatchesPattern("lm_head", "language_model.lm_head"));
  EXPECT_TRUE(MatchesPattern("mlp.gate", "model.layers.3.mlp.gate"));
  EXPECT_FALSE(MatchesPattern("mlp.gate", "model.layers.3.mlp.gate_proj"));
  EXPECT_TRUE(MatchesPattern("layers.0.*", "model.layers.0.mlp.down_proj"));
  EXPECT_FALSE(MatchesPattern("layers.0.*", "model.layers.10.mlp.down_proj"));
  EXPECT_TRUE(MatchesPattern("layers.1?", "model.layers.10.mlp.down_proj"));
  EXPECT_FALSE(MatchesPattern("layers.1?", "model.layers.1.mlp.down_proj"));
  EXPECT_TRUE(MatchesPattern("*_proj", "a.q_proj"));
  EXPECT_FALSE(MatchesPattern("*_proj", "a.q_projx"));
  EXPECT_TRUE(MatchesPattern("*a*b*", "xaybz"));
  EXPECT_FALSE(MatchesPattern("*a*b*", "a.b"));  // * stays inside its component.
  EXPECT_TRUE(MatchesPattern("*", "anything.at.all"));
  EXPECT_FALSE(MatchesPattern("a.b.c", "a.b"));
}

TEST(Rules, ParsesWhatPeopleWrite) {
  const Rule pin = Pin(" lm_head = 8,64 ");
  EXPECT_EQ(pin.kind, Rule::Kind::kPin);
  EXPECT_EQ(pin.pattern, "lm_head");
  EXPECT_EQ(ChoiceName(*pin.choice), "8,64");
  EXPECT_EQ(ChoiceName(*Pin("a=16").choice), "16");
  EXPECT_EQ(ChoiceName(*Pin("a=mxfp4").choice), "mxfp4");
  EXPECT_EQ(Pin("v_proj>=6").kind, Rule::Kind::kAtLeast);
  EXPECT_EQ(Pin("v_proj<= 16").bits, 16);
  EXPECT_EQ(Ban("down_proj=2,128").choice, Choice::Affine(2, 128));
  EXPECT_EQ(Ban("down_proj=2").bits, 2);
  EXPECT_FALSE(Ban("down_proj=2").choice);
  EXPECT_EQ(Ban("2").pattern, "*");
  EXPECT_EQ(Ban("4,32").choice, Choice::Affine(4, 32));
}

TEST(Rules, ErrorsQuoteTheTextAndSayWhatIsExpected) {
  for (const char* text : {"", "lm_head", "=8,64", "lm_head=", "lm_head=7,64", "lm_head=8,65",
                           "lm_head=8", "a..b=8,64", ".a=8,64", "a.=8,64", "a[0]=8,64", "a b=8,64",
                           "a>8", "a>=7", "a>=", "a<=x", "a==8,64", "a>=8,64", "a<"}) {
    const auto rule = ParsePin(text);
    ASSERT_FALSE(rule.ok()) << text;
    EXPECT_EQ(rule.error().code, ErrorCode::kInvalidArgument);
    EXPECT_TRUE(rule.error().message.starts_with("\"" + std::string(text) + "\"")) << text;
    EXPECT_NE(rule.error().message.find("expected"), std::string::npos);
  }
  for (const char* text : {"", "=2", "a=", "a=7", "a=2,31", "a>=2", "7"}) {
    EXPECT_FALSE(ParseBan(text).ok()) << text;
  }
  EXPECT_EQ(ParsePin("v_proj>=7").error().message,
            "\"v_proj>=7\": bits are 2, 3, 4, 5, 6, 8 or 16: expected PATTERN=CHOICE, "
            "PATTERN>=BITS or PATTERN<=BITS, e.g. lm_head=8,64");
}

// ---- Objectives ----

TEST(Objectives, BuiltInPriorsAreTheFile) {
  const auto text = ReadFile(RAM_SOURCE_DIR "/ram/plan/priors.json", kMiB);
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(DefaultPriors().sha256, Sha256Hex(*text));
  EXPECT_EQ(DefaultPriors().head, 87);
  EXPECT_EQ(DefaultPriors().class_factors.at("down"), 2.8);
}

TEST(Objectives, AlphasFollowTheTable) {
  const RateTable table = DenseTable(2);
  Priors priors;
  priors.class_factors = {{"down", 2}, {"q", 0.5}};
  priors.depth = {{0, 2}, {0.5, 1}};
  priors.head = 10;
  priors.embedding = 4;
  priors.tied_embedding = 20;
  const auto alphas = SensitivityAlphas(table, Objective::kWeights, priors);
  // Layer 0 is at 1/4: 1.5; layer 1 at 3/4, beyond the last point: 1.
  EXPECT_EQ(alphas[1], 0.75);  // q
  EXPECT_EQ(alphas[2], 1.5);   // k: no factor of its own.
  EXPECT_EQ(alphas[7], 3);     // down
  EXPECT_EQ(alphas[14], 2);
  const double mean = std::sqrt(1.5);  // 0.5 and 2 cancel.
  EXPECT_NEAR(alphas.front(), 4 * mean, 1e-5);
  EXPECT_NEAR(alphas.back(), 10 * mean, 1e-4);
  EXPECT_EQ(alphas.back(), 12.2474);  // Six digits.
}

TEST(Objectives, RoutersDoNotMoveTheMean) {
  const RateTable with = MakeTable({{"e", "embedding", "tied_embedding", -1, {64, 64}},
                                    {"model.layers.0.up", "linear", "expert_up", 0, {8, 64}},
                                    {"model.layers.0.gate", "router", "router", 0, {8, 64}}});
  const auto alphas = SensitivityAlphas(with, Objective::kWeights, DefaultPriors());
  EXPECT_NEAR(alphas[0], 103 * alphas[1], 1e-3);
}

TEST(Objectives, ShuffleStaysWithinClasses) {
  const RateTable table = DenseTable(12);
  const auto plain = SensitivityAlphas(table, Objective::kWeights, DefaultPriors());
  const auto by_class = [&](const std::vector<double>& alphas) {
    std::map<std::string, std::multiset<double>> classes;
    for (size_t i = 0; i < alphas.size(); ++i) {
      classes[table.modules[i].tensor_class].insert(alphas[i]);
    }
    return classes;
  };
  Priors priors = DefaultPriors();
  std::set<std::vector<double>> different;
  for (const uint64_t seed : {1, 2, 3}) {
    priors.shuffle_seed = seed;
    const auto shuffled = SensitivityAlphas(table, Objective::kWeights, priors);
    EXPECT_EQ(shuffled, SensitivityAlphas(table, Objective::kWeights, priors));
    EXPECT_EQ(by_class(shuffled), by_class(plain));
    EXPECT_EQ(shuffled.front(), plain.front());  // Alone in their classes.
    EXPECT_EQ(shuffled.back(), plain.back());
    EXPECT_NE(shuffled, plain);
    different.insert(shuffled);
  }
  EXPECT_EQ(different.size(), 3U);
}

TEST(Objectives, ShuffleReachesEveryOrder) {
  const RateTable table = DenseTable(3);
  Priors priors;
  priors.depth = {{0, 1}, {0.5, 2}, {1, 4}};
  priors.head = priors.embedding = priors.tied_embedding = 1;
  std::map<std::vector<double>, int> orders;  // Of one class with three modules.
  for (uint64_t seed = 0; seed < 600; ++seed) {
    priors.shuffle_seed = seed;
    const auto alphas = SensitivityAlphas(table, Objective::kWeights, priors);
    ++orders[{alphas[1], alphas[8], alphas[15]}];
  }
  EXPECT_EQ(orders.size(), 6U);
  for (const auto& [order, count] : orders) EXPECT_NEAR(count, 100, 40);  // 4 standard deviations.
}

TEST(Objectives, FlatPriorsMakeAllEqual) {
  for (const double alpha : SensitivityAlphas(MixedTable(), Objective::kWeights, FlatPriors())) {
    EXPECT_EQ(alpha, 1);
  }
}

TEST(Objectives, OriginalPriors) {
  const auto dense = SensitivityAlphas(DenseTable(3), Objective::kRam, {});
  EXPECT_EQ(dense.front(), 10);
  EXPECT_EQ(dense[1], 3);
  EXPECT_EQ(dense[8], 1);
  EXPECT_EQ(dense[15], 2);
  EXPECT_EQ(dense.back(), 10);
  const auto mixed = SensitivityAlphas(MixedTable(), Objective::kRam, {});
  EXPECT_EQ(mixed[0], 10);
  EXPECT_EQ(mixed[3], 8);
}

TEST(Objectives, OriginalMenuHasItsEightChoices) {
  PlanRequest request;
  request.objective = Objective::kRam;
  const RateTable table = DenseTable();
  const auto problem = BuildProblem(table, request);
  ASSERT_TRUE(problem.ok());
  EXPECT_EQ(AllowedFor(table, *problem, "lm_head"), "3,64 4,128 4,64 4,32 8,128 8,64 16");
  request.floor_db = 0;
  EXPECT_EQ(AllowedFor(table, *BuildProblem(table, request), "lm_head"),
            "2,32 3,64 4,128 4,64 4,32 8,128 8,64 16");
  const Planned planned = Prepare(table, request);
  const Plan plan = MustPlan(planned, BudgetOf(table, 5));
  EXPECT_TRUE(CheckPlan(plan, planned.rates).ok());
}

TEST(Objectives, CostsAreWholeUnits) {
  EXPECT_EQ(ChoiceCost(Objective::kWeights, 2, 0.25, 100), 5'000'000'000'000);
  EXPECT_EQ(ChoiceCost(Objective::kRam, 2, 0.25, 100), 100'000'000'000'000);
  EXPECT_EQ(ChoiceCost(Objective::kWeights, 2, 0, 100), 0);
  EXPECT_EQ(ChoiceCost(Objective::kWeights, 2, 1, 0), 0);
  EXPECT_EQ(ChoiceCost(Objective::kWeights, 1, 2.5e-15, 1), 2);  // Ties to even.
  EXPECT_EQ(ChoiceCost(Objective::kWeights, 1, 3.5e-15, 1), 4);
  EXPECT_EQ(ChoiceCost(Objective::kWeights, 1e6, 1e308, 1e-308), Cost{1} << 62);
}

TEST(Objectives, BadPriorsNameTheKey) {
  const std::string good =
      R"({"format": "ram.priors.v1", "origin": "me", "class_factors": {"q": 1}, )"
      R"("depth": [[0, 1], [1, 2]], "head": 1, "embedding": 1, "tied_embedding": 1})";
  ASSERT_TRUE(ParsePriors(good, "p.json").ok());
  const auto error = [&](std::string_view from, std::string_view to) {
    std::string text = good;
    text.replace(text.find(from), from.size(), to);
    const auto parsed = ParsePriors(text, "p.json");
    return parsed.ok() ? "" : parsed.error().message;
  };
  EXPECT_EQ(error("\"q\": 1", "\"q\": -1"),
            "p.json: key \"q\": expected a factor above 0 and at most 1000000");
  EXPECT_EQ(error("[1, 2]", "[0, 2]"),
            "p.json: key \"depth\": expected [position, factor] pairs with positions rising from 0 "
            "to 1");
  EXPECT_NE(error("\"head\": 1", "\"head\": 1e7"), "");
  EXPECT_NE(error("\"head\": 1", "\"head\": \"1\""), "");
  EXPECT_NE(error("priors.v1", "priors.v2"), "");
}

TEST(Objectives, Names) {
  EXPECT_EQ(*ParseObjective("weights"), Objective::kWeights);
  EXPECT_EQ(*ParseObjective("ram"), Objective::kRam);
  EXPECT_EQ(ParseObjective("kl").error().message,
            "\"kl\" is not an objective: expected weights or ram");
}

// ---- References ----

TEST(Plan, UniformReferenceIsWhatMlxWouldWrite) {
  const RateTable table = MixedTable();
  const Planned planned = Prepare(table);
  const Plan plan = MustPlan(planned, BudgetOf(table, 6));
  uint64_t expected = table.fixed_bytes();
  for (const ModuleRates& module : table.modules) {
    const uint64_t cols = module.shape.back();
    const Choice choice = module.kind == "router" ? Choice::Affine(8, 64)
                          : cols % 64 == 0        ? Choice::Affine(4, 64)
                                                  : Choice::Dense();  // 172 and 352.
    expected += module.Find(choice)->bytes;
  }
  EXPECT_EQ(plan.uniform.bytes, expected);
  ASSERT_TRUE(plan.uniform.plan_cost);
  EXPECT_LE(*plan.uniform.plan_cost, plan.uniform.cost);
  EXPECT_EQ(plan.next_gib_saving, 1);  // A GiB holds it all.
}

TEST(Explain, TellsWhatPeopleWantToKnow) {
  PlanRequest request;
  request.rules = {Pin("lm_head=8,64")};
  const Planned planned = Prepare(DenseTable(), request);
  const Plan plan = MustPlan(planned, BudgetOf(planned.rates.table, 5));
  const std::string text = ExplainPlan(plan, planned.rates.table);
  for (const std::string_view part :
       {"Plan for test/model", "The budget is " /* */, "bits per weight, with",
        "lm_head (pin lm_head=8,64): (8,64)", "vetoed (2,128) (2,64) (2,32) everywhere.",
        "Who got what.", "in layers 0-", "Most bits:", "For comparison, uniform (4,64)",
        "One more GiB would hold the whole model in 16 bits.", "Proof: proven within ",
        "by the certificate, optimal by exhaustive search of "}) {
    EXPECT_NE(text.find(part), text.npos) << part << "\n" << text;
  }
  size_t longest = 0;
  for (size_t begin = 0, end = 0; end != text.npos; begin = end + 1) {
    end = text.find('\n', begin);
    longest = std::max(longest, std::min(end, text.size()) - begin);
  }
  EXPECT_LE(longest, 100u);

  const std::string whole = ExplainPlan(MustPlan(planned, INT64_MAX), planned.rates.table);
  EXPECT_NE(whole.find("Proof: no plan within this budget does less predicted harm"), whole.npos);
}

}  // namespace
}  // namespace ram
