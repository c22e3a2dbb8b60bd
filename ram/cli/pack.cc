// ram pack IN.safetensors --choice 4,64 -o OUT.safetensors: mx.quantize for a bare file.

#include <fmt/format.h>

#include "ram/base/bytes.h"
#include "ram/cli/plan_options.h"
#include "ram/cli/verb.h"
#include "ram/writer/pack_file.h"

namespace ram::cli {

Verb AddPack(CLI::App& app, Context& context) {
  struct Options {
    std::string in;
    std::string out;
    std::string choice;
    bool overwrite = false;
    QuantizerOptions quantizer;
  };
  auto options = std::make_shared<Options>();
  CLI::App* verb =
      app.add_subcommand("pack", "Quantize the matrices of a bare file, as mx.quantize would");
  verb->add_option("IN", options->in, "A safetensors file")->required();
  verb->add_option("--choice", options->choice, "BITS,GROUP: bits 2 3 4 5 6 8, group 32 64 128")
      ->required();
  verb->add_option("-o,--output", options->out, "The new file")->required();
  verb->add_flag("--overwrite", options->overwrite, "Replace it if it exists");
  options->quantizer.Add(verb, "rtn");

  return {
      verb, [options, &context]() -> Status {
        PackOptions pack;
        RAM_ASSIGN_OR_RETURN(pack.choice, ParseChoice(options->choice));
        if (pack.choice.mode != Mode::kAffine) {
          return Error{ErrorCode::kInvalidArgument,
                       fmt::format("--choice {}: packing needs bits and a group size, e.g. 4,64",
                                   options->choice)};
        }
        RAM_ASSIGN_OR_RETURN(pack.quantizer, options->quantizer.quantizer());
        RAM_ASSIGN_OR_RETURN(pack.rounding, options->quantizer.rounding());
        pack.overwrite = options->overwrite;
        pack.pool = &context.pool();
        pack.watcher = context.MakeWatcher();
        RAM_ASSIGN_OR_RETURN(const PackedFile done, PackFile(options->in, options->out, pack));
        context.EndProgress();
        context.Print(fmt::format(
            "{}: {} tensors as {} ({}, ties as on {}), {} kept as they "
            "are; {} -> {} in {:.2f} s\n",
            options->out, done.num_packed, ChoiceName(pack.choice), QuantizerName(pack.quantizer),
            RoundingName(pack.rounding), done.kept.size(), FormatBytesShort(done.source_bytes),
            FormatBytesShort(done.file_bytes), done.seconds));
        if (done.num_packed == 0) {
          context.Note(fmt::format("note: no matrix of {} has columns that {} divides", options->in,
                                   pack.choice.group_size));
        }
        context.PrintJson({{"file", options->out},
                           {"packed", done.num_packed},
                           {"kept", done.kept},
                           {"bytes", done.file_bytes}});
        return Done{};
      }};
}

}  // namespace ram::cli
