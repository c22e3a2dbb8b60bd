// ram logits MODEL --ids 1,2,3 -o F: what comparisons with other engines use.

#include <fmt/format.h>

#include <filesystem>

#include "ram/base/bytes.h"
#include "ram/checkpoint/safetensors.h"
#include "ram/cli/run_options.h"
#include "ram/cli/verb.h"
#include "ram/runtime/evaluate.h"
#include "ram/text/tokenizer.h"
#include "ram/writer/staged_file.h"

namespace ram::cli {
namespace {

struct Options {
  std::string model;
  std::vector<int32_t> ids;
  std::string text;
  std::string out;
  bool overwrite = false;
  RunOptions run;
};

Result<TokenIds> IdsOf(const Options& options, const RunnableModel& model) {
  if (!options.ids.empty()) return options.ids;
  RAM_ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Open(model.checkpoint->directory()));
  return tokenizer.Encode(options.text, /*add_special=*/true);
}

std::span<const uint8_t> BytesOf(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// The file: "ids" [tokens] and "logits" [tokens, vocabulary].
Status WriteLogits(const Options& options, const TokenIds& ids, uint64_t vocabulary,
                   const std::vector<float>& logits, const std::string& engine) {
  const SafetensorsLayout layout = LayOutSafetensors(
      {{"ids", Dtype::kI32, {ids.size()}}, {"logits", Dtype::kF32, {ids.size(), vocabulary}}},
      {{"engine", engine}, {"numerics", options.run.numerics_name}});
  RAM_ASSIGN_OR_RETURN(StagedFile file,
                       StagedFile::Create(options.out, options.overwrite, layout.file_bytes));
  RAM_RETURN_IF_ERROR(file.file().WriteAt(0, BytesOf(layout.prefix)));
  RAM_RETURN_IF_ERROR(file.file().WriteAt(
      layout.offsets[0],
      {reinterpret_cast<const uint8_t*>(ids.data()), ids.size() * sizeof(int32_t)}));
  RAM_RETURN_IF_ERROR(file.file().WriteAt(
      layout.offsets[1],
      {reinterpret_cast<const uint8_t*>(logits.data()), logits.size() * sizeof(float)}));
  return file.Publish();
}

Status RunLogits(const Options& options, Context& context) {
  RAM_ASSIGN_OR_RETURN(const RunnableModel model, options.run.Open(options.model));
  RAM_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, options.run.MakeEngine(context));
  RAM_ASSIGN_OR_RETURN(const TokenIds ids, IdsOf(options, model));
  if (ids.empty()) return Error{ErrorCode::kInvalidArgument, "the text has no tokens"};
  RAM_ASSIGN_OR_RETURN(const uint64_t memory, options.run.MemoryBytes());
  const uint64_t length = ids.size();
  RAM_ASSIGN_OR_RETURN(const EvaluationPlan plan,
                       PlanEvaluation(*model.source, model.graph, *engine, {&length, 1}, memory));
  Evaluator evaluator(*engine, *model.source, model.graph, plan,
                      std::filesystem::temp_directory_path());
  std::vector<float> logits;
  RAM_RETURN_IF_ERROR(evaluator.Run({&ids, 1}, {}, context.MakeWatcher(),
                                    MakeLogitsKeeper(*engine, {&ids, 1}, {&logits, 1})));
  context.EndProgress();
  const uint64_t vocabulary = logits.size() / ids.size();
  RAM_RETURN_IF_ERROR(WriteLogits(options, ids, vocabulary, logits, engine->name()));
  context.Print(fmt::format("{}: logits of {} tokens, {} each, f32 ({}, numerics {})\n",
                            options.out, ids.size(), FormatCount(vocabulary), engine->name(),
                            options.run.numerics_name));
  context.PrintJson({{"file", options.out},
                     {"ids", ids},
                     {"vocabulary", vocabulary},
                     {"engine", engine->name()},
                     {"numerics", options.run.numerics_name}});
  return Done{};
}

}  // namespace

Verb AddLogits(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand(
      "logits",
      "Logits of every token of a sequence, as a safetensors file with the key \"logits\"");
  verb->add_option("MODEL", options->model, "A model directory, ours or foreign")->required();
  CLI::Option* ids =
      verb->add_option("--ids", options->ids, "Token ids, e.g. 1,2,3")->delimiter(',');
  verb->add_option("--text", options->text, "A text; the model's tokenizer makes ids of it")
      ->excludes(ids);
  verb->final_callback([options] {
    if (options->ids.empty() && options->text.empty()) throw CLI::RequiredError("--ids or --text");
  });
  verb->add_option("-o,--output", options->out, "The new file")->required();
  verb->add_flag("--overwrite", options->overwrite, "Replace it if it exists");
  options->run.Add(verb);
  return {verb, [options, &context] { return RunLogits(*options, context); }};
}

}  // namespace ram::cli
