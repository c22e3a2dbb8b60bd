#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <utility>

#include "ram/runtime/aligned_rows.h"
#include "ram/runtime/attention.h"
#include "ram/runtime/elementwise.h"
#include "ram/runtime/engine.h"
#include "ram/runtime/fma_kernels.h"
#include "ram/runtime/isa.h"
#include "ram/runtime/products.h"
#include "ram/runtime/tile_decode.h"

// Every operation of the engine is one or two parallel passes of the parts: products, attention,
// vector steps. Rows are cut into tasks of about kTaskFloats elements; no task shares an output.

namespace ram {
namespace {

constexpr uint64_t kTaskFloats = 16 * 1024;
// Largest buffers of Experts and of transposed heads.
constexpr uint64_t kExpertBytes = uint64_t{1} << 20;  // Per thread.
constexpr uint64_t kScratchBytes = uint64_t{64} << 20;
// Columns of the tiles that Products hands to a sink.
constexpr uint64_t kSinkCols = 256;

// Tiles for many rows; for few, where reading the weights is all that counts, packed dots.
class TileProducts : public Products {
 public:
  TileProducts(std::unique_ptr<Products> few, std::unique_ptr<Products> many)
      : few_(std::move(few)), many_(std::move(many)) {}
  std::string name() const override { return many_->name(); }
  void Multiply(std::span<const ProductGroup> groups, ThreadPool& pool) override {
    uint64_t rows = 0;
    for (const ProductGroup& group : groups) rows = std::max(rows, group.x.rows);
    (rows <= kFewRows ? few_ : many_)->Multiply(groups, pool);
  }

 private:
  std::unique_ptr<Products> few_, many_;
};

// One choice of an expert by a token.
struct Visit {
  uint32_t expert;
  uint32_t token;
  uint32_t route;  // Index in Routes.
};

// Visits by expert, those of one expert by token.
std::vector<Visit> SortByExpert(const Routes& routes, uint64_t num_experts) {
  std::vector<uint32_t> next(num_experts + 1, 0);
  for (const uint32_t expert : routes.expert) {
    RAM_CHECK(expert < num_experts);
    ++next[expert + 1];
  }
  std::partial_sum(next.begin(), next.end(), next.begin());
  std::vector<Visit> visits(routes.expert.size());
  for (uint32_t route = 0; route < routes.expert.size(); ++route) {
    const uint32_t expert = routes.expert[route];
    visits[next[expert]++] = {expert, static_cast<uint32_t>(route / routes.top_k), route};
  }
  return visits;
}

class CpuEngine : public Engine {
 public:
  CpuEngine(ThreadPool* pool, std::string name, std::unique_ptr<Products> products,
            std::unique_ptr<Attention> attention, const std::string& simd_level)
      : pool_(*pool),
        name_(std::move(name)),
        products_(std::move(products)),
        attention_(std::move(attention)),
        steps_(MakeElementwise(simd_level)),
        delta_net_(MakeDeltaNet(simd_level)) {}

  std::string name() const override { return name_; }
  ThreadPool& pool() override { return pool_; }
  std::unique_ptr<Activations> Allocate(uint64_t rows, uint64_t cols) override {
    return std::make_unique<OwnedRows>(rows, cols);
  }

  void Embed(const Matrix& table, std::span<const int32_t> ids, float scale, Rows out) override;
  void RmsNorm(Rows x, std::span<const float> weight, float eps, Rows out) override;
  void Linear(Rows x, std::span<const LinearTerm> terms) override;
  void HeadLinear(Rows x, const Matrix& matrix, Rows out) override;
  void HeadLinearTransposed(Rows x, const Matrix& matrix, uint64_t head_pitch, Rows out) override;
  void PrepareHeads(Rows x, std::span<const Segment> segments, const HeadSpec& spec) override;
  void Attend(Rows q, std::span<const AttentionInput> inputs, const AttentionSpec& spec,
              Rows out) override;
  void Delta(Rows qkv, Rows z, Rows b, Rows a, std::span<const DeltaInput> inputs,
             const DeltaSpec& spec, Rows out) override;
  void Glu(Rows gate, Rows up, const GluSpec& spec, Rows out) override;
  void Route(Rows logits, const RouterSpec& spec, Routes* routes) override;
  void Experts(Rows x, const Routes& routes, const ExpertSpec& spec, Rows out) override;
  void Add(Rows y, Rows x) override;
  void Gate(Rows gate, Rows x) override;
  void Head(Rows x, const Matrix& head, float softcap, std::span<const int32_t> targets,
            std::span<HeadResult> results) override;
  void Logits(Rows x, const Matrix& head, float softcap, Rows out) override;

 private:
  // body(r) for every row, in tasks of about kTaskFloats elements.
  template <class Body>
  void ForRows(uint64_t rows, uint64_t cols, const Body& body) {
    const uint64_t per_task = std::max<uint64_t>(1, kTaskFloats / std::max<uint64_t>(1, cols));
    const uint64_t tasks = (rows + per_task - 1) / per_task;
    if (tasks <= 1) {  // Waking threads takes longer.
      for (uint64_t r = 0; r < rows; ++r) body(r);
      return;
    }
    pool_.ParallelFor(tasks, [&](size_t task, size_t) {
      const uint64_t end = std::min(rows, (task + 1) * per_task);
      for (uint64_t r = task * per_task; r < end; ++r) body(r);
    });
  }

  void ExpertVisits(Rows x, std::span<const Visit> visits, const Routes& routes,
                    const ExpertSpec& spec, Rows result);

  ThreadPool& pool_;
  std::string name_;
  std::unique_ptr<Products> products_;
  std::unique_ptr<Attention> attention_;
  std::unique_ptr<Elementwise> steps_;
  std::unique_ptr<DeltaNet> delta_net_;
  ScratchRows gathered_, gate_, up_, expert_out_, heads_;
};

void CpuEngine::Embed(const Matrix& table, std::span<const int32_t> ids, float scale, Rows out) {
  RAM_CHECK(ids.size() == out.rows && table.cols == out.cols);
  ForRows(out.rows, out.cols, [&](uint64_t r) {
    DecodeTile(table, static_cast<uint64_t>(ids[r]), 1, 0, table.cols, out.row(r), out.pitch);
    if (scale != 1) steps_->Scale(scale, out.cols, out.row(r));
  });
}

void CpuEngine::RmsNorm(Rows x, std::span<const float> weight, float eps, Rows out) {
  RAM_CHECK(x.rows == out.rows && x.cols == out.cols && weight.size() == x.cols);
  ForRows(x.rows, x.cols,
          [&](uint64_t r) { steps_->RmsNorm(x.row(r), weight.data(), x.cols, eps, out.row(r)); });
}

void CpuEngine::Linear(Rows x, std::span<const LinearTerm> terms) {
  ProductGroup group = {.x = x, .products = {}};
  for (const LinearTerm& term : terms) {
    group.products.push_back({.matrix = term.matrix, .bias = term.bias, .out = term.out});
  }
  products_->Multiply({&group, 1}, pool_);
}

void CpuEngine::HeadLinear(Rows x, const Matrix& matrix, Rows out) {
  RAM_CHECK(x.cols == matrix.count * matrix.cols && out.cols == matrix.count * matrix.rows);
  std::vector<ProductGroup> groups;
  for (uint64_t h = 0; h < matrix.count; ++h) {
    groups.push_back({x.columns(h * matrix.cols, matrix.cols), {}});
    groups.back().products.push_back(
        {.matrix = matrix.at(h), .out = out.columns(h * matrix.rows, matrix.rows)});
  }
  products_->Multiply(groups, pool_);
}

void CpuEngine::HeadLinearTransposed(Rows x, const Matrix& matrix, uint64_t head_pitch, Rows out) {
  RAM_CHECK(x.cols == matrix.rows && matrix.cols <= head_pitch);
  RAM_CHECK(out.cols >= (matrix.count - 1) * head_pitch + matrix.cols);
  const uint64_t floats = matrix.rows * matrix.cols;
  const uint64_t heads_at_once =
      std::clamp<uint64_t>(kScratchBytes / (floats * sizeof(float)), 1, matrix.count);
  for (uint64_t first = 0; first < matrix.count; first += heads_at_once) {
    const uint64_t heads = std::min(heads_at_once, matrix.count - first);
    const Rows scratch = heads_.Take(heads, (floats + 15) / 16 * 16);
    pool_.ParallelFor(heads, [&](size_t h, size_t) {
      DecodeTransposed(matrix.at(first + h), scratch.row(h), matrix.rows);
    });
    ProductGroup group = {.x = x, .products = {}};
    for (uint64_t h = 0; h < heads; ++h) {
      const Matrix transposed = {.rows = matrix.cols,
                                 .cols = matrix.rows,
                                 .values = reinterpret_cast<const uint8_t*>(scratch.row(h))};
      group.products.push_back(
          {.matrix = transposed, .out = out.columns((first + h) * head_pitch, matrix.cols)});
    }
    products_->Multiply({&group, 1}, pool_);
  }
}

void CpuEngine::PrepareHeads(Rows x, std::span<const Segment> segments, const HeadSpec& spec) {
  for (const Segment& segment : segments) {
    ForRows(segment.num_rows, x.cols, [&](uint64_t r) {
      steps_->PrepareHeads(x.row(segment.first_row + r), segment.position + r, spec);
    });
  }
}

void CpuEngine::Attend(Rows q, std::span<const AttentionInput> inputs, const AttentionSpec& spec,
                       Rows out) {
  attention_->Attend(q, inputs, spec, out, pool_);
}

void CpuEngine::Delta(Rows qkv, Rows z, Rows b, Rows a, std::span<const DeltaInput> inputs,
                      const DeltaSpec& spec, Rows out) {
  delta_net_->Run(qkv, z, b, a, inputs, spec, out, pool_);
}

void CpuEngine::Glu(Rows gate, Rows up, const GluSpec& spec, Rows out) {
  RAM_CHECK(gate.cols == up.cols && gate.cols == out.cols);
  ForRows(out.rows, out.cols,
          [&](uint64_t r) { steps_->Glu(gate.row(r), up.row(r), out.cols, spec, out.row(r)); });
}

void CpuEngine::Route(Rows logits, const RouterSpec& spec, Routes* routes) {
  RAM_CHECK(logits.cols == spec.experts && spec.top_k <= spec.experts);
  routes->top_k = spec.top_k;
  routes->expert.resize(logits.rows * spec.top_k);
  routes->weight.resize(logits.rows * spec.top_k);
  ForRows(logits.rows, logits.cols, [&](uint64_t r) {
    steps_->Route(logits.row(r), spec, routes->expert.data() + r * spec.top_k,
                  routes->weight.data() + r * spec.top_k);
  });
}

// The outputs of experts for their visits, result [visits.size(), H]: visits are sorted by expert.
void CpuEngine::ExpertVisits(Rows x, std::span<const Visit> visits, const Routes& routes,
                             const ExpertSpec& spec, Rows result) {
  const Rows gathered = gathered_.Take(visits.size(), x.cols);
  ForRows(visits.size(), x.cols, [&](uint64_t i) {
    std::copy_n(x.row(visits[i].token), x.cols, gathered.row(i));
    if (spec.weight_input) {
      steps_->Scale(routes.weight[visits[i].route], x.cols, gathered.row(i));
    }
  });
  const Rows gate = gate_.Take(visits.size(), spec.gate.rows);
  const Rows up = up_.Take(visits.size(), spec.up.rows);
  const auto bias_of = [](std::span<const float> biases, uint64_t expert, uint64_t size) {
    return biases.empty() ? biases : biases.subspan(expert * size, size);
  };
  std::vector<ProductGroup> first;
  std::vector<ProductGroup> second;
  for (uint64_t begin = 0; begin < visits.size();) {
    const uint32_t expert = visits[begin].expert;
    uint64_t end = begin;
    while (end < visits.size() && visits[end].expert == expert) ++end;
    const uint64_t num = end - begin;
    first.push_back({gathered.slice(begin, num), {}});
    first.back().products.push_back({.matrix = spec.gate.at(expert),
                                     .bias = bias_of(spec.gate_bias, expert, gate.cols),
                                     .out = gate.slice(begin, num)});
    first.back().products.push_back({.matrix = spec.up.at(expert),
                                     .bias = bias_of(spec.up_bias, expert, up.cols),
                                     .out = up.slice(begin, num)});
    second.push_back({gate.slice(begin, num), {}});
    second.back().products.push_back({.matrix = spec.down.at(expert),
                                      .bias = bias_of(spec.down_bias, expert, result.cols),
                                      .out = result.slice(begin, num)});
    begin = end;
  }
  products_->Multiply(first, pool_);
  Glu(gate, up, spec.glu, gate);
  products_->Multiply(second, pool_);
}

// How many of the visits go together: those of whole experts up to `enough`, or of one expert.
uint64_t SlabOfExperts(std::span<const Visit> visits, uint64_t enough, uint64_t most) {
  uint64_t num = 0;
  while (num < visits.size()) {
    uint64_t end = num;
    while (end < visits.size() && visits[end].expert == visits[num].expert) ++end;
    if (num > 0 && end > enough) break;
    num = end;
  }
  return std::min(num, most);
}

void CpuEngine::Experts(Rows x, const Routes& routes, const ExpertSpec& spec, Rows out) {
  RAM_CHECK(routes.expert.size() == x.rows * routes.top_k);
  const std::vector<Visit> visits = SortByExpert(routes, spec.gate.count);
  // Some experts at a time, so few that what they make stays in cache; their weights are decoded
  // once, or where one has more visits than the buffers hold, once for each slab.
  const uint64_t floats_per_visit = x.cols + out.cols + spec.gate.rows + spec.up.rows;
  const auto visits_in = [&](uint64_t bytes) {
    return std::max<uint64_t>(64, bytes / (floats_per_visit * sizeof(float)));
  };
  const uint64_t most = visits_in(kScratchBytes);
  const uint64_t enough = visits_in(kExpertBytes * pool_.num_threads());
  ForRows(out.rows, out.cols, [&](uint64_t r) { std::fill_n(out.row(r), out.cols, 0.0F); });
  uint64_t num = 0;
  for (uint64_t first = 0; first < visits.size(); first += num) {
    num = SlabOfExperts(std::span(visits).subspan(first), enough, most);
    const Rows result = expert_out_.Take(num, out.cols);
    ExpertVisits(x, std::span(visits).subspan(first, num), routes, spec, result);
    // Experts ascend from visit to visit, so the order of a sum is that of the token's routes
    // however the visits are cut. Tasks are columns: two visits may be of one token.
    const uint64_t tasks = (out.cols + kSinkCols - 1) / kSinkCols;
    pool_.ParallelFor(tasks, [&](size_t task, size_t) {
      const uint64_t col = task * kSinkCols;
      const uint64_t cols = std::min(kSinkCols, out.cols - col);
      for (uint64_t i = 0; i < num; ++i) {
        const Visit& visit = visits[first + i];
        const float weight = spec.weight_input ? 1.0F : routes.weight[visit.route];
        steps_->AddScaled(result.row(i) + col, weight, cols, out.row(visit.token) + col);
      }
    });
  }
}

void CpuEngine::Add(Rows y, Rows x) {
  RAM_CHECK(y.rows == x.rows && y.cols == x.cols);
  ForRows(x.rows, x.cols, [&](uint64_t r) { steps_->Add(y.row(r), x.cols, x.row(r)); });
}

void CpuEngine::Gate(Rows gate, Rows x) {
  RAM_CHECK(gate.rows == x.rows && (gate.cols == x.cols || gate.cols == 1));
  ForRows(x.rows, x.cols, [&](uint64_t r) {
    if (gate.cols == x.cols) {
      steps_->Gate(gate.row(r), x.cols, x.row(r));
    } else {
      steps_->Scale(1 / (1 + std::exp(-gate.row(r)[0])), x.cols, x.row(r));
    }
  });
}

void CpuEngine::Head(Rows x, const Matrix& head, float softcap, std::span<const int32_t> targets,
                     std::span<HeadResult> results) {
  RAM_CHECK(targets.size() == x.rows && results.size() == x.rows);
  const uint64_t num_blocks = (head.rows + kSinkCols - 1) / kSinkCols;
  std::vector<LogitBlock> blocks(x.rows * num_blocks);
  std::vector<float> target_logits(x.rows, 0.0F);
  ProductGroup group = {.x = x, .products = {}};
  group.products.push_back({.matrix = head, .out = {}});
  group.products.back().sink = [&](size_t, const ProductTile& tile) {
    for (uint64_t r = 0; r < tile.values.rows; ++r) {
      const uint64_t row = tile.first_row + r;
      float* logits = tile.values.row(r);
      blocks[row * num_blocks + tile.first_col / kSinkCols] =
          steps_->ReduceLogits(logits, tile.values.cols, softcap);
      const int64_t target = int64_t{targets[row]} - static_cast<int64_t>(tile.first_col);
      if (targets[row] >= 0 && target >= 0 && target < static_cast<int64_t>(tile.values.cols)) {
        target_logits[row] = logits[target];
      }
    }
  };
  products_->Multiply({&group, 1}, pool_);

  ForRows(x.rows, num_blocks, [&](uint64_t r) {
    const std::span<const LogitBlock> row(&blocks[r * num_blocks], num_blocks);
    HeadResult& result = results[r];
    result = {};
    result.max_logit = row[0].max;
    result.argmax = row[0].argmax;
    for (uint64_t b = 1; b < num_blocks; ++b) {
      if (row[b].max > result.max_logit) {
        result.max_logit = row[b].max;
        result.argmax = static_cast<uint32_t>(b * kSinkCols) + row[b].argmax;
      }
    }
    double sum = 0;
    for (const LogitBlock& block : row) {
      sum += double{block.sum} * std::exp(double{block.max} - double{result.max_logit});
    }
    const double logsumexp = double{result.max_logit} + std::log(sum);
    result.logsumexp = static_cast<float>(logsumexp);
    if (targets[r] >= 0) result.nll = static_cast<float>(logsumexp - double{target_logits[r]});
  });
}

void CpuEngine::Logits(Rows x, const Matrix& head, float softcap, Rows out) {
  RAM_CHECK(out.cols == head.rows && out.rows == x.rows);
  ProductGroup group = {.x = x, .products = {}};
  group.products.push_back({.matrix = head, .out = out});
  products_->Multiply({&group, 1}, pool_);
  if (softcap <= 0) return;
  ForRows(out.rows, out.cols,
          [&](uint64_t r) { steps_->ReduceLogits(out.row(r), out.cols, softcap); });
}

// ---------------------------------------------------------------------------------------------
// Which instruction set.

constexpr std::string_view kAmxLevels[] = {"amx-f16", "amx-bf16"};
constexpr std::string_view kAllLevels[] = {"amx-f16", "amx-bf16", "avx3_dl", "avx3",
                                           "avx2",    "sse4",     "neon",    "scalar"};

bool IsAmx(std::string_view isa) {
  return std::ranges::find(kAmxLevels, isa) != std::end(kAmxLevels);
}

// Null where this machine has no such tiles.
std::unique_ptr<Engine> MakeAmxEngine(ThreadPool* pool, const std::string& isa,
                                      Precision precision) {
  std::unique_ptr<Products> products = MakeAmxProducts(isa, precision);
  if (products == nullptr) return nullptr;
  const std::string level = SimdLevelOf(isa);
  products = std::make_unique<TileProducts>(MakeFmaProducts(level, precision), std::move(products));
  std::unique_ptr<Attention> attention = MakeAmxAttention(isa, precision);
  if (attention == nullptr) attention = MakeFmaAttention(level);
  const std::string_view name = precision == Precision::kF32    ? "f32"
                                : precision == Precision::kFast ? "fast"
                                                                : "half";
  return std::make_unique<CpuEngine>(pool, fmt::format("cpu {} ({})", products->name(), name),
                                     std::move(products), std::move(attention), level);
}

}  // namespace

std::vector<std::string> CpuInstructionSets() {
  std::vector<std::string> levels = SimdLevels();
  std::vector<std::string> tiles;
  for (const std::string_view isa : kAmxLevels) {
    if (MakeAmxProducts(std::string(isa), Precision::kF32) != nullptr) tiles.emplace_back(isa);
  }
  levels.insert(levels.begin(), tiles.begin(), tiles.end());
  return levels;
}

Result<std::unique_ptr<Engine>> MakeCpuEngine(ThreadPool* pool, const CpuOptions& options) {
  std::string isa = options.isa;
  const char* from_environment = std::getenv("RAM_ISA");
  if (isa.empty() && from_environment != nullptr) isa = from_environment;
  if (isa.empty()) {
    for (const std::string_view tiles : kAmxLevels) {
      auto engine = MakeAmxEngine(pool, std::string(tiles), options.precision);
      if (engine != nullptr) return engine;
    }
    isa = SimdLevels().front();
  }
  if (std::ranges::find(kAllLevels, isa) == std::end(kAllLevels)) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("instruction set \"{}\" does not exist; this machine has {}", isa,
                             fmt::join(CpuInstructionSets(), ", "))};
  }
  if (IsAmx(isa)) {
    auto engine = MakeAmxEngine(pool, isa, options.precision);
    if (engine != nullptr) return engine;
  }
  if (!HasSimdLevel(isa)) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("instruction set {} is not available: the CPU or the system lacks it, "
                             "or it failed its self test; this machine has {}",
                             isa, fmt::join(CpuInstructionSets(), ", "))};
  }
  std::unique_ptr<Engine> engine = std::make_unique<CpuEngine>(
      pool, "cpu " + isa, MakeFmaProducts(isa, options.precision), MakeFmaAttention(isa), isa);
  return engine;
}

}  // namespace ram
