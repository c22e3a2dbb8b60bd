#include "ram/runtime/products.h"

namespace ram {

std::unique_ptr<Products> MakeAmxProducts(const std::string& /*isa*/, Precision /*precision*/) {
  return nullptr;
}

}  // namespace ram
