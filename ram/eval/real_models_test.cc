// Real trained models against numbers that others computed: transformers in f64, a numpy program in
// f64, and the text that the authors of a model publish.

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>

#include "ram/checkpoint/checkpoint.h"
#include "ram/checkpoint/testing.h"
#include "ram/eval/score_windows.h"
#include "ram/eval/scored_logits.h"
#include "ram/eval/windows.h"
#include "ram/runtime/evaluate.h"
#include "ram/runtime/generate.h"
#include "ram/text/tokenizer.h"

namespace ram {
namespace {

namespace fs = std::filesystem;

const fs::path kModels = fs::path(RAM_SOURCE_DIR) / "models";
const fs::path kTestData = RAM_TEST_DATA_DIR;

std::string ReadText(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  EXPECT_TRUE(in) << path;
  return text.str();
}

struct Model {
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<WeightSource> source;
  Graph graph;
};

Model OpenModel(const fs::path& folder) {
  Model model;
  auto checkpoint = Checkpoint::Open(folder);
  EXPECT_TRUE(checkpoint) << checkpoint.error().message;
  model.checkpoint = std::make_unique<Checkpoint>(*std::move(checkpoint));
  auto source = WeightSource::Open(*model.checkpoint, Numerics::kHf);
  EXPECT_TRUE(source) << source.error().message;
  model.source = *std::move(source);
  auto graph = BuildGraph(model.checkpoint->config(), Numerics::kHf);
  EXPECT_TRUE(graph) << graph.error().message;
  model.graph = *std::move(graph);
  return model;
}

TokenIds Encode(const fs::path& folder, const std::string& text, bool add_special) {
  const auto tokenizer = Tokenizer::Open(folder);
  EXPECT_TRUE(tokenizer) << tokenizer.error().message;
  const auto ids = tokenizer->Encode(text, add_special);
  EXPECT_TRUE(ids);
  return *ids;
}

// Runs of `length` tokens, the last one shorter. `shared`: each ends with the first of the next.
std::vector<TokenIds> Chunks(const TokenIds& ids, size_t length, size_t shared = 0) {
  std::vector<TokenIds> chunks;
  for (size_t first = 0; first < ids.size(); first += length) {
    const size_t end = std::min(ids.size(), first + length + shared);
    chunks.emplace_back(ids.begin() + static_cast<std::ptrdiff_t>(first),
                        ids.begin() + static_cast<std::ptrdiff_t>(end));
  }
  return chunks;
}

// One token for each character, <unk> for those that are none. tokenizer.json joins neighbouring
// unknown characters; the program that made the golden number of babyllama did not.
TokenIds EncodeCharacters(const fs::path& folder, const std::string& text) {
  const auto tokenizer = Tokenizer::Open(folder);
  EXPECT_TRUE(tokenizer);
  TokenIds ids = {*tokenizer->bos_id()};
  const std::string spaced = " " + text;
  for (size_t at = 0; at < spaced.size();) {
    size_t end = at + 1;
    while (end < spaced.size() && (static_cast<uint8_t>(spaced[end]) & 0xC0) == 0x80) ++end;
    const std::string character = spaced.substr(at, end - at);
    ids.push_back(tokenizer->FindToken(character == " " ? "\u2581" : character).value_or(0));
    at = end;
  }
  return ids;
}

struct EvaluateSettings {
  std::string isa;
  size_t threads = 2;
  uint64_t memory_bytes = 0;
};

std::vector<SequenceScore> Score(const Model& model, const std::vector<TokenIds>& sequences,
                                 const EvaluateSettings& settings) {
  ThreadPool pool(settings.threads);
  auto engine = MakeCpuEngine(&pool, {.precision = Precision::kF32, .isa = settings.isa});
  EXPECT_TRUE(engine) << engine.error().message;
  std::vector<uint64_t> lengths;
  for (const TokenIds& ids : sequences) lengths.push_back(ids.size());
  const auto plan =
      PlanEvaluation(*model.source, model.graph, **engine, lengths, settings.memory_bytes);
  EXPECT_TRUE(plan) << plan.error().message;
  const TempDirectory scratch("evaluate");
  Evaluator evaluator(**engine, *model.source, model.graph, *plan, scratch.path());
  std::vector<SequenceScore> scores(sequences.size());
  const Status status = evaluator.Run(sequences, {}, {}, MakeScorer(**engine, sequences, scores));
  EXPECT_TRUE(status) << status.error().message;
  return scores;
}

double MeanNll(const std::vector<SequenceScore>& scores) {
  double sum = 0;
  double count = 0;
  for (const SequenceScore& score : scores) {
    for (const float nll : score.nll) sum += static_cast<double>(nll);
    count += static_cast<double>(score.nll.size());
  }
  return sum / count;
}

class RealModelsTest : public ::testing::TestWithParam<std::string> {};

INSTANTIATE_TEST_SUITE_P(InstructionSets, RealModelsTest, ::testing::ValuesIn(CpuInstructionSets()),
                         [](const auto& param_info) {
                           std::string name = param_info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// transformers 5.23 in f64 (models/README.md).
TEST_P(RealModelsTest, MoeWindowsEqualTransformers) {
  const fs::path folder = kModels / "moe-8x";
  const TokenIds ids =
      Encode(folder, ReadText(fs::path(RAM_SOURCE_DIR) / "data/wikitext-2/test.txt"), false);
  EXPECT_EQ(ids.size(), 458457);
  std::vector<TokenIds> windows = Chunks(ids, 2048);
  constexpr double kGolden[] = {3.830393693980, 3.988222090673};
  windows.resize(std::size(kGolden));
  const auto scores = Score(OpenModel(folder), windows, {.isa = GetParam()});
  for (size_t w = 0; w < std::size(kGolden); ++w) {
    EXPECT_NEAR(MeanNll({scores[w]}), kGolden[w], 2e-6) << "window " << w;
  }
}

// A numpy program in f64; the beginning of the text has a beginning-of-sequence token.
TEST_P(RealModelsTest, SmallLlamasEqualNumpy) {
  const std::string text = ReadText(kTestData / "wikitext/first_20000.txt");
  struct Golden {
    fs::path folder;
    size_t context;
    bool by_character;
    size_t num_tokens;
    double nll;
  };
  for (const Golden& golden : {Golden{kTestData / "stories260K", 512, false, 12389, 4.701912},
                               Golden{kModels / "babyllama-105", 256, true, 20001, 3.087618}}) {
    const TokenIds ids = golden.by_character ? EncodeCharacters(golden.folder, text)
                                             : Encode(golden.folder, text, true);
    EXPECT_EQ(ids.size(), golden.num_tokens + 1);
    Model model = OpenModel(golden.folder);
    // A chunk predicts the first token of the next, which it does not read.
    EXPECT_EQ(model.graph.max_context, golden.context);
    ++model.graph.max_context;
    const auto scores = Score(model, Chunks(ids, golden.context, 1), {.isa = GetParam()});
    EXPECT_NEAR(MeanNll(scores), golden.nll, 1e-5) << golden.folder;
  }
}

TEST(StreamingTest, LittleMemoryAndThreadsDoNotChangeABit) {
  const fs::path folder = kModels / "moe-8x";
  const TokenIds ids = Encode(folder, ReadText(kTestData / "wikitext/first_20000.txt"), false);
  const std::vector<TokenIds> sequences = Chunks(ids, 300);
  const Model model = OpenModel(folder);
  const auto whole = Score(model, sequences, {});
  ThreadPool pool(1);
  auto engine = MakeCpuEngine(&pool, {});
  ASSERT_TRUE(engine);
  std::vector<uint64_t> lengths;
  for (const TokenIds& one : sequences) lengths.push_back(one.size());
  // The least bound that is accepted, to a MiB.
  uint64_t least = uint64_t{1} << 20;
  while (!PlanEvaluation(*model.source, model.graph, **engine, lengths, least)) {
    least += uint64_t{1} << 20;
  }
  const auto plan = PlanEvaluation(*model.source, model.graph, **engine, lengths, least);
  EXPECT_TRUE(plan->hidden_in_file);
  EXPECT_EQ(plan->weights.num_resident, 0);
  const auto streamed = Score(model, sequences, {.isa = "", .threads = 1, .memory_bytes = least});
  ASSERT_EQ(streamed.size(), whole.size());
  for (size_t s = 0; s < whole.size(); ++s) {
    EXPECT_EQ(streamed[s].nll, whole[s].nll) << "sequence " << s;
    EXPECT_EQ(streamed[s].argmax, whole[s].argmax);
  }
  const auto refused = PlanEvaluation(*model.source, model.graph, **engine, lengths, 1 << 20);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kNoSpace);
}

// The 200 greedy tokens that the author's own program prints.
TEST(GenerateTest, StoriesContinuesAsPublished) {
  const fs::path folder = kTestData / "stories260K";
  const auto tokenizer = Tokenizer::Open(folder);
  ASSERT_TRUE(tokenizer);
  const Model model = OpenModel(folder);
  ThreadPool pool(2);
  auto engine = MakeCpuEngine(&pool, {});
  ASSERT_TRUE(engine);
  const TokenIds prompt = {*tokenizer->bos_id()};
  GenerateOptions options;
  options.max_tokens = 200;
  const auto result =
      Generate(**engine, *model.source, model.graph, {&prompt, 1}, options, {}, nullptr, nullptr);
  ASSERT_TRUE(result) << result.error().message;
  const std::string expected = ReadText(kTestData / "stories260K/greedy_n200.expected.txt");
  const std::string text = tokenizer->Decode((*result)[0], true);
  // That program's step 200 makes token 199.
  EXPECT_EQ(text.substr(0, expected.size() - 1), expected.substr(0, expected.size() - 1));
}

TEST(GenerateTest, SequencesDoNotDependOnEachOtherOrOnMemory) {
  const fs::path folder = kModels / "moe-8x";
  const Model model = OpenModel(folder);
  ThreadPool pool(2);
  auto engine = MakeCpuEngine(&pool, {});
  ASSERT_TRUE(engine);
  const TokenIds ids = Encode(folder, ReadText(kTestData / "wikitext/first_20000.txt"), false);
  const std::vector<TokenIds> prompts = Chunks(TokenIds(ids.begin(), ids.begin() + 260), 70);
  GenerateOptions options;
  options.max_tokens = 12;
  options.sampling = {.temperature = 0.8, .seed = 3};
  const auto all =
      Generate(**engine, *model.source, model.graph, prompts, options, {}, nullptr, nullptr);
  ASSERT_TRUE(all) << all.error().message;
  EXPECT_EQ((*all)[0].size(), 12);
  options.prefill_tokens = 33;
  const auto pieces =
      Generate(**engine, *model.source, model.graph, prompts, options, {}, nullptr, nullptr);
  ASSERT_TRUE(pieces);
  EXPECT_EQ(*pieces, *all);
  options.memory_bytes = uint64_t{100} << 20;
  const auto bounded =
      Generate(**engine, *model.source, model.graph, prompts, options, {}, nullptr, nullptr);
  ASSERT_TRUE(bounded) << bounded.error().message;
  EXPECT_EQ(*bounded, *all);
}

TEST(EvaluateTest, RefusesWhatCannotBe) {
  const Model model = OpenModel(kTestData / "stories260K");
  ThreadPool pool(1);
  auto engine = MakeCpuEngine(&pool, {});
  ASSERT_TRUE(engine);
  const auto run = [&](const TokenIds& ids) {
    const uint64_t length = ids.size();
    const auto plan = PlanEvaluation(*model.source, model.graph, **engine, {&length, 1}, 0);
    EXPECT_TRUE(plan);
    Evaluator evaluator(**engine, *model.source, model.graph, *plan, ".");
    SequenceScore score;
    return evaluator.Run({&ids, 1}, {}, {}, MakeScorer(**engine, {&ids, 1}, {&score, 1}));
  };
  const Status outside = run({1, 2, 512});
  ASSERT_FALSE(outside);
  EXPECT_NE(outside.error().message.find("512"), std::string::npos) << outside.error().message;
  EXPECT_FALSE(run({1, -1, 2}));
  const Status too_long = run(TokenIds(513, 5));
  ASSERT_FALSE(too_long);
  EXPECT_NE(too_long.error().message.find("512"), std::string::npos) << too_long.error().message;
}

TEST(ScoreWindowsTest, GoesOnWhereItStopped) {
  const fs::path folder = kTestData / "stories260K";
  const Model model = OpenModel(folder);
  const TokenIds ids = Encode(folder, ReadText(kTestData / "wikitext/first_20000.txt"), false);
  Protocol protocol = *FindProtocol("gptq");
  protocol.context = 128;
  protocol.max_windows = 6;
  const auto set = CutWindows(ids, protocol, {}, std::nullopt);
  ASSERT_TRUE(set);
  ThreadPool pool(1);
  auto engine = MakeCpuEngine(&pool, {});
  ASSERT_TRUE(engine);
  auto plan = PlanEvaluation(*model.source, model.graph, **engine, WindowLengths(set->windows), 0);
  ASSERT_TRUE(plan);
  plan->batch_tokens = 256;  // Two windows a run.
  Evaluator evaluator(**engine, *model.source, model.graph, *plan, ".");
  Scores whole;
  ASSERT_TRUE(ScoreWindows(**engine, evaluator, set->windows, nullptr, {}, nullptr, &whole));
  EXPECT_EQ(whole.windows.size(), 6);
  EXPECT_EQ(whole.num_tokens(), 6 * 127);

  Scores part;
  ASSERT_TRUE(ScoreWindows(
      **engine, evaluator, set->windows, nullptr, {}, [](const Scores&) { return false; }, &part));
  EXPECT_EQ(part.windows.size(), 2);
  ASSERT_TRUE(ScoreWindows(**engine, evaluator, set->windows, nullptr, {}, nullptr, &part));
  EXPECT_EQ(part.token_nll, whole.token_nll);
  part.token_hashes[1] = {};
  EXPECT_FALSE(ScoreWindows(**engine, evaluator, set->windows, nullptr, {}, nullptr, &part));
}

// A document of several windows makes one score, whichever windows share a run and wherever a run
// was stopped.
TEST(ScoreWindowsTest, DocumentsAreScoredAsOne) {
  const fs::path folder = kTestData / "stories260K";
  const Model model = OpenModel(folder);
  const TokenIds ids = Encode(folder, ReadText(kTestData / "wikitext/first_20000.txt"), false);
  std::vector<Document> documents;
  for (const auto& [first, size] : {std::pair{0, 300}, {300, 64}, {364, 129}}) {
    documents.push_back({{ids.begin() + first, ids.begin() + first + size},
                         static_cast<uint64_t>(size),
                         2 * static_cast<uint64_t>(size)});
  }
  Protocol protocol = *FindProtocol("lm-eval");
  protocol.context = 64;
  const auto set = CutDocuments(documents, protocol, {}, 1);
  ASSERT_TRUE(set);
  ASSERT_EQ(set->windows.size(), 5 + 1 + 3);
  ThreadPool pool(1);
  auto engine = MakeCpuEngine(&pool, {});
  ASSERT_TRUE(engine);
  auto plan = PlanEvaluation(*model.source, model.graph, **engine, WindowLengths(set->windows), 0);
  ASSERT_TRUE(plan);
  plan->batch_tokens = 128;  // Two windows a run.
  Evaluator evaluator(**engine, *model.source, model.graph, *plan, ".");
  Scores whole;
  ASSERT_TRUE(ScoreWindows(**engine, evaluator, set->windows, nullptr, {}, nullptr, &whole));
  ASSERT_EQ(whole.windows.size(), 3);
  for (size_t d = 0; d < 3; ++d) {
    EXPECT_EQ(whole.windows[d].num_tokens, documents[d].ids.size());
    EXPECT_EQ(whole.windows[d].words, documents[d].words);
    EXPECT_EQ(whole.windows[d].bytes, documents[d].bytes);
  }
  EXPECT_EQ(whole.windows[2].start, 364);
  EXPECT_EQ(whole.token_hashes, HashUnits(set->windows));

  Scores part;
  ASSERT_TRUE(ScoreWindows(
      **engine, evaluator, set->windows, nullptr, {},
      [](const Scores& scores) { return scores.windows.empty(); }, &part));
  EXPECT_EQ(part.windows.size(), 2);  // Three runs; the third ended the second document.
  ASSERT_TRUE(ScoreWindows(**engine, evaluator, set->windows, nullptr, {}, nullptr, &part));
  EXPECT_EQ(part.token_nll, whole.token_nll);
  EXPECT_EQ(part.token_hashes, whole.token_hashes);
}

// The small Llama with weights that overflow in the third layer.
void WriteOverflowing(const fs::path& folder) {
  fs::create_directories(folder);
  const fs::path source = kTestData / "stories260K";
  for (const char* name : {"config.json", "tokenizer.json"}) {
    fs::copy_file(source / name, folder / name);
  }
  const auto checkpoint = Checkpoint::Open(source);
  ASSERT_TRUE(checkpoint);
  std::vector<TensorWithBytes> tensors;
  for (const TensorInfo& tensor : checkpoint->tensors()) {
    std::vector<uint8_t> bytes(tensor.num_bytes);
    ASSERT_TRUE(checkpoint->Read(tensor, 0, bytes));
    if (tensor.name == "model.layers.2.mlp.down_proj.weight") {
      const std::vector<float> huge(tensor.num_bytes / sizeof(float), 3e38F);
      std::memcpy(bytes.data(), huge.data(), tensor.num_bytes);
    }
    tensors.push_back({{tensor.name, tensor.dtype, tensor.shape}, std::move(bytes)});
  }
  WriteSafetensors(folder / "model.safetensors", tensors);
}

TEST(ScoreWindowsTest, SaysWhichWindowAndLayerStoppedBeingNumbers) {
  const TempDirectory directory("overflow");
  WriteOverflowing(directory.path() / "model");
  const Model model = OpenModel(directory.path() / "model");
  std::vector<Window> windows(3);
  for (Window& window : windows) window.ids = {1, 300, 301, 302};
  ThreadPool pool(1);
  auto engine = MakeCpuEngine(&pool, {});
  ASSERT_TRUE(engine);
  const auto plan = PlanEvaluation(*model.source, model.graph, **engine, WindowLengths(windows), 0);
  ASSERT_TRUE(plan);
  Evaluator evaluator(**engine, *model.source, model.graph, *plan, ".");
  Scores scores;
  const auto run = [&] {
    return ScoreWindows(**engine, evaluator, windows, nullptr, {}, nullptr, &scores);
  };
  const Status first = run();
  ASSERT_FALSE(first);
  EXPECT_EQ(first.error().message, "layer 2 turns window 0 into values that are not numbers");
  // Two windows are there from before: the third is the first that runs.
  for (size_t w = 0; w < 2; ++w) {
    AddWindow(&scores, 0, std::vector<float>{1, 2, 3}, HashTokens(windows[w].ids));
  }
  const Status later = run();
  ASSERT_FALSE(later);
  EXPECT_EQ(later.error().message, "layer 2 turns window 2 into values that are not numbers");
  EXPECT_EQ(scores.windows.size(), 2);

  const auto body = [](const LogitBlock&) -> Status { return Done{}; };
  const Status logits = ForScoredLogits(**engine, evaluator, windows, {}, body);
  ASSERT_FALSE(logits);
  EXPECT_EQ(logits.error().message, "layer 2 turns window 0 into values that are not numbers");
}

}  // namespace
}  // namespace ram
