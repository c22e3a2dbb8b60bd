// Text to ids, one thread.
//
//   tokenize_bench DIRECTORY TEXT       a model's tokenizer.json, a text file
//   tokenize_bench                      the test fixtures over tests/data/tokenizers/wiki.txt, 4
//   times
//
// Before the clock starts the ids are decoded, and the text that comes back is tokenized: the ids
// must be the same. Encode: the whole text in one call. EncodeLines: one call a line. Bytes per
// second are of the text.

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "benchmark/benchmark.h"
#include "ram/base/file.h"
#include "ram/text/tokenizer.h"

namespace ram {
namespace {

constexpr uint64_t kMaxBytes = uint64_t{1} << 30;

std::string ReadOrExit(const std::filesystem::path& path) {
  Result<std::string> text = ReadFile(path, kMaxBytes);
  if (text) return *std::move(text);
  std::fprintf(stderr, "%s\n", text.error().message.c_str());
  std::exit(1);
}

void SetRate(benchmark::State& state, size_t bytes, size_t tokens) {
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(bytes));
  state.counters["tokens"] = static_cast<double>(tokens);
}

void BM_Open(benchmark::State& state, const std::filesystem::path& directory) {
  for (auto _ : state) {
    const Result<Tokenizer> tokenizer = Tokenizer::Open(directory);
    if (!tokenizer) return state.SkipWithError(tokenizer.error().message.c_str());
  }
}

void BM_Encode(benchmark::State& state, const std::filesystem::path& directory,
               const std::string& text) {
  const Result<Tokenizer> tokenizer = Tokenizer::Open(directory);
  if (!tokenizer) return state.SkipWithError(tokenizer.error().message.c_str());
  const Result<std::vector<int32_t>> ids = tokenizer->Encode(text, /*add_special=*/false);
  if (!ids) return state.SkipWithError(ids.error().message.c_str());
  const std::string decoded = tokenizer->Decode(*ids, /*skip_special=*/false);
  const Result<std::vector<int32_t>> again = tokenizer->Encode(decoded, /*add_special=*/false);
  if (!again || *again != *ids) return state.SkipWithError("wrong answer");
  for (auto _ : state) {
    benchmark::DoNotOptimize(tokenizer->Encode(text, /*add_special=*/false));
  }
  SetRate(state, text.size(), ids->size());
}

void BM_EncodeLines(benchmark::State& state, const std::filesystem::path& directory,
                    const std::string& text) {
  const Result<Tokenizer> tokenizer = Tokenizer::Open(directory);
  if (!tokenizer) return state.SkipWithError(tokenizer.error().message.c_str());
  size_t num_tokens = 0;
  for (auto _ : state) {
    num_tokens = 0;
    for (std::string_view rest = text; !rest.empty();) {
      const size_t end = std::min(rest.find('\n'), rest.size() - 1) + 1;
      const Result<std::vector<int32_t>> ids =
          tokenizer->Encode(rest.substr(0, end), /*add_special=*/false);
      if (!ids) return state.SkipWithError(ids.error().message.c_str());
      num_tokens += ids->size();
      rest.remove_prefix(end);
    }
  }
  SetRate(state, text.size(), num_tokens);
}

void Register(const std::string& name, const std::filesystem::path& directory,
              const std::string& text) {
  const auto add = [&](const char* verb, auto function, auto... arguments) {
    benchmark::RegisterBenchmark((std::string(verb) + "/" + name).c_str(), function, directory,
                                 arguments...)
        ->Unit(benchmark::kMillisecond);
  };
  add("Open", BM_Open);
  add("Encode", BM_Encode, text);
  add("EncodeLines", BM_EncodeLines, text);
}

}  // namespace
}  // namespace ram

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (argc == 3) {
    ram::Register(std::filesystem::path(argv[1]).filename().string(), argv[1],
                  ram::ReadOrExit(argv[2]));
  } else if (argc == 1) {
    const auto fixtures = std::filesystem::path(RAM_TEST_DATA_DIR) / "tokenizers";
    const std::string part = ram::ReadOrExit(fixtures / "wiki.txt");
    const std::string text = part + part + part + part;
    for (const char* name : {"byte_level", "characters"}) {
      ram::Register(name, fixtures / name, text);
    }
  } else {
    std::fprintf(stderr, "usage: %s [DIRECTORY TEXT] [--benchmark_...]\n", argv[0]);
    return 2;
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
