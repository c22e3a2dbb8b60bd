#include "ram/report/curve_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "ram/base/bytes.h"
#include "ram/report/plan_facts.h"
#include "ram/report/plot_scale.h"

namespace ram {
namespace {

constexpr int kPlotLines = 14;
constexpr int kMinWidth = 40;
constexpr int kMaxWidth = 110;

// A canvas of cells with 2 x 4 dots each, as braille has them, and marks above the dots.
class Canvas {
 public:
  Canvas(int columns, int lines) : columns_(columns), lines_(lines) {
    dots_.assign(static_cast<size_t>(columns * lines), 0);
  }

  int dots_across() const { return 2 * columns_; }
  int dots_down() const { return 4 * lines_; }

  void Dot(int x, int y) {
    if (x < 0 || y < 0 || x >= dots_across() || y >= dots_down()) return;
    // Bits of U+2800: the left column 0 1 2 6, the right one 3 4 5 7.
    constexpr int kBit[4][2] = {{0, 3}, {1, 4}, {2, 5}, {6, 7}};
    dots_[static_cast<size_t>(y / 4 * columns_ + x / 2)] |=
        static_cast<uint8_t>(1u << kBit[y % 4][x % 2]);
  }
  void Mark(int x, int y, const std::string& mark) {
    if (x < 0 || y < 0 || x >= dots_across() || y >= dots_down()) return;
    marks_[y / 4 * columns_ + x / 2] = mark;
  }

  std::string Line(int line, const Style& style) const {
    std::string out;
    for (int column = 0; column < columns_; ++column) {
      const int at = line * columns_ + column;
      const uint8_t dots = dots_[static_cast<size_t>(at)];
      if (const auto mark = marks_.find(at); mark != marks_.end()) {
        out += mark->second;
      } else if (dots == 0) {
        out += ' ';
      } else if (!style.unicode) {
        out += '.';
      } else {
        out += '\xE2';  // U+2800 + dots in UTF-8.
        out += static_cast<char>(0xA0 | dots >> 6);
        out += static_cast<char>(0x80 | (dots & 0x3F));
      }
    }
    while (!out.empty() && out.back() == ' ') out.pop_back();
    return out;
  }

 private:
  int columns_;
  int lines_;
  std::vector<uint8_t> dots_;
  std::map<int, std::string> marks_;
};

struct Marks {
  std::string knee, reference, chosen;
};

Marks MarksOf(const Style& style) {
  if (style.unicode) return {"◆", "×", "●"};
  return {"K", "x", "O"};
}

}  // namespace

std::string CurveText(const CurvePlotData& data, const Style& style) {
  const PlotRange range = RangeOf(data);
  if (style.width < kMinWidth || !range.valid()) return "";
  std::vector<std::string> tick_labels(kPlotLines);
  int label_width = 4;
  for (const double tick : CostTicks(range.smallest_cost, range.largest_cost)) {
    const int line = std::clamp(static_cast<int>(range.Down(tick) * kPlotLines), 0, kPlotLines - 1);
    tick_labels[static_cast<size_t>(line)] = CostTickText(tick);
    label_width =
        std::max(label_width, static_cast<int>(tick_labels[static_cast<size_t>(line)].size()));
  }
  const int columns = std::min(style.width, kMaxWidth) - label_width - 6;
  Canvas canvas(columns, kPlotLines);
  const auto dot_x = [&](double bytes) {
    return static_cast<int>(std::lround(range.Across(bytes) * (canvas.dots_across() - 1)));
  };
  const auto dot_y = [&](double cost) {
    return static_cast<int>(std::lround(range.Down(cost) * (canvas.dots_down() - 1)));
  };
  int last_y = -1;
  for (int x = 0; x < canvas.dots_across(); ++x) {
    const double bytes =
        static_cast<double>(range.first_bytes) +
        static_cast<double>(range.last_bytes - range.first_bytes) * x / (canvas.dots_across() - 1);
    const auto whole = static_cast<uint64_t>(bytes);
    if (whole < data.curve.front().bytes || whole > data.curve.back().bytes) continue;
    const double cost = CurveCostAt(data, whole);
    if (!(cost > 0)) break;
    const int y = dot_y(cost);
    for (int step = last_y < 0 ? y : std::min(last_y + 1, y); step <= y; ++step) {
      canvas.Dot(x, step);
    }
    last_y = y;
  }
  const Marks marks = MarksOf(style);
  const auto mark_all = [&](const std::vector<PlotPoint>& points, const std::string& mark) {
    for (const PlotPoint& point : points) {
      if (point.cost > 0)
        canvas.Mark(dot_x(static_cast<double>(point.bytes)), dot_y(point.cost), mark);
    }
  };
  mark_all(data.references, marks.reference);
  mark_all(data.knees, marks.knee);
  mark_all(data.chosen, marks.chosen);

  std::string out;
  const std::string indent(2, ' ');
  for (int line = 0; line < kPlotLines; ++line) {
    out += fmt::format("{}{:>{}} {} {}", indent, tick_labels[static_cast<size_t>(line)],
                       label_width, style.unicode ? "│" : "|", canvas.Line(line, style));
    while (out.back() == ' ') out.pop_back();
    out += '\n';
  }

  // The axis of sizes: ticks under the line, labels centred below them where there is room.
  const SizeAxis axis =
      SizeTicks(range.first_bytes, range.last_bytes, static_cast<size_t>(columns / 9));
  std::string line;
  std::vector<bool> is_tick(static_cast<size_t>(columns), false);
  std::string labels(static_cast<size_t>(columns), ' ');
  int free_from = 0;
  for (const SizeTick& tick : axis.ticks) {
    const int column = dot_x(tick.bytes) / 2;
    if (column < 0 || column >= columns) continue;
    is_tick[static_cast<size_t>(column)] = true;
    const int size = static_cast<int>(tick.label.size());
    const int at = std::clamp(column - size / 2, 0, columns - size);
    if (at < free_from) continue;
    labels.replace(static_cast<size_t>(at), tick.label.size(), tick.label);
    free_from = at + size + 1;
  }
  for (int column = 0; column < columns; ++column) {
    const bool tick = is_tick[static_cast<size_t>(column)];
    line += style.unicode ? (tick ? "┬" : "─") : (tick ? "+" : "-");
  }
  out += fmt::format("{}{:>{}} {}{}\n", indent, "cost", label_width, style.unicode ? "└─" : "+-",
                     line);
  while (!labels.empty() && labels.back() == ' ') labels.pop_back();
  out += fmt::format("{}{:>{}}   {}\n", indent, axis.unit, label_width, labels);
  std::string legend;
  const auto explain = [&](const std::vector<PlotPoint>& points, const std::string& mark,
                           std::string_view text) {
    if (!points.empty()) legend += fmt::format("{}{} {}", legend.empty() ? "" : ", ", mark, text);
  };
  explain(data.knees, marks.knee, "knee");
  explain(data.references, marks.reference, "for comparison");
  explain(data.chosen, marks.chosen, "plan");
  const int axis_column = 2 + label_width + 3;
  out += Wrap(legend, style, axis_column, axis_column);
  return out;
}

std::string CurveTable(const CurvePlotData& data, const Style& style) {
  struct Row {
    PlotPoint point;
    std::string what;
    bool is_reference = false;
  };
  std::vector<Row> rows;
  if (!data.curve.empty()) rows.push_back({data.curve.front(), "smallest plan"});
  for (const PlotPoint& point : data.knees) rows.push_back({point, "knee"});
  for (const PlotPoint& point : data.references) {
    rows.push_back({point, point.label, /*is_reference=*/true});
  }
  for (const PlotPoint& point : data.chosen) rows.push_back({point, "plan"});
  if (data.dense_bytes != 0) rows.push_back({{data.dense_bytes, 0, ""}, "16 bits"});
  std::stable_sort(rows.begin(), rows.end(),
                   [](const Row& a, const Row& b) { return a.point.bytes < b.point.bytes; });

  Table table({{"size", Align::kRight},
               {"bits", Align::kRight},
               {"", Align::kLeft, Column::Kind::kName},
               {"cost", Align::kRight},
               {"a plan", Align::kRight, Column::Kind::kText, /*optional=*/true},
               {"less", Align::kRight, Column::Kind::kText, /*optional=*/true}});
  for (const Row& row : rows) {
    const double least = CurveCostAt(data, row.point.bytes);
    const bool is_above = row.is_reference && row.point.cost > least;
    table.AddRow({FormatBytesShort(row.point.bytes),
                  fmt::format("{:.2f}", BitsPerWeight(row.point.bytes, data.num_weights)), row.what,
                  CostNumber(row.point.cost), is_above ? CostNumber(least) : "",
                  is_above ? Percent(1 - least / row.point.cost) : ""});
  }
  return table.Text(style);
}

}  // namespace ram
