// The text of a config.json. Whatever it is, it is refused in one sentence or gives a catalog that
// holds together; and the config of the output describes the same tensors.

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "ram/base/json.h"
#include "ram/family/catalog.h"

namespace {

using ram::Catalog;
using ram::CatalogTensor;
using ram::Json;
using ram::Result;

void CheckError(const ram::Error& error) {
  RAM_CHECK(!error.message.empty() && error.message.size() < 4096);
  RAM_CHECK(error.code == ram::ErrorCode::kCorrupt || error.code == ram::ErrorCode::kUnsupported);
}

void CheckCatalog(const Catalog& catalog) {
  std::set<std::string_view> names;
  for (const CatalogTensor& tensor : catalog.tensors) {
    RAM_CHECK(names.insert(tensor.name).second);
    uint64_t weights = 1;
    for (const uint64_t size : tensor.shape) weights *= size;
    RAM_CHECK(weights > 0 && weights == tensor.num_weights());
    RAM_CHECK(tensor.layer < catalog.num_layers);
    for (const ram::SourceView& view : tensor.views) RAM_CHECK(!view.source.empty());
    const Result<ram::Choice> choice =
        ram::BaselineChoice(catalog, tensor, ram::Choice::Affine(4, 64), "");
    RAM_CHECK(!choice || ram::IsLegal(*choice, tensor.cols));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const Result<Json> config = ram::ParseJson(text, "config.json");
  if (!config) return 0;
  const Result<Catalog> catalog = ram::BuildCatalog(*config);
  if (!catalog) {
    CheckError(catalog.error());
    return 0;
  }
  CheckCatalog(*catalog);
  const Result<Json> output = ram::OutputConfig(*config, *catalog);
  RAM_CHECK(output.ok());
  const Result<Catalog> again = ram::BuildCatalog(*output);
  RAM_CHECK(again.ok() && again->tensors.size() == catalog->tensors.size());
  for (size_t i = 0; i < again->tensors.size(); ++i) {
    RAM_CHECK(again->tensors[i].name == catalog->tensors[i].name);
    RAM_CHECK(again->tensors[i].shape == catalog->tensors[i].shape);
  }
  return 0;
}
