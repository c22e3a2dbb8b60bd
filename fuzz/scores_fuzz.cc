// Everything that scores are read from: score files, logs of llama-perplexity, tables. Whatever it
// is, it is refused in one sentence or gives scores that hold together, can be written, and read
// back as the same.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ram/eval/align.h"
#include "ram/eval/llama_log.h"
#include "ram/eval/score_sources.h"
#include "ram/eval/scores.h"

namespace {

using ram::Result;
using ram::Scores;

void CheckError(const ram::Error& error) {
  RAM_CHECK(error.message.starts_with("input: "));
  RAM_CHECK(error.code == ram::ErrorCode::kCorrupt || error.code == ram::ErrorCode::kUnsupported);
}

void CheckScores(const Scores& scores) {
  RAM_CHECK(!scores.windows.empty());
  for (const ram::ScoredWindow& window : scores.windows) {
    RAM_CHECK(std::isfinite(window.nll) && window.num_tokens > 0);
  }
  const std::string bytes = ram::ToScoresBytes(scores);
  const Result<Scores> again = ram::ParseScores(bytes, "again");
  // Tables may claim more tokens for a window than the format allows.
  if (again.ok()) RAM_CHECK(ram::ToScoresBytes(*again) == bytes);
  RAM_CHECK(ram::AlignScores({scores, scores}, {"a", "b"}).ok());
}

void CheckResult(const Result<Scores>& scores) {
  if (scores.ok()) {
    CheckScores(*scores);
  } else {
    CheckError(scores.error());
  }
}

void CheckTable(std::string_view text, ram::TableValues values) {
  const Result<std::vector<Scores>> models = ram::ParseScoreTable(text, "input", values);
  if (!models.ok()) return CheckError(models.error());
  RAM_CHECK(!models->empty());
  for (const Scores& scores : *models) CheckScores(scores);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  CheckResult(ram::ParseScores(text, "input"));
  CheckResult(ram::ParseLlamaLog(text, "input"));
  CheckTable(text, ram::TableValues::kNll);
  CheckTable(text, ram::TableValues::kPerplexity);
  return 0;
}
