#include "ram/measure/measure_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <unordered_map>

#include "ram/base/bytes.h"
#include "ram/family/chunks.h"

namespace ram {
namespace {

constexpr uint64_t kShardBytes = 5 * kGiB;  // Where the writer cuts: kMaxShardBytes.

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// What the errors of a chunk depend on besides its bytes.
ContentHash CacheKey(const CatalogTensor& tensor, std::span<const uint8_t> bytes) {
  ContentHasher hasher;
  hasher.Add(fmt::format("{} {} ", DtypeName(tensor.dtype), tensor.cols));
  hasher.Add(bytes);
  return hasher.Finish();
}

// "row 3, column 17", with the expert in front for stacks.
std::string FirstNonFinite(const CatalogTensor& tensor, const Chunk& chunk,
                           std::span<const uint8_t> bytes) {
  const size_t element_bytes = static_cast<size_t>(BitsOf(tensor.dtype)) / 8;
  for (size_t i = 0; i < bytes.size() / element_bytes; ++i) {
    uint32_t bits = 0;
    std::memcpy(&bits, bytes.data() + i * element_bytes, element_bytes);
    const bool finite = tensor.dtype == Dtype::kBF16  ? (bits & 0x7F80u) != 0x7F80u
                        : tensor.dtype == Dtype::kF16 ? (bits & 0x7C00u) != 0x7C00u
                                                      : (bits & 0x7F800000u) != 0x7F800000u;
    if (finite) continue;
    const std::string where =
        fmt::format("row {}, column {}", chunk.first_row + i / tensor.cols, i % tensor.cols);
    return tensor.views.size() > 1 ? fmt::format("slice {}, {}", chunk.view, where) : where;
  }
  return "";
}

std::vector<size_t> QuantizableTensors(const Catalog& catalog) {
  std::vector<size_t> tensors;
  for (size_t i = 0; i < catalog.tensors.size(); ++i) {
    if (IsQuantizable(catalog.tensors[i].kind)) tensors.push_back(i);
  }
  return tensors;
}

// About zero: the mean of a weight matrix is as good as zero beside its spread.
double Kurtosis(const BlockErrors& errors) {
  if (errors.sum_squares == 0) return 0;
  return errors.sum_fourths * static_cast<double>(errors.num_weights) /
         (errors.sum_squares * errors.sum_squares);
}

// Bytes of the tensors that a module with this choice puts into the files, header entries included.
uint64_t BytesInFiles(const CatalogTensor& tensor, const Choice& choice, uint64_t max_file_bytes) {
  const std::string module = tensor.module();
  const uint64_t rows = tensor.rows * tensor.views.size();
  uint64_t bytes = StoredBytes(choice, rows, tensor.cols, tensor.dtype);
  if (choice.mode == Mode::kDense)
    return bytes + HeaderEntryBytes(tensor.name, tensor.dtype, tensor.shape, max_file_bytes);
  std::vector<uint64_t> shape = tensor.shape;
  shape.back() = tensor.cols * static_cast<uint64_t>(choice.bits) / 32;
  bytes += HeaderEntryBytes(module + ".weight", Dtype::kU32, shape, max_file_bytes);
  shape.back() = tensor.cols / static_cast<uint64_t>(choice.group_size);
  const bool mxfp4 = choice.mode == Mode::kMxfp4;
  bytes += HeaderEntryBytes(module + ".scales", mxfp4 ? Dtype::kU8 : tensor.dtype, shape,
                            max_file_bytes);
  if (!mxfp4) bytes += HeaderEntryBytes(module + ".biases", tensor.dtype, shape, max_file_bytes);
  return bytes;
}

// Data that one file of the output holds at most: the whole model in 16 bits, or a full shard.
uint64_t MaxFileBytes(const Catalog& catalog) {
  uint64_t total = 0;
  uint64_t largest = 0;
  for (const CatalogTensor& tensor : catalog.tensors) {
    const uint64_t bytes = tensor.num_weights() * static_cast<uint64_t>(BitsOf(tensor.dtype)) / 8;
    total += bytes;
    largest = std::max(largest, bytes);
  }
  return std::min(total, std::max(kShardBytes, largest));
}

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

// Everything about a module that headers tell.
Result<ModuleRates> ModuleFromHeaders(const Catalog& catalog, const CatalogTensor& tensor,
                                      uint64_t max_file_bytes) {
  ModuleRates module;
  module.name = tensor.module();
  module.kind = KindName(tensor.kind);
  module.tensor_class = ClassName(tensor.tensor_class);
  module.layer = tensor.layer;
  module.shape = tensor.shape;
  module.dtype = tensor.dtype;
  RAM_ASSIGN_OR_RETURN(const Choice uniform,
                       BaselineChoice(catalog, tensor, Choice::Affine(4, 64), ""));
  if (uniform == Choice::Dense()) {
    module.mlx_default = "16";
  } else if (uniform != Choice::Affine(4, 64)) {
    module.mlx_default = ChoiceName(uniform);
  }
  std::vector<Choice> choices;
  for (const Choice& choice : kAffineChoices) {
    if (IsLegal(choice, tensor.cols)) choices.push_back(choice);
  }
  if (tensor.encoding == Encoding::kMxfp4) choices.push_back(Choice::Mxfp4());
  choices.push_back(Choice::Dense());
  for (const Choice& choice : choices) {
    ChoiceRate rate;
    rate.choice = choice;
    rate.bytes = BytesInFiles(tensor, choice, max_file_bytes);
    if (choice.mode == Mode::kAffine) {
      rate.sum_squares_error = rate.weighted_error = rate.largest_error = kUnknown;
    }
    module.choices.push_back(rate);
  }
  return module;
}

void FillModule(std::span<const BlockErrors> slices, std::span<const ContentHash> slice_hashes,
                ModuleRates* module) {
  BlockErrors total;
  for (const BlockErrors& slice : slices) total.Add(slice);
  module->sum_squares = total.sum_squares;
  module->weighted_sum_squares = total.weighted_sum_squares;
  module->kurtosis = Kurtosis(total);
  module->largest = static_cast<double>(total.largest);
  module->num_nan = total.num_nan;
  module->num_inf = total.num_inf;
  const bool finite = total.num_nan + total.num_inf == 0;
  for (ChoiceRate& rate : module->choices) {
    if (rate.choice.mode != Mode::kAffine) continue;
    const ChoiceErrors& errors = total.choices[AffineIndex(rate.choice)];
    rate.sum_squares_error = finite ? errors.sum_squares : 0;
    rate.weighted_error = finite ? errors.weighted_sum_squares : 0;
    rate.largest_error = finite ? static_cast<double>(errors.largest) : 0;
  }
  if (!finite) {
    module->sum_squares = module->weighted_sum_squares = module->kurtosis = module->largest = 0;
  }

  ContentHasher hasher;
  for (size_t i = 0; i < slices.size(); ++i) {
    hasher.Add(slice_hashes[i]);
    if (slices.size() == 1) break;
    SliceRates slice;
    slice.hash = ToHex(slice_hashes[i]);
    slice.sum_squares = finite ? slices[i].sum_squares : 0;
    for (const ChoiceRate& rate : module->choices) {
      if (rate.choice.mode != Mode::kAffine) continue;
      slice.sum_squares_errors.push_back(
          finite ? slices[i].choices[AffineIndex(rate.choice)].sum_squares : 0);
    }
    module->slices.push_back(std::move(slice));
  }
  module->hash = ToHex(hasher.Finish());
}

}  // namespace

Result<RateTable> SizesOnly(const Checkpoint& checkpoint, const Catalog& catalog,
                            const std::string& model_name) {
  RateTable table;
  table.model = model_name;
  table.model_type = catalog.model_type;
  table.structure_hash = checkpoint.structure_hash();
  table.num_layers = catalog.num_layers;
  table.hidden_size = catalog.hidden_size;
  table.vocabulary = catalog.vocabulary;
  table.max_context = catalog.max_context;
  table.source_bytes = checkpoint.file_bytes();
  table.state = {catalog.state.cache_elements_per_token,
                 catalog.state.window_cache_elements_per_token, catalog.state.window_tokens,
                 catalog.state.recurrent_bytes, catalog.state.latent_elements_per_token};
  const uint64_t max_file_bytes = MaxFileBytes(catalog);
  for (const CatalogTensor& tensor : catalog.tensors) {
    if (IsQuantizable(tensor.kind)) {
      RAM_ASSIGN_OR_RETURN(ModuleRates module, ModuleFromHeaders(catalog, tensor, max_file_bytes));
      table.modules.push_back(std::move(module));
    } else {
      const uint64_t weights = tensor.num_weights();
      table.fixed.push_back(
          {tensor.name, weights,
           weights * static_cast<uint64_t>(BitsOf(tensor.dtype)) / 8 +
               HeaderEntryBytes(tensor.name, tensor.dtype, tensor.shape, max_file_bytes)});
    }
  }
  // Shards are cut at 5 GiB; the dense model has the most.
  table.overhead_bytes = kFileOverheadBytes;
  const uint64_t most_bytes = table.dense_bytes();
  uint64_t largest = 0;
  for (const ModuleRates& module : table.modules) {
    largest = std::max(largest, module.choices.back().bytes);
  }
  // A shard is closed when the next tensor does not fit, so each but the last holds more than
  // 5 GiB less the largest tensor.
  const uint64_t least_fill = kShardBytes > largest ? kShardBytes - largest : 1;
  const uint64_t num_shards =
      most_bytes <= kShardBytes
          ? 1
          : std::min<uint64_t>(2 + most_bytes / least_fill, table.modules.size() * 3 + 1);
  table.overhead_bytes = num_shards * kFileOverheadBytes;
  return table;
}

Result<RateTable> MeasureModel(const Checkpoint& checkpoint, const Catalog& catalog,
                               const MeasureOptions& options, MeasureStats* stats) {
  const double start = Now();
  RAM_ASSIGN_OR_RETURN(RateTable table, SizesOnly(checkpoint, catalog, options.model_name));

  const std::vector<size_t> tensors = QuantizableTensors(catalog);
  std::vector<Chunk> chunks;
  for (const size_t tensor : tensors) AppendChunks(catalog, tensor, ReadAs::kWeights, &chunks);
  std::vector<BlockErrors> errors(chunks.size());
  std::vector<ContentHash> hashes(chunks.size());
  std::vector<std::string> non_finite(chunks.size());
  std::vector<uint64_t> cached_bytes(options.pool->num_threads());
  std::vector<double> kernel_seconds(options.pool->num_threads());
  uint64_t total_bytes = 0;
  for (const Chunk& chunk : chunks) total_bytes += chunk.num_bytes;

  const auto measure = [&](size_t index, size_t thread, std::span<const uint8_t> bytes) -> Status {
    const Chunk& chunk = chunks[index];
    const CatalogTensor& tensor = catalog.tensors[chunk.tensor];
    hashes[index] = CacheKey(tensor, bytes);
    const ErrorWeights weights =
        options.weights ? options.weights(tensor, chunk.view) : ErrorWeights{};
    const bool cacheable =
        options.cache != nullptr && weights.rows.empty() && weights.columns.empty();
    if (cacheable && options.cache->Find(hashes[index], &errors[index])) {
      cached_bytes[thread] += chunk.num_bytes;
      if (errors[index].num_nan + errors[index].num_inf > 0) {
        non_finite[index] = FirstNonFinite(tensor, chunk, bytes);
      }
      return Done{};
    }
    const double kernel_start = Now();
    const size_t row_bytes = chunk.num_bytes / chunk.num_rows;
    const size_t step = RowsPerBlock(tensor.cols);
    for (size_t row = 0; row < chunk.num_rows; row += step) {
      const size_t num_rows = std::min<size_t>(step, chunk.num_rows - row);
      ErrorWeights block_weights = weights;
      if (!weights.rows.empty()) {
        block_weights.rows = weights.rows.subspan(chunk.first_row + row, num_rows);
      }
      const auto block = MeasureBlock(
          {bytes.data() + row * row_bytes, tensor.dtype, num_rows, tensor.cols}, block_weights);
      if (!block) {
        return Error{
            block.error().code,
            fmt::format("{}: {} (rows counted from row {}{})", tensor.name, block.error().message,
                        chunk.first_row + row,
                        tensor.views.size() > 1 ? fmt::format(" of slice {}", chunk.view) : "")};
      }
      errors[index].Add(*block);
    }
    kernel_seconds[thread] += Now() - kernel_start;
    if (errors[index].num_nan + errors[index].num_inf > 0) {
      non_finite[index] = FirstNonFinite(tensor, chunk, bytes);
    }
    if (cacheable) options.cache->Add(hashes[index], errors[index]);
    return Done{};
  };
  RAM_RETURN_IF_ERROR(StreamChunks(checkpoint, catalog, chunks, {"measure", 0, total_bytes},
                                   *options.pool, options.watcher, measure));

  // Chunks to slices to modules, in order.
  size_t at = 0;
  ContentHasher all;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const CatalogTensor& tensor = catalog.tensors[tensors[i]];
    std::vector<BlockErrors> slices(tensor.views.size());
    std::vector<ContentHash> slice_hashes;
    for (size_t view = 0; view < tensor.views.size(); ++view) {
      ContentHasher hasher;
      for (; at < chunks.size() && chunks[at].tensor == tensors[i] && chunks[at].view == view;
           ++at) {
        slices[view].Add(errors[at]);
        if (table.modules[i].first_non_finite.empty()) {
          table.modules[i].first_non_finite = non_finite[at];
        }
        hasher.Add(hashes[at]);
      }
      slice_hashes.push_back(hasher.Finish());
    }
    FillModule(slices, slice_hashes, &table.modules[i]);
    all.Add(table.modules[i].hash);
  }
  table.weights_hash = ToHex(all.Finish());

  if (stats != nullptr) {
    stats->total_bytes = total_bytes;
    for (const uint64_t bytes : cached_bytes) stats->cached_bytes += bytes;
    for (const double seconds : kernel_seconds) stats->kernel_seconds += seconds;
    stats->seconds = Now() - start;
  }
  return table;
}

Status PriceChoices(const Checkpoint& checkpoint, const Catalog& catalog,
                    std::span<const PriceRequest> requests, const PriceOptions& options,
                    RateTable* rates) {
  const std::vector<size_t> quantizable = QuantizableTensors(catalog);
  RAM_CHECK(quantizable.size() == rates->modules.size());
  std::vector<size_t> tensors;
  std::unordered_map<size_t, const PriceRequest*> request_of;
  for (const PriceRequest& request : requests) {
    tensors.push_back(quantizable[request.module]);
    request_of[tensors.back()] = &request;
  }
  std::vector<Chunk> chunks;
  for (const size_t tensor : tensors) AppendChunks(catalog, tensor, ReadAs::kWeights, &chunks);
  uint64_t total_bytes = 0;
  for (const Chunk& chunk : chunks) total_bytes += chunk.num_bytes;

  struct Priced {
    StoredError shipped;
    StoredError rtn;
  };
  std::vector<std::vector<Priced>> priced(chunks.size());
  const auto price = [&](size_t index, size_t, std::span<const uint8_t> bytes) -> Status {
    const Chunk& chunk = chunks[index];
    const CatalogTensor& tensor = catalog.tensors[chunk.tensor];
    const MatrixView view{bytes.data(), tensor.dtype, chunk.num_rows, tensor.cols};
    const ErrorWeights weights =
        options.weights ? options.weights(tensor, chunk.view) : ErrorWeights{};
    for (const Choice& choice : request_of.at(chunk.tensor)->choices) {
      QuantizeOptions quantize{choice, options.quantizer, options.rounding, weights.columns};
      Priced result;
      RAM_ASSIGN_OR_RETURN(result.shipped, QuantizeError(view, quantize));
      quantize.quantizer = Quantizer::kRtn;
      RAM_ASSIGN_OR_RETURN(result.rtn, QuantizeError(view, quantize));
      priced[index].push_back(result);
    }
    return Done{};
  };
  RAM_RETURN_IF_ERROR(StreamChunks(checkpoint, catalog, chunks, {"price", 0, total_bytes},
                                   *options.pool, options.watcher, price));

  for (size_t i = 0; i < requests.size(); ++i) {
    ModuleRates& module = rates->modules[requests[i].module];
    for (size_t c = 0; c < requests[i].choices.size(); ++c) {
      StoredError shipped;
      StoredError rtn;
      for (size_t index = 0; index < chunks.size(); ++index) {
        if (chunks[index].tensor != tensors[i]) continue;
        const Priced& chunk = priced[index][c];
        shipped.sum_squares += chunk.shipped.sum_squares;
        shipped.largest = std::max(shipped.largest, chunk.shipped.largest);
        rtn.sum_squares += chunk.rtn.sum_squares;
      }
      for (ChoiceRate& rate : module.choices) {
        if (rate.choice != requests[i].choices[c]) continue;
        rate.sum_squares_error = shipped.sum_squares;
        rate.largest_error = static_cast<double>(shipped.largest);
        rate.rtn_sum_squares_error = rtn.sum_squares;
        rate.priced_by = options.quantizer;
      }
    }
  }
  return Done{};
}

}  // namespace ram
