#include "ram/eval/llama_log.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <optional>
#include <string>
#include <type_traits>

#include "ram/base/bytes.h"
#include "ram/base/number.h"

namespace ram {
namespace {

constexpr std::string_view kAnnouncement = "calculating perplexity over ";
constexpr std::string_view kFinal = "Final estimate: PPL";

Error Wrong(std::string_view where, std::string_view what) {
  return Error{ErrorCode::kCorrupt, fmt::format("{}: {}", where, what)};
}

template <typename T>
std::optional<T> NumberAt(std::string_view text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  if constexpr (std::is_same_v<T, double>) {
    return TakeDouble(&text);
  } else {
    T value = {};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc() ? std::optional(value) : std::nullopt;
  }
}

template <typename T>
std::optional<T> NumberAfter(std::string_view text, std::string_view key) {
  const size_t at = text.find(key);
  return at == std::string_view::npos ? std::nullopt : NumberAt<T>(text.substr(at + key.size()));
}

// The rest of the line after "KEY   = ", of the line where only blanks are between; "" without one.
std::string ValueOf(std::string_view text, std::string_view key) {
  for (size_t at = text.find(key); at != std::string_view::npos; at = text.find(key, at + 1)) {
    std::string_view rest = text.substr(at + key.size());
    rest = rest.substr(0, rest.find_first_of("\r\n"));
    const size_t equals = rest.find_first_not_of(' ');
    if (equals == std::string_view::npos || rest[equals] != '=') continue;
    const size_t begin = rest.find_first_not_of(' ', equals + 1);
    if (begin == std::string_view::npos) return "";
    return std::string(rest.substr(begin, rest.find_last_not_of(' ') + 1 - begin));
  }
  return "";
}

struct RunningPerplexity {
  double value = 0;
  double half_unit = 0;  // Of its last printed digit.
};

// What follows "[i]": a number and a comma, its decimals counted. Nothing if the text ends first.
std::optional<RunningPerplexity> ParsePerplexity(std::string_view text) {
  const size_t end = text.find_first_not_of("0123456789.");
  if (end == std::string_view::npos || text[end] != ',') return std::nullopt;
  text = text.substr(0, end);
  const std::optional<double> value = NumberAt<double>(text);
  if (!value.has_value() || !std::isfinite(*value) || *value <= 0) return std::nullopt;
  const size_t point = text.find('.');
  const size_t decimals = point == std::string_view::npos ? 0 : text.size() - point - 1;
  return RunningPerplexity{*value, 0.5 * std::pow(10.0, -static_cast<double>(decimals))};
}

struct Log {
  std::vector<RunningPerplexity> chunks;
  size_t begin = 0;  // Of the first one in the text.
  size_t end = 0;    // Of the last one.
};

Result<Log> ReadChunks(std::string_view text, std::string_view where) {
  const size_t announced = text.find(kAnnouncement);
  Log log;
  log.end = announced == std::string_view::npos ? 0 : announced;
  while (true) {
    const std::string mark = fmt::format("[{}]", log.chunks.size() + 1);
    const size_t at = text.find(mark, log.end);
    if (at == std::string_view::npos) break;
    log.end = at + mark.size();
    const std::string_view rest = text.substr(log.end);
    const std::optional<RunningPerplexity> chunk = ParsePerplexity(rest);
    if (chunk.has_value()) {
      if (log.chunks.empty()) log.begin = at;
      log.chunks.push_back(*chunk);
      continue;
    }
    const size_t end = rest.find_first_of(",\r\n");
    if (end == std::string_view::npos) break;                                 // Cut off.
    if (log.chunks.empty() && announced == std::string_view::npos) continue;  // Not ours.
    return Wrong(where,
                 fmt::format("chunk {} has the perplexity \"{}\", expected a number",
                             log.chunks.size() + 1, rest.substr(0, std::min<size_t>(end, 20))));
  }
  return log;
}

Status CheckComplete(std::string_view text, const Log& log, std::string_view where) {
  const auto expected = NumberAfter<uint64_t>(text, kAnnouncement);
  const size_t final_at = text.find(kFinal, log.end);
  if (expected.has_value() && *expected != log.chunks.size()) {
    return Wrong(where,
                 fmt::format("the log ends after chunk {} of {}", log.chunks.size(), *expected));
  }
  if (final_at == std::string_view::npos) {
    if (expected.has_value()) return Done{};  // All that was announced is there.
    return Wrong(where, fmt::format("the log ends after chunk {}, without a final estimate",
                                    log.chunks.size()));
  }
  std::string_view line = text.substr(final_at);
  line = line.substr(0, line.find('\n'));
  const auto estimate = NumberAfter<double>(line.substr(kFinal.size()), "= ");
  const RunningPerplexity& last = log.chunks.back();
  if (!estimate.has_value() || std::abs(*estimate - last.value) > 2.5 * last.half_unit) {
    return Wrong(where, fmt::format("the final estimate is not the perplexity {} after the last "
                                    "chunk: {}",
                                    last.value, line.substr(0, 80)));
  }
  return Done{};
}

Status FillWindows(const Log& log, uint64_t context, std::string_view where, Scores* scores) {
  double before = 0;  // (i - 1) ln PPL_{i-1}
  double error_before = 0;
  for (size_t i = 0; i < log.chunks.size(); ++i) {
    const auto [perplexity, half_unit] = log.chunks[i];
    const double count = static_cast<double>(i + 1);
    const double total = count * std::log(perplexity);
    const double error = count * half_unit / perplexity;
    ScoredWindow window;
    window.start = i * context;
    window.num_tokens = context == 0 ? 1 : context - context / 2 - 1;
    window.nll = total - before;
    if (window.nll < -2 * (error + error_before)) {
      return Wrong(where,
                   fmt::format("the perplexity after chunk {}, {}, is lower than any score of "
                               "the chunk can make it",
                               i + 1, perplexity));
    }
    scores->resolution = std::max(scores->resolution, error + error_before);
    scores->windows.push_back(std::move(window));
    before = total;
    error_before = error;
  }
  return Done{};
}

ScoredModel ModelOf(std::string_view text) {
  ScoredModel model;
  model.name = ValueOf(text, "general.name");
  std::string type = ValueOf(text, "model ftype");
  std::string size = ValueOf(text, "model size");
  if (type.empty()) type = ValueOf(text, "file type");
  if (size.empty()) size = ValueOf(text, "file size");
  type = type.substr(0, type.find(" - "));  // "Q4_K - Medium"
  if (!model.name.empty() && !type.empty()) model.name += " " + type;
  std::string_view rest = size;
  if (const auto amount = NumberAt<double>(rest); amount.has_value()) {
    const double unit = rest.find("GiB") != std::string_view::npos   ? static_cast<double>(kGiB)
                        : rest.find("MiB") != std::string_view::npos ? static_cast<double>(kMiB)
                                                                     : 0;
    model.bytes = static_cast<uint64_t>(*amount * unit);
  }
  model.bits_per_weight = NumberAfter<double>(rest, "(").value_or(0);
  return model;
}

}  // namespace

Result<Scores> ParseLlamaLog(std::string_view text, std::string_view where) {
  RAM_ASSIGN_OR_RETURN(const Log log, ReadChunks(text, where));
  if (log.chunks.empty()) {
    if (text.find("ln(PPL(Q)/PPL(base))") != std::string_view::npos) {
      return Error{ErrorCode::kUnsupported,
                   fmt::format("{}: a log of --kl-divergence; only logs of plain perplexity runs "
                               "hold one score for each chunk",
                               where)};
    }
    return Wrong(where,
                 "not a log of llama-perplexity: it has no running perplexities \"[1]8.1,[2]...\"");
  }
  RAM_RETURN_IF_ERROR(CheckComplete(text, log, where));

  Scores scores;
  const uint64_t context = NumberAfter<uint64_t>(text, "n_ctx=").value_or(0);
  const std::string_view header = text.substr(0, log.begin);
  scores.model = ModelOf(header);
  scores.numerics.engine = "llama.cpp";
  scores.protocol = "llama-perplexity";
  scores.settings = fmt::format("{} chunks of {} tokens", log.chunks.size(),
                                context == 0 ? "unknown" : std::to_string(context));
  scores.assumed_windows = scores.settings;
  if (const std::string vocabulary = ValueOf(header, "n_vocab"); !vocabulary.empty()) {
    scores.assumed_windows += ", vocabulary of " + vocabulary;
  }
  RAM_RETURN_IF_ERROR(FillWindows(log, context, where, &scores));
  return scores;
}

}  // namespace ram
