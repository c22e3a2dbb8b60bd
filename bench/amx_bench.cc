// Products on AMX tiles: GF/s of one core, the share of what the tiles can do in as many passes,
// the error against f64, and what a second core adds. The error is checked before a rate is
// printed. Plain, because a rate is only comparable with the limit measured next to it.
//
//   amx_bench [K N]...

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "bench/machine_limits.h"
#include "ram/base/half.h"
#include "ram/runtime/aligned_memory.h"
#include "ram/runtime/aligned_rows.h"
#include "ram/runtime/amx_product.h"
#include "ram/runtime/attention.h"
#include "ram/runtime/isa.h"
#include "ram/runtime/machine_rates.h"
#include "ram/runtime/ops_reference.h"
#include "ram/runtime/products.h"
#include "ram/runtime/products_amx.h"
#include "ram/runtime/tile_rate.h"

#ifdef RAM_BENCH_DNNL
#include <dnnl.h>
#include <omp.h>
#endif

namespace ram {
namespace {

constexpr int kRuns = 15;

double WallSeconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Flop a second of the tile unit.
template <TileFormat kFormat>
double TileRate() {
  const TileWork<kFormat> work;
  double flop = 0;
  const double seconds = BestSeconds(100, [&] { flop = work.Run(5000); });
  return flop / seconds;
}

struct Problem {
  uint64_t m, k, n;
  uint64_t pitch, out_pitch;  // As the engine's activations have them.
  std::vector<float> x, y;
  std::vector<float> weights;  // Decoded.
  std::vector<uint8_t> values, scales, biases;
  Matrix matrix;

  Problem(uint64_t rows, uint64_t cols, uint64_t outputs)
      : m(rows), k(cols), n(outputs), pitch(PitchOf(cols)), out_pitch(PitchOf(outputs)) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> gain(k), mean(k);
    for (uint64_t c = 0; c < k; ++c) {
      gain[c] = std::exp(0.5F * normal(random)) * (c % 256 == 77 ? 50.0F : 1.0F);
      mean[c] = 0.3F * normal(random);
    }
    x.resize(m * pitch);
    y.resize(m * out_pitch);
    for (uint64_t row = 0; row < m; ++row) {
      for (uint64_t c = 0; c < k; ++c) x[row * pitch + c] = gain[c] * (normal(random) + mean[c]);
    }
  }

  Rows input() { return {x.data(), m, k, pitch}; }
  Rows output() { return {y.data(), m, n, out_pitch}; }
  double flop() const { return 2.0 * static_cast<double>(m * k * n); }

  void SetDense(Dtype dtype) {
    std::mt19937 random(2);
    std::normal_distribution<float> normal;
    matrix = {.dtype = dtype, .rows = n, .cols = k};
    values.resize(matrix.row_bytes() * n);
    for (uint64_t i = 0; i < n * k; ++i) Store(dtype, 0.02F * normal(random), i, &values);
    Finish();
  }

  void SetAffine(int bits, int group_size) {
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    matrix = {.form = Matrix::Form::kAffine,
              .dtype = Dtype::kBF16,
              .bits = bits,
              .group_size = group_size,
              .rows = n,
              .cols = k};
    values.resize(matrix.row_bytes() * n);
    for (uint8_t& byte : values) byte = static_cast<uint8_t>(random());
    scales.resize(matrix.scale_row_bytes() * n);
    biases.resize(scales.size());
    const float middle = static_cast<float>((1 << bits) - 1) / 2;
    for (uint64_t i = 0; i < scales.size() / 2; ++i) {
      const float size = 0.05F / middle * std::exp(0.2F * normal(random));
      const float scale = random() % 2 == 0 ? size : -size;
      Store(Dtype::kBF16, scale, i, &scales);
      Store(Dtype::kBF16, -scale * (middle + 0.1F * middle * normal(random)), i, &biases);
    }
    Finish();
  }

  void SetMxfp4() {
    std::mt19937 random(4);
    matrix = {.form = Matrix::Form::kMxfp4, .rows = n, .cols = k};
    values.resize(matrix.row_bytes() * n);
    for (uint8_t& byte : values) byte = static_cast<uint8_t>(random());
    scales.resize(matrix.scale_row_bytes() * n);
    for (uint8_t& byte : scales) byte = static_cast<uint8_t>(119 + random() % 3);
    Finish();
  }

  // Relative rms error of y over all columns of 16 rows.
  double Error() const {
    double value2 = 0;
    double error2 = 0;
    for (uint64_t i = 0; i < 16; ++i) {
      const uint64_t r = i * (m - 1) / 15;
      for (uint64_t c = 0; c < n; ++c) {
        double want = 0;
        for (uint64_t j = 0; j < k; ++j) {
          want += static_cast<double>(x[r * pitch + j]) * static_cast<double>(weights[c * k + j]);
        }
        const double error = static_cast<double>(y[r * out_pitch + c]) - want;
        value2 += want * want;
        error2 += error * error;
      }
    }
    return std::sqrt(error2 / value2);
  }

 private:
  static void Store(Dtype dtype, float value, uint64_t i, std::vector<uint8_t>* out) {
    if (dtype == Dtype::kF32) {
      std::memcpy(out->data() + 4 * i, &value, 4);
      return;
    }
    const uint16_t half = dtype == Dtype::kBF16 ? Bf16FromFloat(value) : F16FromFloat(value);
    std::memcpy(out->data() + 2 * i, &half, 2);
  }

  void Finish() {
    matrix.values = values.data();
    matrix.scales = scales.data();
    matrix.biases = biases.data();
    weights.resize(n * k);
    DecodeRows(matrix, 0, n, weights.data());
  }
};

#ifdef RAM_BENCH_DNNL
void BenchDnnl(Problem* problem) {
  omp_set_num_threads(1);
  const auto dim = [](uint64_t value) { return static_cast<dnnl_dim_t>(value); };
  const auto multiply = [&] {
    dnnl_sgemm('N', 'T', dim(problem->m), dim(problem->n), dim(problem->k), 1, problem->x.data(),
               dim(problem->pitch), problem->weights.data(), dim(problem->k), 0, problem->y.data(),
               dim(problem->out_pitch));
  };
  multiply();
  const double error = problem->Error();
  fmt::print("  {:<24} {:5.0f} GF/s          error {:.1e}\n", "oneDNN f32",
             1e-9 * problem->flop() / BestSeconds(kRuns / 3, multiply), error);
}
#endif

// The work of a product in pieces of some 30 microseconds, as products_amx.cc does it for K <=
// 1024: the sum of the least time that each piece took is what remains on a machine that others use
// too.
double PieceSeconds(Problem* problem, const TileKernels& kernels, size_t group_size) {
  constexpr size_t kColumns = 512;
  const uint64_t row_blocks = problem->m / kTileRows;
  const size_t steps = problem->k / kTileStep;
  const TileIntegerKernels& integers = *FindTileIntegerKernels(3);
  const size_t block_bytes = steps * kernels.x_parts * 2 * kTileBytes;
  const size_t integer_bytes = problem->k / kIntegerStep * integers.x_parts * 2 * kTileBytes;
  const size_t groups = group_size == 0 ? 0 : problem->k / group_size;
  // Groups of 64 and 128 in integers; of 32 in parts of 16 bits, as dense weights.
  const bool in_integers = group_size > 32;
  const size_t step = in_integers ? kIntegerStep : kTileStep;
  AlignedBytes packed(in_integers ? row_blocks * integer_bytes : 2 * block_bytes);
  AlignedBytes scales(row_blocks * (problem->k / step) * kTileRows * sizeof(float));
  AlignedBytes weights(kColumns * problem->k * 2);
  AlignedBytes terms(kColumns * (groups + 1) * 2 * sizeof(float));
  AlignedBytes sums(row_blocks * kTileRows * (problem->k / step) * sizeof(float));
  AlignedBytes out(problem->m * problem->out_pitch * sizeof(float));

  std::vector<double> least;
  size_t piece = 0;
  const auto measure = [&](const auto& run) {
    const double start = WallSeconds();
    run();
    const double seconds = WallSeconds() - start;
    if (piece == least.size()) least.push_back(seconds);
    least[piece] = std::min(least[piece], seconds);
    ++piece;
  };
  const Matrix& matrix = problem->matrix;
  const TileScope scope;
  for (int run = 0; run < 2 * kRuns; ++run) {
    piece = 0;
    for (uint64_t b = 0; b < row_blocks && groups > 0; ++b) {
      const float* x = problem->x.data() + b * kTileRows * problem->pitch;
      const TileStepSums step_sums = {.x = x,
                                      .pitch = problem->pitch,
                                      .rows = kTileRows,
                                      .cols = problem->k,
                                      .step = step,
                                      .sums = sums.floats() + b * kTileRows * (problem->k / step)};
      const TileIntegerRows rows = {
          .x = x,
          .pitch = problem->pitch,
          .rows = kTileRows,
          .cols = problem->k,
          .packed = packed.data() + b * integer_bytes,
          .scales = scales.floats() + b * (problem->k / step) * kTileRows};
      measure([&] {
        integers.sum_steps(step_sums);
        if (in_integers) integers.split(rows);
      });
    }
    const auto rows_of_block = [&](uint64_t b) {
      return TileSplit{.x = problem->x.data() + b * kTileRows * problem->pitch,
                       .pitch = problem->pitch,
                       .rows = kTileRows,
                       .num_k = problem->k,
                       .packed = packed.data() + b % 2 * block_bytes};
    };
    for (uint64_t col = 0; col < problem->n; col += kColumns) {
      TileWeightBlock block = {.form = groups > 0 ? TileWeights::kCodes : TileWeights::kBf16,
                               .bits = matrix.bits,
                               .group_size = group_size};
      block.row_bytes = matrix.row_bytes();
      block.scale_row_bytes = matrix.scale_row_bytes();
      block.values = matrix.values + col * block.row_bytes;
      block.scales = matrix.scales + col * block.scale_row_bytes;
      block.biases = matrix.biases + col * block.scale_row_bytes;
      block.columns = std::min<size_t>(kColumns, problem->n - col);
      block.cols = block.num_k = problem->k;
      block.packed = weights.data();
      block.group_terms = terms.floats();
      measure([&] { in_integers ? integers.pack(block) : kernels.pack[0](block); });
      if (!in_integers) measure([&] { kernels.split(rows_of_block(0)); });
      for (uint64_t b = 0; b < row_blocks; ++b) {
        const TileSplit ahead = rows_of_block(b + 1);
        TileProduct product = {.x = packed.data() + b % 2 * block_bytes,
                               .w = weights.data(),
                               .steps = steps,
                               .rows = kTileRows,
                               .columns = block.columns};
        if (in_integers) {
          product.x = packed.data() + b * integer_bytes;
          product.steps = problem->k / kIntegerStep;
          product.group_steps = group_size / kIntegerStep;
          product.step_scales = scales.floats() + b * (problem->k / step) * kTileRows;
        }
        product.terms = terms.floats();
        product.step_sums = sums.floats() + b * kTileRows * (problem->k / step);
        product.out = out.floats() + b * kTileRows * problem->out_pitch + col;
        product.pitch = problem->out_pitch;
        if (!in_integers && b + 1 < row_blocks) product.ahead = &ahead;
        measure([&] {
          in_integers   ? integers.multiply(product)
          : groups == 0 ? kernels.multiply[0](product)
                        : kernels.multiply_codes(product);
        });
      }
    }
  }
  return std::accumulate(least.begin(), least.end(), 0.0);
}

void BenchPieces(uint64_t k, uint64_t n, double tile_rate) {
  const TileKernels& kernels = *FindTileKernels(TileFormat::kBf16, 3);
  Problem problem(2048, k, n);
  problem.SetDense(Dtype::kBF16);
  const double dense = PieceSeconds(&problem, kernels, 0);
  fmt::print("amx-bf16 in pieces, K {} N {}: bf16 {:.0f} GF/s, {:.0f} %\n", k, n,
             1e-9 * problem.flop() / dense, 100 * problem.flop() / dense / (tile_rate / 3));
  for (const int group_size : {32, 64, 128}) {
    problem.SetAffine(4, group_size);
    const double codes = PieceSeconds(&problem, kernels, static_cast<size_t>(group_size));
    fmt::print("  4-bit, groups of {:<6} {:.2f} of the dense rate\n", group_size, dense / codes);
  }
}

// Prints and returns the GF/s of one core. `peak`: flop a second at best.
double Bench(Problem* problem, Products* products, const std::string& name, double peak,
             double limit) {
  const ProductGroup group = {problem->input(), {{problem->matrix, {}, problem->output()}}};
  ThreadPool one(1);
  const auto multiply = [&] { products->Multiply({&group, 1}, one); };
  std::ranges::fill(problem->y, NAN);
  multiply();
  const double error = problem->Error();
  if (!(error <= limit)) {
    fmt::print("  {}: error {:.1e} is above {:.1e}\n", name, error, limit);
    std::exit(1);
  }
  const double seconds = BestSeconds(kRuns, multiply);
  fmt::print("  {:<24} {:5.0f} GF/s, {:3.0f} %   error {:.1e}\n", name,
             1e-9 * problem->flop() / seconds, 100 * problem->flop() / seconds / peak, error);
  return 1e-9 * problem->flop() / seconds;
}

// The same without tiles.
void BenchMultiplyAdds(Problem* problem) {
  const std::string level = SimdLevels().front();
  ThreadPool one(1);
  const double peak = MeasureMachine(one).fma_flops;
  Bench(problem, MakeFmaProducts(level, Precision::kF32).get(), level, peak, 1e-6);
}

// One core against two, by the clock, in turns.
void BenchTwoCores(Problem* problem, const std::string& isa) {
  const auto products = MakeAmxProducts(isa, Precision::kF32);
  const ProductGroup group = {problem->input(), {{problem->matrix, {}, problem->output()}}};
  ThreadPool pools[] = {ThreadPool(1), ThreadPool(2)};
  double best[2] = {1e30, 1e30};
  for (int run = 0; run < 2 * kRuns; ++run) {
    const double start = WallSeconds();
    products->Multiply({&group, 1}, pools[run % 2]);
    best[run % 2] = std::min(best[run % 2], WallSeconds() - start);
  }
  fmt::print("  two cores / one          {:.2f}\n", best[0] / best[1]);
}

void Run(const std::string& isa, uint64_t m, uint64_t k, uint64_t n) {
  const bool bf16 = isa == "amx-bf16";
  const double tile_rate = bf16 ? TileRate<TileFormat::kBf16>() : TileRate<TileFormat::kF16>();
  const double passes = bf16 ? 3 : 2;
  fmt::print("{}, M {} K {} N {}; tiles: {:.0f} GF/s\n", isa, m, k, n, 1e-9 * tile_rate);
  Problem problem(m, k, n);
  const double limit = k <= 4096 ? 3e-7 : 6e-7;
  const auto bench = [&](const std::string& name) {
    const auto products = MakeAmxProducts(isa, Precision::kF32);
    return Bench(&problem, products.get(), name, tile_rate / passes, limit);
  };
  problem.SetDense(Dtype::kBF16);
#ifdef RAM_BENCH_DNNL
  BenchDnnl(&problem);
#endif
  BenchMultiplyAdds(&problem);
  const double dense = bench("bf16");
  BenchTwoCores(&problem, isa);
  Bench(&problem, MakeAmxProducts(isa, Precision::kFast).get(), "bf16, fast", tile_rate / 2, 1e-5);
  Bench(&problem, MakeAmxProducts(isa, Precision::kHalf).get(), "bf16, half", tile_rate, 1e-2);
  problem.SetAffine(4, 64);
  fmt::print("  of the dense rate        {:.2f}\n", bench("4-bit, groups of 64") / dense);
  for (const auto& [bits, group_size] : {std::pair{4, 32}, {4, 128}, {8, 64}, {3, 64}}) {
    problem.SetAffine(bits, group_size);
    bench(fmt::format("{}-bit, groups of {}", bits, group_size));
  }
  problem.SetMxfp4();
  bench("mxfp4");
  problem.SetDense(Dtype::kF32);
  Bench(&problem, MakeAmxProducts(isa, Precision::kF32).get(), "f32", tile_rate / (bf16 ? 6 : 3),
        2 * limit);
}

// Causal attention of 4 heads over 2048 tokens: scores a second of one core, those that are not
// masked.
void BenchAttention(const std::string& level, uint64_t head_dim, Dtype dtype) {
  constexpr uint64_t kTokens = 2048;
  constexpr uint64_t kHeads = 4;
  const uint64_t cols = kHeads * head_dim;
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  std::vector<float> q(kTokens * cols), keys(q.size()), values(q.size()), out(q.size());
  for (std::vector<float>* v : {&q, &keys, &values}) {
    for (float& x : *v) x = FloatFromBf16(Bf16FromFloat(normal(random)));
  }
  std::vector<uint16_t> keys16, values16;
  for (const float x : keys) keys16.push_back(Bf16FromFloat(x));
  for (const float x : values) values16.push_back(Bf16FromFloat(x));
  AttentionSpec spec = {
      .heads = kHeads, .kv_heads = kHeads, .head_dim = head_dim, .value_dim = head_dim};
  spec.scale = 1 / std::sqrt(static_cast<float>(head_dim));
  const bool wide = dtype == Dtype::kF32;
  AttentionInput input = {{0, kTokens, 0}, {}, {}, 0};
  input.keys = {wide ? static_cast<const void*>(keys.data()) : keys16.data(), dtype, cols};
  input.values = {wide ? static_cast<const void*>(values.data()) : values16.data(), dtype, cols};

  const bool tiles = level.starts_with("amx");
  const auto attention = tiles ? MakeAmxAttention(level, Precision::kF32) : MakeFmaAttention(level);
  ThreadPool one(1);
  const auto attend = [&](uint64_t tokens) {
    input.segment.num_rows = tokens;
    attention->Attend({q.data(), kTokens, cols, cols}, {&input, 1}, spec,
                      {out.data(), kTokens, cols, cols}, one);
  };
  constexpr uint64_t kChecked = 300;
  attend(kChecked);
  std::vector<float> want(out.size());
  AttendReference({q.data(), kTokens, cols, cols}, {&input, 1}, spec,
                  {want.data(), kTokens, cols, cols});
  double value2 = 0;
  double error2 = 0;
  for (uint64_t i = 0; i < kChecked * cols; ++i) {
    const double error = static_cast<double>(out[i]) - static_cast<double>(want[i]);
    value2 += static_cast<double>(want[i]) * static_cast<double>(want[i]);
    error2 += error * error;
  }
  const double seconds = BestSeconds(kRuns, [&] { attend(kTokens); });
  constexpr double kScores = kHeads * kTokens * (kTokens + 1) / 2.0;
  fmt::print("  attention {:<9} head {:3}, {:4} cache {:5.2f} G scores/s   error {:.1e}\n", level,
             head_dim, DtypeName(dtype), 1e-9 * kScores / seconds, std::sqrt(error2 / value2));
}

int Main(int argc, char** argv) {
  std::vector<std::pair<uint64_t, uint64_t>> shapes;
  for (int i = 1; i + 1 < argc; i += 2) {
    shapes.emplace_back(std::strtoull(argv[i], nullptr, 10),
                        std::strtoull(argv[i + 1], nullptr, 10));
  }
  if (shapes.empty()) shapes = {{1024, 2816}, {2816, 1024}, {4096, 4096}};
  const AmxSupport& amx = DetectAmx();
  if (!amx.bf16) fmt::print("no AMX: {}\n", amx.why_not);
  if (amx.bf16) BenchPieces(1024, 2816, TileRate<TileFormat::kBf16>());
  for (const auto& [k, n] : shapes) {
    if (amx.f16) Run("amx-f16", 2048, k, n);
    if (amx.bf16) Run("amx-bf16", 2048, k, n);
  }
  for (const uint64_t head_dim : {64U, 128U}) {
    for (const Dtype dtype : {Dtype::kBF16, Dtype::kF32}) {
      if (amx.bf16) BenchAttention("amx-bf16", head_dim, dtype);
      BenchAttention(SimdLevels().front(), head_dim, dtype);
    }
  }
  return 0;
}

}  // namespace
}  // namespace ram

int main(int argc, char** argv) { return ram::Main(argc, argv); }
