#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <filesystem>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "ram/base/bytes.h"
#include "ram/base/dtype.h"
#include "ram/base/file.h"
#include "ram/base/half.h"
#include "ram/base/hash.h"
#include "ram/base/json.h"
#include "ram/base/number.h"
#include "ram/base/thread_pool.h"

#if defined(__ARM_FP16_FORMAT_IEEE)
#define RAM_COMPILERS_HALF __fp16  // g++ 12 has no _Float16 there.
#elif defined(__FLT16_MANT_DIG__) && !defined(__SANITIZE_ADDRESS__)
#define RAM_COMPILERS_HALF _Float16
#endif

namespace ram {
namespace {

TEST(Dtype, NamesRoundTrip) {
  EXPECT_EQ(DtypeName(Dtype::kBF16), "BF16");
  EXPECT_EQ(ParseDtype("F8_E4M3"), Dtype::kF8E4M3);
  EXPECT_EQ(ParseDtype("bf16"), std::nullopt);
  EXPECT_EQ(BitsOf(Dtype::kF4), 4);
  EXPECT_EQ(BitsOf(Dtype::kF64), 64);
}

TEST(Half, Bf16RoundsToNearestEven) {
  EXPECT_EQ(Bf16FromFloat(1.0f), 0x3F80);
  EXPECT_EQ(Bf16FromFloat(std::bit_cast<float>(0x3F808000u)), 0x3F80);  // A tie, to even.
  EXPECT_EQ(Bf16FromFloat(std::bit_cast<float>(0x3F818000u)), 0x3F82);
  EXPECT_EQ(Bf16FromFloat(std::bit_cast<float>(0x3F808001u)), 0x3F81);
  EXPECT_EQ(Bf16FromFloat(std::nanf("")), 0x7FC0);
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = FloatFromBf16(static_cast<uint16_t>(bits));
    if (!std::isnan(value)) {
      EXPECT_EQ(Bf16FromFloat(value), bits);
    }
  }
}

TEST(Half, F16EqualsTheCompilersConversion) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = FloatFromF16(half);
    if (!std::isnan(value)) {
      EXPECT_EQ(F16FromFloat(value), half);
    }
  }
#ifdef RAM_COMPILERS_HALF
  for (uint64_t bits = 0; bits < uint64_t{1} << 32; bits += 4093) {
    const float value = std::bit_cast<float>(static_cast<uint32_t>(bits));
    if (std::isnan(value)) continue;
    EXPECT_EQ(F16FromFloat(value), std::bit_cast<uint16_t>(static_cast<RAM_COMPILERS_HALF>(value)))
        << value;
  }
#endif
  EXPECT_EQ(F16FromFloat(1e-7f), 2);  // 1.19e-7: the scale of a group of zeros.
  EXPECT_EQ(F16FromFloat(65520.0f), 0x7C00);
}

TEST(Half, SmallFormats) {
  EXPECT_EQ(FloatFromF8E4M3(0x7E), 448.0f);
  EXPECT_EQ(FloatFromF8E4M3(0x01), 0x1p-9f);
  EXPECT_EQ(FloatFromF8E4M3(0xB8), -1.0f);
  EXPECT_TRUE(std::isnan(FloatFromF8E4M3(0xFF)));
  EXPECT_EQ(FloatFromE8M0(127), 1.0f);
  EXPECT_EQ(FloatFromE8M0(0), 0x1p-127f);
  EXPECT_EQ(FloatFromE2M1(0xF), -6.0f);
}

TEST(Bytes, ParsesWhatPeopleType) {
  EXPECT_EQ(*ParseBytes("16GiB"), 16 * kGiB);
  EXPECT_EQ(*ParseBytes("16 GB"), 16'000'000'000u);
  EXPECT_EQ(*ParseBytes("1.5gib"), kGiB * 3 / 2);
  EXPECT_EQ(*ParseBytes("527000"), 527000u);
  for (const char* text :
       {"", "16G", "-1", "GiB", "1e3", "12.5", "nan", "99999999999999TiB", "4x"}) {
    EXPECT_FALSE(ParseBytes(text).ok()) << text;
  }
}

TEST(Bytes, TakesDecimalsWhateverTheLocale) {
  const auto take = [](std::string_view text) {
    const auto number = TakeDecimal(&text);
    return std::pair(number, text);
  };
  EXPECT_EQ(take("4.5bpw"), std::pair(std::optional(4.5), std::string_view("bpw")));
  EXPECT_EQ(take(".5"), std::pair(std::optional(0.5), std::string_view("")));
  EXPECT_EQ(take("1.BiB"), std::pair(std::optional(1.0), std::string_view("BiB")));
  EXPECT_EQ(take("0.1e5"), std::pair(std::optional(0.1), std::string_view("e5")));
  for (const std::string& text :
       {std::string("."), std::string("-1"), std::string("inf"), std::string(400, '9')}) {
    EXPECT_EQ(take(text), std::pair(std::optional<double>(), std::string_view(text)));
  }
}

TEST(Number, TakesWhatItSays) {
  const auto take = [](std::string_view text) {
    const auto number = TakeDouble(&text);
    return std::pair(number, text);
  };
  const auto taken = [](double number, std::string_view rest) {
    return std::pair(std::optional(number), rest);
  };
  EXPECT_EQ(take("-1.5e3,2"), taken(-1500, ",2"));
  EXPECT_EQ(take("2-seed7"), taken(2, "-seed7"));
  EXPECT_EQ(take(".5e"), taken(0.5, "e"));
  EXPECT_EQ(take("0x10"), taken(0, "x10"));
  EXPECT_EQ(take("Infinity!"), taken(std::numeric_limits<double>::infinity(), "!"));
  EXPECT_EQ(take("1e-999"), taken(0, ""));
  EXPECT_EQ(take("4.9e-324"), taken(std::numeric_limits<double>::denorm_min(), ""));
  EXPECT_TRUE(std::isnan(*ParseDouble("nan")));
  for (const std::string_view text :
       {"", " 1", "+1", "-+1", "-", ".", "e5", "1e999", "-1e999", "x"}) {
    EXPECT_EQ(take(text), std::pair(std::optional<double>(), text));
  }
  EXPECT_EQ(ParseDouble("1 "), std::nullopt);
  uint64_t bits = 0x3FF123456789ABCD;
  for (int i = 0; i < 10'000; ++i) {
    bits = bits * 6364136223846793005u + 1442695040888963407u;
    const auto number = std::bit_cast<double>(bits);
    if (!std::isfinite(number)) continue;
    EXPECT_EQ(ParseDouble(fmt::format("{}", number)), number);
  }
}

TEST(Bytes, FormatsBothUnits) {
  EXPECT_EQ(FormatBytes(16 * kGiB), "16.00 GiB (17.18 GB)");
  EXPECT_EQ(FormatBytes(1234), "1,234 bytes");
  EXPECT_EQ(FormatBytesShort(16 * kMiB), "16.0 MiB");
  EXPECT_EQ(FormatCount(1234567), "1,234,567");
}

TEST(Hash, KnownAnswers) {
  EXPECT_EQ(Sha256Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  ContentHasher whole;
  whole.Add("hello world");
  ContentHasher pieces;
  pieces.Add("hello ");
  pieces.Add("world");
  EXPECT_EQ(whole.Finish(), pieces.Finish());
  EXPECT_EQ(ToHex(ContentHasher().Finish()), "99aa06d3014798d86001c324468d497f");
}

TEST(JsonFiles, NameTheirMistakes) {
  EXPECT_EQ(ParseJson("{\"a\": 1, \"a\": 2}", "x.json").error().message,
            "x.json: key \"a\" appears twice in one object");
  EXPECT_FALSE(ParseJson("{", "x.json").ok());
  EXPECT_EQ(ParseJson(std::string_view("{}\0x", 4), "x.json").error().message,
            "x.json: NUL byte at 2");
  EXPECT_LT(ParseJson("[\"" + std::string(100'000, 'a'), "x.json").error().message.size(), 400u);
  EXPECT_LT(ParseJson(std::string(1'000'000, '['), "x.json").error().message.size(), 100u);
  EXPECT_FALSE(ParseJson(std::string(100, '[') + std::string(100, ']'), "x.json").ok());
  const Json json = *ParseJson("{\"a\": 1.5, \"b\": null}", "x.json");
  EXPECT_EQ(GetInt(json, "a", "x.json").error().message,
            "x.json: key \"a\": expected a whole number");
  EXPECT_EQ(Find(json, "b"), nullptr);
}

class FileTest : public testing::Test {
 protected:
  void SetUp() override {
    directory_ =
        std::filesystem::temp_directory_path() /
        ("ram_base_test_" + std::to_string(::testing::UnitTest::GetInstance()->random_seed()) +
         "_" + std::to_string(reinterpret_cast<uintptr_t>(this)));
    std::filesystem::create_directories(directory_);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::filesystem::path directory_;
};

TEST_F(FileTest, WritesAtomicallyAndReadsBack) {
  const auto path = directory_ / "a.txt";
  ASSERT_TRUE(WriteFileAtomically(path, "one").ok());
  ASSERT_TRUE(WriteFileAtomically(path, "three").ok());
  EXPECT_EQ(*ReadFile(path, 100), "three");
  EXPECT_EQ(ReadFile(path, 3).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory_), {}), 1);
}

TEST_F(FileTest, ErrorsNameTheFile) {
  const auto missing = directory_ / "missing";
  EXPECT_EQ(File::OpenForReading(missing).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(File::OpenForReading(directory_).error().code, ErrorCode::kInvalidArgument);
  ASSERT_TRUE(WriteFileAtomically(missing, "12345").ok());
  EXPECT_FALSE(File::CreateNew(missing).ok());
  const auto file = File::OpenForReading(missing);
  std::vector<uint8_t> bytes(4);
  EXPECT_TRUE(file->ReadAt(1, bytes).ok());
  const Status past = file->ReadAt(2, bytes);
  EXPECT_EQ(past.error().code, ErrorCode::kCorrupt);
  EXPECT_NE(past.error().message.find("the file ends at 5"), std::string::npos);
}

TEST(ThreadPool, RunsEveryTaskOnce) {
  for (const size_t num_threads : {1u, 2u, 5u}) {
    ThreadPool pool(num_threads);
    for (const size_t num_tasks : {0u, 1u, 3u, 1000u}) {
      std::vector<int> runs(num_tasks);
      pool.ParallelFor(num_tasks, [&](size_t task, size_t thread) {
        EXPECT_LT(thread, pool.num_threads());
        ++runs[task];
      });
      EXPECT_EQ(runs, std::vector<int>(num_tasks, 1));
    }
  }
}

}  // namespace
}  // namespace ram
