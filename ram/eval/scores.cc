#include "ram/eval/scores.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>

#include "ram/base/file.h"
#include "ram/base/hash.h"
#include "ram/base/json.h"
#include "ram/checkpoint/safetensors.h"
#include "ram/stats/sum.h"

namespace ram {
namespace {

static_assert(std::endian::native == std::endian::little, "files are little-endian");

constexpr std::string_view kFormat = "ram.scores.v1";
constexpr uint64_t kMaxFileBytes = uint64_t{1} << 36;
constexpr size_t kLengthBytes = 8;
constexpr size_t kHexDigits = 64;
constexpr std::string_view kHashKey = R"("sha256":")";  // Once in a header: inside strings it is
                                                        // escaped.
// Means were added up in another order than ours at most.
constexpr double kMeanTolerance = 1e-5;

TokenHash FromHex(std::string_view hex) {
  TokenHash hash = {};
  for (size_t i = 0; i < hash.size(); ++i) {
    std::from_chars(hex.data() + 2 * i, hex.data() + 2 * i + 2, hash[i], 16);
  }
  return hash;
}

template <typename T>
std::string_view BytesOf(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

double MeanOf(std::span<const float> nll) {
  Sum sum;
  for (const float value : nll) sum.Add(value);
  return sum.value() / static_cast<double>(nll.size());
}

Error Wrong(std::string_view where, std::string_view what) {
  return Error{ErrorCode::kCorrupt, fmt::format("{}: {}", where, what)};
}

std::string Description(const Scores& scores) {
  OrderedJson json = {{"model",
                       {{"name", scores.model.name},
                        {"bytes", scores.model.bytes},
                        {"bits_per_weight", scores.model.bits_per_weight},
                        {"structure_hash", scores.model.structure_hash}}},
                      {"numerics",
                       {{"engine", scores.numerics.engine},
                        {"precision", scores.numerics.precision},
                        {"isa", scores.numerics.isa}}},
                      {"protocol", scores.protocol},
                      {"settings", scores.settings},
                      {"text",
                       {{"name", scores.text.name},
                        {"sha256", scores.text.sha256},
                        {"bytes", scores.text.bytes},
                        {"words", scores.text.words}}},
                      {"resolution", scores.resolution},
                      {"windows", scores.windows.size()},
                      {"tokens_sha256", TokensSha256(scores)}};
  if (!scores.model.weights_hash.empty()) json["model"]["weights_hash"] = scores.model.weights_hash;
  return json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

// ---- Reading ----

// Where the 64 digits of the file's own hash are; npos if nowhere.
size_t FindOwnHash(std::string_view bytes, uint64_t data_offset) {
  const size_t at = bytes.substr(0, data_offset).find(kHashKey);
  if (at == std::string_view::npos || at + kHashKey.size() + kHexDigits > data_offset) {
    return std::string_view::npos;
  }
  return at + kHashKey.size();
}

std::string OwnHash(std::string bytes, size_t at) {
  bytes.replace(at, kHexDigits, kHexDigits, '0');
  return Sha256Hex(bytes);
}

Result<uint64_t> GetCount(const Json& object, std::string_view key, std::string_view where) {
  RAM_ASSIGN_OR_RETURN(const int64_t value, GetInt(object, key, where));
  if (value < 0) return Wrong(where, fmt::format("key \"{}\": expected a count", key));
  return static_cast<uint64_t>(value);
}

Status ReadDescription(const Json& json, std::string_view where, Scores* scores) {
  RAM_ASSIGN_OR_RETURN(const Json* model, GetObject(json, "model", where));
  RAM_ASSIGN_OR_RETURN(scores->model.name, GetString(*model, "name", where));
  RAM_ASSIGN_OR_RETURN(scores->model.bytes, GetCount(*model, "bytes", where));
  RAM_ASSIGN_OR_RETURN(scores->model.bits_per_weight, GetNumber(*model, "bits_per_weight", where));
  RAM_ASSIGN_OR_RETURN(scores->model.structure_hash, GetString(*model, "structure_hash", where));
  if (Find(*model, "weights_hash") != nullptr) {  // Earlier files have none.
    RAM_ASSIGN_OR_RETURN(scores->model.weights_hash, GetString(*model, "weights_hash", where));
  }
  RAM_ASSIGN_OR_RETURN(const Json* numerics, GetObject(json, "numerics", where));
  RAM_ASSIGN_OR_RETURN(scores->numerics.engine, GetString(*numerics, "engine", where));
  RAM_ASSIGN_OR_RETURN(scores->numerics.precision, GetString(*numerics, "precision", where));
  RAM_ASSIGN_OR_RETURN(scores->numerics.isa, GetString(*numerics, "isa", where));
  RAM_ASSIGN_OR_RETURN(scores->protocol, GetString(json, "protocol", where));
  RAM_ASSIGN_OR_RETURN(scores->settings, GetString(json, "settings", where));
  RAM_ASSIGN_OR_RETURN(const Json* text, GetObject(json, "text", where));
  RAM_ASSIGN_OR_RETURN(scores->text.name, GetString(*text, "name", where));
  RAM_ASSIGN_OR_RETURN(scores->text.sha256, GetString(*text, "sha256", where));
  RAM_ASSIGN_OR_RETURN(scores->text.bytes, GetCount(*text, "bytes", where));
  RAM_ASSIGN_OR_RETURN(scores->text.words, GetCount(*text, "words", where));
  RAM_ASSIGN_OR_RETURN(scores->resolution, GetNumber(json, "resolution", where));
  return Done{};
}

// The arrays of a file, by name, checked against what the format says they are.
class Arrays {
 public:
  Arrays(std::string_view bytes, const SafetensorsHeader& header, std::string_view where)
      : bytes_(bytes), header_(header), where_(where) {}

  bool Has(std::string_view name) const { return Find(name) != nullptr; }

  // Elements of a vector of `size` (any if 0), or of `size` rows of `columns`.
  template <typename T>
  Result<std::vector<T>> Get(std::string_view name, Dtype dtype, size_t size,
                             size_t columns = 1) const {
    const TensorInfo* tensor = Find(name);
    if (tensor == nullptr) return Wrong(where_, fmt::format("tensor {} is missing", name));
    std::vector<uint64_t> expected = {size};
    if (columns > 1) expected.push_back(columns);
    const bool fits = size == 0 ? tensor->shape.size() == 1 : tensor->shape == expected;
    if (tensor->dtype != dtype || !fits) {
      return Wrong(where_, fmt::format("tensor {} is {} {}, expected {} {}", name,
                                       DtypeName(tensor->dtype), ShapeText(tensor->shape),
                                       DtypeName(dtype), size == 0 ? "[n]" : ShapeText(expected)));
    }
    std::vector<T> values(tensor->num_bytes / sizeof(T));
    if (!values.empty()) {
      std::memcpy(values.data(), bytes_.data() + tensor->offset, tensor->num_bytes);
    }
    return values;
  }

 private:
  const TensorInfo* Find(std::string_view name) const {
    for (const TensorInfo& tensor : header_.tensors) {
      if (tensor.name == name) return &tensor;
    }
    return nullptr;
  }

  std::string_view bytes_;
  const SafetensorsHeader& header_;
  std::string_view where_;
};

Status ReadStrings(const Arrays& arrays, std::string_view name, std::string_view where,
                   std::string ScoredWindow::*field, std::vector<ScoredWindow>* windows) {
  if (!arrays.Has(name)) return Done{};
  const std::string ends_name = fmt::format("{}_ends", name);
  RAM_ASSIGN_OR_RETURN(const std::vector<char> all, arrays.Get<char>(name, Dtype::kU8, 0));
  RAM_ASSIGN_OR_RETURN(const std::vector<uint64_t> ends,
                       arrays.Get<uint64_t>(ends_name, Dtype::kU64, windows->size()));
  uint64_t begin = 0;
  for (size_t i = 0; i < ends.size(); ++i) {
    if (ends[i] < begin || ends[i] > all.size()) {
      return Wrong(where, fmt::format("tensor {}: window {} ends at {}, outside its {} bytes",
                                      ends_name, i, ends[i], all.size()));
    }
    (*windows)[i].*field = std::string(all.data() + begin, ends[i] - begin);
    begin = ends[i];
  }
  if (begin != all.size()) {
    return Wrong(
        where, fmt::format("tensor {} has {} bytes, its windows take {}", name, all.size(), begin));
  }
  return Done{};
}

Status ReadTokens(const Arrays& arrays, std::string_view where, Scores* scores) {
  if (!arrays.Has("token_nll")) return Done{};
  const uint64_t total = scores->num_tokens();
  RAM_ASSIGN_OR_RETURN(scores->token_nll, arrays.Get<float>("token_nll", Dtype::kF32, total));
  size_t begin = 0;
  for (size_t i = 0; i < scores->windows.size(); ++i) {
    const ScoredWindow& window = scores->windows[i];
    const std::span nll = std::span(scores->token_nll).subspan(begin, window.num_tokens);
    const double mean = MeanOf(nll);
    if (!(std::abs(mean - window.nll) <= kMeanTolerance * std::max(1.0, std::abs(window.nll)))) {
      return Wrong(where,
                   fmt::format("window {}: its tokens have the mean {:.6g}, the window {:.6g}", i,
                               mean, window.nll));
    }
    begin += window.num_tokens;
  }
  return Done{};
}

Status ReadWindows(const Arrays& arrays, uint64_t n, std::string_view where, Scores* scores) {
  RAM_ASSIGN_OR_RETURN(const std::vector<double> nll,
                       arrays.Get<double>("window_nll", Dtype::kF64, n));
  RAM_ASSIGN_OR_RETURN(const std::vector<uint64_t> tokens,
                       arrays.Get<uint64_t>("window_tokens", Dtype::kU64, n));
  RAM_ASSIGN_OR_RETURN(const std::vector<uint64_t> starts,
                       arrays.Get<uint64_t>("window_start", Dtype::kU64, n));
  scores->windows.resize(n);
  for (size_t i = 0; i < n; ++i) {
    if (!(std::abs(nll[i]) <= kLargestNll)) {  // NaN too.
      return Wrong(where,
                   fmt::format("window {} has the score {}, which no model can have", i, nll[i]));
    }
    if (tokens[i] == 0 || tokens[i] >> 32 != 0) {
      return Wrong(where, fmt::format("window {} has {} tokens", i, tokens[i]));
    }
    scores->windows[i].nll = nll[i];
    scores->windows[i].num_tokens = tokens[i];
    scores->windows[i].start = starts[i];
  }
  for (const auto& [name, field] :
       {std::pair("window_words", &ScoredWindow::words), {"window_bytes", &ScoredWindow::bytes}}) {
    if (!arrays.Has(name)) continue;
    RAM_ASSIGN_OR_RETURN(const std::vector<uint64_t> counts,
                         arrays.Get<uint64_t>(name, Dtype::kU64, n));
    for (size_t i = 0; i < n; ++i) scores->windows[i].*field = counts[i];
  }
  if (arrays.Has("token_sha256")) {
    RAM_ASSIGN_OR_RETURN(const std::vector<uint8_t> hashes,
                         arrays.Get<uint8_t>("token_sha256", Dtype::kU8, n, sizeof(TokenHash)));
    scores->token_hashes.resize(n);
    std::memcpy(scores->token_hashes.data(), hashes.data(), hashes.size());
  }
  RAM_RETURN_IF_ERROR(ReadStrings(arrays, "text", where, &ScoredWindow::text, &scores->windows));
  RAM_RETURN_IF_ERROR(ReadStrings(arrays, "label", where, &ScoredWindow::label, &scores->windows));
  return ReadTokens(arrays, where, scores);
}

}  // namespace

TokenHash HashTokens(std::span<const int32_t> ids) {
  return FromHex(Sha256Hex({reinterpret_cast<const char*>(ids.data()), ids.size_bytes()}));
}

uint64_t Scores::num_tokens() const {
  uint64_t total = 0;
  for (const ScoredWindow& window : windows) total += window.num_tokens;
  return total;
}

std::string TokensSha256(const Scores& scores) {
  return scores.token_hashes.empty() ? "" : Sha256Hex(BytesOf(scores.token_hashes));
}

ScoredWindow& AddWindow(Scores* scores, uint64_t start, std::span<const float> nll,
                        const TokenHash& hash, std::string text) {
  RAM_CHECK(!nll.empty());
  ScoredWindow window;
  window.start = start;
  window.num_tokens = nll.size();
  window.nll = MeanOf(nll);
  window.text = std::move(text);
  scores->windows.push_back(std::move(window));
  scores->token_hashes.push_back(hash);
  scores->token_nll.insert(scores->token_nll.end(), nll.begin(), nll.end());
  return scores->windows.back();
}

std::string ToScoresBytes(const Scores& scores) {
  const size_t n = scores.windows.size();
  RAM_CHECK(n > 0);
  RAM_CHECK(scores.token_hashes.empty() || scores.token_hashes.size() == n);
  RAM_CHECK(scores.token_nll.empty() || scores.token_nll.size() == scores.num_tokens());
  std::vector<double> nll;
  std::vector<uint64_t> tokens;
  std::vector<uint64_t> starts;
  for (const ScoredWindow& window : scores.windows) {
    nll.push_back(window.nll);
    tokens.push_back(window.num_tokens);
    starts.push_back(window.start);
  }
  std::vector<TensorSpec> specs;
  std::string data;
  const auto add = [&](std::string_view name, Dtype dtype, std::vector<uint64_t> shape,
                       std::string_view bytes) {
    specs.push_back({std::string(name), dtype, std::move(shape)});
    data += bytes;
  };
  add("window_nll", Dtype::kF64, {n}, BytesOf(nll));
  add("window_tokens", Dtype::kU64, {n}, BytesOf(tokens));
  add("window_start", Dtype::kU64, {n}, BytesOf(starts));
  for (const auto& [name, field] :
       {std::pair("window_words", &ScoredWindow::words), {"window_bytes", &ScoredWindow::bytes}}) {
    std::vector<uint64_t> counts;
    for (const ScoredWindow& window : scores.windows) counts.push_back(window.*field);
    if (std::ranges::count(counts, 0) == 0) add(name, Dtype::kU64, {n}, BytesOf(counts));
  }
  std::vector<std::pair<std::string, std::string>> strings;  // Name, all of it.
  for (const auto& [name, field] :
       {std::pair("text", &ScoredWindow::text), std::pair("label", &ScoredWindow::label)}) {
    std::string all;
    std::vector<uint64_t> ends;
    for (const ScoredWindow& window : scores.windows) {
      all += window.*field;
      ends.push_back(all.size());
    }
    if (all.empty()) continue;
    add(fmt::format("{}_ends", name), Dtype::kU64, {n}, BytesOf(ends));
    strings.emplace_back(name, std::move(all));
  }
  if (!scores.token_nll.empty()) {
    add("token_nll", Dtype::kF32, {scores.token_nll.size()}, BytesOf(scores.token_nll));
  }
  if (!scores.token_hashes.empty()) {
    add("token_sha256", Dtype::kU8, {n, sizeof(TokenHash)}, BytesOf(scores.token_hashes));
  }
  for (const auto& [name, all] : strings) add(name, Dtype::kU8, {all.size()}, all);

  const SafetensorsLayout layout =
      LayOutSafetensors(specs, {{"format", std::string(kFormat)},
                                {"scores", Description(scores)},
                                {"sha256", std::string(kHexDigits, '0')}});
  std::string bytes = layout.prefix + data;
  RAM_CHECK(bytes.size() == layout.file_bytes);
  const size_t at = FindOwnHash(bytes, layout.prefix.size());
  RAM_CHECK(at != std::string::npos);
  return bytes.replace(at, kHexDigits, Sha256Hex(bytes));
}

Result<Scores> ParseScores(std::string_view bytes, std::string_view where) {
  uint64_t header_bytes = 0;
  if (bytes.size() < kLengthBytes) {
    return Wrong(where, fmt::format("not a score file: it has {} bytes", bytes.size()));
  }
  std::memcpy(&header_bytes, bytes.data(), kLengthBytes);
  if (header_bytes > bytes.size() - kLengthBytes) {
    return Wrong(where, fmt::format("not a score file, or cut short: its header would take {} "
                                    "bytes, the file has {}",
                                    header_bytes, bytes.size()));
  }
  RAM_ASSIGN_OR_RETURN(const SafetensorsHeader header,
                       ParseSafetensorsHeader(bytes.substr(kLengthBytes, header_bytes),
                                              bytes.size(), where, Strictness::kStrict));
  const auto format = header.metadata.find("format");
  const auto description = header.metadata.find("scores");
  if (format == header.metadata.end() || format->second != kFormat ||
      description == header.metadata.end()) {
    return Wrong(where, fmt::format("not a score file: its metadata lacks the format {}", kFormat));
  }
  const size_t at = FindOwnHash(bytes, header.data_offset);
  if (at == std::string_view::npos) return Wrong(where, "its metadata lacks the SHA-256");
  if (bytes.substr(at, kHexDigits) != OwnHash(std::string(bytes), at)) {
    return Wrong(where, "damaged: the contents do not have the SHA-256 that the file states");
  }

  RAM_ASSIGN_OR_RETURN(const Json json, ParseJson(description->second, where));
  Scores scores;
  RAM_RETURN_IF_ERROR(ReadDescription(json, where, &scores));
  RAM_ASSIGN_OR_RETURN(const uint64_t n, GetCount(json, "windows", where));
  if (n == 0) return Wrong(where, "no windows");
  RAM_RETURN_IF_ERROR(ReadWindows(Arrays(bytes, header, where), n, where, &scores));
  RAM_ASSIGN_OR_RETURN(const std::string tokens_sha256, GetString(json, "tokens_sha256", where));
  if (tokens_sha256 != TokensSha256(scores)) {
    return Wrong(where, "tokens_sha256 is not the hash of the windows' token hashes");
  }
  return scores;
}

Status WriteScores(const Scores& scores, const std::filesystem::path& path) {
  return WriteFileAtomically(path, ToScoresBytes(scores));
}

Result<Scores> ReadScores(const std::filesystem::path& path) {
  RAM_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path, kMaxFileBytes));
  return ParseScores(bytes, path.string());
}

}  // namespace ram
