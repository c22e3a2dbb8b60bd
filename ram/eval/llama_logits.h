#pragma once

// The files of llama-perplexity --kl-divergence-base FILE: a base's probabilities over chunks of
// which the second half is scored, 16 bits each and 16 nats deep. Little-endian:
//   "_logits_", int32 n_ctx, int32 n_vocab, int32 n_chunk, int32 tokens [n_chunk * n_ctx],
//   rows [n_chunk * (n_ctx - 1 - n_ctx / 2)] of 2 * ((n_vocab + 1) / 2) + 4 uint16:
//   float scale, float least, codes; ln p = least + scale * code.
// Read in llama.cpp (tools/perplexity/perplexity.cpp, log_softmax and kl_divergence).

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "ram/base/file.h"
#include "ram/base/result.h"
#include "ram/eval/logit_cache.h"

namespace ram {

// What has ln p at or below this is left out of the KL divergence, as llama.cpp does.
inline constexpr double kLlamaCutoff = -16;

class LlamaLogits : public BaseLogits {
 public:
  // kCorrupt: not such a file, bytes missing or too many, tokens that the vocabulary lacks.
  static Result<std::unique_ptr<LlamaLogits>> Open(const std::filesystem::path& path);

  // Log-probabilities (log_total 0) with kLlamaCutoff. They do not sum to 1: what lies deeper than
  // 16 nats below the most likely token is kept as if it did not.
  Result<LogProbs> ReadRow(uint64_t row, const LogProbs& model,
                           std::vector<float>* buffer) const override;

 private:
  explicit LlamaLogits(File file) : file_(std::move(file)) {}

  File file_;
  uint64_t rows_offset_ = 0;
};

// Bytes of the file for these windows. kInvalidArgument unless all have the same number of tokens,
// at least 3, and score their second half, i.e. tokens from n_ctx / 2 + 1 on (--protocol
// llama.cpp).
Result<uint64_t> LlamaLogitsBytes(std::span<const Window> windows, uint64_t vocabulary);

class LlamaLogitsWriter {
 public:
  // Writes everything but the rows; windows as above. `file` outlives the writer.
  static Result<LlamaLogitsWriter> Start(const File& file, std::span<const Window> windows,
                                         uint64_t vocabulary);
  // Every row once; logits finite. Thread-safe.
  Status WriteRow(uint64_t row, std::span<const float> logits) const;

 private:
  LlamaLogitsWriter(const File& file, uint64_t vocabulary, uint64_t offset)
      : file_(&file), vocabulary_(vocabulary), rows_offset_(offset) {}

  const File* file_;
  uint64_t vocabulary_;
  uint64_t rows_offset_;
};

}  // namespace ram
