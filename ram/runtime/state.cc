#include "ram/runtime/state.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <variant>

#include "ram/base/half.h"
#include "ram/base/result.h"

namespace ram {
namespace {

constexpr uint64_t kAlignment = 64;
constexpr uint64_t kFirstTokens = 64;

// What one layer keeps per token, and at most.
struct TokenShape {
  uint64_t key_cols = 0;
  uint64_t value_cols = 0;
  bool latent = false;
  uint64_t keep = 0;  // 0: all.
};

TokenShape TokenShapeOf(const LayerGraph& layer) {
  TokenShape shape;
  if (const auto* attention = std::get_if<AttentionGraph>(&layer.mixer)) {
    shape.key_cols = attention->kv_heads * attention->head_dim;
    shape.value_cols = shape.key_cols;
    // Every token of a chunk sees all of it, so the last chunk is enough.
    shape.keep = attention->window > 0 && attention->chunk > 0
                     ? std::min(attention->window, attention->chunk)
                     : std::max(attention->window, attention->chunk);
  } else if (const auto* latent = std::get_if<LatentGraph>(&layer.mixer)) {
    shape.latent = true;
    shape.key_cols = latent->kv_rank + latent->rope_dim;
  }
  return shape;
}

uint64_t ConvFloats(const DeltaGraph& delta) {
  const uint64_t channels =
      2 * delta.key_heads * delta.key_dim + delta.value_heads * delta.value_dim;
  return (delta.taps - 1) * channels;
}

uint64_t RecurrentFloats(const DeltaGraph& delta) {
  return delta.value_heads * delta.value_dim * delta.key_dim;
}

uint64_t BytesOf(Dtype dtype) { return static_cast<uint64_t>(BitsOf(dtype)) / 8; }

// Tokens that a buffer gets room for. Where a layer keeps a window only, half of it is free after
// what is held has moved to its front, so that moving is rare.
uint64_t CapacityFor(uint64_t num_tokens, uint64_t keep) {
  uint64_t capacity = kFirstTokens;
  while (capacity < (keep > 0 ? 2 * num_tokens : num_tokens)) capacity *= 2;
  return capacity;
}

void CopyRows(Rows from, Dtype dtype, uint8_t* to) {
  for (uint64_t r = 0; r < from.rows; ++r) {
    if (dtype == Dtype::kF32) {
      std::memcpy(to + r * from.cols * sizeof(float), from.row(r), from.cols * sizeof(float));
      continue;
    }
    auto* halves = reinterpret_cast<uint16_t*>(to) + r * from.cols;
    for (uint64_t c = 0; c < from.cols; ++c) halves[c] = Bf16FromFloat(from.row(r)[c]);
  }
}

}  // namespace

void LayerState::Free::operator()(uint8_t* data) const {
  ::operator delete[](data, std::align_val_t{kAlignment});
}

LayerState::LayerState(const LayerGraph& layer, Dtype dtype) : dtype_(dtype) {
  RAM_CHECK(dtype == Dtype::kF32 || dtype == Dtype::kBF16);
  const TokenShape shape = TokenShapeOf(layer);
  key_cols_ = shape.key_cols;
  value_cols_ = shape.value_cols;
  latent_ = shape.latent;
  keep_ = shape.keep;
  if (const auto* delta = std::get_if<DeltaGraph>(&layer.mixer)) {
    conv_.assign(ConvFloats(*delta), 0);
    recurrent_.assign(RecurrentFloats(*delta), 0);
  }
}

uint64_t LayerState::bytes() const {
  return capacity_ * (key_cols_ + value_cols_) * BytesOf(dtype_) +
         (conv_.size() + recurrent_.size()) * sizeof(float);
}

void LayerState::Append(Rows keys, Rows values) {
  RAM_CHECK(keys.cols == key_cols_ && (latent_ || values.cols == value_cols_));
  RAM_CHECK(latent_ || values.rows == keys.rows);
  if (keep_ > 0 && held_ >= keep_) {  // The next token sees the keep_ - 1 before it.
    const uint64_t forget = held_ - (keep_ - 1);
    first_ += forget;
    held_ -= forget;
  }
  Reserve(keys.rows);
  const uint64_t end = first_ + held_;
  CopyRows(keys, dtype_, keys_.get() + end * key_cols_ * BytesOf(dtype_));
  if (!latent_) CopyRows(values, dtype_, values_.get() + end * value_cols_ * BytesOf(dtype_));
  held_ += keys.rows;
  position_ += keys.rows;
}

// Room for num_tokens more behind what is held. A buffer that one long call has made much too large
// for its window shrinks at the next.
void LayerState::Reserve(uint64_t num_tokens) {
  const uint64_t need = held_ + num_tokens;
  const uint64_t wanted = CapacityFor(need, keep_);
  const bool too_large = capacity_ > 2 * wanted;
  if (first_ + need <= capacity_ && !too_large) return;
  const bool moves = capacity_ >= wanted && !too_large;
  const uint64_t capacity = moves ? capacity_ : wanted;
  const auto move = [&](uint64_t cols, Buffer* buffer) {
    const uint64_t token_bytes = cols * BytesOf(dtype_);
    const uint8_t* held = buffer->get() + first_ * token_bytes;
    if (moves) {
      std::memmove(buffer->get(), held, held_ * token_bytes);
      return;
    }
    Buffer other(static_cast<uint8_t*>(
        ::operator new[](capacity* token_bytes, std::align_val_t{kAlignment})));
    if (held_ > 0) std::memcpy(other.get(), held, held_ * token_bytes);
    *buffer = std::move(other);
  };
  move(key_cols_, &keys_);
  if (!latent_) move(value_cols_, &values_);
  capacity_ = capacity;
  first_ = 0;
}

CacheView LayerState::keys() const {
  return {keys_.get() + first_ * key_cols_ * BytesOf(dtype_), dtype_, key_cols_};
}

CacheView LayerState::values() const {
  if (latent_) return keys();
  return {values_.get() + first_ * value_cols_ * BytesOf(dtype_), dtype_, value_cols_};
}

DeltaState LayerState::delta() { return {conv_.data(), recurrent_.data()}; }

namespace {

// Of the tokens that are held, or of the memory for them.
uint64_t StateBytes(const Graph& graph, Dtype dtype, uint64_t num_tokens, bool memory) {
  uint64_t bytes = 0;
  for (const LayerGraph& layer : graph.layers) {
    if (const auto* delta = std::get_if<DeltaGraph>(&layer.mixer)) {
      bytes += (ConvFloats(*delta) + RecurrentFloats(*delta)) * sizeof(float);
      continue;
    }
    const TokenShape shape = TokenShapeOf(layer);
    const uint64_t held = shape.keep > 0 ? std::min(shape.keep, num_tokens) : num_tokens;
    bytes += (memory ? CapacityFor(held, shape.keep) : held) * (shape.key_cols + shape.value_cols) *
             BytesOf(dtype);
  }
  return bytes;
}

}  // namespace

uint64_t SequenceStateBytes(const Graph& graph, Dtype dtype, uint64_t num_tokens) {
  return StateBytes(graph, dtype, num_tokens, /*memory=*/true);
}

uint64_t SequenceReadBytes(const Graph& graph, Dtype dtype, uint64_t num_tokens) {
  return StateBytes(graph, dtype, num_tokens, /*memory=*/false);
}

SequenceState MakeSequenceState(const Graph& graph, Dtype dtype) {
  SequenceState state;
  for (const LayerGraph& layer : graph.layers) state.emplace_back(layer, dtype);
  return state;
}

}  // namespace ram
