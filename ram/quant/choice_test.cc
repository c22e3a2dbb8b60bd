#include "ram/quant/choice.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

namespace ram {
namespace {

TEST(Choice, IndexIsThePlaceInTheList) {
  for (size_t i = 0; i < kAffineChoices.size(); ++i) EXPECT_EQ(AffineIndex(kAffineChoices[i]), i);
  EXPECT_EQ(kAffineChoices.front(), Choice::Affine(2, 128));
  EXPECT_EQ(kAffineChoices.back(), Choice::Affine(8, 32));
}

// Smallest first: allocation relies on it.
TEST(Choice, ListIsOrderedByBytes) {
  for (size_t i = 1; i < kAffineChoices.size(); ++i) {
    EXPECT_LT(StoredBytes(kAffineChoices[i - 1], 4, 128, Dtype::kBF16),
              StoredBytes(kAffineChoices[i], 4, 128, Dtype::kBF16));
  }
}

TEST(Choice, NamesRoundTrip) {
  for (const Choice& choice : kAffineChoices) {
    const auto parsed = ParseChoice(ChoiceName(choice));
    ASSERT_TRUE(parsed.ok());
    EXPECT_EQ(*parsed, choice);
  }
  EXPECT_EQ(ChoiceName(Choice::Affine(4, 64)), "4,64");
  EXPECT_EQ(*ParseChoice("16"), Choice::Dense());
  EXPECT_EQ(*ParseChoice("mxfp4"), Choice::Mxfp4());
}

TEST(Choice, ParseRefusesEverythingElse) {
  for (const char* text :
       {"", "4", "4,", "4,64 ", " 4,64", "7,64", "4,16", "4,256", "4;64", "04,64", "8", "MXFP4"}) {
    const auto parsed = ParseChoice(text);
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_EQ(parsed.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(parsed.error().message.find(text), std::string::npos);
  }
}

TEST(Choice, LegalWhereGroupsFillRows) {
  EXPECT_TRUE(IsLegal(Choice::Affine(4, 64), 192));
  EXPECT_FALSE(IsLegal(Choice::Affine(4, 128), 192));
  EXPECT_FALSE(IsLegal(Choice::Affine(4, 32), 0));
  EXPECT_TRUE(IsLegal(Choice::Mxfp4(), 32));
  EXPECT_FALSE(IsLegal(Choice::Mxfp4(), 48));
  EXPECT_TRUE(IsLegal(Choice::Dense(), 7));
}

TEST(Choice, StoredBytesCountScalesAndBiases) {
  // 1024 weights: 512 bytes of codes, 16 groups with 2 values of 2 bytes.
  EXPECT_EQ(StoredBytes(Choice::Affine(4, 64), 4, 256, Dtype::kBF16), 512u + 16 * 4);
  EXPECT_EQ(StoredBytes(Choice::Affine(4, 64), 4, 256, Dtype::kF32), 512u + 16 * 8);
  EXPECT_EQ(StoredBytes(Choice::Affine(3, 32), 4, 256, Dtype::kF16), 384u + 32 * 4);
  EXPECT_EQ(StoredBytes(Choice::Mxfp4(), 4, 256, Dtype::kBF16), 512u + 32);
  EXPECT_EQ(StoredBytes(Choice::Dense(), 3, 5, Dtype::kBF16), 30u);
}

}  // namespace
}  // namespace ram
