#pragma once

// Drawings inside a page (html.h), whose style sheet colours them: marks, text, axes. The same
// calls give the same bytes, and every number that is written is finite.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ram {

inline constexpr double kDrawingWidth = 840;  // Of every drawing [px]; the page scales it.

// "12.5": one decimal at most. The number is finite.
std::string SvgNumber(double value);

// About how wide text of 12 px is, without the reader's font: rather too wide than too narrow.
double SvgTextWidth(std::string_view text);
// At most `width` px of it; the middle goes.
std::string SvgCutText(std::string_view text, double width);

enum class TextAnchor : uint8_t { kStart, kMiddle, kEnd };

struct SvgSpot {
  double x = 0;
  double y = 0;
};

struct SvgBox {
  double left = 0;
  double top = 0;
  double right = 0;
  double bottom = 0;

  double Overlap(const SvgBox& other) const;  // Area [px^2].
};

// What a mark is: shape and colour, so that nobody needs to see colours. Colours that people with
// any colour vision tell apart (Okabe and Ito 2008).
enum class SvgMark : uint8_t { kDot, kRing, kDiamond, kSquare };

class SvgDrawing {
 public:
  // `id` is unique in the page; `title` and `description` are for those who do not see it.
  SvgDrawing(std::string_view id, double height, std::string_view title,
             std::string_view description);

  void Line(std::string_view css, double x1, double y1, double x2, double y2);
  void Path(std::string_view css, std::span<const SvgSpot> spots);
  void Text(std::string_view css, double x, double y, TextAnchor anchor, std::string_view text);
  // Turned by `degrees` around its beginning.
  void TurnedText(std::string_view css, double x, double y, double degrees, std::string_view text);
  // `tooltip` may be empty.
  void Rect(std::string_view css, const SvgBox& box, std::string_view tooltip = "");
  void Mark(std::string_view css, SvgMark mark, double x, double y, double radius,
            std::string_view tooltip = "");
  // What is drawn until EndLink leads to `target`, an id of this page, and is called `label`. Out
  // of the way of the tab key: what it leads to can be reached without it.
  void BeginLink(std::string_view target, std::string_view label);
  void EndLink();

  // The element; once.
  std::string Finish();

 private:
  std::string id_;
  double height_;
  std::string title_;
  std::string description_;
  bool has_links_ = false;
  std::string body_;
};

// Numbers to pixels, linear. Numbers outside the range, infinite ones too, land on its edge.
struct SvgAxis {
  double first = 0;
  double last = 1;
  double from = 0;  // Pixel of `first`.
  double to = 1;

  double At(double value) const;
};

// Multiples of 1, 2 or 5 times a power of ten within the range, at most `most` + 1 of them. first <
// last, both finite.
std::vector<double> NiceTicks(double first, double last, size_t most);

// Axes for log ratios, labelled with the change they stand for ("+5 %", "×20").
struct RatioTick {
  double log_ratio = 0;
  std::string label;
};
std::vector<RatioTick> RatioTicks(double first, double last, size_t most);

}  // namespace ram
