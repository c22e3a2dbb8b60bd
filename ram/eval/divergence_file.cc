#include "ram/eval/divergence_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <span>
#include <utility>

#include "ram/base/file.h"
#include "ram/checkpoint/safetensors.h"

namespace ram {
namespace {

constexpr std::string_view kFormat = "ram.kl.v1";

struct ColumnOfTokens {
  const char* name;
  double TokenDivergence::*member;
};
constexpr std::array<ColumnOfTokens, 7> kColumns = {
    {{"kl", &TokenDivergence::kl},
     {"reverse_kl", &TokenDivergence::reverse_kl},
     {"jensen_shannon", &TokenDivergence::jensen_shannon},
     {"delta_p", &TokenDivergence::delta_p},
     {"base_nll", &TokenDivergence::base_nll},
     {"nll", &TokenDivergence::nll},
     {"top5", &TokenDivergence::top5}}};
constexpr std::array<std::string_view, 4> kOwnFacts = {"format", "base", "text", "model"};

// The tensors of an open file, read one by one.
class Reader {
 public:
  Reader(const File& file, const SafetensorsHeader& header) : file_(file), header_(header) {}

  template <typename T>
  Result<std::vector<T>> Read(std::string_view name, Dtype dtype) const {
    const auto found = std::ranges::find(header_.tensors, name, &TensorInfo::name);
    if (found == header_.tensors.end() || found->dtype != dtype || found->shape.size() != 1) {
      return Wrong(fmt::format("it lacks the list \"{}\"", name));
    }
    std::vector<T> values(found->shape[0]);
    RAM_RETURN_IF_ERROR(
        file_.ReadAt(found->offset, {reinterpret_cast<uint8_t*>(values.data()), found->num_bytes}));
    return values;
  }

  Result<std::string> Fact(const std::string& name) const {
    const auto found = header_.metadata.find(name);
    if (found != header_.metadata.end()) return found->second;
    return Wrong(fmt::format("its metadata lacks \"{}\"", name));
  }

  Error Wrong(std::string_view what) const {
    return {ErrorCode::kCorrupt, fmt::format("{}: {}", file_.path().string(), what)};
  }

 private:
  const File& file_;
  const SafetensorsHeader& header_;
};

}  // namespace

Status WriteDivergence(const DivergenceFile& contents, const std::filesystem::path& path) {
  const uint64_t n = contents.tokens.size();
  std::vector<TensorSpec> tensors;
  for (const ColumnOfTokens& column : kColumns) tensors.push_back({column.name, Dtype::kF64, {n}});
  tensors.push_back({"window_tokens", Dtype::kU64, {contents.window_tokens.size()}});
  tensors.push_back({"same_top", Dtype::kU8, {n}});
  std::map<std::string, std::string> metadata = contents.facts;
  metadata["format"] = kFormat;
  metadata["base"] = contents.base;
  metadata["text"] = contents.text;
  metadata["model"] = contents.model;
  std::string bytes = LayOutSafetensors(tensors, metadata).prefix;
  const auto append = [&bytes](const auto& value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
  };
  for (const ColumnOfTokens& column : kColumns) {
    for (const TokenDivergence& token : contents.tokens) append(token.*column.member);
  }
  for (const uint64_t size : contents.window_tokens) append(size);
  for (const TokenDivergence& token : contents.tokens) append(static_cast<uint8_t>(token.same_top));
  return WriteFileAtomically(path, bytes);
}

Result<DivergenceFile> ReadDivergence(const std::filesystem::path& path) {
  RAM_ASSIGN_OR_RETURN(const File file, File::OpenForReading(path));
  RAM_ASSIGN_OR_RETURN(const SafetensorsHeader header, ReadSafetensorsHeader(file));
  const Reader reader(file, header);
  DivergenceFile contents;
  RAM_ASSIGN_OR_RETURN(const std::string format, reader.Fact("format"));
  if (format != kFormat) {
    return reader.Wrong(fmt::format("its format is \"{}\", expected {}", format, kFormat));
  }
  RAM_ASSIGN_OR_RETURN(contents.base, reader.Fact("base"));
  RAM_ASSIGN_OR_RETURN(contents.text, reader.Fact("text"));
  RAM_ASSIGN_OR_RETURN(contents.model, reader.Fact("model"));
  contents.facts = header.metadata;
  for (const std::string_view name : kOwnFacts) contents.facts.erase(std::string(name));

  RAM_ASSIGN_OR_RETURN(contents.window_tokens, reader.Read<uint64_t>("window_tokens", Dtype::kU64));
  RAM_ASSIGN_OR_RETURN(const std::vector<uint8_t> same_top,
                       reader.Read<uint8_t>("same_top", Dtype::kU8));
  const size_t n = same_top.size();
  uint64_t left = n;
  for (const uint64_t size : contents.window_tokens) {
    if (size == 0 || size > left) return reader.Wrong("its windows have other tokens than it says");
    left -= size;
  }
  if (left != 0 || n == 0) return reader.Wrong("its windows have other tokens than it says");
  contents.tokens.resize(n);
  for (const ColumnOfTokens& column : kColumns) {
    RAM_ASSIGN_OR_RETURN(const std::vector<double> values,
                         reader.Read<double>(column.name, Dtype::kF64));
    if (values.size() != n) {
      return reader.Wrong(
          fmt::format("\"{}\" has {} numbers, expected {}", column.name, values.size(), n));
    }
    for (size_t i = 0; i < n; ++i) {
      if (!std::isfinite(values[i])) {
        return reader.Wrong(fmt::format("\"{}\" of token {} is not a number", column.name, i));
      }
      contents.tokens[i].*column.member = values[i];
    }
  }
  for (size_t i = 0; i < n; ++i) contents.tokens[i].same_top = same_top[i] != 0;
  return contents;
}

}  // namespace ram
