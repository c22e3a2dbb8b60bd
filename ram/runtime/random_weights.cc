#include "ram/runtime/random_weights.h"

#include <algorithm>
#include <utility>

#include "ram/base/half.h"

namespace ram {
namespace {

constexpr float kLargest = 0.035F;  // Uniform: the deviation is 0.02.
constexpr uint64_t kAlignment = 64;
constexpr uint64_t kTaskBytes = uint64_t{1} << 20;

// splitmix64: the number of a place.
uint64_t Mix(uint64_t place) {
  uint64_t z = (place + 1) * 0x9E3779B97F4A7C15U;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31);
}

uint16_t Stored16(float value, Dtype dtype) {
  return dtype == Dtype::kBF16 ? Bf16FromFloat(value) : F16FromFloat(value);
}

// `bytes` bytes of 16-bit values, uniform in +-kLargest (two BF16 are an F32 of that size too); of
// random bits if `codes`.
void FillPart(uint8_t* out, uint64_t bytes, uint64_t seed, bool codes, Dtype dtype) {
  for (uint64_t i = 0; i < bytes; i += 8) {
    uint64_t word = Mix(seed + i);
    if (!codes) {
      uint64_t values = 0;
      for (int k = 0; k < 64; k += 16) {
        const auto unit = static_cast<float>((word >> k) & 0xFFFF) / 32768.0F - 1;
        values |= static_cast<uint64_t>(Stored16(unit * kLargest, dtype)) << k;
      }
      word = values;
    }
    for (uint64_t k = 0; k < std::min<uint64_t>(8, bytes - i); ++k) {
      out[i + k] = static_cast<uint8_t>(word >> (8 * k));
    }
  }
}

void FillValues16(uint8_t* out, uint64_t bytes, float value, Dtype dtype) {
  const uint16_t stored = Stored16(value, dtype);
  for (uint64_t i = 0; i + 1 < bytes; i += 2) {
    out[i] = static_cast<uint8_t>(stored & 0xFF);
    out[i + 1] = static_cast<uint8_t>(stored >> 8);
  }
}

}  // namespace

void FillRandom(const Matrix& matrix, ThreadPool* pool) {
  const auto writable = [](const uint8_t* bytes) { return const_cast<uint8_t*>(bytes); };
  const uint64_t rows = matrix.count * matrix.rows;
  const uint64_t value_bytes = rows * matrix.row_bytes();
  const bool codes = matrix.form != Matrix::Form::kDense;
  const auto fill = [&](size_t task, size_t) {
    const uint64_t first = task * kTaskBytes;
    FillPart(writable(matrix.values) + first, std::min(kTaskBytes, value_bytes - first), first,
             codes, matrix.dtype == Dtype::kF16 ? Dtype::kF16 : Dtype::kBF16);
  };
  const uint64_t tasks = (value_bytes + kTaskBytes - 1) / kTaskBytes;
  if (pool != nullptr) pool->ParallelFor(tasks, fill);
  for (uint64_t task = 0; pool == nullptr && task < tasks; ++task) fill(task, 0);
  const uint64_t scale_bytes = rows * matrix.scale_row_bytes();
  if (matrix.form == Matrix::Form::kMxfp4) {
    constexpr uint8_t kScale = 120;  // 2^-7.
    std::fill_n(writable(matrix.scales), scale_bytes, kScale);
  } else if (matrix.form == Matrix::Form::kAffine) {
    RAM_CHECK(matrix.dtype != Dtype::kF32);
    const auto levels = static_cast<float>((1 << matrix.bits) - 1);
    FillValues16(writable(matrix.scales), scale_bytes, 2 * kLargest / levels, matrix.dtype);
    FillValues16(writable(matrix.biases), scale_bytes, -kLargest, matrix.dtype);
  }
}

RandomWeights::RandomWeights(Catalog catalog, const Choice& choice)
    : catalog_(std::move(catalog)), choice_(choice) {
  if (catalog_.dtype != Dtype::kF16) catalog_.dtype = Dtype::kBF16;
}

std::string RandomWeights::description() const {
  return "random, " + (choice_.mode == Mode::kDense ? std::string(DtypeName(catalog_.dtype))
                                                    : ChoiceName(choice_));
}

std::vector<RandomWeights::Place> RandomWeights::Places(int layer, uint64_t* bytes) const {
  std::vector<Place> places;
  *bytes = 0;
  const auto take = [&](uint64_t size) {
    return std::exchange(*bytes, *bytes + (size + kAlignment - 1) / kAlignment * kAlignment);
  };
  for (const CatalogTensor& tensor : catalog_.tensors) {
    if (tensor.layer != layer || !IsMatrix(tensor.kind)) continue;
    Place place = {.name = NameBelowLayer(tensor), .matrix = {}};
    Matrix& matrix = place.matrix;
    matrix.dtype = catalog_.dtype;
    matrix.count = std::max<uint64_t>(1, tensor.views.size());
    matrix.rows = tensor.rows;
    matrix.cols = tensor.cols;
    const bool packs = IsQuantizable(tensor.kind) && tensor.kind != TensorKind::kRouter &&
                       IsLegal(choice_, tensor.cols);
    if (packs && choice_.mode == Mode::kMxfp4) matrix.form = Matrix::Form::kMxfp4;
    if (packs && choice_.mode == Mode::kAffine) {
      matrix.form = Matrix::Form::kAffine;
      matrix.bits = choice_.bits;
      matrix.group_size = choice_.group_size;
    }
    const uint64_t rows = matrix.count * matrix.rows;
    place.values = take(rows * matrix.row_bytes());
    place.scales = take(rows * matrix.scale_row_bytes());
    place.biases = take(rows * matrix.scale_row_bytes());
    places.push_back(std::move(place));
  }
  return places;
}

uint64_t RandomWeights::LoadedBytes(int layer) const {
  uint64_t bytes = 0;
  Places(layer, &bytes);
  return AlignedMemory::SizeFor(bytes);
}

Result<LoadedWeights> RandomWeights::Load(int layer, ThreadPool* pool) const {
  uint64_t bytes = 0;
  const std::vector<Place> places = Places(layer, &bytes);
  LoadedWeights loaded;
  RAM_ASSIGN_OR_RETURN(loaded.memory_, AlignedMemory::Allocate(bytes));
  uint8_t* const memory = loaded.memory_.data();
  for (const CatalogTensor& tensor : catalog_.tensors) {
    if (tensor.layer != layer || IsMatrix(tensor.kind)) continue;
    loaded.vectors_[NameBelowLayer(tensor)].assign(tensor.cols * tensor.rows, 1.0F);
  }
  for (const Place& place : places) {
    Matrix matrix = place.matrix;
    matrix.values = memory + place.values;
    if (matrix.form != Matrix::Form::kDense) matrix.scales = memory + place.scales;
    if (matrix.form == Matrix::Form::kAffine) matrix.biases = memory + place.biases;
    FillRandom(matrix, pool);
    loaded.matrices_[place.name] = matrix;
  }
  return loaded;
}

}  // namespace ram
