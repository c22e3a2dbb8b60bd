#pragma once

// Safetensors files: an 8-byte little-endian header length N, N bytes of JSON, then the data.
// Source: the format text of huggingface/safetensors; stricter than most readers, see
// docs/checkpoints.md for every rule and why.

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "ram/base/dtype.h"
#include "ram/base/file.h"
#include "ram/base/result.h"

namespace ram {

struct TensorInfo {
  std::string name;
  Dtype dtype;
  std::vector<uint64_t> shape;
  uint64_t offset;     // From the start of the file [bytes]; may be odd.
  uint64_t num_bytes;  // Of the data.
  size_t shard = 0;    // Index into Checkpoint::shards(); 0 for a single file.
};

// Cannot overflow for a tensor that was read from a header, nor can the product of any of its
// dimensions.
uint64_t NumElements(const TensorInfo& tensor);
// "[128, 768, 2048]".
std::string ShapeText(const std::vector<uint64_t>& shape);

struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;  // By offset.
  std::map<std::string, std::string> metadata;
  uint64_t data_offset;  // Of the first data byte: 8 + N.
};

enum class Strictness : uint8_t {
  kStrict,   // Data is covered exactly: no holes, no overlaps, no trailing bytes.
  kLenient,  // Holes and trailing bytes are accepted; overlaps are not.
};

// Reads and checks the header of an open file. kCorrupt names the file, the tensor or offset, and
// what was expected.
Result<SafetensorsHeader> ReadSafetensorsHeader(const File& file,
                                                Strictness strictness = Strictness::kStrict);

// The same for header text in memory; `file_bytes` is the size of the whole file (at least the 8
// bytes of the length and the text) and `where` its name in messages. What the fuzz target runs.
Result<SafetensorsHeader> ParseSafetensorsHeader(std::string_view text, uint64_t file_bytes,
                                                 std::string_view where, Strictness strictness);

// A file to be written: tensors in the order given, data without gaps, header padded with spaces so
// that the data starts at a multiple of 64.
struct TensorSpec {
  std::string name;  // UTF-8.
  Dtype dtype;
  std::vector<uint64_t> shape;
};

struct SafetensorsLayout {
  std::string prefix;             // Length word and header: the first bytes of the file.
  std::vector<uint64_t> offsets;  // Of each tensor, from the start of the file.
  uint64_t file_bytes;
};

// Names must be unique. Sizes must not exceed 2^63. Metadata is written by key, in UTF-8.
SafetensorsLayout LayOutSafetensors(const std::vector<TensorSpec>& tensors,
                                    const std::map<std::string, std::string>& metadata = {
                                        {"format", "mlx"}});

// Upper bounds for sizes that must be known before a layout is: bytes that the entry of one tensor
// takes in a header, and what a file needs besides its entries and data. A file laid out by
// LayOutSafetensors is never larger than kFileOverheadBytes + the sum over its tensors of
// HeaderEntryBytes + data bytes, if it holds at most `max_data_bytes` of data (the widest offset).
uint64_t HeaderEntryBytes(std::string_view name, Dtype dtype, const std::vector<uint64_t>& shape,
                          uint64_t max_data_bytes = 9'999'999'999'999);
inline constexpr uint64_t kFileOverheadBytes = 8 + 2 + 32 + 64;

}  // namespace ram
