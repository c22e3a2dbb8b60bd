// The text of a safetensors header. Whatever it is, it is refused or it describes a file that holds
// together, and what the reader accepted the layout writes and the reader accepts again.

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "ram/checkpoint/safetensors.h"

namespace {

using ram::Result;
using ram::SafetensorsHeader;
using ram::Strictness;
using ram::TensorInfo;

// Room for the largest offset that a header may state.
constexpr uint64_t kHugeFile = uint64_t{1} << 60;

uint64_t EndOfData(const SafetensorsHeader& header) {
  uint64_t end = header.data_offset;
  for (const TensorInfo& tensor : header.tensors) end = tensor.offset + tensor.num_bytes;
  return end;
}

void CheckCoverage(const SafetensorsHeader& header, bool exact) {
  uint64_t end = header.data_offset;
  for (const TensorInfo& tensor : header.tensors) {
    RAM_CHECK(exact ? tensor.offset == end : tensor.offset >= end);
    RAM_CHECK(NumElements(tensor) * static_cast<uint64_t>(BitsOf(tensor.dtype)) ==
              tensor.num_bytes * 8);
    end = tensor.offset + tensor.num_bytes;
  }
}

void CheckRoundTrip(const SafetensorsHeader& header) {
  std::vector<ram::TensorSpec> specs;
  uint64_t bound = ram::kFileOverheadBytes;
  for (const TensorInfo& tensor : header.tensors) {
    specs.push_back({tensor.name, tensor.dtype, tensor.shape});
    bound += ram::HeaderEntryBytes(tensor.name, tensor.dtype, tensor.shape) + tensor.num_bytes;
  }
  const ram::SafetensorsLayout layout = ram::LayOutSafetensors(specs);
  RAM_CHECK(layout.prefix.size() % 64 == 0);
  // The bound is promised for files below 10 TB.
  if (layout.file_bytes < 9'999'000'000'000) RAM_CHECK(layout.file_bytes <= bound);

  const Result<SafetensorsHeader> again = ram::ParseSafetensorsHeader(
      std::string_view(layout.prefix).substr(8), layout.file_bytes, "again", Strictness::kStrict);
  RAM_CHECK(again.ok() && again->tensors.size() == specs.size());
  // Empty tensors of one offset may change their order; all others keep it.
  for (size_t i = 0; i < specs.size(); ++i) {
    const TensorInfo& tensor = again->tensors[i];
    RAM_CHECK(tensor.num_bytes == 0 || header.tensors[i].num_bytes == 0 ||
              (tensor.name == specs[i].name && tensor.shape == specs[i].shape &&
               tensor.dtype == specs[i].dtype && tensor.offset == layout.offsets[i]));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const Result<SafetensorsHeader> without_data =
      ram::ParseSafetensorsHeader(text, 8 + size, "header", Strictness::kStrict);
  RAM_CHECK(!without_data || EndOfData(*without_data) == 8 + size);

  const Result<SafetensorsHeader> lenient =
      ram::ParseSafetensorsHeader(text, kHugeFile, "header", Strictness::kLenient);
  if (!lenient) {
    RAM_CHECK(!without_data && lenient.error().code == ram::ErrorCode::kCorrupt);
    return 0;
  }
  CheckCoverage(*lenient, /*exact=*/false);
  CheckRoundTrip(*lenient);

  // The file that fits exactly has no other fault than holes; a shorter one always has.
  const uint64_t end = EndOfData(*lenient);
  const Result<SafetensorsHeader> strict =
      ram::ParseSafetensorsHeader(text, end, "header", Strictness::kStrict);
  if (strict) CheckCoverage(*strict, /*exact=*/true);
  RAM_CHECK(ram::ParseSafetensorsHeader(text, end, "header", Strictness::kLenient).ok());
  if (end > 8 + size) {
    RAM_CHECK(!ram::ParseSafetensorsHeader(text, end - 1, "header", Strictness::kLenient));
  }
  return 0;
}
