#pragma once

// What every operation of the Engine means: scalar, readable, sums and functions in f64, each
// result rounded to f32 once unless stated. ReferenceEngine is made of these; the kernels of the
// fast engines are compared with them. docs/runtime.md has the formulas.

#include <cstdint>
#include <span>

#include "ram/runtime/engine.h"
#include "ram/runtime/matrix.h"

namespace ram {

float SigmoidReference(float x);
// Of one pair: activation(gate) * up.
float GluReference(float gate, float up, const GluSpec& spec);

// out[r] = row ids[r] of the table, times scale.
void EmbedReference(const Matrix& table, std::span<const int32_t> ids, float scale, Rows out);

// One row of n elements. An empty weight (null) is all ones. out may be x.
void RmsNormReference(const float* x, const float* weight, uint64_t n, float eps, float* out);

// out = x * matrix^T + bias, in f64 until the sum is complete. bias may be empty.
void LinearReference(Rows x, const Matrix& matrix, std::span<const float> bias, Rows out);

// As Engine::HeadLinear and Engine::HeadLinearTransposed.
void HeadLinearReference(Rows x, const Matrix& matrix, Rows out);
void HeadLinearTransposedReference(Rows x, const Matrix& matrix, uint64_t head_pitch, Rows out);

// One token at `position`: all heads of a row, in place. The angle p * inv_freq is rounded to f32
// before its sine and cosine are taken, as transformers does; so are those, before and after they
// are multiplied by rope_scale. Norm, rotation and temperature each round to f32.
void PrepareHeadsReference(float* row, uint64_t position, const HeadSpec& spec);

// Whether a token at position i sees the one at position j.
bool SeesReference(uint64_t i, uint64_t j, const AttentionSpec& spec);
// As Engine::Attend.
void AttendReference(Rows q, std::span<const AttentionInput> inputs, const AttentionSpec& spec,
                     Rows out);

// As Engine::Delta. The state is rounded to f32 after each token, so it does not matter how a
// sequence is cut into calls.
void DeltaReference(Rows qkv, Rows z, Rows b, Rows a, std::span<const DeltaInput> inputs,
                    const DeltaSpec& spec, Rows out);

// One token: logits [experts] -> expert, weight [top_k], ascending experts. Of equal scores the
// lower expert comes first. Scores are rounded to f32, `correction` is added in f32.
void RouteReference(const float* logits, const RouterSpec& spec, uint32_t* expert, float* weight);

// As Engine::Experts. Weighted results are summed in f32, in the order of the routes.
void ExpertsReference(Rows x, const Routes& routes, const ExpertSpec& spec, Rows out);

// x *= sigmoid(gate).
void GateReference(Rows gate, Rows x);

// softcap * tanh(logit / softcap); the logit itself where softcap is 0.
float SoftcapReference(float logit, float softcap);
// One row of logits, softcap already applied. target < 0: none.
HeadResult ReduceLogitsReference(std::span<const float> logits, int32_t target);

}  // namespace ram
