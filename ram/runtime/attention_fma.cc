// Attention with f32 multiply-adds, one tile of keys at a time with a running softmax ("flash
// attention", Dao et al. 2022, arXiv:2205.14135).
//
// The queries of all heads that share a kv head are rows of one matrix, ordered by position. A task
// takes a block of such rows through tiles of 128 keys: it packs keys and values of a tile once and
// multiplies both with six or twelve rows at a time. Panels of keys that no row of those sees are
// skipped, which halves the work of a causal prefill.
//
// What a row gives does not depend on its neighbours: tiles begin at multiples of 128 positions, a
// score is one chain of multiply-adds over the head, a key that is not seen adds an exact zero, and
// the softmax starts anew at multiples of kRangeKeys, with the ranges merged in order afterwards.
// So decoding, and prefilling in pieces, give the bits of one prefill; and where there are few rows
// the ranges of keys are divided among the threads without a change of the result. Then all heads
// take their turn at a tile before the next one: heads lie side by side in the cache, and memory is
// read in its order.
//
// Non-goal: keys and values are packed again for every block of rows.

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "ram/base/result.h"
#include "ram/runtime/aligned_rows.h"
#include "ram/runtime/attention.h"
#include "ram/runtime/attention_kernels.h"
#include "ram/runtime/isa.h"

namespace ram {
namespace {

// The softmax starts anew at multiples of this many positions: what one task of a few rows does.
constexpr uint64_t kRangeKeys = 1024;
// So few rows of a kv head wait for memory.
constexpr uint64_t kFewRows = 32;
constexpr uint64_t kPartialBytes = uint64_t{64} << 20;  // Of all ranges of all blocks.
constexpr float kLowest = -std::numeric_limits<float>::infinity();

uint64_t RoundUp(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

// Maximum, sum and values of the rows of a block over some keys.
struct Partial {
  float* max = nullptr;
  float* sum = nullptr;
  float* values = nullptr;

  static size_t Floats(size_t rows, size_t value_pitch) {
    return 2 * RoundUp(rows, 16) + rows * value_pitch;
  }
  Partial(float* memory, size_t rows)
      : max(memory), sum(memory + RoundUp(rows, 16)), values(memory + 2 * RoundUp(rows, 16)) {}
};

// A block of rows: queries of one sequence that share a kv head, ordered by position, then head.
struct Block {
  const AttentionInput* input = nullptr;
  uint64_t kv_head = 0;
  uint64_t first_row = 0;
  uint64_t rows = 0;
  uint64_t begin = 0, end = 0;  // Positions that some row sees.
  uint64_t first_partial = 0;

  uint64_t first_range() const { return begin / kRangeKeys; }
  uint64_t num_ranges() const { return (end - 1) / kRangeKeys - first_range() + 1; }
};

// One call of Attend.
class AttentionCall {
 public:
  AttentionCall(const AttentionKernels& kernels, Rows q, std::span<const AttentionInput> inputs,
                const AttentionSpec& spec, Rows out, size_t num_threads,
                std::vector<AlignedBytes>& scratch)
      : kernels_(kernels), spec_(spec), q_(q), out_(out), scratch_(scratch) {
    RAM_CHECK(spec.kv_heads > 0 && spec.heads % spec.kv_heads == 0);
    RAM_CHECK(q.cols == spec.heads * spec.head_dim && out.cols == spec.heads * spec.value_dim);
    RAM_CHECK(spec.sinks.empty() || spec.sinks.size() == spec.heads);
    value_pitch_ = RoundUp(spec.value_dim, kernels.panel);
    // Queries and results of a block stay in the second-level cache; more rows share the packing of
    // keys, fewer give every thread something to do.
    const uint64_t fit = (uint64_t{1} << 17) / (spec.head_dim + spec.value_dim);
    uint64_t units = std::clamp<uint64_t>(fit / kernels.padding, 4, 40);
    uint64_t rows = 0;
    for (const AttentionInput& input : inputs) rows += input.segment.num_rows * spec.heads;
    while (units > 4 && rows < 8 * num_threads * units * kernels.padding) units /= 2;
    block_rows_ = units * kernels.padding;
    for (const AttentionInput& input : inputs) AddBlocks(input);
  }

  void Run(ThreadPool& pool) {
    const bool few_blocks =
        blocks_.size() < 4 * pool.num_threads() && num_partials_ > blocks_.size();
    const bool few_rows = LargestBlock() <= kFewRows;
    if ((few_blocks || few_rows) &&
        num_partials_ * PartialFloats() * sizeof(float) <= kPartialBytes) {
      return RunByRanges(pool);
    }
    pool.ParallelFor(blocks_.size(), [&](size_t task, size_t thread) {
      const Block& block = blocks_[task];
      const uint64_t padded = block.rows + kernels_.padding;
      const size_t size = RoundUp(Partial::Floats(padded, value_pitch_), 16);
      float* memory = Scratch(thread, RowFloats(padded) + TileFloats() + 2 * size);
      const Partial total(memory, padded);
      const Partial range(memory + size, padded);
      memory += 2 * size;
      const RowBlock rows = PrepareRows(block, memory);
      for (uint64_t i = 0; i < block.num_ranges(); ++i) {
        const Partial& to = i == 0 ? total : range;
        RowBlock result = WithPartial(rows, to);
        RunRange({&block, 1}, block.first_range() + i, {&result, 1}, memory);
        if (i > 0) Merge(range, block.rows, total);
      }
      Finish(block, total);
    });
  }

 private:
  float* Scratch(size_t thread, uint64_t num_floats) {
    scratch_[thread].Reserve(num_floats * sizeof(float));
    return scratch_[thread].floats();
  }

  uint64_t group() const { return spec_.heads / spec_.kv_heads; }

  // Positions that a token at `position` sees: [Low, position + 1).
  uint64_t Low(const AttentionInput& input, uint64_t position) const {
    uint64_t low = input.first_position;
    if (spec_.window > 0 && position >= spec_.window) {
      low = std::max(low, position - spec_.window + 1);
    }
    if (spec_.chunk > 0) low = std::max(low, position / spec_.chunk * spec_.chunk);
    return low;
  }

  void AddBlocks(const AttentionInput& input) {
    const uint64_t rows = input.segment.num_rows * group();
    if (rows == 0) return;
    RAM_CHECK(input.segment.position >= input.first_position);
    RAM_CHECK(input.segment.first_row + input.segment.num_rows <= q_.rows);
    const uint64_t num_blocks = (rows + block_rows_ - 1) / block_rows_;
    for (uint64_t kv_head = 0; kv_head < spec_.kv_heads; ++kv_head) {
      for (uint64_t i = num_blocks; i-- > 0;) {  // The longest first.
        Block block = {&input, kv_head, i * block_rows_};
        block.rows = std::min(block_rows_, rows - block.first_row);
        const uint64_t last_row = block.first_row + block.rows - 1;
        block.begin = Low(input, input.segment.position + block.first_row / group());
        block.end = input.segment.position + last_row / group() + 1;
        block.first_partial = num_partials_;
        num_partials_ += block.num_ranges();
        blocks_.push_back(block);
      }
    }
  }

  // Queries and limits of a block of so many rows.
  uint64_t RowFloats(uint64_t padded_rows) const {
    return RoundUp(padded_rows * spec_.head_dim, 16) + 4 * RoundUp(padded_rows, 16);
  }
  // A packed tile and room to pack it.
  uint64_t TileFloats() const {
    return kTileKeys * (spec_.head_dim + value_pitch_) + kernels_.panel * PitchOf(spec_.head_dim);
  }

  uint64_t LargestBlock() const {
    uint64_t largest = 0;
    for (const Block& block : blocks_) largest = std::max(largest, block.rows);
    return largest;
  }
  // Of one range of the largest block.
  uint64_t PartialFloats() const {
    return RoundUp(Partial::Floats(LargestBlock() + kernels_.padding, value_pitch_), 16);
  }

  // Every range of some blocks is a task; then the ranges of each block are merged.
  void RunByRanges(ThreadPool& pool) {
    struct Task {
      std::span<const Block> blocks;
      uint64_t range;  // Counted from their first.
    };
    // Blocks of one sequence with few rows go together: they see the same keys.
    uint64_t most_together = blocks_.size();
    if (num_partials_ / spec_.kv_heads < 2 * pool.num_threads()) {
      most_together = std::max<uint64_t>(1, num_partials_ / (2 * pool.num_threads()));
    }
    std::vector<Task> tasks;
    for (size_t first = 0; first < blocks_.size();) {
      const Block& block = blocks_[first];
      size_t end = first + 1;
      while (end < blocks_.size() && end - first < most_together && block.rows <= kFewRows &&
             blocks_[end].input == block.input && blocks_[end].first_row == block.first_row) {
        ++end;
      }
      for (uint64_t i = 0; i < block.num_ranges(); ++i) {
        tasks.push_back({std::span(blocks_).subspan(first, end - first), i});
      }
      first = end;
    }
    const uint64_t padded = LargestBlock() + kernels_.padding;
    const uint64_t size = PartialFloats();
    const AlignedBytes memory(num_partials_ * size * sizeof(float));
    const auto partial = [&](const Block& block, uint64_t range) {
      return Partial(memory.floats() + (block.first_partial + range) * size, padded);
    };
    pool.ParallelFor(tasks.size(), [&](size_t i, size_t thread) {
      const Task& task = tasks[i];
      float* scratch = Scratch(thread, TileFloats() + task.blocks.size() * RowFloats(padded));
      std::vector<RowBlock> rows;
      for (const Block& block : task.blocks) {
        rows.push_back(WithPartial(PrepareRows(block, scratch), partial(block, task.range)));
      }
      RunRange(task.blocks, task.blocks[0].first_range() + task.range, rows, scratch);
    });
    pool.ParallelFor(blocks_.size(), [&](size_t i, size_t) {
      const Block& block = blocks_[i];
      const Partial total = partial(block, 0);
      for (uint64_t k = 1; k < block.num_ranges(); ++k) Merge(partial(block, k), block.rows, total);
      Finish(block, total);
    });
  }

  static RowBlock WithPartial(RowBlock rows, const Partial& partial) {
    rows.max = partial.max;
    rows.sum = partial.sum;
    rows.values = partial.values;
    return rows;
  }

  // What the rows of blocks that see the same keys see of one range. `memory`: [TileFloats()].
  void RunRange(std::span<const Block> blocks, uint64_t range, std::span<const RowBlock> rows,
                float* memory) const {
    float* keys = memory;
    float* values = keys + kTileKeys * spec_.head_dim;
    float* packing = values + kTileKeys * value_pitch_;
    for (const RowBlock& block : rows) {
      const uint64_t padded = block.rows + kernels_.padding;
      std::fill_n(block.max, padded, kLowest);
      std::fill_n(block.sum, padded, 0.0f);
      std::fill_n(block.values, padded * value_pitch_, 0.0f);
    }

    const uint64_t begin = std::max(blocks[0].begin, range * kRangeKeys);
    const uint64_t end = std::min(blocks[0].end, (range + 1) * kRangeKeys);
    for (uint64_t first = begin / kTileKeys * kTileKeys; first < end; first += kTileKeys) {
      for (size_t i = 0; i < blocks.size(); ++i) {
        const Block& block = blocks[i];
        const CacheTile tile = {
            .keys = TileOf(block.input->keys, block, first, spec_.head_dim),
            .values = TileOf(block.input->values, block, first, spec_.value_dim),
            .begin = std::max(begin, first) - first,
            .end = std::min(end, first + kTileKeys) - first,
            .dim = spec_.head_dim,
            .value_dim = spec_.value_dim,
        };
        kernels_.pack_keys(tile, packing, keys);
        kernels_.pack_values(tile, values);
        kernels_.attend({.keys = keys,
                         .values = values,
                         .dim = spec_.head_dim,
                         .value_pitch = value_pitch_,
                         .first = static_cast<int64_t>(first),
                         .softcap = spec_.softcap},
                        rows[i]);
      }
    }
  }

  // `first` may lie before the cache: the offset wraps around, and kernels come back before they
  // read.
  static CacheView TileOf(CacheView cache, const Block& block, uint64_t first, uint64_t head_size) {
    const uint64_t size = cache.dtype == Dtype::kF32 ? sizeof(float) : sizeof(uint16_t);
    const uint64_t elements =
        (first - block.input->first_position) * cache.pitch + block.kv_head * head_size;
    cache.data =
        reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(cache.data) + elements * size);
    return cache;
  }

  // Queries and limits of a block, in `memory` [RowFloats], which is advanced beyond them.
  RowBlock PrepareRows(const Block& block, float*& memory) const {
    const uint64_t padded = block.rows + kernels_.padding;
    const uint64_t dim = spec_.head_dim;
    RowBlock rows = {};
    rows.rows = block.rows;
    rows.queries = memory;
    memory += RoundUp(padded * dim, 16);
    rows.low = reinterpret_cast<int64_t*>(memory);
    rows.high = rows.low + RoundUp(padded, 16);
    memory += 4 * RoundUp(padded, 16);
    for (uint64_t r = 0; r < block.rows; ++r) {
      const uint64_t token = (block.first_row + r) / group();
      const uint64_t head = block.kv_head * group() + (block.first_row + r) % group();
      const uint64_t position = block.input->segment.position + token;
      rows.low[r] = static_cast<int64_t>(Low(*block.input, position));
      rows.high[r] = static_cast<int64_t>(position + 1);
      const float* from = q_.row(block.input->segment.first_row + token) + head * dim;
      kernels_.scale(from, spec_.scale, dim, rows.queries + r * dim);
    }
    std::fill(rows.low + block.rows, rows.low + padded, 0);
    std::fill(rows.high + block.rows, rows.high + padded, 0);
    std::fill(rows.queries + block.rows * dim, rows.queries + padded * dim, 0.0f);
    return rows;
  }

  // Adds keys that come after those of `total`.
  void Merge(const Partial& more, uint64_t rows, const Partial& total) const {
    for (uint64_t r = 0; r < rows; ++r) {
      if (more.max[r] == kLowest && more.sum[r] == 0) continue;  // Saw none.
      const float max = std::max(total.max[r], more.max[r]);
      const float factor = std::exp(more.max[r] - max);
      const float total_factor = std::exp(total.max[r] - max);
      total.max[r] = max;
      total.sum[r] = total.sum[r] * total_factor + more.sum[r] * factor;
      kernels_.merge(more.values + r * value_pitch_, factor, total_factor, value_pitch_,
                     total.values + r * value_pitch_);
    }
  }

  // Divides by the sum, to which a sink adds.
  void Finish(const Block& block, const Partial& total) const {
    for (uint64_t r = 0; r < block.rows; ++r) {
      const uint64_t token = (block.first_row + r) / group();
      const uint64_t head = block.kv_head * group() + (block.first_row + r) % group();
      float factor = 1;
      float sum = total.sum[r];
      if (!spec_.sinks.empty()) {
        const float max = std::max(total.max[r], spec_.sinks[head]);
        factor = std::exp(total.max[r] - max);
        sum = sum * factor + std::exp(spec_.sinks[head] - max);
      }
      factor /= sum;
      const float* from = total.values + r * value_pitch_;
      float* to = out_.row(block.input->segment.first_row + token) + head * spec_.value_dim;
      kernels_.scale(from, factor, spec_.value_dim, to);
    }
  }

  const AttentionKernels& kernels_;
  const AttentionSpec& spec_;
  Rows q_, out_;
  std::vector<AlignedBytes>& scratch_;  // Of each thread.
  uint64_t value_pitch_ = 0;
  uint64_t block_rows_ = 0;
  uint64_t num_partials_ = 0;
  std::vector<Block> blocks_;
};

class FmaAttention final : public Attention {
 public:
  explicit FmaAttention(const AttentionKernels& kernels) : kernels_(kernels) {}

  void Attend(Rows q, std::span<const AttentionInput> inputs, const AttentionSpec& spec, Rows out,
              ThreadPool& pool) override {
    scratch_.resize(std::max(scratch_.size(), pool.num_threads()));
    AttentionCall(kernels_, q, inputs, spec, out, pool.num_threads(), scratch_).Run(pool);
  }

 private:
  const AttentionKernels& kernels_;
  std::vector<AlignedBytes> scratch_;  // Of each thread.
};

}  // namespace

std::unique_ptr<Attention> MakeFmaAttention(const std::string& isa) {
  return std::make_unique<FmaAttention>(AttentionKernelsOf(SimdLevelOf(isa)));
}

}  // namespace ram
