#include "ram/eval/tail_error.h"

#include <gtest/gtest.h>

#include <cmath>

namespace ram {
namespace {

TEST(TailErrorTest, IsTheMeanDifferenceWithWindowsAsTheUnit) {
  const std::vector<uint64_t> window_tokens = {4, 1, 5};
  std::vector<TokenDivergence> tokens(10);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i].kl = 0.1 * static_cast<double>(i);
  // Rows 0 and 3 of the first window, none of the second, 6 and 9 of the third.
  std::vector<TokenDivergence> exact(4);
  for (const auto& [i, more] : {std::pair{0, 0.5}, {1, 0.3}, {2, 0.2}, {3, 0.4}}) {
    exact[static_cast<size_t>(i)].kl = tokens[static_cast<size_t>(3 * i)].kl + more;
  }
  const TailError error = MeasureTail(tokens, exact, 3, window_tokens);
  EXPECT_EQ(error.num_rows, 4);
  EXPECT_NEAR(error.kl.value, 1.4 / 4, 1e-15);
  // Two windows of two rows with means 0.4 and 0.3: sd / sqrt(2).
  EXPECT_NEAR(error.kl.standard_error, 0.05, 1e-12);
  EXPECT_EQ(error.reverse_kl.value, 0);
}

TEST(TailErrorTest, OneWindowHasNoStandardError) {
  const std::vector<uint64_t> window_tokens = {2};
  const std::vector<TokenDivergence> tokens(2);
  const TailError error = MeasureTail(tokens, tokens, 1, window_tokens);
  EXPECT_EQ(error.kl.value, 0);
  EXPECT_TRUE(std::isnan(error.kl.standard_error));
}

}  // namespace
}  // namespace ram
