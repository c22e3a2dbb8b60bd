#include "ram/report/html.h"

#include <fmt/format.h>

#include <algorithm>

#include "ram/base/result.h"
#include "ram/report/table.h"

namespace ram {
namespace {

// Light, dark, paper: the same rules with other variables.
constexpr std::string_view kCss = R"css(
:root {
  color-scheme: light dark;
  --page: #ffffff; --panel: #f6f8fa; --ink: #1f2328; --dim: #59636e; --rule: #d1d9e0;
  --grid: #e9ecef; --axis: #8c959f; --blue: #0b63ad; --orange: #c2410c; --green: #00795a;
  --focus: #0b63ad;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0d1117; --panel: #151b23; --ink: #e6edf3; --dim: #9198a1; --rule: #30363d;
    --grid: #21262d; --axis: #656d76; --blue: #58a6ff; --orange: #ff9a57; --green: #3fc79a;
    --focus: #58a6ff;
  }
}
@media print {
  :root {
    --page: #ffffff; --panel: #ffffff; --ink: #000000; --dim: #444444; --rule: #bbbbbb;
    --grid: #dddddd; --axis: #777777; --blue: #0b63ad; --orange: #c2410c; --green: #00795a;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial,
    sans-serif;
}
main, header, footer { max-width: 60rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 3rem; }
footer { padding-top: 1rem; padding-bottom: 3rem; color: var(--dim); font-size: 0.875rem; }
h1 { font-size: 2rem; line-height: 1.2; letter-spacing: -0.02em; margin: 0; text-wrap: balance;
  overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; line-height: 1.3; letter-spacing: -0.01em; margin: 3rem 0 0.75rem;
  overflow-wrap: anywhere; }
p { margin: 0.5rem 0; max-width: 44rem; overflow-wrap: anywhere; }
.dim, figcaption { color: var(--dim); }
figcaption, .note { font-size: 0.875rem; max-width: 44rem; }
nav ul { display: flex; flex-wrap: wrap; gap: 0.25rem 1.25rem; padding: 0.75rem 0; margin: 1.25rem 0 0;
  list-style: none; border-top: 1px solid var(--rule); border-bottom: 1px solid var(--rule);
  font-size: 0.9rem; }
a { color: var(--blue); text-underline-offset: 0.2em; text-decoration-thickness: 1px; }
:focus-visible { outline: 2px solid var(--focus); outline-offset: 2px; border-radius: 2px; }
.verdict { padding: 0; margin: 0.75rem 0; list-style: none; }
.verdict li { border-left: 3px solid var(--blue); padding: 0.15rem 0 0.15rem 0.9rem;
  margin: 0.75rem 0; max-width: 44rem; overflow-wrap: anywhere; }
.notes { color: var(--dim); font-size: 0.875rem; padding-left: 1.1rem; max-width: 44rem; }
figure { margin: 1rem 0 1.5rem; }
.frame { overflow-x: auto; margin: 0.75rem 0; }
table { border-collapse: collapse; font-size: 0.875rem; line-height: 1.4;
  font-variant-numeric: tabular-nums; min-width: min(100%, 30rem); }
caption { text-align: left; color: var(--dim); padding-bottom: 0.4rem; }
caption span { display: block; max-width: min(44rem, calc(100vw - 2.5rem)); }
th, td { text-align: left; padding: 0.3rem 0 0.3rem 0.9rem; border-bottom: 1px solid var(--grid);
  white-space: nowrap; vertical-align: baseline; }
th:first-child, td:first-child { padding-left: 0; }
thead th { color: var(--dim); font-weight: 500; border-bottom-color: var(--rule);
  vertical-align: bottom; }
tbody th { font-weight: 600; white-space: normal; min-width: 7rem; }
.number { text-align: right; }
details { margin: 0.5rem 0; }
summary { cursor: pointer; color: var(--blue); font-size: 0.9rem; padding: 0.15rem 0;
  overflow-wrap: anywhere; }
.window { border: 1px solid var(--rule); border-radius: 6px; margin: 0.4rem 0; }
.window summary { padding: 0.4rem 0.75rem; color: var(--ink); font-variant-numeric: tabular-nums; }
.window[open] summary { border-bottom: 1px solid var(--rule); }
.text { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--panel); margin: 0;
  padding: 0.75rem; max-height: 24rem; overflow-y: auto; font-size: 0.875rem; max-width: none;
  border-radius: 0 0 6px 6px; }
svg { display: block; width: 100%; height: auto; min-width: 620px; }
svg text { font-size: 12px; font-family: inherit; font-variant-numeric: tabular-nums;
  fill: var(--ink); }
svg .dim { fill: var(--dim); }
svg .strong { font-weight: 600; }
svg .small { font-size: 10.5px; }
svg .halo { paint-order: stroke; stroke: var(--page); stroke-width: 3px; stroke-linejoin: round; }
.grid { stroke: var(--grid); }
.axis { stroke: var(--axis); }
.zero { stroke: var(--axis); stroke-width: 1.25; }
.limit { stroke: var(--axis); stroke-dasharray: 5 4; }
.first { fill: var(--blue); stroke: var(--blue); }
.second { fill: var(--orange); stroke: var(--orange); }
.third { fill: var(--green); stroke: var(--green); }
.other { fill: var(--dim); stroke: var(--dim); }
.ring { fill: var(--page); stroke-width: 2; }
.span { stroke-width: 2; stroke-linecap: round; }
path.curve { fill: none; stroke-width: 2; stroke-linejoin: round; }
path.curve.second { stroke-dasharray: 7 3; }
path.curve.thin { stroke-width: 1; stroke-opacity: 0.6; }
path.curve.third { stroke-dasharray: 2 3; }
.faint { fill-opacity: 0.38; stroke: none; }
.box { fill: var(--blue); fill-opacity: 0.16; stroke: var(--blue); }
svg a:focus-visible { outline: none; }
svg a:focus-visible > * { stroke: var(--ink); stroke-width: 3; }
.cell { stroke: var(--page); stroke-width: 1.5; }
.b2 { fill: #fff3c4; } .b3 { fill: #cfeabf; } .b4 { fill: #8fd3c1; } .b5 { fill: #4fb3c6; }
.b6 { fill: #2377a8; } .b8 { fill: #234c8f; } .b16 { fill: #161a4a; }
.b16.cell { stroke: var(--axis); stroke-width: 0.75; }
svg .on-light { fill: #10202a; } svg .on-dark { fill: #ffffff; }
@media (max-width: 40rem) {
  header { padding-top: 1.75rem; }
  h1 { font-size: 1.5rem; }
  h2 { margin-top: 2.25rem; }
}
@media print {
  body { font-size: 10.5pt; }
  main, header, footer { max-width: none; padding-left: 0; padding-right: 0; }
  nav { display: none; }
  .frame { overflow: visible; }
  svg { min-width: 0; }
  table { font-size: 8pt; }
  th, td { padding-left: 0.6rem; }
  figure, tr, li { break-inside: avoid; }
  h2 { break-after: avoid; }
  .text { max-height: none; }
  rect, circle, path { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
)css";

// Sentences, where "%" does not leave its number.
std::string Prose(std::string_view text) {
  std::string out = EscapeHtml(text);
  for (size_t at = 0; (at = out.find(" %", at)) != std::string::npos;) out.replace(at, 1, "&nbsp;");
  return out;
}

std::string Class(std::string_view css) {
  return css.empty() ? "" : fmt::format(" class=\"{}\"", css);
}

std::string Frame(std::string_view name, const std::string& body) {
  return fmt::format(
      "<div class=\"frame\" role=\"region\" tabindex=\"0\" aria-label=\"{}\">\n{}</div>\n",
      EscapeHtml(name), body);
}

}  // namespace

std::string EscapeHtml(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const size_t end = std::min(text.find_first_of("\n\t"), text.size());
    for (const char c : Printable(text.substr(0, end), Style{})) {
      switch (c) {
        case '&':
          out += "&amp;";
          break;
        case '<':
          out += "&lt;";
          break;
        case '>':
          out += "&gt;";
          break;
        case '"':
          out += "&quot;";
          break;
        case '\'':
          out += "&#39;";
          break;
        default:
          out += c;
      }
    }
    if (end == text.size()) break;
    out += text[end] == '\n' ? '\n' : ' ';
    text.remove_prefix(end + 1);
  }
  return out;
}

std::string HtmlTable(std::string_view caption, const std::vector<HtmlColumn>& columns,
                      const std::vector<std::vector<std::string>>& rows) {
  std::string body =
      fmt::format("<table>\n<caption><span>{}</span></caption>\n<thead><tr>", Prose(caption));
  for (const HtmlColumn& column : columns) {
    body += fmt::format("<th scope=\"col\"{}>{}</th>", Class(column.is_number ? "number" : ""),
                        EscapeHtml(column.title));
  }
  body += "</tr></thead>\n<tbody>\n";
  for (const std::vector<std::string>& row : rows) {
    RAM_CHECK(row.size() <= columns.size());
    body += "<tr>";
    for (size_t c = 0; c < columns.size(); ++c) {
      const std::string text = c < row.size() ? EscapeHtml(row[c]) : "";
      const std::string css = Class(columns[c].is_number ? "number" : "");
      body += c == 0 ? fmt::format("<th scope=\"row\"{}>{}</th>", css, text)
                     : fmt::format("<td{}>{}</td>", css, text);
    }
    body += "</tr>\n";
  }
  return Frame(caption, body + "</tbody>\n</table>\n");
}

std::string HtmlParagraph(std::string_view text, std::string_view css) {
  return fmt::format("<p{}>{}</p>\n", Class(css), Prose(text));
}

std::string HtmlList(const std::vector<std::string>& items, std::string_view css) {
  if (items.empty()) return "";
  std::string out = fmt::format("<ul{}>\n", Class(css));
  for (const std::string& item : items) out += fmt::format("<li>{}</li>\n", Prose(item));
  return out + "</ul>\n";
}

std::string HtmlDetails(std::string_view summary, const std::string& body, std::string_view css) {
  return fmt::format("<details{}>\n<summary>{}</summary>\n{}</details>\n", Class(css),
                     EscapeHtml(summary), body);
}

std::string HtmlFigure(std::string_view name, const std::string& svg, std::string_view caption) {
  return fmt::format("<figure>\n{}<figcaption>{}</figcaption>\n</figure>\n", Frame(name, svg),
                     Prose(caption));
}

std::string HtmlPage(std::string_view title, std::string_view subtitle,
                     const std::vector<HtmlSection>& sections) {
  std::string links;
  std::string body;
  for (const HtmlSection& section : sections) {
    links += fmt::format("<li><a href=\"#{}\">{}</a></li>\n", EscapeHtml(section.id),
                         EscapeHtml(section.title));
    body +=
        fmt::format("<section aria-labelledby=\"{0}\">\n<h2 id=\"{0}\">{1}</h2>\n{2}</section>\n",
                    EscapeHtml(section.id), EscapeHtml(section.title), section.body);
  }
  if (sections.size() > 1) {
    links = fmt::format("<nav aria-label=\"Sections\"><ul>\n{}</ul></nav>\n", links);
  } else {
    links.clear();
  }
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n"
      "<title>{0}</title>\n<style>{1}</style>\n</head>\n<body>\n<header>\n<h1>{0}</h1>\n{2}{3}"
      "</header>\n<main>\n{4}</main>\n<footer>Written by ram report. Nothing in this file is "
      "loaded from elsewhere.</footer>\n</body>\n</html>\n",
      EscapeHtml(title), kCss, subtitle.empty() ? "" : HtmlParagraph(subtitle, "dim"), links, body);
}

}  // namespace ram
