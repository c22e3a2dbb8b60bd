#include "ram/measure/rate_cache.h"

#include <filesystem>
#include <fstream>

#include "gtest/gtest.h"
#include "ram/checkpoint/testing.h"

namespace ram {
namespace {

ContentHash Key(uint8_t seed) {
  ContentHash key = {};
  key[0] = seed;
  key[15] = 7;
  return key;
}

BlockErrors Errors(double value) {
  BlockErrors errors;
  errors.sum_squares = value;
  errors.choices[3].sum_squares = value / 2;
  errors.num_weights = 11;
  return errors;
}

TEST(RateCache, RemembersAcrossRuns) {
  const TempDirectory directory("rate_cache");
  const auto path = directory.path() / "sub" / "measurements.cache";
  {
    const auto cache = RateCache::Open(path);
    ASSERT_TRUE(cache.ok()) << cache.error().message;
    for (uint8_t i = 0; i < 200; ++i) (*cache)->Add(Key(i), Errors(i));
    EXPECT_TRUE((*cache)->complete());
  }
  const auto cache = RateCache::Open(path);
  ASSERT_TRUE(cache.ok());
  EXPECT_EQ((*cache)->size(), 200u);
  BlockErrors found;
  ASSERT_TRUE((*cache)->Find(Key(42), &found));
  EXPECT_EQ(found.sum_squares, 42);
  EXPECT_EQ(found.choices[3].sum_squares, 21);
  EXPECT_EQ(found.num_weights, 11u);
  EXPECT_FALSE((*cache)->Find(Key(201), &found));
}

// Whatever a crash leaves at the end, the records before it are kept and writing goes on.
TEST(RateCache, IgnoresATornEnd) {
  const TempDirectory directory("rate_cache_torn");
  const auto path = directory.path() / "measurements.cache";
  {
    const auto cache = RateCache::Open(path);
    ASSERT_TRUE(cache.ok());
    for (uint8_t i = 0; i < 3; ++i) (*cache)->Add(Key(i), Errors(i));
  }
  const auto whole = std::filesystem::file_size(path);
  const auto record = (whole - 16) / 3;
  for (const auto size : {whole - 1, whole - record + 1, whole - record / 2}) {
    std::filesystem::resize_file(path, size);
    const auto cache = RateCache::Open(path);
    ASSERT_TRUE(cache.ok());
    EXPECT_EQ((*cache)->size(), 2u);
    (*cache)->Add(Key(2), Errors(2));
  }
  {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(16 + record + 5));
    file.put('x');  // A flipped byte in the second record.
  }
  const auto cache = RateCache::Open(path);
  ASSERT_TRUE(cache.ok());
  EXPECT_EQ((*cache)->size(), 1u);
}

TEST(RateCache, ASecondProcessReadsOnly) {
  const TempDirectory directory("rate_cache_two");
  const auto path = directory.path() / "measurements.cache";
  const auto first = RateCache::Open(path);
  ASSERT_TRUE(first.ok());
  (*first)->Add(Key(1), Errors(1));
  const auto second = RateCache::Open(path);
  ASSERT_TRUE(second.ok());
  (*second)->Add(Key(2), Errors(2));
  EXPECT_FALSE((*second)->complete());
  BlockErrors found;
  EXPECT_TRUE((*second)->Find(Key(1), &found));
  EXPECT_TRUE((*second)->Find(Key(2), &found));  // In memory.
}

TEST(RateCache, AForeignFileIsEmptied) {
  const TempDirectory directory("rate_cache_foreign");
  const auto path = directory.path() / "measurements.cache";
  std::ofstream(path) << "something else entirely, longer than the head of a cache file";
  {
    const auto cache = RateCache::Open(path);
    ASSERT_TRUE(cache.ok());
    EXPECT_EQ((*cache)->size(), 0u);
    (*cache)->Add(Key(1), Errors(1));
  }
  const auto cache = RateCache::Open(path);
  ASSERT_TRUE(cache.ok());
  EXPECT_EQ((*cache)->size(), 1u);
}

}  // namespace
}  // namespace ram
