#include "ram/cli/run_options.h"

#include <fmt/format.h>

#include <utility>

#include "ram/base/bytes.h"
#include "ram/device/machine.h"

namespace ram::cli {

void RunOptions::Add(CLI::App* verb) {
  verb->add_option("--numerics", numerics_name,
                   "Where transformers and mlx-lm compute differently, follow: hf (default), mlx")
      ->check(CLI::IsMember({"hf", "mlx"}));
  verb->add_option("--precision", precision_name,
                   "Of products: f32 (default; the only one for reports), fast, half")
      ->check(CLI::IsMember({"f32", "fast", "half"}));
  verb->add_option("--isa", isa,
                   "Instruction set, e.g. avx2 (default: the best; or RAM_ISA; "
                   "\"reference\": slow and readable)");
  verb->add_option("--memory", memory, "Most memory to use, e.g. 8GiB (default: what is free)");
}

Numerics RunOptions::numerics() const {
  return numerics_name == "mlx" ? Numerics::kMlx : Numerics::kHf;
}

Result<std::unique_ptr<Engine>> RunOptions::MakeEngine(Context& context) const {
  if (isa == "reference") return MakeReferenceEngine(&context.pool());
  CpuOptions options;
  options.isa = isa;
  options.precision = precision_name == "fast"   ? Precision::kFast
                      : precision_name == "half" ? Precision::kHalf
                                                 : Precision::kF32;
  return MakeCpuEngine(&context.pool(), options);
}

Result<uint64_t> RunOptions::MemoryBytes() const {
  if (!memory.empty()) return ParseBytes(memory);
  const Machine machine = ProbeMachine();
  const uint64_t free =
      machine.available_bytes != 0 ? machine.available_bytes : machine.memory_bytes;
  return free / 10 * 9;
}

std::string EvaluationPlanText(const EvaluationPlan& plan, const Style& style) {
  const WeightResidency& weights = plan.weights;
  const int streamed = plan.num_layers - weights.num_resident;
  std::string where =
      weights.outside ? "all of them stay in memory"
      : streamed == 0
          ? "all layers stay, embedding and head are read when they are needed"
          : fmt::format("{} of {} layers stay, {} are read for every pass{}", weights.num_resident,
                        plan.num_layers, streamed, weights.read_ahead ? ", one ahead" : "");
  return Facts({{"memory", plan.bound_bytes == 0 ? FormatBytes(plan.peak_bytes())
                                                 : fmt::format("{} at most, {} planned",
                                                               FormatBytes(plan.bound_bytes),
                                                               FormatBytes(plan.peak_bytes()))},
                {"weights", fmt::format("{}; {}", FormatBytesShort(weights.peak_bytes), where)},
                {"states", fmt::format("{} of {} tokens, {}", FormatBytesShort(plan.hidden_bytes),
                                       FormatCount(plan.num_tokens),
                                       plan.hidden_in_file ? "in a file" : "in memory")},
                {"activations",
                 fmt::format("{} for {} tokens at once", FormatBytesShort(plan.activation_bytes),
                             FormatCount(plan.batch_tokens))}},
               style);
}

}  // namespace ram::cli
