#include "ram/rates/rate_table.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <limits>

#include "ram/base/file.h"
#include "ram/base/hash.h"
#include "ram/base/json.h"
#include "ram/rates/json_text.h"

namespace ram {
namespace {

// A module with every legal choice, and errors that fall with the bits.
ModuleRates MakeModule(std::string name, std::string kind, std::vector<uint64_t> shape) {
  ModuleRates module;
  module.name = std::move(name);
  module.kind = std::move(kind);
  module.tensor_class = "down";
  module.layer = 0;
  module.shape = std::move(shape);
  module.sum_squares = 1234.5678901234567;
  module.weighted_sum_squares = module.sum_squares;
  module.kurtosis = 3.25;
  module.largest = 0.5;
  module.hash = "00112233445566778899aabbccddeeff";
  const uint64_t cols = module.shape.back();
  const uint64_t rows = module.num_weights() / cols;
  for (const Choice& choice : kAffineChoices) {
    if (!IsLegal(choice, cols)) continue;
    ChoiceRate rate;
    rate.choice = choice;
    rate.bytes = StoredBytes(choice, rows, cols, module.dtype) + 300;
    rate.sum_squares_error = module.sum_squares * std::exp2(-2.0 * choice.bits) / 3;
    rate.weighted_error = rate.sum_squares_error;
    rate.largest_error = std::exp2(-choice.bits);
    if (choice.bits == 8) rate.rtn_sum_squares_error = rate.sum_squares_error * 1.6;
    module.choices.push_back(rate);
  }
  ChoiceRate dense;
  dense.bytes = StoredBytes(dense.choice, rows, cols, module.dtype) + 100;
  module.choices.push_back(dense);
  return module;
}

// Slices that share the module's figures equally.
void AddSlices(ModuleRates& module) {
  const auto count = static_cast<double>(module.shape[0]);
  for (uint64_t i = 0; i < module.shape[0]; ++i) {
    SliceRates slice;
    slice.hash = "ffeeddccbbaa99887766554433221100";
    slice.sum_squares = module.sum_squares / count;
    for (const ChoiceRate& rate : module.choices) {
      if (rate.choice.mode != Mode::kAffine) continue;
      slice.sum_squares_errors.push_back(rate.sum_squares_error / count);
    }
    module.slices.push_back(std::move(slice));
  }
}

RateTable MakeTable() {
  RateTable table;
  table.model = "example/tiny \"quoted\"";
  table.model_type = "qwen3_moe";
  table.structure_hash = "aa";
  table.weights_hash = "bb";
  table.quantizer = Quantizer::kOpt;
  table.rounding = Rounding::kMetal;
  table.num_layers = 2;
  table.hidden_size = 64;
  table.vocabulary = 100;
  table.max_context = 4096;
  table.source_bytes = 1'000'000;
  table.overhead_bytes = 777;
  table.state.cache_elements_per_token = 512;
  table.modules.push_back(MakeModule("model.layers.0.mlp.down_proj", "linear", {8, 64}));
  table.modules.push_back(
      MakeModule("model.layers.1.mlp.switch_mlp.up_proj", "switch", {3, 4, 32}));
  AddSlices(table.modules.back());
  table.modules.push_back(MakeModule("model.odd", "linear", {8, 172}));
  table.modules.back().layer = -1;
  table.fixed.push_back({"model.norm.weight", 64, 200});
  return table;
}

std::string Replaced(std::string text, std::string_view from, std::string_view to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, text.npos) << from;
  return at == text.npos ? text : text.replace(at, from.size(), to);
}

std::string ParseError(const std::string& text) {
  const auto table = ParseRateTable(text, "t.rates.json");
  if (table) return "";
  EXPECT_EQ(table.error().code, ErrorCode::kCorrupt);
  return table.error().message;
}

TEST(RateTable, RoundTripGivesTheSameBytes) {
  const std::string text = ToJsonText(MakeTable());
  EXPECT_EQ(text.back(), '\n');
  const auto parsed = ParseRateTable(text, "t.rates.json");
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  EXPECT_EQ(ToJsonText(*parsed), text);
  EXPECT_EQ(parsed->quantizer, Quantizer::kOpt);
  EXPECT_EQ(parsed->rounding, Rounding::kMetal);
  EXPECT_EQ(parsed->state.cache_elements_per_token, 512u);
  const ModuleRates& first = parsed->modules[0];
  EXPECT_EQ(first.sum_squares, 1234.5678901234567);
  EXPECT_FALSE(first.Find(Choice::Affine(4, 64))->rtn_sum_squares_error);
  EXPECT_EQ(*first.Find(Choice::Affine(8, 64))->rtn_sum_squares_error,
            first.Find(Choice::Affine(8, 64))->sum_squares_error * 1.6);
  EXPECT_EQ(parsed->modules[1].slices.size(), 3u);
}

TEST(RateTable, OneModulePerLine) {
  const std::string text = ToJsonText(MakeTable());
  EXPECT_NE(text.find("\n{\"name\": \"model.layers.0.mlp.down_proj\", \"kind\": \"linear\", "
                      "\"class\": \"down\", \"layer\": 0, \"shape\": [8, 64], \"dtype\": \"BF16\""),
            text.npos);
}

TEST(RateTable, ExtremeDoublesSurvive) {
  for (const double value : {0.1, 1e-300, 4.9e-324, 1.7976931348623157e308, 1.0 / 3, 123456789.0,
                             9007199254740993.0, 1e15, 1e16, 1e22, 0.0}) {
    const Json json = Json::parse(JsonNumberText(value));
    EXPECT_EQ(json.get<double>(), value) << JsonNumberText(value);
  }
  EXPECT_EQ(JsonNumberText(0.1), "0.1");
}

TEST(RateTable, Sizes) {
  const RateTable table = MakeTable();
  EXPECT_EQ(table.fixed_bytes(), 977u);
  EXPECT_EQ(table.num_weights(), 8u * 64 + 3 * 4 * 32 + 8 * 172 + 64);
  EXPECT_EQ(table.dense_bytes(), 977u + 2 * (8 * 64 + 3 * 4 * 32 + 8 * 172) + 3 * 100);
  EXPECT_EQ(table.modules[0].Find(Choice::Affine(4, 128)), nullptr);  // 64 columns.
  EXPECT_NE(table.Find("model.odd"), nullptr);
  EXPECT_EQ(table.Find("odd"), nullptr);
}

TEST(RateTable, Sqnr) {
  EXPECT_DOUBLE_EQ(SqnrDb(1000, 1), 30);
  EXPECT_EQ(SqnrDb(1000, 0), std::numeric_limits<double>::infinity());
  EXPECT_EQ(SqnrDb(0, 0), std::numeric_limits<double>::infinity());
}

TEST(RateTable, ErrorsNameFileModuleAndKey) {
  const std::string text = ToJsonText(MakeTable());
  EXPECT_EQ(ParseError(Replaced(text, "ram.rates.v1", "ram.rates.v2")),
            "t.rates.json: key \"format\": expected \"ram.rates.v1\", found \"ram.rates.v2\"");
  EXPECT_EQ(ParseError(Replaced(text, "\"sum_squares\": 1234", "\"sum_squares\": -1234")),
            "t.rates.json: module model.layers.0.mlp.down_proj: key \"sum_squares\": expected a "
            "finite number that is not negative, found -1234.5678901234567");
  EXPECT_EQ(ParseError(Replaced(text, "\"shape\": [8, 64]", "\"shape\": [8, 65]")),
            "t.rates.json: module model.layers.0.mlp.down_proj: key \"choices\": 2,64 does not "
            "divide rows of 65 weights");
  EXPECT_EQ(ParseError(Replaced(text, "\"mlx_default\"", "\"mlx_defautl\"")),
            "t.rates.json: module model.layers.0.mlp.down_proj: key \"mlx_defautl\" is not part of "
            "the format ram.rates.v1");
  EXPECT_EQ(ParseError(Replaced(text, "\"layer\": 0", "\"layer\": 2")),
            "t.rates.json: module model.layers.0.mlp.down_proj: key \"layer\": expected -1 or a "
            "layer below 2, found 2");
  EXPECT_EQ(ParseError(Replaced(text, "model.odd", "model.layers.0.mlp.down_proj")),
            "t.rates.json: module model.layers.0.mlp.down_proj is there twice");
  EXPECT_EQ(ParseError(Replaced(text, "model.norm.weight", "model.odd")),
            "t.rates.json: tensor model.odd is there twice");
  EXPECT_EQ(ParseError(Replaced(text, "\"BF16\"", "\"I32\"")),
            "t.rates.json: module model.layers.0.mlp.down_proj: key \"dtype\": expected BF16, F16 "
            "or F32, found \"I32\"");
  EXPECT_EQ(ParseError("[]"), "t.rates.json: expected an object");
}

TEST(RateTable, RefusesNumbersThatAreNoErrors) {
  const std::string text = ToJsonText(MakeTable());
  for (const char* bad : {"NaN", "Infinity", "-1", "1e999", "null", "\"3\"", "true", "[]"}) {
    EXPECT_NE(ParseError(Replaced(text, "\"kurtosis\": 3.25", std::string("\"kurtosis\": ") + bad)),
              "")
        << bad;
  }
  for (const char* bad : {"-1", "1.5", "1e3", "18446744073709551616", "9007199254740993"}) {
    EXPECT_NE(ParseError(Replaced(text, "\"overhead_bytes\": 777",
                                  std::string("\"overhead_bytes\": ") + bad)),
              "")
        << bad;
  }
}

TEST(RateTable, RefusesSizesThatCannotBe) {
  RateTable table = MakeTable();
  table.modules[0].choices[0].bytes = 100;  // 8 x 64 weights in 2 bits take 128, scales 32 more.
  EXPECT_EQ(ParseError(ToJsonText(table)),
            "t.rates.json: module model.layers.0.mlp.down_proj: key \"bytes\": 100 bytes for 2,64, "
            "but its data alone takes 160");

  table = MakeTable();
  table.modules[0].choices.pop_back();
  EXPECT_NE(ParseError(ToJsonText(table)).find("expected \"16\" as the last one"),
            std::string::npos);

  table = MakeTable();
  std::swap(table.modules[0].choices[0], table.modules[0].choices[1]);
  EXPECT_NE(ParseError(ToJsonText(table)).find("out of order"), std::string::npos);

  table = MakeTable();
  table.modules[0].choices.back().sum_squares_error = 1;
  EXPECT_NE(ParseError(ToJsonText(table)).find("16 keeps the weights as they are"),
            std::string::npos);

  table = MakeTable();
  for (ModuleRates& module : table.modules) module.choices.back().bytes = uint64_t{1} << 51;
  EXPECT_NE(ParseError(ToJsonText(table)).find("the model is larger than"), std::string::npos);

  table = MakeTable();
  table.modules[0].choices[0].sum_squares_error = 1e10;
  EXPECT_NE(
      ParseError(ToJsonText(table)).find("10000000000 for 2,64 is too much beside weights of"),
      std::string::npos);

  const std::string huge = Replaced(ToJsonText(MakeTable()), "[8, 64]", "[4503599627370496, 64]");
  EXPECT_NE(ParseError(huge).find("key \"shape\""), std::string::npos);
}

TEST(RateTable, SlicesAddUp) {
  RateTable table = MakeTable();
  table.modules[1].slices[2].sum_squares *= 1.01;
  EXPECT_NE(ParseError(ToJsonText(table)).find("is not the sum over the slices"),
            std::string::npos);
  table = MakeTable();
  table.modules[1].slices[0].sum_squares_errors[3] *= 2;
  EXPECT_NE(ParseError(ToJsonText(table)).find("is not the sum over the slices"),
            std::string::npos);
  table = MakeTable();
  table.modules[1].slices.pop_back();
  EXPECT_NE(ParseError(ToJsonText(table)).find("2 slices do not fit the shape"), std::string::npos);
}

TEST(RateTable, ChoicesPricedByAnotherQuantizerSaySo) {
  RateTable table = MakeTable();
  ChoiceRate& priced = table.modules[1].choices[1];
  priced.priced_by = Quantizer::kRtn;
  priced.sum_squares_error *= 1.5;  // No longer the sum over the slices, which were not priced.
  const std::string text = ToJsonText(table);
  const auto parsed = ParseRateTable(text, "t.rates.json");
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  EXPECT_EQ(parsed->modules[1].choices[1].priced_by, Quantizer::kRtn);
  EXPECT_FALSE(parsed->modules[1].choices[0].priced_by);
  EXPECT_EQ(ToJsonText(*parsed), text);
  EXPECT_NE(ParseError(Replaced(text, "\"rtn\"", "\"best\"")), "");
}

TEST(RateTable, EveryTruncationIsAnError) {
  const std::string text = ToJsonText(MakeTable());
  for (size_t size = 0; size + 1 < text.size(); ++size) {  // Without the newline it is whole.
    const std::vector<char> exact(text.begin(), text.begin() + static_cast<ptrdiff_t>(size));
    const auto parsed = ParseRateTable({exact.data(), exact.size()}, "t.rates.json");
    ASSERT_FALSE(parsed.ok()) << size;
  }
}

TEST(RateTable, ReadsFilesWithTheirHash) {
  const auto path = std::filesystem::temp_directory_path() / "ram_rate_table_test.rates.json";
  const std::string text = ToJsonText(MakeTable());
  ASSERT_TRUE(WriteFileAtomically(path, text).ok());
  const auto loaded = ReadRateTable(path);
  ASSERT_TRUE(loaded.ok()) << loaded.error().message;
  EXPECT_EQ(loaded->sha256, Sha256Hex(text));
  EXPECT_EQ(ToJsonText(loaded->table), text);
  std::filesystem::remove(path);
  EXPECT_EQ(ReadRateTable(path).error().code, ErrorCode::kNotFound);
}

// 48 layers of three stacks of 128 experts: 18,432 slices.
TEST(RateTable, ReadsLargeTablesInASecond) {
  RateTable table = MakeTable();
  table.num_layers = 48;
  table.modules.clear();
  for (int layer = 0; layer < 48; ++layer) {
    for (const char* name : {"gate_proj", "up_proj", "down_proj"}) {
      ModuleRates module =
          MakeModule("model.layers." + std::to_string(layer) + ".mlp.switch_mlp." + name, "switch",
                     {128, 768, 2048});
      module.layer = layer;
      AddSlices(module);
      for (size_t i = 0; i < module.slices.size(); ++i) {  // All digits, as real ones have.
        for (double& error : module.slices[i].sum_squares_errors) {
          error *= 1 + 1e-9 * std::sin(static_cast<double>(i));
        }
      }
      table.modules.push_back(std::move(module));
    }
  }
  const std::string text = ToJsonText(table);
  const auto start = std::chrono::steady_clock::now();
  const auto parsed = ParseRateTable(text, "t.rates.json");
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  RecordProperty("megabytes", static_cast<int>(text.size() >> 20));
  RecordProperty("milliseconds", static_cast<int>(1000 * seconds.count()));
  EXPECT_EQ(ToJsonText(*parsed), text);
  EXPECT_LT(seconds.count(), 20);  // A second when optimised; sanitizers and busy machines differ.
}

}  // namespace
}  // namespace ram
