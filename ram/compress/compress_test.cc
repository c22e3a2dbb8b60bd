#include "ram/compress/compress.h"

#include <filesystem>
#include <set>
#include <string>

#include "gtest/gtest.h"
#include "ram/checkpoint/testing.h"
#include "ram/measure/rate_cache.h"

namespace ram {
namespace {

namespace fs = std::filesystem;

OpenedModel Fixture(const std::string& family) {
  auto model = OpenModel(std::string(RAM_TEST_DATA_DIR) + "/families/" + family);
  RAM_CHECK(model.ok());
  return *std::move(model);
}

std::set<std::string> NamesIn(const fs::path& directory) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory)) {
    names.insert(entry.path().filename().string());
  }
  return names;
}

class CompressTest : public testing::Test {
 protected:
  CompressTest() : pool_(2), directory_("compress") { options_.pool = &pool_; }

  // A plan of about 5 bits.
  Plan MakePlanOf(const OpenedModel& model, LoadedRates* rates) {
    const uint64_t budget = rates->table.num_weights() * 5 / 8 + 20'000;
    auto plan = MakeShippedPlan(model, options_, budget, rates);
    EXPECT_TRUE(plan.ok()) << plan.error().message;
    return *std::move(plan);
  }

  ThreadPool pool_;
  TempDirectory directory_;
  CompressOptions options_;
};

TEST_F(CompressTest, TablesDoNotDependOnThreads) {
  const OpenedModel model = Fixture("qwen3_moe");
  const auto two = Measure(model, options_);
  ASSERT_TRUE(two.ok());
  for (const size_t num_threads : {1u, 5u}) {
    ThreadPool pool(num_threads);
    CompressOptions options;
    options.pool = &pool;
    const auto other = Measure(model, options);
    ASSERT_TRUE(other.ok());
    EXPECT_EQ(other->sha256, two->sha256);
  }
}

TEST_F(CompressTest, TheCacheKnowsASecondRun) {
  const OpenedModel model = Fixture("llama");
  options_.cache_path = directory_.path() / "measurements.cache";
  MeasureStats first;
  MeasureStats second;
  const auto measured = Measure(model, options_, &first);
  const auto cached = Measure(model, options_, &second);
  ASSERT_TRUE(measured.ok() && cached.ok());
  EXPECT_EQ(first.cached_bytes, 0u);
  EXPECT_EQ(second.cached_bytes, second.total_bytes);
  EXPECT_EQ(measured->sha256, cached->sha256);
}

// Whatever quantizer writes the codes, its own errors are what the plan is made from.
TEST_F(CompressTest, ThePlanIsPricedByTheQuantizerThatWrites) {
  const OpenedModel model = Fixture("qwen3");
  for (const Quantizer quantizer : {Quantizer::kRtn, Quantizer::kRtnPlus, Quantizer::kOpt}) {
    options_.quantizer = quantizer;
    auto rates = Measure(model, options_);
    ASSERT_TRUE(rates.ok());
    const Plan plan = MakePlanOf(model, &*rates);
    for (const PlannedModule& module : plan.modules) {
      if (module.choice.mode != Mode::kAffine) continue;
      const ChoiceRate* rate = rates->table.Find(module.name)->Find(module.choice);
      EXPECT_EQ(rate->priced_by.value_or(rates->table.quantizer), quantizer) << module.name;
    }
    EXPECT_TRUE(CheckPlan(plan, *rates).ok());
    const fs::path out = directory_.path() / QuantizerName(quantizer);
    const auto done = WritePlan(model, options_, plan, *rates, "card", out);
    ASSERT_TRUE(done.ok()) << done.error().message;
    EXPECT_TRUE(done->verified.problems.empty());
    EXPECT_LE(done->written.file_bytes, plan.bytes);
    EXPECT_LE(plan.bytes, plan.budget_bytes);
  }
}

// The floor is judged on plain rounding: no module of the plan lies below it.
TEST_F(CompressTest, NoModuleIsBelowTheFloorByPlainRounding) {
  const OpenedModel model = Fixture("llama");
  for (const double floor_db : {9.0, 20.0, 30.0, 43.0}) {
    options_.request.floor_db = floor_db;
    auto rates = Measure(model, options_);
    ASSERT_TRUE(rates.ok());
    const auto plan = MakeShippedPlan(model, options_, rates->table.num_weights() * 9 / 8, &*rates);
    ASSERT_TRUE(plan.ok()) << plan.error().message;
    for (const PlannedModule& module : plan->modules) {
      if (module.choice.mode != Mode::kAffine) continue;
      const ModuleRates* measured = rates->table.Find(module.name);
      const ChoiceRate* rate = measured->Find(module.choice);
      const double error = rate->rtn_sum_squares_error.value_or(rate->sum_squares_error);
      EXPECT_GE(SqnrDb(measured->sum_squares, error), floor_db) << module.name;
    }
  }
}

TEST_F(CompressTest, OtherWeightsThanMeasuredAreNotWritten) {
  const OpenedModel model = Fixture("llama");
  auto rates = Measure(model, options_);
  ASSERT_TRUE(rates.ok());
  const Plan plan = MakePlanOf(model, &*rates);
  for (ModuleRates& module : rates->table.modules) {
    for (ChoiceRate& rate : module.choices) rate.sum_squares_error *= 1.01;
  }
  const fs::path out = directory_.path() / "out";
  const auto done = WritePlan(model, options_, plan, *rates, "card", out);
  ASSERT_FALSE(done.ok());
  EXPECT_NE(done.error().message.find("not those that were measured"), std::string::npos);
  EXPECT_TRUE(NamesIn(directory_.path()).empty());
}

TEST_F(CompressTest, ManyShardsHoldTheSameModel) {
  const OpenedModel model = Fixture("qwen3_moe");
  auto rates = Measure(model, options_);
  ASSERT_TRUE(rates.ok());
  const Plan plan = MakePlanOf(model, &*rates);
  const auto choices = ChoicesOfPlan(model.catalog, plan);
  ASSERT_TRUE(choices.ok());
  WriteOptions write;
  write.pool = &pool_;
  write.max_shard_bytes = 40'000;
  const fs::path out = directory_.path() / "out";
  const auto written = WriteModel(model.checkpoint, model.catalog, *choices, write, out);
  ASSERT_TRUE(written.ok()) << written.error().message;
  EXPECT_GT(written->num_shards, 5u);
  const auto verified = VerifyModel(out);
  ASSERT_TRUE(verified.ok()) << verified.error().message;
  EXPECT_EQ(verified->problems, std::vector<std::string>());
  EXPECT_EQ(verified->num_weights, model.catalog.num_weights());
}

TEST_F(CompressTest, CancellingLeavesNothing) {
  const OpenedModel model = Fixture("llama");
  auto rates = Measure(model, options_);
  ASSERT_TRUE(rates.ok());
  const Plan plan = MakePlanOf(model, &*rates);
  const std::atomic<bool> cancelled = true;
  options_.watcher.cancelled = &cancelled;
  const auto done = WritePlan(model, options_, plan, *rates, "card", directory_.path() / "out");
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(done.error().code, ErrorCode::kCancelled);
  EXPECT_TRUE(NamesIn(directory_.path()).empty());
  EXPECT_EQ(Measure(model, options_).error().code, ErrorCode::kCancelled);
}

TEST_F(CompressTest, ATableOfAnotherModelIsRefused) {
  const auto rates = Measure(Fixture("llama"), options_);
  ASSERT_TRUE(rates.ok());
  EXPECT_TRUE(CheckRatesBelongTo(rates->table, Fixture("llama")).ok());
  EXPECT_FALSE(CheckRatesBelongTo(rates->table, Fixture("mistral")).ok());
}

}  // namespace
}  // namespace ram
