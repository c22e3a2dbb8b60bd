#include "ram/eval/logit_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "ram/base/bytes.h"
#include "ram/base/hash.h"
#include "ram/base/json.h"
#include "ram/checkpoint/safetensors.h"
#include "ram/eval/scored_logits.h"

namespace ram {
namespace {

constexpr const char* kFormat = "ram.base.v1";
constexpr double kMaxCode = 65535;

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

std::string_view FormName(LogitForm form) { return form == LogitForm::kF32 ? "f32" : "u16"; }

std::string Describe(const LogitCacheInfo& info, std::span<const Window> windows) {
  const OrderedJson json = {{"model",
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
  return json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

// Tensors in the order of the file; logits last, because they are what is large.
SafetensorsLayout LayOut(const LogitCacheInfo& info, std::span<const Window> windows) {
  uint64_t num_tokens = 0;
  for (const Window& window : windows) num_tokens += window.ids.size();
  const uint64_t rows = NumScored(windows);
  std::vector<TensorSpec> tensors = {{"window_tokens", Dtype::kU64, {windows.size()}},
                                     {"window_scored", Dtype::kU64, {windows.size()}},
                                     {"tokens", Dtype::kI32, {num_tokens}}};
  const bool coded = info.form == LogitForm::kU16;
  if (coded) {
    for (const char* name : {"floor", "step", "own_kl"}) {
      tensors.push_back({name, Dtype::kF32, {rows}});
    }
  }
  tensors.push_back({"logits", coded ? Dtype::kU16 : Dtype::kF32, {rows, info.vocabulary}});
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
  RAM_ASSIGN_OR_RETURN(const int64_t bytes, GetInt(*model, "bytes", where));
  info->model.bytes = static_cast<uint64_t>(bytes);
  RAM_ASSIGN_OR_RETURN(info->model.bits_per_weight, GetNumber(*model, "bits_per_weight", where));
  RAM_ASSIGN_OR_RETURN(const Json* numerics, GetObject(json, "numerics", where));
  RAM_ASSIGN_OR_RETURN(info->numerics.engine, GetString(*numerics, "engine", where));
  RAM_ASSIGN_OR_RETURN(info->numerics.precision, GetString(*numerics, "precision", where));
  RAM_ASSIGN_OR_RETURN(info->numerics.isa, GetString(*numerics, "isa", where));
  RAM_ASSIGN_OR_RETURN(info->settings, GetString(json, "settings", where));
  RAM_ASSIGN_OR_RETURN(const std::string form, GetString(json, "form", where));
  if (form != "f32" && form != "u16") {
    return Wrong(where, fmt::format("logits of the form \"{}\", expected f32 or u16", form));
  }
  info->form = form == "f32" ? LogitForm::kF32 : LogitForm::kU16;
  RAM_ASSIGN_OR_RETURN(const int64_t vocabulary, GetInt(json, "vocabulary", where));
  if (vocabulary < 1) return Wrong(where, "a vocabulary without tokens");
  info->vocabulary = static_cast<uint64_t>(vocabulary);
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
    : file_(&file), form_(info.form), vocabulary_(info.vocabulary) {}

Result<LogitCacheWriter> LogitCacheWriter::Start(const File& file, const LogitCacheInfo& info,
                                                 std::span<const Window> windows) {
  RAM_CHECK(!windows.empty() && info.vocabulary > 0);
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
  return writer;
}

Status LogitCacheWriter::WriteRow(uint64_t row, std::span<const float> logits) {
  RAM_CHECK(logits.size() == vocabulary_);
  const std::optional<double> total = LogTotal(logits);
  if (!total.has_value()) {
    return Error{ErrorCode::kCorrupt,
                 fmt::format("the base gives scored token {} a logit that is not a number", row)};
  }
  if (form_ == LogitForm::kF32) {
    return file_->WriteAt(
        logits_offset_ + row * vocabulary_ * sizeof(float),
        {reinterpret_cast<const uint8_t*>(logits.data()), logits.size() * sizeof(float)});
  }
  const CodedRow coded = Encode(logits);
  std::vector<float> kept;
  kept.reserve(logits.size());
  for (const uint16_t code : coded.codes) kept.push_back(Decode(coded.floor, coded.step, code));
  const std::optional<double> kept_total = LogTotal(kept);
  RAM_CHECK(kept_total.has_value());
  floors_[row] = coded.floor;
  steps_[row] = coded.step;
  own_kl_[row] = static_cast<float>(Diverge({logits, *total}, {kept, *kept_total}, 0).kl);
  return file_->WriteAt(logits_offset_ + row * vocabulary_ * sizeof(uint16_t),
                        BytesOf(coded.codes));
}

Status LogitCacheWriter::Finish() {
  if (form_ == LogitForm::kF32) return Done{};
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
  const bool coded = cache->info_.form == LogitForm::kU16;
  RAM_ASSIGN_OR_RETURN(
      cache->logits_offset_,
      tensors.Offset("logits", coded ? Dtype::kU16 : Dtype::kF32, {rows, cache->vocabulary_}));
  if (coded) {
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

Result<LogProbs> LogitCache::ReadRow(uint64_t row, std::vector<float>* buffer) const {
  RAM_CHECK(row < num_rows_);
  buffer->resize(vocabulary_);
  if (info_.form == LogitForm::kF32) {
    const uint64_t bytes = vocabulary_ * sizeof(float);
    RAM_RETURN_IF_ERROR(file_.ReadAt(logits_offset_ + row * bytes,
                                     {reinterpret_cast<uint8_t*>(buffer->data()), bytes}));
  } else {
    std::vector<uint16_t> codes(vocabulary_);
    const uint64_t bytes = vocabulary_ * sizeof(uint16_t);
    RAM_RETURN_IF_ERROR(file_.ReadAt(logits_offset_ + row * bytes,
                                     {reinterpret_cast<uint8_t*>(codes.data()), bytes}));
    for (uint64_t i = 0; i < vocabulary_; ++i) {
      (*buffer)[i] = Decode(floors_[row], steps_[row], codes[i]);
    }
  }
  const std::optional<double> total = LogTotal(*buffer);
  if (!total.has_value()) {
    return Wrong(file_.path().string(),
                 fmt::format("the logits of scored token {} are not numbers", row));
  }
  return LogProbs{*buffer, *total};
}

}  // namespace ram
