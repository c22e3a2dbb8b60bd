#pragma once

// What the verbs of "ram eval" share: which text, cut into which windows.

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "ram/base/result.h"
#include "ram/cli/run_options.h"
#include "ram/cli/verb.h"
#include "ram/eval/scores.h"
#include "ram/eval/windows.h"
#include "ram/text/tokenizer.h"

namespace ram::cli {

struct Text {
  std::string name;
  std::string bytes;  // Not empty.
};

// A text as one model's tokenizer and a protocol cut it.
struct CutText {
  Protocol protocol;
  WindowSet set;
  std::string settings;  // "windows of 2048, 146 of 146, seed 42, no BOS"

  // Notes that there are fewer windows than were asked for, if so.
  void NoteMissing(Context& context) const;
};

struct TextOptions {
  void Add(CLI::App* verb);

  Result<Text> Read() const;
  Result<CutText> Cut(const Text& text, const Tokenizer& tokenizer) const;

  std::string data;
  std::string protocol = "ram-wikitext2";
  uint64_t context = 0;
  uint64_t windows = 0;
  uint32_t seed = 42;
  std::string bos = "none";
  std::vector<int32_t> prefix;

 private:
  Result<Protocol> MakeProtocol() const;
  std::string SettingsText(const Protocol& protocol, const WindowSet& set) const;
};

ScoredModel DescribeModel(const RunnableModel& model);
ScoredNumerics DescribeNumerics(const RunOptions& options, const Engine& engine);

}  // namespace ram::cli
