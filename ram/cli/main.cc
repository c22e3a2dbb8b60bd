// ram: fits a language model into the memory you have, and proves the fit.

#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <vector>

#include "ram/cli/verb.h"

namespace ram::cli {
namespace {

constexpr const char* kVersion = "0.1.0";

int Main(int argc, char** argv) {
  CatchSignals();
  CLI::App app{
      "Fits a language model into the memory you have, proves that the fit is optimal, and "
      "says what it cost.",
      "ram"};
  app.set_version_flag("--version", fmt::format("ram {}", kVersion));
  app.require_subcommand(1);
  app.get_formatter()->column_width(30);
  Context context;
  const std::vector<Verb> verbs = {
      AddCompress(app, context), AddInspect(app, context), AddDoctor(app, context),
      AddMeasure(app, context),  AddPlan(app, context),    AddCurve(app, context),
      AddVerify(app, context),   AddPack(app, context),
  };
  for (const Verb& verb : verbs) context.AddOptions(verb.app);
  app.footer(
      "MODEL is a directory or a name in the local Hugging Face cache.\n"
      "Exit status: 0 done, 1 the input is wrong, 2 usage, 3 the machine (disk, memory).\n"
      "First steps: ram doctor MODEL; ram compress MODEL --budget 16GiB -o DIR");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kSuccess : kWrongUsage;
  }

  for (const Verb& verb : verbs) {
    if (!verb.app->parsed()) continue;
    const Status status = verb.run();
    context.EndProgress();
    if (status) return kSuccess;
    const Error& error = status.error();
    if (context.json()) {
      const OrderedJson json = {
          {"error", {{"message", error.message}, {"exit", StatusOf(error.code)}}}};
      fmt::print(stderr, "{}\n", json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace));
    } else {
      fmt::print(stderr, "ram: {}\n", error.message);
    }
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
