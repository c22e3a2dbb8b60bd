#include "ram/runtime/benchmark.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <memory>
#include <random>
#include <span>
#include <utility>
#include <variant>

#include "ram/runtime/aligned_memory.h"
#include "ram/runtime/forward.h"
#include "ram/runtime/ops_reference.h"
#include "ram/runtime/random_weights.h"
#include "ram/runtime/state.h"

namespace ram {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Shortest of at least three runs and `least_seconds`.
double BestSeconds(double least_seconds, const std::function<void()>& run) {
  const Clock::time_point start = Clock::now();
  double best = 1e30;
  for (int i = 0; i < 3 || SecondsSince(start) < least_seconds; ++i) {
    const Clock::time_point begin = Clock::now();
    run();
    best = std::min(best, SecondsSince(begin));
  }
  return best;
}

// A matrix (or a stack) of random weights and its memory.
struct OwnedMatrix {
  AlignedBytes memory;
  Matrix matrix;
};

OwnedMatrix MakeMatrix(Matrix shape, ThreadPool* pool) {
  const uint64_t rows = shape.count * shape.rows;
  const auto aligned = [](uint64_t bytes) { return (bytes + 63) / 64 * 64; };
  const uint64_t values = aligned(rows * shape.row_bytes());
  const uint64_t scales = aligned(rows * shape.scale_row_bytes());
  OwnedMatrix owned = {AlignedBytes(values + 2 * scales), shape};
  owned.matrix.values = owned.memory.data();
  if (scales != 0) owned.matrix.scales = owned.memory.data() + values;
  if (shape.form == Matrix::Form::kAffine) {
    owned.matrix.biases = owned.memory.data() + values + scales;
  }
  FillRandom(owned.matrix, pool);
  return owned;
}

struct NamedForm {
  std::string name;
  Matrix form;
};

std::vector<NamedForm> Forms() {
  std::vector<NamedForm> forms = {{"f32", {.dtype = Dtype::kF32}},
                                  {"bf16", {.dtype = Dtype::kBF16}},
                                  {"f16", {.dtype = Dtype::kF16}}};
  const auto add = [&](int bits, int group_size) {
    forms.push_back({fmt::format("{},{}", bits, group_size),
                     {.form = Matrix::Form::kAffine,
                      .dtype = Dtype::kBF16,
                      .bits = bits,
                      .group_size = group_size}});
  };
  for (const int bits : {2, 3, 4, 5, 6, 8}) add(bits, 64);
  add(4, 32);
  add(4, 128);
  forms.push_back({"mxfp4", {.form = Matrix::Form::kMxfp4}});
  return forms;
}

class KernelRuns {
 public:
  KernelRuns(Engine& engine, const MachineRates& machine, const KernelBenchmark& benchmark,
             const Watcher& watcher)
      : engine_(engine), machine_(machine), benchmark_(benchmark), watcher_(watcher) {}

  Result<std::vector<KernelSpeed>> Run() {
    for (const NamedForm& form : Forms()) RAM_RETURN_IF_ERROR(ManyRows(form));
    for (const NamedForm& form : Forms()) RAM_RETURN_IF_ERROR(OneRow(form));
    RAM_RETURN_IF_ERROR(Attention());
    RAM_RETURN_IF_ERROR(Experts());
    RAM_RETURN_IF_ERROR(Head());
    RAM_RETURN_IF_ERROR(VectorSteps());
    return std::move(speeds_);
  }

 private:
  Rows Random(uint64_t rows, uint64_t cols) {
    memory_.push_back(engine_.Allocate(rows, cols));
    const Rows x = memory_.back()->rows();
    std::mt19937 random(static_cast<uint32_t>(memory_.size()));
    std::normal_distribution<float> normal;
    for (uint64_t r = 0; r < rows; ++r) {
      for (uint64_t c = 0; c < cols; ++c) x.row(r)[c] = normal(random);
    }
    return x;
  }
  Rows Undefined(uint64_t rows, uint64_t cols) {
    memory_.push_back(engine_.Allocate(rows, cols));
    return memory_.back()->rows();
  }

  // Compares with what the reference says.
  Status Check(const std::string& name, Rows got, Rows expected) const {
    double error = 0;
    double power = 0;
    for (uint64_t r = 0; r < expected.rows; ++r) {
      for (uint64_t c = 0; c < expected.cols; ++c) {
        const double difference = double{got.row(r)[c]} - double{expected.row(r)[c]};
        error += difference * difference;
        power += double{expected.row(r)[c]} * double{expected.row(r)[c]};
      }
    }
    const double relative = std::sqrt(error / power);
    if (relative <= benchmark_.tolerance) return Done{};  // False for NaN.
    return Error{ErrorCode::kCorrupt,
                 fmt::format("{} on {}: a wrong answer, relative error {:.1e} where {:.1e} is "
                             "expected at most",
                             name, engine_.name(), relative, benchmark_.tolerance)};
  }

  // work: units that one run does; per_second: the limit, 0 for none.
  void Time(const std::string& section, const std::string& name, double work,
            const std::string& unit, double per_second, const std::string& limit,
            const std::function<void()>& run) {
    const double rate = work / BestSeconds(benchmark_.least_seconds, run);
    speeds_.push_back({.section = section,
                       .name = name,
                       .rate = rate,
                       .unit = unit,
                       .share = per_second > 0 ? rate / per_second : 0,
                       .limit = per_second > 0 ? limit : ""});
    memory_.clear();
  }

  struct Limit {
    double per_second = 0;
    std::string name;
  };

  // What products of f32 accuracy with this matrix could reach: the rate of multiply-adds, or that
  // of the tiles divided by how often they must pass over the weights. Part j of the weights meets
  // (parts of x - j) parts of x (amx_product.h).
  Limit ProductLimit(const Matrix& matrix) const {
    const std::string engine = engine_.name();
    const bool tiles_f16 = engine.starts_with("cpu amx-f16 (f32)");
    if (!tiles_f16 && !engine.starts_with("cpu amx-bf16 (f32)")) {
      return {machine_.fma_flops, "f32 FMA"};
    }
    const bool is_dense = matrix.form == Matrix::Form::kDense;
    int passes = tiles_f16 ? 2 : 3;
    if (is_dense && matrix.dtype == Dtype::kF32) passes = tiles_f16 ? 3 : 6;
    if (is_dense && matrix.dtype == Dtype::kF16 && !tiles_f16) passes = 5;
    // Bytes, at twice the rate.
    if (matrix.form == Matrix::Form::kAffine && matrix.group_size != 32) {
      return {machine_.tile_flops / 1.5, "tiles / 1.5"};
    }
    return {machine_.tile_flops / passes, fmt::format("tiles / {}", passes)};
  }

  Status CheckLinear(const std::string& name, Rows x, const Matrix& matrix, Rows got) {
    const uint64_t cols = std::min<uint64_t>(8, matrix.rows);
    const uint64_t rows = std::min<uint64_t>(2, x.rows);
    const Rows expected = Undefined(rows, cols);
    LinearReference(x.slice(0, rows), matrix.slice(0, cols), {}, expected);
    return Check(name, got, expected);
  }

  Status ManyRows(const NamedForm& form) {
    RAM_RETURN_IF_ERROR(watcher_.Check());
    Matrix shape = form.form;
    shape.rows = benchmark_.inner;
    shape.cols = benchmark_.hidden;
    const OwnedMatrix weights = MakeMatrix(shape, &engine_.pool());
    const Rows x = Random(benchmark_.rows, shape.cols);
    const Rows out = Undefined(benchmark_.rows, shape.rows);
    const LinearTerm term = {.matrix = weights.matrix, .out = out};
    engine_.Linear(x, {&term, 1});
    RAM_RETURN_IF_ERROR(CheckLinear("product, " + form.name, x, weights.matrix, out));
    const double flops =
        2 * static_cast<double>(benchmark_.rows) * static_cast<double>(shape.rows * shape.cols);
    const Limit limit = ProductLimit(weights.matrix);
    Time(fmt::format("products, {} rows", benchmark_.rows), form.name, flops, "flop",
         limit.per_second, limit.name, [&] {
           engine_.Linear(x, {&term, 1});
         });
    return Done{};
  }

  Status OneRow(const NamedForm& form) {
    RAM_RETURN_IF_ERROR(watcher_.Check());
    Matrix shape = form.form;
    shape.cols = 4 * benchmark_.hidden;
    shape.rows = 1;
    shape.rows = benchmark_.decode_bytes / shape.bytes() / 64 * 64;
    const OwnedMatrix weights = MakeMatrix(shape, &engine_.pool());
    const Rows x = Random(1, shape.cols);
    const Rows out = Undefined(1, shape.rows);
    const LinearTerm term = {.matrix = weights.matrix, .out = out};
    engine_.Linear(x, {&term, 1});
    RAM_RETURN_IF_ERROR(CheckLinear("product of one row, " + form.name, x, weights.matrix, out));
    Time("decoding, 1 row", form.name, static_cast<double>(weights.matrix.bytes()), "byte",
         machine_.read_bytes, "reading", [&] {
           engine_.Linear(x, {&term, 1});
         });
    return Done{};
  }

  Status Attention() {
    for (const uint64_t dim : {uint64_t{64}, uint64_t{128}}) {
      RAM_RETURN_IF_ERROR(watcher_.Check());
      const uint64_t heads = std::max<uint64_t>(1, benchmark_.hidden / dim);
      const uint64_t rows = benchmark_.rows;
      const AttentionSpec spec = {.heads = heads,
                                  .kv_heads = heads,
                                  .head_dim = dim,
                                  .value_dim = dim,
                                  .scale = 1 / std::sqrt(static_cast<float>(dim))};
      const Rows q = Random(rows, heads * dim);
      const Rows k = Random(rows, heads * dim);
      const Rows v = Random(rows, heads * dim);
      const Rows out = Undefined(rows, heads * dim);
      AttentionInput input;
      input.segment = {0, rows, 0};
      input.keys = {k.data, Dtype::kF32, k.pitch};
      input.values = {v.data, Dtype::kF32, v.pitch};
      engine_.Attend(q, {&input, 1}, spec, out);
      // The last token alone sees all others.
      AttentionInput last = input;
      last.segment = {0, 1, rows - 1};
      const Rows expected = Undefined(1, heads * dim);
      AttendReference(q.slice(rows - 1, 1), {&last, 1}, spec, expected);
      RAM_RETURN_IF_ERROR(Check("attention", out.slice(rows - 1, 1), expected));
      const double scores = static_cast<double>(heads) * static_cast<double>(rows * (rows + 1)) / 2;
      Time(fmt::format("attention, {} tokens", rows), fmt::format("heads of {}", dim), scores,
           "score", machine_.fma_flops / (4.0 * static_cast<double>(dim)), "f32 FMA", [&] {
             engine_.Attend(q, {&input, 1}, spec, out);
           });
    }
    return Done{};
  }

  Status Experts() {
    RAM_RETURN_IF_ERROR(watcher_.Check());
    constexpr uint64_t kExperts = 128;
    constexpr uint64_t kTopK = 8;
    const uint64_t inner = std::max<uint64_t>(64, benchmark_.inner / 8 / 64 * 64);
    for (const NamedForm& form : Forms()) {
      if (form.name != "bf16" && form.name != "4,64") continue;
      Matrix shape = form.form;
      shape.count = kExperts;
      shape.rows = inner;
      shape.cols = benchmark_.hidden;
      const OwnedMatrix gate = MakeMatrix(shape, &engine_.pool());
      const OwnedMatrix up = MakeMatrix(shape, &engine_.pool());
      std::swap(shape.rows, shape.cols);
      const OwnedMatrix down = MakeMatrix(shape, &engine_.pool());
      ExpertSpec spec;
      spec.gate = gate.matrix;
      spec.up = up.matrix;
      spec.down = down.matrix;
      Routes routes;
      RouterSpec router;
      router.experts = kExperts;
      router.top_k = kTopK;
      engine_.Route(Random(benchmark_.rows, kExperts), router, &routes);
      const Rows x = Random(benchmark_.rows, benchmark_.hidden);
      const Rows out = Undefined(benchmark_.rows, benchmark_.hidden);
      engine_.Experts(x, routes, spec, out);
      const Routes first = {kTopK,
                            {routes.expert.begin(), routes.expert.begin() + kTopK},
                            {routes.weight.begin(), routes.weight.begin() + kTopK}};
      const Rows expected = Undefined(1, benchmark_.hidden);
      ExpertsReference(x.slice(0, 1), first, spec, expected);
      RAM_RETURN_IF_ERROR(Check("experts, " + form.name, out, expected));
      const double flops = 6.0 * static_cast<double>(benchmark_.rows * kTopK) *
                           static_cast<double>(inner * benchmark_.hidden);
      const Limit limit = ProductLimit(spec.gate);
      Time(fmt::format("experts, {} of {}, {} tokens", kTopK, kExperts, benchmark_.rows), form.name,
           flops, "flop", limit.per_second, limit.name,
           [&] { engine_.Experts(x, routes, spec, out); });
    }
    return Done{};
  }

  Status Head() {
    RAM_RETURN_IF_ERROR(watcher_.Check());
    Matrix shape = {.dtype = Dtype::kBF16};
    shape.rows = 32000;
    shape.cols = benchmark_.hidden;
    const OwnedMatrix head = MakeMatrix(shape, &engine_.pool());
    const uint64_t rows = std::min<uint64_t>(benchmark_.rows, 512);
    const Rows x = Random(rows, shape.cols);
    const std::vector<int32_t> targets(rows, 17);
    std::vector<HeadResult> results(rows);
    engine_.Head(x, head.matrix, 0, targets, results);
    const Rows logits = Undefined(1, shape.rows);
    LinearReference(x.slice(0, 1), head.matrix, {}, logits);
    const HeadResult expected = ReduceLogitsReference({logits.data, shape.rows}, 17);
    RAM_RETURN_IF_ERROR(
        Check("head", {&results[0].nll, 1, 1, 1}, {const_cast<float*>(&expected.nll), 1, 1, 1}));
    const double flops =
        2 * static_cast<double>(rows) * static_cast<double>(shape.rows * shape.cols);
    const Limit limit = ProductLimit(head.matrix);
    Time(fmt::format("head and log-probability, {} words", shape.rows), "bf16", flops, "flop",
         limit.per_second, limit.name, [&] { engine_.Head(x, head.matrix, 0, targets, results); });
    return Done{};
  }

  Status VectorSteps() {
    RAM_RETURN_IF_ERROR(watcher_.Check());
    const uint64_t rows = benchmark_.rows;
    const uint64_t cols = benchmark_.inner;
    const std::string section = fmt::format("vector steps, {} x {}", rows, cols);
    const auto elements = static_cast<double>(rows * cols);
    {
      const Rows gate = Random(rows, cols);
      const Rows up = Random(rows, cols);
      const Rows out = Undefined(rows, cols);
      engine_.Glu(gate, up, {}, out);
      const Rows expected = Undefined(1, cols);
      for (uint64_t c = 0; c < cols; ++c) {
        expected.data[c] = GluReference(gate.data[c], up.data[c], {});
      }
      RAM_RETURN_IF_ERROR(Check("swiglu", out, expected));
      Time(section, "swiglu", elements, "element", machine_.read_bytes / 12, "reading",
           [&] { engine_.Glu(gate, up, {}, out); });
    }
    const Rows x = Random(rows, cols);
    const Rows out = Undefined(rows, cols);
    const std::vector<float> weight(cols, 1.5F);
    engine_.RmsNorm(x, weight, 1e-6F, out);
    const Rows expected = Undefined(1, cols);
    RmsNormReference(x.data, weight.data(), cols, 1e-6F, expected.data);
    RAM_RETURN_IF_ERROR(Check("rms norm", out, expected));
    Time(section, "rms norm", elements, "element", machine_.read_bytes / 8, "reading",
         [&] { engine_.RmsNorm(x, weight, 1e-6F, out); });
    return Done{};
  }

  Engine& engine_;
  const MachineRates& machine_;
  const KernelBenchmark& benchmark_;
  const Watcher& watcher_;
  std::vector<std::unique_ptr<Activations>> memory_;  // Of the kernel at hand.
  std::vector<KernelSpeed> speeds_;
};

// ---- Models ----

// What one token uses of a layer (-1: of what lies outside; there that is the head).
struct ActiveShare {
  double weights = 0;  // Number of weights.
  double share = 0;    // Of the layer's weights.
};

ActiveShare ActiveOf(const Catalog& catalog, const Graph& graph, int layer) {
  double all = 0;
  double active = 0;
  for (const CatalogTensor& tensor : catalog.tensors) {
    if (tensor.layer != layer || !IsMatrix(tensor.kind)) continue;
    const auto weights = static_cast<double>(tensor.num_weights());
    all += weights;
    if (tensor.kind == TensorKind::kEmbedding && !catalog.tied) continue;
    double used = 1;
    if (tensor.kind == TensorKind::kSwitch) {
      const auto* experts =
          std::get_if<ExpertsGraph>(&graph.layers[static_cast<size_t>(layer)].ffn);
      if (experts != nullptr) {
        used = static_cast<double>(experts->top_k) / static_cast<double>(experts->experts);
      }
    }
    active += used * weights;
  }
  return {active, all > 0 ? active / all : 0};
}

// Multiplications and additions of attention for one token that sees `seen` tokens.
double AttentionFlops(const LayerGraph& layer, double seen) {
  if (const auto* attention = std::get_if<AttentionGraph>(&layer.mixer)) {
    if (attention->window != 0) seen = std::min(seen, static_cast<double>(attention->window));
    return 4 * seen * static_cast<double>(attention->heads * attention->head_dim);
  }
  if (const auto* latent = std::get_if<LatentGraph>(&layer.mixer)) {
    return 2 * seen *
           static_cast<double>(latent->heads *
                               (latent->nope_dim + latent->rope_dim + latent->value_dim));
  }
  return 0;  // Gated delta nets: little beside their projections.
}

std::vector<int32_t> RandomIds(uint64_t num, uint64_t vocabulary) {
  std::mt19937 random(5);
  std::vector<int32_t> ids(num);
  for (int32_t& id : ids) id = static_cast<int32_t>(random() % vocabulary);
  return ids;
}

Status CheckResults(std::span<const HeadResult> results) {
  for (size_t i = 0; i < results.size(); ++i) {
    if (std::isfinite(results[i].nll)) continue;
    return Error{ErrorCode::kCorrupt,
                 fmt::format("the log-probability of token {} is not a number", i)};
  }
  return Done{};
}

}  // namespace

Result<std::vector<KernelSpeed>> BenchmarkKernels(Engine& engine, const MachineRates& machine,
                                                  const KernelBenchmark& benchmark,
                                                  const Watcher& watcher) {
  return KernelRuns(engine, machine, benchmark, watcher).Run();
}

Result<ModelSpeed> BenchmarkModel(Engine& engine, Graph graph, const WeightSource& source,
                                  const ModelBenchmark& benchmark, const Watcher& watcher) {
  const uint64_t context = benchmark.context;
  ModelSpeed speed;
  for (int layer = -1; layer < static_cast<int>(graph.layers.size()); ++layer) {
    const ActiveShare active = ActiveOf(source.catalog(), graph, layer);
    const auto bytes = static_cast<double>(source.LoadedBytes(layer));
    speed.flops_per_token += 2 * active.weights;
    speed.bytes_per_step += static_cast<uint64_t>(active.share * bytes);
    speed.weight_bytes += source.LoadedBytes(layer);
  }
  for (const LayerGraph& layer : graph.layers) {
    speed.flops_per_token += AttentionFlops(layer, static_cast<double>(context) / 2);
  }
  speed.state_bytes_per_step =
      SequenceReadBytes(graph, Dtype::kF32, context + benchmark.new_tokens / 2);
  RAM_ASSIGN_OR_RETURN(const ResidentModel model,
                       ResidentModel::Load(std::move(graph), source, &engine.pool()));
  const uint64_t hidden = model.graph().hidden;
  Scratch scratch(engine);

  // Scoring: every token of the context but the first.
  const std::vector<int32_t> ids = RandomIds(context, model.graph().vocabulary);
  RAM_RETURN_IF_ERROR(CheckIds(model.graph(), ids));
  std::vector<int32_t> targets(ids.begin() + 1, ids.end());
  targets.push_back(0);
  const std::unique_ptr<Activations> memory = engine.Allocate(context, hidden);
  std::vector<HeadResult> results(context);
  double best = 1e30;
  for (int run = 0; run <= benchmark.runs; ++run) {  // The first one is not counted.
    RAM_RETURN_IF_ERROR(watcher.Check());
    const Clock::time_point start = Clock::now();
    model.Run(engine, ids, {}, {}, scratch, memory->rows());
    engine.Head(memory->rows(), model.ends().head(), model.ends().logit_softcap(), targets,
                results);
    if (run > 0) best = std::min(best, SecondsSince(start));
  }
  RAM_RETURN_IF_ERROR(CheckResults(results));
  speed.score_tokens = static_cast<double>(context) / best;
  if (benchmark.new_tokens == 0) return speed;

  // Decoding: all sequences have read the same context, and take one token at a time.
  const uint64_t sequences = benchmark.sequences;
  std::vector<SequenceState> states;
  for (uint64_t s = 0; s < sequences; ++s) {
    states.push_back(MakeSequenceState(model.graph(), Dtype::kF32));
    SequenceState* const state = &states.back();
    const Segment all = {0, context, 0};
    model.Run(engine, ids, {&all, 1}, {&state, 1}, scratch, memory->rows());
  }
  std::vector<SequenceState*> pointers;
  pointers.reserve(sequences);
  for (SequenceState& state : states) pointers.push_back(&state);
  std::vector<int32_t> next(sequences, ids[0]);
  const std::vector<int32_t> no_targets(sequences, 0);
  const std::unique_ptr<Activations> row = engine.Allocate(sequences, hidden);
  std::vector<HeadResult> words(sequences);
  const Clock::time_point start = Clock::now();
  for (uint64_t step = 0; step < benchmark.new_tokens; ++step) {
    RAM_RETURN_IF_ERROR(watcher.Check());
    std::vector<Segment> segments;
    for (uint64_t s = 0; s < sequences; ++s) segments.push_back({s, 1, context + step});
    model.Run(engine, next, segments, pointers, scratch, row->rows());
    engine.Head(row->rows(), model.ends().head(), model.ends().logit_softcap(), no_targets, words);
    for (uint64_t s = 0; s < sequences; ++s) next[s] = static_cast<int32_t>(words[s].argmax);
  }
  speed.decode_tokens = static_cast<double>(sequences * benchmark.new_tokens) / SecondsSince(start);
  RAM_RETURN_IF_ERROR(CheckResults(words));
  return speed;
}

}  // namespace ram
