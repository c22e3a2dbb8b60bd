// The same model in every layout a checkpoint may have gives the same tensors.

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "ram/family/fixtures.h"

namespace ram {
namespace {

using Values = std::map<std::string, std::vector<uint8_t>>;

Values AllValues(const Checkpoint& checkpoint, const Catalog& catalog) {
  Values values;
  for (const CatalogTensor& tensor : catalog.tensors) {
    values[tensor.name] = ReadAll(checkpoint, tensor);
  }
  return values;
}

Values AllValues(const Checkpoint& checkpoint) {
  return AllValues(checkpoint, Must(BindCatalog(checkpoint)));
}

// Names of tensors whose values differ, for messages shorter than the values.
std::vector<std::string> Differences(const Values& a, const Values& b) {
  std::vector<std::string> names;
  for (const auto& [name, bytes] : a) {
    const auto other = b.find(name);
    if (other == b.end() || other->second != bytes) names.push_back(name);
  }
  for (const auto& [name, bytes] : b) {
    if (!a.contains(name)) names.push_back(name);
  }
  return names;
}

struct Experts {
  std::string path;  // In the source, e.g. "model.layers.0.mlp.experts".
  uint64_t count;
  uint64_t intermediate;
  uint64_t hidden;
  std::vector<uint8_t> gate;  // [E, I, H], two bytes each.
  std::vector<uint8_t> up;
  std::vector<uint8_t> down;  // [E, H, I]
};

// Takes the experts of all layers out of a checkpoint.
std::vector<Experts> TakeExperts(const Checkpoint& checkpoint, EditableCheckpoint& editable) {
  const Catalog catalog = Must(BindCatalog(checkpoint));
  std::map<int, Experts> layers;
  for (const CatalogTensor& tensor : catalog.tensors) {
    if (tensor.kind != TensorKind::kSwitch) continue;
    Experts& experts = layers[tensor.layer];
    const std::string& source = tensor.views[0].source;
    experts.path = source.substr(0, source.find(".experts") + 8);
    experts.count = tensor.shape[0];
    std::vector<uint8_t> bytes = ReadAll(checkpoint, tensor);
    if (tensor.tensor_class == TensorClass::kExpertDown) {
      experts.hidden = tensor.rows;
      experts.intermediate = tensor.cols;
      experts.down = std::move(bytes);
    } else if (tensor.tensor_class == TensorClass::kExpertUp) {
      experts.up = std::move(bytes);
    } else {
      experts.gate = std::move(bytes);
    }
    for (const SourceView& view : tensor.views) editable.tensors.erase(view.source);
  }
  std::vector<Experts> list;
  for (auto& [layer, experts] : layers) list.push_back(std::move(experts));
  return list;
}

// Matrix [rows, cols] of two-byte elements -> [cols, rows].
std::vector<uint8_t> Transposed(const uint8_t* from, uint64_t rows, uint64_t cols) {
  std::vector<uint8_t> to(rows * cols * 2);
  for (uint64_t r = 0; r < rows; ++r) {
    for (uint64_t c = 0; c < cols; ++c) {
      std::memcpy(&to[(c * rows + r) * 2], from + (r * cols + c) * 2, 2);
    }
  }
  return to;
}

void Append(std::vector<uint8_t>& to, const uint8_t* from, uint64_t count) {
  to.insert(to.end(), from, from + count);
}

void AddFused(EditableCheckpoint& editable, const Experts& experts, bool in_major,
              bool interleaved = false) {
  const uint64_t e = experts.count;
  const uint64_t i = experts.intermediate;
  const uint64_t h = experts.hidden;
  std::vector<uint8_t> gate_up;
  std::vector<uint8_t> down;
  for (uint64_t expert = 0; expert < e; ++expert) {
    std::vector<uint8_t> both;  // [2I, H]
    const uint8_t* gate = experts.gate.data() + expert * i * h * 2;
    const uint8_t* up = experts.up.data() + expert * i * h * 2;
    if (interleaved) {
      for (uint64_t row = 0; row < i; ++row) {
        Append(both, gate + row * h * 2, h * 2);
        Append(both, up + row * h * 2, h * 2);
      }
    } else {
      Append(both, gate, i * h * 2);
      Append(both, up, i * h * 2);
    }
    if (in_major) both = Transposed(both.data(), 2 * i, h);
    Append(gate_up, both.data(), both.size());
    const uint8_t* expert_down = experts.down.data() + expert * h * i * 2;
    if (in_major) {
      const std::vector<uint8_t> turned = Transposed(expert_down, h, i);
      Append(down, turned.data(), turned.size());
    } else {
      Append(down, expert_down, h * i * 2);
    }
  }
  using Shape = std::vector<uint64_t>;
  editable.Add(experts.path + ".gate_up_proj", Dtype::kBF16,
               in_major ? Shape{e, h, 2 * i} : Shape{e, 2 * i, h}, std::move(gate_up));
  editable.Add(experts.path + ".down_proj", Dtype::kBF16,
               in_major ? Shape{e, i, h} : Shape{e, h, i}, std::move(down));
}

void AddPerExpert(EditableCheckpoint& editable, const Experts& experts,
                  const std::vector<std::string>& parts) {
  const uint64_t i = experts.intermediate;
  const uint64_t h = experts.hidden;
  const std::vector<const std::vector<uint8_t>*> data = {&experts.gate, &experts.up, &experts.down};
  for (uint64_t e = 0; e < experts.count; ++e) {
    for (size_t part = 0; part < 3; ++part) {
      const uint8_t* from = data[part]->data() + e * i * h * 2;
      const auto shape = part == 2 ? std::vector<uint64_t>{h, i} : std::vector<uint64_t>{i, h};
      editable.Add(experts.path + "." + std::to_string(e) + "." + parts[part] + ".weight",
                   Dtype::kBF16, shape, {from, from + i * h * 2});
    }
  }
}

class ExpertLayoutTest : public testing::TestWithParam<std::string> {};

TEST_P(ExpertLayoutTest, EveryFormGivesTheSameValues) {
  const std::string family = GetParam();
  const bool interleaved = family == "gpt_oss";
  const std::vector<std::string> parts =
      family == "mixtral" ? std::vector<std::string>{"w1", "w3", "w2"}
                          : std::vector<std::string>{"gate_proj", "up_proj", "down_proj"};
  const Checkpoint original = OpenFixture(family);
  const Values expected = AllValues(original);
  EditableCheckpoint rest = EditableCheckpoint::Load(original);
  const std::vector<Experts> layers = TakeExperts(original, rest);
  ASSERT_FALSE(layers.empty());
  for (const std::string form : {"per expert", "out-major", "in-major"}) {
    EditableCheckpoint editable = rest;
    for (const Experts& experts : layers) {
      if (form == "per expert") {
        AddPerExpert(editable, experts, parts);
      } else {
        AddFused(editable, experts, /*in_major=*/form == "in-major", interleaved);
      }
    }
    const TempDirectory directory("layout");
    EXPECT_EQ(Differences(AllValues(editable.WriteAndOpen(directory.path())), expected),
              std::vector<std::string>{})
        << form;
  }
}

INSTANTIATE_TEST_SUITE_P(Families, ExpertLayoutTest,
                         testing::Values("qwen3_moe", "qwen2_moe", "mixtral", "llama4",
                                         "glm4_moe_lite", "deepseek_v3", "glm4_moe", "gpt_oss",
                                         "qwen3_next", "qwen3_5_moe", "olmoe"),
                         [](const auto& instance) { return instance.param; });

// Every output of ours in 16 bits is a source again, and nothing happens to it twice.
TEST(LayoutTest, ConvertedCheckpointsAreReadAsTheyAre) {
  for (const auto& entry : std::filesystem::directory_iterator(FixturePath(""))) {
    if (!entry.is_directory()) continue;
    const Checkpoint original = Must(Checkpoint::Open(entry.path()));
    const Catalog catalog = Must(BindCatalog(original));
    EditableCheckpoint converted;
    converted.config = Must(OutputConfig(original.config(), catalog));
    for (const CatalogTensor& tensor : catalog.tensors) {
      converted.Add(tensor.name, tensor.dtype, tensor.shape, ReadAll(original, tensor));
    }
    const TempDirectory directory("converted");
    const Checkpoint checkpoint = converted.WriteAndOpen(directory.path());
    const Catalog again = Must(BindCatalog(checkpoint));
    EXPECT_TRUE(again.dropped.empty());
    EXPECT_EQ(Differences(AllValues(checkpoint, again), AllValues(original, catalog)),
              std::vector<std::string>{})
        << entry.path();
  }
}

// H = I: down_proj alone does not show its orientation, gate_up_proj does.
TEST(LayoutTest, SquareLlama4) {
  const uint64_t size = 128;
  const uint64_t experts = 4;
  EditableCheckpoint editable = EditableCheckpoint::Load("llama4");
  editable.config["text_config"]["intermediate_size"] = size;
  for (const std::string layer : {"1", "3"}) {
    const std::string below = "language_model.model.layers." + layer + ".feed_forward.";
    std::vector<uint8_t> gate_up(experts * size * 2 * size * 2);
    std::vector<uint8_t> down(experts * size * size * 2);
    for (size_t at = 0; at < gate_up.size() / 2; ++at) {
      const auto value = static_cast<uint16_t>(at * 7 % 0x7F00);
      std::memcpy(&gate_up[at * 2], &value, 2);
    }
    for (size_t at = 0; at < down.size() / 2; ++at) {
      const auto value = static_cast<uint16_t>(at * 5 % 0x7F00);
      std::memcpy(&down[at * 2], &value, 2);
    }
    editable.Add(below + "experts.gate_up_proj", Dtype::kBF16, {experts, size, 2 * size}, gate_up);
    editable.Add(below + "experts.down_proj", Dtype::kBF16, {experts, size, size}, down);
    for (const std::string part : {"gate_proj", "up_proj", "down_proj"}) {
      editable.Add(below + "shared_expert." + part + ".weight", Dtype::kBF16, {size, size},
                   std::vector<uint8_t>(size * size * 2));
    }
  }
  const TempDirectory directory("square");
  const Checkpoint checkpoint = editable.WriteAndOpen(directory.path());
  const Catalog catalog = Must(BindCatalog(checkpoint));
  const std::string path = "language_model.model.layers.1.feed_forward.experts.";
  const auto value = [&](const std::string& part, uint64_t e, uint64_t row, uint64_t col) {
    const std::vector<uint8_t> bytes =
        ReadAll(checkpoint, TensorNamed(catalog, path + part + ".weight"));
    uint16_t bits;
    std::memcpy(&bits, &bytes[((e * size + row) * size + col) * 2], 2);
    return bits;
  };
  // gate[e, i, h] = gate_up[e, h, i]; up[e, i, h] = gate_up[e, h, I + i]; down[e, h, i] = down[e,
  // i, h].
  const auto at_gate_up = [&](uint64_t e, uint64_t h, uint64_t i) {
    return static_cast<uint16_t>(((e * size + h) * 2 * size + i) * 7 % 0x7F00);
  };
  EXPECT_EQ(value("gate_proj", 2, 5, 100), at_gate_up(2, 100, 5));
  EXPECT_EQ(value("up_proj", 3, 5, 100), at_gate_up(3, 100, size + 5));
  EXPECT_EQ(value("down_proj", 1, 5, 100),
            static_cast<uint16_t>(((size + 100) * size + 5) * 5 % 0x7F00));
}

TEST(LayoutTest, MixtralAsTransformersFiveNamesIt) {
  const Checkpoint original = OpenFixture("mixtral");
  EditableCheckpoint editable = EditableCheckpoint::Load(original);
  std::vector<Experts> layers = TakeExperts(original, editable);
  for (Experts& experts : layers) AddFused(editable, experts, /*in_major=*/false);
  editable.Rename([](std::string name) {
    const size_t at = name.find("block_sparse_moe.");
    return at == std::string::npos ? name : name.replace(at, 17, "mlp.");
  });
  const TempDirectory directory("mixtral");
  EXPECT_EQ(Differences(AllValues(editable.WriteAndOpen(directory.path())), AllValues(original)),
            std::vector<std::string>{});
}

// The text model of gemma3 beside its vision tower, as both generations of transformers name it.
TEST(LayoutTest, Gemma3AroundItsTextModel) {
  const Checkpoint text = OpenFixture("gemma3_text");
  const Values expected = AllValues(text);
  for (const std::string root : {"language_model.model.", "model.language_model."}) {
    EditableCheckpoint editable = EditableCheckpoint::Load(text);
    editable.Rename([&](const std::string& name) { return root + name.substr(6); });
    editable.config = {{"model_type", "gemma3"}, {"text_config", text.config()}};
    editable.Add("vision_tower.x.weight", Dtype::kBF16, {2, 2}, std::vector<uint8_t>(8));
    editable.Add("model.multi_modal_projector.y", Dtype::kBF16, {2}, std::vector<uint8_t>(4));
    const TempDirectory directory("gemma3");
    const Checkpoint checkpoint = editable.WriteAndOpen(directory.path());
    const Catalog catalog = Must(BindCatalog(checkpoint));
    EXPECT_EQ(catalog.dropped.size(), 2u);
    EXPECT_TRUE(catalog.tied);
    Values values;
    for (const auto& [name, bytes] : AllValues(checkpoint, catalog)) {
      ASSERT_TRUE(name.starts_with("language_model."));
      values[name.substr(15)] = bytes;
    }
    EXPECT_EQ(Differences(values, expected), std::vector<std::string>{}) << root;
  }
}

TEST(LayoutTest, Gemma3WithAHeadOfItsOwn) {
  EditableCheckpoint editable = EditableCheckpoint::Load("gemma3_text");
  editable.Add("lm_head.weight", Dtype::kBF16, {256, 128}, std::vector<uint8_t>(256 * 128 * 2));
  const TempDirectory directory("head");
  const Catalog catalog = Must(BindCatalog(editable.WriteAndOpen(directory.path())));
  EXPECT_FALSE(catalog.tied);
  EXPECT_EQ(catalog.tensors.back().name, "lm_head.weight");
  // The output's config says so, since nothing else tells a reader of the config alone.
  const Json output = Must(OutputConfig(editable.config, catalog));
  EXPECT_EQ(output["tie_word_embeddings"], false);
  EXPECT_EQ(Must(BuildCatalog(output)).tensors.size(), catalog.tensors.size());
}

TEST(LayoutTest, TextModelOfQwen35) {
  const Checkpoint whole = OpenFixture("qwen3_5_moe");
  EditableCheckpoint editable = EditableCheckpoint::Load(whole);
  editable.config = Json(whole.config()["text_config"]);
  std::erase_if(editable.tensors,
                [](const auto& entry) { return entry.first.starts_with("model.visual."); });
  editable.Rename([](std::string name) {
    const size_t at = name.find("language_model.");
    return at == std::string::npos ? name : name.erase(at, 15);
  });
  const TempDirectory directory("text");
  EXPECT_EQ(Differences(AllValues(editable.WriteAndOpen(directory.path())), AllValues(whole)),
            std::vector<std::string>{});
}

// mlx-lm has no tied head for these families; the embedding is stored twice then.
TEST(LayoutTest, TiedCheckpointOfAFamilyThatIsNeverTied) {
  EditableCheckpoint editable = EditableCheckpoint::Load("qwen2_moe");
  editable.config["tie_word_embeddings"] = true;
  editable.Take("lm_head.weight");
  const TempDirectory directory("twice");
  const Checkpoint checkpoint = editable.WriteAndOpen(directory.path());
  const Catalog catalog = Must(BindCatalog(checkpoint));
  EXPECT_EQ(catalog.notes.size(), 1u);
  EXPECT_EQ(Must(OutputConfig(checkpoint.config(), catalog))["tie_word_embeddings"], false);
  EXPECT_EQ(ReadAll(checkpoint, TensorNamed(catalog, "lm_head.weight")),
            ReadAll(checkpoint, TensorNamed(catalog, "model.embed_tokens.weight")));
}

}  // namespace
}  // namespace ram
