// ram inspect MODEL: what is in a checkpoint, or in a finished MLX directory.

#include <fmt/format.h>

#include <map>

#include "ram/cli/model_text.h"
#include "ram/cli/plan_options.h"
#include "ram/cli/rates_source.h"
#include "ram/cli/verb.h"
#include "ram/compress/compress.h"
#include "ram/report/compress_table.h"
#include "ram/writer/verify_model.h"

namespace ram::cli {
namespace {

ModelFacts FactsOf(const OpenedModel& model) {
  ModelFacts facts;
  facts.family = model.catalog.family;
  facts.tied = model.catalog.tied;
  facts.notes = model.catalog.notes;
  std::map<std::string, DroppedGroup> groups;
  for (const DroppedTensor& tensor : model.catalog.dropped) {
    DroppedGroup& group = groups[tensor.reason];
    group.reason = tensor.reason;
    ++group.num_tensors;
    group.num_bytes += tensor.num_bytes;
  }
  for (auto& [reason, group] : groups) facts.dropped.push_back(std::move(group));
  return facts;
}

OrderedJson ModelJson(const OpenedModel& model, const RateTable& sizes, bool tensors) {
  OrderedJson json = {{"model", model.name},
                      {"model_type", sizes.model_type},
                      {"family", model.catalog.family},
                      {"layers", sizes.num_layers},
                      {"weights", sizes.num_weights()},
                      {"source_bytes", sizes.source_bytes},
                      {"dense_bytes", sizes.dense_bytes()},
                      {"fixed_bytes", sizes.fixed_bytes()},
                      {"notes", model.catalog.notes}};
  OrderedJson dropped = OrderedJson::array();
  for (const DroppedTensor& tensor : model.catalog.dropped) {
    dropped.push_back(
        {{"name", tensor.name}, {"reason", tensor.reason}, {"bytes", tensor.num_bytes}});
  }
  json["dropped"] = dropped;
  if (tensors) {
    OrderedJson list = OrderedJson::array();
    for (const CatalogTensor& tensor : model.catalog.tensors) {
      list.push_back({{"name", tensor.name},
                      {"shape", tensor.shape},
                      {"kind", KindName(tensor.kind)},
                      {"class", ClassName(tensor.tensor_class)},
                      {"dtype", DtypeName(tensor.dtype)},
                      {"quantizable", IsQuantizable(tensor.kind)}});
    }
    json["tensors"] = list;
  }
  return json;
}

}  // namespace

Verb AddInspect(CLI::App& app, Context& context) {
  struct Options {
    std::string model;
    bool tensors = false;
    bool lenient = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand(
      "inspect", "What is in a model: family, modules, sizes, what may be quantized");
  verb->add_option("MODEL", options->model, "Directory, or a name in the Hugging Face cache")
      ->required();
  verb->add_flag("--tensors", options->tensors, "List every tensor");
  verb->add_flag("--lenient", options->lenient, "Accept holes and trailing bytes in the files");

  return {verb, [options, &context]() -> Status {
            RAM_ASSIGN_OR_RETURN(const std::filesystem::path directory,
                                 ResolveModel(options->model));
            RAM_ASSIGN_OR_RETURN(const Json config, ReadJsonFile(directory / "config.json"));
            if (Find(config, "quantization") != nullptr) {
              RAM_ASSIGN_OR_RETURN(const VerifiedModel model, VerifyModel(directory));
              context.Print(VerifiedText(model, context.style()));
              context.PrintJson(VerifiedJson(model));
              return Done{};
            }
            RAM_ASSIGN_OR_RETURN(const OpenedModel model,
                                 OpenModel(options->model, options->lenient ? Strictness::kLenient
                                                                            : Strictness::kStrict));
            RAM_ASSIGN_OR_RETURN(const RateTable sizes,
                                 SizesOnly(model.checkpoint, model.catalog, options->model));
            context.Print(ModelSummary(sizes, FactsOf(model), context.style()));
            if (options->tensors) {
              Table table(
                  {{"tensor", Align::kLeft, Column::Kind::kName}, {"shape"}, {"dtype"}, {"kind"}});
              for (const CatalogTensor& tensor : model.catalog.tensors) {
                table.AddRow({tensor.name, ShapeText(tensor.shape),
                              std::string(DtypeName(tensor.dtype)),
                              std::string(KindName(tensor.kind))});
              }
              context.Print("\n" + table.Text(context.style()));
            }
            context.PrintJson(ModelJson(model, sizes, options->tensors));
            return Done{};
          }};
}

}  // namespace ram::cli
