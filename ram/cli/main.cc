// ram: fits a language model into the memory you have, and proves the fit.

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <string_view>
#include <vector>

#include "ram/cli/verb.h"

namespace ram::cli {
namespace {

constexpr const char* kVersion = "0.1.0";

// Help of at most 80 columns: CLI11 breaks no lines.
class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() { column_width(kLeft); }

  std::string make_option_desc(const CLI::Option* option) const override {
    return Column(option->get_description());
  }
  std::string make_subcommand(const CLI::App* verb) const override {
    std::string text = Column(verb->get_description());
    for (size_t at = 0; (at = text.find('\n', at)) != std::string::npos; at += kLeft) {
      text.insert(++at, std::string(kLeft, ' '));
    }
    return fmt::format("  {:<{}}{}\n", verb->get_name(), kLeft - 2, text);
  }
  std::string make_description(const CLI::App* app) const override {
    return Wrap(app->get_description(), Style{.width = 80});
  }

 private:
  static constexpr int kLeft = 30;

  static std::string Column(const std::string& text) {
    std::string wrapped = Wrap(text, Style{.width = 80 - kLeft});
    if (!wrapped.empty()) wrapped.pop_back();  // Its newline.
    return wrapped;
  }
};

void PrintError(std::string_view message, int status, bool as_json) {
  if (as_json) {
    const OrderedJson json = {{"error", {{"message", message}, {"exit", status}}}};
    fmt::print(stderr, "{}\n", json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace));
  } else {
    fmt::print(stderr, "ram: {}\n", message);
  }
}

int Main(int argc, char** argv) {
  CatchSignals();
  CLI::App app{
      "Fits a language model into the memory you have, proves that the fit is optimal, and "
      "says what it cost.",
      "ram"};
  app.set_version_flag("--version", fmt::format("ram {}", kVersion));
  app.require_subcommand(1);
  app.formatter(std::make_shared<HelpFormatter>());
  Context context;
  CLI::App* eval =
      app.add_subcommand("eval", "What a model does: perplexity, divergence, noise control");
  eval->require_subcommand(1);
  CLI::App* bench =
      app.add_subcommand("bench", "How fast models run here, beside what the machine could do");
  bench->require_subcommand(1);
  const std::vector<Verb> verbs = {
      AddCompress(app, context),
      AddInspect(app, context),
      AddDoctor(app, context),
      AddMeasure(app, context),
      AddPlan(app, context),
      AddCurve(app, context),
      AddVerify(app, context),
      AddCompare(app, context),
      AddReport(app, context),
      AddStudy(app, context),
      AddStats(app, context),
      AddPack(app, context),
      AddTokenize(app, context),
      AddGenerate(app, context),
      AddLogits(app, context),
      AddEvalPerplexity(*eval, context),
      AddEvalKl(*eval, context),
      AddEvalNoise(*eval, context),
      AddBenchKernels(*bench, context),
      AddBenchModel(*bench, context),
  };
  for (const Verb& verb : verbs) context.AddOptions(verb.app);
  app.footer(
      "MODEL is a directory or a name in the local Hugging Face cache.\n"
      "Exit status: 0 done, 1 the input is wrong, 2 usage, 3 the machine (disk, memory).\n"
      "First steps: ram doctor MODEL; ram compress MODEL --budget 16GiB -o DIR");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version.
    std::string command = "ram";
    if (eval->parsed()) command += " eval";
    if (bench->parsed()) command += " bench";
    for (const Verb& verb : verbs) {
      if (verb.app->parsed()) command += " " + verb.app->get_name();
    }
    // Options were not read, so --json is looked for by hand.
    const bool as_json = std::find(argv, argv + argc, std::string_view("--json")) != argv + argc;
    PrintError(fmt::format("{}; see {} --help", error.what(), command), kWrongUsage, as_json);
    return kWrongUsage;
  }

  for (const Verb& verb : verbs) {
    if (!verb.app->parsed()) continue;
    const Status status = verb.run();
    context.EndProgress();
    if (status) return kSuccess;
    const Error& error = status.error();
    PrintError(error.message, StatusOf(error.code), context.json());
    return StatusOf(error.code);
  }
  return kWrongUsage;
}

}  // namespace
}  // namespace ram::cli

int main(int argc, char** argv) {
  try {
    return ram::cli::Main(argc, argv);
  } catch (const std::bad_alloc&) {
    std::fputs("ram: out of memory\n", stderr);
    return ram::cli::kMachine;
  } catch (const std::exception& error) {
    fmt::print(stderr, "ram: {}\n", error.what());
    return ram::cli::kWrongInput;
  }
}
