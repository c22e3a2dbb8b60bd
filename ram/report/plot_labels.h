#pragma once

// Names beside marks, each where it covers least of what is drawn already.

#include <string_view>
#include <vector>

#include "ram/report/svg.h"

namespace ram {

class PlotLabels {
 public:
  // Labels stay in `frame` where they can.
  explicit PlotLabels(const SvgBox& frame) : frame_(frame) {}

  // What labels should not cover. Everything is taken before the first label is drawn.
  void Take(const SvgBox& box) { taken_.push_back(box); }
  void Draw(SvgDrawing* drawing, std::string_view css, const SvgSpot& spot, std::string_view text);

 private:
  SvgBox frame_;
  std::vector<SvgBox> taken_;
};

}  // namespace ram
