#pragma once

// Reading a model's weights for running it, one layer at a time: from the original checkpoint (any
// source encoding), from what `ram compress` and mlx-lm write (packed weights stay packed), and
// from GPTQ and AWQ checkpoints (decoded while reading).

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ram/base/result.h"
#include "ram/base/thread_pool.h"
#include "ram/checkpoint/checkpoint.h"
#include "ram/family/catalog.h"
#include "ram/family/kinds.h"
#include "ram/runtime/aligned_memory.h"
#include "ram/runtime/matrix.h"

namespace ram {

// The tensors of one layer (or of what lies outside the layers), by their names below it:
// "layers.N." and the root are left out, and so is ".weight": "self_attn.q_proj",
// "input_layernorm", "self_attn.q_proj.bias", "mlp.switch_mlp.gate_proj"; outside: "embed_tokens",
// "norm", "lm_head".
class LoadedWeights {
 public:
  // Null if the model has no such tensor.
  const Matrix* matrix(std::string_view name) const;
  // Norms, biases and other small tensors as f32; empty if the model has no such tensor.
  std::span<const float> vector(std::string_view name) const;
  // Bytes held.
  uint64_t bytes() const;

  LoadedWeights() = default;
  LoadedWeights(LoadedWeights&&) = default;
  LoadedWeights& operator=(LoadedWeights&&) = default;

 private:
  friend class WeightLoader;
  friend class NoisyWeights;
  friend class RandomWeights;
  std::map<std::string, Matrix, std::less<>> matrices_;
  std::map<std::string, std::vector<float>, std::less<>> vectors_;
  AlignedMemory memory_;  // Of all matrices.
};

// "model.layers.3.mlp.gate.weight" -> "mlp.gate"; "model.norm.weight" -> "norm".
std::string NameBelowLayer(const CatalogTensor& tensor);

// Where the weights of one model come from. Headers are read on opening, weights on request.
// Matrices stay as they are stored, dense or packed; FP8 becomes F32 (BF16 for kMlx), GPTQ and AWQ
// become F32. Vectors are f32, and the ones that checkpoints leave out of norms (qwen3_next,
// qwen3_5) are added: in f32 for kHf, rounded to the source's type for kMlx.
class WeightSource {
 public:
  // The checkpoint outlives the source. Errors: everything that BindCatalog says; kCorrupt also for
  // codes, scales and biases that do not fit together, or a quantization entry that contradicts
  // them; kUnsupported names a quantization method that is not known.
  static Result<std::unique_ptr<WeightSource>> Open(const Checkpoint& checkpoint,
                                                    Numerics numerics);
  virtual ~WeightSource() = default;

  virtual const Catalog& catalog() const = 0;
  // "bf16", "affine 4,64 ...", "mxfp4", "gptq 4,128", for people and score files.
  virtual std::string description() const = 0;
  // Memory that Load will take [bytes]. layer -1: what lies outside the layers.
  virtual uint64_t LoadedBytes(int layer) const = 0;
  // Reads on all threads of the pool (or on the calling one if it is null). Thread-safe. kCorrupt
  // names a tensor with NaN or infinite weights (scales, biases) and the place.
  virtual Result<LoadedWeights> Load(int layer, ThreadPool* pool) const = 0;
};

}  // namespace ram
