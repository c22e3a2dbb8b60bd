#include "ram/runtime/loaded_weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <mutex>
#include <optional>
#include <utility>

#include "ram/family/in_major_rows.h"
#include "ram/family/weights.h"
#include "ram/runtime/finite.h"

namespace ram {
namespace {

constexpr uint64_t kChunkBytes = uint64_t{4} << 20;  // Of values that one task reads.
constexpr uint64_t kAlignment = 64;

uint64_t Aligned(uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

Matrix::Form FormOf(Encoding encoding) {
  switch (encoding) {
    case Encoding::kAffine:
      return Matrix::Form::kAffine;
    case Encoding::kMxfp4:
      return Matrix::Form::kMxfp4;
    default:
      return Matrix::Form::kDense;
  }
}

// A matrix in the memory of its layer.
struct MatrixPlace {
  size_t tensor;  // Index into Catalog::tensors.
  Matrix matrix;  // Pointers not yet set.
  uint64_t values;
  uint64_t scales;  // Offsets [bytes], multiples of 64.
  uint64_t biases;
};

struct LayerPlan {
  std::vector<MatrixPlace> matrices;
  std::vector<size_t> vectors;  // Indices into Catalog::tensors.
  uint64_t matrix_bytes = 0;
  uint64_t vector_bytes = 0;
};

LayerPlan PlanLayer(const Catalog& catalog, int layer) {
  LayerPlan plan;
  const auto take = [&](uint64_t bytes) {
    return std::exchange(plan.matrix_bytes, plan.matrix_bytes + Aligned(bytes));
  };
  for (size_t i = 0; i < catalog.tensors.size(); ++i) {
    const CatalogTensor& tensor = catalog.tensors[i];
    if (tensor.layer != layer) continue;
    if (!IsMatrix(tensor.kind)) {
      plan.vectors.push_back(i);
      plan.vector_bytes += tensor.cols * sizeof(float);
      continue;
    }
    Matrix matrix;
    matrix.form = FormOf(tensor.encoding);
    matrix.dtype = tensor.dtype;
    if (matrix.form != Matrix::Form::kDense) {
      matrix.bits = tensor.packed.bits;
      matrix.group_size = tensor.packed.group_size;
    }
    matrix.count = tensor.views.size();
    matrix.rows = tensor.rows;
    matrix.cols = tensor.cols;
    const uint64_t rows = matrix.count * matrix.rows;
    MatrixPlace place = {i, matrix, take(rows * matrix.row_bytes()), 0, 0};
    place.scales = take(rows * matrix.scale_row_bytes());
    if (matrix.form == Matrix::Form::kAffine) place.biases = take(rows * matrix.scale_row_bytes());
    plan.matrices.push_back(place);
  }
  return plan;
}

// Rows that one task reads.
uint64_t RowsAtOnce(const CatalogTensor& tensor, const Matrix& matrix) {
  constexpr uint64_t kInMajorRows = 512;  // Their reads are as many words long.
  const uint64_t rows = std::max<uint64_t>(1, kChunkBytes / matrix.row_bytes());
  return IsInMajor(tensor.encoding) ? std::max(rows, kInMajorRows) : rows;
}

// "3, 5" or, in a stack, "2, 3, 5".
std::string IndexText(const CatalogTensor& tensor, size_t view, uint64_t row, uint64_t col) {
  return tensor.views.size() == 1 && tensor.kind != TensorKind::kSwitch &&
                 tensor.kind != TensorKind::kMulti
             ? fmt::format("[{}, {}]", row, col)
             : fmt::format("[{}, {}, {}]", view, row, col);
}

// Some rows of one matrix, or one whole vector.
struct Task {
  size_t tensor;
  const Matrix* matrix = nullptr;        // Either this ...
  std::vector<float>* vector = nullptr;  // ... or this is where the weights go.
  size_t view = 0;
  uint64_t first_row = 0;
  uint64_t num_rows = 0;
};

// Runs all tasks; the error of the first one that fails.
Status RunTasks(size_t num_tasks, ThreadPool* pool, const std::function<Status(size_t)>& run) {
  if (pool == nullptr) {
    for (size_t i = 0; i < num_tasks; ++i) RAM_RETURN_IF_ERROR(run(i));
    return Done{};
  }
  std::mutex mutex;
  size_t first_failed = num_tasks;  // Tasks behind it need not run.
  std::optional<Error> error;
  pool->ParallelFor(num_tasks, [&](size_t index, size_t) {
    {
      const std::lock_guard lock(mutex);
      if (index > first_failed) return;
    }
    Status status = run(index);
    if (status) return;
    const std::lock_guard lock(mutex);
    if (index > first_failed) return;
    first_failed = index;
    error = std::move(status).error();
  });
  if (error) return *std::move(error);
  return Done{};
}

// What the matrices of a catalog are stored as, by weight: "bf16", "affine 4,64 8,64 + bf16".
std::string DescribeForms(const Catalog& catalog) {
  std::map<std::string, std::map<std::string, uint64_t>> methods;  // Method, form, weights.
  for (const CatalogTensor& tensor : catalog.tensors) {
    if (!IsMatrix(tensor.kind)) continue;
    const std::string form = fmt::format("{},{}", tensor.packed.bits, tensor.packed.group_size);
    const uint64_t weights = tensor.num_weights();
    switch (tensor.encoding) {
      case Encoding::kPlain: {
        std::string dtype(DtypeName(tensor.dtype));
        std::ranges::transform(dtype, dtype.begin(),
                               [](char c) { return static_cast<char>(c | 0x20); });
        methods[dtype][""] += weights;
        break;
      }
      case Encoding::kFp8Block:
        methods["fp8"][""] += weights;
        break;
      case Encoding::kMxfp4:
        methods["mxfp4"][""] += weights;
        break;
      case Encoding::kAffine:
        methods["affine"][form] += weights;
        break;
      case Encoding::kGptqLessOne:
      case Encoding::kGptq:
      case Encoding::kGptqSymmetric:
        methods["gptq"][form] += weights;
        break;
      case Encoding::kAwq:
        methods["awq"][form] += weights;
        break;
    }
  }
  const auto by_weight = [](auto& parts) {
    std::ranges::stable_sort(parts, std::greater<>(), [](const auto& part) { return part.second; });
  };
  std::vector<std::pair<std::string, uint64_t>> texts;
  for (const auto& [method, forms] : methods) {
    std::vector<std::pair<std::string, uint64_t>> sorted(forms.begin(), forms.end());
    by_weight(sorted);
    std::string text = method;
    uint64_t weights = 0;
    for (const auto& [form, count] : sorted) {
      if (!form.empty()) text += " " + form;
      weights += count;
    }
    texts.emplace_back(std::move(text), weights);
  }
  by_weight(texts);
  std::string description;
  for (const auto& [text, weights] : texts) {
    description += (description.empty() ? "" : " + ") + text;
  }
  return description;
}

}  // namespace

std::string NameBelowLayer(const CatalogTensor& tensor) {
  const std::string module = tensor.module();
  if (tensor.layer < 0) return module.substr(module.rfind('.') + 1);
  const std::string layer = fmt::format("layers.{}.", tensor.layer);
  const size_t at = module.find(layer);
  RAM_CHECK(at != std::string::npos);
  return module.substr(at + layer.size());
}

class WeightLoader final : public WeightSource {
 public:
  WeightLoader(const Checkpoint& checkpoint, Catalog catalog, Numerics numerics)
      : checkpoint_(checkpoint),
        catalog_(std::move(catalog)),
        numerics_(numerics),
        description_(DescribeForms(catalog_)) {
    for (int layer = -1; layer < catalog_.num_layers; ++layer) {
      plans_.push_back(PlanLayer(catalog_, layer));
    }
  }

  const Catalog& catalog() const override { return catalog_; }
  std::string description() const override { return description_; }

  uint64_t LoadedBytes(int layer) const override {
    const LayerPlan& plan = PlanOf(layer);
    return AlignedMemory::SizeFor(plan.matrix_bytes) + plan.vector_bytes;
  }

  Result<LoadedWeights> Load(int layer, ThreadPool* pool) const override {
    const LayerPlan& plan = PlanOf(layer);
    LoadedWeights loaded;
    RAM_ASSIGN_OR_RETURN(loaded.memory_, AlignedMemory::Allocate(plan.matrix_bytes));
    std::vector<Task> tasks;
    for (const size_t tensor : plan.vectors) {
      std::vector<float>& vector = loaded.vectors_[NameBelowLayer(catalog_.tensors[tensor])];
      vector.resize(catalog_.tensors[tensor].cols);
      tasks.push_back({.tensor = tensor, .vector = &vector});
    }
    for (const MatrixPlace& place : plan.matrices) {
      Matrix& matrix = loaded.matrices_[NameBelowLayer(catalog_.tensors[place.tensor])];
      matrix = place.matrix;
      matrix.values = loaded.memory_.data() + place.values;
      if (matrix.form != Matrix::Form::kDense) {
        matrix.scales = loaded.memory_.data() + place.scales;
      }
      if (matrix.form == Matrix::Form::kAffine) {
        matrix.biases = loaded.memory_.data() + place.biases;
      }
      const uint64_t step = RowsAtOnce(catalog_.tensors[place.tensor], matrix);
      for (size_t view = 0; view < matrix.count; ++view) {
        for (uint64_t row = 0; row < matrix.rows; row += step) {
          tasks.push_back({.tensor = place.tensor,
                           .matrix = &matrix,
                           .view = view,
                           .first_row = row,
                           .num_rows = std::min(step, matrix.rows - row)});
        }
      }
    }
    uint8_t* const memory = loaded.memory_.data();
    RAM_RETURN_IF_ERROR(RunTasks(tasks.size(), pool, [&](size_t index) {
      const Task& task = tasks[index];
      return task.vector != nullptr ? ReadVector(task) : ReadMatrix(task, memory);
    }));
    return loaded;
  }

 private:
  const LayerPlan& PlanOf(int layer) const {
    RAM_CHECK(layer >= -1 && layer < catalog_.num_layers);
    return plans_[static_cast<size_t>(layer + 1)];
  }

  // `values` are those of `task`, `per_row` of them in a row.
  Status CheckFinite(const Task& task, std::string_view what, std::span<const uint8_t> values,
                     Dtype dtype, uint64_t per_row) const {
    const std::optional<uint64_t> index = FindNotFinite(values, dtype);
    if (!index) return Done{};
    const CatalogTensor& tensor = catalog_.tensors[task.tensor];
    return Error{ErrorCode::kCorrupt,
                 fmt::format("{}: tensor {}: the {} at {} is NaN or infinite",
                             checkpoint_.directory().string(), tensor.name, what,
                             IndexText(tensor, task.view, task.first_row + *index / per_row,
                                       *index % per_row))};
  }

  Status ReadVector(const Task& task) const {
    CatalogTensor tensor = catalog_.tensors[task.tensor];
    const bool adds_one_here = tensor.add_one && numerics_ == Numerics::kHf;
    if (adds_one_here) tensor.add_one = false;
    std::vector<float>& vector = *task.vector;
    const std::span<uint8_t> bytes(reinterpret_cast<uint8_t*>(vector.data()),
                                   vector.size() * sizeof(float));
    RAM_RETURN_IF_ERROR(ReadRows(checkpoint_, tensor, /*view=*/0, 0, 1, bytes));
    if (adds_one_here) {
      for (float& value : vector) value += 1.0F;
    }
    return CheckFinite(task, "value", bytes, Dtype::kF32, vector.size());
  }

  Status ReadMatrix(const Task& task, uint8_t* memory) const {
    const CatalogTensor& tensor = catalog_.tensors[task.tensor];
    const Matrix& matrix = *task.matrix;
    const uint64_t row = task.view * matrix.rows + task.first_row;
    // The place of these rows in a part of the matrix, writable.
    const auto rows_of = [&](const uint8_t* part, uint64_t row_bytes) {
      return std::span(memory + (part - memory) + row * row_bytes, task.num_rows * row_bytes);
    };
    const std::span<uint8_t> values = rows_of(matrix.values, matrix.row_bytes());
    if (matrix.form == Matrix::Form::kDense) {
      RAM_RETURN_IF_ERROR(
          ReadRows(checkpoint_, tensor, task.view, task.first_row, task.num_rows, values));
      return CheckFinite(task, "weight", values, matrix.dtype, matrix.cols);
    }
    const std::span<uint8_t> scales = rows_of(matrix.scales, matrix.scale_row_bytes());
    if (matrix.form == Matrix::Form::kMxfp4) {
      RAM_RETURN_IF_ERROR(ReadMxfp4Rows(checkpoint_, tensor, task.view, task.first_row,
                                        task.num_rows, values, scales));
      return CheckFinite(task, "scale", scales, Dtype::kU8, matrix.cols / 32);
    }
    const std::span<uint8_t> biases = rows_of(matrix.biases, matrix.scale_row_bytes());
    RAM_RETURN_IF_ERROR(ReadAffineRows(checkpoint_, tensor, task.view, task.first_row,
                                       task.num_rows, {values, scales, biases}));
    const uint64_t groups = matrix.cols / static_cast<uint64_t>(matrix.group_size);
    RAM_RETURN_IF_ERROR(CheckFinite(task, "scale", scales, matrix.dtype, groups));
    return CheckFinite(task, "bias", biases, matrix.dtype, groups);
  }

  const Checkpoint& checkpoint_;
  Catalog catalog_;
  Numerics numerics_;
  std::string description_;
  std::vector<LayerPlan> plans_;  // plans_[layer + 1]
};

const Matrix* LoadedWeights::matrix(std::string_view name) const {
  const auto found = matrices_.find(name);
  return found == matrices_.end() ? nullptr : &found->second;
}

std::span<const float> LoadedWeights::vector(std::string_view name) const {
  const auto found = vectors_.find(name);
  return found == vectors_.end() ? std::span<const float>() : std::span(found->second);
}

uint64_t LoadedWeights::bytes() const {
  uint64_t bytes = memory_.size();
  for (const auto& [name, vector] : vectors_) bytes += vector.size() * sizeof(float);
  return bytes;
}

Result<std::unique_ptr<WeightSource>> WeightSource::Open(const Checkpoint& checkpoint,
                                                         Numerics numerics) {
  RAM_ASSIGN_OR_RETURN(Catalog catalog, BindRunnable(checkpoint));
  for (CatalogTensor& tensor : catalog.tensors) {
    // mlx-lm rounds what it decodes; transformers multiplies in F32 and leaves it there.
    if (tensor.encoding == Encoding::kFp8Block && numerics == Numerics::kMlx) {
      tensor.dtype = Dtype::kBF16;
    }
  }
  std::unique_ptr<WeightSource> source =
      std::make_unique<WeightLoader>(checkpoint, std::move(catalog), numerics);
  return source;
}

}  // namespace ram
