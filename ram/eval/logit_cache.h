#pragma once

// The logits of a base model over the scored tokens of windows, on disk: the base runs once, any
// number of models are compared with it. Two formats (docs/format.md): our own, and the one that
// llama-perplexity writes with --kl-divergence-base (llama_logits.h).

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ram/base/file.h"
#include "ram/base/result.h"
#include "ram/eval/divergence.h"
#include "ram/eval/scores.h"
#include "ram/eval/windows.h"

namespace ram {

// What models are compared with. Row i is the base's distribution of the i-th scored token.
class BaseLogits {
 public:
  virtual ~BaseLogits() = default;

  uint64_t vocabulary() const { return vocabulary_; }
  uint64_t num_rows() const { return num_rows_; }
  // As they were fed: ids and first_scored; text positions are 0.
  const std::vector<Window>& windows() const { return windows_; }

  // Row `row`, which is below num_rows(); values lie in `*buffer`. Where only the most likely
  // tokens were kept (LogitForm::kTopK), the others share what is left as those of `model` do: the
  // row of the model that is compared; elsewhere it is not looked at. Thread-safe. kCorrupt names
  // the file and the row: bytes missing, not a distribution.
  virtual Result<LogProbs> ReadRow(uint64_t row, const LogProbs& model,
                                   std::vector<float>* buffer) const = 0;

  // With kTopK, rows 0, n, 2n, ... are kept whole too; 0: there is nothing to be measured.
  virtual uint64_t whole_every() const { return 0; }
  // Such a row as the engine gave it. Errors as above.
  virtual Result<LogProbs> ReadWholeRow(uint64_t row, std::vector<float>* buffer) const {
    return ReadRow(row, {}, buffer);
  }

 protected:
  uint64_t vocabulary_ = 0;
  uint64_t num_rows_ = 0;
  std::vector<Window> windows_;
};

enum class LogitForm : uint8_t {
  kF32,  // As the engine gave them: an equal model has a divergence of exactly 0.
  kU16,  // 65536 equal steps between a row's least and largest logit.
  // Probabilities of the `top_k` most likely tokens and of the token that came, and how much the
  // others have together. Their sum is in KL(p || q) as one: never more than the true divergence.
  // How much less is measured on every 64th row, which is kept whole.
  kTopK,
};
inline constexpr uint64_t kWholeEvery = 64;

struct LogitCacheInfo {
  ScoredModel model;
  ScoredNumerics numerics;
  std::string settings;  // What was scored, in words.
  LogitForm form = LogitForm::kF32;
  uint64_t top_k = 0;  // Of kTopK: at least kLeastTopK, at most vocabulary - 2.
  uint64_t vocabulary = 0;
};
inline constexpr uint64_t kLeastTopK = kTopShared;

// SHA-256 over the windows' token hashes and what is scored in them, in hexadecimal.
std::string HashWindows(std::span<const Window> windows);

// Bytes that a cache will have.
uint64_t LogitCacheBytes(const LogitCacheInfo& info, std::span<const Window> windows);

// Writes a cache into a file that is large enough already or grows.
class LogitCacheWriter {
 public:
  // Writes everything but the logits. `file` outlives the writer.
  static Result<LogitCacheWriter> Start(const File& file, const LogitCacheInfo& info,
                                        std::span<const Window> windows);
  // Row `row` [vocabulary]; every row once. Thread-safe. kCorrupt: a logit that is not finite.
  Status WriteRow(uint64_t row, std::span<const float> logits);
  // After all rows.
  Status Finish();

 private:
  LogitCacheWriter(const File& file, const LogitCacheInfo& info);
  Status WriteCoded(uint64_t row, std::span<const float> logits, double total);
  Status WriteTop(uint64_t row, std::span<const float> logits, double total);
  Status WriteWhole(uint64_t row, std::span<const float> logits) const;

  const File* file_;
  LogitForm form_;
  uint64_t top_k_;
  uint64_t vocabulary_;
  uint64_t logits_offset_ = 0;
  uint64_t rows_offset_ = 0;  // Of floors, steps and own divergences; of the tails.
  uint64_t top_offset_ = 0;   // Of ids, then of logarithms.
  std::vector<int32_t> targets_;
  std::vector<float> tails_;
  std::vector<float> floors_;
  std::vector<float> steps_;
  std::vector<float> own_kl_;
};

class LogitCache : public BaseLogits {
 public:
  // kCorrupt: not such a file, bytes missing, parts that contradict each other.
  static Result<std::unique_ptr<LogitCache>> Open(const std::filesystem::path& path);

  const LogitCacheInfo& info() const { return info_; }
  // The error of the cache itself: KL(base || what is kept of it), mean and largest over rows; 0
  // with kTopK, whose error depends on the model (ram/eval/tail_error.h).
  double own_kl_mean() const { return own_kl_mean_; }
  double own_kl_max() const { return own_kl_max_; }

  Result<LogProbs> ReadRow(uint64_t row, const LogProbs& model,
                           std::vector<float>* buffer) const override;
  uint64_t whole_every() const override;
  Result<LogProbs> ReadWholeRow(uint64_t row, std::vector<float>* buffer) const override;

 private:
  explicit LogitCache(File file) : file_(std::move(file)) {}
  Result<LogProbs> ReadF32(uint64_t row, uint64_t index, std::vector<float>* buffer) const;
  Result<LogProbs> ReadTop(uint64_t row, const LogProbs& model, std::vector<float>* buffer) const;
  Error WrongRow(uint64_t row, std::string_view what) const;
  Status ReadWindows(std::span<const uint64_t> sizes, std::span<const uint64_t> scored,
                     const std::vector<int32_t>& tokens);

  File file_;
  LogitCacheInfo info_;
  uint64_t logits_offset_ = 0;
  uint64_t ids_offset_ = 0;
  uint64_t top_offset_ = 0;
  std::vector<float> floors_;
  std::vector<float> steps_;
  std::vector<float> tails_;
  double own_kl_mean_ = 0;
  double own_kl_max_ = 0;
};

}  // namespace ram
