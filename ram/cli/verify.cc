// ram verify DIR: a finished model directory, ours or foreign, against its config and plan.

#include <fmt/format.h>

#include "ram/base/file.h"
#include "ram/checkpoint/checkpoint.h"
#include "ram/cli/model_text.h"
#include "ram/cli/verb.h"
#include "ram/plan/plan.h"
#include "ram/writer/verify_model.h"

namespace ram::cli {
namespace {

// The certificate of a model that brings its rate table along.
Status CheckCertificate(const std::filesystem::path& directory, Context& context) {
  std::error_code error;
  if (!std::filesystem::exists(directory / "plan.json", error) ||
      !std::filesystem::exists(directory / "rates.json", error)) {
    return Done{};
  }
  RAM_ASSIGN_OR_RETURN(const std::string text, ReadFile(directory / "plan.json", kMaxJsonBytes));
  RAM_ASSIGN_OR_RETURN(const Plan plan, ParsePlan(text, (directory / "plan.json").string()));
  RAM_ASSIGN_OR_RETURN(const LoadedRates rates, ReadRateTable(directory / "rates.json"));
  RAM_RETURN_IF_ERROR(CheckPlan(plan, rates));
  context.Print(
      "certificate   holds: the plan is within its stated gap of the best one possible\n");
  return Done{};
}

}  // namespace

Verb AddVerify(CLI::App& app, Context& context) {
  auto directory = std::make_shared<std::string>();
  CLI::App* verb = app.add_subcommand(
      "verify", "Compare a model directory with its config, plan and certificate");
  verb->add_option("DIR", *directory, "An MLX model directory")->required();

  return {verb, [directory, &context]() -> Status {
            RAM_ASSIGN_OR_RETURN(const std::filesystem::path path, ResolveModel(*directory));
            RAM_ASSIGN_OR_RETURN(VerifiedModel model, VerifyModel(path));
            if (model.has_plan) {
              if (const Status checked = CheckCertificate(path, context); !checked) {
                model.problems.push_back("certificate: " + checked.error().message);
              }
            }
            context.Print(VerifiedText(model, context.style()));
            context.PrintJson(VerifiedJson(model));
            if (model.problems.empty()) return Done{};
            return Error{ErrorCode::kCorrupt,
                         fmt::format("{}: {} problem{}", *directory, model.problems.size(),
                                     model.problems.size() == 1 ? "" : "s")};
          }};
}

}  // namespace ram::cli
