#pragma once

// From a checkpoint to its rate table: one streaming pass over the weights, a few MiB per thread in
// memory whatever the size of the model.
//
//   RAM_ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::Open(directory));
//   RAM_ASSIGN_OR_RETURN(Catalog catalog, BindCatalog(checkpoint));
//   RAM_ASSIGN_OR_RETURN(RateTable rates, MeasureModel(checkpoint, catalog, options, &stats));

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "ram/base/progress.h"
#include "ram/base/result.h"
#include "ram/base/thread_pool.h"
#include "ram/checkpoint/checkpoint.h"
#include "ram/family/catalog.h"
#include "ram/measure/block_errors.h"
#include "ram/measure/rate_cache.h"
#include "ram/rates/rate_table.h"

namespace ram {

struct MeasureOptions {
  ThreadPool* pool = nullptr;  // Required.
  RateCache* cache = nullptr;  // Optional.
  std::string model_name;      // As the user named it, for the table.
  Watcher watcher;
  // Importance of rows and columns for the weighted error, by tensor and view; none: uniform.
  // Called from several threads; the spans must stay valid until MeasureModel returns.
  std::function<ErrorWeights(const CatalogTensor& tensor, size_t view)> weights;
};

struct MeasureStats {
  uint64_t total_bytes = 0;   // Of weights, as they were read.
  uint64_t cached_bytes = 0;  // Of which the cache knew the errors.
  double seconds = 0;
  double kernel_seconds = 0;  // In the measuring kernel, all threads together.
};

// kIo, kCorrupt from reading; kCancelled. NaN and infinities are counted, not refused: planning
// refuses them.
Result<RateTable> MeasureModel(const Checkpoint& checkpoint, const Catalog& catalog,
                               const MeasureOptions& options, MeasureStats* stats = nullptr);

// The table without errors, from headers alone: sizes of every choice, for `ram doctor` and for
// checks before a long run. Every error is NaN.
Result<RateTable> SizesOnly(const Checkpoint& checkpoint, const Catalog& catalog,
                            const std::string& model_name);

// Choices of one module to be priced by the quantizer that will write them.
struct PriceRequest {
  size_t module;                // Index into RateTable::modules.
  std::vector<Choice> choices;  // Affine.
};

// Measures the requested choices again with `quantizer` itself (all its searching, ties as in the
// file) and plain rounding beside it, and puts both into the table.
struct PriceOptions {
  Quantizer quantizer = Quantizer::kRtnPlus;
  Rounding rounding = Rounding::kCpu;
  ThreadPool* pool = nullptr;  // Required.
  Watcher watcher;
  std::function<ErrorWeights(const CatalogTensor& tensor, size_t view)> weights;
};
Status PriceChoices(const Checkpoint& checkpoint, const Catalog& catalog,
                    std::span<const PriceRequest> requests, const PriceOptions& options,
                    RateTable* rates);

}  // namespace ram
