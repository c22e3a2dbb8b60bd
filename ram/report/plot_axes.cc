#include "ram/report/plot_axes.h"

#include <cstdint>

#include "ram/report/plot_scale.h"

namespace ram {

void DrawSizesAcross(SvgDrawing* drawing, const SvgAxis& across, const SvgBox& frame) {
  const SizeAxis sizes =
      SizeTicks(static_cast<uint64_t>(across.first), static_cast<uint64_t>(across.last), 10);
  for (const SizeTick& tick : sizes.ticks) {
    const double x = across.At(tick.bytes);
    drawing->Line("grid", x, frame.top, x, frame.bottom);
    drawing->Text("dim", x, frame.bottom + 20, TextAnchor::kMiddle, tick.label);
  }
  drawing->Line("axis", frame.left, frame.bottom, frame.right, frame.bottom);
  drawing->Text("dim", frame.right, frame.bottom + 42, TextAnchor::kEnd, "size in " + sizes.unit);
}

void DrawRatiosAcross(SvgDrawing* drawing, const SvgAxis& across, double top, double bottom,
                      size_t most) {
  for (const RatioTick& tick : RatioTicks(across.first, across.last, most)) {
    const double x = across.At(tick.log_ratio);
    drawing->Line(tick.log_ratio == 0 ? "zero" : "grid", x, top, x, bottom);
    drawing->Text("dim", x, bottom + 20, TextAnchor::kMiddle, tick.label);
  }
}

void DrawRatiosDown(SvgDrawing* drawing, const SvgAxis& down, double left, double right,
                    size_t most) {
  for (const RatioTick& tick : RatioTicks(down.first, down.last, most)) {
    const double y = down.At(tick.log_ratio);
    drawing->Line(tick.log_ratio == 0 ? "zero" : "grid", left, y, right, y);
    drawing->Text("dim", left - 10, y + 4, TextAnchor::kEnd, tick.label);
  }
}

}  // namespace ram
