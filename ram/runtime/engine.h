#pragma once

// The operations that a forward pass is made of, behind one interface: fifteen fused steps, each of
// which an engine implements as it likes. ReferenceEngine is the meaning (scalar, readable);
// CpuEngine is fast. A GPU engine can stand behind the same interface: memory of activations comes
// from the engine, so that it can be shared or managed memory.
//
// Activations are f32, token-major: one row per token. A batch holds rows of one or many sequences
// (Segment). Every result row depends on its own token (and on its sequence's past) alone, in a
// fixed order of summation: neither the other rows of the batch nor the number of threads change a
// bit. Rows of products may differ between few-row and many-row kernels in the last bits only.
// Source of the arithmetic: docs/runtime.md.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ram/base/dtype.h"
#include "ram/base/result.h"
#include "ram/base/thread_pool.h"
#include "ram/family/kinds.h"
#include "ram/runtime/matrix.h"

namespace ram {

// A view of activations [rows, cols], f32; row r begins at data + r * pitch. Data is aligned to 64
// bytes and pitch is a multiple of 16 where an engine allocated it; views into columns need not be.
struct Rows {
  float* data = nullptr;
  uint64_t rows = 0;
  uint64_t cols = 0;
  uint64_t pitch = 0;

  float* row(uint64_t r) const { return data + r * pitch; }
  Rows columns(uint64_t first, uint64_t num) const { return {data + first, rows, num, pitch}; }
  Rows slice(uint64_t first, uint64_t num) const { return {row(first), num, cols, pitch}; }
};

// Owned activations. Contents are undefined at first.
class Activations {
 public:
  virtual ~Activations() = default;
  virtual Rows rows() const = 0;
};

struct GluSpec {
  Activation activation = Activation::kSilu;
  float alpha = 1.702F;  // Of kClippedSwiglu.
  float limit = 7.0F;
};

// What becomes of q or k between its projection and the attention. In this order: the norm (before
// rotation), the rotation, the norm (after rotation), the scale of the position.
struct HeadSpec {
  using Norm = HeadNorm;
  uint64_t heads = 0;
  uint64_t head_dim = 0;
  Norm norm = Norm::kNone;
  std::span<const float> norm_weight = {};  // 1 is already added where the family wants that.
  float norm_eps = 0;

  // Rotation of columns [rope_first, rope_first + 2 * inv_freq.size()) of each head. Empty: none.
  // Angle of pair i at position p: p * inv_freq[i]; cos and sin are multiplied by rope_scale.
  std::span<const float> inv_freq = {};
  uint64_t rope_first = 0;
  bool interleaved = false;  // Pairs (2i, 2i + 1); otherwise (i, i + n).
  float rope_scale = 1;

  // llama4, layers without rotation: times 1 + temperature * ln(1 + floor((p + 1) / floor_scale)).
  float temperature = 0;
  float floor_scale = 8192;
};

// Rows of one sequence in a batch: rows [first_row, first_row + num_rows) are its tokens at
// positions position, position + 1, ...
struct Segment {
  uint64_t first_row = 0;
  uint64_t num_rows = 0;
  uint64_t position = 0;
};

// Keys or values of one sequence, oldest first: token t begins at element t * pitch. dtype kF32 or
// kBF16.
struct CacheView {
  const void* data = nullptr;
  Dtype dtype = Dtype::kF32;
  uint64_t pitch = 0;
};

// One sequence of a batch with the keys and values that its rows may see: of all its tokens at
// positions [first_position, segment.position + segment.num_rows). first_position is not zero where
// the cache keeps only a window.
struct AttentionInput {
  Segment segment;
  CacheView keys;    // [tokens, kv_heads * head_dim]
  CacheView values;  // [tokens, kv_heads * value_dim]
  uint64_t first_position = 0;
};

struct AttentionSpec {
  uint64_t heads = 0;
  uint64_t kv_heads = 0;  // Head h reads keys and values of kv head h / (heads / kv_heads).
  uint64_t head_dim = 0;  // Of queries and keys.
  uint64_t value_dim = 0;
  float scale = 1;
  float softcap = 0;    // gemma2: scores become softcap * tanh(score / softcap). 0: none.
  uint64_t window = 0;  // Position i sees j if i - j < window. 0: no window.
  uint64_t chunk = 0;   // Position i sees j if i / chunk == j / chunk. 0: no chunks.
  std::span<const float> sinks = {};  // [heads]: a score that takes part in the softmax only.
};

// Gated delta net (qwen3_next, qwen3_5): docs/runtime.md has the recurrence.
struct DeltaSpec {
  uint64_t key_heads = 0;
  uint64_t value_heads = 0;
  uint64_t key_dim = 0;
  uint64_t value_dim = 0;
  uint64_t taps = 4;                    // Of the causal convolution.
  std::span<const float> conv = {};     // [channels, taps]; channels: q, k, v one after the other.
  std::span<const float> a_log = {};    // [value_heads]
  std::span<const float> dt_bias = {};  // [value_heads]
  std::span<const float> norm_weight = {};  // [value_dim]
  float norm_eps = 1e-6F;
  float l2_eps = 1e-6F;         // Of the norms of q and k ...
  bool l2_eps_is_mean = false;  // ... added to the mean of the squares (mlx) or to their sum (hf).

  uint64_t channels() const { return 2 * key_heads * key_dim + value_heads * value_dim; }
};

// What a gated delta net keeps of the past of one sequence; all zero at the start.
struct DeltaState {
  float* conv = nullptr;  // [taps - 1, channels]: the last inputs of the convolution, oldest first.
  float* state = nullptr;  // [value_heads, value_dim, key_dim]
};

struct DeltaInput {
  Segment segment;
  DeltaState state;  // Read and replaced.
};

struct RouterSpec {
  using Kind = RouterKind;
  Kind kind = Kind::kSoftmax;
  uint64_t experts = 0;
  uint64_t top_k = 0;
  bool renormalize = false;
  float renormalize_eps = 0;  // Added to the sum.
  float scale = 1;            // Times the weights, at the end.
  uint64_t groups = 1;        // kSigmoid: the best top_groups groups (sum of their two best) count.
  uint64_t top_groups = 1;
  // Experts of other groups cannot be chosen (transformers), or count as scores of zero (mlx-lm),
  // which a score with a negative correction may not reach.
  bool rejected_are_zero = false;
  std::span<const float> correction = {};  // [experts]
};

// Which experts a token goes to: expert[t * top_k + i] with weight[t * top_k + i]. In ascending
// order of experts, the order in which their results are summed.
struct Routes {
  uint64_t top_k = 0;
  std::vector<uint32_t> expert;
  std::vector<float> weight;
};

struct ExpertSpec {
  GluSpec glu;
  bool weight_input = false;  // kSigmoidInput: the weight multiplies the input, not the output.
  Matrix gate, up, down;      // Stacks of `experts`: [I, H], [I, H], [H, I].
  std::span<const float> gate_bias = {};  // [experts, I]; empty: none.
  std::span<const float> up_bias = {};    // [experts, I]
  std::span<const float> down_bias = {};  // [experts, H]
};

// out = x * matrix^T + bias.
struct LinearTerm {
  Matrix matrix;                     // [out, in], count = 1.
  std::span<const float> bias = {};  // [out]; empty: none.
  Rows out;
};

struct HeadResult {
  float nll = 0;        // -ln p(target) [nats]; 0 where there is no target.
  float logsumexp = 0;  // ln of the sum of exp(logits).
  uint32_t argmax = 0;  // Of the largest logit, the lowest id of equals.
  float max_logit = 0;
};

enum class Precision : uint8_t {
  kF32,   // Products as accurate as f32: what reports use.
  kFast,  // 2^-17 per factor.
  kHalf,  // What frameworks do: activations rounded to 16 bits.
};

class Engine {
 public:
  virtual ~Engine() = default;

  // What made a result, for people and for score files, e.g. "reference", "cpu avx3", "cpu
  // amx-f16".
  virtual std::string name() const = 0;
  virtual ThreadPool& pool() = 0;
  virtual std::unique_ptr<Activations> Allocate(uint64_t rows, uint64_t cols) = 0;

  // out[r] = row ids[r] of the table, times scale. ids are in range.
  virtual void Embed(const Matrix& table, std::span<const int32_t> ids, float scale, Rows out) = 0;

  // out = x / sqrt(mean(x^2) + eps) * weight. out may be x.
  virtual void RmsNorm(Rows x, std::span<const float> weight, float eps, Rows out) = 0;

  // Several products with the same input. Outputs do not overlap x.
  virtual void Linear(Rows x, std::span<const LinearTerm> terms) = 0;

  // Per head h: out[:, h] = x[:, h] * matrix[h]^T; x [tokens, heads * in], matrix [heads, out, in].
  virtual void HeadLinear(Rows x, const Matrix& matrix, Rows out) = 0;

  // Per head h: out[:, h * out_pitch ...] = x * matrix[h]; x [tokens, in], matrix [heads, in, out]:
  // the same weights as HeadLinear, the other way round (keys of latent attention in prefill).
  // Column block h of out begins at column h * head_pitch.
  virtual void HeadLinearTransposed(Rows x, const Matrix& matrix, uint64_t head_pitch,
                                    Rows out) = 0;

  // Norms, rotates and scales q or k [tokens, heads * head_dim] in place.
  virtual void PrepareHeads(Rows x, std::span<const Segment> segments, const HeadSpec& spec) = 0;

  // Causal attention: q [tokens, heads * head_dim] -> out [tokens, heads * value_dim].
  virtual void Attend(Rows q, std::span<const AttentionInput> inputs, const AttentionSpec& spec,
                      Rows out) = 0;

  // qkv [tokens, channels], z [tokens, value_heads * value_dim], b and a [tokens, value_heads] ->
  // out [tokens, value_heads * value_dim]: convolution, recurrence, gated norm.
  virtual void Delta(Rows qkv, Rows z, Rows b, Rows a, std::span<const DeltaInput> inputs,
                     const DeltaSpec& spec, Rows out) = 0;

  // out = activation(gate) * up. out may be gate or up.
  virtual void Glu(Rows gate, Rows up, const GluSpec& spec, Rows out) = 0;

  // Router logits [tokens, experts] to routes.
  virtual void Route(Rows logits, const RouterSpec& spec, Routes* routes) = 0;

  // out = sum over the experts of each token, in the order of its routes. Replaces out.
  virtual void Experts(Rows x, const Routes& routes, const ExpertSpec& spec, Rows out) = 0;

  // x += y.
  virtual void Add(Rows y, Rows x) = 0;

  // x *= sigmoid(gate). gate has as many columns as x, or one.
  virtual void Gate(Rows gate, Rows x) = 0;

  // For each row x: logits = x * head^T, softcap * tanh(logits / softcap) if softcap > 0; never a
  // [rows, vocabulary] matrix. targets[r] < 0: none. Results are in order of the rows.
  virtual void Head(Rows x, const Matrix& head, float softcap, std::span<const int32_t> targets,
                    std::span<HeadResult> results) = 0;

  // The logits themselves, out [rows, vocabulary].
  virtual void Logits(Rows x, const Matrix& head, float softcap, Rows out) = 0;
};

// Scalar and readable, sums in f64 where that is the meaning: what every fast kernel is compared
// with.
std::unique_ptr<Engine> MakeReferenceEngine(ThreadPool* pool);

// Instruction sets of the fast engine, best first on x86: amx-f16, amx-bf16, avx3_dl, avx3, avx2,
// sse4, scalar; neon (isa.h).
struct CpuOptions {
  Precision precision = Precision::kF32;
  std::string isa;  // Empty: the best one that this CPU has and that passes its self test.
};
// kInvalidArgument: an instruction set that does not exist or that this CPU lacks. `pool` outlives
// the engine. RAM_ISA in the environment is the default of `isa`.
Result<std::unique_ptr<Engine>> MakeCpuEngine(ThreadPool* pool, const CpuOptions& options);
// What isa may be on this machine.
std::vector<std::string> CpuInstructionSets();

}  // namespace ram
