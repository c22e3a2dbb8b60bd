#include "ram/checkpoint/weights_hash.h"

#include <vector>

#include "ram/base/hash.h"

namespace ram {

Result<std::string> HashWeights(const Checkpoint& checkpoint) {
  ContentHasher hasher;
  hasher.Add(checkpoint.structure_hash());
  std::vector<uint8_t> bytes;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    const bool whole = tensor.num_bytes <= kSampledBytes;
    const uint64_t num_pieces = whole ? 1 : kSamples;
    bytes.resize(whole ? tensor.num_bytes : kSampledBytes / kSamples);
    for (uint64_t i = 0; i < num_pieces; ++i) {
      const uint64_t offset = whole ? 0 : (tensor.num_bytes - bytes.size()) / (kSamples - 1) * i;
      RAM_RETURN_IF_ERROR(checkpoint.Read(tensor, offset, bytes));
      hasher.Add(bytes);
    }
  }
  return ToHex(hasher.Finish());
}

}  // namespace ram
