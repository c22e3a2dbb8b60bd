#include "ram/eval/llama_logits.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "ram/base/bytes.h"
#include "ram/eval/scored_logits.h"

namespace ram {
namespace {

constexpr std::string_view kMagic = "_logits_";
constexpr uint64_t kHeaderBytes = kMagic.size() + 3 * sizeof(int32_t);
constexpr float kDepth = 16;  // Nats that are kept below the largest logit.
constexpr float kMaxCode = 65535;
constexpr size_t kRowHeader = 4;  // scale and least, in uint16.
// Of the most likely token: ln p may be above 0 by what f32 and 16 bits round.
constexpr float kMostLogP = 0.01F;

Error Wrong(const File& file, std::string_view what) {
  return Error{ErrorCode::kCorrupt, fmt::format("{}: {}", file.path().string(), what)};
}

// Elements (uint16) of a row.
uint64_t RowSize(uint64_t vocabulary) { return 2 * ((vocabulary + 1) / 2) + kRowHeader; }
uint64_t RowsPerChunk(uint64_t context) { return context - 1 - context / 2; }

struct Shape {
  uint64_t context;
  uint64_t vocabulary;
  uint64_t num_chunks;
};

// Nothing where it does not fit in 64 bits.
std::optional<uint64_t> FileBytes(const Shape& shape) {
  const auto tokens = CheckedMul(shape.num_chunks, shape.context);
  const auto rows = CheckedMul(shape.num_chunks, RowsPerChunk(shape.context));
  if (!tokens || !rows) return std::nullopt;
  const auto token_bytes = CheckedMul(*tokens, sizeof(int32_t));
  const auto row_bytes = CheckedMul(*rows, RowSize(shape.vocabulary) * sizeof(uint16_t));
  if (!token_bytes || !row_bytes) return std::nullopt;
  const auto sum = CheckedAdd(*token_bytes, *row_bytes);
  return sum ? CheckedAdd(*sum, kHeaderBytes) : std::nullopt;
}

Result<Shape> ReadShape(const File& file) {
  std::vector<uint8_t> header(kHeaderBytes);
  if (file.size() < kHeaderBytes) {
    return Wrong(file, fmt::format("not a file of llama-perplexity --kl-divergence-base: it has "
                                   "{} bytes",
                                   file.size()));
  }
  RAM_RETURN_IF_ERROR(file.ReadAt(0, header));
  if (std::memcmp(header.data(), kMagic.data(), kMagic.size()) != 0) {
    return Wrong(file, fmt::format("not a file of llama-perplexity --kl-divergence-base: it does "
                                   "not begin with \"{}\"",
                                   kMagic));
  }
  int32_t numbers[3];
  std::memcpy(numbers, header.data() + kMagic.size(), sizeof numbers);
  if (numbers[0] < 3 || numbers[1] < 1 || numbers[2] < 1) {
    return Wrong(file, fmt::format("{} chunks of {} tokens, a vocabulary of {}: expected chunks of "
                                   "at least 3 tokens and a vocabulary",
                                   numbers[2], numbers[0], numbers[1]));
  }
  const Shape shape{static_cast<uint64_t>(numbers[0]), static_cast<uint64_t>(numbers[1]),
                    static_cast<uint64_t>(numbers[2])};
  const std::optional<uint64_t> bytes = FileBytes(shape);
  if (bytes != file.size()) {
    return Wrong(
        file,
        fmt::format("{}: {} chunks of {} tokens and a vocabulary of {} take {} bytes, "
                    "the file has {}",
                    bytes && *bytes < file.size() ? "bytes at the end" : "cut short",
                    shape.num_chunks, shape.context, shape.vocabulary,
                    bytes ? FormatCount(*bytes) : "more than 2^64", FormatCount(file.size())));
  }
  return shape;
}

}  // namespace

Result<std::unique_ptr<LlamaLogits>> LlamaLogits::Open(const std::filesystem::path& path) {
  RAM_ASSIGN_OR_RETURN(File opened, File::OpenForReading(path));
  std::unique_ptr<LlamaLogits> logits(new LlamaLogits(std::move(opened)));
  const File& file = logits->file_;
  RAM_ASSIGN_OR_RETURN(const Shape shape, ReadShape(file));
  std::vector<int32_t> tokens(shape.num_chunks * shape.context);
  const uint64_t token_bytes = tokens.size() * sizeof(int32_t);
  RAM_RETURN_IF_ERROR(
      file.ReadAt(kHeaderBytes, {reinterpret_cast<uint8_t*>(tokens.data()), token_bytes}));
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] >= 0 && static_cast<uint64_t>(tokens[i]) < shape.vocabulary) continue;
    return Wrong(file,
                 fmt::format("token {} of chunk {} is {}, the vocabulary has {}", i % shape.context,
                             i / shape.context, tokens[i], shape.vocabulary));
  }
  logits->vocabulary_ = shape.vocabulary;
  logits->num_rows_ = shape.num_chunks * RowsPerChunk(shape.context);
  logits->rows_offset_ = kHeaderBytes + token_bytes;
  for (uint64_t chunk = 0; chunk < shape.num_chunks; ++chunk) {
    Window window;
    const auto first = tokens.begin() + static_cast<std::ptrdiff_t>(chunk * shape.context);
    window.ids.assign(first, first + static_cast<std::ptrdiff_t>(shape.context));
    window.first_scored = shape.context / 2 + 1;
    logits->windows_.push_back(std::move(window));
  }
  return logits;
}

Result<LogProbs> LlamaLogits::ReadRow(uint64_t row, const LogProbs& /*model*/,
                                      std::vector<float>* buffer) const {
  RAM_CHECK(row < num_rows_);
  const uint64_t size = RowSize(vocabulary_);
  std::vector<uint16_t> codes(size);
  const uint64_t bytes = size * sizeof(uint16_t);
  RAM_RETURN_IF_ERROR(
      file_.ReadAt(rows_offset_ + row * bytes, {reinterpret_cast<uint8_t*>(codes.data()), bytes}));
  float scale;
  float least;
  std::memcpy(&scale, codes.data(), sizeof scale);
  std::memcpy(&least, codes.data() + 2, sizeof least);
  // Written so that what is not a number is refused too.
  if (!(std::isfinite(least) && scale >= 0 && least + scale * kMaxCode <= kMostLogP)) {
    return Wrong(file_, fmt::format("row {} is not a distribution: its scale is {}, its least "
                                    "logarithm {}",
                                    row, scale, least));
  }
  buffer->resize(vocabulary_);
  for (uint64_t i = 0; i < vocabulary_; ++i) {
    (*buffer)[i] = least + scale * static_cast<float>(codes[kRowHeader + i]);
  }
  return LogProbs{*buffer, 0, kLlamaCutoff};
}

Result<uint64_t> LlamaLogitsBytes(std::span<const Window> windows, uint64_t vocabulary) {
  RAM_CHECK(!windows.empty());
  const uint64_t context = windows[0].ids.size();
  for (const Window& window : windows) {
    if (context >= 3 && window.ids.size() == context && window.first_scored == context / 2 + 1) {
      continue;
    }
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("the format of llama.cpp holds windows of one length that score their "
                             "second half; one of {} tokens scores those from {} on (--protocol "
                             "llama.cpp makes what it holds)",
                             window.ids.size(), window.first_scored)};
  }
  const std::optional<uint64_t> bytes = FileBytes({context, vocabulary, windows.size()});
  RAM_CHECK(bytes.has_value());
  return *bytes;
}

Result<LlamaLogitsWriter> LlamaLogitsWriter::Start(const File& file,
                                                   std::span<const Window> windows,
                                                   uint64_t vocabulary) {
  RAM_RETURN_IF_ERROR(LlamaLogitsBytes(windows, vocabulary));
  std::string front(kMagic);
  const auto append = [&front](int32_t number) {
    front.append(reinterpret_cast<const char*>(&number), sizeof number);
  };
  append(static_cast<int32_t>(windows[0].ids.size()));
  append(static_cast<int32_t>(vocabulary));
  append(static_cast<int32_t>(windows.size()));
  for (const Window& window : windows) {
    for (const int32_t id : window.ids) append(id);
  }
  RAM_RETURN_IF_ERROR(
      file.WriteAt(0, {reinterpret_cast<const uint8_t*>(front.data()), front.size()}));
  return LlamaLogitsWriter(file, vocabulary, front.size());
}

Status LlamaLogitsWriter::WriteRow(uint64_t row, std::span<const float> logits) const {
  RAM_CHECK(logits.size() == vocabulary_);
  const auto [smallest, largest] = std::minmax_element(logits.begin(), logits.end());
  const float least = std::max(*smallest, *largest - kDepth);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(double{logit} - *largest);
  const float scale = (*largest - least) / kMaxCode;
  const float least_log_p = least - *largest - static_cast<float>(std::log(sum));
  std::vector<uint16_t> codes(RowSize(vocabulary_));
  std::memcpy(codes.data(), &scale, sizeof scale);
  std::memcpy(codes.data() + 2, &least_log_p, sizeof least_log_p);
  const float inverse = scale > 0 ? 1 / scale : 0;
  for (uint64_t i = 0; i < vocabulary_; ++i) {
    const float code = logits[i] > least ? std::nearbyint(inverse * (logits[i] - least)) : 0;
    codes[kRowHeader + i] = static_cast<uint16_t>(std::min(code, kMaxCode));
  }
  return file_->WriteAt(
      rows_offset_ + row * codes.size() * sizeof(uint16_t),
      {reinterpret_cast<const uint8_t*>(codes.data()), codes.size() * sizeof(uint16_t)});
}

}  // namespace ram
