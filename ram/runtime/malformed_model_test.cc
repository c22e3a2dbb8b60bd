// Models that were changed at random: configs that contradict their tensors, tensors of other
// shapes and types, broken headers, truncated files. Each is an error of one sentence, or runs.
// What matters is what does not happen: under sanitizers, no access outside, no overflow, no crash.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "ram/family/fixtures.h"
#include "ram/family/graph.h"
#include "ram/quant/test_weights.h"
#include "ram/runtime/forward.h"
#include "ram/runtime/in_major_packer.h"
#include "ram/runtime/loaded_weights.h"
#include "ram/runtime/mlx_folder.h"

namespace ram {
namespace {

namespace fs = std::filesystem;

// Numbers that depend on nothing but the seed.
class Dice {
 public:
  explicit Dice(uint64_t seed) : seed_(seed) {}
  uint64_t Below(uint64_t end) { return RandomBits(seed_, next_++) % end; }
  template <typename List>
  const auto& OneOf(const List& list) {
    return *std::next(std::begin(list), static_cast<std::ptrdiff_t>(Below(std::size(list))));
  }

 private:
  uint64_t seed_;
  uint64_t next_ = 0;
};

// All values below `json`, objects and arrays too.
void Collect(Json& json, std::vector<Json*>* values) {
  if (!json.is_structured()) return;
  for (Json& value : json) {
    values->push_back(&value);
    Collect(value, values);
  }
}

Json OtherValue(const Json& value, Dice& dice) {
  if (value.is_number_integer() && dice.Below(3) > 0) {
    const auto number = static_cast<uint64_t>(value.get<int64_t>());  // May wrap.
    const uint64_t near_bits[] = {number + 1, number - 1, number * 2,
                                  number / 2, number * 3, 0 - number};
    return static_cast<int64_t>(dice.OneOf(near_bits));
  }
  const Json kOthers[] = {0,
                          1,
                          -1,
                          3,
                          32,
                          0.5,
                          -1e30,
                          1e300,
                          int64_t{1} << 31,
                          std::numeric_limits<int64_t>::min(),
                          "x",
                          "gptq",
                          true,
                          false,
                          nullptr,
                          Json::array(),
                          Json::object(),
                          Json::array({1, "x"}),
                          {{"bits", 4}}};
  return dice.OneOf(kOthers);
}

void ChangeConfig(Json& config, Dice& dice) {
  std::vector<Json*> values;
  Collect(config, &values);
  Json& value = *dice.OneOf(values);
  if (dice.Below(8) == 0 && value.is_object() && !value.empty()) {
    value.erase(std::next(value.begin(), static_cast<std::ptrdiff_t>(dice.Below(value.size()))));
  } else {
    value = OtherValue(value, dice);
  }
}

uint64_t BytesOf(const TensorSpec& spec) {
  uint64_t elements = 1;
  for (const uint64_t size : spec.shape) elements *= size;
  return elements * static_cast<uint64_t>(BitsOf(spec.dtype)) / 8;
}

// The file stays a good one; the model may not.
void ChangeTensors(EditableCheckpoint& model, Dice& dice) {
  const std::string name = dice.OneOf(model.tensors).first;
  TensorWithBytes tensor = model.Take(name);
  constexpr Dtype kDtypes[] = {Dtype::kBF16, Dtype::kF16, Dtype::kF32,    Dtype::kU8,
                               Dtype::kU32,  Dtype::kI32, Dtype::kF8E4M3, Dtype::kF64};
  std::vector<uint64_t>& shape = tensor.spec.shape;
  if (shape.empty() || shape.back() == 0) return;  // Gone too: changed twice.
  switch (dice.Below(9)) {
    case 0:
      return;  // Gone.
    case 1:
      tensor.spec.name = dice.OneOf(model.tensors).first;
      break;
    case 2:
      tensor.spec.name += dice.OneOf(std::vector<std::string>{".scales", ".bias", "_scale_inv"});
      break;
    case 3:
      tensor.spec.dtype = dice.OneOf(kDtypes);
      break;
    case 4:
      std::ranges::reverse(shape);
      break;
    case 5:
      shape.push_back(dice.Below(3));
      break;
    case 6:
      shape.pop_back();
      break;
    case 7:
      shape.back() = dice.Below(2 * shape.back());
      break;
    default:
      for (int i = 0; i < 100 && !tensor.bytes.empty(); ++i) {
        tensor.bytes[dice.Below(tensor.bytes.size())] = static_cast<uint8_t>(dice.Below(256));
      }
  }
  tensor.bytes.resize(BytesOf(tensor.spec), 0x3F);
  model.tensors[tensor.spec.name] = tensor;
}

void ChangeBytes(std::string& file, Dice& dice) {
  const uint64_t header = 8 + file.find("}}");
  if (dice.Below(3) == 0) {
    file.resize(dice.Below(file.size()));
    return;
  }
  for (uint64_t i = dice.Below(4) + 1; i > 0; --i) {
    file[dice.Below(header)] = static_cast<char>(dice.Below(128));
  }
}

// Opens, loads and runs a model as far as it goes; true if it ran.
bool RunsOrRefuses(const fs::path& directory, ThreadPool& pool) {
  const auto refuse = [](const Error& error) {
    EXPECT_FALSE(error.message.empty());
    EXPECT_LT(error.message.size(), 1000u) << error.message;
    EXPECT_EQ(error.message.find('\n'), std::string::npos) << error.message;
    EXPECT_TRUE(error.code == ErrorCode::kCorrupt || error.code == ErrorCode::kUnsupported ||
                error.code == ErrorCode::kNotFound)
        << error.message;
    return false;
  };
  const auto checkpoint = Checkpoint::Open(directory);
  if (!checkpoint) return refuse(checkpoint.error());
  const auto source = WeightSource::Open(*checkpoint, Numerics::kHf);
  if (!source) return refuse(source.error());
  for (int layer = -1; layer < (*source)->catalog().num_layers; ++layer) {
    const auto loaded = (*source)->Load(layer, &pool);
    if (!loaded) return refuse(loaded.error());
    EXPECT_EQ(loaded->bytes(), (*source)->LoadedBytes(layer));
  }
  auto graph = BuildGraph(checkpoint->config(), Numerics::kHf);
  if (!graph) return refuse(graph.error());
  const auto model = ResidentModel::Load(*std::move(graph), **source, &pool);
  if (!model) return refuse(model.error());
  const std::vector<int32_t> ids = {0, 1, 0};
  if (!CheckIds(model->graph(), ids)) return false;
  const auto engine = MakeReferenceEngine(&pool);
  Scratch scratch(*engine);
  const auto rows = engine->Allocate(ids.size(), model->graph().hidden);
  model->Run(*engine, ids, {}, {}, scratch, rows->rows());
  return true;
}

struct Start {
  std::string name;
  EditableCheckpoint model;
};

// One of every kind of source; small, since most of the time goes into writing them.
std::vector<Start> Starts() {
  std::vector<Start> starts;
  for (const char* family : {"llama", "qwen3_moe", "deepseek_v3_fp8", "gpt_oss_mxfp4", "qwen3_next",
                             "llama4", "gemma3_text", "phi3"}) {
    starts.push_back({family, EditableCheckpoint::Load(family)});
  }
  starts.push_back({"mlx", MakeMlxFolder(OpenFixture("qwen3_moe"), Choice::Affine(4, 32))});
  starts.push_back({"mlx mxfp4", MakeMlxFolder(OpenFixture("gpt_oss_mxfp4"), Choice::Mxfp4(),
                                               [](const CatalogTensor& tensor) {
                                                 return tensor.encoding == Encoding::kMxfp4
                                                            ? Choice::Mxfp4()
                                                            : Choice::Affine(8, 64);
                                               })});
  starts.push_back({"gptq", PackModel("deepseek_v3", {.order = Order::kShuffled}).packed});
  starts.push_back({"awq", PackModel("qwen2", {.awq = true}).packed});
  return starts;
}

class MalformedModelTest : public testing::Test {
 protected:
  // Runs `num` models made by `change(start, directory, dice)`.
  template <typename Change>
  void ForMany(uint64_t num, const Change& change) {
    uint64_t ran = 0;
    uint64_t seed = 1;
    for (const Start& start : Starts()) {
      const TempDirectory directory("malformed");
      start.model.Write(directory.path());
      ASSERT_TRUE(RunsOrRefuses(directory.path(), pool_)) << start.name;
      for (uint64_t i = 0; i < num; ++i, ++seed) {
        SCOPED_TRACE(start.name + ", seed " + std::to_string(seed));
        Dice dice(seed);
        change(start.model, directory.path(), dice);
        ran += RunsOrRefuses(directory.path(), pool_) ? 1 : 0;
      }
    }
    EXPECT_LT(ran, seed / 2);  // Most changes are not harmless.
  }

  ThreadPool pool_{2};
};

TEST_F(MalformedModelTest, ConfigsThatContradictTheirTensors) {
  ForMany(60, [](const EditableCheckpoint& model, const fs::path& directory, Dice& dice) {
    Json config = model.config;
    for (uint64_t changes = dice.Below(2) + 1; changes > 0; --changes) ChangeConfig(config, dice);
    WriteText(directory / "config.json", config.dump());
  });
}

TEST_F(MalformedModelTest, TensorsThatContradictTheConfig) {
  ForMany(10, [](EditableCheckpoint model, const fs::path& directory, Dice& dice) {
    for (uint64_t changes = dice.Below(2) + 1; changes > 0; --changes) ChangeTensors(model, dice);
    model.Write(directory);
  });
}

TEST_F(MalformedModelTest, BrokenFiles) {
  std::map<std::string, std::string> files;  // By the path of the directory.
  ForMany(10, [&](const EditableCheckpoint&, const fs::path& directory, Dice& dice) {
    std::string& good = files[directory];
    const fs::path path = directory / "model.safetensors";
    if (good.empty()) good = Must(ReadFile(path, uint64_t{1} << 30));
    std::string file = good;
    ChangeBytes(file, dice);
    WriteText(path, file);
  });
}

}  // namespace
}  // namespace ram
