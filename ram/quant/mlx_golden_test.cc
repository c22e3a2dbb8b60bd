// The bytes that mx.quantize wrote on the CPU, for 18 choices and three dtypes, against ours.
// The files and how they were made: tests/data/mlx-quantize/README.md.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "ram/quant/grid_reference.h"
#include "ram/quant/quantize.h"
#include "ram/quant/simd_targets.h"
// After simd_targets.h.
#include "hwy/targets.h"

namespace ram {
namespace {

// As little of safetensors as these files need: a length, a JSON header, the bytes.
class GoldenFile {
 public:
  explicit GoldenFile(const std::string& name) {
    std::ifstream file(std::string(RAM_TEST_DATA_DIR) + "/mlx-quantize/" + name, std::ios::binary);
    bytes_.assign(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    uint64_t length;
    if (bytes_.size() < sizeof(length)) return;
    std::memcpy(&length, bytes_.data(), sizeof(length));
    header_ = nlohmann::json::parse(bytes_.substr(8, length));
    data_ = bytes_.substr(8 + length);
  }

  bool ok() const { return !header_.is_null(); }

  std::span<const uint8_t> operator[](const std::string& tensor) const {
    const auto& offsets = header_.at(tensor).at("data_offsets");
    const auto begin = offsets.at(0).get<size_t>(), end = offsets.at(1).get<size_t>();
    return {reinterpret_cast<const uint8_t*>(data_.data()) + begin, end - begin};
  }

 private:
  std::string bytes_, data_;
  nlohmann::json header_;
};

struct Source {
  const char* file;
  Dtype dtype;
};

constexpr Source kSources[] = {{"quantize_bf16.safetensors", Dtype::kBF16},
                               {"quantize_f16.safetensors", Dtype::kF16},
                               {"quantize_f32.safetensors", Dtype::kF32}};
constexpr size_t kRows = 64, kCols = 256;

std::string TensorPrefix(const Choice& choice) {
  return std::to_string(choice.bits) + "_" + std::to_string(choice.group_size) + ".";
}

class MlxGoldenTest : public testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override { hwy::SetSupportedTargetsForTest(GetParam()); }
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }
};

TEST_P(MlxGoldenTest, RtnWritesTheSameBytes) {
  for (const auto& [name, dtype] : kSources) {
    const GoldenFile golden(name);
    ASSERT_TRUE(golden.ok()) << name;
    for (const Choice& choice : kAffineChoices) {
      const std::string prefix = TensorPrefix(choice);
      const auto codes = golden[prefix + "weight"];
      const auto scales = golden[prefix + "scales"], biases = golden[prefix + "biases"];
      std::vector<uint8_t> c(codes.size()), s(scales.size()), b(biases.size());
      const auto error = Quantize({golden["w"].data(), dtype, kRows, kCols},
                                  {.choice = choice, .quantizer = Quantizer::kRtn}, {c, s, b});
      ASSERT_TRUE(error.ok()) << error.error().message;
      EXPECT_TRUE(std::ranges::equal(c, codes)) << name << " " << prefix;
      EXPECT_TRUE(std::ranges::equal(s, scales)) << name << " " << prefix;
      EXPECT_TRUE(std::ranges::equal(b, biases)) << name << " " << prefix;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(EveryTarget, MlxGoldenTest,
                         testing::ValuesIn(hwy::SupportedAndGeneratedTargets()),
                         [](const auto& target) { return hwy::TargetName(target.param); });

// mx.dequantize computes in the dtype: both the product and the sum are rounded to it.
TEST(MlxGolden, CodesDecodeToTheSameValues) {
  for (const Source& source : kSources) {
    const char* name = source.file;
    const Dtype dtype = source.dtype;
    const GoldenFile golden(name);
    ASSERT_TRUE(golden.ok()) << name;
    for (const Choice& choice : kAffineChoices) {
      const std::string prefix = TensorPrefix(choice);
      std::vector<uint8_t> codes(kRows * kCols);
      ASSERT_TRUE(UnpackCodes(golden[prefix + "weight"], choice.bits, codes).ok());
      const auto value = [&](const char* tensor, size_t i) {
        const MatrixView view = {golden[prefix + tensor].data(), dtype, 1, 1};
        return reference::LoadWeight(view, i);
      };
      size_t num_different = 0;
      for (size_t i = 0; i < codes.size(); ++i) {
        const size_t group = i / static_cast<size_t>(choice.group_size);
        const float product = static_cast<float>(codes[i]) * value("scales", group);
        const float sum = reference::Stored(product, dtype) + value("biases", group);
        num_different += reference::Stored(sum, dtype) != value("dequantized", i) ? 1 : 0;
      }
      EXPECT_EQ(num_different, 0u) << name << " " << prefix;
    }
  }
}

}  // namespace
}  // namespace ram
