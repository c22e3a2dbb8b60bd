#pragma once

// How fast an engine is on this machine: every kernel against what the machine could do at best,
// and whole models. Every answer is checked before a clock starts.

#include <cstdint>
#include <string>
#include <vector>

#include "ram/base/progress.h"
#include "ram/base/result.h"
#include "ram/family/graph.h"
#include "ram/runtime/engine.h"
#include "ram/runtime/loaded_weights.h"
#include "ram/runtime/machine_rates.h"

namespace ram {

struct KernelSpeed {
  std::string section;  // "products, 2048 rows", "decoding, 1 row", ...
  std::string name;     // "bf16", "4,64", ...
  double rate = 0;      // Of the best run, units/s.
  std::string unit;     // "flop", "byte", "score", "element".
  double share = 0;     // Of the limit; 0 where there is none.
  std::string limit;    // "f32 FMA", "reading".
};

struct KernelBenchmark {
  uint64_t rows = 2048;    // Of products and attention.
  uint64_t hidden = 1024;  // Shapes of a Llama of 271 M.
  uint64_t inner = 2816;
  uint64_t decode_bytes = uint64_t{256} << 20;  // Of a matrix that is read for one row.
  double least_seconds = 0.3;                   // Of measuring, for each kernel.
  double tolerance = 3e-5;                      // Of answers, relative root mean square.
};

// kCorrupt: an answer was wrong; names the kernel and the error.
Result<std::vector<KernelSpeed>> BenchmarkKernels(Engine& engine, const MachineRates& machine,
                                                  const KernelBenchmark& benchmark,
                                                  const Watcher& watcher);

struct ModelBenchmark {
  uint64_t context = 2048;  // Tokens of the sequence.
  uint64_t new_tokens = 32;
  uint64_t sequences = 1;  // Decoded at once.
  int runs = 3;            // Of scoring; the best counts.
};

struct ModelSpeed {
  double score_tokens = 0;            // Tokens/s: log-probabilities of every token of a context.
  double decode_tokens = 0;           // Tokens/s, all sequences together, behind the context.
  double flops_per_token = 0;         // Multiplications and additions of scoring, on average.
  uint64_t bytes_per_step = 0;        // Weights that are read to decode one token of one sequence.
  uint64_t state_bytes_per_step = 0;  // Keys, values and recurrent states, on average.
  uint64_t weight_bytes = 0;
};

// Random token ids through the whole model, which must fit in memory. kCorrupt: a
// log-probability that is not a number.
Result<ModelSpeed> BenchmarkModel(Engine& engine, Graph graph, const WeightSource& source,
                                  const ModelBenchmark& benchmark, const Watcher& watcher);

}  // namespace ram
