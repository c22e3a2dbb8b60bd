#include "ram/eval/noisy_weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <numbers>
#include <span>
#include <utility>

#include "ram/base/hash.h"
#include "ram/base/random.h"
#include "ram/runtime/matrix.h"

namespace ram {
namespace {

constexpr uint64_t kAlignment = 64;
constexpr uint64_t kTaskWeights = uint64_t{1} << 16;

uint64_t Aligned(uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// The random numbers of one tensor: element e has word e % 4 of the block e / 4. Elements that are
// asked for in ascending order take one block for four.
class ElementRandom {
 public:
  ElementRandom(uint64_t seed, uint64_t tensor) : seed_(seed), tensor_(tensor) {}

  // In (0, 1).
  double Uniform(uint64_t element) { return (Word(element) + 0.5) * 0x1p-32; }
  // In [0, bound).
  uint64_t Below(uint64_t element, uint64_t bound) { return uint64_t{Word(element)} * bound >> 32; }
  // Standard normal: words 0 and 1 of a block give elements 0 and 1, words 2 and 3 the other two
  // (Box and Muller 1958).
  double Normal(uint64_t element) {
    const uint64_t even = element % 4 / 2 * 2;
    Word(element);
    const double radius = std::sqrt(-2 * std::log((words_[even] + 0.5) * 0x1p-32));
    const double angle = 2 * std::numbers::pi * ((words_[even + 1] + 0.5) * 0x1p-32);
    return radius * (element % 2 == 0 ? std::cos(angle) : std::sin(angle));
  }

 private:
  uint32_t Word(uint64_t element) {
    const uint64_t block = element / 4;
    if (block != block_) {
      words_ = Philox({static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
                       static_cast<uint32_t>(tensor_), static_cast<uint32_t>(tensor_ >> 32)},
                      {static_cast<uint32_t>(seed_), static_cast<uint32_t>(seed_ >> 32)});
      block_ = block;
    }
    return words_[element % 4];
  }

  uint64_t seed_;
  uint64_t tensor_;
  uint64_t block_ = ~uint64_t{0};
  std::array<uint32_t, 4> words_ = {};
};

uint64_t HashName(std::string_view name) {
  ContentHasher hasher;
  hasher.Add(name);
  const ContentHash hash = hasher.Finish();
  uint64_t key = 0;
  std::memcpy(&key, hash.data(), sizeof key);
  return key;
}

// Weights that share a scale in `tensor`; 0 if it is not quantized. Columns of GPTQ with reordered
// groups are taken in runs of a group's size.
uint64_t GroupSize(const CatalogTensor& tensor) {
  switch (tensor.encoding) {
    case Encoding::kPlain:
      return 0;
    case Encoding::kMxfp4:
      return 32;
    case Encoding::kFp8Block:
      return 128;
    default:
      return tensor.packed.group_size > 0 ? static_cast<uint64_t>(tensor.packed.group_size)
                                          : tensor.cols;
  }
}

std::string ShapeText(const CatalogTensor& tensor) {
  return fmt::format("[{}]", fmt::join(tensor.shape, ", "));
}

// The matrices of a catalog by name.
std::map<std::string_view, const CatalogTensor*> MatricesOf(const Catalog& catalog) {
  std::map<std::string_view, const CatalogTensor*> matrices;
  for (const CatalogTensor& tensor : catalog.tensors) {
    if (IsMatrix(tensor.kind)) matrices[tensor.name] = &tensor;
  }
  return matrices;
}

double MeanSquare(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += value * value;
  return sum / static_cast<double>(values.size());
}

// Z of one row into `out`, from its errors. `first`: number of the row's first element in the
// tensor. `sigma` is that of kGaussian.
void MakeRowNoise(const Noise& noise, std::span<const double> errors, uint64_t group_size,
                  uint64_t first, double sigma, ElementRandom* random, std::span<double> out) {
  switch (noise.kind) {
    case Noise::Kind::kAntithetic:
      for (size_t i = 0; i < out.size(); ++i) out[i] = -errors[i];
      return;
    case Noise::Kind::kGaussian:
      for (size_t i = 0; i < out.size(); ++i) out[i] = sigma * random->Normal(first + i);
      return;
    case Noise::Kind::kPermuted:
      std::ranges::copy(errors, out.begin());
      for (size_t begin = 0; begin < out.size(); begin += group_size) {
        const size_t end = std::min<size_t>(out.size(), begin + group_size);
        for (size_t i = begin + 1; i < end; ++i) {  // Fisher and Yates.
          std::swap(out[i], out[begin + random->Below(first + i, i - begin + 1)]);
        }
      }
      return;
    case Noise::Kind::kGroupGaussian:
    case Noise::Kind::kUniform:
      for (size_t begin = 0; begin < out.size(); begin += group_size) {
        const size_t end = std::min<size_t>(out.size(), begin + group_size);
        const double group = std::sqrt(MeanSquare(errors.subspan(begin, end - begin)));
        for (size_t i = begin; i < end; ++i) {
          out[i] = noise.kind == Noise::Kind::kUniform
                       ? group * std::sqrt(12.0) * (random->Uniform(first + i) - 0.5)
                       : group * random->Normal(first + i);
        }
      }
      return;
  }
}

// Rows of one stack that one task works on, of one matrix.
struct RowTask {
  uint64_t view;
  uint64_t first_row;
  uint64_t num_rows;
};

std::vector<RowTask> TasksOf(const Matrix& matrix) {
  const uint64_t step = std::max<uint64_t>(1, kTaskWeights / matrix.cols);
  std::vector<RowTask> tasks;
  for (uint64_t view = 0; view < matrix.count; ++view) {
    for (uint64_t row = 0; row < matrix.rows; row += step) {
      tasks.push_back({view, row, std::min(step, matrix.rows - row)});
    }
  }
  return tasks;
}

void ForEach(size_t num_tasks, ThreadPool* pool, const std::function<void(size_t)>& body) {
  if (pool == nullptr) {
    for (size_t i = 0; i < num_tasks; ++i) body(i);
  } else {
    pool->ParallelFor(num_tasks, [&](size_t task, size_t) { body(task); });
  }
}

// One row after the other of a task: its weights, and the errors of the compressed model.
template <typename Body>  // void(row in the stack, weights, errors)
void ForEachRow(const Matrix& original, const Matrix& compressed, const RowTask& task,
                const Body& body) {
  const Matrix from = original.at(task.view);
  const Matrix to = compressed.at(task.view);
  std::vector<float> weights(from.cols);
  std::vector<float> decoded(from.cols);
  std::vector<double> errors(from.cols);
  for (uint64_t r = task.first_row; r < task.first_row + task.num_rows; ++r) {
    DecodeRows(from, r, 1, weights.data());
    DecodeRows(to, r, 1, decoded.data());
    for (size_t i = 0; i < errors.size(); ++i) {
      errors[i] = static_cast<double>(decoded[i]) - static_cast<double>(weights[i]);
    }
    body(task.view * from.rows + r, weights, errors);
  }
}

// sigma of every matrix of a stack. Sums go row by row, then over rows in order.
std::vector<double> MatrixSigmas(const Matrix& original, const Matrix& compressed, bool per_tensor,
                                 ThreadPool* pool) {
  std::vector<double> squares(original.count * original.rows);
  const std::vector<RowTask> tasks = TasksOf(original);
  ForEach(tasks.size(), pool, [&](size_t index) {
    ForEachRow(original, compressed, tasks[index],
               [&](uint64_t row, const std::vector<float>&, const std::vector<double>& errors) {
                 squares[row] = MeanSquare(errors);
               });
  });
  std::vector<double> means(original.count);
  for (uint64_t view = 0; view < original.count; ++view) {
    for (uint64_t r = 0; r < original.rows; ++r) means[view] += squares[view * original.rows + r];
    means[view] /= static_cast<double>(original.rows);
  }
  if (per_tensor) {
    double mean = 0;
    for (const double one : means) mean += one;
    std::ranges::fill(means, mean / static_cast<double>(means.size()));
  }
  for (double& mean : means) mean = std::sqrt(mean);
  return means;
}

// Writes W + dose * Z, `out` [count, rows, cols].
NoiseLevel AddNoise(const CatalogTensor& tensor, const Noise& noise, uint64_t group_size,
                    const Matrix& original, const Matrix& compressed, ThreadPool* pool,
                    float* out) {
  std::vector<double> sigmas(original.count);
  if (noise.kind == Noise::Kind::kGaussian) {
    sigmas = MatrixSigmas(original, compressed, noise.per_tensor, pool);
  }
  const uint64_t key = HashName(tensor.name);
  std::vector<NoiseLevel> row_levels(original.count * original.rows);
  const std::vector<RowTask> tasks = TasksOf(original);
  ForEach(tasks.size(), pool, [&](size_t index) {
    ElementRandom random(noise.seed, key);
    std::vector<double> z(original.cols);
    ForEachRow(
        original, compressed, tasks[index],
        [&](uint64_t row, const std::vector<float>& weights, const std::vector<double>& errors) {
          const uint64_t first = row * original.cols;
          MakeRowNoise(noise, errors, group_size, first, sigmas[tasks[index].view], &random, z);
          NoiseLevel& level = row_levels[row];
          for (size_t i = 0; i < z.size(); ++i) {
            const double weight = weights[i];
            const auto changed = static_cast<float>(weight + noise.dose * z[i]);
            out[first + i] = changed;
            level.signal += weight * weight;
            level.target += noise.dose * noise.dose * errors[i] * errors[i];
            level.noise += (changed - weight) * (changed - weight);
          }
        });
  });
  NoiseLevel level{.tensor = tensor.name};
  for (const NoiseLevel& row : row_levels) {
    level.signal += row.signal;
    level.target += row.target;
    level.noise += row.noise;
  }
  return level;
}

double Decibels(double signal, double noise) { return 10 * std::log10(signal / noise); }

}  // namespace

std::string_view NoiseKindName(Noise::Kind kind) {
  constexpr std::array<std::string_view, 5> kNames = {"gaussian", "group", "permuted", "uniform",
                                                      "antithetic"};
  return kNames[static_cast<size_t>(kind)];
}

NoiseSnr SummarizeLevels(const std::vector<NoiseLevel>& levels) {
  RAM_CHECK(!levels.empty());
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  NoiseSnr snr;
  NoiseLevel all;
  size_t count = 0;
  for (SnrSummary* summary : {&snr.target, &snr.realised}) {
    *summary = {.mean = 0, .min = kInfinity, .max = -kInfinity, .pooled = 0};
  }
  const auto add = [](double db, SnrSummary* summary) {
    summary->mean += db;
    summary->min = std::min(summary->min, db);
    summary->max = std::max(summary->max, db);
  };
  for (const NoiseLevel& level : levels) {
    all.signal += level.signal;
    all.target += level.target;
    all.noise += level.noise;
    if (level.target == 0 || level.signal == 0) continue;
    ++count;
    const double target = Decibels(level.signal, level.target);
    const double realised = Decibels(level.signal, level.noise);
    add(target, &snr.target);
    add(realised, &snr.realised);
    snr.largest_difference = std::max(snr.largest_difference, std::abs(realised - target));
  }
  snr.target.mean = count == 0 ? kInfinity : snr.target.mean / static_cast<double>(count);
  snr.realised.mean = count == 0 ? kInfinity : snr.realised.mean / static_cast<double>(count);
  snr.target.pooled = Decibels(all.signal, all.target);
  snr.realised.pooled = Decibels(all.signal, all.noise);
  return snr;
}

Result<std::unique_ptr<NoisyWeights>> NoisyWeights::Make(const WeightSource& original,
                                                         const WeightSource& compressed,
                                                         const Noise& noise) {
  std::unique_ptr<NoisyWeights> made(new NoisyWeights(original, compressed, noise));
  made->catalog_ = original.catalog();
  std::map<std::string_view, const CatalogTensor*> others = MatricesOf(compressed.catalog());
  made->layers_.resize(static_cast<size_t>(made->catalog_.num_layers) + 1);
  bool any = false;
  for (size_t i = 0; i < made->catalog_.tensors.size(); ++i) {
    CatalogTensor& tensor = made->catalog_.tensors[i];
    if (!IsMatrix(tensor.kind)) continue;
    const auto found = others.find(tensor.name);
    if (found == others.end() || found->second->shape != tensor.shape) {
      return Error{ErrorCode::kInvalidArgument,
                   fmt::format("the models do not match: {} is {} in the original, {} in the "
                               "compressed model",
                               tensor.name, ShapeText(tensor),
                               found == others.end() ? "missing" : ShapeText(*found->second))};
    }
    const uint64_t group_size = GroupSize(*found->second);
    others.erase(found);
    const bool noisy = group_size != 0;
    any = any || noisy;
    if (noisy) {
      tensor.encoding = Encoding::kPlain;
      tensor.dtype = Dtype::kF32;
    }
    made->layers_[static_cast<size_t>(tensor.layer + 1)].push_back(
        {i, NameBelowLayer(tensor), noisy, group_size});
  }
  if (!others.empty()) {
    return Error{ErrorCode::kInvalidArgument,
                 fmt::format("the models do not match: the original has no {}, which is {} in the "
                             "compressed model",
                             others.begin()->first, ShapeText(*others.begin()->second))};
  }
  if (!any) {
    return Error{ErrorCode::kInvalidArgument,
                 "no module of the compressed model is quantized: there is no error whose size "
                 "noise could have"};
  }
  return made;
}

std::string NoisyWeights::description() const {
  return fmt::format("{} with {} noise of dose {}, seed {}", original_.description(),
                     NoiseKindName(noise_.kind), noise_.dose, noise_.seed);
}

uint64_t NoisyWeights::LoadedBytes(int layer) const {
  uint64_t bytes = 0;
  for (const Place& place : layers_[static_cast<size_t>(layer + 1)]) {
    if (place.noisy) bytes += Aligned(catalog_.tensors[place.tensor].num_weights() * sizeof(float));
  }
  // What is not noisy is copied: original_.LoadedBytes is more than that.
  return AlignedMemory::SizeFor(bytes + original_.LoadedBytes(layer)) +
         original_.LoadedBytes(layer) + compressed_.LoadedBytes(layer);
}

Result<LoadedWeights> NoisyWeights::Load(int layer, ThreadPool* pool) const {
  return LoadLayer(layer, pool, nullptr);
}

Result<LoadedWeights> NoisyWeights::LoadLayer(int layer, ThreadPool* pool,
                                              std::vector<NoiseLevel>* levels) const {
  RAM_ASSIGN_OR_RETURN(LoadedWeights original, original_.Load(layer, pool));
  const std::vector<Place>& places = layers_[static_cast<size_t>(layer + 1)];
  if (std::ranges::none_of(places, &Place::noisy)) return original;
  RAM_ASSIGN_OR_RETURN(const LoadedWeights compressed, compressed_.Load(layer, pool));

  const auto part_bytes = [](const Matrix& matrix) {  // Values, scales, biases.
    const uint64_t rows = matrix.count * matrix.rows;
    return std::array{matrix.values == nullptr ? 0 : rows * matrix.row_bytes(),
                      matrix.scales == nullptr ? 0 : rows * matrix.scale_row_bytes(),
                      matrix.biases == nullptr ? 0 : rows * matrix.scale_row_bytes()};
  };
  uint64_t bytes = 0;
  for (const Place& place : places) {
    const Matrix& matrix = *original.matrix(place.name);
    if (place.noisy) {
      bytes += Aligned(matrix.count * matrix.rows * matrix.cols * sizeof(float));
    } else {
      for (const uint64_t part : part_bytes(matrix)) bytes += Aligned(part);
    }
  }
  LoadedWeights loaded;
  loaded.vectors_ = std::move(original.vectors_);
  RAM_ASSIGN_OR_RETURN(loaded.memory_, AlignedMemory::Allocate(bytes));
  uint8_t* at = loaded.memory_.data();
  for (const Place& place : places) {
    const Matrix& from = *original.matrix(place.name);
    Matrix& matrix = loaded.matrices_[place.name];
    if (!place.noisy) {
      matrix = from;
      const std::array sizes = part_bytes(from);
      const std::array parts = {&matrix.values, &matrix.scales, &matrix.biases};
      for (size_t p = 0; p < parts.size(); ++p) {
        if (sizes[p] == 0) continue;
        std::memcpy(at, *parts[p], sizes[p]);
        *parts[p] = std::exchange(at, at + Aligned(sizes[p]));
      }
      continue;
    }
    matrix.form = Matrix::Form::kDense;
    matrix.dtype = Dtype::kF32;
    matrix.count = from.count;
    matrix.rows = from.rows;
    matrix.cols = from.cols;
    auto* const out = reinterpret_cast<float*>(at);
    matrix.values =
        std::exchange(at, at + Aligned(matrix.count * matrix.rows * matrix.cols * sizeof(float)));
    NoiseLevel level = AddNoise(catalog_.tensors[place.tensor], noise_, place.group_size, from,
                                *compressed.matrix(place.name), pool, out);
    if (levels != nullptr) levels->push_back(std::move(level));
  }
  return loaded;
}

Result<std::vector<NoiseLevel>> NoisyWeights::MeasureLevels(ThreadPool* pool) const {
  std::vector<NoiseLevel> levels;
  for (int layer = -1; layer < catalog_.num_layers; ++layer) {
    RAM_RETURN_IF_ERROR(LoadLayer(layer, pool, &levels));
  }
  return levels;
}

}  // namespace ram
