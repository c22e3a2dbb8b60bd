#include "ram/device/diagnosis.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "ram/base/bytes.h"

namespace ram {
namespace {

using Level = Finding::Level;

Machine GoodMachine() {
  Machine machine;
  machine.system = "macOS";
  machine.cpu = "Apple M4";
  machine.cores = 10;
  machine.memory_bytes = machine.physical_bytes = 16 * kGiB;
  machine.available_bytes = 6 * kGiB;
  machine.instruction_sets = {"neon"};
  return machine;
}

// About Qwen3-8B: 8.2 billion weights, 36 layers, 8 key-value heads of 128.
ModelSizes Qwen8() {
  ModelSizes model;
  model.name = "Qwen/Qwen3-8B";
  model.num_weights = 8'190'735'360;
  model.source_bytes = model.dense_bytes = 2 * model.num_weights;
  model.uniform_bytes = model.num_weights * 9 / 16;
  model.smallest_bytes = model.num_weights * 13 / 32;
  model.state.state.cache_elements_per_token = 36 * 2 * 8 * 128;
  model.state.hidden_size = 4096;
  model.state.vocabulary = 151936;
  model.state.max_context = 40960;
  return model;
}

DoctorRequest Asked(const char* device, uint64_t context) {
  DoctorRequest request;
  request.device = *ParseDevice(device);
  request.context_tokens = context;
  request.free_disk_bytes = 100 * kGiB;
  return request;
}

const Finding* FindOf(const std::vector<Finding>& findings, std::string_view part) {
  for (const Finding& finding : findings) {
    if (finding.what.find(part) != std::string::npos) return &finding;
  }
  return nullptr;
}

void ExpectRemedies(const std::vector<Finding>& findings) {
  for (const Finding& finding : findings) {
    EXPECT_EQ(finding.level == Level::kOk, finding.remedy.empty()) << finding.what;
  }
}

TEST(DiagnoseMachine, IsContentWithAGoodOne) {
  const auto findings = DiagnoseMachine(GoodMachine(), 100 * kGiB);
  ExpectRemedies(findings);
  for (const Finding& finding : findings) EXPECT_EQ(finding.level, Level::kOk) << finding.what;
  EXPECT_EQ(findings.front().what, "macOS, Apple M4: 10 cores, 16.00 GiB of memory");
}

TEST(DiagnoseMachine, FindsWhatIsShort) {
  Machine machine = GoodMachine();
  machine.physical_bytes = 64 * kGiB;
  machine.available_bytes = 100 * kMiB;
  machine.instruction_sets = {"sse4.2"};
  const auto findings = DiagnoseMachine(machine, kGiB);
  ExpectRemedies(findings);
  ASSERT_NE(FindOf(findings, "a container's share of 64.00 GiB"), nullptr);
  ASSERT_NE(FindOf(findings, "100.0 MiB of memory are free"), nullptr);
  EXPECT_EQ(FindOf(findings, "100.0 MiB of memory are free")->level, Level::kProblem);
  EXPECT_EQ(FindOf(findings, "neither AVX2 nor NEON")->level, Level::kWarning);
  EXPECT_EQ(FindOf(findings, "of disk are free")->level, Level::kWarning);
}

TEST(DiagnoseModel, SaysTheLargestBudget) {
  const auto findings = DiagnoseModel(Qwen8(), Asked("24GB Mac", 32768));
  ExpectRemedies(findings);
  const Finding* fits = FindOf(findings, "fits 24GB Mac with 32,768 tokens of context");
  ASSERT_NE(fits, nullptr);
  EXPECT_EQ(fits->level, Level::kOk);
  // 16 GiB usable, 4.5 GiB of cache, 0.93 GiB of activations, half a GiB of program.
  const auto budget = BudgetForDevice({*ParseDevice("24GB Mac"), 32768, 16, 1}, Qwen8().state);
  ASSERT_TRUE(budget.ok());
  EXPECT_NE(fits->what.find(FormatBytes(budget->budget_bytes)), std::string::npos) << fits->what;
  const Finding* time = FindOf(findings, "time: about 5 min to measure (once), 2 min to write");
  EXPECT_NE(time, nullptr) << findings.back().what;
}

TEST(DiagnoseModel, KnowsWhenNothingNeedsToBeDone) {
  const auto findings = DiagnoseModel(Qwen8(), Asked("64GB Mac", 32768));
  EXPECT_NE(FindOf(findings, "fits 64GB Mac uncompressed"), nullptr);
}

TEST(DiagnoseModel, OffersAShorterContextThatReallyFits) {
  const ModelSizes model = Qwen8();
  const DoctorRequest request = Asked("8GB Mac", 32768);
  const auto findings = DiagnoseModel(model, request);
  ExpectRemedies(findings);
  const auto problem = std::find_if(findings.begin(), findings.end(), [](const Finding& finding) {
    return finding.level == Level::kProblem;
  });
  ASSERT_NE(problem, findings.end());
  ASSERT_TRUE(problem->remedy.starts_with("pass --context ")) << problem->remedy;
  const uint64_t context = std::stoull(problem->remedy.substr(15));
  const auto fits = BudgetForDevice({request.device, context, 16, 1}, model.state);
  ASSERT_TRUE(fits.ok());
  EXPECT_GE(fits->budget_bytes, model.smallest_bytes);
  const auto too_long = BudgetForDevice({request.device, context + 1024, 16, 1}, model.state);
  EXPECT_TRUE(!too_long.ok() || too_long->budget_bytes < model.smallest_bytes);
}

TEST(DiagnoseModel, NamesADeviceThatWouldDo) {
  ModelSizes model = Qwen8();
  for (uint64_t* bytes : {&model.num_weights, &model.source_bytes, &model.dense_bytes,
                          &model.uniform_bytes, &model.smallest_bytes}) {
    *bytes *= 10;
  }
  const auto findings = DiagnoseModel(model, Asked("16GB Mac", 8192));
  ExpectRemedies(findings);
  const Finding* misfit = FindOf(findings, "does not fit 16GB Mac");
  ASSERT_NE(misfit, nullptr);
  EXPECT_EQ(misfit->remedy, "take a smaller model, or a 48GB Mac");
}

TEST(DiagnoseModel, LooksAtTheDisk) {
  DoctorRequest request = Asked("24GB Mac", 32768);
  request.free_disk_bytes = kGiB;
  const Finding* none = FindOf(DiagnoseModel(Qwen8(), request), "even the smallest");
  EXPECT_NE(none, nullptr);
  request.free_disk_bytes = 5 * kGiB;
  const auto findings = DiagnoseModel(Qwen8(), request);
  const Finding* little = FindOf(findings, "the largest budget takes");
  ASSERT_NE(little, nullptr);
  EXPECT_EQ(little->level, Level::kWarning);
}

TEST(DiagnoseModel, WarnsOfALongContext) {
  const auto findings = DiagnoseModel(Qwen8(), Asked("64GB Mac", 100'000));
  const Finding* finding = FindOf(findings, "more than the model's 40,960");
  ASSERT_NE(finding, nullptr);
  EXPECT_EQ(finding->remedy, "pass --context 40960");
}

TEST(RoughDuration, IsRough) {
  EXPECT_EQ(RoughDuration(0.2), "a second");
  EXPECT_EQ(RoughDuration(3.4), "3 s");
  EXPECT_EQ(RoughDuration(89), "89 s");
  EXPECT_EQ(RoughDuration(240), "4 min");
  EXPECT_EQ(RoughDuration(7860), "2 h 10 min");
  EXPECT_EQ(RoughDuration(50000), "14 h");
  EXPECT_EQ(RoughDuration(-1), "unknown");
  EXPECT_EQ(RoughDuration(1.0 / 0.0), "unknown");
}

}  // namespace
}  // namespace ram
