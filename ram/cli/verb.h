#pragma once

// What every verb of the command shares: options, exit status, where to print.

#include <CLI/CLI.hpp>
#include <atomic>
#include <memory>
#include <string>

#include "ram/base/json.h"
#include "ram/base/progress.h"
#include "ram/base/result.h"
#include "ram/base/thread_pool.h"
#include "ram/report/table.h"

namespace ram::cli {

// Exit status of the command.
enum ExitStatus : int {
  kSuccess = 0,
  kWrongInput = 1,
  kWrongUsage = 2,
  kMachine = 3,        // Disk, memory, permissions.
  kInterrupted = 130,  // Ctrl-C, as shells expect.
};

ExitStatus StatusOf(ErrorCode code);

class Context {
 public:
  // Options that every verb has; read after parsing.
  void AddOptions(CLI::App* verb);

  bool json() const { return json_; }
  bool quiet() const { return quiet_; }
  ThreadPool& pool();
  // Reports to a progress bar, plain lines or JSON lines on standard error; stops on Ctrl-C.
  Watcher MakeWatcher();
  // Ends the progress line, if there is one.
  void EndProgress();
  // Of standard output: width of the terminal (80 if it is none), colour only on one.
  Style style() const;

  // Text of the result, to standard output, unless --quiet.
  void Print(std::string_view text) const;
  // The result for programs: one JSON document on standard output.
  void PrintJson(const OrderedJson& json) const;
  // A line for people on standard error, unless --quiet or --json.
  void Note(std::string_view text);

 private:
  class ProgressPrinter;

  bool json_ = false;
  bool quiet_ = false;
  size_t num_threads_ = 0;
  std::string progress_ = "auto";
  std::string color_ = "auto";
  std::unique_ptr<ThreadPool> pool_;
  std::shared_ptr<ProgressPrinter> printer_;
};

// Set by Ctrl-C and SIGTERM.
extern std::atomic<bool> g_cancelled;
void CatchSignals();

// One verb: adds its options to the app; when it is chosen, `run` is what main calls.
using Run = std::function<Status()>;
struct Verb {
  CLI::App* app;
  Run run;
};

Verb AddInspect(CLI::App& app, Context& context);
Verb AddCompress(CLI::App& app, Context& context);
Verb AddMeasure(CLI::App& app, Context& context);
Verb AddPlan(CLI::App& app, Context& context);
Verb AddCurve(CLI::App& app, Context& context);
Verb AddPack(CLI::App& app, Context& context);
Verb AddVerify(CLI::App& app, Context& context);
Verb AddDoctor(CLI::App& app, Context& context);
Verb AddCompare(CLI::App& app, Context& context);
Verb AddReport(CLI::App& app, Context& context);
Verb AddStudy(CLI::App& app, Context& context);
Verb AddStats(CLI::App& app, Context& context);
Verb AddTokenize(CLI::App& app, Context& context);
Verb AddGenerate(CLI::App& app, Context& context);
Verb AddLogits(CLI::App& app, Context& context);
// Under "ram eval".
Verb AddEvalPerplexity(CLI::App& eval, Context& context);
Verb AddEvalKl(CLI::App& eval, Context& context);
Verb AddEvalNoise(CLI::App& eval, Context& context);
// Under "ram bench".
Verb AddBenchKernels(CLI::App& bench, Context& context);
Verb AddBenchModel(CLI::App& bench, Context& context);

}  // namespace ram::cli
