#include "ram/runtime/attention.h"

namespace ram {

std::unique_ptr<Attention> MakeAmxAttention(const std::string& /*isa*/, Precision /*precision*/) {
  return nullptr;
}

}  // namespace ram
