#pragma once

// What "ram eval kl" says, for people and for programs.

#include <optional>
#include <string>
#include <vector>

#include "ram/base/json.h"
#include "ram/eval/divergence.h"
#include "ram/eval/scores.h"
#include "ram/eval/tail_error.h"
#include "ram/report/table.h"

namespace ram::cli {

// A model against the base.
struct Divergence {
  ScoredModel model;
  ScoredNumerics numerics;
  std::vector<TokenDivergence> tokens;
  DivergenceSummary summary;
  std::optional<TailError> tail;  // Where the base's tail is kept as one.
  double seconds = 0;
};

// What they are compared with.
struct BaseFacts {
  std::string name;
  std::string text;        // "wikitext-2 test: ram-wikitext2, windows of 2048, ..."
  std::string kept;        // How its logits were kept, and with what error.
  double own_kl_mean = 0;  // That error, KL(base || what was kept) [nats].
  double own_kl_max = 0;
  std::vector<uint64_t> window_tokens;  // Scored, of each window.
};

// A table of all models, the quantiles of each of up to three (all with `detail`), and paired
// differences from the closest one.
std::string KlText(const BaseFacts& base, const std::vector<Divergence>& models, bool detail,
                   const Style& style);
OrderedJson KlJson(const BaseFacts& base, const std::vector<Divergence>& models);

}  // namespace ram::cli
