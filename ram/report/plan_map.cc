// A plan at a glance: layers down, modules across.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <optional>

#include "ram/report/plan_facts.h"
#include "ram/report/report_plots.h"
#include "ram/report/svg.h"

namespace ram {
namespace {

constexpr double kLeft = 56;
constexpr double kRight = 776;       // Turned titles of the last columns need room.
constexpr double kTitleWidth = 150;  // Of a column, before it is cut.
constexpr double kMostCellWidth = 64;
constexpr double kOutsideWidth = 180;

struct ModulePlace {
  int layer = 0;
  std::string column;
};

// "model.layers.12.mlp.down_proj": layer 12, "mlp.down_proj". Nothing for modules outside the
// layers.
std::optional<ModulePlace> PlaceOf(std::string_view name) {
  constexpr std::string_view kLayers = "layers.";
  const size_t at = name.find(kLayers);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view rest = name.substr(at + kLayers.size());
  ModulePlace place;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), place.layer);
  const auto used = static_cast<size_t>(end - rest.data());
  if (error != std::errc() || used + 1 >= rest.size() || rest[used] != '.') return std::nullopt;
  place.column = rest.substr(used + 1);
  return place;
}

std::string LastComponent(const std::string& path) { return path.substr(path.rfind('.') + 1); }

// The last component where that tells columns apart, else the whole.
std::string ColumnTitle(const std::string& column, const std::vector<std::string>& columns) {
  const std::string last = LastComponent(column);
  const auto same = std::count_if(columns.begin(), columns.end(), [&](const std::string& other) {
    return LastComponent(other) == last;
  });
  return same == 1 ? last : column;
}

class PlanMapper {
 public:
  PlanMapper(std::string_view id, const Plan& plan) : id_(id) {
    for (const PlannedModule& module : plan.modules) {
      const std::optional<ModulePlace> place = PlaceOf(module.name);
      if (!place.has_value()) {
        outside_.push_back(&module);
        continue;
      }
      if (std::find(columns_.begin(), columns_.end(), place->column) == columns_.end()) {
        columns_.push_back(place->column);
      }
      layers_[place->layer].emplace(place->column, &module);
    }
    const double num_columns = std::max<double>(1, static_cast<double>(columns_.size()));
    cell_width_ = std::min((kRight - kLeft) / num_columns, kMostCellWidth);
    cell_height_ = layers_.size() > 48 ? 15 : layers_.size() > 24 ? 18 : 22;
  }

  std::string Draw() {
    const double outside_height = 26 * static_cast<double>((outside_.size() + 3) / 4);
    double title_width = 0;
    for (const std::string& column : columns_) {
      title_width = std::max(title_width, SvgTextWidth(ColumnTitle(column, columns_)));
    }
    // Titles are turned by 40 degrees, whose sine is 0.64.
    const double map_top = 56 + outside_height + 0.64 * std::min(title_width, kTitleWidth);
    const double height = map_top + cell_height_ * static_cast<double>(layers_.size()) + 16;
    SvgDrawing drawing(id_, height, "Choices of the plan",
                       "Layers down, modules across; colour is the number of bits, text is bits "
                       "and group size. The table of modules says the same.");
    DrawLegend(&drawing);
    DrawOutside(&drawing);
    for (size_t c = 0; c < columns_.size(); ++c) {
      drawing.TurnedText("dim", kLeft + cell_width_ * (static_cast<double>(c) + 0.4), map_top - 8,
                         -40, SvgCutText(ColumnTitle(columns_[c], columns_), kTitleWidth));
    }
    double y = map_top;
    for (const auto& [layer, modules] : layers_) {
      drawing.Text("dim", kLeft - 10, y + cell_height_ / 2 + 4, TextAnchor::kEnd,
                   std::to_string(layer));
      for (size_t c = 0; c < columns_.size(); ++c) {
        const auto module = modules.find(columns_[c]);
        if (module == modules.end()) continue;
        const double x = kLeft + cell_width_ * static_cast<double>(c);
        DrawCell(*module->second, {x, y, x + cell_width_, y + cell_height_}, &drawing);
      }
      y += cell_height_;
    }
    return drawing.Finish();
  }

 private:
  void DrawCell(const PlannedModule& module, const SvgBox& box, SvgDrawing* drawing) const {
    const int bits = module.choice.bits;
    drawing->Rect(fmt::format("cell b{}", bits), box,
                  fmt::format("{}: {}, {:.1f} dB", module.name, SpokenChoice(module.choice),
                              std::min(module.sqnr_db, 999.0)));
    const std::string text = module.choice.mode == Mode::kMxfp4 ? "mx4" : ChoiceName(module.choice);
    if (box.right - box.left < 26) return;
    drawing->Text(bits >= 6 ? "small on-dark" : "small on-light", (box.left + box.right) / 2,
                  (box.top + box.bottom) / 2 + 3.5, TextAnchor::kMiddle, text);
  }

  void DrawLegend(SvgDrawing* drawing) const {
    drawing->Text("dim", 0, 15, TextAnchor::kStart, "bits");
    double x = kLeft;
    for (const int bits : {2, 3, 4, 5, 6, 8, 16}) {
      drawing->Rect(fmt::format("cell b{}", bits), {x, 2, x + 34, 20});
      drawing->Text(bits >= 6 ? "small on-dark" : "small on-light", x + 17, 15, TextAnchor::kMiddle,
                    std::to_string(bits));
      x += 36;
    }
  }

  void DrawOutside(SvgDrawing* drawing) const {
    for (size_t k = 0; k < outside_.size(); ++k) {
      const double x = kLeft + kOutsideWidth * static_cast<double>(k % 4);
      const double y = 34 + 26 * static_cast<double>(k / 4);
      DrawCell(*outside_[k], {x, y, x + kMostCellWidth, y + 20}, drawing);
      drawing->Text(
          "dim", x + kMostCellWidth + 6, y + 14, TextAnchor::kStart,
          SvgCutText(LastComponent(outside_[k]->name), kOutsideWidth - kMostCellWidth - 12));
    }
  }

  std::string id_;
  std::vector<const PlannedModule*> outside_;
  std::vector<std::string> columns_;
  std::map<int, std::map<std::string, const PlannedModule*>> layers_;
  double cell_width_ = kMostCellWidth;
  double cell_height_ = 22;
};

}  // namespace

std::string PlanMap(std::string_view id, const Plan& plan) {
  if (plan.modules.empty()) return "";
  return PlanMapper(id, plan).Draw();
}

}  // namespace ram
