// ram plan MODEL|rates.json --budget ...: only the plan.

#include "ram/plan/plan.h"

#include <fmt/format.h>

#include "ram/base/bytes.h"
#include "ram/base/file.h"
#include "ram/cli/plan_options.h"
#include "ram/cli/rates_source.h"
#include "ram/cli/verb.h"
#include "ram/report/compress_table.h"

namespace ram::cli {
namespace {

struct Options {
  std::string source;
  std::string output;
  bool explain = false;
  PlanOptions plan;
  QuantizerOptions quantizer;
  MeasureSettings settings;
};

Status RunPlan(const Options& options, Context& context) {
  RAM_ASSIGN_OR_RETURN(const PlanRequest request, options.plan.Request());
  RAM_ASSIGN_OR_RETURN(RatesSource source, GetRates(options.source, options.settings, context));
  RAM_ASSIGN_OR_RETURN(const std::vector<Budget> budgets,
                       options.plan.Budgets(source.rates.table, request));
  if (!options.output.empty() && budgets.size() != 1) {
    return Error{ErrorCode::kInvalidArgument, "-o takes one plan; pass one budget"};
  }
  CompressOptions compress;
  compress.request = request;
  RAM_ASSIGN_OR_RETURN(compress.quantizer, options.quantizer.quantizer());
  RAM_ASSIGN_OR_RETURN(compress.rounding, options.quantizer.rounding());
  compress.pool = &context.pool();
  compress.watcher = context.MakeWatcher();

  std::vector<Plan> plans;
  OrderedJson results = OrderedJson::array();
  for (const Budget& budget : budgets) {
    if (!budget.note.empty()) context.Print(budget.note + "\n");
    Plan plan;
    if (source.model) {
      RAM_ASSIGN_OR_RETURN(plan,
                           MakeShippedPlan(*source.model, compress, budget.bytes, &source.rates));
    } else {
      RAM_ASSIGN_OR_RETURN(const Problem problem, BuildProblem(source.rates.table, request));
      RAM_ASSIGN_OR_RETURN(const Curve curve, BuildCurve(problem.knapsack));
      RAM_ASSIGN_OR_RETURN(plan, MakePlan(source.rates, problem, curve, request, budget.bytes));
    }
    plan.rates_file = source.file_name.empty() ? "rates.json" : source.file_name;
    results.push_back(OrderedJson::parse(ToJsonText(plan)));
    plans.push_back(std::move(plan));
  }
  context.EndProgress();
  if (!options.output.empty()) {
    RAM_RETURN_IF_ERROR(WriteFileAtomically(options.output, ToJsonText(plans.front())));
  }
  if (options.explain) {
    for (const Plan& plan : plans) {
      context.Print(ExplainPlan(plan, source.rates.table) + "\n");
    }
  } else if (plans.size() == 1) {
    context.Print(CompressSummary(plans.front(), source.rates.table, context.style()));
  } else {
    std::vector<const Plan*> pointers;
    for (const Plan& plan : plans) pointers.push_back(&plan);
    context.Print(BudgetTable(pointers, source.rates.table, context.style()));
  }
  context.PrintJson(results.size() == 1 ? results[0] : results);
  return Done{};
}

}  // namespace

Verb AddPlan(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb =
      app.add_subcommand("plan", "Choose bits and group size of every module for a size");
  verb->add_option("MODEL|RATES", options->source, "A model, or a rate table (*.json)")->required();
  verb->add_option("-o,--output", options->output, "Write plan.json here");
  verb->add_flag("--explain", options->explain, "Say in plain words what was chosen and why");
  options->plan.Add(verb, /*with_budgets=*/true);
  options->quantizer.Add(verb, "rtn+");
  options->settings.Add(verb);
  return {verb, [options, &context] { return RunPlan(*options, context); }};
}

}  // namespace ram::cli
