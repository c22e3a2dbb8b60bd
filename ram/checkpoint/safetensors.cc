#include "ram/checkpoint/safetensors.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "ram/base/bytes.h"
#include "ram/base/json.h"
#include "ram/checkpoint/model_files.h"
#include "ram/checkpoint/text.h"

namespace ram {
namespace {

constexpr uint64_t kLengthBytes = 8;                // The word before the header.
constexpr uint64_t kMaxHeaderBytes = 100'000'000;   // As in the reference implementation.
constexpr uint64_t kMaxNumber = uint64_t{1} << 53;  // What every JSON reader represents exactly.
constexpr size_t kMaxEntries = 1'000'000;           // Tensors and pairs of metadata, together.
constexpr size_t kMaxNameBytes = 4096;
constexpr size_t kMaxRank = 64;
constexpr uint64_t kDataAlignment = 64;

constexpr std::string_view kMetadataKey = "__metadata__";

// Bits of a tensor; nothing if they do not fit in 64 bits. Dimensions of 0 are left out of the
// product that is checked: so the result does not depend on their place, and products of some of
// the dimensions are safe for every caller.
std::optional<uint64_t> TensorBits(Dtype dtype, const std::vector<uint64_t>& shape) {
  std::optional<uint64_t> bits = static_cast<uint64_t>(BitsOf(dtype));
  for (const uint64_t dimension : shape) {
    if (bits && dimension != 0) bits = CheckedMul(*bits, dimension);
  }
  if (bits && std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  return bits;
}

// Receives the header token by token and accepts nothing but
//   { "__metadata__": {string: string...}, name: {"dtype": string, "shape": [number...],
//     "data_offsets": [begin, end]}... }
// so that neither depth nor memory can grow beyond what the tensors themselves take. Measured on
// hostile headers of the largest size: at most 6 times the text, most of it the parser's own
// message about a token of 100 MB; a million pairs of metadata in 12 MB take 10 times the text.
class HeaderReader final : public Json::json_sax_t {
 public:
  // First thing that was wrong; empty if nothing was.
  const std::string& mistake() const { return mistake_; }
  SafetensorsHeader& header() { return header_; }

  bool start_object(size_t) override {
    switch (place_) {
      case Place::kStart:
        place_ = Place::kTop;
        return true;
      case Place::kTop:
        if (name_ == kMetadataKey) {
          place_ = Place::kMetadata;
          return true;
        }
        place_ = Place::kEntry;
        fields_seen_ = {};
        dtype_ = {};
        shape_.clear();
        data_offsets_.clear();
        return true;
      default:
        return Unexpected("an object");
    }
  }

  bool key(std::string& text) override {
    switch (place_) {
      case Place::kTop:
        return StartMember(text);
      case Place::kMetadata:
        if (header_.metadata.contains(text)) {
          return Fail(fmt::format("{}: key {} occurs twice", kMetadataKey, Shown(text)));
        }
        metadata_key_ = std::move(text);
        return CountEntry();
      default:
        return StartField(text);
    }
  }

  bool string(std::string& text) override {
    if (place_ == Place::kMetadata) {
      header_.metadata.emplace(std::move(metadata_key_), std::move(text));
      return true;
    }
    if (place_ != Place::kEntry || field_ != kDtypeField) return Unexpected("a string");
    dtype_ = ParseDtype(text);
    if (dtype_) return true;
    return FailTensor(
        fmt::format("dtype \"{}\" is none that safetensors defines, e.g. BF16", Shown(text)));
  }

  bool start_array(size_t) override {
    if (place_ != Place::kEntry || field_ == kDtypeField) return Unexpected("an array");
    place_ = Place::kArray;
    return true;
  }

  bool number_unsigned(uint64_t number) override {
    if (place_ != Place::kArray) return Unexpected(fmt::format("{}", number));
    if (number > kMaxNumber) return Unexpected(fmt::format("{}", number));
    if (field_ == kShapeField) {
      if (shape_.size() == kMaxRank) {
        return FailTensor(fmt::format("shape has more than {} dimensions", kMaxRank));
      }
      shape_.push_back(number);
    } else {
      if (data_offsets_.size() == 2) return FailTensor("data_offsets has more than two numbers");
      data_offsets_.push_back(number);
    }
    return true;
  }

  bool end_array() override {
    place_ = Place::kEntry;
    return true;
  }

  bool end_object() override {
    if (place_ == Place::kEntry) {
      place_ = Place::kTop;
      return FinishTensor();
    }
    place_ = Place::kTop;  // After the outermost object the parser takes nothing more.
    return true;
  }

  // MLX writes "__metadata__": null where there is none.
  bool null() override {
    return (place_ == Place::kTop && name_ == kMetadataKey) || Unexpected("null");
  }
  bool boolean(bool value) override { return Unexpected(value ? "true" : "false"); }
  // The parser calls this for numbers with a minus sign only.
  bool number_integer(int64_t number) override {
    return Unexpected(number == 0 ? "-0" : fmt::format("{}", number));
  }
  // Also for whole numbers beyond 64 bits.
  bool number_float(double, const std::string& text) override { return Unexpected(Shown(text)); }
  bool binary(Json::binary_t&) override { return Unexpected("binary data"); }

  bool parse_error(size_t position, const std::string&, const Json::exception& error) override {
    // "[json.exception.parse_error.101] parse error at line 1, column 4: REASON; last read: ...".
    std::string_view reason = error.what();
    if (const size_t end = reason.find("] "); end != reason.npos) reason.remove_prefix(end + 2);
    if (reason.starts_with("parse error at ")) {
      if (const size_t end = reason.find(": "); end != reason.npos) reason.remove_prefix(end + 2);
    }
    reason = reason.substr(0, reason.find("; last read"));
    return Fail(
        fmt::format("header is not JSON near byte {}: {}", kLengthBytes + position, Shown(reason)));
  }

 private:
  enum class Place : uint8_t { kStart, kTop, kMetadata, kEntry, kArray };
  enum Field : size_t { kDtypeField, kShapeField, kDataOffsetsField, kNumFields };
  static constexpr std::array<std::string_view, kNumFields> kFieldNames = {"dtype", "shape",
                                                                           "data_offsets"};

  bool Fail(std::string mistake) {
    if (mistake_.empty()) mistake_ = std::move(mistake);
    return false;
  }

  bool FailTensor(std::string_view mistake) {
    return Fail(fmt::format("tensor {}: {}", Shown(name_), mistake));
  }

  bool Unexpected(std::string_view found) {
    const std::string number = fmt::format("a whole number from 0 to {}", kMaxNumber);
    switch (place_) {
      case Place::kStart:
        return Fail(fmt::format("header: expected an object, found {}", found));
      case Place::kTop:
        if (name_ == kMetadataKey) {
          return Fail(fmt::format("{}: expected an object, found {}", kMetadataKey, found));
        }
        return FailTensor(
            fmt::format("expected an object of dtype, shape and data_offsets, found {}", found));
      case Place::kMetadata:
        return Fail(fmt::format("{}: key {}: expected a string, found {}", kMetadataKey,
                                Shown(metadata_key_), found));
      case Place::kEntry:
        return FailTensor(fmt::format("{}: expected {}, found {}", kFieldNames[field_],
                                      field_ == kDtypeField ? "a string" : "an array", found));
      case Place::kArray:
        return FailTensor(
            fmt::format("{}: expected {}, found {}", kFieldNames[field_], number, found));
    }
    return false;
  }

  bool CountEntry() {
    if (++num_entries_ <= kMaxEntries) return true;
    return Fail(fmt::format("header has more than {} entries", kMaxEntries));
  }

  // Tensors of the same name are found when all are known; see FindDuplicate.
  bool StartMember(std::string& name) {
    if (name == kMetadataKey && std::exchange(metadata_seen_, true)) {
      return Fail(fmt::format("{} occurs twice", kMetadataKey));
    }
    if (name.empty()) return Fail("a tensor has an empty name");
    if (name.size() > kMaxNameBytes) {
      return Fail(fmt::format("the name of a tensor has {} bytes, at most {} are accepted: {}",
                              name.size(), kMaxNameBytes, Shown(name)));
    }
    name_ = std::move(name);
    return CountEntry();
  }

  bool StartField(std::string_view name) {
    const auto found = std::find(kFieldNames.begin(), kFieldNames.end(), name);
    if (found == kFieldNames.end()) {
      return FailTensor(
          fmt::format("unknown key {}: expected dtype, shape and data_offsets only", Shown(name)));
    }
    field_ = static_cast<Field>(found - kFieldNames.begin());
    if (std::exchange(fields_seen_[field_], true)) {
      return FailTensor(fmt::format("key {} occurs twice", name));
    }
    return true;
  }

  bool FinishTensor() {
    for (size_t field = 0; field < kNumFields; ++field) {
      if (!fields_seen_[field]) return FailTensor(fmt::format("{} is missing", kFieldNames[field]));
    }
    if (data_offsets_.size() != 2) return FailTensor("data_offsets has fewer than two numbers");
    const uint64_t begin = data_offsets_[0];
    const uint64_t end = data_offsets_[1];
    if (begin > end) {
      return FailTensor(fmt::format("data_offsets [{}, {}] end before they begin", begin, end));
    }
    const auto type = [&] { return fmt::format("{} {}", DtypeName(*dtype_), ShapeText(shape_)); };
    const std::optional<uint64_t> bits = TensorBits(*dtype_, shape_);
    if (!bits) return FailTensor(fmt::format("{} takes more than 2^64 bits", type()));
    if (*bits % 8 != 0) {
      return FailTensor(fmt::format("{} takes {} bits, no whole number of bytes", type(), *bits));
    }
    const uint64_t num_bytes = *bits / 8;
    if (end - begin != num_bytes) {
      return FailTensor(fmt::format("{} takes {} bytes, its data_offsets [{}, {}] span {}", type(),
                                    num_bytes, begin, end, end - begin));
    }
    header_.tensors.push_back({.name = std::move(name_),
                               .dtype = *dtype_,
                               .shape = shape_,
                               .offset = begin,
                               .num_bytes = num_bytes});
    return true;
  }

  SafetensorsHeader header_ = {};
  std::string mistake_;
  Place place_ = Place::kStart;
  size_t num_entries_ = 0;
  bool metadata_seen_ = false;
  std::string metadata_key_;
  // The member of the outermost object that is being read.
  std::string name_;
  Field field_ = kDtypeField;
  std::array<bool, kNumFields> fields_seen_ = {};
  std::optional<Dtype> dtype_;
  std::vector<uint64_t> shape_;
  std::vector<uint64_t> data_offsets_;
};

// What the JSON parser would let pass: it skips white space and a byte order mark before the
// header, and takes a NUL byte for the end of its input.
std::string FindFramingMistake(std::string_view text) {
  if (text.empty() || text.front() != '{') {
    return fmt::format("header must start with '{{' at byte {}, found {}", kLengthBytes,
                       text.empty() ? "nothing" : fmt::format("\"{}\"", Shown(text.substr(0, 1))));
  }
  if (const size_t at = text.find('\0'); at != text.npos) {
    return fmt::format("header has a NUL at byte {}", kLengthBytes + at);
  }
  const size_t last = text.find_last_not_of(' ');
  if (text[last] != '}') {
    return fmt::format("header must end with '}}' and spaces, found \"{}\" at byte {}",
                       Shown(text.substr(last, 1)), kLengthBytes + last);
  }
  return "";
}

// A name that two tensors have; null if there is none.
const std::string* FindDuplicate(const std::vector<TensorInfo>& tensors) {
  std::vector<const std::string*> names;
  names.reserve(tensors.size());
  for (const TensorInfo& tensor : tensors) names.push_back(&tensor.name);
  std::sort(names.begin(), names.end(),
            [](const std::string* a, const std::string* b) { return *a < *b; });
  const auto found =
      std::adjacent_find(names.begin(), names.end(),
                         [](const std::string* a, const std::string* b) { return *a == *b; });
  return found == names.end() ? nullptr : *found;
}

// What is wrong with the ranges of tensors that are sorted by offset [from the start of the file].
std::string FindCoverageMistake(const SafetensorsHeader& header, uint64_t file_bytes,
                                Strictness strictness) {
  uint64_t end = header.data_offset;
  const TensorInfo* previous = nullptr;
  for (const TensorInfo& tensor : header.tensors) {
    if (tensor.offset < end) {  // Never for the first: its offset is at least data_offset.
      return fmt::format("tensor {} begins at {}, inside tensor {}, which ends at {}",
                         Shown(tensor.name), tensor.offset, Shown(previous->name), end);
    }
    if (tensor.offset > end && strictness == Strictness::kStrict) {
      return fmt::format("tensor {} begins at {}, expected {}: {} bytes belong to no tensor",
                         Shown(tensor.name), tensor.offset, end, tensor.offset - end);
    }
    end = tensor.offset + tensor.num_bytes;
    if (end > file_bytes) {
      return fmt::format("tensor {} needs {} bytes at {}, file ends after {}", Shown(tensor.name),
                         tensor.num_bytes, tensor.offset, file_bytes);
    }
    previous = &tensor;
  }
  if (end < file_bytes && strictness == Strictness::kStrict) {
    return fmt::format("{} ends at {}, expected the file to end there: {} bytes follow",
                       previous == nullptr ? "header without tensors"
                                           : fmt::format("last tensor {}", Shown(previous->name)),
                       end, file_bytes - end);
  }
  return "";
}

Error Corrupt(std::string_view where, std::string_view mistake) {
  return Error{ErrorCode::kCorrupt, fmt::format("{}: {}", where, mistake)};
}

}  // namespace

uint64_t NumElements(const TensorInfo& tensor) {
  uint64_t num_elements = 1;
  for (const uint64_t dimension : tensor.shape) num_elements *= dimension;
  return num_elements;
}

std::string ShapeText(const std::vector<uint64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

Result<SafetensorsHeader> ReadSafetensorsHeader(const File& file, Strictness strictness) {
  const std::string where = file.path().string();
  std::array<uint8_t, kLfsPointerStart.size()> start = {};
  const size_t num_start = std::min<uint64_t>(start.size(), file.size());
  RAM_RETURN_IF_ERROR(file.ReadAt(0, std::span(start.data(), num_start)));
  if (IsLfsPointer({reinterpret_cast<const char*>(start.data()), num_start})) {
    return LfsPointerError(where);
  }
  if (file.size() < kLengthBytes) {
    return Corrupt(where, fmt::format("the length of the header takes {} bytes, file ends after {}",
                                      kLengthBytes, file.size()));
  }
  uint64_t header_bytes = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) header_bytes |= uint64_t{start[i]} << (8 * i);
  if (header_bytes > kMaxHeaderBytes) {
    return Corrupt(where, fmt::format("header length {} exceeds {}: not a safetensors file",
                                      header_bytes, kMaxHeaderBytes));
  }
  if (header_bytes > file.size() - kLengthBytes) {
    return Corrupt(where, fmt::format("header needs {} bytes at {}, file ends after {}",
                                      header_bytes, kLengthBytes, file.size()));
  }
  std::string text(header_bytes, '\0');
  RAM_RETURN_IF_ERROR(
      file.ReadAt(kLengthBytes, std::span(reinterpret_cast<uint8_t*>(text.data()), text.size())));
  return ParseSafetensorsHeader(text, file.size(), where, strictness);
}

Result<SafetensorsHeader> ParseSafetensorsHeader(std::string_view text, uint64_t file_bytes,
                                                 std::string_view where, Strictness strictness) {
  const uint64_t data_offset = kLengthBytes + text.size();
  RAM_CHECK(data_offset <= file_bytes);
  if (const std::string mistake = FindFramingMistake(text); !mistake.empty()) {
    return Corrupt(where, mistake);
  }
  HeaderReader reader;
  if (!Json::sax_parse(text.begin(), text.end(), &reader)) return Corrupt(where, reader.mistake());

  SafetensorsHeader header = std::move(reader.header());
  if (const std::string* name = FindDuplicate(header.tensors); name != nullptr) {
    return Corrupt(where, fmt::format("tensor {} occurs twice", Shown(*name)));
  }
  header.data_offset = data_offset;
  for (TensorInfo& tensor : header.tensors) tensor.offset += data_offset;
  std::sort(header.tensors.begin(), header.tensors.end(),
            [](const TensorInfo& a, const TensorInfo& b) {
              if (a.offset != b.offset) return a.offset < b.offset;
              if (a.num_bytes != b.num_bytes)
                return a.num_bytes < b.num_bytes;  // Empty ones first.
              return a.name < b.name;
            });
  if (const std::string mistake = FindCoverageMistake(header, file_bytes, strictness);
      !mistake.empty()) {
    return Corrupt(where, mistake);
  }
  return header;
}

SafetensorsLayout LayOutSafetensors(const std::vector<TensorSpec>& tensors,
                                    const std::map<std::string, std::string>& metadata) {
  SafetensorsLayout layout = {};
  layout.offsets.reserve(tensors.size());
  std::string header = R"({"__metadata__":{)";
  std::string_view separator;
  for (const auto& [key, value] : metadata) {
    header += fmt::format("{}{}:{}", separator, JsonString(key), JsonString(value));
    separator = ",";
  }
  header += '}';
  uint64_t end = 0;
  for (const TensorSpec& tensor : tensors) {
    const std::optional<uint64_t> bits = TensorBits(tensor.dtype, tensor.shape);
    RAM_CHECK(bits.has_value() && *bits % 8 == 0);
    const uint64_t begin = end;
    end += *bits / 8;
    RAM_CHECK(end >> 63 == 0);
    layout.offsets.push_back(begin);
    header += fmt::format(R"(,{}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                          JsonString(tensor.name), DtypeName(tensor.dtype),
                          fmt::join(tensor.shape, ","), begin, end);
  }
  header += '}';
  const uint64_t unpadded = kLengthBytes + header.size();
  const uint64_t data_offset = (unpadded + kDataAlignment - 1) / kDataAlignment * kDataAlignment;
  header.append(data_offset - unpadded, ' ');
  RAM_CHECK(header.size() <= kMaxHeaderBytes);

  for (size_t i = 0; i < kLengthBytes; ++i) {
    layout.prefix += static_cast<char>(header.size() >> (8 * i) & 0xFF);
  }
  layout.prefix += header;
  for (uint64_t& offset : layout.offsets) offset += data_offset;
  layout.file_bytes = data_offset + end;
  return layout;
}

uint64_t HeaderEntryBytes(std::string_view name, Dtype dtype, const std::vector<uint64_t>& shape,
                          uint64_t max_data_bytes) {
  return fmt::formatted_size(R"(,{}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                             JsonString(name), DtypeName(dtype), fmt::join(shape, ","),
                             max_data_bytes, max_data_bytes);
}

}  // namespace ram
