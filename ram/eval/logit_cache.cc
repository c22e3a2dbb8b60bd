#include "ram/eval/logit_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <numeric>
#include <utility>

#include "ram/base/bytes.h"
#include "ram/base/hash.h"
#include "ram/base/json.h"
#include "ram/checkpoint/safetensors.h"
#include "ram/eval/scored_logits.h"
#include "ram/stats/sum.h"

namespace ram {
namespace {

constexpr const char* kFormat = "ram.base.v1";
constexpr double kMaxCode = 65535;
// Probabilities of a row sum to 1 within this: f32 logarithms of up to 2^24 tokens.
constexpr double kSumTolerance = 1e-4;

Error Wrong(std::string_view where, std::string_view what) {
  return Error{ErrorCode::kCorrupt, fmt::format("{}: {}", where, what)};
}

template <typename T>
std::span<const uint8_t> BytesOf(const std::vector<T>& values) {
  return {reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(T)};
}

std::span<const uint8_t> BytesOf(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

constexpr std::pair<LogitForm, std::string_view> kFormNames[] = {
    {LogitForm::kF32, "f32"}, {LogitForm::kU16, "u16"}, {LogitForm::kTopK, "top_k"}};

std::string_view FormName(LogitForm form) {
  for (const auto& [named, name] : kFormNames) {
    if (named == form) return name;
  }
  return "";
}

std::string Describe(const LogitCacheInfo& info, std::span<const Window> windows) {
  OrderedJson json = {{"model",
                       {{"name", info.model.name},
                        {"bytes", info.model.bytes},
                        {"bits_per_weight", info.model.bits_per_weight},
                        {"structure_hash", info.model.structure_hash}}},
                      {"numerics",
                       {{"engine", info.numerics.engine},
                        {"precision", info.numerics.precision},
                        {"isa", info.numerics.isa}}},
                      {"settings", info.settings},
                      {"form", FormName(info.form)},
                      {"vocabulary", info.vocabulary},
                      {"windows", windows.size()},
                      {"windows_sha256", HashWindows(windows)}};
  if (!info.model.weights_hash.empty()) json["model"]["weights_hash"] = info.model.weights_hash;
  if (info.form == LogitForm::kTopK) {
    json["top_k"] = info.top_k;
    json["whole_every"] = kWholeEvery;
  }
  return json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

uint64_t NumWhole(uint64_t rows) { return (rows + kWholeEvery - 1) / kWholeEvery; }

// Tensors in the order of the file; logits last, because they are what is large.
SafetensorsLayout LayOut(const LogitCacheInfo& info, std::span<const Window> windows) {
  uint64_t num_tokens = 0;
  for (const Window& window : windows) num_tokens += window.ids.size();
  const uint64_t rows = NumScored(windows);
  std::vector<TensorSpec> tensors = {{"window_tokens", Dtype::kU64, {windows.size()}},
                                     {"window_scored", Dtype::kU64, {windows.size()}},
                                     {"tokens", Dtype::kI32, {num_tokens}}};
  const uint64_t num_kept = info.top_k + 1;
  switch (info.form) {
    case LogitForm::kF32:
      tensors.push_back({"logits", Dtype::kF32, {rows, info.vocabulary}});
      break;
    case LogitForm::kU16:
      for (const char* name : {"floor", "step", "own_kl"}) {
        tensors.push_back({name, Dtype::kF32, {rows}});
      }
      tensors.push_back({"logits", Dtype::kU16, {rows, info.vocabulary}});
      break;
    case LogitForm::kTopK:
      tensors.push_back({"tail", Dtype::kF32, {rows}});
      tensors.push_back({"top_ids", Dtype::kI32, {rows, num_kept}});
      tensors.push_back({"top_ln_p", Dtype::kF32, {rows, num_kept}});
      tensors.push_back({"logits", Dtype::kF32, {NumWhole(rows), info.vocabulary}});
      break;
  }
  return LayOutSafetensors(tensors, {{"format", kFormat}, {"base", Describe(info, windows)}});
}

// A row as 16-bit codes, and what they stand for.
struct CodedRow {
  float floor;
  float step;
  std::vector<uint16_t> codes;
};

float Decode(float floor, float step, uint16_t code) {
  return floor + step * static_cast<float>(code);
}

CodedRow Encode(std::span<const float> logits) {
  const auto [least, largest] = std::minmax_element(logits.begin(), logits.end());
  CodedRow row{*least, static_cast<float>((double{*largest} - *least) / kMaxCode), {}};
  row.codes.reserve(logits.size());
  for (const float logit : logits) {
    const double code = row.step == 0 ? 0 : std::nearbyint((double{logit} - row.floor) / row.step);
    row.codes.push_back(static_cast<uint16_t>(std::min(code, kMaxCode)));
  }
  return row;
}

// The tensors of a file by name, each checked against the shape and type it must have.
class Tensors {
 public:
  Tensors(const File& file, const SafetensorsHeader& header) : file_(file), header_(header) {}

  Result<uint64_t> Offset(std::string_view name, Dtype dtype,
                          const std::vector<uint64_t>& shape) const {
    for (const TensorInfo& tensor : header_.tensors) {
      if (tensor.name != name) continue;
      if (tensor.dtype == dtype && tensor.shape == shape) return tensor.offset;
      return Wrong(file_.path().string(),
                   fmt::format("tensor {} is {} {}, expected {} {}", name, DtypeName(tensor.dtype),
                               ShapeText(tensor.shape), DtypeName(dtype), ShapeText(shape)));
    }
    return Wrong(file_.path().string(), fmt::format("tensor {} is missing", name));
  }

  template <typename T>
  Result<std::vector<T>> Read(std::string_view name, Dtype dtype, uint64_t size) const {
    RAM_ASSIGN_OR_RETURN(const uint64_t offset, Offset(name, dtype, {size}));
    std::vector<T> values(size);
    RAM_RETURN_IF_ERROR(file_.ReadAt(
        offset, {reinterpret_cast<uint8_t*>(values.data()), values.size() * sizeof(T)}));
    return values;
  }

  Result<uint64_t> Size(std::string_view name) const {
    for (const TensorInfo& tensor : header_.tensors) {
      if (tensor.name == name && tensor.shape.size() == 1) return tensor.shape[0];
    }
    return Wrong(file_.path().string(), fmt::format("tensor {} is missing", name));
  }

 private:
  const File& file_;
  const SafetensorsHeader& header_;
};

Status ReadInfo(const Json& json, std::string_view where, LogitCacheInfo* info) {
  RAM_ASSIGN_OR_RETURN(const Json* model, GetObject(json, "model", where));
  RAM_ASSIGN_OR_RETURN(info->model.name, GetString(*model, "name", where));
  RAM_ASSIGN_OR_RETURN(info->model.structure_hash, GetString(*model, "structure_hash", where));
  if (Find(*model, "weights_hash") != nullptr) {  // Earlier files have none.
    RAM_ASSIGN_OR_RETURN(info->model.weights_hash, GetString(*model, "weights_hash", where));
  }
  RAM_ASSIGN_OR_RETURN(const int64_t bytes, GetInt(*model, "bytes", where));
  info->model.bytes = static_cast<uint64_t>(bytes);
  RAM_ASSIGN_OR_RETURN(info->model.bits_per_weight, GetNumber(*model, "bits_per_weight", where));
  RAM_ASSIGN_OR_RETURN(const Json* numerics, GetObject(json, "numerics", where));
  RAM_ASSIGN_OR_RETURN(info->numerics.engine, GetString(*numerics, "engine", where));
  RAM_ASSIGN_OR_RETURN(info->numerics.precision, GetString(*numerics, "precision", where));
  RAM_ASSIGN_OR_RETURN(info->numerics.isa, GetString(*numerics, "isa", where));
  RAM_ASSIGN_OR_RETURN(info->settings, GetString(json, "settings", where));
  RAM_ASSIGN_OR_RETURN(const std::string form, GetString(json, "form", where));
  const auto* named = std::find_if(std::begin(kFormNames), std::end(kFormNames),
                                   [&](const auto& pair) { return pair.second == form; });
  if (named == std::end(kFormNames)) {
    return Wrong(where, fmt::format("logits of the form \"{}\", expected f32, u16 or top_k", form));
  }
  info->form = named->first;
  RAM_ASSIGN_OR_RETURN(const int64_t vocabulary, GetInt(json, "vocabulary", where));
  if (vocabulary < 1) return Wrong(where, "a vocabulary without tokens");
  info->vocabulary = static_cast<uint64_t>(vocabulary);
  if (info->form != LogitForm::kTopK) return Done{};
  RAM_ASSIGN_OR_RETURN(const int64_t top_k, GetInt(json, "top_k", where));
  RAM_ASSIGN_OR_RETURN(const int64_t whole_every, GetInt(json, "whole_every", where));
  if (top_k < static_cast<int64_t>(kLeastTopK) || top_k > vocabulary - 2 ||
      whole_every != static_cast<int64_t>(kWholeEvery)) {
    return Wrong(where, fmt::format("the {} most likely of {} tokens, every {}th row whole", top_k,
                                    vocabulary, whole_every));
  }
  info->top_k = static_cast<uint64_t>(top_k);
  return Done{};
}

}  // namespace

std::string HashWindows(std::span<const Window> windows) {
  std::string all;
  for (const Window& window : windows) {
    const TokenHash hash = HashTokens(window.ids);
    all.append(reinterpret_cast<const char*>(hash.data()), hash.size());
    all += fmt::format("{};", window.first_scored);
  }
  return Sha256Hex(all);
}

uint64_t LogitCacheBytes(const LogitCacheInfo& info, std::span<const Window> windows) {
  return LayOut(info, windows).file_bytes;
}

LogitCacheWriter::LogitCacheWriter(const File& file, const LogitCacheInfo& info)
    : file_(&file), form_(info.form), top_k_(info.top_k), vocabulary_(info.vocabulary) {}

Result<LogitCacheWriter> LogitCacheWriter::Start(const File& file, const LogitCacheInfo& info,
                                                 std::span<const Window> windows) {
  RAM_CHECK(!windows.empty() && info.vocabulary > 0);
  RAM_CHECK(info.form != LogitForm::kTopK ||
            (info.top_k >= kLeastTopK && info.top_k + 2 <= info.vocabulary));
  LogitCacheWriter writer(file, info);
  const SafetensorsLayout layout = LayOut(info, windows);
  std::vector<uint64_t> sizes;
  std::vector<uint64_t> scored;
  std::vector<int32_t> tokens;
  for (const Window& window : windows) {
    sizes.push_back(window.ids.size());
    scored.push_back(window.num_scored());
    tokens.insert(tokens.end(), window.ids.begin(), window.ids.end());
  }
  RAM_RETURN_IF_ERROR(file.WriteAt(0, BytesOf(layout.prefix)));
  RAM_RETURN_IF_ERROR(file.WriteAt(layout.offsets[0], BytesOf(sizes)));
  RAM_RETURN_IF_ERROR(file.WriteAt(layout.offsets[1], BytesOf(scored)));
  RAM_RETURN_IF_ERROR(file.WriteAt(layout.offsets[2], BytesOf(tokens)));
  writer.logits_offset_ = layout.offsets.back();
  if (info.form == LogitForm::kU16) {
    writer.rows_offset_ = layout.offsets[3];
    const uint64_t rows = NumScored(windows);
    writer.floors_.resize(rows);
    writer.steps_.resize(rows);
    writer.own_kl_.resize(rows);
  }
  if (info.form == LogitForm::kTopK) {
    writer.rows_offset_ = layout.offsets[3];
    writer.top_offset_ = layout.offsets[4];
    for (const Window& window : windows) {
      const auto first = window.ids.begin() + static_cast<std::ptrdiff_t>(window.first_scored);
      writer.targets_.insert(writer.targets_.end(), first, window.ids.end());
    }
    writer.tails_.resize(writer.targets_.size());
  }
  return writer;
}

Status LogitCacheWriter::WriteRow(uint64_t row, std::span<const float> logits) {
  RAM_CHECK(logits.size() == vocabulary_);
  const std::optional<double> total = LogTotal(logits);
  if (!total.has_value()) {
    return Error{ErrorCode::kCorrupt,
                 fmt::format("the base gives scored token {} a logit that is not a number", row)};
  }
  switch (form_) {
    case LogitForm::kF32:
      return WriteWhole(row, logits);
    case LogitForm::kU16:
      return WriteCoded(row, logits, *total);
    case LogitForm::kTopK:
      if (row % kWholeEvery == 0) RAM_RETURN_IF_ERROR(WriteWhole(row / kWholeEvery, logits));
      return WriteTop(row, logits, *total);
  }
  RAM_CHECK(false);
}

Status LogitCacheWriter::WriteWhole(uint64_t row, std::span<const float> logits) const {
  return file_->WriteAt(
      logits_offset_ + row * vocabulary_ * sizeof(float),
      {reinterpret_cast<const uint8_t*>(logits.data()), logits.size() * sizeof(float)});
}

Status LogitCacheWriter::WriteCoded(uint64_t row, std::span<const float> logits, double total) {
  const CodedRow coded = Encode(logits);
  std::vector<float> kept;
  kept.reserve(logits.size());
  for (const uint16_t code : coded.codes) kept.push_back(Decode(coded.floor, coded.step, code));
  const std::optional<double> kept_total = LogTotal(kept);
  RAM_CHECK(kept_total.has_value());
  floors_[row] = coded.floor;
  steps_[row] = coded.step;
  own_kl_[row] = static_cast<float>(Diverge({logits, total}, {kept, *kept_total}, 0).kl);
  return file_->WriteAt(logits_offset_ + row * vocabulary_ * sizeof(uint16_t),
                        BytesOf(coded.codes));
}

Status LogitCacheWriter::WriteTop(uint64_t row, std::span<const float> logits, double total) {
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto by_logit = [&](int32_t a, int32_t b) {
    const float x = logits[static_cast<size_t>(a)];
    const float y = logits[static_cast<size_t>(b)];
    return x > y || (x == y && a < b);
  };
  // The token that came is kept too; where it is among the most likely, one more of those.
  const auto kept = ids.begin() + static_cast<std::ptrdiff_t>(top_k_) + 1;
  std::nth_element(ids.begin(), kept - 1, ids.end(), by_logit);
  std::sort(ids.begin(), kept, by_logit);
  if (const auto came = std::find(kept, ids.end(), targets_[row]); came != ids.end()) {
    std::iter_swap(kept - 1, came);
  }
  Sum tail;
  for (auto id = kept; id != ids.end(); ++id) {
    tail.Add(std::exp(logits[static_cast<size_t>(*id)] - total));
  }
  ids.erase(kept, ids.end());
  std::vector<float> ln_p;
  ln_p.reserve(ids.size());
  for (const int32_t id : ids) {
    ln_p.push_back(static_cast<float>(logits[static_cast<size_t>(id)] - total));
  }
  tails_[row] = static_cast<float>(tail.value());
  const uint64_t row_bytes = ids.size() * sizeof(int32_t);
  RAM_RETURN_IF_ERROR(file_->WriteAt(top_offset_ + row * row_bytes, BytesOf(ids)));
  return file_->WriteAt(top_offset_ + (tails_.size() + row) * row_bytes, BytesOf(ln_p));
}

Status LogitCacheWriter::Finish() {
  if (form_ == LogitForm::kF32) return Done{};
  if (form_ == LogitForm::kTopK) return file_->WriteAt(rows_offset_, BytesOf(tails_));
  const uint64_t bytes = floors_.size() * sizeof(float);
  RAM_RETURN_IF_ERROR(file_->WriteAt(rows_offset_, BytesOf(floors_)));
  RAM_RETURN_IF_ERROR(file_->WriteAt(rows_offset_ + bytes, BytesOf(steps_)));
  return file_->WriteAt(rows_offset_ + 2 * bytes, BytesOf(own_kl_));
}

Status LogitCache::ReadWindows(std::span<const uint64_t> sizes, std::span<const uint64_t> scored,
                               const std::vector<int32_t>& tokens) {
  const std::string where = file_.path().string();
  uint64_t at = 0;
  for (size_t w = 0; w < sizes.size(); ++w) {
    if (sizes[w] > tokens.size() - at || scored[w] == 0 || scored[w] >= sizes[w]) {
      return Wrong(where, fmt::format("window {} has {} tokens of which {} are scored, {} tokens "
                                      "are left in the file",
                                      w, sizes[w], scored[w], tokens.size() - at));
    }
    Window window;
    const auto first = tokens.begin() + static_cast<std::ptrdiff_t>(at);
    window.ids.assign(first, first + static_cast<std::ptrdiff_t>(sizes[w]));
    for (const int32_t id : window.ids) {
      if (id >= 0 && static_cast<uint64_t>(id) < info_.vocabulary) continue;
      return Wrong(where, fmt::format("window {} has the token {}, the vocabulary {}", w, id,
                                      info_.vocabulary));
    }
    window.first_scored = sizes[w] - scored[w];
    windows_.push_back(std::move(window));
    at += sizes[w];
    num_rows_ += scored[w];
  }
  if (at != tokens.size()) return Wrong(where, "tokens that belong to no window");
  return Done{};
}

Result<std::unique_ptr<LogitCache>> LogitCache::Open(const std::filesystem::path& path) {
  RAM_ASSIGN_OR_RETURN(File file, File::OpenForReading(path));
  const std::string where = path.string();
  std::unique_ptr<LogitCache> cache(new LogitCache(std::move(file)));
  RAM_ASSIGN_OR_RETURN(const SafetensorsHeader header, ReadSafetensorsHeader(cache->file_));
  const auto format = header.metadata.find("format");
  const auto base = header.metadata.find("base");
  if (format == header.metadata.end() || format->second != kFormat ||
      base == header.metadata.end()) {
    return Wrong(where,
                 fmt::format("not logits of a base: its metadata lacks the format {}", kFormat));
  }
  RAM_ASSIGN_OR_RETURN(const Json json, ParseJson(base->second, where));
  RAM_RETURN_IF_ERROR(ReadInfo(json, where, &cache->info_));
  cache->vocabulary_ = cache->info_.vocabulary;

  const Tensors tensors(cache->file_, header);
  RAM_ASSIGN_OR_RETURN(const uint64_t num_windows, tensors.Size("window_tokens"));
  RAM_ASSIGN_OR_RETURN(const uint64_t num_tokens, tensors.Size("tokens"));
  RAM_ASSIGN_OR_RETURN(const std::vector<uint64_t> sizes,
                       tensors.Read<uint64_t>("window_tokens", Dtype::kU64, num_windows));
  RAM_ASSIGN_OR_RETURN(const std::vector<uint64_t> scored,
                       tensors.Read<uint64_t>("window_scored", Dtype::kU64, num_windows));
  RAM_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens,
                       tensors.Read<int32_t>("tokens", Dtype::kI32, num_tokens));
  RAM_RETURN_IF_ERROR(cache->ReadWindows(sizes, scored, tokens));
  if (num_windows == 0) return Wrong(where, "no windows");
  RAM_ASSIGN_OR_RETURN(const std::string hash, GetString(json, "windows_sha256", where));
  if (hash != HashWindows(cache->windows_)) {
    return Wrong(where, "damaged: the tokens do not have the hash that the file states");
  }
  const uint64_t rows = cache->num_rows_;
  const LogitForm form = cache->info_.form;
  RAM_ASSIGN_OR_RETURN(
      cache->logits_offset_,
      tensors.Offset("logits", form == LogitForm::kU16 ? Dtype::kU16 : Dtype::kF32,
                     {form == LogitForm::kTopK ? NumWhole(rows) : rows, cache->vocabulary_}));
  if (form == LogitForm::kTopK) {
    const uint64_t num_kept = cache->info_.top_k + 1;
    RAM_ASSIGN_OR_RETURN(cache->tails_, tensors.Read<float>("tail", Dtype::kF32, rows));
    RAM_ASSIGN_OR_RETURN(cache->ids_offset_,
                         tensors.Offset("top_ids", Dtype::kI32, {rows, num_kept}));
    RAM_ASSIGN_OR_RETURN(cache->top_offset_,
                         tensors.Offset("top_ln_p", Dtype::kF32, {rows, num_kept}));
  }
  if (form == LogitForm::kU16) {
    RAM_ASSIGN_OR_RETURN(cache->floors_, tensors.Read<float>("floor", Dtype::kF32, rows));
    RAM_ASSIGN_OR_RETURN(cache->steps_, tensors.Read<float>("step", Dtype::kF32, rows));
    RAM_ASSIGN_OR_RETURN(const std::vector<float> own,
                         tensors.Read<float>("own_kl", Dtype::kF32, rows));
    const std::vector<double> values(own.begin(), own.end());
    cache->own_kl_mean_ = Mean(values);
    cache->own_kl_max_ = *std::max_element(values.begin(), values.end());
    if (!std::isfinite(cache->own_kl_mean_)) return Wrong(where, "own_kl is not a number");
  }
  return cache;
}

uint64_t LogitCache::whole_every() const {
  return info_.form == LogitForm::kTopK ? kWholeEvery : 0;
}

Error LogitCache::WrongRow(uint64_t row, std::string_view what) const {
  return Wrong(file_.path().string(), fmt::format("scored token {}: {}", row, what));
}

Result<LogProbs> LogitCache::ReadF32(uint64_t row, uint64_t index,
                                     std::vector<float>* buffer) const {
  buffer->resize(vocabulary_);
  const uint64_t bytes = vocabulary_ * sizeof(float);
  RAM_RETURN_IF_ERROR(file_.ReadAt(logits_offset_ + index * bytes,
                                   {reinterpret_cast<uint8_t*>(buffer->data()), bytes}));
  const std::optional<double> total = LogTotal(*buffer);
  if (!total.has_value()) return WrongRow(row, "the logits are not numbers");
  return LogProbs{*buffer, *total};
}

Result<LogProbs> LogitCache::ReadTop(uint64_t row, const LogProbs& model,
                                     std::vector<float>* buffer) const {
  RAM_CHECK(model.values.size() == vocabulary_);
  const uint64_t num_kept = info_.top_k + 1;
  std::vector<int32_t> ids(num_kept);
  std::vector<float> ln_p(num_kept);
  const uint64_t bytes = num_kept * sizeof(float);
  RAM_RETURN_IF_ERROR(
      file_.ReadAt(ids_offset_ + row * bytes, {reinterpret_cast<uint8_t*>(ids.data()), bytes}));
  RAM_RETURN_IF_ERROR(
      file_.ReadAt(top_offset_ + row * bytes, {reinterpret_cast<uint8_t*>(ln_p.data()), bytes}));
  // The tail of the model, scaled to the probability of the base's.
  buffer->assign(model.values.begin(), model.values.end());
  constexpr float kKept = -std::numeric_limits<float>::infinity();
  double sum = tails_[row];
  for (uint64_t i = 0; i < num_kept; ++i) {
    if (ids[i] < 0 || static_cast<uint64_t>(ids[i]) >= vocabulary_) {
      return WrongRow(row, fmt::format("the token {}, of a vocabulary of {}", ids[i], vocabulary_));
    }
    (*buffer)[static_cast<size_t>(ids[i])] = kKept;
    sum += std::exp(double{ln_p[i]});
  }
  if (!(std::abs(sum - 1) <= kSumTolerance) || !(tails_[row] >= 0)) {
    return WrongRow(row, fmt::format("probabilities that sum to {:.6g}", sum));
  }
  Sum model_tail;
  for (const float value : *buffer) model_tail.Add(std::exp(value - model.log_total));
  const double scale = std::log(std::max<double>(tails_[row], std::numeric_limits<float>::min())) -
                       std::log(std::max(model_tail.value(), std::numeric_limits<double>::min())) -
                       model.log_total;
  for (float& value : *buffer) value = static_cast<float>(value + scale);
  for (uint64_t i = 0; i < num_kept; ++i) (*buffer)[static_cast<size_t>(ids[i])] = ln_p[i];
  LogProbs kept = {*buffer, 0};
  kept.num_top = kTopShared;
  std::copy_n(ids.begin(), kept.num_top, kept.top.begin());
  return kept;
}

Result<LogProbs> LogitCache::ReadWholeRow(uint64_t row, std::vector<float>* buffer) const {
  RAM_CHECK(row < num_rows_);
  if (info_.form != LogitForm::kTopK) return ReadRow(row, {}, buffer);
  RAM_CHECK(row % kWholeEvery == 0);
  return ReadF32(row, row / kWholeEvery, buffer);
}

Result<LogProbs> LogitCache::ReadRow(uint64_t row, const LogProbs& model,
                                     std::vector<float>* buffer) const {
  RAM_CHECK(row < num_rows_);
  if (info_.form == LogitForm::kF32) return ReadF32(row, row, buffer);
  if (info_.form == LogitForm::kTopK) return ReadTop(row, model, buffer);
  buffer->resize(vocabulary_);
  std::vector<uint16_t> codes(vocabulary_);
  const uint64_t bytes = vocabulary_ * sizeof(uint16_t);
  RAM_RETURN_IF_ERROR(file_.ReadAt(logits_offset_ + row * bytes,
                                   {reinterpret_cast<uint8_t*>(codes.data()), bytes}));
  for (uint64_t i = 0; i < vocabulary_; ++i) {
    (*buffer)[i] = Decode(floors_[row], steps_[row], codes[i]);
  }
  const std::optional<double> total = LogTotal(*buffer);
  if (!total.has_value()) return WrongRow(row, "the logits are not numbers");
  return LogProbs{*buffer, *total};
}

}  // namespace ram
