#include "ram/checkpoint/weights_hash.h"

#include <gtest/gtest.h>

#include <set>

#include "ram/checkpoint/testing.h"

namespace ram {
namespace {

constexpr uint64_t kLarge = 1'000'003;

class WeightsHashTest : public ::testing::Test {
 protected:
  WeightsHashTest() : directory_("weights_hash") {
    WriteText(directory_.path() / "config.json", "{}");
  }

  std::string HashOf(const std::vector<uint8_t>& small, const std::vector<uint8_t>& large) {
    WriteSafetensors(
        directory_.path() / "model.safetensors",
        {{{"b", Dtype::kU8, {large.size()}}, large}, {{"a", Dtype::kU8, {small.size()}}, small}});
    const auto checkpoint = Checkpoint::Open(directory_.path());
    EXPECT_TRUE(checkpoint) << checkpoint.error().message;
    const auto hash = HashWeights(*checkpoint);
    EXPECT_TRUE(hash) << hash.error().message;
    return *hash;
  }

 private:
  TempDirectory directory_;
};

TEST_F(WeightsHashTest, SeesEveryByteOfASmallTensorAndFourPiecesOfALargeOne) {
  std::vector<uint8_t> small(kSampledBytes, 7);
  std::vector<uint8_t> large(kLarge, 9);
  std::set<std::string> hashes = {HashOf(small, large)};
  for (const uint64_t i : {uint64_t{0}, kSampledBytes / 2 + 3, kSampledBytes - 1}) {
    small[i] ^= 1;
    hashes.insert(HashOf(small, large));
    small[i] ^= 1;
  }
  const uint64_t piece = kSampledBytes / kSamples;
  const uint64_t step = (kLarge - piece) / (kSamples - 1);
  for (uint64_t s = 0; s < kSamples; ++s) {
    for (const uint64_t i : {step * s, step * s + piece - 1}) {
      large[i] ^= 1;
      hashes.insert(HashOf(small, large));
      large[i] ^= 1;
    }
  }
  EXPECT_EQ(hashes.size(), 1 + 3 + 2 * kSamples);
  large[step - 1] ^= 1;  // Between two pieces: not seen, as the header says.
  EXPECT_TRUE(hashes.contains(HashOf(small, large)));
}

TEST_F(WeightsHashTest, IsOfOneTensorAfterTheOther) {
  EXPECT_NE(HashOf({1, 2}, {3}), HashOf({1}, {2, 3}));  // The structure hash sees to that.
  EXPECT_EQ(HashOf({}, {3}), HashOf({}, {3}));
}

}  // namespace
}  // namespace ram
