// Attention on AMX tiles, with a running softmax over blocks of keys ("flash attention", Dao et al.
// 2022, arXiv:2205.14135). Both products are those of amx_product.h, in bf16 parts: queries and
// weights in three, keys and values in as many as make them exact (bf16 caches one, f32 three).
//
// Keys and values of a kv head are packed once, in blocks of 256 positions. A task takes 256 rows
// of one head through them, 32 at a time, so that a block comes from L3 once for all eight. Per 32
// rows: scores -> mask, maximum, exponential, split, packed in one pass -> product with the values
// -> added to the rescaled sums. Blocks, and steps of 32 keys, that no row sees are skipped. While
// the vector units are at the softmax of one such stage, the tile unit multiplies the values of the
// stage before and the keys of the one after.
//
// A row does not depend on its neighbours: blocks begin at multiples of 256 positions, and a key
// that is not seen weighs exactly zero.
//
// Sequences with few rows (decoding) go to the f32 attention: their time is that of reading keys
// and values. Non-goal: f16 tiles, which would need powers of two for each key and value; every CPU
// with AMX-FP16 has bf16 tiles too.

#include <algorithm>
#include <optional>
#include <vector>

#include "ram/base/result.h"
#include "ram/runtime/aligned_memory.h"
#include "ram/runtime/amx_attention.h"
#include "ram/runtime/amx_product.h"
#include "ram/runtime/attention.h"
#include "ram/runtime/buffer_plan.h"
#include "ram/runtime/isa.h"
#include "ram/runtime/products_amx.h"

namespace ram {
namespace {

constexpr size_t kBlockKeys = 256;  // A multiple of 32.
constexpr size_t kTaskRows = 256;   // A multiple of 32.
constexpr size_t kRowBlocks = kTaskRows / kTileRows;
constexpr size_t kPackedBytes = size_t{128} << 20;  // Of keys and values in memory at a time.
constexpr uint64_t kFewRows = 16;
constexpr float kLog2E = 1.44269504F;

constexpr size_t RoundUp(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

size_t PartsOf(const CacheView& cache, size_t parts) {
  RAM_CHECK(cache.dtype == Dtype::kF32 || cache.dtype == Dtype::kBF16);
  return cache.dtype == Dtype::kBF16 ? 1 : parts;
}

// Bytes of a packed operand.
size_t OperandBytes(size_t rows, size_t k, size_t parts) {
  return RoundUp(rows, kTileRows) * RoundUp(k, kTileStep) * parts * 2;
}

// Keys and values of one kv head of one sequence.
struct PackedHead {
  const AttentionInput* input = nullptr;
  uint64_t kv_head = 0;
  uint64_t first_block = 0;  // Of 256 positions.
  uint64_t num_blocks = 0;
  size_t key_bytes = 0;  // Of a block.
  size_t block_bytes = 0;
  uint8_t* packed = nullptr;

  uint64_t end() const { return input->segment.position + input->segment.num_rows; }
  uint8_t* keys(uint64_t block) const { return packed + (block - first_block) * block_bytes; }
  uint8_t* values(uint64_t block) const { return keys(block) + key_bytes; }
};

// 256 rows of one head.
struct AttendTask {
  const PackedHead* keys = nullptr;
  uint64_t head = 0;
  uint64_t first_row = 0;  // Of the segment.
  uint64_t rows = 0;
};

// Working memory of a thread.
struct AttendScratch {
  uint8_t* queries = nullptr;  // [row blocks][steps][parts][2 tiles]
  size_t query_bytes = 0;      // Of a row block.
  float* product = nullptr;    // [value blocks][4 tiles]
  float* sums = nullptr;       // [row blocks][value blocks][4 tiles]
  float* max = nullptr;        // [row blocks][32]
  float* sum = nullptr;        // [row blocks][32]
  float* most = nullptr;       // [8 steps][32]
  // Of a stage and of the one after.
  float* scores[2] = {};     // [8 blocks][4 tiles]
  uint8_t* weights[2] = {};  // [8 steps][parts][2 tiles]
  float* rescale[2] = {};    // [32]

  AttendScratch(BufferPlan plan, const AttentionSpec& spec, size_t parts, size_t* bytes) {
    const size_t value_pitch = RoundUp(spec.value_dim, kTileRows);
    query_bytes = OperandBytes(kTileRows, spec.head_dim, parts);
    queries = plan.Take<uint8_t>(kRowBlocks * query_bytes);
    product = plan.Take<float>(kTileRows * value_pitch);
    sums = plan.Take<float>(kTaskRows * value_pitch);
    max = plan.Take<float>(kTaskRows);
    sum = plan.Take<float>(kTaskRows);
    most = plan.Take<float>(kBlockKeys / kTileStep * kTileRows);
    for (size_t i = 0; i < 2; ++i) {
      scores[i] = plan.Take<float>(kTileRows * kBlockKeys);
      weights[i] = plan.Take<uint8_t>(kTileRows * kBlockKeys * parts * 2);
      rescale[i] = plan.Take<float>(kTileRows);
    }
    if (bytes != nullptr) *bytes = plan.bytes();
  }
};

// 32 rows of a task against a block of keys, or those of them that some row sees.
struct Stage {
  size_t row_block = 0;
  alignas(64) int32_t begin[kTileRows] = {};  // Row r sees the keys [begin[r], end[r]) of those.
  alignas(64) int32_t end[kTileRows] = {};
  TileAttentionProduct scores;  // Of the keys with the queries.
  TileSoftmax softmax;
  TileAttentionProduct values;  // Of the values with the weights.
};

// Positions that row `position` sees: [first, position].
uint64_t FirstSeen(uint64_t position, const AttentionInput& input, const AttentionSpec& spec) {
  uint64_t first = input.first_position;
  if (spec.window > 0 && position >= spec.window) {
    first = std::max(first, position - spec.window + 1);
  }
  if (spec.chunk > 0) first = std::max(first, position / spec.chunk * spec.chunk);
  return first;
}

class TileAttention : public Attention {
 public:
  TileAttention(size_t parts, std::unique_ptr<Attention> few_rows)
      : parts_(parts),
        kernels_(*FindTileKernels(TileFormat::kBf16, parts)),
        few_rows_(std::move(few_rows)) {}

  void Attend(Rows q, std::span<const AttentionInput> inputs, const AttentionSpec& spec, Rows out,
              ThreadPool& pool) override;

 private:
  PackedHead PlaceHead(const AttentionInput& input, uint64_t kv_head, const AttentionSpec& spec,
                       BufferPlan* plan) const;
  void PackBlock(const PackedHead& head, uint64_t block, const AttentionSpec& spec) const;
  void AttendHeads(std::span<const PackedHead> heads, Rows q, const AttentionSpec& spec, Rows out,
                   ThreadPool& pool);
  void RunTask(const AttendTask& task, Rows q, const AttentionSpec& spec, Rows out,
               const AttendScratch& scratch) const;
  bool PlaceStage(const AttendTask& task, uint64_t block, size_t row_block, size_t number,
                  const AttentionSpec& spec, const AttendScratch& scratch, Stage* stage) const;
  void RunStages(const AttendTask& task, const AttentionSpec& spec,
                 const AttendScratch& scratch) const;

  size_t parts_;  // Of queries and weights.
  const TileKernels& kernels_;
  std::unique_ptr<Attention> few_rows_;
  AlignedBytes packed_;
  std::vector<AlignedBytes> thread_buffers_;
};

PackedHead TileAttention::PlaceHead(const AttentionInput& input, uint64_t kv_head,
                                    const AttentionSpec& spec, BufferPlan* plan) const {
  PackedHead head;
  head.input = &input;
  head.kv_head = kv_head;
  const uint64_t first = FirstSeen(input.segment.position, input, spec);
  head.first_block = first / kBlockKeys;
  head.num_blocks = (head.end() - 1) / kBlockKeys - head.first_block + 1;
  head.key_bytes = OperandBytes(kBlockKeys, spec.head_dim, PartsOf(input.keys, parts_));
  head.block_bytes =
      head.key_bytes + OperandBytes(spec.value_dim, kBlockKeys, PartsOf(input.values, parts_));
  head.packed = plan->Take<uint8_t>(head.num_blocks * head.block_bytes);
  return head;
}

// Element `col` of position `position` in a cache whose oldest token is at `first`. The address
// may lie before the cache: then nothing is read there.
const uint8_t* CacheAddress(const CacheView& cache, uint64_t position, uint64_t first,
                            uint64_t col) {
  const auto element = static_cast<int64_t>(BitsOf(cache.dtype) / 8);
  const int64_t token = static_cast<int64_t>(position) - static_cast<int64_t>(first);
  const int64_t offset =
      (token * static_cast<int64_t>(cache.pitch) + static_cast<int64_t>(col)) * element;
  return reinterpret_cast<const uint8_t*>(reinterpret_cast<uintptr_t>(cache.data) +
                                          static_cast<uintptr_t>(offset));
}

void TileAttention::PackBlock(const PackedHead& head, uint64_t block,
                              const AttentionSpec& spec) const {
  const AttentionInput& input = *head.input;
  const uint64_t position = block * kBlockKeys;
  const size_t first_key =
      input.first_position > position ? input.first_position - position : size_t{0};
  const size_t end_key = std::min<size_t>(kBlockKeys, head.end() - position);

  const auto cache_block = [&](const CacheView& cache, uint64_t cols, uint8_t* packed) {
    TileCache rows;
    rows.bf16 = cache.dtype == Dtype::kBF16;
    rows.row_bytes = cache.pitch * static_cast<uint64_t>(BitsOf(cache.dtype)) / 8;
    rows.values = CacheAddress(cache, position, input.first_position, head.kv_head * cols);
    rows.first = first_key;
    rows.end = end_key;
    rows.positions = kBlockKeys;
    rows.cols = cols;
    rows.packed = packed;
    return rows;
  };
  FindTileAttentionKernels(parts_, PartsOf(input.keys, parts_))
      ->pack_keys(cache_block(input.keys, spec.head_dim, head.keys(block)));
  FindTileAttentionKernels(parts_, PartsOf(input.values, parts_))
      ->pack_values(cache_block(input.values, spec.value_dim, head.values(block)));
}

void TileAttention::Attend(Rows q, std::span<const AttentionInput> inputs,
                           const AttentionSpec& spec, Rows out, ThreadPool& pool) {
  RAM_CHECK(spec.kv_heads > 0 && spec.heads % spec.kv_heads == 0);
  RAM_CHECK(q.cols == spec.heads * spec.head_dim && out.cols == spec.heads * spec.value_dim);
  RAM_CHECK(spec.scale > 0);
  RAM_CHECK(spec.sinks.empty() || spec.sinks.size() == spec.heads);
  std::vector<AttentionInput> few;
  struct Head {
    const AttentionInput* input;
    uint64_t kv_head;
  };
  std::vector<Head> waiting;
  size_t bytes = 0;
  const auto flush = [&] {
    BufferPlan count(nullptr);
    for (const Head& head : waiting) PlaceHead(*head.input, head.kv_head, spec, &count);
    packed_.Reserve(count.bytes());
    BufferPlan place(packed_.data());
    std::vector<PackedHead> heads;
    heads.reserve(waiting.size());
    for (const Head& head : waiting) {
      heads.push_back(PlaceHead(*head.input, head.kv_head, spec, &place));
    }
    AttendHeads(heads, q, spec, out, pool);
    waiting.clear();
    bytes = 0;
  };
  for (const AttentionInput& input : inputs) {
    if (input.segment.num_rows < kFewRows) {
      if (input.segment.num_rows > 0) few.push_back(input);
      continue;
    }
    for (uint64_t h = 0; h < spec.kv_heads; ++h) {
      BufferPlan count(nullptr);
      PlaceHead(input, h, spec, &count);
      if (bytes + count.bytes() > kPackedBytes && !waiting.empty()) flush();
      waiting.push_back({&input, h});
      bytes += count.bytes();
    }
  }
  if (!waiting.empty()) flush();
  if (!few.empty()) few_rows_->Attend(q, few, spec, out, pool);
}

void TileAttention::AttendHeads(std::span<const PackedHead> heads, Rows q,
                                const AttentionSpec& spec, Rows out, ThreadPool& pool) {
  std::vector<std::pair<const PackedHead*, uint64_t>> blocks;
  std::vector<AttendTask> tasks;
  for (const PackedHead& head : heads) {
    for (uint64_t b = 0; b < head.num_blocks; ++b) blocks.emplace_back(&head, head.first_block + b);
    const uint64_t sharing = spec.heads / spec.kv_heads;
    const uint64_t rows = head.input->segment.num_rows;
    for (uint64_t h = head.kv_head * sharing; h < (head.kv_head + 1) * sharing; ++h) {
      for (uint64_t row = 0; row < rows; row += kTaskRows) {
        tasks.push_back({&head, h, row, std::min<uint64_t>(kTaskRows, rows - row)});
      }
    }
  }
  pool.ParallelFor(blocks.size(),
                   [&](size_t i, size_t) { PackBlock(*blocks[i].first, blocks[i].second, spec); });

  size_t bytes = 0;
  AttendScratch(BufferPlan(nullptr), spec, parts_, &bytes);
  if (thread_buffers_.size() < pool.num_threads()) thread_buffers_.resize(pool.num_threads());
  pool.ParallelFor(tasks.size(), [&](size_t i, size_t thread) {
    thread_buffers_[thread].Reserve(bytes);
    const TileScope scope;
    RunTask(tasks[i], q, spec, out,
            AttendScratch(BufferPlan(thread_buffers_[thread].data()), spec, parts_, nullptr));
  });
}

void TileAttention::RunTask(const AttendTask& task, Rows q, const AttentionSpec& spec, Rows out,
                            const AttendScratch& scratch) const {
  const AttentionInput& input = *task.keys->input;
  const size_t value_pitch = RoundUp(spec.value_dim, kTileRows);
  const uint64_t row = input.segment.first_row + task.first_row;
  const size_t row_blocks = (task.rows + kTileRows - 1) / kTileRows;
  const auto rows_of = [&](size_t b) {
    return std::min<size_t>(kTileRows, task.rows - b * kTileRows);
  };
  for (size_t b = 0; b < row_blocks; ++b) {
    TileWeightBlock queries;
    queries.form = TileWeights::kF32;
    queries.values =
        reinterpret_cast<const uint8_t*>(q.row(row + b * kTileRows) + task.head * spec.head_dim);
    queries.row_bytes = q.pitch * sizeof(float);
    queries.columns = rows_of(b);
    queries.cols = queries.num_k = spec.head_dim;
    queries.packed = scratch.queries + b * scratch.query_bytes;
    kernels_.pack[parts_ - 1](queries);
  }
  // A sink is a score that no value belongs to.
  const bool sink = !spec.sinks.empty();
  std::fill_n(scratch.max, kTaskRows, sink ? spec.sinks[task.head] * kLog2E : kUnseenScore);
  std::fill_n(scratch.sum, kTaskRows, sink ? 1.0F : 0.0F);
  std::fill_n(scratch.sums, row_blocks * kTileRows * value_pitch, 0.0F);

  RunStages(task, spec, scratch);
  for (size_t b = 0; b < row_blocks; ++b) {
    TileResult result;
    result.sums = scratch.sums + b * kTileRows * value_pitch;
    result.sum = scratch.sum + b * kTileRows;
    result.rows = rows_of(b);
    result.cols = spec.value_dim;
    result.out = out.row(row + b * kTileRows) + task.head * spec.value_dim;
    result.pitch = out.pitch;
    FindTileAttentionKernels(parts_, parts_)->finish(result);
  }
}

// Stages in the order of their keys, three at work at a time.
void TileAttention::RunStages(const AttendTask& task, const AttentionSpec& spec,
                              const AttendScratch& scratch) const {
  const AttentionInput& input = *task.keys->input;
  const size_t value_blocks = RoundUp(spec.value_dim, kTileRows) / kTileRows;
  const size_t key_parts = PartsOf(input.keys, parts_);
  const size_t value_parts = PartsOf(input.values, parts_);
  const TileAttentionKernels& key_kernels = *FindTileAttentionKernels(parts_, key_parts);
  const TileAttentionKernels& value_kernels = *FindTileAttentionKernels(parts_, value_parts);

  const uint64_t position = input.segment.position + task.first_row;
  const uint64_t last_block = (position + task.rows - 1) / kBlockKeys;
  const size_t row_blocks = (task.rows + kTileRows - 1) / kTileRows;
  uint64_t block = FirstSeen(position, input, spec) / kBlockKeys;
  size_t row_block = 0;
  size_t num_stages = 0;
  Stage stages[3];
  const auto next_stage = [&]() -> Stage* {
    while (block <= last_block) {
      Stage* const stage = &stages[num_stages % 3];
      const bool some = PlaceStage(task, block, row_block, num_stages % 2, spec, scratch, stage);
      if (++row_block == row_blocks) {
        row_block = 0;
        ++block;
      }
      if (!some) continue;
      ++num_stages;
      return stage;
    }
    return nullptr;
  };

  const auto multiply_values = [&](const Stage& stage, const TileSoftmax& beside, size_t pieces) {
    value_kernels.multiply(stage.values, beside, 0, pieces);
    value_kernels.add(scratch.product, stage.softmax.rescale, value_blocks,
                      scratch.sums + stage.row_block * value_blocks * kTileRows * kTileRows);
  };
  Stage* before = nullptr;
  Stage* now = next_stage();
  if (now == nullptr) return;
  key_kernels.multiply(now->scores, now->softmax, 0, 0);
  while (now != nullptr) {
    Stage* const after = next_stage();
    // Pieces of the softmax in proportion to the tile products beside them.
    const size_t value_work = before == nullptr ? 0 : before->softmax.num_keys * spec.value_dim;
    const size_t key_work = after == nullptr ? 0 : after->softmax.num_keys * spec.head_dim;
    const size_t pieces = now->softmax.num_pieces();
    size_t done = 0;
    if (before != nullptr) {
      done = pieces * value_work / (value_work + key_work);
      multiply_values(*before, now->softmax, done);
    }
    if (after != nullptr) {
      key_kernels.multiply(after->scores, now->softmax, done, pieces);
      done = pieces;
    }
    key_kernels.softmax(now->softmax, done, pieces);
    before = now;
    now = after;
  }
  multiply_values(*before, before->softmax, 0);
}

// False where no row sees a key of the block.
bool TileAttention::PlaceStage(const AttendTask& task, uint64_t block, size_t row_block,
                               size_t number, const AttentionSpec& spec,
                               const AttendScratch& scratch, Stage* stage) const {
  const PackedHead& head = *task.keys;
  const AttentionInput& input = *head.input;
  const size_t first_row = row_block * kTileRows;
  const size_t rows = std::min<size_t>(kTileRows, task.rows - first_row);
  const uint64_t position = input.segment.position + task.first_row + first_row;
  const uint64_t block_position = block * kBlockKeys;
  const uint64_t first_seen = FirstSeen(position, input, spec);  // Grows with the position.
  if (position + rows <= block_position || first_seen >= block_position + kBlockKeys) return false;

  const size_t first_step =
      first_seen > block_position ? (first_seen - block_position) / kTileStep : size_t{0};
  const size_t end_step =
      std::min<size_t>(kBlockKeys, RoundUp(position + rows - block_position, kTileStep)) /
      kTileStep;
  const auto first_key = static_cast<int64_t>(block_position + first_step * kTileStep);
  const size_t num_keys = (end_step - first_step) * kTileStep;
  const auto clamp = [&](uint64_t key) {
    return static_cast<int32_t>(std::clamp<int64_t>(static_cast<int64_t>(key) - first_key, 0,
                                                    static_cast<int64_t>(num_keys)));
  };
  for (size_t r = 0; r < kTileRows; ++r) {  // Rows that do not exist see what the last one sees.
    const uint64_t at = position + std::min(r, rows - 1);
    stage->begin[r] = clamp(FirstSeen(at, input, spec));
    stage->end[r] = clamp(at + 1);
  }
  stage->row_block = row_block;

  const size_t key_parts = PartsOf(input.keys, parts_);
  const size_t value_parts = PartsOf(input.values, parts_);
  TileAttentionProduct& scores = stage->scores;
  scores.steps = scores.a_steps = RoundUp(spec.head_dim, kTileStep) / kTileStep;
  scores.a = head.keys(block) + first_step * scores.steps * key_parts * 2 * kTileBytes;
  scores.b = scratch.queries + row_block * scratch.query_bytes;
  scores.blocks = num_keys / kTileRows;
  scores.sums = scratch.scores[number % 2];

  TileSoftmax& softmax = stage->softmax;
  softmax.scores = scores.sums;
  softmax.num_keys = num_keys;
  softmax.begin = stage->begin;
  softmax.end = stage->end;
  softmax.first_common = *std::ranges::max_element(stage->begin);
  softmax.end_common = *std::ranges::min_element(stage->end);
  softmax.scale = spec.scale;
  softmax.softcap = spec.softcap;
  softmax.max = scratch.max + first_row;
  softmax.sum = scratch.sum + first_row;
  softmax.rescale = scratch.rescale[number % 2];
  softmax.most = scratch.most;
  softmax.packed = scratch.weights[number % 2];

  TileAttentionProduct& values = stage->values;
  values.a = head.values(block) + first_step * value_parts * 2 * kTileBytes;
  values.a_steps = kBlockKeys / kTileStep;
  values.b = softmax.packed;
  values.blocks = RoundUp(spec.value_dim, kTileRows) / kTileRows;
  values.steps = num_keys / kTileStep;
  values.sums = scratch.product;
  return true;
}

}  // namespace

std::unique_ptr<Attention> MakeAmxAttention(const std::string& isa, Precision precision) {
  RAM_CHECK(isa == "amx-f16" || isa == "amx-bf16");
  const AmxSupport& amx = DetectAmx();
  if (!(isa == "amx-f16" ? amx.f16 : amx.bf16)) return nullptr;
  return std::make_unique<TileAttention>(TileParts(TileFormat::kBf16, precision),
                                         MakeFmaAttention(SimdLevelOf(isa)));
}

}  // namespace ram
