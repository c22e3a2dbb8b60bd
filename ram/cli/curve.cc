// ram curve MODEL|rates.json [-o curve.svg]: every budget at once.

#include <fmt/format.h>

#include "ram/base/bytes.h"
#include "ram/base/file.h"
#include "ram/cli/plan_options.h"
#include "ram/cli/rates_source.h"
#include "ram/cli/verb.h"
#include "ram/report/curve_svg.h"
#include "ram/report/curve_text.h"

namespace ram::cli {
namespace {

OrderedJson CurveJson(const CurvePlotData& plot, const Problem& problem, const Curve& curve,
                      const RateTable& rates) {
  OrderedJson points = OrderedJson::array();
  for (size_t k = 0; k < curve.bytes.size(); ++k) {
    OrderedJson point = {
        {"bytes", problem.fixed_bytes + curve.bytes[k]},
        {"bits_per_weight", 8 * static_cast<double>(problem.fixed_bytes + curve.bytes[k]) /
                                static_cast<double>(rates.num_weights())},
        {"cost", static_cast<double>(curve.cost[k]) * kCostUnit}};
    if (k > 0) {
      const Increment& step = curve.increments[k - 1];
      const ProblemItem& item = problem.items[step.item];
      point["module"] = rates.modules[item.modules.front()].name;
      point["from"] = ChoiceName(item.options[static_cast<size_t>(step.from)]);
      point["to"] = ChoiceName(item.options[static_cast<size_t>(step.to)]);
      point["lambda"] =
          static_cast<double>(step.cost) * kCostUnit / static_cast<double>(step.bytes);
    }
    points.push_back(std::move(point));
  }
  const auto marks = [](const std::vector<PlotPoint>& from) {
    OrderedJson list = OrderedJson::array();
    for (const PlotPoint& point : from) {
      list.push_back({{"label", point.label}, {"bytes", point.bytes}, {"cost", point.cost}});
    }
    return list;
  };
  return {{"model", rates.model},
          {"weights", rates.num_weights()},
          {"knees", marks(plot.knees)},
          {"references", marks(plot.references)},
          {"points", points}};
}

}  // namespace

Verb AddCurve(CLI::App& app, Context& context) {
  struct Options {
    std::string source;
    std::string output;
    PlanOptions plan;
    MeasureSettings settings;
  };
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand(
      "curve", "Size against predicted cost for every budget, with knees; draws an SVG");
  verb->add_option("MODEL|RATES", options->source, "A model, or a rate table (*.json)")->required();
  verb->add_option("-o,--output", options->output, "curve.svg");
  options->plan.Add(verb, /*with_budgets=*/false);
  options->settings.Add(verb);

  return {verb, [options, &context]() -> Status {
            RAM_ASSIGN_OR_RETURN(const PlanRequest request, options->plan.Request());
            RAM_ASSIGN_OR_RETURN(const RatesSource source,
                                 GetRates(options->source, options->settings, context));
            const RateTable& rates = source.rates.table;
            RAM_ASSIGN_OR_RETURN(const Problem problem, BuildProblem(rates, request));
            RAM_ASSIGN_OR_RETURN(const Curve curve, BuildCurve(problem.knapsack));
            const CurvePlotData plot = MakeCurvePlot(rates, problem, curve, request.objective);
            if (!options->output.empty()) {
              RAM_RETURN_IF_ERROR(WriteFileAtomically(options->output, CurveSvg(plot)));
            }
            const Style style = context.style();
            context.Print(CurveText(plot, style) + "\n" + CurveTable(plot, style));
            if (!options->output.empty()) {
              context.Print(fmt::format("\ndrawn in {}\n", options->output));
            }
            context.PrintJson(CurveJson(plot, problem, curve, rates));
            return Done{};
          }};
}

}  // namespace ram::cli
