#pragma once

// How a model is cut for streaming: every matrix (each expert of a stack apart) into chunks of
// whole rows, a few MiB each. A chunk is what one thread reads, hashes, measures or packs at a
// time; its size depends on the matrix alone, so results do not depend on threads or memory.

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "ram/base/progress.h"
#include "ram/base/result.h"
#include "ram/base/thread_pool.h"
#include "ram/checkpoint/checkpoint.h"
#include "ram/family/catalog.h"

namespace ram {

enum class ReadAs : uint8_t {
  kWeights,  // Values of the tensor's dtype (ReadRows).
  kMxfp4,    // Codes of all rows, then scales of all rows (ReadMxfp4Rows).
};

struct Chunk {
  size_t tensor;  // Index into Catalog::tensors.
  size_t view;    // Expert or head; 0 for plain matrices.
  uint64_t first_row;
  uint64_t num_rows;
  uint64_t num_bytes;  // As it is read.
  ReadAs read_as = ReadAs::kWeights;
};

// Appends the chunks of one tensor, in the order of views and rows.
void AppendChunks(const Catalog& catalog, size_t tensor, ReadAs read_as,
                  std::vector<Chunk>* chunks);

// Reads every chunk and hands its bytes to `body`, on all threads of the pool. Memory: one buffer
// of a few MiB per thread. Stops at the first error (of the lowest chunk) or when the watcher
// cancels. Progress is reported in bytes read under `stage`, from `done_bytes` of `total_bytes` on.
struct ChunkStream {
  std::string_view stage;
  uint64_t done_bytes = 0;
  uint64_t total_bytes = 0;
};
using ChunkBody =
    std::function<Status(size_t chunk, size_t thread, std::span<const uint8_t> bytes)>;
Status StreamChunks(const Checkpoint& checkpoint, const Catalog& catalog,
                    std::span<const Chunk> chunks, const ChunkStream& stream, ThreadPool& pool,
                    const Watcher& watcher, const ChunkBody& body);

}  // namespace ram
