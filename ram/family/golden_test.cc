// Every family against mlx-lm itself: names, shapes and values of all tensors after load and cast,
// the choices of mlx_lm.convert, and what the caches hold (tests/data/families/make_expected.py).

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "ram/base/hash.h"
#include "ram/family/fixtures.h"

namespace ram {
namespace {

const Json& Expected() {
  static const Json expected =
      Must(ReadJsonFile(std::filesystem::path(RAM_TEST_DATA_DIR) / "families" / "expected.json"));
  return expected["families"];
}

std::vector<std::string> FamilyNames() {
  std::vector<std::string> names;
  for (const auto& [name, _] : Expected().items()) names.push_back(name);
  return names;
}

std::string Sha256(const std::vector<uint8_t>& bytes) {
  return Sha256Hex({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

class GoldenTest : public testing::TestWithParam<std::string> {
 protected:
  GoldenTest()
      : checkpoint_(OpenFixture(GetParam())),
        catalog_(Must(BindCatalog(checkpoint_))),
        expected_(Expected()[GetParam()]) {}

  Checkpoint checkpoint_;
  Catalog catalog_;
  const Json& expected_;
};

TEST_P(GoldenTest, NamesShapesAndValuesAreThoseOfMlxLm) {
  const Json& tensors = expected_["tensors"];
  std::set<std::string> names;
  for (const CatalogTensor& tensor : catalog_.tensors) {
    ASSERT_TRUE(tensors.contains(tensor.name)) << tensor.name;
    names.insert(tensor.name);
    const Json& expected = tensors[tensor.name];
    EXPECT_EQ(Json(tensor.shape), expected["shape"]) << tensor.name;
    EXPECT_EQ(DtypeName(tensor.dtype), expected["dtype"]) << tensor.name;
    EXPECT_EQ(Sha256(ReadAll(checkpoint_, tensor)), expected["sha256"]) << tensor.name;
  }
  EXPECT_EQ(names.size(), catalog_.tensors.size());
  EXPECT_EQ(names.size(), tensors.size());
}

TEST_P(GoldenTest, PackedCodesAreThoseOfMlxLm) {
  for (const CatalogTensor& tensor : catalog_.tensors) {
    if (tensor.encoding != Encoding::kMxfp4) continue;
    const uint64_t code_bytes = tensor.rows * tensor.cols / 2;
    const uint64_t scale_bytes = tensor.rows * tensor.cols / 32;
    std::vector<uint8_t> codes(code_bytes * tensor.views.size());
    std::vector<uint8_t> scales(scale_bytes * tensor.views.size());
    for (size_t view = 0; view < tensor.views.size(); ++view) {
      Must(ReadMxfp4Rows(checkpoint_, tensor, view, 0, tensor.rows,
                         std::span(codes).subspan(view * code_bytes, code_bytes),
                         std::span(scales).subspan(view * scale_bytes, scale_bytes)));
    }
    const Json& expected = expected_["tensors"][tensor.name];
    EXPECT_EQ(Sha256(codes), expected["codes_sha256"]) << tensor.name;
    EXPECT_EQ(Sha256(scales), expected["scales_sha256"]) << tensor.name;
  }
}

// Rows in pieces of every size give what they give at once.
TEST_P(GoldenTest, PiecesGiveTheSameRows) {
  for (const CatalogTensor& tensor : catalog_.tensors) {
    const std::vector<uint8_t> whole = ReadAll(checkpoint_, tensor);
    const uint64_t row_bytes = tensor.cols * static_cast<uint64_t>(BitsOf(tensor.dtype)) / 8;
    for (const uint64_t step : {uint64_t{1}, uint64_t{7}, uint64_t{33}}) {
      std::vector<uint8_t> pieces;
      for (size_t view = 0; view < tensor.views.size(); ++view) {
        for (uint64_t row = 0; row < tensor.rows; row += step) {
          const uint64_t count = std::min(step, tensor.rows - row);
          std::vector<uint8_t> piece(count * row_bytes);  // Exact size: ASan guards its end.
          Must(ReadRows(checkpoint_, tensor, view, row, count, piece));
          pieces.insert(pieces.end(), piece.begin(), piece.end());
        }
      }
      EXPECT_EQ(pieces, whole) << tensor.name << ", " << step << " rows at a time";
    }
  }
}

TEST_P(GoldenTest, BaselineIsThatOfMlxLmConvert) {
  for (const Json& baseline : expected_["baselines"]) {
    const Choice uniform = Must(ParseChoice(baseline["uniform"].get<std::string>()));
    const std::string recipe = baseline["recipe"];
    std::map<std::string, std::string> choices;
    for (const CatalogTensor& tensor : catalog_.tensors) {
      const Choice choice = Must(BaselineChoice(catalog_, tensor, uniform, recipe));
      if (IsQuantizable(tensor.kind)) {
        choices[tensor.module()] = ChoiceName(choice);
      } else {
        EXPECT_EQ(choice, Choice::Dense()) << tensor.name;
      }
    }
    EXPECT_EQ(Json(choices), baseline["modules"]) << baseline["uniform"] << " " << recipe;
  }
}

TEST_P(GoldenTest, StateSizeIsWhatTheCachesHold) {
  const Json& state = expected_["state"];
  EXPECT_EQ(catalog_.state.cache_elements_per_token, state["cache"]);
  EXPECT_EQ(catalog_.state.window_cache_elements_per_token, state["window"]);
  EXPECT_EQ(catalog_.state.window_tokens, state["window_tokens"]);
  EXPECT_EQ(catalog_.state.recurrent_bytes, state["recurrent_bytes"]);
}

// The catalog from the config alone is the one that the published files give.
TEST_P(GoldenTest, ConfigAloneGivesTheSameCatalog) {
  const Catalog built = Must(BuildCatalog(checkpoint_.config()));
  ASSERT_EQ(built.tensors.size(), catalog_.tensors.size());
  for (size_t i = 0; i < built.tensors.size(); ++i) {
    const CatalogTensor& expected = catalog_.tensors[i];
    const CatalogTensor& tensor = built.tensors[i];
    EXPECT_EQ(tensor.name, expected.name);
    EXPECT_EQ(tensor.shape, expected.shape);
    EXPECT_EQ(tensor.kind, expected.kind);
    EXPECT_EQ(tensor.dtype, expected.dtype);
    EXPECT_EQ(tensor.tensor_class, expected.tensor_class);
    ASSERT_EQ(tensor.views.size(), expected.views.size()) << tensor.name;
    if (GetParam() == "gpt_oss") continue;  // Published as MXFP4, the fixture is BF16.
    for (size_t view = 0; view < tensor.views.size(); ++view) {
      EXPECT_EQ(tensor.views[view].source, expected.views[view].source);
      EXPECT_EQ(tensor.views[view].base, expected.views[view].base);
      EXPECT_EQ(tensor.views[view].row_stride, expected.views[view].row_stride);
      EXPECT_EQ(tensor.views[view].col_stride, expected.views[view].col_stride);
    }
  }
}

// Every byte of the checkpoint is used or dropped for a reason.
TEST_P(GoldenTest, NothingIsLost) {
  uint64_t bytes = 0;
  for (const CatalogTensor& tensor : catalog_.tensors) bytes += tensor.source_bytes;
  for (const DroppedTensor& tensor : catalog_.dropped) bytes += tensor.num_bytes;
  uint64_t expected = 0;
  for (const TensorInfo& info : checkpoint_.tensors()) expected += info.num_bytes;
  EXPECT_EQ(bytes, expected);
}

INSTANTIATE_TEST_SUITE_P(Families, GoldenTest, testing::ValuesIn(FamilyNames()),
                         [](const auto& instance) { return instance.param; });

}  // namespace
}  // namespace ram
