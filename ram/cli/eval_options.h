#pragma once

// What the verbs of "ram eval" share: which text, cut into which windows.

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "ram/base/result.h"
#include "ram/cli/run_options.h"
#include "ram/cli/verb.h"
#include "ram/eval/cut_text.h"
#include "ram/eval/scores.h"
#include "ram/text/tokenizer.h"

namespace ram::cli {

struct TextOptions {
  void Add(CLI::App* verb);

  Result<Text> Read() const;
  Result<CutRequest> Request() const;
  // `model_context` as for CutTextFor.
  Result<CutText> Cut(const Text& text, const Tokenizer& tokenizer,
                      uint64_t model_context = 0) const;

  std::string data;
  std::string protocol = "ram-wikitext2";
  uint64_t context = 0;
  uint64_t windows = 0;
  uint32_t seed = 42;
  std::string bos = "none";
  std::vector<int32_t> prefix;
};

// Notes that there are fewer windows than were asked for, if so.
void NoteMissing(const CutText& cut, Context& context);

ScoredNumerics DescribeNumerics(const RunOptions& options, const Engine& engine);

}  // namespace ram::cli
