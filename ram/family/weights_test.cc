// Reading of views and encodings against a reader that does one element at a time.

#include "ram/family/weights.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "ram/base/half.h"
#include "ram/family/fixtures.h"

namespace ram {
namespace {

template <typename T>
std::vector<uint8_t> BytesOf(const std::vector<T>& values) {
  std::vector<uint8_t> bytes(values.size() * sizeof(T));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

template <typename T>
std::vector<T> ValuesOf(const std::vector<uint8_t>& bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

// A checkpoint of these tensors that no family fits; only reading is tested.
class FileOfTensors {
 public:
  explicit FileOfTensors(const std::vector<TensorWithBytes>& tensors)
      : directory_("weights"), checkpoint_(Open(tensors)) {}
  const Checkpoint& checkpoint() const { return checkpoint_; }

 private:
  Checkpoint Open(const std::vector<TensorWithBytes>& tensors) const {
    WriteText(directory_.path() / "config.json", "{}");
    WriteSafetensors(directory_.path() / "model.safetensors", tensors);
    return Must(Checkpoint::Open(directory_.path()));
  }

  TempDirectory directory_;
  Checkpoint checkpoint_;
};

CatalogTensor Matrix(std::string source, uint64_t rows, uint64_t cols, Dtype dtype) {
  CatalogTensor tensor;
  tensor.name = "t";
  tensor.kind = rows == 1 ? TensorKind::kVector : TensorKind::kLinear;
  tensor.shape = {rows, cols};
  tensor.rows = rows;
  tensor.cols = cols;
  tensor.dtype = dtype;
  tensor.views = {{std::move(source), 0, cols, 1}};
  return tensor;
}

std::vector<uint16_t> Iota(size_t count) {
  std::vector<uint16_t> values(count);
  std::iota(values.begin(), values.end(), uint16_t{0});
  return values;
}

// ---- + 1 ----

// Rounds w + 1 to BF16 by the definition: the nearest of all BF16 values, ties to the even one.
uint16_t PlusOneByDefinition(uint16_t bits) {
  const float w = FloatFromBf16(bits);
  if (std::isnan(w) || std::isinf(w)) return Bf16FromFloat(w);
  const double exact = static_cast<double>(w) + 1.0;
  if (exact == 0.0) return 0;
  int exponent = 0;
  std::frexp(exact, &exponent);
  const double unit = std::ldexp(1.0, std::max(exponent - 8, -133));
  return Bf16FromFloat(static_cast<float>(std::nearbyint(exact / unit) * unit));
}

TEST(WeightsTest, PlusOneOfEveryBf16) {
  const std::vector<uint16_t> all = Iota(65536);
  const FileOfTensors file({{{"w", Dtype::kBF16, {65536}}, BytesOf(all)}});
  CatalogTensor tensor = Matrix("w", 1, 65536, Dtype::kBF16);
  tensor.add_one = true;
  const std::vector<uint16_t> got = ValuesOf<uint16_t>(ReadAll(file.checkpoint(), tensor));
  for (size_t i = 0; i < all.size(); ++i) {
    ASSERT_EQ(got[i], PlusOneByDefinition(all[i])) << i;
  }
}

// The sum has the precision of the source, then that of the output: as mlx-lm adds before it casts.
TEST(WeightsTest, PlusOneRoundsInTheSourceFirst) {
  // 1 + w is above the middle of two BF16 values, but its F16 is the middle, which rounds to even.
  const float w = 0x1p-8f + 0x1p-15f;
  const FileOfTensors file({{{"f32", Dtype::kF32, {1}}, BytesOf(std::vector<float>{w})},
                            {{"f16", Dtype::kF16, {1}}, BytesOf(std::vector{F16FromFloat(w)})}});
  CatalogTensor tensor = Matrix("f32", 1, 1, Dtype::kBF16);
  tensor.add_one = true;
  EXPECT_EQ(ValuesOf<uint16_t>(ReadAll(file.checkpoint(), tensor))[0],
            Bf16FromFloat(1.0f + 0x1p-7f));
  tensor.views[0].source = "f16";
  EXPECT_EQ(ValuesOf<uint16_t>(ReadAll(file.checkpoint(), tensor))[0], Bf16FromFloat(1.0f));
}

// ---- Conversions ----

TEST(WeightsTest, EveryHalfToEveryDtype) {
  const std::vector<uint16_t> all = Iota(65536);
  const FileOfTensors file({{{"bf16", Dtype::kBF16, {256, 256}}, BytesOf(all)},
                            {{"f16", Dtype::kF16, {256, 256}}, BytesOf(all)}});
  const auto read = [&](const char* source, Dtype dtype) {
    return ReadAll(file.checkpoint(), Matrix(source, 256, 256, dtype));
  };
  EXPECT_EQ(read("bf16", Dtype::kBF16), BytesOf(all));  // NaNs keep their bits.
  EXPECT_EQ(read("f16", Dtype::kF16), BytesOf(all));
  const auto bf16_to_f16 = ValuesOf<uint16_t>(read("bf16", Dtype::kF16));
  const auto f16_to_bf16 = ValuesOf<uint16_t>(read("f16", Dtype::kBF16));
  const auto bf16_to_f32 = ValuesOf<uint32_t>(read("bf16", Dtype::kF32));
  const auto f16_to_f32 = ValuesOf<uint32_t>(read("f16", Dtype::kF32));
  for (size_t i = 0; i < all.size(); ++i) {
    ASSERT_EQ(bf16_to_f16[i], F16FromFloat(FloatFromBf16(all[i]))) << i;
    ASSERT_EQ(f16_to_bf16[i], Bf16FromFloat(FloatFromF16(all[i]))) << i;
    ASSERT_EQ(bf16_to_f32[i], std::bit_cast<uint32_t>(FloatFromBf16(all[i]))) << i;
    ASSERT_EQ(f16_to_f32[i], std::bit_cast<uint32_t>(FloatFromF16(all[i]))) << i;
  }
}

TEST(WeightsTest, F32RoundsToNearestEven) {
  std::vector<float> values = {0.0f,  -0.0f,    1.0f,      1.00390625f, 1.01171875f,
                               3e38f, 1e-40f,   65504.0f,  65520.0f,    6e-8f,
                               NAN,   INFINITY, -INFINITY, 3.4e38f};
  std::mt19937 random(7);
  while (values.size() < 4096)
    values.push_back(std::bit_cast<float>(static_cast<uint32_t>(random())));
  const FileOfTensors file({{{"w", Dtype::kF32, {4096}}, BytesOf(values)}});
  const auto bf16 =
      ValuesOf<uint16_t>(ReadAll(file.checkpoint(), Matrix("w", 1, 4096, Dtype::kBF16)));
  const auto f16 =
      ValuesOf<uint16_t>(ReadAll(file.checkpoint(), Matrix("w", 1, 4096, Dtype::kF16)));
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(bf16[i], Bf16FromFloat(values[i])) << values[i];
    ASSERT_EQ(f16[i], F16FromFloat(values[i])) << values[i];
  }
  EXPECT_EQ(ReadAll(file.checkpoint(), Matrix("w", 1, 4096, Dtype::kF32)), BytesOf(values));
}

// ---- Views ----

// Every combination of strides that the layouts make, in sizes around the tiles and at odd offsets.
TEST(WeightsTest, StridedViewsEqualOneElementAtATime) {
  const uint64_t total = 3 * 70 * 90;
  const std::vector<uint16_t> values = Iota(total);
  // One odd byte in front: everything that follows is misaligned.
  const FileOfTensors file(
      {{{"odd", Dtype::kU8, {1}}, {0}}, {{"w", Dtype::kBF16, {3, 70, 90}}, BytesOf(values)}});
  struct Case {
    uint64_t rows, cols, base, row_stride, col_stride;
  };
  const std::vector<Case> cases = {
      {70, 90, 0, 90, 1},      // Contiguous.
      {70, 90, 6300, 90, 1},   // The second matrix.
      {35, 90, 90, 180, 1},    // Every second row.
      {10, 90, 0, 630, 1},     // Rows far apart: read one by one.
      {90, 70, 6300, 1, 90},   // Transposed.
      {45, 70, 6301, 2, 90},   // Transposed, every second column.
      {45, 70, 12645, 1, 90},  // Transposed, the right half.
      {1, 70, 5, 0, 90},       // A column.
      {1, 9450, 1, 0, 2},      // Every second element of all.
      {1, 1, 18899, 1, 1},     // The last.
  };
  for (const Case& c : cases) {
    CatalogTensor tensor = Matrix("w", c.rows, c.cols, Dtype::kBF16);
    tensor.views = {{"w", c.base, c.row_stride, c.col_stride}};
    const std::vector<uint16_t> got = ValuesOf<uint16_t>(ReadAll(file.checkpoint(), tensor));
    for (uint64_t row = 0; row < c.rows; ++row) {
      for (uint64_t col = 0; col < c.cols; ++col) {
        ASSERT_EQ(got[row * c.cols + col], values[c.base + row * c.row_stride + col * c.col_stride])
            << c.base << ", " << c.row_stride << ", " << c.col_stride << ": " << row << ", " << col;
      }
    }
  }
}

// Larger than the scratch memory in both directions.
TEST(WeightsTest, LargeTranspose) {
  const uint64_t inputs = 700;
  const uint64_t outputs = 3000;
  std::vector<uint16_t> values(inputs * 2 * outputs);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<uint16_t>(i * 40503u);
  const FileOfTensors file({{{"w", Dtype::kBF16, {inputs, 2 * outputs}}, BytesOf(values)}});
  for (const uint64_t half : {uint64_t{0}, outputs}) {
    CatalogTensor tensor = Matrix("w", outputs, inputs, Dtype::kBF16);
    tensor.views = {{"w", half, 1, 2 * outputs}};
    std::vector<uint16_t> expected(outputs * inputs);
    for (uint64_t row = 0; row < outputs; ++row) {
      for (uint64_t col = 0; col < inputs; ++col) {
        expected[row * inputs + col] = values[half + row + col * 2 * outputs];
      }
    }
    EXPECT_EQ(ReadAll(file.checkpoint(), tensor), BytesOf(expected));
    std::vector<uint8_t> part(100 * inputs * 2);
    Must(ReadRows(file.checkpoint(), tensor, 0, 2900, 100, part));
    EXPECT_EQ(ValuesOf<uint16_t>(part),
              std::vector<uint16_t>(expected.end() - 100 * 700, expected.end()));
  }
}

// A single line longer than the scratch memory.
TEST(WeightsTest, LongLine) {
  const uint64_t count = 1'500'000;
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i);
  const FileOfTensors file({{{"w", Dtype::kF32, {count}}, BytesOf(values)}});
  const auto got =
      ValuesOf<uint16_t>(ReadAll(file.checkpoint(), Matrix("w", 1, count, Dtype::kBF16)));
  for (size_t i = 0; i < count; i += 997) ASSERT_EQ(got[i], Bf16FromFloat(values[i]));
  EXPECT_EQ(got.back(), Bf16FromFloat(values.back()));
}

TEST(WeightsTest, NoRows) {
  const FileOfTensors file({{{"w", Dtype::kBF16, {2, 2}}, std::vector<uint8_t>(8)}});
  Must(ReadRows(file.checkpoint(), Matrix("w", 2, 2, Dtype::kBF16), 0, 2, 0, {}));
}

TEST(WeightsTest, SourceThatIsGone) {
  const FileOfTensors file({{{"w", Dtype::kBF16, {2, 2}}, std::vector<uint8_t>(8)}});
  std::vector<uint8_t> out(8);
  const Status status = ReadRows(file.checkpoint(), Matrix("v", 2, 2, Dtype::kBF16), 0, 0, 2, out);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ErrorCode::kNotFound);
}

// ---- FP8 ----

TensorWithBytes RandomFp8(const std::string& name, const std::vector<uint64_t>& shape,
                          uint32_t seed) {
  std::mt19937 random(seed);
  TensorWithBytes tensor{{name, Dtype::kF8E4M3, shape}, {}};
  uint64_t count = 1;
  for (const uint64_t size : shape) count *= size;
  for (uint64_t i = 0; i < count; ++i) {
    auto code = static_cast<uint8_t>(random());
    if ((code & 0x7F) == 0x7F) code = 0;  // No NaN: its bits are not part of the contract.
    tensor.bytes.push_back(code);
  }
  return tensor;
}

TensorWithBytes RandomScales(const std::string& name, std::vector<uint64_t> shape, Dtype dtype,
                             uint32_t seed) {
  std::mt19937 random(seed);
  for (const size_t back : {size_t{1}, size_t{2}}) {
    shape[shape.size() - back] = (shape[shape.size() - back] + 127) / 128;
  }
  uint64_t count = 1;
  for (const uint64_t size : shape) count *= size;
  std::vector<float> scales;
  std::vector<uint16_t> rounded;
  for (uint64_t i = 0; i < count; ++i) {
    const float scale = 1e-4f * (1.0f + static_cast<float>(random() % 10007) / 1009.0f);
    scales.push_back(scale);
    rounded.push_back(Bf16FromFloat(scale));
  }
  return {{name, dtype, shape}, dtype == Dtype::kF32 ? BytesOf(scales) : BytesOf(rounded)};
}

// Value of one element of an FP8 tensor [..., rows, cols].
uint16_t Fp8At(const TensorWithBytes& weights, const TensorWithBytes& scales, uint64_t element) {
  const uint64_t cols = weights.spec.shape.back();
  const uint64_t rows = weights.spec.shape[weights.spec.shape.size() - 2];
  const uint64_t block_cols = scales.spec.shape.back();
  const uint64_t block_rows = scales.spec.shape[scales.spec.shape.size() - 2];
  const uint64_t col = element % cols;
  const uint64_t row = element / cols % rows;
  const uint64_t matrix = element / cols / rows;
  const uint64_t block = (matrix * block_rows + row / 128) * block_cols + col / 128;
  const float scale = scales.spec.dtype == Dtype::kF32
                          ? ValuesOf<float>(scales.bytes)[block]
                          : FloatFromBf16(ValuesOf<uint16_t>(scales.bytes)[block]);
  return Bf16FromFloat(FloatFromF8E4M3(weights.bytes[element]) * scale);
}

TEST(WeightsTest, Fp8WithPartialBlocks) {
  for (const Dtype scale_dtype : {Dtype::kF32, Dtype::kBF16}) {
    const TensorWithBytes weights = RandomFp8("w", {130, 200}, 1);
    const TensorWithBytes scales = RandomScales("w_scale_inv", {130, 200}, scale_dtype, 2);
    const FileOfTensors file({{{"odd", Dtype::kU8, {1}}, {0}}, scales, weights});
    CatalogTensor tensor = Matrix("w", 130, 200, Dtype::kBF16);
    tensor.encoding = Encoding::kFp8Block;
    tensor.scale_sources = {"w_scale_inv"};
    std::vector<uint16_t> expected;
    for (uint64_t i = 0; i < 130 * 200; ++i) expected.push_back(Fp8At(weights, scales, i));
    EXPECT_EQ(ValuesOf<uint16_t>(ReadAll(file.checkpoint(), tensor)), expected);
    for (uint64_t row = 0; row < 130; row += 13) {  // Also pieces that begin inside a block.
      std::vector<uint8_t> out(13 * 200 * 2);
      Must(ReadRows(file.checkpoint(), tensor, 0, row, 13, out));
      EXPECT_EQ(ValuesOf<uint16_t>(out),
                std::vector<uint16_t>(expected.begin() + static_cast<int64_t>(row * 200),
                                      expected.begin() + static_cast<int64_t>((row + 13) * 200)));
    }
    tensor.dtype = Dtype::kF16;  // By way of BF16, as mlx-lm does.
    EXPECT_EQ(ValuesOf<uint16_t>(ReadAll(file.checkpoint(), tensor))[77],
              F16FromFloat(FloatFromBf16(expected[77])));
  }
}

// A fixture whose matrices became FP8, and the same values in BF16.
void MakeFp8(EditableCheckpoint& fp8, EditableCheckpoint& bf16, Dtype scale_dtype) {
  uint32_t seed = 0;
  for (const auto& [name, tensor] : EditableCheckpoint(fp8).tensors) {
    const std::vector<uint64_t>& shape = tensor.spec.shape;
    const bool is_matrix = shape.size() >= 2 && name.find("conv1d") == std::string::npos &&
                           name.find("embed_tokens") == std::string::npos &&
                           name.find("bias") == std::string::npos;
    if (!is_matrix || tensor.spec.dtype != Dtype::kBF16) continue;
    const TensorWithBytes weights = RandomFp8(name, shape, ++seed);
    const TensorWithBytes scales = RandomScales(name + "_scale_inv", shape, scale_dtype, ++seed);
    std::vector<uint16_t> values;
    for (uint64_t i = 0; i < weights.bytes.size(); ++i) {
      values.push_back(Fp8At(weights, scales, i));
    }
    bf16.Add(name, Dtype::kBF16, shape, BytesOf(values));
    fp8.tensors[name] = weights;
    fp8.tensors[scales.spec.name] = scales;
  }
  fp8.config["quantization_config"] = {{"quant_method", "fp8"}, {"weight_block_size", {128, 128}}};
}

class Fp8FamilyTest : public testing::TestWithParam<std::string> {};

TEST_P(Fp8FamilyTest, EqualsTheSameModelInBf16) {
  EditableCheckpoint fp8 = EditableCheckpoint::Load(GetParam());
  EditableCheckpoint bf16 = fp8;
  MakeFp8(fp8, bf16, GetParam() == "qwen3" ? Dtype::kBF16 : Dtype::kF32);
  const TempDirectory fp8_directory("fp8");
  const TempDirectory bf16_directory("bf16");
  const Checkpoint a = fp8.WriteAndOpen(fp8_directory.path());
  const Checkpoint b = bf16.WriteAndOpen(bf16_directory.path());
  const Catalog catalog_a = Must(BindCatalog(a));
  const Catalog catalog_b = Must(BindCatalog(b));
  ASSERT_EQ(catalog_a.tensors.size(), catalog_b.tensors.size());
  int num_fp8 = 0;
  for (size_t i = 0; i < catalog_a.tensors.size(); ++i) {
    const CatalogTensor& tensor = catalog_a.tensors[i];
    num_fp8 += tensor.encoding == Encoding::kFp8Block ? 1 : 0;
    EXPECT_EQ(ReadAll(a, tensor), ReadAll(b, catalog_b.tensors[i])) << tensor.name;
  }
  EXPECT_GT(num_fp8, 10);
}

// Dense, per expert, with kv_b and with a raw router, fused out-major, fused in-major.
INSTANTIATE_TEST_SUITE_P(Families, Fp8FamilyTest,
                         testing::Values("qwen3", "qwen3_moe", "glm4_moe_lite", "qwen3_5_moe",
                                         "llama4"),
                         [](const auto& instance) { return instance.param; });

}  // namespace
}  // namespace ram
