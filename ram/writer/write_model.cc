#include "ram/writer/write_model.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <numeric>
#include <set>

#include "ram/base/bytes.h"
#include "ram/base/file.h"
#include "ram/family/chunks.h"
#include "ram/family/weights.h"
#include "ram/writer/staged_directory.h"

namespace ram {
namespace {

namespace fs = std::filesystem;

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Beside the weights, copied byte for byte (docs/format.md).
bool IsCopied(const fs::path& file) {
  static const std::set<std::string> kNames = {"tokenizer.json",
                                               "tokenizer_config.json",
                                               "special_tokens_map.json",
                                               "added_tokens.json",
                                               "vocab.json",
                                               "merges.txt",
                                               "tokenizer.model",
                                               "chat_template.jinja",
                                               "chat_template.json",
                                               "generation_config.json"};
  const std::string name = file.filename().string();
  if (kNames.contains(name)) return true;
  if (file.extension() == ".tiktoken" || file.extension() == ".py") return true;
  const auto starts_with = [&](std::string_view prefix) { return name.starts_with(prefix); };
  return starts_with("LICENSE") || starts_with("NOTICE") || starts_with("USE_POLICY");
}

Result<std::vector<fs::path>> FilesToCopy(const fs::path& directory) {
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    if (it->is_regular_file() && IsCopied(it->path())) files.push_back(it->path());
  }
  if (error) {
    return Error{ErrorCode::kIo,
                 fmt::format("{}: cannot list it: {}", directory.string(), error.message())};
  }
  std::ranges::sort(files);
  return files;
}

// Packs chunks of weights and puts them at their places.
class Packer {
 public:
  Packer(const Catalog& catalog, const std::vector<Choice>& choices, const ModelLayout& layout,
         const std::vector<File*>& shards, const WriteOptions& options)
      : catalog_(catalog),
        choices_(choices),
        layout_(layout),
        shards_(shards),
        options_(options),
        buffers_(options.pool->num_threads()),
        kernel_seconds_(options.pool->num_threads()) {}

  double kernel_seconds() const {
    return std::accumulate(kernel_seconds_.begin(), kernel_seconds_.end(), 0.0);
  }

  // Writes one chunk; returns the error of its codes.
  Result<StoredError> Write(const Chunk& chunk, size_t thread, std::span<const uint8_t> bytes) {
    const CatalogTensor& tensor = catalog_.tensors[chunk.tensor];
    const Choice& choice = choices_[chunk.tensor];
    const PlacedTensor* placed = &layout_.tensors[layout_.first_of_tensor[chunk.tensor]];
    const uint64_t first_row = chunk.view * tensor.rows + chunk.first_row;
    if (choice.mode == Mode::kDense) {
      RAM_RETURN_IF_ERROR(Put(placed[0], first_row * chunk.num_bytes / chunk.num_rows, bytes));
      return StoredError{};
    }
    const uint64_t codes_per_row = tensor.cols * static_cast<uint64_t>(choice.bits) / 8;
    const uint64_t groups_per_row = tensor.cols / static_cast<uint64_t>(choice.group_size);
    const uint64_t code_bytes = chunk.num_rows * codes_per_row;
    if (choice.mode == Mode::kMxfp4) {
      RAM_RETURN_IF_ERROR(Put(placed[0], first_row * codes_per_row, bytes.first(code_bytes)));
      RAM_RETURN_IF_ERROR(Put(placed[1], first_row * groups_per_row, bytes.subspan(code_bytes)));
      return StoredError{};
    }
    const uint64_t scale_row_bytes =
        groups_per_row * static_cast<uint64_t>(BitsOf(tensor.dtype)) / 8;
    const uint64_t scale_bytes = chunk.num_rows * scale_row_bytes;
    std::vector<uint8_t>& buffer = buffers_[thread];
    if (buffer.size() < code_bytes + 2 * scale_bytes) buffer.resize(code_bytes + 2 * scale_bytes);
    const std::span<uint8_t> all(buffer.data(), code_bytes + 2 * scale_bytes);
    const PackedMatrix out{all.first(code_bytes), all.subspan(code_bytes, scale_bytes),
                           all.subspan(code_bytes + scale_bytes)};
    const double kernel_start = Now();
    const auto quantized = Quantize({bytes.data(), tensor.dtype, chunk.num_rows, tensor.cols},
                                    {choice, options_.quantizer, options_.rounding, {}}, out);
    kernel_seconds_[thread] += Now() - kernel_start;
    if (!quantized) {
      return Error{
          quantized.error().code,
          fmt::format("{}{}: {}", tensor.name,
                      tensor.views.size() > 1 ? fmt::format(" (slice {})", chunk.view) : "",
                      quantized.error().message)};
    }
    RAM_RETURN_IF_ERROR(Put(placed[0], first_row * codes_per_row, out.codes));
    RAM_RETURN_IF_ERROR(Put(placed[1], first_row * scale_row_bytes, out.scales));
    RAM_RETURN_IF_ERROR(Put(placed[2], first_row * scale_row_bytes, out.biases));
    return quantized;
  }

 private:
  Status Put(const PlacedTensor& placed, uint64_t at, std::span<const uint8_t> bytes) const {
    return shards_[placed.shard]->WriteAt(placed.offset + at, bytes);
  }

  const Catalog& catalog_;
  const std::vector<Choice>& choices_;
  const ModelLayout& layout_;
  const std::vector<File*>& shards_;
  const WriteOptions& options_;
  std::vector<std::vector<uint8_t>> buffers_;  // Per thread, as the next.
  std::vector<double> kernel_seconds_;
};

Json QuantizationEntry(const Choice& choice) {
  Json entry = {{"group_size", choice.group_size}, {"bits", choice.bits}};
  if (choice.mode == Mode::kMxfp4) entry["mode"] = "mxfp4";
  return entry;
}

}  // namespace

Result<std::string> ConfigJsonText(const Checkpoint& checkpoint, const Catalog& catalog,
                                   const std::vector<Choice>& choices) {
  RAM_ASSIGN_OR_RETURN(Json config, OutputConfig(checkpoint.config(), catalog));
  // The default is the most frequent affine choice; ties go to the smaller index, so that it is
  // always the same one.
  std::map<size_t, size_t> counts;
  bool quantized = false;
  for (size_t i = 0; i < choices.size(); ++i) {
    quantized = quantized || choices[i].mode != Mode::kDense;
    if (choices[i].mode == Mode::kAffine) ++counts[AffineIndex(choices[i])];
  }
  if (!quantized) return config.dump(4) + "\n";

  Choice most = Choice::Affine(4, 64);
  size_t most_count = 0;
  for (const auto& [index, count] : counts) {
    if (count > most_count) {
      most = kAffineChoices[index];
      most_count = count;
    }
  }
  Json quantization = {{"group_size", most.group_size}, {"bits", most.bits}, {"mode", "affine"}};
  for (size_t i = 0; i < choices.size(); ++i) {
    if (!IsQuantizable(catalog.tensors[i].kind)) continue;
    const std::string module = catalog.tensors[i].module();
    if (choices[i].mode == Mode::kDense) {
      quantization[module] = false;
    } else {
      quantization[module] = QuantizationEntry(choices[i]);
    }
  }
  config["quantization"] = quantization;
  config["quantization_config"] = quantization;
  return config.dump(4) + "\n";
}

Result<WrittenModel> WriteModel(const Checkpoint& checkpoint, const Catalog& catalog,
                                const std::vector<Choice>& choices, const WriteOptions& options,
                                const std::filesystem::path& directory) {
  const double start = Now();
  const ModelLayout layout = LayOutModel(catalog, choices, options.max_shard_bytes);
  RAM_ASSIGN_OR_RETURN(const std::string config, ConfigJsonText(checkpoint, catalog, choices));
  RAM_ASSIGN_OR_RETURN(const std::vector<fs::path> copied, FilesToCopy(checkpoint.directory()));
  const std::string index = IndexJsonText(layout, catalog.num_weights());

  uint64_t other_bytes = config.size() + index.size();
  for (const auto& [name, text] : options.files) other_bytes += text.size();
  for (const fs::path& file : copied) {
    std::error_code error;
    const uint64_t size = fs::file_size(file, error);
    if (!error) other_bytes += size;
  }

  RAM_ASSIGN_OR_RETURN(
      StagedDirectory staged,
      StagedDirectory::Create(directory, options.overwrite, layout.file_bytes + other_bytes));
  std::vector<File*> shards;
  for (const PlacedShard& shard : layout.shards) {
    RAM_ASSIGN_OR_RETURN(File * file, staged.AddFile(shard.file_name, shard.layout.file_bytes));
    const std::string& prefix = shard.layout.prefix;
    RAM_RETURN_IF_ERROR(file->WriteAt(
        0, std::span(reinterpret_cast<const uint8_t*>(prefix.data()), prefix.size())));
    shards.push_back(file);
  }

  std::vector<Chunk> chunks;
  for (size_t i = 0; i < catalog.tensors.size(); ++i) {
    const bool codes = choices[i].mode == Mode::kMxfp4;
    AppendChunks(catalog, i, codes ? ReadAs::kMxfp4 : ReadAs::kWeights, &chunks);
  }
  uint64_t total_bytes = 0;
  for (const Chunk& chunk : chunks) total_bytes += chunk.num_bytes;
  std::vector<StoredError> errors(chunks.size());
  Packer packer(catalog, choices, layout, shards, options);
  RAM_RETURN_IF_ERROR(StreamChunks(
      checkpoint, catalog, chunks, {"write", 0, total_bytes}, *options.pool, options.watcher,
      [&](size_t chunk, size_t thread, std::span<const uint8_t> bytes) -> Status {
        RAM_ASSIGN_OR_RETURN(errors[chunk], packer.Write(chunks[chunk], thread, bytes));
        return Done{};
      }));

  WrittenModel written;
  written.file_bytes = layout.file_bytes;
  written.num_shards = layout.shards.size();
  std::vector<double> sums(catalog.tensors.size());
  for (size_t i = 0; i < chunks.size(); ++i) sums[chunks[i].tensor] += errors[i].sum_squares;
  for (size_t i = 0; i < catalog.tensors.size(); ++i) {
    if (!IsQuantizable(catalog.tensors[i].kind)) continue;
    uint64_t bytes = 0;
    const size_t end =
        i + 1 < catalog.tensors.size() ? layout.first_of_tensor[i + 1] : layout.tensors.size();
    for (size_t k = layout.first_of_tensor[i]; k < end; ++k) bytes += layout.tensors[k].num_bytes;
    written.modules.push_back({catalog.tensors[i].module(), choices[i], bytes, sums[i]});
    if (options.check) RAM_RETURN_IF_ERROR(options.check(written.modules.back()));
  }

  RAM_RETURN_IF_ERROR(staged.AddText("config.json", config));
  RAM_RETURN_IF_ERROR(staged.AddText("model.safetensors.index.json", index));
  for (const auto& [name, text] : options.files) RAM_RETURN_IF_ERROR(staged.AddText(name, text));
  for (const fs::path& file : copied) {
    const std::string name = file.filename().string();
    RAM_RETURN_IF_ERROR(staged.AddCopy(name, file));
    written.copied_files.push_back(name);
  }
  RAM_RETURN_IF_ERROR(options.watcher.Check());
  RAM_RETURN_IF_ERROR(staged.Publish());
  written.seconds = Now() - start;
  written.kernel_seconds = packer.kernel_seconds();
  return written;
}

}  // namespace ram
