#include "ram/eval/divergence_pass.h"

#include <fmt/format.h>

#include <memory>
#include <optional>
#include <vector>

namespace ram {

std::span<const float> RowOf(const LogitBlock& block, uint64_t r) {
  return {block.logits.row(r), block.logits.cols};
}

Status ForRows(ThreadPool& pool, const LogitBlock& block,
               const std::function<Status(uint64_t r, size_t thread)>& body) {
  std::vector<Status> results(block.logits.rows, Done{});
  pool.ParallelFor(block.logits.rows,
                   [&](size_t r, size_t thread) { results[r] = body(r, thread); });
  for (const Status& status : results) RAM_RETURN_IF_ERROR(status);
  return Done{};
}

LogitsBody MakeDivergenceMeter(ThreadPool& pool, const BaseLogits& base,
                               std::span<TokenDivergence> tokens,
                               std::span<TokenDivergence> exact) {
  RAM_CHECK(tokens.size() == base.num_rows());
  const uint64_t every = exact.empty() ? 0 : base.whole_every();
  RAM_CHECK(every == 0 || exact.size() == (tokens.size() + every - 1) / every);
  const auto buffers = std::make_shared<std::vector<std::vector<float>>>(pool.num_threads());
  return [&pool, &base, tokens, exact, every, buffers](const LogitBlock& block) {
    return ForRows(pool, block, [&](uint64_t r, size_t thread) -> Status {
      const uint64_t row = block.first_row + r;
      std::vector<float>& buffer = (*buffers)[thread];
      const std::optional<double> total = LogTotal(RowOf(block, r));
      if (!total.has_value()) {
        return Error{ErrorCode::kCorrupt,
                     fmt::format("window {} has a logit that is not a number", block.window)};
      }
      const LogProbs model = {RowOf(block, r), *total};
      RAM_ASSIGN_OR_RETURN(const LogProbs of_base, base.ReadRow(row, model, &buffer));
      tokens[row] = Diverge(of_base, model, block.targets[r]);
      if (every == 0 || row % every != 0) return Done{};
      RAM_ASSIGN_OR_RETURN(const LogProbs whole, base.ReadWholeRow(row, &buffer));
      exact[row / every] = Diverge(whole, model, block.targets[r]);
      return Done{};
    });
  };
}

}  // namespace ram
