#include "ram/checkpoint/safetensors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>

#include "ram/checkpoint/testing.h"

namespace ram {
namespace {

using ::testing::IsSubstring;

// In a buffer of exactly its size, so that a read beyond it shows. `data_bytes` follow the header.
Result<SafetensorsHeader> Parse(std::string_view text, uint64_t data_bytes,
                                Strictness strictness = Strictness::kStrict) {
  const auto exact = std::make_unique<char[]>(text.size());
  std::copy(text.begin(), text.end(), exact.get());
  return ParseSafetensorsHeader({exact.get(), text.size()}, 8 + text.size() + data_bytes, "x.st",
                                strictness);
}

std::string LengthWord(uint64_t length) {
  std::string word;
  for (int i = 0; i < 8; ++i) word += static_cast<char>(length >> (8 * i) & 0xFF);
  return word;
}

Result<SafetensorsHeader> ParseFile(const std::string& contents,
                                    Strictness strictness = Strictness::kStrict) {
  const TempDirectory directory("safetensors");
  WriteText(directory.path() / "x.safetensors", contents);
  const auto file = File::OpenForReading(directory.path() / "x.safetensors");
  RAM_CHECK(file.ok());
  return ReadSafetensorsHeader(*file, strictness);
}

// 6 bytes of data in two tensors, the second one first in the text.
constexpr std::string_view kTwoTensors =
    R"({"b":{"dtype":"BF16","shape":[2,1],"data_offsets":[2,6]},)"
    R"("__metadata__":{"format":"pt"},"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})";

TEST(Safetensors, ReadsTensorsInTheOrderOfTheirData) {
  const auto header = Parse(kTwoTensors, 6);
  ASSERT_TRUE(header) << header.error().message;
  EXPECT_EQ(header->data_offset, 8 + kTwoTensors.size());
  EXPECT_EQ(header->metadata, (std::map<std::string, std::string>{{"format", "pt"}}));
  ASSERT_EQ(header->tensors.size(), 2u);
  EXPECT_EQ(header->tensors[0].name, "a");
  EXPECT_EQ(header->tensors[1].name, "b");
  EXPECT_EQ(header->tensors[1].dtype, Dtype::kBF16);
  EXPECT_EQ(header->tensors[1].shape, (std::vector<uint64_t>{2, 1}));
  EXPECT_EQ(header->tensors[1].offset, header->data_offset + 2);
  EXPECT_EQ(header->tensors[1].num_bytes, 4u);
  EXPECT_EQ(NumElements(header->tensors[1]), 2u);
  EXPECT_EQ(ShapeText(header->tensors[1].shape), "[2, 1]");
  EXPECT_EQ(ShapeText({}), "[]");
}

TEST(Safetensors, ReadsEveryDtype) {
  const std::vector<std::pair<std::string, int>> bytes_of_eight = {
      {"BOOL", 8},        {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
      {"I8", 8},          {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
      {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
      {"I32", 32},        {"U32", 32},    {"F32", 32},    {"C64", 64},    {"F64", 64},
      {"I64", 64},        {"U64", 64}};
  for (const auto& [name, num_bytes] : bytes_of_eight) {
    const std::string end = std::to_string(num_bytes);
    const auto header =
        Parse(R"({"t":{"dtype":")" + name + R"(","shape":[8],"data_offsets":[0,)" + end + "]}}",
              static_cast<uint64_t>(num_bytes));
    ASSERT_TRUE(header) << header.error().message;
    EXPECT_EQ(DtypeName(header->tensors[0].dtype), name);
  }
}

TEST(Safetensors, AcceptsWhatIsRareButLegal) {
  const std::vector<std::pair<std::string, uint64_t>> legal = {
      {"{}", 0},
      {"{ }   ", 0},
      {"{\n\t\"t\" : {\"dtype\":\"U8\", \"shape\":[1],\r\"data_offsets\":[0,1]} }", 1},
      {R"({"__metadata__":{}})", 0},
      {R"({"__metadata__":null})", 0},
      {R"({"rank0":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})", 4},
      {R"({"empty":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})", 0},
      {R"({"empty":{"dtype":"F32","shape":[9007199254740992,0],"data_offsets":[0,0]}})", 0},
      {R"({"t":{"data_offsets":[0,1],"shape":[1],"dtype":"U8"}})", 1},
      {R"({"\u0074\n\ud83d\ude00":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1},
      // Empty tensors before, between and after others.
      {R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
       R"("a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},)"
       R"("c":{"dtype":"U8","shape":[0],"data_offsets":[1,1]},)"
       R"("e":{"dtype":"U8","shape":[0],"data_offsets":[2,2]},)"
       R"("d":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
       2},
  };
  for (const auto& [text, data_bytes] : legal) {
    const auto header = Parse(text, data_bytes);
    EXPECT_TRUE(header) << text << ": " << header.error().message;
  }
}

struct Malformed {
  std::string text;
  uint64_t data_bytes;
  std::string expected;  // Part of the message.
};

std::vector<Malformed> MalformedHeaders() {
  const std::string entry = R"({"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
  const auto tensor = [](const std::string& fields) { return R"({"t":{)" + fields + "}}"; };
  const auto shape = [](const std::string& dimensions) {
    return R"({"t":{"dtype":"U8","shape":)" + dimensions + R"(,"data_offsets":[0,1]}})";
  };
  const auto offsets = [](const std::string& numbers) {
    return R"({"t":{"dtype":"U8","shape":[1],"data_offsets":)" + numbers + "}}";
  };
  const std::string many_dimensions = [] {
    std::string list = "[1";
    for (int i = 0; i < 64; ++i) list += ",1";
    return list + "]";
  }();
  return {
      // The frame.
      {"", 0, "header must start with '{' at byte 8, found nothing"},
      {" {}", 0, "header must start with '{' at byte 8, found \" \""},
      {"\xEF\xBB\xBF{}", 0, "header must start with '{' at byte 8, found \"\\xEF\""},
      {"[]", 0, "header must start with '{'"},
      {"{}\n", 0, "header must end with '}' and spaces, found \"\\x0A\" at byte 10"},
      {"{} \t", 0, "header must end with '}' and spaces, found \"\\x09\" at byte 11"},
      {std::string("{}\0}", 4), 0, "header has a NUL at byte 10"},
      {std::string("{\0}", 3), 0, "header has a NUL at byte 9"},
      // JSON.
      {"{}}", 0, "header is not JSON near byte"},
      {"{} {}", 0, "header is not JSON near byte"},
      {"{,}", 0, "header is not JSON near byte"},
      {R"({"t")"
       "}",
       0, "header is not JSON near byte"},
      {R"({"t":)" + entry + ",}", 1, "header is not JSON near byte"},
      {R"({/**/"t":)" + entry + "}", 1, "header is not JSON near byte"},
      {"{\"\xFF\":" + entry + "}", 1, "ill-formed UTF-8"},
      {"{\"\xC0\x80\":" + entry + "}", 1, "ill-formed UTF-8"},
      {"{\"a\nb\":" + entry + "}", 1, "control character"},
      {R"({"\ud800":)" + entry + "}", 1, "surrogate"},
      // Names.
      {R"({"":)" + entry + "}", 1, "a tensor has an empty name"},
      {R"({")" + std::string(4097, 'n') + R"(":)" + entry + "}", 1, "has 4097 bytes, at most 4096"},
      {R"({"t":)" + entry + R"(,"t":)" + entry + "}", 1, "tensor t occurs twice"},
      {R"({"t":)" + entry + R"(,"\u0074":)" + entry + "}", 1, "tensor t occurs twice"},
      {R"({"a\u001b[2Jb":1})", 0, "tensor a\\x1B[2Jb: expected an object"},
      // Metadata.
      {R"({"__metadata__":1})", 0, "__metadata__: expected an object, found 1"},
      {R"({"__metadata__":{"k":1}})", 0, "__metadata__: key k: expected a string, found 1"},
      {R"({"__metadata__":{"k":null}})", 0, "key k: expected a string, found null"},
      {R"({"__metadata__":{"k":{}}})", 0, "key k: expected a string, found an object"},
      {R"({"__metadata__":{"k":[]}})", 0, "key k: expected a string, found an array"},
      {R"({"__metadata__":{"k":"","k":""}})", 0, "__metadata__: key k occurs twice"},
      {R"({"__metadata__":{},"__metadata__":{}})", 0, "__metadata__ occurs twice"},
      // Entries.
      {R"({"t":[]})", 0, "tensor t: expected an object of dtype, shape and data_offsets"},
      {R"({"t":null})", 0, "found null"},
      {R"({"t":true})", 0, "found true"},
      {R"({"t":"x"})", 0, "found a string"},
      {"{\"t\":{}}", 0, "tensor t: dtype is missing"},
      {tensor(R"("dtype":"U8","data_offsets":[0,1])"), 1, "tensor t: shape is missing"},
      {tensor(R"("dtype":"U8","shape":[1])"), 1, "tensor t: data_offsets is missing"},
      {tensor(R"("dtype":"U8","dtype":"U8")"), 0, "tensor t: key dtype occurs twice"},
      {tensor(R"("shape":[],"shape":[])"), 0, "tensor t: key shape occurs twice"},
      {tensor(R"("strides":[1])"), 0, "tensor t: unknown key strides"},
      {tensor(R"("dtype":8)"), 0, "tensor t: dtype: expected a string, found 8"},
      {tensor(R"("dtype":"Q4_K")"), 0, "dtype \"Q4_K\" is none that safetensors defines"},
      {tensor(R"("dtype":"bf16")"), 0, "dtype \"bf16\" is none that safetensors defines"},
      {tensor(R"("shape":{})"), 0, "tensor t: shape: expected an array, found an object"},
      {tensor(R"("shape":"[1]")"), 0, "tensor t: shape: expected an array, found a string"},
      // Numbers.
      {shape("[-1]"), 1, "shape: expected a whole number from 0 to 9007199254740992, found -1"},
      {shape("[-0]"), 1, "found -0"},
      {shape("[1.0]"), 1, "found 1.0"},
      {shape("[1e0]"), 1, "found 1e0"},
      {shape("[9007199254740993]"), 1, "found 9007199254740993"},
      {shape("[18446744073709551617]"), 1, "found 18446744073709551617"},
      {shape("[1e999]"), 1, "near byte 41: number overflow"},
      {shape("[01]"), 1, "header is not JSON near byte"},
      {shape("[[1]]"), 1,
       "shape: expected a whole number from 0 to 9007199254740992, found an array"},
      {shape("[{}]"), 1, "found an object"},
      {shape("[\"1\"]"), 1, "found a string"},
      {shape(many_dimensions), 1, "tensor t: shape has more than 64 dimensions"},
      {offsets("[]"), 1, "tensor t: data_offsets has fewer than two numbers"},
      {offsets("[0]"), 1, "tensor t: data_offsets has fewer than two numbers"},
      {offsets("[0,1,1]"), 1, "tensor t: data_offsets has more than two numbers"},
      {offsets("[1,0]"), 1, "tensor t: data_offsets [1, 0] end before they begin"},
      // Sizes.
      {offsets("[0,2]"), 2, "tensor t: U8 [1] takes 1 bytes, its data_offsets [0, 2] span 2"},
      {shape("[2]"), 1, "tensor t: U8 [2] takes 2 bytes, its data_offsets [0, 1] span 1"},
      {shape("[0]"), 1, "takes 0 bytes"},
      {shape("[4294967296,4294967296]"), 1, "takes more than 2^64 bits"},
      {shape("[0,4294967296,4294967296]"), 1, "takes more than 2^64 bits"},
      {shape("[4294967296,4294967296,0]"), 1, "takes more than 2^64 bits"},
      // 2^60 elements: their bytes would wrap around to 0.
      {tensor(R"("dtype":"U64","shape":[1073741824,1073741824],"data_offsets":[0,0])"), 0,
       "takes more than 2^64 bits"},
      {tensor(R"("dtype":"F4","shape":[3],"data_offsets":[0,2])"), 2,
       "tensor t: F4 [3] takes 12 bits, no whole number of bytes"},
      {tensor(R"("dtype":"F6_E2M3","shape":[2,3],"data_offsets":[0,5])"), 5,
       "tensor t: F6_E2M3 [2, 3] takes 36 bits, no whole number of bytes"},
      // Ranges. The header of the first has 57 bytes.
      {R"({"t":{"dtype":"U16","shape":[4],"data_offsets":[0,8]}}   )", 7,
       "tensor t needs 8 bytes at 65, file ends after 72"},
      {R"({"t":{"dtype":"U16","shape":[4],"data_offsets":[0,8]}}   )", 9,
       "last tensor t ends at 73, expected the file to end there: 1 bytes follow"},
      {"{}", 1,
       "header without tensors ends at 10, expected the file to end there: 1 bytes follow"},
      {offsets("[1,2]"), 2, "begins at 62, expected 61: 1 bytes belong to no tensor"},
      {R"({"a":)" + entry + R"(,"b":)" + entry + "}", 1,
       "tensor b begins at 113, inside tensor a, which ends at 114"},
      // An empty tensor takes no bytes, but its place must be a seam all the same.
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
       R"("b":{"dtype":"U8","shape":[0],"data_offsets":[1,1]}})",
       2, "inside tensor a"},
  };
}

TEST(Safetensors, SaysWhatIsWrong) {
  const std::vector<Malformed> cases = MalformedHeaders();
  EXPECT_GE(cases.size(), 30u);
  for (const Malformed& malformed : cases) {
    const auto header = Parse(malformed.text, malformed.data_bytes);
    ASSERT_FALSE(header) << malformed.text;
    EXPECT_EQ(header.error().code, ErrorCode::kCorrupt);
    EXPECT_TRUE(header.error().message.starts_with("x.st: ")) << header.error().message;
    EXPECT_PRED_FORMAT2(IsSubstring, malformed.expected, header.error().message) << malformed.text;
    EXPECT_LT(header.error().message.size(), 600u);
  }
}

TEST(Safetensors, LenientAcceptsHolesAndTrailingBytesOnly) {
  const std::string hole = R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})";
  EXPECT_FALSE(Parse(hole, 2));
  const auto header = Parse(hole, 2, Strictness::kLenient);
  ASSERT_TRUE(header) << header.error().message;
  EXPECT_EQ(header->tensors[0].offset, 8 + hole.size() + 1);
  EXPECT_TRUE(Parse(kTwoTensors, 7, Strictness::kLenient));
  EXPECT_TRUE(Parse("{}", 1, Strictness::kLenient));

  size_t num_accepted = 0;
  for (const Malformed& malformed : MalformedHeaders()) {
    num_accepted += Parse(malformed.text, malformed.data_bytes, Strictness::kLenient).ok();
  }
  EXPECT_EQ(num_accepted, 3u);  // One hole, two with trailing bytes.
}

TEST(Safetensors, EveryTruncationIsAnError) {
  for (size_t size = 0; size < kTwoTensors.size(); ++size) {
    EXPECT_FALSE(Parse(kTwoTensors.substr(0, size), 6)) << size;
    EXPECT_FALSE(Parse(kTwoTensors.substr(0, size), 6, Strictness::kLenient)) << size;
  }
  const std::string contents = SafetensorsBytes(
      {{{"x", Dtype::kU8, {3}}, {1, 2, 3}}, {{"y", Dtype::kF32, {}}, {4, 5, 6, 7}}});
  const TempDirectory directory("truncation");
  const auto path = directory.path() / "x.safetensors";
  WriteText(path, contents);
  for (size_t size = contents.size(); size-- > 0;) {
    std::filesystem::resize_file(path, size);
    const auto file = File::OpenForReading(path);
    ASSERT_TRUE(file);
    const auto header = ReadSafetensorsHeader(*file, Strictness::kLenient);
    ASSERT_FALSE(header) << size;
    EXPECT_PRED_FORMAT2(IsSubstring, "x.safetensors: ", header.error().message);
    EXPECT_PRED_FORMAT2(IsSubstring, "file ends after " + std::to_string(size),
                        header.error().message);
  }
}

TEST(Safetensors, FilesThatAreSomethingElse) {
  const auto message = [](const std::string& contents) {
    const auto header = ParseFile(contents);
    return header ? std::string("accepted") : header.error().message;
  };
  EXPECT_PRED_FORMAT2(IsSubstring, "the length of the header takes 8 bytes, file ends after 0",
                      message(""));
  EXPECT_PRED_FORMAT2(
      IsSubstring, "x.safetensors: is a Git LFS pointer",
      message("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"));
  EXPECT_PRED_FORMAT2(IsSubstring, "header length", message("version https://git-lf"));
  EXPECT_PRED_FORMAT2(IsSubstring, "exceeds 100000000: not a safetensors file",
                      message("GGUF\x03 and more"));
  EXPECT_PRED_FORMAT2(IsSubstring, "header length 18446744073709551615",
                      message(LengthWord(UINT64_MAX) + "{}"));
  EXPECT_PRED_FORMAT2(IsSubstring, "header length 100000001 exceeds",
                      message(LengthWord(100'000'001) + "{}"));
  EXPECT_PRED_FORMAT2(IsSubstring, "header needs 100000000 bytes at 8, file ends after 10",
                      message(LengthWord(100'000'000) + "{}"));
  EXPECT_PRED_FORMAT2(IsSubstring, "header needs 3 bytes at 8", message(LengthWord(3) + "{}"));
  EXPECT_PRED_FORMAT2(IsSubstring, "header must start with '{'", message(LengthWord(0) + "{}"));
  EXPECT_EQ(message(LengthWord(2) + "{}"), "accepted");
}

TEST(Safetensors, ManyTensors) {
  constexpr uint64_t kNumTensors = 30'000;
  std::vector<TensorSpec> specs;
  for (uint64_t i = 0; i < kNumTensors; ++i) {
    specs.push_back({"model.layers." + std::to_string(i) + ".weight", Dtype::kU8, {i % 3}});
  }
  const SafetensorsLayout layout = LayOutSafetensors(specs);
  const auto header =
      Parse(std::string_view(layout.prefix).substr(8), layout.file_bytes - layout.prefix.size());
  ASSERT_TRUE(header) << header.error().message;
  EXPECT_EQ(header->tensors.size(), kNumTensors);
}

TEST(Safetensors, RefusesMoreThanAMillionEntries) {
  std::string text = R"({"__metadata__":{)";
  for (int i = 0; i < 1'000'000; ++i) text += '"' + std::to_string(i) + "\":\"\",";
  text.back() = '}';
  text += '}';
  const auto header = Parse(text, 0);
  ASSERT_FALSE(header);
  EXPECT_PRED_FORMAT2(IsSubstring, "header has more than 1000000 entries", header.error().message);
}

TEST(SafetensorsLayout, GoldenBytes) {
  const std::string text = R"({"__metadata__":{"format":"mlx"},)"
                           R"("a.weight":{"dtype":"U32","shape":[2,3],"data_offsets":[0,24]},)"
                           R"("a.scales":{"dtype":"BF16","shape":[2,1],"data_offsets":[24,28]},)"
                           R"("one":{"dtype":"U8","shape":[],"data_offsets":[28,29]},)"
                           R"("none":{"dtype":"F32","shape":[0,4],"data_offsets":[29,29]}})";
  const SafetensorsLayout layout = LayOutSafetensors({{"a.weight", Dtype::kU32, {2, 3}},
                                                      {"a.scales", Dtype::kBF16, {2, 1}},
                                                      {"one", Dtype::kU8, {}},
                                                      {"none", Dtype::kF32, {0, 4}}});
  ASSERT_EQ(text.size(), 276u);
  EXPECT_EQ(layout.prefix, std::string("\x38\1\0\0\0\0\0\0", 8) + text + std::string(36, ' '));
  EXPECT_EQ(layout.offsets, (std::vector<uint64_t>{320, 344, 348, 349}));
  EXPECT_EQ(layout.file_bytes, 349u);
}

TEST(SafetensorsLayout, NoTensors) {
  const SafetensorsLayout layout = LayOutSafetensors({});
  EXPECT_EQ(layout.prefix.size(), 64u);
  EXPECT_EQ(layout.file_bytes, 64u);
  const auto header = Parse(std::string_view(layout.prefix).substr(8), 0);
  ASSERT_TRUE(header) << header.error().message;
}

TEST(SafetensorsLayout, DataStartsAtAMultipleOf64) {
  for (size_t length = 1; length <= 200; ++length) {
    const SafetensorsLayout layout =
        LayOutSafetensors({{std::string(length, 'n'), Dtype::kU8, {7}}});
    EXPECT_EQ(layout.offsets[0] % 64, 0u);
    EXPECT_EQ(layout.offsets[0], layout.prefix.size());
    EXPECT_EQ(layout.file_bytes, layout.offsets[0] + 7);
  }
}

TEST(SafetensorsLayout, NamesAreEscaped) {
  std::vector<TensorSpec> specs = {{"quote \" backslash \\ slash /", Dtype::kU8, {1}},
                                   {"\xC3\xA9 \xF0\x9F\x98\x80 \x7F", Dtype::kU8, {1}}};
  for (int c = 0; c < 0x20; ++c) specs.push_back({{static_cast<char>(c)}, Dtype::kU8, {1}});
  const SafetensorsLayout layout = LayOutSafetensors(specs);
  const auto header = Parse(std::string_view(layout.prefix).substr(8), specs.size());
  ASSERT_TRUE(header) << header.error().message;
  for (size_t i = 0; i < specs.size(); ++i) EXPECT_EQ(header->tensors[i].name, specs[i].name);
}

TEST(SafetensorsLayout, StaysWithinItsBound) {
  std::mt19937_64 random(7);
  const auto below = [&](uint64_t limit) { return random() % limit; };
  for (int round = 0; round < 300; ++round) {
    std::vector<TensorSpec> specs;
    uint64_t bound = kFileOverheadBytes;
    const uint64_t num_tensors = below(40);
    for (uint64_t i = 0; i < num_tensors; ++i) {
      TensorSpec spec{std::to_string(i), static_cast<Dtype>(below(22)), {}};
      for (uint64_t length = below(60); length-- > 0;) {
        spec.name += static_cast<char>(below(128));
      }
      // Sizes of every magnitude, whole bytes for every dtype, in the sum below 10 TB.
      const uint64_t rank = below(4);
      for (uint64_t d = 0; d < rank; ++d) spec.shape.push_back(below(uint64_t{1} << below(12)));
      spec.shape.push_back(4 * below(100));
      uint64_t num_bytes = static_cast<uint64_t>(BitsOf(spec.dtype));
      for (const uint64_t dimension : spec.shape) num_bytes *= dimension;
      num_bytes /= 8;
      if (num_bytes > uint64_t{200} << 30) continue;
      bound += HeaderEntryBytes(spec.name, spec.dtype, spec.shape) + num_bytes;
      specs.push_back(std::move(spec));
    }
    const SafetensorsLayout layout = LayOutSafetensors(specs);
    EXPECT_LE(layout.file_bytes, bound);
    // Not a byte more than the digits that short offsets save and the padding.
    EXPECT_GE(layout.file_bytes + 80 + 24 * specs.size(), bound);

    const auto header =
        Parse(std::string_view(layout.prefix).substr(8), layout.file_bytes - layout.prefix.size());
    ASSERT_TRUE(header) << header.error().message;
    EXPECT_EQ(LayOutSafetensors(specs).prefix, layout.prefix);
  }
}

TEST(SafetensorsLayout, BoundIsReachedByTheWidestOffsets) {
  // 9,999,999,999,000 bytes and then 999: both offsets of the last have 13 digits.
  const std::vector<TensorSpec> specs = {{"a", Dtype::kU8, {9'999'999'999'000}},
                                         {"b", Dtype::kU8, {999}}};
  uint64_t bound = kFileOverheadBytes;
  for (const TensorSpec& spec : specs) {
    bound += HeaderEntryBytes(spec.name, spec.dtype, spec.shape) + spec.shape[0];
  }
  EXPECT_LE(LayOutSafetensors(specs).file_bytes, bound);
  EXPECT_EQ(HeaderEntryBytes("b", Dtype::kU8, {999}),
            std::string_view(
                R"(,"b":{"dtype":"U8","shape":[999],"data_offsets":[9999999999000,9999999999999]})")
                .size());
}

}  // namespace
}  // namespace ram
