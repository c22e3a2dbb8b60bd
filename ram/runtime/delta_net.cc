// Gated delta net (qwen3_next, qwen3_5): causal convolution, the delta rule with decay, gated norm.
// Yang, Kautz, Hatamizadeh 2024, arXiv:2412.06464; ops_reference.h has the recurrence.
//
// The state of a head is kept turned, [key_dim, value_dim], and cut into slabs of value columns
// that stay in the first-level cache. One token or two update it one after the other: three
// multiply-adds and a multiplication per element of the state.
//
// More tokens go in chunks of C. With l[t] = the sum of ln(decay) within the chunk, S0 the state in
// front of it and d[t] what token t adds along its key:
//
//   d[t] = beta[t] (v[t] - e^l[t] S0 k[t] - sum over s < t of e^(l[t] - l[s]) (k[t] k[s]) d[s])
//   y[t] = e^l[t] S0 q[t] + sum over s <= t of e^(l[t] - l[s]) (q[t] k[s]) d[s]
//   S = e^l[C] S0 + sum over t of e^(l[C] - l[t]) k[t] d[t]
//
// The triangular system is solved by blocks of kDeltaRows tokens: everything in front of a block is
// a matrix product, and nothing is inverted (which the UT transform would do, with more rounding).
// Per token that is three multiply-adds per element of the state, C / 2 * 2 * value_dim more for
// each value head and C / 2 * 2 * key_dim for each key head. At key_dim = value_dim = 128 C = 32 is
// the fastest (64: 9 % slower); it is 3 % (AVX2) to 6 % (AVX-512) faster than token by token, for
// both are bound by multiply-adds: 57 thousand per token against 66.
//
// Decays are exponentials of differences that are not positive, taken in f64, so large sums neither
// overflow nor lose digits.
//
// Chunks begin at positions that are multiples of C: a sequence that is cut there gives the bits of
// one call; cut elsewhere, or token by token, it gives them to rounding.
//
// A task is a key head of one sequence, with the value heads that share it.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include "ram/base/result.h"
#include "ram/runtime/aligned_memory.h"
#include "ram/runtime/delta_kernels.h"
#include "ram/runtime/elementwise.h"
#include "ram/runtime/isa.h"

namespace ram {
namespace {

constexpr uint64_t kChunkTokens = kDeltaChunk;
// A chunk of at most this many tokens goes token by token.
constexpr uint64_t kFewTokens = 2;

uint64_t RoundUp(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

float Softplus(float x) { return x > 30 ? x : std::log1p(std::exp(x)); }

// ln of the factor that a state is multiplied by. Finite, unless its inputs are no numbers.
float LogDecay(float rate, float x) {
  constexpr float kLeast = -1e4F;  // e^x = 0, and sums of it are far from the end of the range.
  const float value = -rate * Softplus(x);
  return value < kLeast ? kLeast : value;
}

// One call of Run.
class DeltaCall {
 public:
  DeltaCall(const DeltaKernels& kernels, const Elementwise& elementwise, const DeltaSpec& spec,
            Rows qkv, Rows z, Rows b, Rows a, Rows out)
      : kernels_(kernels),
        elementwise_(elementwise),
        spec_(spec),
        qkv_(qkv),
        z_(z),
        b_(b),
        a_(a),
        out_(out),
        group_(spec.value_heads / spec.key_heads),
        value_pitch_(RoundUp(spec.value_dim, kernels.slab)) {
    RAM_CHECK(spec.key_heads > 0 && spec.value_heads % spec.key_heads == 0 && spec.taps > 0);
    RAM_CHECK(qkv.cols == spec.channels() && spec.conv.size() == spec.channels() * spec.taps);
    RAM_CHECK(b.cols == spec.value_heads && a.cols == spec.value_heads);
    const uint64_t values = spec.value_heads * spec.value_dim;
    RAM_CHECK(z.cols == values && out.cols == values && spec.norm_weight.size() == spec.value_dim);
    RAM_CHECK(spec.a_log.size() == spec.value_heads && spec.dt_bias.size() == spec.value_heads);
  }

  static constexpr uint64_t kAlign = 16;  // Floats.

  // Floats of scratch that RunHead needs.
  uint64_t ScratchFloats() const {
    uint64_t floats = 0;
    Divide(nullptr, &floats);
    return floats;
  }

  // One key head and its value heads.
  void RunHead(const DeltaInput& input, uint64_t key_head, float* memory) const {
    uint64_t floats = 0;
    Scratch s = Divide(memory, &floats);
    SetWeights(key_head, s);
    for (uint64_t i = 0; i < group_; ++i) MoveState(input, key_head * group_ + i, i, s, true);
    for (uint64_t t = 0, tokens = 0; t < input.segment.num_rows; t += tokens) {
      tokens = std::min(kChunkTokens - (input.segment.position + t) % kChunkTokens,
                        input.segment.num_rows - t);
      PrepareKeys(input, key_head, t, tokens, s);
      for (uint64_t i = 0; i < group_; ++i) RunValues(input, key_head, i, t, tokens, s);
    }
    for (uint64_t i = 0; i < group_; ++i) MoveState(input, key_head * group_ + i, i, s, false);
    KeepInputs(input, QueryChannel(key_head), spec_.key_dim);
    KeepInputs(input, KeyChannel(key_head), spec_.key_dim);
    KeepInputs(input, ValueChannel(key_head * group_), group_ * spec_.value_dim);
  }

 private:
  struct Scratch {
    float *q, *k;                          // [kChunkTokens, key_dim]
    float *v, *y;                          // [kChunkTokens, value_pitch]
    float *kq, *log_decay, *decay, *beta;  // [kChunkTokens]; kq and decay of few tokens only.
    float *begin, *end;                    // [kChunkTokens]: of DeltaWeights, as the two below.
    float *change, *result;                // [kChunkTokens, kChunkTokens]
    float *key_products, *query_products;  // [kChunkTokens, kChunkTokens]
    float* keys;                           // [key_dim, kChunkTokens]: k, turned.
    float* changes;                        // [kChunkTokens, slab]
    float* state;                          // [group, value_pitch / slab, key_dim, slab]
    float* conv;                           // [taps, n] of q, of k, of each value head.
    float *q_weight, *k_weight;            // [key_dim]: of the norms.
    uint64_t state_size;                   // Of one value head.
  };

  // Parts of `memory`, which may be null; their sum [floats].
  Scratch Divide(float* memory, uint64_t* sum) const {
    const auto take = [memory, sum](uint64_t floats) {
      float* const taken = memory == nullptr ? nullptr : memory + *sum;
      *sum += RoundUp(floats, kAlign);
      return taken;
    };
    Scratch s = {};
    for (float** rows : {&s.q, &s.k}) *rows = take(kChunkTokens * spec_.key_dim);
    for (float** rows : {&s.v, &s.y}) *rows = take(kChunkTokens * value_pitch_);
    for (float** column : {&s.kq, &s.log_decay, &s.decay, &s.beta, &s.begin, &s.end}) {
      *column = take(kChunkTokens);
    }
    for (float** square : {&s.change, &s.result, &s.key_products, &s.query_products}) {
      *square = take(kChunkTokens * kChunkTokens);
    }
    s.keys = take(spec_.key_dim * kChunkTokens);
    s.changes = take(kChunkTokens * kernels_.slab);
    s.state_size = RoundUp(spec_.key_dim * value_pitch_, kAlign);
    s.state = take(group_ * s.state_size);
    s.conv = take(spec_.taps * (2 * spec_.key_dim + group_ * spec_.value_dim));
    s.q_weight = take(spec_.key_dim);
    s.k_weight = take(spec_.key_dim);
    return s;
  }

  uint64_t QueryChannel(uint64_t key_head) const { return key_head * spec_.key_dim; }
  uint64_t KeyChannel(uint64_t key_head) const {
    return (spec_.key_heads + key_head) * spec_.key_dim;
  }
  uint64_t ValueChannel(uint64_t value_head) const {
    return 2 * spec_.key_heads * spec_.key_dim + value_head * spec_.value_dim;
  }

  // Convolution kernels with the channels side by side; the factors of the norms.
  void SetWeights(uint64_t key_head, const Scratch& s) const {
    float* to = s.conv;
    const auto turn = [&](uint64_t channel, uint64_t n) {
      for (uint64_t tap = 0; tap < spec_.taps; ++tap) {
        for (uint64_t c = 0; c < n; ++c) *to++ = spec_.conv[(channel + c) * spec_.taps + tap];
      }
    };
    turn(QueryChannel(key_head), spec_.key_dim);
    turn(KeyChannel(key_head), spec_.key_dim);
    for (uint64_t i = 0; i < group_; ++i) {
      turn(ValueChannel(key_head * group_ + i), spec_.value_dim);
    }
    // x / sqrt(sum) = x / sqrt(mean) * n^-1/2; queries are divided by the root of n once more.
    const double dim = static_cast<double>(spec_.key_dim);
    std::fill_n(s.q_weight, spec_.key_dim, static_cast<float>(1 / dim));
    std::fill_n(s.k_weight, spec_.key_dim, static_cast<float>(1 / std::sqrt(dim)));
  }

  // The input of the convolution `before` tokens before token t of a segment, from `channel` on.
  const float* InputBefore(const DeltaInput& input, uint64_t t, uint64_t before,
                           uint64_t channel) const {
    if (before <= t) return qkv_.row(input.segment.first_row + t - before) + channel;
    const uint64_t past = spec_.taps - 1;
    return input.state.conv + (past + t - before) * spec_.channels() + channel;
  }

  void Convolve(const DeltaInput& input, uint64_t t, uint64_t channel, const float* weights,
                uint64_t n, std::vector<const float*>& rows, float* out) const {
    rows.resize(spec_.taps);
    for (uint64_t tap = 0; tap < spec_.taps; ++tap) {
      rows[tap] = InputBefore(input, t, spec_.taps - 1 - tap, channel);
    }
    kernels_.convolve(rows.data(), weights, spec_.taps, n, out);
  }

  // Queries and keys of a chunk: convolution and norm.
  void PrepareKeys(const DeltaInput& input, uint64_t key_head, uint64_t t, uint64_t tokens,
                   const Scratch& s) const {
    const uint64_t dim = spec_.key_dim;
    const float eps = spec_.l2_eps_is_mean ? spec_.l2_eps : spec_.l2_eps / static_cast<float>(dim);
    std::vector<const float*> rows;
    for (uint64_t i = 0; i < tokens; ++i) {
      float* q = s.q + i * dim;
      float* k = s.k + i * dim;
      Convolve(input, t + i, QueryChannel(key_head), s.conv, dim, rows, q);
      Convolve(input, t + i, KeyChannel(key_head), s.conv + spec_.taps * dim, dim, rows, k);
      elementwise_.RmsNorm(q, s.q_weight, dim, eps, q);
      elementwise_.RmsNorm(k, s.k_weight, dim, eps, k);
      if (tokens <= kFewTokens) s.kq[i] = kernels_.dot(k, q, dim);
    }
    if (tokens <= kFewTokens) return;
    const uint64_t padded = RoundUp(tokens, kDeltaRows);
    std::fill(s.q + tokens * dim, s.q + padded * dim, 0.0f);
    std::fill(s.k + tokens * dim, s.k + padded * dim, 0.0f);
    kernels_.turn_keys(s.k, tokens, dim, s.keys);
    kernels_.multiply_keys(s.k, s.keys, tokens, dim, s.key_products);
    kernels_.multiply_keys(s.q, s.keys, tokens, dim, s.query_products);
  }

  // Value head `i` of the group: convolution, gates, recurrence, gated norm.
  void RunValues(const DeltaInput& input, uint64_t key_head, uint64_t i, uint64_t t,
                 uint64_t tokens, const Scratch& s) const {
    const uint64_t head = key_head * group_ + i;
    const uint64_t dim = spec_.value_dim;
    const float* weights = s.conv + spec_.taps * (2 * spec_.key_dim + i * dim);
    const float rate = std::exp(spec_.a_log[head]);
    std::vector<const float*> rows;
    for (uint64_t j = 0; j < tokens; ++j) {
      float* v = s.v + j * value_pitch_;
      Convolve(input, t + j, ValueChannel(head), weights, dim, rows, v);
      std::fill(v + dim, v + value_pitch_, 0.0f);
      const uint64_t row = input.segment.first_row + t + j;
      s.log_decay[j] = LogDecay(rate, a_.row(row)[head] + spec_.dt_bias[head]);
      s.beta[j] = 1 / (1 + std::exp(-b_.row(row)[head]));
    }
    if (tokens <= kFewTokens) {
      RunTokens(i, tokens, s);
    } else {
      RunChunk(i, tokens, s);
    }
    for (uint64_t j = 0; j < tokens; ++j) {
      const uint64_t row = input.segment.first_row + t + j;
      float* y = s.y + j * value_pitch_;
      elementwise_.RmsNorm(y, spec_.norm_weight.data(), dim, spec_.norm_eps, y);
      elementwise_.Glu(z_.row(row) + head * dim, y, dim, {}, out_.row(row) + head * dim);
    }
  }

  // The recurrence of value head `i` of the group, token by token.
  void RunTokens(uint64_t i, uint64_t tokens, const Scratch& s) const {
    for (uint64_t j = 0; j < tokens; ++j) s.decay[j] = std::exp(s.log_decay[j]);
    DeltaSlab slab;
    slab.kq = s.kq;
    slab.decay = s.decay;
    RunSlabs(i, tokens, s, slab, kernels_.recur);
  }

  // The same for a chunk at once.
  void RunChunk(uint64_t i, uint64_t tokens, const Scratch& s) const {
    std::array<double, kChunkTokens> log_decay;
    double sum = 0;
    for (uint64_t j = 0; j < tokens; ++j) log_decay[j] = sum += static_cast<double>(s.log_decay[j]);
    const uint64_t padded = RoundUp(tokens, kDeltaRows);
    std::fill(s.beta + tokens, s.beta + padded, 0.0f);
    std::fill(s.v + tokens * value_pitch_, s.v + padded * value_pitch_, 0.0f);
    kernels_.weigh({.tokens = tokens,
                    .log_decay = log_decay.data(),
                    .beta = s.beta,
                    .key_products = s.key_products,
                    .query_products = s.query_products,
                    .change = s.change,
                    .result = s.result,
                    .begin = s.begin,
                    .end = s.end});
    DeltaChunk chunk;
    chunk.keys = s.keys;
    chunk.change = s.change;
    chunk.result = s.result;
    chunk.begin = s.begin;
    chunk.end = s.end;
    chunk.changes = s.changes;
    RunSlabs(i, tokens, s, chunk, kernels_.run_chunk);
  }

  // All slabs of value head `i` of the group; `work` has what is not of DeltaRows.
  template <class Work>
  void RunSlabs(uint64_t i, uint64_t tokens, const Scratch& s, Work work,
                void (*run)(const Work&)) const {
    work.tokens = tokens;
    work.key_dim = spec_.key_dim;
    work.value_pitch = value_pitch_;
    work.q = s.q;
    work.k = s.k;
    work.beta = s.beta;
    for (uint64_t c = 0; c < value_pitch_; c += kernels_.slab) {
      work.v = s.v + c;
      work.out = s.y + c;
      work.state = s.state + i * s.state_size + c * spec_.key_dim;
      run(work);
    }
  }

  // The state of a value head to slabs, or back.
  void MoveState(const DeltaInput& input, uint64_t head, uint64_t i, const Scratch& s,
                 bool load) const {
    for (uint64_t c = 0; c < value_pitch_; c += kernels_.slab) {
      const uint64_t num = std::min(kernels_.slab, spec_.value_dim - c);
      float* state = input.state.state + (head * spec_.value_dim + c) * spec_.key_dim;
      float* slab = s.state + i * s.state_size + c * spec_.key_dim;
      if (load) {
        kernels_.load_state(state, num, spec_.key_dim, slab);
      } else {
        kernels_.store_state(slab, num, spec_.key_dim, state);
      }
    }
  }

  // The last inputs of n channels become the state of the convolution.
  void KeepInputs(const DeltaInput& input, uint64_t channel, uint64_t n) const {
    const uint64_t past = spec_.taps - 1;
    for (uint64_t i = 0; i < past; ++i) {  // Upwards: a row is read before it is replaced.
      const float* from = InputBefore(input, input.segment.num_rows, past - i, channel);
      std::memmove(input.state.conv + i * spec_.channels() + channel, from, n * sizeof(float));
    }
  }

  const DeltaKernels& kernels_;
  const Elementwise& elementwise_;
  const DeltaSpec& spec_;
  Rows qkv_, z_, b_, a_, out_;
  uint64_t group_;
  uint64_t value_pitch_;
};

class VectorDeltaNet final : public DeltaNet {
 public:
  explicit VectorDeltaNet(const std::string& isa)
      : kernels_(DeltaKernelsOf(SimdLevelOf(isa))), elementwise_(MakeElementwise(isa)) {}

  void Run(Rows qkv, Rows z, Rows b, Rows a, std::span<const DeltaInput> inputs,
           const DeltaSpec& spec, Rows out, ThreadPool& pool) const override {
    const DeltaCall call(kernels_, *elementwise_, spec, qkv, z, b, a, out);
    std::vector<AlignedBytes> scratch(pool.num_threads());
    pool.ParallelFor(inputs.size() * spec.key_heads, [&](size_t task, size_t thread) {
      scratch[thread].Reserve(call.ScratchFloats() * sizeof(float));
      call.RunHead(inputs[task / spec.key_heads], task % spec.key_heads, scratch[thread].floats());
    });
  }

 private:
  const DeltaKernels& kernels_;
  std::unique_ptr<Elementwise> elementwise_;
};

}  // namespace

std::unique_ptr<DeltaNet> MakeDeltaNet(const std::string& isa) {
  return std::make_unique<VectorDeltaNet>(isa);
}

}  // namespace ram
