#include <utility>

#include "ram/family/catalog.h"
#include "ram/family/model_shape.h"
#include "ram/family/tensor_layout.h"

namespace ram {

Result<Catalog> BuildCatalog(const Json& config, std::string_view where) {
  RAM_ASSIGN_OR_RETURN(const ModelShape shape, ReadModelShape(config, where));
  RAM_ASSIGN_OR_RETURN(std::vector<Slot> slots, LayOutTensors(shape, where));
  const SourceNames names = PublishedNames(shape);
  Catalog catalog = CatalogHead(shape);
  catalog.tensors.reserve(slots.size());
  for (Slot& slot : slots) {
    slot.tensor.views = PublishedViews(slot, shape, names);
    catalog.tensors.push_back(std::move(slot.tensor));
  }
  return catalog;
}

}  // namespace ram
