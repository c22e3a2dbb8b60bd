// What the noise is, element by element, against the weights of the two models it comes from.

#include "ram/eval/noisy_weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "ram/family/fixtures.h"
#include "ram/runtime/mlx_folder.h"

namespace ram {
namespace {

constexpr uint64_t kGroupSize = 32;

std::vector<float> Decoded(const Matrix& matrix) {
  std::vector<float> values(matrix.count * matrix.rows * matrix.cols);
  for (uint64_t i = 0; i < matrix.count; ++i) {
    DecodeRows(matrix.at(i), 0, matrix.rows, values.data() + i * matrix.rows * matrix.cols);
  }
  return values;
}

// All matrices of a model, in the order of its catalog.
struct NamedMatrix {
  std::string name;
  uint64_t rows = 0;  // Of one matrix of the stack.
  uint64_t cols = 0;
  std::vector<float> values;
};
std::vector<NamedMatrix> MatricesOf(const WeightSource& source, ThreadPool* pool = nullptr) {
  std::vector<NamedMatrix> matrices;
  for (int layer = -1; layer < source.catalog().num_layers; ++layer) {
    const LoadedWeights loaded = Must(source.Load(layer, pool));
    EXPECT_LE(loaded.bytes(), source.LoadedBytes(layer));
    for (const CatalogTensor& tensor : source.catalog().tensors) {
      if (tensor.layer != layer || !IsMatrix(tensor.kind)) continue;
      const Matrix* matrix = loaded.matrix(NameBelowLayer(tensor));
      RAM_CHECK(matrix != nullptr);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(matrix->values) % 64, 0u);
      matrices.push_back({tensor.name, tensor.rows, tensor.cols, Decoded(*matrix)});
    }
  }
  return matrices;
}

Choice AllButTheHead(const CatalogTensor& tensor) {
  return tensor.tensor_class == TensorClass::kHead ? Choice::Dense()
                                                   : Choice::Affine(3, kGroupSize);
}

// A small mixture of experts as it is, and with everything but its head in 3 bits.
class NoisyWeightsTest : public testing::Test {
 protected:
  std::unique_ptr<NoisyWeights> Make(const Noise& noise) const {
    return Must(NoisyWeights::Make(*original_, *compressed_, noise));
  }

  // Calls body(original, compressed, noisy) for every quantized matrix; checks that the others are
  // the original's.
  template <typename Body>
  void ForEachMatrix(const Noise& noise, const Body& body) const {
    const std::vector<NamedMatrix> from = MatricesOf(*original_);
    const std::vector<NamedMatrix> to = MatricesOf(*compressed_);
    const std::vector<NamedMatrix> noisy = MatricesOf(*Make(noise));
    ASSERT_EQ(noisy.size(), from.size());
    size_t num_equal = 0;
    for (size_t i = 0; i < from.size(); ++i) {
      SCOPED_TRACE(from[i].name);
      ASSERT_EQ(noisy[i].name, from[i].name);
      ASSERT_EQ(to[i].name, from[i].name);
      if (from[i].values == to[i].values) {
        EXPECT_TRUE(noisy[i].values == from[i].values);
        ++num_equal;
      } else {
        body(from[i], to[i], noisy[i]);
      }
    }
    EXPECT_EQ(num_equal, 1u);  // The head.
  }

  TempDirectory directory_{"noisy"};
  Checkpoint original_files_ = OpenFixture("qwen3_moe");
  Checkpoint compressed_files_ =
      MakeMlxFolder(original_files_, Choice::Affine(3, kGroupSize), AllButTheHead)
          .WriteAndOpen(directory_.path());
  std::unique_ptr<WeightSource> original_ =
      Must(WeightSource::Open(original_files_, Numerics::kHf));
  std::unique_ptr<WeightSource> compressed_ =
      Must(WeightSource::Open(compressed_files_, Numerics::kHf));
};

double Error(const NamedMatrix& a, const NamedMatrix& b, size_t i) {
  return static_cast<double>(a.values[i]) - b.values[i];
}

TEST_F(NoisyWeightsTest, AntitheticMirrorsTheCompressedWeights) {
  ForEachMatrix({.kind = Noise::Kind::kAntithetic},
                [](const NamedMatrix& from, const NamedMatrix& to, const NamedMatrix& noisy) {
                  for (size_t i = 0; i < from.values.size(); ++i) {
                    ASSERT_EQ(noisy.values[i],
                              static_cast<float>(2.0 * from.values[i] - to.values[i]));
                  }
                });
}

TEST_F(NoisyWeightsTest, PermutedHasTheErrorsOfEveryGroupInAnotherOrder) {
  size_t num_moved = 0;
  size_t num_weights = 0;
  ForEachMatrix({.kind = Noise::Kind::kPermuted, .seed = 3},
                [&](const NamedMatrix& from, const NamedMatrix& to, const NamedMatrix& noisy) {
                  for (size_t begin = 0; begin < from.values.size(); begin += kGroupSize) {
                    std::vector<double> expected;
                    std::vector<double> found;
                    for (size_t i = begin; i < begin + kGroupSize; ++i) {
                      expected.push_back(Error(to, from, i));
                      found.push_back(Error(noisy, from, i));
                      num_moved += std::abs(found.back() - expected.back()) > 1e-6 ? 1 : 0;
                      ++num_weights;
                    }
                    std::ranges::sort(expected);
                    std::ranges::sort(found);
                    for (size_t i = 0; i < kGroupSize; ++i) {  // W' is rounded to f32.
                      ASSERT_NEAR(found[i], expected[i], 1e-7);
                    }
                  }
                });
  EXPECT_GT(num_moved, num_weights * 9 / 10);  // 31 of 32 are elsewhere, some errors are equal.
}

// The noise in units of its sigma: mean 0, variance 1, and the fourth moment of its distribution.
struct Moments {
  double n = 0;
  double sum = 0;
  double squares = 0;
  double fourth = 0;
  double largest = 0;

  void Add(double z) {
    ++n;
    sum += z;
    squares += z * z;
    fourth += z * z * z * z;
    largest = std::max(largest, std::abs(z));
  }
  void Expect(double fourth_moment) const {
    ASSERT_GT(n, 20000);
    EXPECT_NEAR(sum / n, 0, 4 / std::sqrt(n));
    EXPECT_NEAR(squares / n, 1, 4 * std::sqrt((fourth_moment - 1) / n));
    EXPECT_NEAR(fourth / n, fourth_moment, 40 / std::sqrt(n));  // sd of z^4 is 9.8 (Gaussian).
  }
};

// Noise over sigma, sigma from the errors of runs of `run` weights (0: of a matrix, or of a stack).
Moments MomentsOf(const NamedMatrix& from, const NamedMatrix& to, const NamedMatrix& noisy,
                  uint64_t run) {
  Moments moments;
  for (size_t begin = 0; begin < from.values.size(); begin += run) {
    double squares = 0;
    for (size_t i = begin; i < begin + run; ++i) squares += std::pow(Error(to, from, i), 2);
    const double sigma = std::sqrt(squares / static_cast<double>(run));
    for (size_t i = begin; sigma > 0 && i < begin + run; ++i) {
      moments.Add(Error(noisy, from, i) / sigma);
    }
  }
  return moments;
}

void Join(const Moments& part, Moments* all) {
  all->n += part.n;
  all->sum += part.sum;
  all->squares += part.squares;
  all->fourth += part.fourth;
  all->largest = std::max(all->largest, part.largest);
}

TEST_F(NoisyWeightsTest, SigmasAreThoseOfTheErrors) {
  Moments per_matrix;
  Moments per_tensor;
  Moments per_group;
  Moments uniform;
  ForEachMatrix({.seed = 1}, [&](const auto& from, const auto& to, const auto& noisy) {
    Join(MomentsOf(from, to, noisy, from.rows * from.cols), &per_matrix);
  });
  ForEachMatrix({.seed = 1, .per_tensor = true},
                [&](const auto& from, const auto& to, const auto& noisy) {
                  Join(MomentsOf(from, to, noisy, from.values.size()), &per_tensor);
                });
  ForEachMatrix({.kind = Noise::Kind::kGroupGaussian, .seed = 1},
                [&](const auto& from, const auto& to, const auto& noisy) {
                  Join(MomentsOf(from, to, noisy, kGroupSize), &per_group);
                });
  ForEachMatrix({.kind = Noise::Kind::kUniform, .seed = 1},
                [&](const auto& from, const auto& to, const auto& noisy) {
                  Join(MomentsOf(from, to, noisy, kGroupSize), &uniform);
                });
  per_matrix.Expect(3);
  per_tensor.Expect(3);
  per_group.Expect(3);
  uniform.Expect(1.8);
  EXPECT_NEAR(uniform.largest, std::sqrt(3.0), 1e-3);
  EXPECT_GT(per_matrix.largest, 3.5);
}

TEST_F(NoisyWeightsTest, ThreadsChangeNothing) {
  ThreadPool one(1);
  ThreadPool four(4);
  for (const Noise::Kind kind : {Noise::Kind::kGaussian, Noise::Kind::kGroupGaussian,
                                 Noise::Kind::kPermuted, Noise::Kind::kUniform}) {
    const auto source = Make({.kind = kind, .seed = 5});
    const std::vector<NamedMatrix> a = MatricesOf(*source, &one);
    const std::vector<NamedMatrix> b = MatricesOf(*source, &four);
    const std::vector<NamedMatrix> other = MatricesOf(*Make({.kind = kind, .seed = 6}), &four);
    size_t num_other = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      EXPECT_TRUE(a[i].values == b[i].values) << NoiseKindName(kind) << " " << a[i].name;
      num_other += a[i].values != other[i].values ? 1 : 0;
    }
    EXPECT_EQ(num_other, a.size() - 1);
    const auto levels = Must(source->MeasureLevels(&one));
    const auto again = Must(source->MeasureLevels(&four));
    for (size_t i = 0; i < levels.size(); ++i) EXPECT_EQ(levels[i].noise, again[i].noise);
  }
}

TEST_F(NoisyWeightsTest, TensorsHaveNoiseOfTheirOwn) {
  // Tensors of one shape would get the same numbers if only the place counted.
  std::vector<double> first;
  ForEachMatrix({.seed = 1}, [&](const auto& from, const auto& to, const auto& noisy) {
    const Moments scaled = MomentsOf(from, to, noisy, from.rows * from.cols);
    first.push_back(scaled.sum / scaled.n);
  });
  std::ranges::sort(first);
  EXPECT_EQ(std::ranges::adjacent_find(first), first.end());
}

TEST_F(NoisyWeightsTest, DoseScales) {
  const std::vector<NamedMatrix> from = MatricesOf(*original_);
  const std::vector<NamedMatrix> single = MatricesOf(*Make({.seed = 2}));
  const std::vector<NamedMatrix> twice = MatricesOf(*Make({.dose = 2, .seed = 2}));
  for (size_t m = 0; m < from.size(); ++m) {
    for (size_t i = 0; i < from[m].values.size(); ++i) {
      ASSERT_NEAR(Error(twice[m], from[m], i), 2 * Error(single[m], from[m], i), 1e-6);
    }
  }
  const NoiseSnr snr = SummarizeLevels(Must(Make({.dose = 1, .seed = 2})->MeasureLevels(nullptr)));
  const NoiseSnr half =
      SummarizeLevels(Must(Make({.dose = 0.5, .seed = 2})->MeasureLevels(nullptr)));
  EXPECT_NEAR(half.target.mean - snr.target.mean, 20 * std::log10(2.0), 1e-9);
  EXPECT_NEAR(half.realised.pooled - snr.realised.pooled, 20 * std::log10(2.0), 1e-3);
}

TEST_F(NoisyWeightsTest, LevelsAreThoseOfTheWeights) {
  const auto source = Make({.kind = Noise::Kind::kAntithetic});
  const std::vector<NoiseLevel> levels = Must(source->MeasureLevels(nullptr));
  size_t at = 0;
  ForEachMatrix({.kind = Noise::Kind::kAntithetic},
                [&](const NamedMatrix& from, const NamedMatrix& to, const NamedMatrix&) {
                  double signal = 0;
                  double error = 0;
                  for (size_t i = 0; i < from.values.size(); ++i) {
                    signal += std::pow(from.values[i], 2);
                    error += std::pow(Error(to, from, i), 2);
                  }
                  ASSERT_LT(at, levels.size());
                  EXPECT_EQ(levels[at].tensor, from.name);
                  EXPECT_NEAR(levels[at].signal, signal, 1e-9 * signal);
                  EXPECT_NEAR(levels[at].target, error, 1e-9 * error);
                  EXPECT_NEAR(levels[at].noise, error, 1e-4 * error);
                  ++at;
                });
  EXPECT_EQ(at, levels.size());
  const NoiseSnr snr = SummarizeLevels(levels);
  EXPECT_NEAR(snr.realised.mean, snr.target.mean, 1e-3);
  EXPECT_NEAR(snr.realised.pooled, snr.target.pooled, 1e-3);
  EXPECT_LE(snr.target.min, snr.target.mean);
  EXPECT_LE(snr.target.mean, snr.target.max);
}

TEST_F(NoisyWeightsTest, RefusesOtherModels) {
  const Checkpoint other_files = OpenFixture("qwen3");
  const auto other = Must(WeightSource::Open(other_files, Numerics::kHf));
  const auto refused = NoisyWeights::Make(*original_, *other, {});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("do not match"), std::string::npos);
  EXPECT_FALSE(NoisyWeights::Make(*other, *compressed_, {}));
  const auto dense = NoisyWeights::Make(*original_, *original_, {});
  ASSERT_FALSE(dense);
  EXPECT_NE(dense.error().message.find("no module"), std::string::npos);
}

}  // namespace
}  // namespace ram
