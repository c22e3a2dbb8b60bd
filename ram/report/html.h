#pragma once

// The parts of a page that stands alone: escaping, frame and style sheet, tables. No network, no
// scripts; light or dark as the reader's screen is, and black on white on paper.

#include <string>
#include <string_view>
#include <vector>

namespace ram {

// Text as it may stand in an element or a quoted attribute, of HTML and SVG alike: & < > " ' become
// entities, control characters and broken UTF-8 "?". Line breaks stay, tabs become blanks.
std::string EscapeHtml(std::string_view text);

// Everywhere below, text is escaped here; `body` is HTML and is not.

struct HtmlColumn {
  std::string title;
  bool is_number = false;  // To the right, digits below digits.
};

// A table with a caption; the first cell of a row is its heading. Rows have at most as many cells
// as there are columns; the rest is empty. Wide tables scroll in a frame that the keyboard reaches.
std::string HtmlTable(std::string_view caption, const std::vector<HtmlColumn>& columns,
                      const std::vector<std::vector<std::string>>& rows);

std::string HtmlParagraph(std::string_view text, std::string_view css = "");
std::string HtmlList(const std::vector<std::string>& items, std::string_view css = "");

// A part that opens on request. `css` may be empty.
std::string HtmlDetails(std::string_view summary, const std::string& body,
                        std::string_view css = "");

// A drawing with what is said about it below. `name` is what the frame is called when it scrolls.
std::string HtmlFigure(std::string_view name, const std::string& svg, std::string_view caption);

struct HtmlSection {
  std::string id;  // Letters, digits, "-"; unique in the page.
  std::string title;
  std::string body;
};

// The whole document. With two sections or more, links to them come first.
std::string HtmlPage(std::string_view title, std::string_view subtitle,
                     const std::vector<HtmlSection>& sections);

}  // namespace ram
