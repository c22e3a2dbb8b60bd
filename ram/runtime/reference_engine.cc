#include <algorithm>
#include <memory>
#include <vector>

#include "ram/base/result.h"
#include "ram/runtime/aligned_rows.h"
#include "ram/runtime/engine.h"
#include "ram/runtime/ops_reference.h"

// The operations of ops_reference.h over all rows. Threads share out rows, outputs, experts' tokens
// or sequences, which changes no bit.

namespace ram {
namespace {

class ReferenceEngine : public Engine {
 public:
  explicit ReferenceEngine(ThreadPool* pool) : pool_(*pool) {}

  std::string name() const override { return "reference"; }
  ThreadPool& pool() override { return pool_; }
  std::unique_ptr<Activations> Allocate(uint64_t rows, uint64_t cols) override {
    return std::make_unique<OwnedRows>(rows, cols);
  }

  void Embed(const Matrix& table, std::span<const int32_t> ids, float scale, Rows out) override {
    EmbedReference(table, ids, scale, out);
  }

  void RmsNorm(Rows x, std::span<const float> weight, float eps, Rows out) override {
    RAM_CHECK(weight.size() == x.cols && out.rows == x.rows && out.cols == x.cols);
    ForRows(x.rows, [&](uint64_t r) {
      RmsNormReference(x.row(r), weight.data(), x.cols, eps, out.row(r));
    });
  }

  void Linear(Rows x, std::span<const LinearTerm> terms) override {
    for (const LinearTerm& term : terms) LinearOf(x, term.matrix, term.bias, term.out);
  }

  void HeadLinear(Rows x, const Matrix& matrix, Rows out) override {
    ForRows(x.rows,
            [&](uint64_t r) { HeadLinearReference(x.slice(r, 1), matrix, out.slice(r, 1)); });
  }

  void HeadLinearTransposed(Rows x, const Matrix& matrix, uint64_t head_pitch, Rows out) override {
    pool_.ParallelFor(matrix.count, [&](size_t h, size_t) {
      HeadLinearTransposedReference(x, matrix.at(h), head_pitch,
                                    out.columns(h * head_pitch, matrix.cols));
    });
  }

  void PrepareHeads(Rows x, std::span<const Segment> segments, const HeadSpec& spec) override {
    RAM_CHECK(x.cols == spec.heads * spec.head_dim);
    for (const Segment& segment : segments) {
      ForRows(segment.num_rows, [&](uint64_t r) {
        PrepareHeadsReference(x.row(segment.first_row + r), segment.position + r, spec);
      });
    }
  }

  // One head at a time, as one task.
  void Attend(Rows q, std::span<const AttentionInput> inputs, const AttentionSpec& spec,
              Rows out) override {
    const uint64_t heads_per_kv = spec.heads / spec.kv_heads;
    pool_.ParallelFor(spec.kv_heads, [&](size_t kv_head, size_t) {
      AttentionSpec part = spec;
      part.heads = heads_per_kv;
      part.kv_heads = 1;
      if (!spec.sinks.empty())
        part.sinks = spec.sinks.subspan(kv_head * heads_per_kv, heads_per_kv);
      std::vector<AttentionInput> part_inputs(inputs.begin(), inputs.end());
      for (AttentionInput& input : part_inputs) {
        Skip(kv_head * spec.head_dim, &input.keys);
        Skip(kv_head * spec.value_dim, &input.values);
      }
      AttendReference(
          q.columns(kv_head * heads_per_kv * spec.head_dim, heads_per_kv * spec.head_dim),
          part_inputs, part,
          out.columns(kv_head * heads_per_kv * spec.value_dim, heads_per_kv * spec.value_dim));
    });
  }

  void Delta(Rows qkv, Rows z, Rows b, Rows a, std::span<const DeltaInput> inputs,
             const DeltaSpec& spec, Rows out) override {
    pool_.ParallelFor(inputs.size(), [&](size_t i, size_t) {
      DeltaReference(qkv, z, b, a, inputs.subspan(i, 1), spec, out);
    });
  }

  void Glu(Rows gate, Rows up, const GluSpec& spec, Rows out) override {
    ForRows(gate.rows, [&](uint64_t r) {
      for (uint64_t c = 0; c < gate.cols; ++c)
        out.row(r)[c] = GluReference(gate.row(r)[c], up.row(r)[c], spec);
    });
  }

  void Route(Rows logits, const RouterSpec& spec, Routes* routes) override {
    RAM_CHECK(logits.cols == spec.experts);
    routes->top_k = spec.top_k;
    routes->expert.resize(logits.rows * spec.top_k);
    routes->weight.resize(logits.rows * spec.top_k);
    ForRows(logits.rows, [&](uint64_t r) {
      RouteReference(logits.row(r), spec, &routes->expert[r * spec.top_k],
                     &routes->weight[r * spec.top_k]);
    });
  }

  void Experts(Rows x, const Routes& routes, const ExpertSpec& spec, Rows out) override {
    const uint64_t top_k = routes.top_k;
    ForRows(x.rows, [&](uint64_t r) {
      const auto first = static_cast<std::ptrdiff_t>(r * top_k);
      const auto end = static_cast<std::ptrdiff_t>((r + 1) * top_k);
      const Routes one = {top_k,
                          {routes.expert.begin() + first, routes.expert.begin() + end},
                          {routes.weight.begin() + first, routes.weight.begin() + end}};
      ExpertsReference(x.slice(r, 1), one, spec, out.slice(r, 1));
    });
  }

  void Add(Rows y, Rows x) override {
    RAM_CHECK(x.rows == y.rows && x.cols == y.cols);
    for (uint64_t r = 0; r < x.rows; ++r) {
      for (uint64_t c = 0; c < x.cols; ++c) x.row(r)[c] += y.row(r)[c];
    }
  }

  void Gate(Rows gate, Rows x) override { GateReference(gate, x); }

  void Head(Rows x, const Matrix& head, float softcap, std::span<const int32_t> targets,
            std::span<HeadResult> results) override {
    RAM_CHECK(targets.size() == x.rows && results.size() == x.rows);
    ForRows(x.rows, [&](uint64_t r) {
      std::vector<float> logits(head.rows);
      LinearReference(x.slice(r, 1), head, {}, Rows{logits.data(), 1, head.rows, head.rows});
      for (float& logit : logits) logit = SoftcapReference(logit, softcap);
      results[r] = ReduceLogitsReference(logits, targets[r]);
    });
  }

  void Logits(Rows x, const Matrix& head, float softcap, Rows out) override {
    LinearOf(x, head, {}, out);
    if (softcap <= 0) return;
    ForRows(out.rows, [&](uint64_t r) {
      for (uint64_t c = 0; c < out.cols; ++c)
        out.row(r)[c] = SoftcapReference(out.row(r)[c], softcap);
    });
  }

 private:
  template <class Body>
  void ForRows(uint64_t rows, const Body& body) {
    pool_.ParallelFor(rows, [&](size_t r, size_t) { body(r); });
  }

  // Outputs in tasks of 64.
  void LinearOf(Rows x, const Matrix& matrix, std::span<const float> bias, Rows out) {
    RAM_CHECK(bias.empty() || bias.size() == matrix.rows);
    constexpr uint64_t kOutputs = 64;
    pool_.ParallelFor((matrix.rows + kOutputs - 1) / kOutputs, [&](size_t task, size_t) {
      const uint64_t first = task * kOutputs;
      const uint64_t num = std::min(kOutputs, matrix.rows - first);
      LinearReference(x, matrix.slice(first, num), bias.empty() ? bias : bias.subspan(first, num),
                      out.columns(first, num));
    });
  }

  static void Skip(uint64_t elements, CacheView* cache) {
    const uint64_t bytes = elements * static_cast<uint64_t>(BitsOf(cache->dtype)) / 8;
    cache->data = static_cast<const uint8_t*>(cache->data) + bytes;
  }

  ThreadPool& pool_;
};

}  // namespace

std::unique_ptr<Engine> MakeReferenceEngine(ThreadPool* pool) {
  return std::make_unique<ReferenceEngine>(pool);
}

}  // namespace ram
