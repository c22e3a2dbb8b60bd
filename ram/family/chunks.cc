#include "ram/family/chunks.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <optional>

#include "ram/family/weights.h"

namespace ram {
namespace {

constexpr uint64_t kTargetChunkBytes = uint64_t{4} << 20;

// Below this, a chunk is a whole number of rows and at least one.
uint64_t RowsPerChunk(uint64_t row_bytes) {
  return std::max<uint64_t>(1, kTargetChunkBytes / std::max<uint64_t>(1, row_bytes));
}

}  // namespace

void AppendChunks(const Catalog& catalog, size_t tensor_index, ReadAs read_as,
                  std::vector<Chunk>* chunks) {
  const CatalogTensor& tensor = catalog.tensors[tensor_index];
  const uint64_t row_bytes = read_as == ReadAs::kMxfp4
                                 ? tensor.cols / 2 + tensor.cols / 32
                                 : tensor.cols * static_cast<uint64_t>(BitsOf(tensor.dtype)) / 8;
  const uint64_t step = RowsPerChunk(row_bytes);
  for (size_t view = 0; view < tensor.views.size(); ++view) {
    for (uint64_t row = 0; row < tensor.rows; row += step) {
      const uint64_t num_rows = std::min(step, tensor.rows - row);
      chunks->push_back({tensor_index, view, row, num_rows, num_rows * row_bytes, read_as});
    }
  }
}

Status StreamChunks(const Checkpoint& checkpoint, const Catalog& catalog,
                    std::span<const Chunk> chunks, const ChunkStream& stream, ThreadPool& pool,
                    const Watcher& watcher, const ChunkBody& body) {
  using Clock = std::chrono::steady_clock;
  constexpr auto kReportInterval = std::chrono::milliseconds(100);
  std::mutex mutex;  // Guards the error, the byte count and the report.
  std::optional<Error> error;
  size_t error_chunk = chunks.size();
  uint64_t done_bytes = stream.done_bytes;
  Clock::time_point next_report = Clock::now();
  std::atomic<bool> stop = false;
  std::vector<std::vector<uint8_t>> buffers(pool.num_threads());

  pool.ParallelFor(chunks.size(), [&](size_t index, size_t thread) {
    if (stop.load(std::memory_order_relaxed)) return;
    const Chunk& chunk = chunks[index];
    const CatalogTensor& tensor = catalog.tensors[chunk.tensor];
    std::vector<uint8_t>& buffer = buffers[thread];
    if (buffer.size() < chunk.num_bytes) buffer.resize(chunk.num_bytes);
    const std::span<uint8_t> bytes(buffer.data(), chunk.num_bytes);

    const Status status = [&]() -> Status {
      RAM_RETURN_IF_ERROR(watcher.Check());
      if (chunk.read_as == ReadAs::kMxfp4) {
        const size_t code_bytes = chunk.num_rows * tensor.cols / 2;
        RAM_RETURN_IF_ERROR(ReadMxfp4Rows(checkpoint, tensor, chunk.view, chunk.first_row,
                                          chunk.num_rows, bytes.first(code_bytes),
                                          bytes.subspan(code_bytes)));
      } else {
        RAM_RETURN_IF_ERROR(
            ReadRows(checkpoint, tensor, chunk.view, chunk.first_row, chunk.num_rows, bytes));
      }
      return body(index, thread, bytes);
    }();

    const std::lock_guard lock(mutex);
    if (!status) {
      stop = true;
      if (index < error_chunk) {
        error = status.error();
        error_chunk = index;
      }
      return;
    }
    done_bytes += chunk.num_bytes;
    if (const auto now = Clock::now(); now >= next_report) {
      next_report = now + kReportInterval;
      watcher.Report({stream.stage, done_bytes, stream.total_bytes, tensor.name});
    }
  });
  if (error) return *std::move(error);
  watcher.Report({stream.stage, done_bytes, stream.total_bytes, ""});
  return Done{};
}

}  // namespace ram
