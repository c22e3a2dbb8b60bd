#pragma once

// Scores: how well one model predicted the tokens of one text, window by window; what evaluation
// yields and comparison takes. On disk: *.scores (docs/format.md), a safetensors container whose
// metadata says what was scored by which model under which numerics, so that two files can only be
// paired where that means something.

#include <array>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ram/base/result.h"

namespace ram {

// No model is this wrong [nats per token]: larger scores are refused wherever they are read.
inline constexpr double kLargestNll = 1e6;

// SHA-256 of token ids as little-endian 32-bit numbers.
using TokenHash = std::array<uint8_t, 32>;
TokenHash HashTokens(std::span<const int32_t> ids);

struct ScoredModel {
  std::string name;
  uint64_t bytes = 0;          // Of its files; 0: unknown.
  double bits_per_weight = 0;  // 0: unknown.
  std::string structure_hash;  // Checkpoint::structure_hash(); empty: unknown.
  std::string weights_hash;    // HashWeights (ram/checkpoint/weights_hash.h); empty: unknown.
};

// What makes two runs of one model differ. Engine and precision decide whether files may be paired;
// the instruction set is for the record.
struct ScoredNumerics {
  std::string engine;     // "ram-cpu", "mlx", "llama.cpp"
  std::string precision;  // Of activations: "f32", "bf16"; empty: unknown.
  std::string isa;        // "avx512_amx"; empty: unknown.
};

struct ScoredText {
  std::string name;    // "wikitext-2 test"
  std::string sha256;  // Of its bytes; empty: unknown.
  // Of what was scored, for bits per byte and word perplexity; 0: unknown.
  uint64_t bytes = 0;
  uint64_t words = 0;
};

struct ScoredWindow {
  uint64_t start = 0;       // Position of its first token in the text [tokens].
  uint64_t num_tokens = 1;  // Scored.
  double nll = 0;           // Mean negative log-likelihood [nats per token].
  // Of the text that it scored, for perplexity per word and bits per byte; 0: not counted.
  uint64_t words = 0;
  uint64_t bytes = 0;
  std::string label;  // What to call it; empty: its place in the file.
  std::string text;   // May be empty.
};

struct Scores {
  ScoredModel model;
  ScoredNumerics numerics;
  ScoredText text;
  std::string protocol;  // "ram-wikitext2"
  std::string settings;  // "windows of 2048, 146 of 146, seed 42, no BOS"

  // In the order of scoring.
  std::vector<ScoredWindow> windows;
  // Of all tokens of each window, scored or not, in the order they were fed [windows.size()];
  // empty where the source does not say.
  std::vector<TokenHash> token_hashes;
  // What is known instead of token hashes: two sources with the same words here are taken to have
  // scored the same windows. Not part of the file.
  std::string assumed_windows;
  // NLL of every scored token [nats], window after window; empty where the source does not say.
  std::vector<float> token_nll;
  // Window scores are known to within this [nats per token]; 0: exactly. Logs print few digits.
  double resolution = 0;

  uint64_t num_tokens() const;
};

// SHA-256 of the token hashes, one after the other, in hexadecimal; empty without them.
std::string TokensSha256(const Scores& scores);

// Adds a window: its mean and, if there are any others, its tokens. `nll` is not empty.
ScoredWindow& AddWindow(Scores* scores, uint64_t start, std::span<const float> nll,
                        const TokenHash& hash, std::string text = "");

// The bytes of the file: the same scores give the same bytes.
std::string ToScoresBytes(const Scores& scores);
// kCorrupt names `where` and what is wrong: not a safetensors file or not of this format, bytes
// missing, contents that do not have the hash they claim, numbers that contradict each other.
Result<Scores> ParseScores(std::string_view bytes, std::string_view where);

Status WriteScores(const Scores& scores, const std::filesystem::path& path);
Result<Scores> ReadScores(const std::filesystem::path& path);

}  // namespace ram
