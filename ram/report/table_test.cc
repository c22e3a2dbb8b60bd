#include "ram/report/table.h"

#include <gtest/gtest.h>

#include <sstream>

namespace ram {
namespace {

int WidestLine(const std::string& text) {
  std::istringstream stream(text);
  int widest = 0;
  for (std::string line; std::getline(stream, line);) {
    widest = std::max(widest, DisplayWidth(line));
  }
  return widest;
}

TEST(DisplayWidth, CountsColumns) {
  EXPECT_EQ(DisplayWidth(""), 0);
  EXPECT_EQ(DisplayWidth("down_proj"), 9);
  EXPECT_EQ(DisplayWidth("…×█"), 3);
  EXPECT_EQ(DisplayWidth("模型"), 4);
  EXPECT_EQ(DisplayWidth("e\u0301"), 1);
  EXPECT_EQ(DisplayWidth("\xff\xc3"), 2);  // Broken bytes show as one column each.
}

TEST(Printable, LetsNothingReachTheTerminalThatIsNoText) {
  const Style style;
  EXPECT_EQ(Printable("a\x1b[31mb\n", style), "a?[31mb?");
  EXPECT_EQ(Printable("caf\u00e9 模型", style), "caf\u00e9 模型");
  EXPECT_EQ(Printable("a\u202eb", style), "a?b");                // Turns the text around.
  EXPECT_EQ(Printable("\xc0\xaf\xed\xa0\x80", style), "?????");  // Overlong, surrogate.
  EXPECT_EQ(Printable("\xf0\x9f", style), "??");
  const Style ascii{80, false, false};
  EXPECT_EQ(Printable("3× 模… λ", ascii), "3x ?... lambda");
}

TEST(CutMiddle, KeepsBothEnds) {
  const Style style;
  const std::string name = "model.layers.17.mlp.switch_mlp.down_proj";
  EXPECT_EQ(CutMiddle(name, 40, style), name);
  EXPECT_EQ(CutMiddle(name, 21, style), "model.laye….down_proj");
  for (int width = 1; width < 45; ++width) {
    for (const bool unicode : {true, false}) {
      const Style narrow{80, false, unicode};
      EXPECT_LE(DisplayWidth(CutMiddle(name, width, narrow)), width);
      EXPECT_LE(DisplayWidth(CutEnd(name, width, narrow)), width);
      EXPECT_LE(DisplayWidth(CutMiddle("模型模型模型模型", width, narrow)), width);
    }
  }
}

TEST(Bar, HasEighths) {
  const Style style;
  EXPECT_EQ(Bar(0, 8, style), "");
  EXPECT_EQ(Bar(1, 4, style), "████");
  EXPECT_EQ(Bar(0.5, 4, style), "██");
  EXPECT_EQ(Bar(0.40625, 4, style), "█▋");
  EXPECT_EQ(Bar(1e-9, 4, style), "▏");
  EXPECT_EQ(Bar(7, 4, style), "████");
  EXPECT_EQ(Bar(0.0 / 0.0, 4, style), "");
  EXPECT_EQ(Bar(0.5, 4, {80, false, false}), "##");
  EXPECT_EQ(Bar(1e-9, 4, {80, false, false}), "#");
}

TEST(Percent, MeansSomething) {
  EXPECT_EQ(Percent(0), "0 %");
  EXPECT_EQ(Percent(1), "100 %");
  EXPECT_EQ(Percent(0.1234), "12.3 %");
  EXPECT_EQ(Percent(0.99996), "100 %");
  EXPECT_EQ(Percent(0.00011), "0.011 %");
  EXPECT_EQ(Percent(1e-9), "<0.0001 %");
  EXPECT_EQ(Percent(-0.25), "-25.0 %");
  EXPECT_EQ(Percent(0.0 / 0.0), "-");
}

TEST(Wrap, BreaksAtBlanksAndInLongWords) {
  const Style style{20, false, true};
  EXPECT_EQ(Wrap("one two three four five", style, 2, 4), "  one two three four\n    five\n");
  EXPECT_EQ(Wrap("abcdefghijklmnopqrstuvwxyz", style, 0, 4), "abcdefghijklmnopqrst\n    uvwxyz\n");
  EXPECT_EQ(Wrap("", style), "");
  for (int width = 1; width < 60; ++width) {
    const std::string text =
        Wrap("a certificate of 模型模型 quality: optimal", {width, false, true}, 3, 7);
    EXPECT_LE(WidestLine(text), std::max(width, 2)) << width;  // A wide character needs two.
  }
}

TEST(Facts, AlignValues) {
  EXPECT_EQ(Facts({{"size", "15.26 GiB"}, {"proof", "optimal"}}, {40, false, true}),
            "  size   15.26 GiB\n  proof  optimal\n");
  EXPECT_EQ(Facts({{"a", ""}}, {40, false, true}), "  a\n");
  EXPECT_EQ(Facts({{"bits per weight", "4"}}, {20, false, true}), "  bits per weight\n    4\n");
}

Table Sample() {
  Table table({{"module", Align::kLeft, Column::Kind::kName},
               {"layers", Align::kRight, Column::Kind::kText, /*optional=*/true},
               {"choice"},
               {"weights", Align::kRight},
               {"", Align::kLeft, Column::Kind::kBar},
               {"why", Align::kLeft, Column::Kind::kRemark}});
  table.AddRow({"model.layers.*.mlp.switch_mlp.down_proj", "48", "(5,128)", "31.7 %", 0.317,
                "pinned by the rule switch_mlp.down_proj=5,128"});
  table.AddRow({"lm_head", "1", "(8,64)", "1.0 %", 0.01, "12× harm"});
  table.AddRule();
  table.AddRow({"model.嵌入", "", "16 bits", "0.2 %", 0.002});
  return table;
}

TEST(Table, NeverExceedsTheWidth) {
  for (int width = 1; width <= 200; ++width) {
    for (const bool unicode : {true, false}) {
      const std::string text = Sample().Text({width, false, unicode});
      EXPECT_LE(WidestLine(text), width) << width << "\n" << text;
      EXPECT_EQ(text.find(" \n"), std::string::npos) << "trailing blanks at " << width;
    }
  }
}

TEST(Table, ShowsEverythingWhereThereIsRoom) {
  EXPECT_EQ(Sample().Text({140, false, true}),
            "  module                                   layers  choice   weights                   "
            "         "
            "why\n"
            "  "
            "──────────────────────────────────────────────────────────────────────────────────────"
            "────────"
            "────────────────────────────────────────────\n"
            "  model.layers.*.mlp.switch_mlp.down_proj      48  (5,128)   31.7 %  ███████▋         "
            "         "
            "pinned by the rule switch_mlp.down_proj=5,128\n"
            "  lm_head                                       1  (8,64)     1.0 %  ▎                "
            "         "
            "12× harm\n"
            "  "
            "──────────────────────────────────────────────────────────────────────────────────────"
            "────────"
            "────────────────────────────────────────────\n"
            "  model.嵌入                                       16 bits    0.2 %  ▏\n");
}

TEST(Table, ColorChangesNothingElse) {
  const std::string plain = Sample().Text({80, false, true});
  std::string colored = Sample().Text({80, true, true});
  EXPECT_NE(plain, colored);
  for (size_t at = colored.find('\x1b'); at != std::string::npos; at = colored.find('\x1b')) {
    colored.erase(at, colored.find('m', at) - at + 1);
  }
  EXPECT_EQ(plain, colored);
}

}  // namespace
}  // namespace ram
