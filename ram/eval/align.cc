#include "ram/eval/align.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <utility>

#include "ram/base/bytes.h"

namespace ram {
namespace {

// A window is known by the hash of its tokens; equal ones by their place among equals.
using WindowKey = std::pair<TokenHash, size_t>;

std::vector<WindowKey> KeysOf(const Scores& scores) {
  std::map<TokenHash, size_t> seen;
  std::vector<WindowKey> keys;
  for (const TokenHash& hash : scores.token_hashes) keys.emplace_back(hash, seen[hash]++);
  return keys;
}

std::string NumericsText(const ScoredNumerics& numerics) {
  std::string text = numerics.engine.empty() ? "an unknown engine" : numerics.engine;
  if (!numerics.precision.empty()) text += " in " + numerics.precision;
  return text;
}

std::optional<std::string> FindTokenMismatch(const Scores& a, const Scores& b, bool common) {
  if (a.token_hashes.empty() != b.token_hashes.empty()) {
    return "only one of them says which tokens it scored";
  }
  if (a.token_hashes.empty()) {
    if (a.assumed_windows == b.assumed_windows && a.windows.size() == b.windows.size()) {
      return std::nullopt;
    }
    return fmt::format("they scored other windows ({} against {})", a.assumed_windows,
                       b.assumed_windows);
  }
  const std::vector<WindowKey> in_a = KeysOf(a);
  const std::vector<WindowKey> in_b = KeysOf(b);
  const std::set<WindowKey> set_a(in_a.begin(), in_a.end());
  const auto shared = static_cast<size_t>(std::count_if(
      in_b.begin(), in_b.end(), [&](const auto& key) { return set_a.contains(key); }));
  if (shared == 0) {
    return fmt::format("they scored other tokens: none of {} and {} windows is the same",
                       in_a.size(), in_b.size());
  }
  if (!common && (shared != in_a.size() || shared != in_b.size())) {
    return fmt::format("they share only {} of {} and {} windows (--common-windows compares those)",
                       shared, in_a.size(), in_b.size());
  }
  return std::nullopt;
}

// For each file, which of its windows stands in each place.
std::vector<std::vector<size_t>> MatchWindows(const std::vector<Scores>& scores) {
  const Scores& first = scores.front();
  std::vector<std::vector<size_t>> places(scores.size());
  if (first.token_hashes.empty()) {
    for (auto& place : places) {
      place.resize(first.windows.size());
      std::iota(place.begin(), place.end(), size_t{0});
    }
    return places;
  }
  std::vector<std::map<WindowKey, size_t>> indexes(scores.size());
  for (size_t m = 0; m < scores.size(); ++m) {
    const std::vector<WindowKey> keys = KeysOf(scores[m]);
    for (size_t i = 0; i < keys.size(); ++i) indexes[m][keys[i]] = i;
  }
  const std::vector<WindowKey> keys = KeysOf(first);
  std::vector<size_t> order(keys.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return first.windows[a].start < first.windows[b].start;
  });
  for (const size_t i : order) {
    const bool in_all = std::all_of(indexes.begin(), indexes.end(),
                                    [&](const auto& index) { return index.contains(keys[i]); });
    if (!in_all) continue;
    for (size_t m = 0; m < scores.size(); ++m) places[m].push_back(indexes[m].at(keys[i]));
  }
  return places;
}

ModelScores ModelOf(const Scores& scores, const std::vector<size_t>& places) {
  ModelScores model;
  model.name = scores.model.name;
  if (scores.model.bytes > 0) model.bytes = static_cast<double>(scores.model.bytes);
  if (scores.model.bits_per_weight > 0) model.bits_per_weight = scores.model.bits_per_weight;
  for (const size_t place : places) model.nll.push_back(scores.windows[place].nll);
  return model;
}

}  // namespace

std::optional<std::string> FindMismatch(const Scores& a, const Scores& b,
                                        const AlignOptions& options) {
  if (auto mismatch = FindTokenMismatch(a, b, options.common_windows); mismatch.has_value()) {
    return mismatch;
  }
  const bool same_numerics =
      a.numerics.engine == b.numerics.engine && a.numerics.precision == b.numerics.precision;
  if (!same_numerics && !options.allow_different_numerics) {
    return fmt::format(
        "they ran under different numerics, {} against {} "
        "(--allow-different-numerics pairs them all the same)",
        NumericsText(a.numerics), NumericsText(b.numerics));
  }
  return std::nullopt;
}

Result<AlignedScores> AlignScores(const std::vector<Scores>& scores,
                                  const std::vector<std::string>& names,
                                  const AlignOptions& options) {
  RAM_CHECK(!scores.empty() && scores.size() == names.size());
  const Scores& first = scores.front();
  for (size_t m = 1; m < scores.size(); ++m) {
    if (const auto mismatch = FindMismatch(first, scores[m], options); mismatch.has_value()) {
      return Error{ErrorCode::kInvalidArgument,
                   fmt::format("{} and {} cannot be paired: {}", names[0], names[m], *mismatch)};
    }
  }
  const std::vector<std::vector<size_t>> places = MatchWindows(scores);
  if (places.front().empty()) {
    return Error{ErrorCode::kInvalidArgument, "no window is in all files"};
  }

  AlignedScores out;
  out.tokens_known = !first.token_hashes.empty();
  out.what = first.protocol + (first.settings.empty() ? "" : ": " + first.settings);
  for (size_t m = 0; m < scores.size(); ++m) {
    out.models.push_back(ModelOf(scores[m], places[m]));
    out.resolution = std::max(out.resolution, scores[m].resolution);
    out.same_numerics &= scores[m].numerics.engine == first.numerics.engine &&
                         scores[m].numerics.precision == first.numerics.precision;
  }
  for (size_t i = 0; i < places[0].size(); ++i) {
    const ScoredWindow& window = first.windows[places[0][i]];
    std::string text;
    for (size_t m = 0; m < scores.size(); ++m) {
      const ScoredWindow& other = scores[m].windows[places[m][i]];
      if (text.empty()) text = other.text;
      if (other.num_tokens == window.num_tokens) continue;
      return Error{
          ErrorCode::kInvalidArgument,
          fmt::format("{} and {} cannot be paired: of the same window they scored {} and {} "
                      "tokens",
                      names[0], names[m], window.num_tokens, other.num_tokens)};
    }
    out.tokens.push_back(static_cast<double>(window.num_tokens));
    out.labels.push_back(window.label.empty() ? std::to_string(places[0][i]) : window.label);
    out.texts.push_back(std::move(text));
  }
  return out;
}

}  // namespace ram
