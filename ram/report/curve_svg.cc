#include "ram/report/curve_svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "ram/base/bytes.h"
#include "ram/report/html.h"
#include "ram/report/plan_facts.h"
#include "ram/report/plot_scale.h"
#include "ram/report/table.h"

namespace ram {
namespace {

// The page, in pixels, and the plot on it.
constexpr double kPageWidth = 960;
constexpr double kPageHeight = 600;
constexpr double kLeft = 84;
constexpr double kRight = 924;
constexpr double kTop = 128;
constexpr double kBottom = 526;

constexpr double kTextSize = 12;
constexpr double kLineHeight = 15;

// Light, dark, and the same classes for both. Written out rather than with variables, which many
// viewers of SVG do not know.
constexpr std::string_view kCss = R"css(
text { font: 12px ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial,
  sans-serif; font-variant-numeric: tabular-nums; fill: #1f2328; }
.page { fill: #ffffff; }
.title { font-size: 20px; font-weight: 600; }
.dim { fill: #656d76; }
.strong { font-weight: 600; }
.grid { stroke: #e9ecef; stroke-width: 1; }
.axis { stroke: #adb5bd; stroke-width: 1; }
.area { fill: #1864ab; fill-opacity: 0.07; }
.curve { fill: none; stroke: #1864ab; stroke-width: 2.25; stroke-linejoin: round; }
.knee { fill: #ffffff; stroke: #1864ab; stroke-width: 1.75; }
.reference { stroke: #868e96; stroke-width: 1.75; fill: none; }
.saved { stroke: #868e96; stroke-width: 1; stroke-dasharray: 1.5 2.5; }
.chosen { fill: #d9480f; stroke: #ffffff; stroke-width: 1.5; }
.drop { stroke: #d9480f; stroke-width: 1; stroke-opacity: 0.55; }
.chosen-text { fill: #b83a08; font-weight: 600; }
.end { fill: #1864ab; }
.limit { stroke: #868e96; stroke-width: 1; stroke-dasharray: 5 4; }
.leader { stroke: #adb5bd; stroke-width: 0.75; }
.halo { paint-order: stroke; stroke: #ffffff; stroke-width: 3px; stroke-linejoin: round; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; }
.page { fill: #0d1117; }
.dim { fill: #9198a1; }
.grid { stroke: #21262d; }
.axis { stroke: #484f58; }
.area { fill: #58a6ff; fill-opacity: 0.1; }
.curve { stroke: #58a6ff; }
.knee { fill: #0d1117; stroke: #58a6ff; }
.reference { stroke: #8b949e; }
.saved { stroke: #8b949e; }
.chosen { fill: #ff8c42; stroke: #0d1117; }
.drop { stroke: #ff8c42; }
.chosen-text { fill: #ffa366; }
.end { fill: #58a6ff; }
.limit { stroke: #8b949e; }
.leader { stroke: #484f58; }
.halo { stroke: #0d1117; }
}
)css";

struct Spot {
  double x = 0;
  double y = 0;
};

struct Box {
  double left, top, right, bottom;

  bool Contains(const Spot& spot) const {
    return left <= spot.x && spot.x <= right && top <= spot.y && spot.y <= bottom;
  }
};

double Overlap(const Box& a, const Box& b) {
  const double width = std::min(a.right, b.right) - std::max(a.left, b.left);
  const double height = std::min(a.bottom, b.bottom) - std::max(a.top, b.top);
  return width > 0 && height > 0 ? width * height : 0;
}

// Without the reader's font: a little more than most sans-serif fonts take.
double TextWidth(std::string_view text, bool is_strong) {
  double width = 0;
  for (const char c : text) {
    if ((static_cast<unsigned char>(c) & 0xC0u) == 0x80) continue;  // Inside a character.
    width += std::string_view(" .,:;'il|()").find(c) != std::string_view::npos ? 4
             : std::string_view("mwMWG%").find(c) != std::string_view::npos    ? 10.6
                                                                               : 7.5;
  }
  return width * (is_strong ? 1.1 : 1.0) * kTextSize / 12;
}

// A text that wants to stand near a spot.
struct Label {
  Spot spot;
  std::string text;
  std::string css;
  double radius = 6;  // Of the mark.
  bool is_strong = false;
  bool may_go = false;  // Left out rather than put over another.
};

enum class Anchor : uint8_t { kStart, kMiddle, kEnd };

struct PlacedLabel {
  const Label* label;
  Box box;
  Anchor anchor;
  bool has_leader = false;
};

// Puts each label beside its spot where it covers least: other labels, marks, the curve. The first
// labels choose first.
class LabelPlacer {
 public:
  LabelPlacer(std::vector<Spot> curve, const Box& area) : curve_(std::move(curve)), area_(area) {}

  void AddObstacle(const Box& box) { obstacles_.push_back(box); }

  void Place(const Label& label) {
    const double width = TextWidth(label.text, label.is_strong);
    std::optional<PlacedLabel> best;
    double best_harm = 0;
    int rank = 0;
    for (const double distance : {0.0, 14.0, 30.0, 48.0, 70.0}) {
      // Right above, left below (beside a falling curve), then the other sides.
      constexpr std::array<std::pair<int, int>, 8> kSides = {
          {{1, -1}, {-1, 1}, {1, 0}, {0, -1}, {-1, 0}, {0, 1}, {1, 1}, {-1, -1}}};
      for (const auto& [right, down] : kSides) {
        const double reach = label.radius + 3 + distance;
        const double diagonal = right != 0 && down != 0 ? 0.75 : 1;
        const Spot at = {label.spot.x + right * reach * diagonal,
                         label.spot.y + down * reach * diagonal};
        PlacedLabel placed;
        placed.label = &label;
        placed.anchor = right > 0 ? Anchor::kStart : right < 0 ? Anchor::kEnd : Anchor::kMiddle;
        placed.box.left = right > 0 ? at.x : right < 0 ? at.x - width : at.x - width / 2;
        placed.box.right = placed.box.left + width;
        placed.box.top = down > 0   ? at.y - 3
                         : down < 0 ? at.y - kLineHeight + 3
                                    : at.y - kLineHeight / 2;
        placed.box.bottom = placed.box.top + kLineHeight;
        placed.has_leader = distance > 0;
        const double harm = Harm(placed.box) + rank + 2 * distance +
                            (placed.has_leader ? LeaderHarm(label, at) : 0);
        if (!best.has_value() || harm < best_harm) {
          best = placed;
          best_harm = harm;
        }
        ++rank;
      }
    }
    if (label.may_go && best_harm >= kCovered) return;
    placed_.push_back(*best);
    obstacles_.push_back(best->box);
  }

  const std::vector<PlacedLabel>& placed() const { return placed_; }

 private:
  static constexpr double kCovered = 400;  // Harm of covering something.

  double Harm(const Box& box) const {
    double harm = 0;
    const double outside = std::max({area_.left - box.left, box.right - area_.right,
                                     area_.top - box.top, box.bottom - area_.bottom, 0.0});
    if (outside > 0) harm += 10'000 + outside;
    for (const Box& obstacle : obstacles_) {
      const double overlap = Overlap(box, obstacle);
      if (overlap > 0) harm += kCovered + 3 * overlap;
    }
    for (const Spot& spot : curve_) harm += box.Contains(spot) ? 12 : 0;
    return harm;
  }

  // A leader from the mark to `end` that runs through others.
  double LeaderHarm(const Label& label, const Spot& end) const {
    constexpr int kPieces = 12;
    const double length = std::hypot(end.x - label.spot.x, end.y - label.spot.y);
    double harm = 0;
    for (int p = 1; p < kPieces; ++p) {
      const double share = static_cast<double>(p) / kPieces;
      if (share * length < label.radius + 4) continue;  // Still inside the mark.
      const Spot spot = {label.spot.x + share * (end.x - label.spot.x),
                         label.spot.y + share * (end.y - label.spot.y)};
      for (const Box& obstacle : obstacles_) harm += obstacle.Contains(spot) ? 60 : 0;
    }
    return harm;
  }

  std::vector<Spot> curve_;  // A spot every few pixels.
  Box area_;
  std::vector<Box> obstacles_;
  std::vector<PlacedLabel> placed_;
};

class CurvePlot {
 public:
  explicit CurvePlot(const CurvePlotData& data) : data_(data), range_(RangeOf(data)) {}

  std::string Draw() {
    Begin();
    if (!range_.valid()) {
      out_ += fmt::format(
          "<text class=\"dim\" x=\"{}\" y=\"{}\">There is nothing to plot: every plan of this "
          "model has the same cost.</text>\n",
          Px(kLeft), Px(kTop + 40));
    } else {
      DrawAxes();
      DrawCurve();
      DrawMarks();
      DrawLegend();
      DrawLabels();
    }
    out_ += "</svg>\n";
    return std::move(out_);
  }

 private:
  // One decimal, without "-0.0" and without ".0".
  static std::string Px(double value) {
    const double rounded = std::round(value * 10) / 10;
    return fmt::format("{:g}", rounded == 0 ? 0.0 : rounded);
  }

  Spot At(uint64_t bytes, double cost) const {
    return {kLeft + range_.Across(static_cast<double>(bytes)) * (kRight - kLeft),
            kTop + range_.Down(cost) * (kBottom - kTop)};
  }
  double X(double bytes) const { return kLeft + range_.Across(bytes) * (kRight - kLeft); }
  bool IsShown(const PlotPoint& point) const { return point.cost > 0; }

  void Line(std::string_view css, double x1, double y1, double x2, double y2) {
    out_ += fmt::format("<line class=\"{}\" x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\"/>\n", css,
                        Px(x1), Px(y1), Px(x2), Px(y2));
  }
  void Text(std::string_view css, double x, double y, Anchor anchor, std::string_view text) {
    constexpr std::array<std::string_view, 3> kAnchors = {"", " text-anchor=\"middle\"",
                                                          " text-anchor=\"end\""};
    out_ += fmt::format("<text{}{}{} x=\"{}\" y=\"{}\"{}>{}</text>\n",
                        css.empty() ? "" : " class=\"", css, css.empty() ? "" : "\"", Px(x), Px(y),
                        kAnchors[static_cast<size_t>(anchor)], EscapeHtml(text));
  }

  void Begin() {
    const std::string title =
        fmt::format("{}: predicted cost of every size", EscapeHtml(data_.title));
    out_ += fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
        "height=\"{1}\" role=\"img\" aria-label=\"{2}\">\n<title>{2}</title>\n<style>{3}</style>\n"
        "<rect class=\"page\" width=\"{0}\" height=\"{1}\"/>\n",
        Px(kPageWidth), Px(kPageHeight), title, kCss);
    Text("title", kLeft, 44, Anchor::kStart, data_.title);
    if (!data_.subtitle.empty()) Text("dim", kLeft, 66, Anchor::kStart, data_.subtitle);
  }

  void DrawAxes() {
    for (const double tick : CostTicks(range_.smallest_cost, range_.largest_cost)) {
      const double y = At(range_.first_bytes, tick).y;
      Line("grid", kLeft, y, kRight, y);
      Text("dim", kLeft - 10, y + 4, Anchor::kEnd, CostTickText(tick));
    }
    const SizeAxis sizes = SizeTicks(range_.first_bytes, range_.last_bytes, 10);
    for (const SizeTick& tick : sizes.ticks) {
      const double x = X(tick.bytes);
      Line("grid", x, kTop, x, kBottom);
      Text("dim", x, kBottom + 20, Anchor::kMiddle, tick.label);
    }
    for (const int bits : BitTicks(range_.first_bytes, range_.last_bytes, data_.num_weights)) {
      const double x = X(bits / 8.0 * static_cast<double>(data_.num_weights));
      Line("axis", x, kTop - 5, x, kTop);
      Text("dim", x, kTop - 10, Anchor::kMiddle, std::to_string(bits));
    }
    Line("axis", kLeft, kTop, kRight, kTop);
    Line("axis", kLeft, kBottom, kRight, kBottom);
    Text("dim", kLeft - 10, kTop - 10, Anchor::kEnd, "cost");
    Text("dim", kRight, kTop - 28, Anchor::kEnd, "bits per weight, everything counted");
    Text("dim", kRight, kBottom + 40, Anchor::kEnd, "size in " + sizes.unit);
  }

  // The curve in pixels, at most two spots per pixel.
  std::vector<Spot> CurveSpots() const {
    std::vector<Spot> spots;
    const auto add = [&](const Spot& spot) {
      if (spots.size() > 1 && spot.x - spots[spots.size() - 2].x < 0.5) {
        spots.back() = spot;
      } else {
        spots.push_back(spot);
      }
    };
    for (size_t k = 0; k < data_.curve.size(); ++k) {
      const PlotPoint& point = data_.curve[k];
      if (point.cost > 0) {
        add(At(point.bytes, point.cost));
        continue;
      }
      // Cost falls evenly to 0, so its logarithm falls off the page.
      if (k == 0) break;
      const PlotPoint& before = data_.curve[k - 1];
      constexpr int kPieces = 64;
      for (int p = 1; p < kPieces; ++p) {
        const double left = 1 - static_cast<double>(p) / kPieces;
        const double bytes = left * static_cast<double>(before.bytes) +
                             (1 - left) * static_cast<double>(point.bytes);
        const double cost = left * before.cost;
        add({X(bytes), kTop + range_.Down(cost) * (kBottom - kTop)});
        if (cost < range_.smallest_cost) break;
      }
      break;
    }
    return spots;
  }

  void DrawCurve() {
    const std::vector<Spot> spots = CurveSpots();
    std::string path;
    for (const Spot& spot : spots) {
      path += fmt::format("{}{} {}", path.empty() ? "M" : "L", Px(spot.x), Px(spot.y));
    }
    out_ += fmt::format(
        "<clipPath id=\"plot\"><rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/></clipPath>\n",
        Px(kLeft - 2), Px(kTop), Px(kRight - kLeft + 4), Px(kBottom - kTop));
    out_ +=
        fmt::format("<g clip-path=\"url(#plot)\">\n<path class=\"area\" d=\"{}L{} {}L{} {}Z\"/>\n",
                    path, Px(spots.back().x), Px(kBottom), Px(spots.front().x), Px(kBottom));
    out_ += fmt::format("<path class=\"curve\" d=\"{}\"/>\n</g>\n", path);
  }

  // A mark is in the way of labels, and may have one.
  void AddMark(Label label) {
    constexpr double kAir = 2;
    const double reach = label.radius + kAir;
    const Spot& spot = label.spot;
    marks_.push_back({spot.x - reach, spot.y - reach, spot.x + reach, spot.y + reach});
    if (!label.text.empty()) labels_.push_back(std::move(label));
  }

  void DrawMarks() {
    // What plans save against other ways, from the reference down to the curve.
    for (const PlotPoint& point : data_.references) {
      const double cost = CurveCostAt(data_, point.bytes);
      if (!IsShown(point) || !(cost > 0)) continue;
      const Spot spot = At(point.bytes, point.cost);
      Line("saved", spot.x, spot.y, spot.x, std::min(At(point.bytes, cost).y, kBottom));
    }
    for (const PlotPoint& point : data_.chosen) {
      if (!IsShown(point)) continue;
      const Spot spot = At(point.bytes, point.cost);
      Line("drop", spot.x, spot.y, spot.x, kBottom);
      out_ += fmt::format("<circle class=\"chosen\" cx=\"{}\" cy=\"{}\" r=\"6\"/>\n", Px(spot.x),
                          Px(spot.y));
      AddMark({spot, point.label, "chosen-text", 7, /*is_strong=*/true});
    }
    if (data_.dense_bytes != 0 && data_.dense_bytes <= range_.last_bytes) {
      const double x = X(static_cast<double>(data_.dense_bytes));
      Line("limit", x, kTop, x, kBottom);
      AddMark({{x, kTop + 12}, "16 bits, " + FormatBytesShort(data_.dense_bytes), "dim", 3});
    }
    const PlotPoint& first = data_.curve.front();
    const Spot start = At(first.bytes, first.cost);
    out_ += fmt::format("<circle class=\"end\" cx=\"{}\" cy=\"{}\" r=\"4.5\"/>\n", Px(start.x),
                        Px(start.y));
    AddMark({start, "smallest, " + FormatBytesShort(first.bytes), "", 5});
    for (const PlotPoint& point : data_.references) {
      if (!IsShown(point)) continue;
      const Spot spot = At(point.bytes, point.cost);
      out_ += fmt::format("<path class=\"reference\" d=\"M{} {}l8 8m0 -8l-8 8\"/>\n",
                          Px(spot.x - 4), Px(spot.y - 4));
      AddMark({spot, point.label, "dim", 5});
    }
    for (const PlotPoint& point : data_.knees) {
      if (!IsShown(point)) continue;
      const Spot spot = At(point.bytes, point.cost);
      out_ += fmt::format("<path class=\"knee\" d=\"M{} {}l5 5l-5 5l-5 -5Z\"/>\n", Px(spot.x),
                          Px(spot.y - 5));
      AddMark({spot, point.label, "", 6, /*is_strong=*/false, /*may_go=*/true});
    }
  }

  // A row of marks and their names below the plot.
  void DrawLegend() {
    const double y = kBottom + 40;
    double x = kLeft;
    const auto name = [&](std::string_view text) {
      Text("dim", x, y, Anchor::kStart, text);
      x += TextWidth(text, false) + 24;
    };
    out_ += fmt::format("<path class=\"curve\" d=\"M{} {}h20\"/>\n", Px(x), Px(y - 4));
    x += 28;
    name("least cost for each size");
    if (!data_.knees.empty()) {
      out_ += fmt::format("<path class=\"knee\" d=\"M{} {}l5 5l-5 5l-5 -5Z\"/>\n", Px(x + 5),
                          Px(y - 9));
      x += 18;
      name("knee");
    }
    if (!data_.references.empty()) {
      out_ += fmt::format("<path class=\"reference\" d=\"M{} {}l8 8m0 -8l-8 8\"/>\n", Px(x + 1),
                          Px(y - 8));
      x += 17;
      name("for comparison");
    }
    if (!data_.chosen.empty()) {
      out_ += fmt::format("<circle class=\"chosen\" cx=\"{}\" cy=\"{}\" r=\"5\"/>\n", Px(x + 5),
                          Px(y - 4));
      x += 18;
      name("plan");
    }
  }

  void DrawLabels() {
    std::vector<Spot> dense;  // The curve, a spot every two pixels at least.
    const std::vector<Spot> spots = CurveSpots();
    for (size_t i = 0; i + 1 < spots.size(); ++i) {
      const double length = std::hypot(spots[i + 1].x - spots[i].x, spots[i + 1].y - spots[i].y);
      const int pieces = std::clamp(static_cast<int>(length / 2), 1, 1000);
      for (int p = 0; p < pieces; ++p) {
        const double share = static_cast<double>(p) / pieces;
        dense.push_back({spots[i].x + share * (spots[i + 1].x - spots[i].x),
                         spots[i].y + share * (spots[i + 1].y - spots[i].y)});
      }
    }
    LabelPlacer placer(std::move(dense), {kLeft + 2, kTop + 2, kRight + 20, kBottom - 2});
    for (const Box& mark : marks_) placer.AddObstacle(mark);
    for (const Label& label : labels_) placer.Place(label);
    for (const PlacedLabel& placed : placer.placed()) {
      const Label& label = *placed.label;
      const double x = placed.anchor == Anchor::kStart ? placed.box.left
                       : placed.anchor == Anchor::kEnd ? placed.box.right
                                                       : (placed.box.left + placed.box.right) / 2;
      if (placed.has_leader) {
        const double middle = (placed.box.top + placed.box.bottom) / 2;
        const double y = placed.anchor == Anchor::kMiddle
                             ? (middle < label.spot.y ? placed.box.bottom : placed.box.top)
                             : middle;
        const double dx = x - label.spot.x;
        const double dy = y - label.spot.y;
        const double length = std::max(std::hypot(dx, dy), 1.0);
        Line("leader", label.spot.x + dx / length * label.radius,
             label.spot.y + dy / length * label.radius, x - (dx == 0 ? 0 : std::copysign(2, dx)),
             y);
      }
      Text(label.css.empty() ? "halo" : label.css + " halo", x, placed.box.bottom - 4,
           placed.anchor, label.text);
    }
  }

  const CurvePlotData& data_;
  PlotRange range_;
  std::string out_;
  std::vector<Label> labels_;
  std::vector<Box> marks_;
};

}  // namespace

std::string CurveSvg(const CurvePlotData& data) { return CurvePlot(data).Draw(); }

}  // namespace ram
