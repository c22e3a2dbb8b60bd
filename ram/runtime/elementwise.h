#pragma once

// The vector steps of the CPU engine: norms, rotation, activations, routers, the reduction of a
// block of logits. Highway kernels for every instruction set; `isa` as in CpuOptions (amx levels
// use avx3_dl). Rows are independent of each other.

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "ram/runtime/engine.h"

namespace ram {

// Running ln-sum-exp of one row over blocks of logits.
struct LogitBlock {
  float max = 0;        // Of the block.
  float sum = 0;        // Of exp(logit - max).
  uint32_t argmax = 0;  // Column within the block, the lowest of equals.
};

class Elementwise {
 public:
  virtual ~Elementwise() = default;
  virtual std::string name() const = 0;  // "avx3_dl", "avx3", "avx2", "sse4", "scalar", "neon".

  virtual void RmsNorm(const float* x, const float* weight, uint64_t n, float eps,
                       float* out) const = 0;
  // One token: all heads of a row at `position`.
  virtual void PrepareHeads(float* row, uint64_t position, const HeadSpec& spec) const = 0;
  virtual void Glu(const float* gate, const float* up, uint64_t n, const GluSpec& spec,
                   float* out) const = 0;
  virtual void Add(const float* y, uint64_t n, float* x) const = 0;
  virtual void AddScaled(const float* y, float scale, uint64_t n, float* x) const = 0;
  virtual void Scale(float scale, uint64_t n, float* x) const = 0;
  // x *= sigmoid(gate), element by element.
  virtual void Gate(const float* gate, uint64_t n, float* x) const = 0;
  // Logits of one row to routes of one token: `expert` and `weight` [top_k], ascending experts.
  virtual void Route(const float* logits, const RouterSpec& spec, uint32_t* expert,
                     float* weight) const = 0;
  // softcap applied in place if it is > 0, then the block's maximum and sum.
  virtual LogitBlock ReduceLogits(float* logits, uint64_t n, float softcap) const = 0;
};

// One that the CPU has; RAM_CHECKs otherwise.
std::unique_ptr<Elementwise> MakeElementwise(const std::string& isa);

// Gated delta net for the CPU engine, chunked over time, parallel over heads.
class DeltaNet {
 public:
  virtual ~DeltaNet() = default;
  // As Engine::Delta.
  virtual void Run(Rows qkv, Rows z, Rows b, Rows a, std::span<const DeltaInput> inputs,
                   const DeltaSpec& spec, Rows out, ThreadPool& pool) const = 0;
};
std::unique_ptr<DeltaNet> MakeDeltaNet(const std::string& isa);

}  // namespace ram
