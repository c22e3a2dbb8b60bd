#include "ram/eval/wikitext.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "ram/base/file.h"
#include "ram/base/hash.h"

namespace ram {
namespace {

// What Python 3.11 gives for wikitext_detokenizer({"page": page}) of lm-eval 0.4.11.
TEST(WikitextTest, DetokenizesAsTheHarnessDoes) {
  const std::pair<const char*, const char*> cases[] = {
      {"players ' cars and the series ' The Bill ' was",
       "players'cars and the series' The Bill ' was"},
      {"/' 1/' 2/ and /' 3/", "/'[0-9]/' 2/ and /'[0-9]/"},
      {"a guest @-@ star in 1 @,@ 234 @.@ 5 of", "a guest-star in 1,234.5 of"},
      {"one : two ; three . four ! five ? six , seven", "one: two; three. four! five? six, seven"},
      {"( a ( b ) c ) and [ x ] or { y\n } ( )", "(a ( b) c ) and [x] or {y} ()"},
      {"he said \" hi \" and \"\342\200\203there\302\240\" \" open",
       "he said \"hi\" and \"there\" \" open"},
      {"it 's ' quoted\343\200\200' here", "it's' quoted\343\200\200' here"},
      {"= = = = a = = = b = = c", "==== a === b == c"},
      {"20 \302\260 C", "20\302\260C"},
      {"line \n next \n\n last", "line\nnext\n\nlast"},
      {" N of N N ", " 1 of 1 N "},
      {"a\034( \034b\037 )", "a\034(b)"},
      {"\302\260 \302\260", "\302\260 \302\260"},
      {"(", "("},
      {"'' ' '", "'' ''"}};
  for (const auto& [page, expected] : cases) EXPECT_EQ(DetokenizeWikitext(page), expected) << page;
}

TEST(WikitextTest, PagesBeginAtHeadingsOfTheFirstLevel) {
  const auto pages = WikitextPages(
      " \n = One = \n \n Text of one . \n \n = = Part = = \n \n More . \n \n = Two = \n \n Text");
  ASSERT_TRUE(pages) << pages.error().message;
  ASSERT_EQ(pages->size(), 2);
  // re.split(r"\s+", " = One = \n \n Text of one . \n \n = = Part = = \n \n More . \n ")
  EXPECT_EQ((*pages)[0].words, 16);
  EXPECT_EQ((*pages)[0].bytes, 57);
  EXPECT_EQ((*pages)[0].text, " = One =\n\nText of one.\n\n== Part ==\n\nMore.\n");
  EXPECT_EQ((*pages)[1].text, " = Two =\n\nText");
  const auto whole = WikitextPages("no heading\nat all");
  ASSERT_TRUE(whole);
  ASSERT_EQ(whole->size(), 1);
  EXPECT_EQ((*whole)[0].words, 4);
  EXPECT_FALSE(WikitextPages("\xff"));
}

TEST(WikitextTest, RowsThatWereJoinedBecomeLinesAgain) {
  EXPECT_EQ(UnjoinRows("\n\n = A = \n\n\n\n\n b \n\n\n"), " \n = A = \n \n b \n \n");
  for (const char* other : {"a\n\nb\n", "\n\na", " a\n b\n", " a\n\n\nb", "one line"}) {
    EXPECT_EQ(UnjoinRows(other), other);
  }
}

// The bundled test set: wiki.test.raw to the byte, whose hash everybody knows, and its 62 pages.
TEST(WikitextTest, TheTestSetHasItsPages) {
  const auto text = ReadFile(RAM_SOURCE_DIR "/data/wikitext-2/test.txt", uint64_t{1} << 24);
  ASSERT_TRUE(text);
  EXPECT_EQ(Sha256Hex(UnjoinRows(*text)),
            "173c87a53759e0201f33e0ccf978e510c2042d7f2cb78229d9a50d79b9e7dd08");
  const auto pages = WikitextPages(*text);
  ASSERT_TRUE(pages);
  ASSERT_EQ(pages->size(), 62);
  std::string all;
  uint64_t words = 0;
  uint64_t bytes = 0;
  for (const WikitextPage& page : *pages) {
    all += page.text;
    all += '\0';
    words += page.words;
    bytes += page.bytes;
  }
  EXPECT_EQ(words, 241'335);
  EXPECT_EQ(bytes, 1'290'527);
  EXPECT_EQ(Sha256Hex(all), "da61ba76b9daa5d5964a4e797206bb65bee7dd401fdbc16a83072f8cb94e08db");
}

}  // namespace
}  // namespace ram
