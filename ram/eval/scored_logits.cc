#include "ram/eval/scored_logits.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "ram/eval/score_windows.h"

namespace ram {
namespace {

// The end of the model for one window: logits of the rows that predict scored tokens.
Status EmitRows(Engine& engine, const Window& window, size_t index, uint64_t window_row,
                const FinalRows& rows, std::unique_ptr<Activations>* buffer,
                const LogitsBody& body) {
  const Matrix& head = rows.ends.head();
  if (*buffer == nullptr) *buffer = engine.Allocate(kLogitRows, head.rows);
  const uint64_t end = std::min(rows.first_token + rows.hidden.rows, window.ids.size() - 1);
  uint64_t token = std::max(rows.first_token, window.first_scored - 1);
  while (token < end) {
    const uint64_t num = std::min(kLogitRows, end - token);
    const Rows logits = (*buffer)->rows().slice(0, num);
    engine.Logits(rows.hidden.slice(token - rows.first_token, num), head, rows.ends.logit_softcap(),
                  logits);
    RAM_RETURN_IF_ERROR(body({index, window_row + token - (window.first_scored - 1),
                              std::span(window.ids).subspan(token + 1, num), logits}));
    token += num;
  }
  return Done{};
}

}  // namespace

uint64_t NumScored(std::span<const Window> windows) {
  uint64_t num = 0;
  for (const Window& window : windows) num += window.num_scored();
  return num;
}

Status ForScoredLogits(Engine& engine, Evaluator& evaluator, std::span<const Window> windows,
                       const Watcher& watcher, const LogitsBody& body) {
  RAM_ASSIGN_OR_RETURN(const std::vector<TokenIds> sequences,
                       FedTokens(windows, evaluator.vocabulary()));
  std::vector<uint64_t> first_row;
  Evaluator::Position position;
  position.noun = "window";
  uint64_t row = 0;
  for (const Window& window : windows) {
    first_row.push_back(row);
    row += window.num_scored();
    position.total_tokens += window.ids.size() - 1;
  }
  std::unique_ptr<Activations> buffer;
  std::span<const TokenIds> left = sequences;
  for (size_t at = 0; !left.empty();) {
    const std::span<const TokenIds> run = left.first(evaluator.num_sequences_per_run(left));
    const FinalBody final_body = [&](const FinalRows& rows) -> Status {
      RAM_RETURN_IF_ERROR(watcher.Check());
      const size_t w = at + rows.sequence;
      return EmitRows(engine, windows[w], w, first_row[w], rows, &buffer, body);
    };
    position.first_number = at;
    RAM_RETURN_IF_ERROR(evaluator.Run(run, position, watcher, final_body));
    for (size_t s = 0; s < run.size(); ++s) position.done_tokens += run[s].size();
    at += run.size();
    left = left.subspan(run.size());
  }
  return Done{};
}

}  // namespace ram
