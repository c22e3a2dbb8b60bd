#pragma once

// Axes that several plots draw alike: lines of the grid across `frame`, labels beside it.

#include <cstddef>

#include "ram/report/svg.h"

namespace ram {

// Sizes in bytes along the lower edge, with the axis itself and its unit.
void DrawSizesAcross(SvgDrawing* drawing, const SvgAxis& across, const SvgBox& frame);

// Log ratios along the lower or the left edge, at most `most` + 1 of them.
void DrawRatiosAcross(SvgDrawing* drawing, const SvgAxis& across, double top, double bottom,
                      size_t most);
void DrawRatiosDown(SvgDrawing* drawing, const SvgAxis& down, double left, double right,
                    size_t most);

}  // namespace ram
