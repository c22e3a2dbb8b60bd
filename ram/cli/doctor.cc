// ram doctor [MODEL]: this machine; and, from headers alone, whether a model fits it.

#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <vector>

#include "ram/base/bytes.h"
#include "ram/cli/plan_options.h"
#include "ram/cli/verb.h"
#include "ram/compress/compress.h"
#include "ram/device/diagnosis.h"
#include "ram/measure/block_errors.h"

namespace ram::cli {
namespace {

struct Options {
  std::string model;
  std::string device = "this";
  uint64_t context = 32768;
  int kv_bits = 16;
};

std::string FindingsText(const std::vector<Finding>& findings, const Style& style) {
  std::string text;
  for (const Finding& finding : findings) {
    const auto [word, tint] =
        finding.level == Finding::Level::kOk        ? std::pair("ok     ", Tint::kGood)
        : finding.level == Finding::Level::kWarning ? std::pair("warning", Tint::kWarning)
                                                    : std::pair("problem", Tint::kBad);
    constexpr size_t kIndent = 11;  // Two blanks, the word, two blanks.
    const std::string line = Wrap(finding.what, style, kIndent, kIndent);
    text += "  " + Paint(word, tint, style) + "  " + line.substr(std::min(line.size(), kIndent));
    if (!finding.remedy.empty()) text += Wrap("-> " + finding.remedy, style, 11, 14);
  }
  return text;
}

OrderedJson FindingsJson(const std::vector<Finding>& findings) {
  OrderedJson list = OrderedJson::array();
  for (const Finding& finding : findings) {
    const char* level = finding.level == Finding::Level::kOk        ? "ok"
                        : finding.level == Finding::Level::kWarning ? "warning"
                                                                    : "problem";
    list.push_back({{"level", level}, {"what", finding.what}, {"remedy", finding.remedy}});
  }
  return list;
}

// Bytes per second and core of the measuring kernel, tried on a few MiB.
double KernelRate() {
  constexpr size_t kCols = 4096;
  const size_t rows = RowsPerBlock(kCols);
  std::vector<uint16_t> weights(rows * kCols);
  uint32_t state = 1;
  for (uint16_t& weight : weights) {
    state = state * 1664525u + 1013904223u;
    weight = static_cast<uint16_t>(0x3C00u + (state >> 23) + ((state & 1u) << 15));
  }
  const MatrixView view{reinterpret_cast<const uint8_t*>(weights.data()), Dtype::kBF16, rows,
                        kCols};
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  double seconds = 0;
  double bytes = 0;
  while (seconds < 0.05) {
    if (!MeasureBlock(view, {})) break;
    bytes += static_cast<double>(weights.size() * sizeof(uint16_t));
    seconds = std::chrono::duration<double>(Clock::now() - start).count();
  }
  return bytes / std::max(seconds, 1e-9);
}

// Every module at its smallest legal choice of 3 bits or more: what the floor usually leaves.
uint64_t SmallestBytes(const RateTable& sizes) {
  uint64_t bytes = sizes.fixed_bytes();
  for (const ModuleRates& module : sizes.modules) {
    uint64_t smallest = module.choices.back().bytes;
    for (const ChoiceRate& rate : module.choices) {
      if (rate.choice.bits >= 3) smallest = std::min(smallest, rate.bytes);
    }
    bytes += smallest;
  }
  return bytes;
}

Status RunDoctor(const Options& options, Context& context) {
  const Machine machine = ProbeMachine();
  RAM_ASSIGN_OR_RETURN(const uint64_t free_bytes, FreeDiskBytes(std::filesystem::current_path()));
  const Style style = context.style();
  const std::vector<Finding> about_machine = DiagnoseMachine(machine, free_bytes);
  context.Print(Heading("This machine", style) + FindingsText(about_machine, style));
  OrderedJson json = {{"machine", FindingsJson(about_machine)}};
  size_t problems = 0;
  if (!options.model.empty()) {
    RAM_ASSIGN_OR_RETURN(const OpenedModel model, OpenModel(options.model));
    RAM_ASSIGN_OR_RETURN(const RateTable sizes,
                         SizesOnly(model.checkpoint, model.catalog, options.model));
    ModelSizes facts;
    facts.name = options.model;
    facts.num_weights = sizes.num_weights();
    facts.source_bytes = sizes.source_bytes;
    facts.dense_bytes = sizes.dense_bytes();
    facts.smallest_bytes = SmallestBytes(sizes);
    facts.uniform_bytes = UniformBytes(sizes, Choice::Affine(4, 64));
    facts.state = ModelStateOf(model.catalog);
    DoctorRequest request;
    RAM_ASSIGN_OR_RETURN(request.device, ParseDevice(options.device));
    request.context_tokens = options.context;
    if (facts.state.max_context != 0) {
      request.context_tokens = std::min(request.context_tokens, facts.state.max_context);
    }
    request.kv_bits = options.kv_bits;
    request.free_disk_bytes = free_bytes;
    // Packing costs less than measuring; reading and writing may cost more, which only a run tells.
    const double cores = static_cast<double>(machine.cores);
    request.measure_seconds_per_byte = 1 / (KernelRate() * cores);
    const std::vector<Finding> about_model = DiagnoseModel(facts, request);
    context.Print("\n" + Heading(options.model, style) + FindingsText(about_model, style));
    json["model"] = FindingsJson(about_model);
    for (const Finding& finding : about_model) {
      problems += finding.level == Finding::Level::kProblem ? 1 : 0;
    }
  }
  for (const Finding& finding : about_machine) {
    problems += finding.level == Finding::Level::kProblem ? 1 : 0;
  }
  json["problems"] = problems;
  context.PrintJson(json);
  if (problems == 0) return Done{};
  return Error{ErrorCode::kNoSpace,
               fmt::format("{} problem{} found", problems, problems == 1 ? "" : "s")};
}

}  // namespace

Verb AddDoctor(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand(
      "doctor", "This machine; and whether a model fits it, the largest budget, the time it takes");
  verb->add_option("MODEL", options->model, "Directory, or a name in the Hugging Face cache");
  verb->add_option("--device", options->device, "Where it is to run: \"16GB Mac\" (default: this)")
      ->capture_default_str();
  verb->add_option("--context", options->context,
                   "Tokens of context that must fit beside it: 32768 or 32k")
      ->transform(CLI::AsNumberWithUnit(std::map<std::string, uint64_t>{{"k", 1024}},
                                        CLI::AsNumberWithUnit::CASE_INSENSITIVE))
      ->capture_default_str();
  verb->add_option("--kv-bits", options->kv_bits, "Bits of the key-value cache: 16, 8 or 4")
      ->check(CLI::IsMember({16, 8, 4}))
      ->capture_default_str();
  return {verb, [options, &context] { return RunDoctor(*options, context); }};
}

}  // namespace ram::cli
