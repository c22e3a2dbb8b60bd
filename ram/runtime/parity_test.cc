// The forward pass of every family against golden logits that transformers computed
// (tests/data/families, tests/data/family_options), on every engine that this machine has.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ram/base/file.h"
#include "ram/checkpoint/safetensors.h"
#include "ram/family/fixtures.h"
#include "ram/family/graph.h"
#include "ram/runtime/forward.h"

namespace ram {
namespace {

namespace fs = std::filesystem;

constexpr size_t kLastPositions = 8;

// ---- What is run ----

struct Case {
  std::string folder;  // Below tests/data.
  std::string engine;  // "reference", or an instruction set.
};

void PrintTo(const Case& test_case, std::ostream* out) {
  *out << test_case.folder << " on " << test_case.engine;
}

std::vector<std::string> Engines() {
  std::vector<std::string> engines = {"reference"};
  for (std::string& isa : CpuInstructionSets()) engines.push_back(std::move(isa));
  return engines;
}

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const std::string_view group : {"families", "family_options"}) {
    const fs::path root = fs::path(RAM_TEST_DATA_DIR) / group;
    std::vector<std::string> names;
    if (!fs::exists(root)) continue;
    for (const fs::directory_entry& entry : fs::directory_iterator(root)) {
      if (fs::exists(entry.path() / "golden.safetensors"))
        names.push_back(entry.path().filename().string());
    }
    std::ranges::sort(names);
    for (const std::string& engine : Engines()) {
      for (const std::string& name : names)
        cases.push_back({std::string(group) + "/" + name, engine});
    }
  }
  return cases;
}

std::string CaseName(const ::testing::TestParamInfo<Case>& info) {
  std::string name = info.param.folder + "_" + info.param.engine;
  for (char& c : name) {
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  }
  return name;
}

// ---- Golden data ----

struct Golden {
  std::map<std::string, std::vector<float>> floats;
  std::map<std::string, std::vector<int32_t>> ints;

  std::string variant() const {  // "" or what mlx-lm differs in.
    for (const auto& [name, values] : floats) {
      const size_t dot = name.find(".logits.");
      if (dot != std::string::npos) return name.substr(0, dot);
    }
    return "";
  }
};

Golden ReadGolden(const fs::path& path) {
  const File file = Must(File::OpenForReading(path));
  const SafetensorsHeader header = Must(ReadSafetensorsHeader(file));
  Golden golden;
  for (const TensorInfo& info : header.tensors) {
    std::vector<uint8_t> bytes(info.num_bytes);
    Must(file.ReadAt(info.offset, bytes));
    const size_t count = bytes.size() / 4;
    if (info.dtype == Dtype::kF32) {
      std::memcpy((golden.floats[info.name] = std::vector<float>(count)).data(), bytes.data(),
                  bytes.size());
    } else {
      std::memcpy((golden.ints[info.name] = std::vector<int32_t>(count)).data(), bytes.data(),
                  bytes.size());
    }
  }
  return golden;
}

// ---- Running ----

struct Model {
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<WeightSource> source;
  std::unique_ptr<ResidentModel> resident;
};

Model LoadModel(const fs::path& folder, Numerics numerics, ThreadPool& pool) {
  Model model;
  model.checkpoint = std::make_unique<Checkpoint>(Must(Checkpoint::Open(folder)));
  model.source = Must(WeightSource::Open(*model.checkpoint, numerics));
  Graph graph = Must(BuildGraph(model.checkpoint->config(), numerics));
  model.resident = std::make_unique<ResidentModel>(
      Must(ResidentModel::Load(std::move(graph), *model.source, &pool)));
  return model;
}

std::unique_ptr<Engine> MakeEngine(const std::string& name, ThreadPool& pool) {
  if (name == "reference") return MakeReferenceEngine(&pool);
  return Must(MakeCpuEngine(&pool, {.isa = name}));
}

struct Outputs {
  std::vector<HeadResult> heads;  // Of every position.
  std::vector<float> logits;      // Of all positions [ids, vocabulary].
};

// All outputs for one sequence; tokens come in calls of `chunk` (0: all in one call, without
// state).
Outputs RunSequence(Engine& engine, const ResidentModel& model, const std::vector<int32_t>& ids,
                    size_t chunk) {
  const uint64_t hidden = model.graph().hidden;
  const uint64_t vocabulary = model.graph().vocabulary;
  Scratch scratch(engine);
  const auto rows = engine.Allocate(ids.size(), hidden);
  if (chunk == 0) {
    model.Run(engine, ids, {}, {}, scratch, rows->rows());
  } else {
    SequenceState state = MakeSequenceState(model.graph(), Dtype::kF32);
    SequenceState* const states = &state;
    for (size_t first = 0; first < ids.size(); first += chunk) {
      const size_t num = std::min(chunk, ids.size() - first);
      const Segment segment = {0, num, first};
      model.Run(engine, std::span(ids).subspan(first, num), {&segment, 1}, {&states, 1}, scratch,
                rows->rows().slice(first, num));
    }
  }
  Outputs outputs;
  std::vector<int32_t> targets(ids.begin() + 1, ids.end());
  targets.push_back(-1);
  outputs.heads.resize(ids.size());
  engine.Head(rows->rows(), model.ends().head(), model.ends().logit_softcap(), targets,
              outputs.heads);
  const auto logits = engine.Allocate(ids.size(), vocabulary);
  engine.Logits(rows->rows(), model.ends().head(), model.ends().logit_softcap(), logits->rows());
  for (size_t r = 0; r < ids.size(); ++r) {
    const float* row = logits->rows().row(r);
    outputs.logits.insert(outputs.logits.end(), row, row + vocabulary);
  }
  return outputs;
}

float LargestDifference(std::span<const float> a, std::span<const float> b) {
  EXPECT_EQ(a.size(), b.size());
  float largest = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    if (!(std::abs(a[i] - b[i]) <= largest)) largest = std::abs(a[i] - b[i]);
  }
  return largest;
}

std::span<const float> Last(const Outputs& outputs) {
  const size_t vocabulary = outputs.logits.size() / outputs.heads.size();
  return std::span(outputs.logits).last(kLastPositions * vocabulary);
}

std::vector<float> Nlls(const Outputs& outputs) {
  std::vector<float> nlls;
  for (size_t i = 0; i + 1 < outputs.heads.size(); ++i) nlls.push_back(outputs.heads[i].nll);
  return nlls;
}

class ParityTest : public ::testing::TestWithParam<Case> {
 protected:
  fs::path folder() const { return fs::path(RAM_TEST_DATA_DIR) / GetParam().folder; }

  // Rounding of transformers' own f32 run is 1.5e-4 in families with delta nets, else 4e-5.
  static float Tolerance(const Graph& graph) { return HasMixer<DeltaGraph>(graph) ? 5e-4F : 2e-4F; }
  template <class Mixer>
  static bool HasMixer(const Graph& graph) {
    return std::ranges::any_of(graph.layers, [](const LayerGraph& layer) {
      return std::holds_alternative<Mixer>(layer.mixer);
    });
  }

  ThreadPool pool_{2};
};

TEST_P(ParityTest, EqualsTransformers) {
  const Golden golden = ReadGolden(folder() / "golden.safetensors");
  const Model model = LoadModel(folder(), Numerics::kHf, pool_);
  const auto engine = MakeEngine(GetParam().engine, pool_);
  const float tolerance = Tolerance(model.resident->graph());
  for (const std::string s : {".0", ".1"}) {
    if (!golden.ints.contains("ids" + s)) continue;
    const Outputs outputs = RunSequence(*engine, *model.resident, golden.ints.at("ids" + s), 0);
    EXPECT_LE(LargestDifference(Last(outputs), golden.floats.at("logits" + s)), tolerance) << s;
    EXPECT_LE(LargestDifference(Nlls(outputs), golden.floats.at("nll" + s)), tolerance) << s;
    std::vector<int32_t> argmax;
    for (const HeadResult& head : outputs.heads)
      argmax.push_back(static_cast<int32_t>(head.argmax));
    EXPECT_EQ(argmax, golden.ints.at("argmax" + s));
  }
}

TEST_P(ParityTest, EqualsMlxWithItsNumerics) {
  const Golden golden = ReadGolden(folder() / "golden.safetensors");
  if (golden.floats.contains("hf_only")) GTEST_SKIP() << "mlx-lm has no such option";
  const Model model = LoadModel(folder(), Numerics::kMlx, pool_);
  const auto engine = MakeEngine(GetParam().engine, pool_);
  const std::string variant = golden.variant();
  const std::string prefix = variant.empty() ? "" : variant + ".";
  for (const std::string s : {".0", ".1"}) {
    if (!golden.ints.contains("ids" + s)) continue;
    const Outputs outputs = RunSequence(*engine, *model.resident, golden.ints.at("ids" + s), 0);
    EXPECT_LE(LargestDifference(Last(outputs), golden.floats.at(prefix + "logits" + s)),
              Tolerance(model.resident->graph()))
        << variant << s;
  }
}

// A sequence with a past against one call without; where a family's frequencies change with its
// length, as in transformers, there is no such thing.
class DecodingTest : public ParityTest {
 protected:
  void SetUp() override {
    const Golden golden = ReadGolden(folder() / "golden.safetensors");
    ids_ = golden.ints.at(golden.ints.contains("ids.1") ? "ids.1" : "ids.0");
    model_ = LoadModel(folder(), Numerics::kHf, pool_);
    const auto is_long = [&](const LayerGraph& layer) {
      const auto* attention = std::get_if<AttentionGraph>(&layer.mixer);
      return attention != nullptr && !attention->rope.long_inv_freq.empty() &&
             ids_.size() > attention->rope.long_from;
    };
    if (std::ranges::any_of(model_.resident->graph().layers, is_long))
      GTEST_SKIP() << "frequencies change with the length of the sequence";
    engine_ = MakeEngine(GetParam().engine, pool_);
    whole_ = RunSequence(*engine_, *model_.resident, ids_, 0);
  }

  // Of calls of `chunk`.
  void ExpectNear(size_t chunk, float tolerance) {
    const Outputs parts = RunSequence(*engine_, *model_.resident, ids_, chunk);
    EXPECT_LE(LargestDifference(whole_.logits, parts.logits), tolerance) << chunk;
    EXPECT_LE(LargestDifference(Nlls(whole_), Nlls(parts)), tolerance) << chunk;
  }

  std::vector<int32_t> ids_;
  Model model_;
  std::unique_ptr<Engine> engine_;
  Outputs whole_;
};

// Token by token, and in pieces that windows, chunks and convolutions cross. The reference keeps
// 1e-5. In f32 products of few rows sum in another order than those of many, and delta nets another
// at other cuts: that differs by about what either is from f64 (up to 4e-5, 1.5e-4 with delta nets,
// at logits that span 18; the same that transformers' f32 is), below 1e-5 of the range of the
// logits, twice that with delta nets.
TEST_P(DecodingTest, EqualsOneCall) {
  const auto [low, high] = std::ranges::minmax(whole_.logits);
  const float of_range = HasMixer<DeltaGraph>(model_.resident->graph()) ? 2e-5F : 1e-5F;
  const float tolerance = GetParam().engine == "reference" ? 1e-5F : of_range * (high - low);
  for (const size_t chunk : {size_t{1}, size_t{7}, ids_.size()}) ExpectNear(chunk, tolerance);
}

// Nothing else differs: two calls of many rows give the bits of one. But latent attention computes
// the same numbers in two ways, with a past and without, and halves are not where chunks of delta
// nets begin (delta_net_test.cc has the bits where they do).
TEST_P(DecodingTest, HalvesGiveTheBitsOfOneCall) {
  const Graph& graph = model_.resident->graph();
  float tolerance = 0;
  if (HasMixer<LatentGraph>(graph) || HasMixer<DeltaGraph>(graph)) tolerance = 3e-5F;
  if (GetParam().engine == "reference") tolerance = HasMixer<LatentGraph>(graph) ? 1e-5F : 0.0F;
  ExpectNear((ids_.size() + 1) / 2, tolerance);
}

// Neither the other sequences of a batch nor the threads change a bit.
TEST_P(ParityTest, BatchAndThreadsChangeNothing) {
  const Golden golden = ReadGolden(folder() / "golden.safetensors");
  const Model model = LoadModel(folder(), Numerics::kHf, pool_);
  const auto engine = MakeEngine(GetParam().engine, pool_);
  ThreadPool one_thread(1);
  const auto single = MakeEngine(GetParam().engine, one_thread);
  const std::vector<int32_t>& first = golden.ints.at("ids.0");
  const std::vector<int32_t>& second = golden.ints.at("ids.1");
  const uint64_t hidden = model.resident->graph().hidden;

  std::vector<int32_t> both = first;
  both.insert(both.end(), second.begin(), second.end());
  const Segment segments[] = {{0, first.size(), 0}, {first.size(), second.size(), 0}};
  const auto together = engine->Allocate(both.size(), hidden);
  Scratch scratch(*engine);
  model.resident->Run(*engine, both, segments, {}, scratch, together->rows());
  Scratch single_scratch(*single);
  for (const Segment& segment : segments) {
    const auto ids = std::span(both).subspan(segment.first_row, segment.num_rows);
    const auto alone = single->Allocate(ids.size(), hidden);
    model.resident->Run(*single, ids, {}, {}, single_scratch, alone->rows());
    for (uint64_t r = 0; r < ids.size(); ++r) {
      ASSERT_EQ(0, std::memcmp(alone->rows().row(r), together->rows().row(segment.first_row + r),
                               hidden * sizeof(float)))
          << "row " << r << " of " << ids.size();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, ParityTest, ::testing::ValuesIn(Cases()), CaseName);
INSTANTIATE_TEST_SUITE_P(All, DecodingTest, ::testing::ValuesIn(Cases()), CaseName);

}  // namespace
}  // namespace ram
