#pragma once

// The words that the table of families and the engines share: kinds of activations, norms and
// routers. docs/runtime.md has the arithmetic.

#include <cstdint>

namespace ram {

// Whose arithmetic a run follows where transformers and mlx-lm differ (docs/runtime.md).
enum class Numerics : uint8_t { kHf, kMlx };

enum class Activation : uint8_t {
  kSilu,
  kGeluTanh,
  // gpt_oss: g = min(gate, limit), u = clamp(up, -limit, limit): g * sigmoid(alpha * g) * (u + 1).
  kClippedSwiglu,
};

// The norm of queries and keys.
enum class HeadNorm : uint8_t {
  kNone,
  kPerHead,   // RMS of each head, weight [head_dim], before rotation.
  kWholeRow,  // RMS of all heads together, weight [heads * head_dim], before rotation.
  kAfter,     // RMS of each head without weight, after rotation (llama4).
};

// How the experts of a token are chosen and weighted.
enum class RouterKind : uint8_t {
  kSoftmax,  // Softmax over all experts, then the k largest; `renormalize` divides by their sum.
  kTopkSoftmax,   // The k largest logits, then softmax over them (mixtral, gpt_oss).
  kSigmoid,       // Sigmoid; `correction` is added for the choice only; groups; `renormalize`.
  kSigmoidInput,  // llama4: the largest logits; sigmoid of the logit scales the expert's input.
};

}  // namespace ram
