#include "ram/eval/divergence_file.h"

#include <gtest/gtest.h>

#include <fstream>
#include <limits>

#include "ram/base/file.h"
#include "ram/checkpoint/testing.h"

namespace ram {
namespace {

DivergenceFile MakeFile() {
  DivergenceFile file{"base", "a text", "model", {{"key", "abc"}, {"bytes", "12"}}, {}, {2, 1}};
  for (const double x : {1.0, 2.0, 3.0}) {
    TokenDivergence token;
    token.kl = x;
    token.reverse_kl = 10 * x;
    token.jensen_shannon = x / 16;
    token.delta_p = -x;
    token.base_nll = x + 0.5;
    token.nll = x + 0.25;
    token.top5 = 0.2 * x;
    token.same_top = x == 2;
    file.tokens.push_back(token);
  }
  return file;
}

TEST(DivergenceFile, RoundTrip) {
  const TempDirectory directory("divergence");
  const auto path = directory.path() / "model.kl.safetensors";
  const DivergenceFile file = MakeFile();
  ASSERT_TRUE(WriteDivergence(file, path).ok());
  const auto read = ReadDivergence(path);
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(read->base, file.base);
  EXPECT_EQ(read->text, file.text);
  EXPECT_EQ(read->model, file.model);
  EXPECT_EQ(read->facts, file.facts);
  EXPECT_EQ(read->window_tokens, file.window_tokens);
  ASSERT_EQ(read->tokens.size(), 3U);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(read->tokens[i].kl, file.tokens[i].kl);
    EXPECT_EQ(read->tokens[i].reverse_kl, file.tokens[i].reverse_kl);
    EXPECT_EQ(read->tokens[i].jensen_shannon, file.tokens[i].jensen_shannon);
    EXPECT_EQ(read->tokens[i].delta_p, file.tokens[i].delta_p);
    EXPECT_EQ(read->tokens[i].base_nll, file.tokens[i].base_nll);
    EXPECT_EQ(read->tokens[i].nll, file.tokens[i].nll);
    EXPECT_EQ(read->tokens[i].top5, file.tokens[i].top5);
    EXPECT_EQ(read->tokens[i].same_top, file.tokens[i].same_top);
  }
}

TEST(DivergenceFile, EveryTruncationIsAnError) {
  const TempDirectory directory("divergence");
  const auto path = directory.path() / "model.kl.safetensors";
  ASSERT_TRUE(WriteDivergence(MakeFile(), path).ok());
  const auto bytes = ReadFile(path, 1 << 20);
  ASSERT_TRUE(bytes.ok());
  for (size_t size = 0; size < bytes->size(); ++size) {
    std::ofstream(path, std::ios::binary).write(bytes->data(), static_cast<std::streamsize>(size));
    const auto read = ReadDivergence(path);
    ASSERT_FALSE(read.ok()) << size;
    ASSERT_NE(read.error().message.find("model.kl.safetensors"), std::string::npos) << size;
  }
}

TEST(DivergenceFile, RefusesWhatContradictsItself) {
  const TempDirectory directory("divergence");
  const auto path = directory.path() / "model.kl.safetensors";
  for (const std::vector<uint64_t>& windows :
       {std::vector<uint64_t>{2, 2}, {2}, {}, {3, 0}, {uint64_t{1} << 63, 3}}) {
    DivergenceFile file = MakeFile();
    file.window_tokens = windows;
    ASSERT_TRUE(WriteDivergence(file, path).ok());
    EXPECT_FALSE(ReadDivergence(path).ok());
  }
  DivergenceFile file = MakeFile();
  file.tokens[1].nll = std::numeric_limits<double>::quiet_NaN();
  ASSERT_TRUE(WriteDivergence(file, path).ok());
  EXPECT_EQ(ReadDivergence(path).error().message,
            path.string() + ": \"nll\" of token 1 is not a number");
}

}  // namespace
}  // namespace ram
