// ram bench kernels | model: how fast the engine is here, and of what limit that is how much.

#include <fmt/format.h>

#include "ram/base/bytes.h"
#include "ram/base/file.h"
#include "ram/cli/run_options.h"
#include "ram/cli/verb.h"
#include "ram/quant/choice.h"
#include "ram/report/table.h"
#include "ram/runtime/benchmark.h"
#include "ram/runtime/machine_rates.h"
#include "ram/runtime/random_weights.h"

namespace ram::cli {
namespace {

// Answers of the faster precisions are allowed to be as wrong as they say.
double ToleranceOf(const RunOptions& run) {
  return run.precision_name == "half" ? 2e-2 : run.precision_name == "fast" ? 1e-4 : 3e-5;
}

std::string RateText(double rate, const std::string& unit) {
  const std::string giga = fmt::format("{:.{}f} G", rate * 1e-9, rate < 100e9 ? 1 : 0);
  return giga + (unit == "flop"    ? "F/s"
                 : unit == "byte"  ? "B/s"
                 : unit == "score" ? " scores/s"
                                   : " elements/s");
}

std::string ShareText(double share) { return share > 0 ? fmt::format("{:.2f}", share) : ""; }

std::string MachineText(const MachineRates& machine, const Engine& engine, size_t threads,
                        const Style& style) {
  std::vector<std::pair<std::string, std::string>> facts = {
      {"engine", fmt::format("{}, {}", engine.name(), Counted(threads, "thread"))},
      {"f32 FMA", RateText(machine.fma_flops, "flop")},
      {"reading", RateText(machine.read_bytes, "byte")}};
  if (machine.tile_flops > 0) {
    facts.insert(facts.begin() + 2, {"tiles", RateText(machine.tile_flops, "flop") + ", 16 bits"});
  }
  return Heading("This machine at best", style) + Facts(facts, style);
}

OrderedJson MachineJson(const MachineRates& machine, const Engine& engine, size_t threads) {
  return {{"engine", engine.name()},
          {"threads", threads},
          {"fma_flops", machine.fma_flops},
          {"tile_flops", machine.tile_flops},
          {"read_bytes", machine.read_bytes}};
}

// ---- Kernels ----

struct KernelOptions {
  KernelBenchmark benchmark;
  RunOptions run;
};

Status RunKernels(KernelOptions& options, Context& context) {
  RAM_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, options.run.MakeEngine(context));
  const size_t threads = context.pool().num_threads();
  const Style style = context.style();
  const MachineRates machine = MeasureMachine(context.pool());
  context.Print(MachineText(machine, *engine, threads, style) + "\n");
  options.benchmark.tolerance = ToleranceOf(options.run);
  RAM_ASSIGN_OR_RETURN(
      const std::vector<KernelSpeed> speeds,
      BenchmarkKernels(*engine, machine, options.benchmark, context.MakeWatcher()));
  Table table({{.title = "kernel", .kind = Column::Kind::kName},
               {.title = "", .kind = Column::Kind::kText},
               {.title = "best run", .align = Align::kRight},
               {.title = "share", .align = Align::kRight},
               {.title = "of", .kind = Column::Kind::kRemark}});
  OrderedJson kernels = OrderedJson::array();
  std::string section;
  for (const KernelSpeed& speed : speeds) {
    if (!table.empty() && speed.section != section) table.AddRule();
    table.AddRow({speed.section == section ? "" : speed.section, speed.name,
                  RateText(speed.rate, speed.unit), ShareText(speed.share), speed.limit});
    section = speed.section;
    kernels.push_back({{"section", speed.section},
                       {"name", speed.name},
                       {"rate", speed.rate},
                       {"unit", speed.unit + "/s"},
                       {"share", speed.share},
                       {"limit", speed.limit}});
  }
  context.Print(table.Text(style));
  OrderedJson json = MachineJson(machine, *engine, threads);
  json["kernels"] = std::move(kernels);
  context.PrintJson(json);
  return Done{};
}

// ---- Models ----

struct ModelOptions {
  std::string model;
  std::string shape;
  std::string weights;
  ModelBenchmark benchmark;
  RunOptions run;
};

// Shapes to compare engines with, as configs.
struct NamedShape {
  const char* name;
  const char* about;
  const char* config;
};
constexpr NamedShape kShapes[] = {
    {"llama-271m", "16 layers of 1024, 32000 words",
     R"({"model_type": "llama", "hidden_size": 1024, "intermediate_size": 2816,
         "num_hidden_layers": 16, "num_attention_heads": 16, "num_key_value_heads": 16,
         "vocab_size": 32000, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5,
         "rope_theta": 10000.0, "tie_word_embeddings": false, "torch_dtype": "bfloat16"})"},
    {"llama-layer", "one such layer, almost no head",
     R"({"model_type": "llama", "hidden_size": 1024, "intermediate_size": 2816,
         "num_hidden_layers": 1, "num_attention_heads": 16, "num_key_value_heads": 16,
         "vocab_size": 256, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5,
         "rope_theta": 10000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16"})"},
    {"moe-layer", "one layer of 128 experts, 8 for each token",
     R"({"model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144,
         "moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8,
         "norm_topk_prob": true, "decoder_sparse_step": 1, "mlp_only_layers": [],
         "num_hidden_layers": 1, "num_attention_heads": 32, "num_key_value_heads": 4,
         "head_dim": 128, "vocab_size": 256, "max_position_embeddings": 131072,
         "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "tie_word_embeddings": true,
         "torch_dtype": "bfloat16"})"},
};

std::string ShapeNames() {
  std::string names;
  for (const NamedShape& shape : kShapes) {
    names += fmt::format("{}{} ({})", names.empty() ? "" : ", ", shape.name, shape.about);
  }
  return names;
}

// What is run: a model of this disk, or random numbers in the shape of one.
struct BenchedModel {
  RunnableModel opened;
  std::unique_ptr<WeightSource> random;
  Graph graph;

  const WeightSource& source() const { return random != nullptr ? *random : *opened.source; }
};

Result<BenchedModel> OpenBenched(const ModelOptions& options) {
  BenchedModel model;
  if (options.shape.empty()) {
    if (!options.weights.empty()) {
      return Error{ErrorCode::kInvalidArgument,
                   "--weights is for --shape: a model on the disk has its own"};
    }
    RAM_ASSIGN_OR_RETURN(model.opened, options.run.Open(options.model));
    model.graph = model.opened.graph;
    return model;
  }
  std::string config;
  for (const NamedShape& shape : kShapes) {
    if (options.shape == shape.name) config = shape.config;
  }
  if (config.empty()) {
    if (!options.shape.ends_with(".json")) {
      return Error{ErrorCode::kInvalidArgument,
                   fmt::format("shape \"{}\": expected the path of a config.json, or {}",
                               options.shape, ShapeNames())};
    }
    RAM_ASSIGN_OR_RETURN(config, ReadFile(options.shape, kMaxJsonBytes));
  }
  RAM_ASSIGN_OR_RETURN(const Json json, ParseJson(config, options.shape));
  const Numerics numerics = options.run.numerics();
  RAM_ASSIGN_OR_RETURN(model.graph, BuildGraph(json, numerics, options.shape));
  RAM_ASSIGN_OR_RETURN(Catalog catalog, BuildCatalog(json, options.shape));
  RAM_ASSIGN_OR_RETURN(const Choice choice,
                       ParseChoice(options.weights.empty() ? "16" : options.weights));
  model.random = std::make_unique<RandomWeights>(std::move(catalog), choice);
  return model;
}

Status RunModel(const ModelOptions& options, Context& context) {
  if (options.model.empty() == options.shape.empty()) {
    return Error{ErrorCode::kInvalidArgument, "name a MODEL, or a --shape: " + ShapeNames()};
  }
  RAM_ASSIGN_OR_RETURN(const BenchedModel model, OpenBenched(options));
  RAM_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, options.run.MakeEngine(context));
  const size_t threads = context.pool().num_threads();
  const Style style = context.style();
  const MachineRates machine = MeasureMachine(context.pool());
  RAM_ASSIGN_OR_RETURN(const ModelSpeed speed,
                       BenchmarkModel(*engine, model.graph, model.source(), options.benchmark,
                                      context.MakeWatcher()));
  const double flops = speed.score_tokens * speed.flops_per_token;
  const double steps = speed.decode_tokens / static_cast<double>(options.benchmark.sequences);
  const double bytes =
      steps * static_cast<double>(speed.bytes_per_step + speed.state_bytes_per_step);
  std::vector<std::pair<std::string, std::string>> facts = {
      {"weights",
       fmt::format("{}, {}", model.source().description(), FormatBytesShort(speed.weight_bytes))},
      {"scoring",
       fmt::format("{:.1f} tokens/s at context {}; {}, {:.2f} of f32 FMA", speed.score_tokens,
                   options.benchmark.context, RateText(flops, "flop"), flops / machine.fma_flops)}};
  if (options.benchmark.new_tokens > 0) {
    std::string text = fmt::format("{:.1f} tokens/s", speed.decode_tokens);
    if (options.benchmark.sequences > 1) {
      text += fmt::format(" for {} sequences", options.benchmark.sequences);
    } else {
      text += fmt::format("; weights and cache at {}, {:.2f} of reading", RateText(bytes, "byte"),
                          bytes / machine.read_bytes);
    }
    facts.emplace_back("decoding", text);
  }
  const std::string name = options.shape.empty() ? options.model : options.shape;
  context.Print(MachineText(machine, *engine, threads, style) + "\n" + Heading(name, style) +
                Facts(facts, style));
  OrderedJson json = MachineJson(machine, *engine, threads);
  json["model"] = name;
  json["weights"] = model.source().description();
  json["weight_bytes"] = speed.weight_bytes;
  json["context"] = options.benchmark.context;
  json["sequences"] = options.benchmark.sequences;
  json["score_tokens_per_second"] = speed.score_tokens;
  json["decode_tokens_per_second"] = speed.decode_tokens;
  json["flops_per_token"] = speed.flops_per_token;
  json["bytes_per_step"] = speed.bytes_per_step;
  json["state_bytes_per_step"] = speed.state_bytes_per_step;
  context.PrintJson(json);
  return Done{};
}

}  // namespace

Verb AddBenchKernels(CLI::App& bench, Context& context) {
  auto options = std::make_shared<KernelOptions>();
  CLI::App* verb = bench.add_subcommand(
      "kernels", "Products, attention and vector steps, each beside the machine's limit");
  verb->add_option("--rows", options->benchmark.rows, "Tokens at once (2048)")
      ->check(CLI::Range(2, 65536));
  verb->add_option("--hidden", options->benchmark.hidden, "Width (1024)")
      ->check(CLI::Range(128, 65536));
  verb->add_option("--inner", options->benchmark.inner, "Width of the MLP (2816)")
      ->check(CLI::Range(128, 65536));
  verb->add_option("--seconds", options->benchmark.least_seconds, "Of each kernel (0.3)")
      ->check(CLI::Range(0.0, 60.0));
  options->run.Add(verb);
  return {verb, [options, &context] { return RunKernels(*options, context); }};
}

Verb AddBenchModel(CLI::App& bench, Context& context) {
  auto options = std::make_shared<ModelOptions>();
  CLI::App* verb =
      bench.add_subcommand("model", "Scoring and decoding with a whole model in memory");
  verb->add_option("MODEL", options->model, "A model directory");
  verb->add_option("--shape", options->shape,
                   "Random weights in the shape of a config.json, or of " + ShapeNames());
  verb->add_option("--weights", options->weights, "Of a shape: 16 (default), 4,64, mxfp4, ...");
  verb->add_option("--context", options->benchmark.context, "Tokens that are scored (2048)")
      ->check(CLI::Range(2, 1 << 20));
  verb->add_option("-n,--new-tokens", options->benchmark.new_tokens, "Decoded behind them (32)")
      ->check(CLI::Range(0, 1 << 20));
  verb->add_option("--sequences", options->benchmark.sequences, "Decoded at once (1)")
      ->check(CLI::Range(1, 1024));
  verb->add_option("--runs", options->benchmark.runs, "Of scoring; the best counts (3)")
      ->check(CLI::Range(1, 1000));
  options->run.Add(verb);
  return {verb, [options, &context] { return RunModel(*options, context); }};
}

}  // namespace ram::cli
