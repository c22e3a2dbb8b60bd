#include "ram/report/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "ram/base/result.h"
#include "ram/report/html.h"
#include "ram/report/table.h"

namespace ram {
namespace {

std::string Tooltip(std::string_view text) {
  return text.empty() ? "" : fmt::format("<title>{}</title>", EscapeHtml(text));
}

std::string Closed(std::string_view element, std::string_view tooltip) {
  return tooltip.empty() ? "/>\n" : fmt::format(">{}</{}>\n", Tooltip(tooltip), element);
}

}  // namespace

std::string SvgNumber(double value) {
  RAM_CHECK(std::isfinite(value));
  const double rounded = std::round(value * 10) / 10;
  return fmt::format("{:g}", rounded == 0 ? 0.0 : rounded);
}

double SvgTextWidth(std::string_view text) { return 6.9 * DisplayWidth(text); }

std::string SvgCutText(std::string_view text, double width) {
  return CutMiddle(text, std::max(static_cast<int>(width / 6.9), 1), Style{});
}

double SvgBox::Overlap(const SvgBox& other) const {
  const double width = std::min(right, other.right) - std::max(left, other.left);
  const double height = std::min(bottom, other.bottom) - std::max(top, other.top);
  return width > 0 && height > 0 ? width * height : 0;
}

SvgDrawing::SvgDrawing(std::string_view id, double height, std::string_view title,
                       std::string_view description)
    : id_(id), height_(height), title_(title), description_(description) {}

void SvgDrawing::Line(std::string_view css, double x1, double y1, double x2, double y2) {
  body_ += fmt::format("<line class=\"{}\" x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\"/>\n", css,
                       SvgNumber(x1), SvgNumber(y1), SvgNumber(x2), SvgNumber(y2));
}

void SvgDrawing::Path(std::string_view css, std::span<const SvgSpot> spots) {
  std::string path;
  for (const SvgSpot& spot : spots) {
    path += fmt::format("{}{} {}", path.empty() ? "M" : "L", SvgNumber(spot.x), SvgNumber(spot.y));
  }
  if (!path.empty()) body_ += fmt::format("<path class=\"{}\" d=\"{}\"/>\n", css, path);
}

void SvgDrawing::Text(std::string_view css, double x, double y, TextAnchor anchor,
                      std::string_view text) {
  constexpr std::array<std::string_view, 3> kAnchors = {"", " text-anchor=\"middle\"",
                                                        " text-anchor=\"end\""};
  body_ += fmt::format("<text class=\"{}\" x=\"{}\" y=\"{}\"{}>{}</text>\n", css, SvgNumber(x),
                       SvgNumber(y), kAnchors[static_cast<size_t>(anchor)], EscapeHtml(text));
}

void SvgDrawing::TurnedText(std::string_view css, double x, double y, double degrees,
                            std::string_view text) {
  body_ += fmt::format("<text class=\"{}\" transform=\"translate({} {}) rotate({})\">{}</text>\n",
                       css, SvgNumber(x), SvgNumber(y), SvgNumber(degrees), EscapeHtml(text));
}

void SvgDrawing::Rect(std::string_view css, const SvgBox& box, std::string_view tooltip) {
  body_ += fmt::format("<rect class=\"{}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"2\"{}",
                       css, SvgNumber(box.left), SvgNumber(box.top),
                       SvgNumber(std::max(box.right - box.left, 0.0)),
                       SvgNumber(std::max(box.bottom - box.top, 0.0)), Closed("rect", tooltip));
}

void SvgDrawing::Mark(std::string_view css, SvgMark mark, double x, double y, double radius,
                      std::string_view tooltip) {
  if (mark == SvgMark::kDot || mark == SvgMark::kRing) {
    body_ += fmt::format("<circle class=\"{}{}\" cx=\"{}\" cy=\"{}\" r=\"{}\"{}", css,
                         mark == SvgMark::kRing ? " ring" : "", SvgNumber(x), SvgNumber(y),
                         SvgNumber(radius), Closed("circle", tooltip));
    return;
  }
  const double reach = mark == SvgMark::kDiamond ? radius * 1.3 : radius * 0.9;
  const std::string path =
      mark == SvgMark::kDiamond
          ? fmt::format("M{} {}L{} {}L{} {}L{} {}Z", SvgNumber(x - reach), SvgNumber(y),
                        SvgNumber(x), SvgNumber(y - reach), SvgNumber(x + reach), SvgNumber(y),
                        SvgNumber(x), SvgNumber(y + reach))
          : fmt::format("M{} {}H{}V{}H{}Z", SvgNumber(x - reach), SvgNumber(y - reach),
                        SvgNumber(x + reach), SvgNumber(y + reach), SvgNumber(x - reach));
  body_ += fmt::format("<path class=\"{}\" d=\"{}\"{}", css, path, Closed("path", tooltip));
}

void SvgDrawing::BeginLink(std::string_view target, std::string_view label) {
  has_links_ = true;
  body_ += fmt::format("<a href=\"#{}\" tabindex=\"-1\" aria-label=\"{}\">", EscapeHtml(target),
                       EscapeHtml(label));
}

void SvgDrawing::EndLink() { body_ += "</a>\n"; }

std::string SvgDrawing::Finish() {
  // An image has no parts that could be reached; one with links is a group of them.
  return fmt::format(
      "<svg viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" role=\"{2}\" "
      "aria-labelledby=\"{3}-title {3}-text\">\n<title id=\"{3}-title\">{4}</title>\n"
      "<desc id=\"{3}-text\">{5}</desc>\n{6}</svg>\n",
      SvgNumber(kDrawingWidth), SvgNumber(height_), has_links_ ? "group" : "img", EscapeHtml(id_),
      EscapeHtml(title_), EscapeHtml(description_), body_);
}

double SvgAxis::At(double value) const {
  const double share = (std::clamp(value, first, last) - first) / (last - first);
  return from + share * (to - from);
}

std::vector<double> NiceTicks(double first, double last, size_t most) {
  RAM_CHECK(std::isfinite(first) && std::isfinite(last) && first < last && most > 0);
  const double rough = (last - first) / static_cast<double>(most);
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double factor : {5.0, 2.0, 1.0}) {
    if (factor * power >= rough) step = factor * power;
  }
  std::vector<double> ticks;
  for (double k = std::ceil(first / step - 1e-9); k * step <= last + 1e-9 * step; ++k) {
    ticks.push_back(k * step);
  }
  return ticks;
}

std::vector<RatioTick> RatioTicks(double first, double last, size_t most) {
  std::vector<RatioTick> ticks;
  constexpr double kLargestRise = 1.7;  // As log ratios: about factors of 5 and 1/10.
  constexpr double kLargestFall = -2.3;
  if (first >= kLargestFall && last <= kLargestRise) {
    for (const double percent : NiceTicks(100 * std::expm1(first), 100 * std::expm1(last), most)) {
      const bool is_zero = std::abs(percent) < 1e-9;
      ticks.push_back({std::log1p(percent / 100), is_zero ? "0" : fmt::format("{:+g} %", percent)});
    }
    return ticks;
  }
  const double ln10 = std::log(10.0);
  const double decades = (last - first) / ln10;
  const double stride = std::max(1.0, std::ceil(decades / static_cast<double>(most)));
  for (double power = stride * std::floor(first / ln10 / stride); power * ln10 <= last;
       power += stride) {
    for (const double factor : {1.0, 2.0, 5.0}) {
      if (factor > 1 && 3 * decades > static_cast<double>(most)) continue;
      const double log_ratio = power * ln10 + std::log(factor);
      if (log_ratio < first || log_ratio > last) continue;
      const bool is_one = power == 0 && factor == 1;
      ticks.push_back({log_ratio, is_one ? "0"
                                  : std::abs(power) <= 3
                                      ? fmt::format("×{:g}", factor * std::pow(10.0, power))
                                      : fmt::format("×{:g}e{:g}", factor, power)});
    }
  }
  return ticks;
}

}  // namespace ram
