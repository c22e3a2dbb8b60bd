#include "ram/runtime/ops_reference.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include "ram/base/half.h"
#include "ram/base/result.h"

namespace ram {
namespace {

double Sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }
double Silu(double x) { return x * Sigmoid(x); }
double Softplus(double x) { return x > 30 ? x : std::log1p(std::exp(x)); }

double Dot(const float* a, const float* b, uint64_t n) {
  double sum = 0;
  for (uint64_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

// Element i of the token at `token` of a cache.
double CacheElement(const CacheView& cache, uint64_t token, uint64_t i) {
  const uint64_t index = token * cache.pitch + i;
  if (cache.dtype == Dtype::kF32) return static_cast<const float*>(cache.data)[index];
  return FloatFromBf16(static_cast<const uint16_t*>(cache.data)[index]);
}

void Rotate(float* head, uint64_t position, const HeadSpec& spec) {
  const uint64_t pairs = spec.inv_freq.size();
  float* x = head + spec.rope_first;
  for (uint64_t i = 0; i < pairs; ++i) {
    const float angle = static_cast<float>(position) * spec.inv_freq[i];
    const double c = static_cast<float>(std::cos(static_cast<double>(angle))) * spec.rope_scale;
    const double s = static_cast<float>(std::sin(static_cast<double>(angle))) * spec.rope_scale;
    float& first = spec.interleaved ? x[2 * i] : x[i];
    float& second = spec.interleaved ? x[2 * i + 1] : x[i + pairs];
    const double a = first;
    const double b = second;
    first = static_cast<float>(a * c - b * s);
    second = static_cast<float>(b * c + a * s);
  }
}

// The k best of `scores`, best first; of equals the lower index.
std::vector<uint32_t> Best(std::span<const float> scores, uint64_t k) {
  std::vector<uint32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0U);
  std::ranges::stable_sort(order, [&](uint32_t a, uint32_t b) { return scores[a] > scores[b]; });
  order.resize(k);
  return order;
}

// Rejects the experts outside the best groups.
void KeepBestGroups(std::span<float> scores, const RouterSpec& spec) {
  const uint64_t size = spec.experts / spec.groups;
  std::vector<float> group_scores;
  for (uint64_t g = 0; g < spec.groups; ++g) {
    const std::span<const float> group = scores.subspan(g * size, size);
    float sum = 0;
    for (const uint32_t i : Best(group, std::min<uint64_t>(2, size))) sum += group[i];
    group_scores.push_back(sum);
  }
  std::vector<bool> kept(spec.groups, false);
  for (const uint32_t g : Best(group_scores, spec.top_groups)) kept[g] = true;
  for (uint64_t e = 0; e < spec.experts; ++e) {
    if (kept[e / size]) continue;
    scores[e] = spec.rejected_are_zero ? 0 : -std::numeric_limits<float>::infinity();
  }
}

// One sequence of a gated delta net.
class DeltaSequence {
 public:
  DeltaSequence(const DeltaSpec& spec, DeltaState state)
      : spec_(spec), state_(state), mixed_(spec.channels()) {}

  // Appends one token: qkv [channels], z, b, a -> out [value_heads * value_dim].
  void Step(const float* qkv, const float* z, const float* b, const float* a, float* out) {
    Convolve(qkv);
    const uint64_t keys = spec_.key_heads * spec_.key_dim;
    for (uint64_t h = 0; h < spec_.key_heads; ++h) {
      NormalizeKey(&mixed_[h * spec_.key_dim], std::sqrt(1.0 / static_cast<double>(spec_.key_dim)));
      NormalizeKey(&mixed_[keys + h * spec_.key_dim], 1.0);
    }
    for (uint64_t h = 0; h < spec_.value_heads; ++h) {
      const uint64_t key_head = h / (spec_.value_heads / spec_.key_heads);
      const float* q = &mixed_[key_head * spec_.key_dim];
      const float* v = &mixed_[2 * keys + h * spec_.value_dim];
      float* y = out + h * spec_.value_dim;
      Recur(h, q, q + keys, v, b[h], a[h], y);
      RmsNormReference(y, spec_.norm_weight.data(), spec_.value_dim, spec_.norm_eps, y);
      for (uint64_t i = 0; i < spec_.value_dim; ++i) {
        const double gate = Silu(z[h * spec_.value_dim + i]);
        y[i] = static_cast<float>(static_cast<double>(y[i]) * gate);
      }
    }
  }

 private:
  // mixed_ = silu of the causal convolution over this input and the ones before.
  void Convolve(const float* qkv) {
    const uint64_t channels = spec_.channels();
    const uint64_t past = spec_.taps - 1;
    for (uint64_t c = 0; c < channels; ++c) {
      const float* kernel = &spec_.conv[c * spec_.taps];
      double sum = static_cast<double>(qkv[c]) * static_cast<double>(kernel[past]);
      for (uint64_t tap = 0; tap < past; ++tap) {
        sum +=
            static_cast<double>(state_.conv[tap * channels + c]) * static_cast<double>(kernel[tap]);
      }
      mixed_[c] = static_cast<float>(Silu(sum));
    }
    if (past == 0) return;
    std::memmove(state_.conv, state_.conv + channels, (past - 1) * channels * sizeof(float));
    std::memcpy(state_.conv + (past - 1) * channels, qkv, channels * sizeof(float));
  }

  void NormalizeKey(float* x, double scale) const {
    double eps = spec_.l2_eps;
    if (spec_.l2_eps_is_mean) eps *= static_cast<double>(spec_.key_dim);
    const double factor = scale / std::sqrt(Dot(x, x, spec_.key_dim) + eps);
    for (uint64_t i = 0; i < spec_.key_dim; ++i)
      x[i] = static_cast<float>(static_cast<double>(x[i]) * factor);
  }

  // S = g S; S += beta (v - S k) k^T; y = S q.
  void Recur(uint64_t h, const float* q, const float* k, const float* v, float b, float a,
             float* y) {
    const double decay =
        std::exp(-std::exp(static_cast<double>(spec_.a_log[h])) *
                 Softplus(static_cast<double>(a) + static_cast<double>(spec_.dt_bias[h])));
    const double beta = Sigmoid(b);
    for (uint64_t i = 0; i < spec_.value_dim; ++i) {
      float* row = state_.state + (h * spec_.value_dim + i) * spec_.key_dim;
      const double error = beta * (static_cast<double>(v[i]) - decay * Dot(row, k, spec_.key_dim));
      for (uint64_t j = 0; j < spec_.key_dim; ++j) {
        row[j] = static_cast<float>(decay * static_cast<double>(row[j]) +
                                    error * static_cast<double>(k[j]));
      }
      y[i] = static_cast<float>(Dot(row, q, spec_.key_dim));
    }
  }

  const DeltaSpec& spec_;
  DeltaState state_;
  std::vector<float> mixed_;
};

}  // namespace

float SigmoidReference(float x) { return static_cast<float>(Sigmoid(x)); }

float GluReference(float gate, float up, const GluSpec& spec) {
  double g = gate;
  double u = up;
  switch (spec.activation) {
    case Activation::kSilu:
      return static_cast<float>(Silu(g) * u);
    case Activation::kGeluTanh: {
      constexpr double kSqrtTwoOverPi = 0.79788456080286535588;
      const double inner = kSqrtTwoOverPi * (g + 0.044715 * g * g * g);
      return static_cast<float>(0.5 * g * (1 + std::tanh(inner)) * u);
    }
    case Activation::kClippedSwiglu:
      g = std::min(g, static_cast<double>(spec.limit));
      u = std::clamp(u, -static_cast<double>(spec.limit), static_cast<double>(spec.limit));
      return static_cast<float>(g * Sigmoid(static_cast<double>(spec.alpha) * g) * (u + 1));
  }
  RAM_CHECK(false);
}

void EmbedReference(const Matrix& table, std::span<const int32_t> ids, float scale, Rows out) {
  RAM_CHECK(out.rows == ids.size() && out.cols == table.cols);
  for (uint64_t r = 0; r < ids.size(); ++r) {
    RAM_CHECK(ids[r] >= 0 && static_cast<uint64_t>(ids[r]) < table.rows);
    DecodeRows(table, static_cast<uint64_t>(ids[r]), 1, out.row(r));
    if (scale == 1) continue;
    for (uint64_t c = 0; c < out.cols; ++c) out.row(r)[c] *= scale;
  }
}

void RmsNormReference(const float* x, const float* weight, uint64_t n, float eps, float* out) {
  const double mean = Dot(x, x, n) / static_cast<double>(n);
  const double factor = 1.0 / std::sqrt(mean + static_cast<double>(eps));
  for (uint64_t i = 0; i < n; ++i) {
    const double w = weight == nullptr ? 1.0 : static_cast<double>(weight[i]);
    out[i] = static_cast<float>(static_cast<double>(x[i]) * factor * w);
  }
}

void LinearReference(Rows x, const Matrix& matrix, std::span<const float> bias, Rows out) {
  RAM_CHECK(matrix.count == 1 && x.cols == matrix.cols);
  RAM_CHECK(out.rows == x.rows && out.cols == matrix.rows);
  RAM_CHECK(bias.empty() || bias.size() == matrix.rows);
  std::vector<float> weights(matrix.cols);
  for (uint64_t o = 0; o < matrix.rows; ++o) {
    DecodeRows(matrix, o, 1, weights.data());
    for (uint64_t r = 0; r < x.rows; ++r) {
      double sum = Dot(x.row(r), weights.data(), matrix.cols);
      if (!bias.empty()) sum += static_cast<double>(bias[o]);
      out.row(r)[o] = static_cast<float>(sum);
    }
  }
}

void HeadLinearReference(Rows x, const Matrix& matrix, Rows out) {
  RAM_CHECK(x.cols == matrix.count * matrix.cols && out.cols == matrix.count * matrix.rows);
  for (uint64_t h = 0; h < matrix.count; ++h) {
    LinearReference(x.columns(h * matrix.cols, matrix.cols), matrix.at(h), {},
                    out.columns(h * matrix.rows, matrix.rows));
  }
}

void HeadLinearTransposedReference(Rows x, const Matrix& matrix, uint64_t head_pitch, Rows out) {
  RAM_CHECK(x.cols == matrix.rows && x.rows == out.rows);
  RAM_CHECK(head_pitch >= matrix.cols);
  RAM_CHECK(out.cols >= (matrix.count - 1) * head_pitch + matrix.cols);
  std::vector<float> weights(matrix.rows * matrix.cols);
  std::vector<double> sums(matrix.cols);
  for (uint64_t h = 0; h < matrix.count; ++h) {
    DecodeRows(matrix.at(h), 0, matrix.rows, weights.data());
    for (uint64_t r = 0; r < x.rows; ++r) {
      std::ranges::fill(sums, 0.0);
      for (uint64_t i = 0; i < matrix.rows; ++i) {
        const double factor = x.row(r)[i];
        const float* row = &weights[i * matrix.cols];
        for (uint64_t j = 0; j < matrix.cols; ++j) sums[j] += factor * static_cast<double>(row[j]);
      }
      float* to = out.row(r) + h * head_pitch;
      for (uint64_t j = 0; j < matrix.cols; ++j) to[j] = static_cast<float>(sums[j]);
    }
  }
}

void PrepareHeadsReference(float* row, uint64_t position, const HeadSpec& spec) {
  using Norm = HeadSpec::Norm;
  const uint64_t dim = spec.head_dim;
  if (spec.norm == Norm::kWholeRow)
    RmsNormReference(row, spec.norm_weight.data(), spec.heads * dim, spec.norm_eps, row);
  const double past =
      std::floor(static_cast<double>(position + 1) / static_cast<double>(spec.floor_scale));
  const auto factor =
      static_cast<float>(1 + static_cast<double>(spec.temperature) * std::log(1 + past));
  for (uint64_t h = 0; h < spec.heads; ++h) {
    float* head = row + h * dim;
    if (spec.norm == Norm::kPerHead)
      RmsNormReference(head, spec.norm_weight.data(), dim, spec.norm_eps, head);
    Rotate(head, position, spec);
    if (spec.norm == Norm::kAfter) RmsNormReference(head, nullptr, dim, spec.norm_eps, head);
    if (spec.temperature == 0) continue;
    for (uint64_t i = 0; i < dim; ++i) head[i] *= factor;
  }
}

bool SeesReference(uint64_t i, uint64_t j, const AttentionSpec& spec) {
  if (j > i) return false;
  if (spec.window > 0 && i - j >= spec.window) return false;
  return spec.chunk == 0 || i / spec.chunk == j / spec.chunk;
}

void AttendReference(Rows q, std::span<const AttentionInput> inputs, const AttentionSpec& spec,
                     Rows out) {
  RAM_CHECK(q.cols == spec.heads * spec.head_dim && out.cols == spec.heads * spec.value_dim);
  RAM_CHECK(spec.heads % spec.kv_heads == 0);
  std::vector<double> scores;
  std::vector<double> sum(spec.value_dim);
  for (const AttentionInput& input : inputs) {
    for (uint64_t r = 0; r < input.segment.num_rows; ++r) {
      const uint64_t position = input.segment.position + r;
      for (uint64_t h = 0; h < spec.heads; ++h) {
        const uint64_t kv_head = h / (spec.heads / spec.kv_heads);
        const float* query = q.row(input.segment.first_row + r) + h * spec.head_dim;
        double max = spec.sinks.empty() ? -std::numeric_limits<double>::infinity()
                                        : static_cast<double>(spec.sinks[h]);
        scores.assign(position - input.first_position + 1, 0);
        for (uint64_t t = 0; t < scores.size(); ++t) {
          if (!SeesReference(position, input.first_position + t, spec)) continue;
          double dot = 0;
          for (uint64_t i = 0; i < spec.head_dim; ++i) {
            dot += static_cast<double>(query[i]) *
                   CacheElement(input.keys, t, kv_head * spec.head_dim + i);
          }
          dot *= static_cast<double>(spec.scale);
          const double cap = spec.softcap;
          scores[t] = cap > 0 ? cap * std::tanh(dot / cap) : dot;
          max = std::max(max, scores[t]);
        }
        double total = spec.sinks.empty() ? 0 : std::exp(static_cast<double>(spec.sinks[h]) - max);
        std::ranges::fill(sum, 0.0);
        for (uint64_t t = 0; t < scores.size(); ++t) {
          if (!SeesReference(position, input.first_position + t, spec)) continue;
          const double p = std::exp(scores[t] - max);
          total += p;
          for (uint64_t i = 0; i < spec.value_dim; ++i)
            sum[i] += p * CacheElement(input.values, t, kv_head * spec.value_dim + i);
        }
        float* to = out.row(input.segment.first_row + r) + h * spec.value_dim;
        for (uint64_t i = 0; i < spec.value_dim; ++i) to[i] = static_cast<float>(sum[i] / total);
      }
    }
  }
}

void DeltaReference(Rows qkv, Rows z, Rows b, Rows a, std::span<const DeltaInput> inputs,
                    const DeltaSpec& spec, Rows out) {
  RAM_CHECK(qkv.cols == spec.channels() && spec.value_heads % spec.key_heads == 0);
  for (const DeltaInput& input : inputs) {
    DeltaSequence sequence(spec, input.state);
    for (uint64_t i = 0; i < input.segment.num_rows; ++i) {
      const uint64_t r = input.segment.first_row + i;
      sequence.Step(qkv.row(r), z.row(r), b.row(r), a.row(r), out.row(r));
    }
  }
}

void RouteReference(const float* logits, const RouterSpec& spec, uint32_t* expert, float* weight) {
  using Kind = RouterSpec::Kind;
  const std::span<const float> all(logits, spec.experts);
  const bool sigmoid = spec.kind == Kind::kSigmoid || spec.kind == Kind::kSigmoidInput;
  std::vector<float> choice(all.begin(), all.end());
  if (spec.kind == Kind::kSigmoid) {
    for (uint64_t e = 0; e < spec.experts; ++e) {
      choice[e] = SigmoidReference(logits[e]);
      if (!spec.correction.empty()) choice[e] += spec.correction[e];
    }
    if (spec.groups > 1) KeepBestGroups(choice, spec);
  }
  std::vector<uint32_t> chosen = Best(choice, spec.top_k);
  std::ranges::sort(chosen);

  const auto max = static_cast<double>(*std::ranges::max_element(all));
  const auto score = [&](uint32_t e) {
    return sigmoid ? Sigmoid(logits[e]) : std::exp(static_cast<double>(logits[e]) - max);
  };
  double sum = 0;
  if (spec.kind == Kind::kSoftmax && !spec.renormalize) {
    for (uint32_t e = 0; e < spec.experts; ++e) sum += score(e);
  } else if (!sigmoid || spec.renormalize) {
    for (const uint32_t e : chosen) sum += score(e);
    if (sigmoid) sum += static_cast<double>(spec.renormalize_eps);
  } else {
    sum = 1;
  }
  for (uint64_t i = 0; i < spec.top_k; ++i) {
    expert[i] = chosen[i];
    weight[i] = static_cast<float>(score(chosen[i]) / sum * static_cast<double>(spec.scale));
  }
}

void ExpertsReference(Rows x, const Routes& routes, const ExpertSpec& spec, Rows out) {
  const uint64_t top_k = routes.top_k;
  RAM_CHECK(routes.expert.size() == x.rows * top_k && out.rows == x.rows);
  const uint64_t inner = spec.gate.rows;
  const auto bias = [](std::span<const float> all, uint64_t expert, uint64_t size) {
    return all.empty() ? all : all.subspan(expert * size, size);
  };
  for (uint64_t r = 0; r < out.rows; ++r) std::fill_n(out.row(r), out.cols, 0.0F);
  std::vector<float> buffer(x.cols + 2 * inner + out.cols);
  Rows input{buffer.data(), 1, x.cols, x.cols};
  Rows gate{input.data + x.cols, 1, inner, inner};
  Rows up{gate.data + inner, 1, inner, inner};
  Rows result{up.data + inner, 1, out.cols, out.cols};
  for (uint64_t i = 0; i < routes.expert.size(); ++i) {
    const uint64_t r = i / top_k;
    const uint32_t e = routes.expert[i];
    const float w = routes.weight[i];
    for (uint64_t c = 0; c < x.cols; ++c)
      input.data[c] = spec.weight_input ? x.row(r)[c] * w : x.row(r)[c];
    LinearReference(input, spec.gate.at(e), bias(spec.gate_bias, e, inner), gate);
    LinearReference(input, spec.up.at(e), bias(spec.up_bias, e, inner), up);
    for (uint64_t c = 0; c < inner; ++c)
      gate.data[c] = GluReference(gate.data[c], up.data[c], spec.glu);
    LinearReference(gate, spec.down.at(e), bias(spec.down_bias, e, out.cols), result);
    for (uint64_t c = 0; c < out.cols; ++c)
      out.row(r)[c] += spec.weight_input ? result.data[c] : w * result.data[c];
  }
}

void GateReference(Rows gate, Rows x) {
  RAM_CHECK(gate.rows == x.rows && (gate.cols == x.cols || gate.cols == 1));
  for (uint64_t r = 0; r < x.rows; ++r) {
    for (uint64_t c = 0; c < x.cols; ++c)
      x.row(r)[c] *= SigmoidReference(gate.row(r)[gate.cols == 1 ? 0 : c]);
  }
}

float SoftcapReference(float logit, float softcap) {
  if (softcap <= 0) return logit;
  const double cap = softcap;
  return static_cast<float>(cap * std::tanh(static_cast<double>(logit) / cap));
}

HeadResult ReduceLogitsReference(std::span<const float> logits, int32_t target) {
  HeadResult result;
  const auto best = std::ranges::max_element(logits);
  result.argmax = static_cast<uint32_t>(best - logits.begin());
  result.max_logit = *best;
  double sum = 0;
  for (const float logit : logits)
    sum += std::exp(static_cast<double>(logit) - static_cast<double>(*best));
  const double logsumexp = static_cast<double>(*best) + std::log(sum);
  result.logsumexp = static_cast<float>(logsumexp);
  if (target >= 0) {
    const auto at = static_cast<double>(logits[static_cast<size_t>(target)]);
    result.nll = static_cast<float>(logsumexp - at);
  }
  return result;
}

}  // namespace ram
