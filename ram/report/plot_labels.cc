#include "ram/report/plot_labels.h"

#include <algorithm>
#include <string>

namespace ram {
namespace {

constexpr double kWidest = 220;
constexpr double kReach = 11;    // From the mark.
constexpr double kOutside = 50;  // What a pixel outside of the frame counts, in px^2 of overlap.

struct Place {
  SvgBox box;
  TextAnchor anchor;
  double x;
};

}  // namespace

void PlotLabels::Draw(SvgDrawing* drawing, std::string_view css, const SvgSpot& spot,
                      std::string_view text) {
  const std::string cut = SvgCutText(text, kWidest);
  const double width = SvgTextWidth(cut);
  std::vector<Place> places;
  for (const double down : {0.0, -16.0, 16.0, -32.0, 32.0}) {
    const double y = spot.y + down;
    const double right = spot.x + kReach;
    const double left = spot.x - kReach;
    places.push_back({{right, y - 8, right + width, y + 8}, TextAnchor::kStart, right});
    places.push_back({{left - width, y - 8, left, y + 8}, TextAnchor::kEnd, left});
  }
  const Place* best = nullptr;
  double least = 0;
  double rank = 0;
  for (const Place& place : places) {
    double harm = rank++;
    harm +=
        kOutside * std::max({frame_.left - place.box.left, place.box.right - frame_.right, 0.0});
    harm +=
        kOutside * std::max({frame_.top - place.box.top, place.box.bottom - frame_.bottom, 0.0});
    for (const SvgBox& box : taken_) harm += place.box.Overlap(box);
    if (best != nullptr && harm >= least) continue;
    best = &place;
    least = harm;
  }
  drawing->Text(css, best->x, best->box.bottom - 4, best->anchor, cut);
  taken_.push_back(best->box);
}

}  // namespace ram
