#include "ram/text/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "ram/base/file.h"
#include "ram/base/json.h"
#include "ram/text/testing.h"

namespace ram {
namespace {

const std::filesystem::path kFixtures = std::filesystem::path(RAM_TEST_DATA_DIR) / "tokenizers";

std::string ReadText(const std::filesystem::path& path) {
  Result<std::string> text = ReadFile(path, 100 << 20);
  EXPECT_TRUE(text.ok()) << path;
  return text ? *std::move(text) : "";
}

Tokenizer OpenFixture(const std::string& name) {
  Result<Tokenizer> tokenizer = Tokenizer::Open(kFixtures / name);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.error().message;
  return *std::move(tokenizer);
}

// The fixture's tokenizer.json with some of its keys replaced.
std::string Variant(const std::string& fixture, const char* changes) {
  Json file = Json::parse(ReadText(kFixtures / fixture / "tokenizer.json"));
  file.merge_patch(Json::parse(changes));
  return file.dump();
}

std::string ErrorOf(const std::string& json, ErrorCode code) {
  const Result<Tokenizer> tokenizer = Tokenizer::Parse(json, "", "t.json");
  EXPECT_FALSE(tokenizer.ok());
  if (tokenizer.ok()) return "";
  EXPECT_EQ(tokenizer.error().code, code) << tokenizer.error().message;
  EXPECT_TRUE(tokenizer.error().message.starts_with("t.json: ")) << tokenizer.error().message;
  return tokenizer.error().message;
}

std::vector<int32_t> Ids(const Tokenizer& tokenizer, std::string_view text, bool special = false) {
  const Result<std::vector<int32_t>> ids = tokenizer.Encode(text, special);
  EXPECT_TRUE(ids.ok());
  return ids ? *ids : std::vector<int32_t>();
}

TEST(Tokenizer, GivesTheOfficialLibrarysIdsAndText) {
  for (const std::string name : {"byte_level", "characters"}) {
    const Tokenizer tokenizer = OpenFixture(name);
    const Json golden = Json::parse(ReadText(kFixtures / name / "golden.json"));
    ASSERT_GT(golden.size(), 10u);
    for (const Json& entry : golden) {
      const auto text = entry["text"].get<std::string>();
      const auto ids = entry["ids"].get<std::vector<int32_t>>();
      EXPECT_EQ(Ids(tokenizer, text, /*special=*/true), ids) << entry.dump();
      EXPECT_EQ(Ids(tokenizer, text), entry["plain_ids"].get<std::vector<int32_t>>())
          << entry.dump();
      EXPECT_EQ(tokenizer.Decode(ids, false), entry["decoded"]) << entry.dump();
      EXPECT_EQ(tokenizer.Decode(ids, true), entry["without_special"]) << entry.dump();
    }
  }
}

TEST(Tokenizer, BringsTextBack) {
  const Tokenizer tokenizer = OpenFixture("byte_level");
  const std::string wiki = ReadText(kFixtures / "wiki.txt");
  EXPECT_EQ(tokenizer.Decode(Ids(tokenizer, wiki), false), wiki);
  // Not all of this is in NFC, but what comes back is.
  const std::vector<int32_t> ids = Ids(tokenizer, ReadText(kFixtures / "languages.txt"));
  EXPECT_EQ(Ids(tokenizer, tokenizer.Decode(ids, false)), ids);
}

// What is cut at safe places and taken from the cache must be what the whole would give: words of a
// text must not depend on where it begins.
TEST(Tokenizer, LongTextEqualsItsLines) {
  const Tokenizer tokenizer = OpenFixture("byte_level");
  const std::string text = ReadText(kFixtures / "wiki.txt");
  const std::vector<int32_t> whole = Ids(tokenizer, text);
  std::vector<int32_t> joined;
  size_t begin = 0;
  // Cut before a letter that follows a line end: no pattern reaches across.
  for (size_t at = 1; at < text.size(); ++at) {
    const bool is_letter =
        (text[at] >= 'a' && text[at] <= 'z') || (text[at] >= 'A' && text[at] <= 'Z');
    if (text[at - 1] != ' ' && text[at - 1] != '\n') continue;
    if (text[at - 1] == ' ' || !is_letter) continue;
    const std::vector<int32_t> part = Ids(tokenizer, text.substr(begin, at - begin));
    joined.insert(joined.end(), part.begin(), part.end());
    begin = at;
  }
  const std::vector<int32_t> rest = Ids(tokenizer, text.substr(begin));
  joined.insert(joined.end(), rest.begin(), rest.end());
  EXPECT_EQ(whole, joined);
}

TEST(Tokenizer, StreamEqualsDecode) {
  TortureText torture(5);
  const std::string whole = "\u65e5\u672c\u8a9e \U0001F469\u200D\U0001F467 x";
  const std::string changes[] = {
      "{}", R"({"decoder": null})",
      R"({"decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}})",
      R"({"decoder": {"type": "Sequence", "decoders": [{"type": "Fuse"},
          {"type": "Strip", "content": " ", "start": 2, "stop": 1}]}})",
      R"({"decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"},
          {"type": "Replace", "pattern": {"String": "▁▁"}, "content": "="}]}})"};
  for (const std::string name : {"byte_level", "characters"}) {
    for (const std::string& change : changes) {
      const Result<Tokenizer> tokenizer = Tokenizer::Parse(Variant(name, change.c_str()), "", name);
      ASSERT_TRUE(tokenizer.ok()) << tokenizer.error().message;
      StreamDecoder stream(*tokenizer, /*skip_special=*/true);
      for (int i = 0; i < 600; ++i) {
        std::vector<int32_t> ids = Ids(*tokenizer, torture.Next() + whole, /*special=*/true);
        // Half of the time any tokens, which are seldom UTF-8.
        if (i % 2 == 1) {
          for (int32_t& id : ids) {
            id = static_cast<int32_t>(torture.Draw(600));
          }
        }
        std::string streamed;
        for (const int32_t id : ids) {
          const std::string part = stream.Add(id);
          ASSERT_FALSE(FindInvalidUtf8(part)) << change;
          streamed += part;
        }
        streamed += stream.Finish();
        ASSERT_EQ(streamed, tokenizer->Decode(ids, true)) << name << " " << change << " " << i;
      }
    }
  }
}

TEST(Tokenizer, StreamWaitsForWholeCharacters) {
  const Tokenizer tokenizer = OpenFixture("byte_level");
  const std::vector<int32_t> ids = Ids(tokenizer, "\U00010348");  // In no merge.
  ASSERT_EQ(ids.size(), 4u);
  StreamDecoder stream(tokenizer, /*skip_special=*/false);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(stream.Add(ids[i]), "");
  EXPECT_EQ(stream.Add(ids[3]), "\U00010348");
  EXPECT_EQ(stream.Add(ids[0]), "");
  EXPECT_EQ(stream.Finish(), "\uFFFD");
}

TEST(Tokenizer, KnowsItsTokens) {
  const Tokenizer tokenizer = OpenFixture("byte_level");
  EXPECT_EQ(tokenizer.vocabulary_size(), 3462);
  EXPECT_EQ(tokenizer.num_tokens(), 3462u);
  EXPECT_EQ(tokenizer.eos_token(), "<|im_end|>");
  EXPECT_EQ(tokenizer.eos_id(), 3458);
  EXPECT_EQ(tokenizer.bos_id(), std::nullopt);
  EXPECT_TRUE(tokenizer.IsSpecial(3458));
  EXPECT_FALSE(tokenizer.IsSpecial(3459));  // <think> is to be seen.
  EXPECT_FALSE(tokenizer.IsToken(3462));
  EXPECT_FALSE(tokenizer.IsToken(-1));
  const std::vector<int32_t> the = Ids(tokenizer, " the");
  ASSERT_EQ(the.size(), 1u);
  EXPECT_EQ(tokenizer.TokenText(the[0]), "Ġthe");
  EXPECT_EQ(tokenizer.TokenBytes(the[0]), " the");
  EXPECT_EQ(tokenizer.FindToken("Ġthe"), the[0]);
  EXPECT_TRUE(tokenizer.notes().empty());

  const Tokenizer characters = OpenFixture("characters");
  EXPECT_EQ(characters.bos_id(), 1);
  EXPECT_EQ(characters.eos_id(), 2);
  EXPECT_EQ(characters.TokenBytes(3 + 0xE2), "\xE2");
  EXPECT_EQ(characters.Decode(std::vector<int32_t>{-5, 1 << 30}, false), "");
}

TEST(Tokenizer, SaysWhereItsFilesDisagree) {
  const std::string file = ReadText(kFixtures / "characters" / "tokenizer.json");
  const Result<Tokenizer> tokenizer = Tokenizer::Parse(
      file, R"({"bos_token": "<s>", "add_bos_token": false, "eos_token": null})", "t.json");
  ASSERT_TRUE(tokenizer.ok());
  ASSERT_EQ(tokenizer->notes().size(), 1u);
  EXPECT_NE(tokenizer->notes()[0].find("add_bos_token"), std::string::npos);
  EXPECT_EQ(Ids(*tokenizer, "x", true)[0], 1);
}

TEST(Tokenizer, RefusesTextThatIsNoUtf8) {
  const Tokenizer tokenizer = OpenFixture("characters");
  for (const std::string_view text : {"abc\xFF", "abc\xE2\x82", "abc\xC0\x80", "abc\xED\xA0\x80"}) {
    const Result<std::vector<int32_t>> ids = tokenizer.Encode(text, true);
    ASSERT_FALSE(ids.ok());
    EXPECT_NE(ids.error().message.find("at 3"), std::string::npos) << ids.error().message;
  }
}

TEST(Tokenizer, NamesWhatItDoesNotSupport) {
  const auto unsupported = [](const char* changes, const char* name) {
    const std::string message = ErrorOf(Variant("byte_level", changes), ErrorCode::kUnsupported);
    EXPECT_NE(message.find(name), std::string::npos) << message;
  };
  unsupported(R"({"normalizer": {"type": "Nmt"}})", "normalizer \"Nmt\"");
  unsupported(R"({"pre_tokenizer": {"type": "UnicodeScripts"}})", "\"UnicodeScripts\"");
  unsupported(R"({"post_processor": {"type": "Odd"}})", "post-processor \"Odd\"");
  unsupported(R"({"decoder": {"type": "WordPiece"}})", "decoder \"WordPiece\"");
  unsupported(R"({"model": {"type": "Unigram"}})", "\"Unigram\"");
  unsupported(R"({"model": {"dropout": 0.1}})", "dropout");
  unsupported(R"({"model": {"end_of_word_suffix": "</w>"}})", "end_of_word_suffix");
  for (const auto& [pattern, why] : {std::pair{R"(\\X)", "\\\\X"},
                                     {"[a&&b]", "&&"},
                                     {"(?<n>a)", "group"},
                                     {"a{2}+", "}+"},
                                     {"^a", "anchor"}}) {
    const std::string changes = std::string(R"({"pre_tokenizer": {"type": "Split", "invert": false,
        "behavior": "Isolated", "pattern": {"Regex": ")") +
                                pattern + R"("}}})";
    unsupported(changes.c_str(), why[0] == '\\' ? "\\X" : why);
  }
  EXPECT_NE(ErrorOf(Variant("byte_level", R"({"pre_tokenizer": {"type": "Split", "invert": false,
      "behavior": "Isolated", "pattern": {"Regex": "(a"}}})"),
                    ErrorCode::kCorrupt)
                .find("(a"),
            std::string::npos);
}

TEST(Tokenizer, RefusesContradictions) {
  const auto corrupt = [](const std::string& json, const char* why) {
    const std::string message = ErrorOf(json, ErrorCode::kCorrupt);
    EXPECT_NE(message.find(why), std::string::npos) << message;
  };
  const auto model = [](const char* parts) {
    return std::string(R"({"model": {"type": "BPE", )") + parts + "}}";
  };
  corrupt("{}", "model");
  corrupt(R"({"model": 3})", "model");
  corrupt(model(R"("vocab": {"a": 0, "b": 0}, "merges": [])"), "two tokens have id 0");
  corrupt(model(R"("vocab": {"a": 0, "a": 1}, "merges": [])"), "same token");
  corrupt(model(R"("vocab": {"a": -1}, "merges": [])"), "id -1");
  corrupt(model(R"("vocab": {"a": 1e3}, "merges": [])"), "whole number");
  corrupt(model(R"("vocab": {"a": 4194304}, "merges": [])"), "4194304");
  corrupt(model(R"("vocab": {"a": 0}, "merges": ["a b"])"), "merge 0");
  corrupt(model(R"("vocab": {"a": 0}, "merges": [["a"]])"), "two parts");
  corrupt(model(R"("vocab": {"a": 0}, "merges": ["a"])"), "merges");
  corrupt(model(R"("vocab": [], "merges": {})"), "must be");
  corrupt(model(R"("vocab": {}, "merges": [], "unk_token": "x")"), "unk_token");
  corrupt(R"({"model": {}, "model": {}})", "twice");
  corrupt(std::string("{\"a\": \0}", 8), "NUL");
}

TEST(Tokenizer, EveryTruncationIsAnError) {
  const std::string file = Variant("characters", R"({"model": {"vocab": null, "merges": null}})");
  std::string small = file;
  small.replace(small.find("\"model\":{"), 9,
                R"("model":{"vocab":{"a":0,"b":1,"ab":2},"merges":["a b"],)");
  ASSERT_FALSE(Tokenizer::Parse(small, "", "t").ok());  // No <unk>.
  small = Variant("byte_level", R"({"model": {"vocab": null, "merges": null}})");
  small.replace(small.find("\"model\":{"), 9,
                R"("model":{"vocab":{"a":0,"b":1,"ab":2},"merges":["a b"],)");
  const Result<Tokenizer> tokenizer = Tokenizer::Parse(small, "", "t");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.error().message;
  EXPECT_EQ(Ids(*tokenizer, "abab"), (std::vector<int32_t>{2, 2}));
  for (size_t size = 0; size < small.size(); ++size) {
    EXPECT_FALSE(Tokenizer::Parse(small.substr(0, size), "", "t").ok()) << size;
  }
}

TEST(Tokenizer, OpensOnlyWhatIsThere) {
  const Result<Tokenizer> tokenizer = Tokenizer::Open(kFixtures / "nowhere");
  ASSERT_FALSE(tokenizer.ok());
  EXPECT_EQ(tokenizer.error().code, ErrorCode::kNotFound);
}

TEST(Tokenizer, EncodesInManyThreads) {
  const Tokenizer tokenizer = OpenFixture("byte_level");
  const std::string text = ReadText(kFixtures / "wiki.txt").substr(0, 60000);
  const std::vector<int32_t> expected = Ids(tokenizer, text);
  std::vector<std::vector<int32_t>> results(4);
  std::vector<std::thread> threads;
  for (auto& result : results) {
    threads.emplace_back([&] { result = *tokenizer.Encode(text, false); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& result : results) EXPECT_EQ(result, expected);
}

}  // namespace
}  // namespace ram
