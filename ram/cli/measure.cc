// ram measure MODEL [-o rates.json]: the rate table, nothing else.

#include <fmt/format.h>

#include "ram/base/bytes.h"
#include "ram/base/file.h"
#include "ram/cli/rates_source.h"
#include "ram/cli/verb.h"

namespace ram::cli {

Verb AddMeasure(CLI::App& app, Context& context) {
  struct Options {
    std::string model;
    std::string output;
    MeasureSettings settings;
  };
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("measure", "Measure what every choice of every module costs");
  verb->add_option("MODEL", options->model, "Directory, or a name in the Hugging Face cache")
      ->required();
  verb->add_option("-o,--output", options->output, "Where to write it (default: NAME.rates.json)");
  options->settings.Add(verb);

  return {
      verb, [options, &context]() -> Status {
        RAM_ASSIGN_OR_RETURN(const RatesSource source,
                             GetRates(options->model, options->settings, context));
        std::filesystem::path output = options->output;
        if (output.empty()) {
          output = std::filesystem::path(options->model).lexically_normal().filename();
          if (output.empty()) output = "model";
          output += ".rates.json";
        }
        const RateTable& table = source.rates.table;
        RAM_RETURN_IF_ERROR(WriteFileAtomically(output, ToJsonText(table)));
        context.Print(fmt::format(
            "{}: {} modules, {} weights, sha256 {}\nplan with it, without the weights: ram plan "
            "{} --budget {}\n",
            output.string(), table.modules.size(), FormatCount(table.num_weights()),
            source.rates.sha256, output.string(), "4.5bpw"));
        context.PrintJson({{"rates", output.string()},
                           {"sha256", source.rates.sha256},
                           {"modules", table.modules.size()},
                           {"weights", table.num_weights()},
                           {"dense_bytes", table.dense_bytes()}});
        return Done{};
      }};
}

}  // namespace ram::cli
