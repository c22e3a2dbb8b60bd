#include "ram/family/in_major_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "ram/base/half.h"

namespace ram {
namespace {

constexpr uint64_t kScratchBytes = uint64_t{8} << 20;  // Of decoded weights at a time.
constexpr uint64_t kNibbles = 8;                       // Of a word of AWQ.
constexpr std::array<uint64_t, kNibbles> kAwqOrder = {0, 2, 4, 6, 1, 3, 5, 7};

// The code at `bit` of a stream whose words are `stride` apart.
uint32_t CodeAt(const uint32_t* words, uint64_t stride, uint64_t bit, uint64_t bits) {
  const uint64_t word = bit / 32;
  const uint64_t shift = bit % 32;
  uint32_t code = words[word * stride] >> shift;
  if (shift + bits > 32) code |= words[(word + 1) * stride] << (32 - shift);
  return code & ((1U << bits) - 1);
}

// The tensors of one module, and some of its outputs decoded.
class InMajorReader {
 public:
  static Result<InMajorReader> Open(const Checkpoint& checkpoint, const CatalogTensor& tensor,
                                    size_t view) {
    InMajorReader reader(checkpoint, tensor);
    const std::string& source = tensor.views[view].source;
    const std::string module = source.substr(0, source.rfind('.'));
    for (const auto& [suffix, info] :
         {std::pair(".qweight", &reader.codes_), std::pair(".scales", &reader.scales_),
          std::pair(".qzeros", &reader.zeros_)}) {
      *info = checkpoint.Find(module + suffix);
      if (*info != nullptr) continue;
      return Error{ErrorCode::kNotFound,
                   fmt::format("{}: tensor {}{}, from which {} is read, is missing",
                               checkpoint.directory().string(), module, suffix, tensor.name)};
    }
    const bool awq = tensor.encoding == Encoding::kAwq;
    reader.in_ = reader.codes_->shape[0] * (awq ? 1 : 32) / (awq ? 1 : reader.bits_);
    reader.groups_ = reader.scales_->shape[0];
    reader.outs_ = reader.scales_->shape[1];
    RAM_RETURN_IF_ERROR(reader.ReadGroups(awq ? nullptr : checkpoint.Find(module + ".g_idx")));
    return reader;
  }

  uint64_t in() const { return in_; }

  // Outputs [first, first + count) to `to` [count, in].
  Status Decode(uint64_t first, uint64_t count, float* to) {
    RAM_RETURN_IF_ERROR(ReadScales(first, count));
    RAM_RETURN_IF_ERROR(ReadZeros(first, count));
    return tensor_.encoding == Encoding::kAwq ? DecodeAwq(first, count, to)
                                              : DecodeGptq(first, count, to);
  }

 private:
  InMajorReader(const Checkpoint& checkpoint, const CatalogTensor& tensor)
      : checkpoint_(checkpoint),
        tensor_(tensor),
        bits_(static_cast<uint64_t>(tensor.packed.bits)) {}

  // Columns [first, first + count) of rows [row, row + num_rows) of a tensor of words.
  Status ReadWords(const TensorInfo& info, uint64_t num_rows, uint64_t first, uint64_t count,
                   std::vector<uint32_t>* words) const {
    words->resize(num_rows * count);
    for (uint64_t row = 0; row < num_rows; ++row) {
      RAM_RETURN_IF_ERROR(checkpoint_.Read(
          info, (row * info.shape[1] + first) * sizeof(uint32_t),
          {reinterpret_cast<uint8_t*>(words->data() + row * count), count * sizeof(uint32_t)}));
    }
    return Done{};
  }

  Status ReadGroups(const TensorInfo* order) {
    group_of_.resize(in_);
    if (order == nullptr) {
      const auto size = static_cast<uint64_t>(tensor_.packed.group_size);
      for (uint64_t i = 0; i < in_; ++i) {
        group_of_[i] = static_cast<uint32_t>(size == 0 ? 0 : i / size);
      }
      return Done{};
    }
    RAM_RETURN_IF_ERROR(checkpoint_.Read(
        *order, 0, {reinterpret_cast<uint8_t*>(group_of_.data()), in_ * sizeof(uint32_t)}));
    for (uint64_t i = 0; i < in_; ++i) {
      if (group_of_[i] < groups_) continue;
      return Error{ErrorCode::kCorrupt,
                   fmt::format("{}: tensor {} puts input {} in group {} of {}",
                               checkpoint_.directory().string(), order->name, i,
                               static_cast<int32_t>(group_of_[i]), groups_)};
    }
    return Done{};
  }

  Status ReadScales(uint64_t first, uint64_t count) {
    const Dtype dtype = scales_->dtype;
    const auto size = static_cast<uint64_t>(BitsOf(dtype)) / 8;
    std::vector<uint8_t> raw(count * size);
    scale_.resize(groups_ * count);
    for (uint64_t group = 0; group < groups_; ++group) {
      RAM_RETURN_IF_ERROR(checkpoint_.Read(*scales_, (group * outs_ + first) * size, raw));
      for (uint64_t o = 0; o < count; ++o) {
        float& scale = scale_[group * count + o];
        uint16_t half = 0;
        if (dtype == Dtype::kF32) {
          std::memcpy(&scale, raw.data() + o * size, size);
          continue;
        }
        std::memcpy(&half, raw.data() + o * size, size);
        scale = dtype == Dtype::kF16 ? FloatFromF16(half) : FloatFromBf16(half);
      }
    }
    return Done{};
  }

  Status ReadZeros(uint64_t first, uint64_t count) {
    const uint64_t first_word = first * bits_ / 32;
    const uint64_t words_per_row = ((first + count) * bits_ + 31) / 32 - first_word;
    std::vector<uint32_t> words;
    RAM_RETURN_IF_ERROR(ReadWords(*zeros_, groups_, first_word, words_per_row, &words));
    zero_.resize(groups_ * count);
    for (uint64_t group = 0; group < groups_; ++group) {
      uint32_t* row = words.data() + group * words_per_row;
      AddOnes({row, words_per_row});
      for (uint64_t o = 0; o < count; ++o) {
        RAM_ASSIGN_OR_RETURN(const uint32_t zero, ZeroAt(row, first_word, group, first + o));
        zero_[group * count + o] = static_cast<float>(zero);
      }
    }
    return Done{};
  }

  // Undoes the subtraction of 1 as it was done: from whole words, so that a zero of 0 has borrowed
  // from its neighbour. Codes of 3 bits cross words; their ones are added in ZeroAt.
  void AddOnes(std::span<uint32_t> words) const {
    if (tensor_.encoding != Encoding::kGptqLessOne || bits_ == 3) return;
    const uint32_t ones = bits_ == 2 ? 0x55555555 : bits_ == 4 ? 0x11111111 : 0x01010101;
    for (uint32_t& word : words) word += ones;
  }

  // `row` begins with word `first_word` of its row.
  Result<uint32_t> ZeroAt(const uint32_t* row, uint64_t first_word, uint64_t group,
                          uint64_t out) const {
    const uint64_t bit = out * bits_ - first_word * 32;
    switch (tensor_.encoding) {
      case Encoding::kAwq: {
        const auto nibble =
            static_cast<uint64_t>(std::ranges::find(kAwqOrder, out % kNibbles) - kAwqOrder.begin());
        return row[out / kNibbles - first_word] >> (4 * nibble) & 15;
      }
      case Encoding::kGptqSymmetric: {
        const uint32_t half = 1U << (bits_ - 1);
        if (bits_ == 3) return half;  // Writers of both formats disagree about these.
        const uint32_t stored = CodeAt(row, /*stride=*/1, bit, bits_);
        if (stored == half || stored == half - 1) return half;
        return Error{ErrorCode::kCorrupt,
                     fmt::format("{}: tensor {} has the zero {} at [{}, {}], expected {} or {} as "
                                 "config.json says \"sym\"",
                                 checkpoint_.directory().string(), zeros_->name, stored, group, out,
                                 half - 1, half)};
      }
      case Encoding::kGptqLessOne: {
        const uint32_t stored = CodeAt(row, /*stride=*/1, bit, bits_);
        return bits_ == 3 ? (stored + 1) & 7 : stored;
      }
      default:
        return CodeAt(row, /*stride=*/1, bit, bits_);
    }
  }

  float Weight(uint32_t code, uint64_t input, uint64_t o, uint64_t count) const {
    const uint64_t at = group_of_[input] * count + o;
    return (static_cast<float>(code) - zero_[at]) * scale_[at];
  }

  Status DecodeGptq(uint64_t first, uint64_t count, float* to) {
    const uint64_t num_words = in_ * bits_ / 32;
    RAM_RETURN_IF_ERROR(ReadWords(*codes_, num_words, first, count, &words_));
    // As many codes as fill whole words, so that the words of a row are used while they are close.
    const uint64_t words_at_once = bits_ == 3 ? 3 : 1;
    const uint64_t codes_at_once = words_at_once * 32 / bits_;
    for (uint64_t word = 0; word < num_words; word += words_at_once) {
      const uint64_t input = word / words_at_once * codes_at_once;
      for (uint64_t o = 0; o < count; ++o) {
        const uint32_t* column = words_.data() + word * count + o;
        for (uint64_t i = 0; i < codes_at_once; ++i) {
          to[o * in_ + input + i] =
              Weight(CodeAt(column, count, i * bits_, bits_), input + i, o, count);
        }
      }
    }
    return Done{};
  }

  Status DecodeAwq(uint64_t first, uint64_t count, float* to) {
    constexpr uint64_t kInputs = 16;  // A cache line of each output.
    const uint64_t first_word = first / kNibbles;
    const uint64_t width = (first + count + kNibbles - 1) / kNibbles - first_word;
    RAM_RETURN_IF_ERROR(ReadWords(*codes_, in_, first_word, width, &words_));
    for (uint64_t i0 = 0; i0 < in_; i0 += kInputs) {
      const uint64_t i1 = std::min(i0 + kInputs, in_);
      for (uint64_t word = 0; word < width; ++word) {
        for (uint64_t nibble = 0; nibble < kNibbles; ++nibble) {
          const uint64_t out = (first_word + word) * kNibbles + kAwqOrder[nibble];
          if (out < first || out >= first + count) continue;
          const uint64_t o = out - first;
          for (uint64_t i = i0; i < i1; ++i) {
            const uint32_t code = words_[i * width + word] >> (4 * nibble) & 15;
            to[o * in_ + i] = Weight(code, i, o, count);
          }
        }
      }
    }
    return Done{};
  }

  const Checkpoint& checkpoint_;
  const CatalogTensor& tensor_;
  uint64_t bits_;
  const TensorInfo* codes_ = nullptr;
  const TensorInfo* scales_ = nullptr;
  const TensorInfo* zeros_ = nullptr;
  uint64_t in_ = 0;
  uint64_t outs_ = 0;
  uint64_t groups_ = 0;
  std::vector<uint32_t> group_of_;  // [in]
  std::vector<uint32_t> words_;     // Codes of the outputs being decoded ...
  std::vector<float> scale_;        // ... and their scales and zeros [groups, outputs].
  std::vector<float> zero_;
};

}  // namespace

Status ReadInMajorRows(const Checkpoint& checkpoint, const CatalogTensor& tensor, size_t view,
                       uint64_t first_row, uint64_t num_rows, std::span<uint8_t> out) {
  RAM_CHECK(tensor.dtype == Dtype::kF32 && !tensor.add_one);
  RAM_CHECK(out.size() == num_rows * tensor.cols * sizeof(float));
  RAM_ASSIGN_OR_RETURN(InMajorReader reader, InMajorReader::Open(checkpoint, tensor, view));
  // Rows of the view are rows of the matrix, or (keys of latent attention) its columns are.
  const SourceView& source = tensor.views[view];
  const uint64_t in = reader.in();
  const bool rows_are_outputs = source.col_stride == 1;
  RAM_CHECK(rows_are_outputs ? source.row_stride == in
                             : source.row_stride == 1 && source.col_stride == in);
  const uint64_t start = source.base + first_row * source.row_stride;
  const uint64_t first_output = start / in;
  const uint64_t first_input = start % in;
  const uint64_t num_outputs = rows_are_outputs ? num_rows : tensor.cols;
  const uint64_t num_inputs = rows_are_outputs ? tensor.cols : num_rows;
  RAM_CHECK(first_input + num_inputs <= in);

  const uint64_t at_once =
      std::clamp<uint64_t>(kScratchBytes / (in * sizeof(float)), 1, num_outputs);
  std::vector<float> decoded(at_once * in);
  for (uint64_t output = 0; output < num_outputs; output += at_once) {
    const uint64_t count = std::min(at_once, num_outputs - output);
    RAM_RETURN_IF_ERROR(reader.Decode(first_output + output, count, decoded.data()));
    for (uint64_t o = 0; o < count; ++o) {
      const float* from = decoded.data() + o * in + first_input;
      if (rows_are_outputs) {
        std::memcpy(out.data() + (output + o) * num_inputs * sizeof(float), from,
                    num_inputs * sizeof(float));
        continue;
      }
      for (uint64_t i = 0; i < num_inputs; ++i) {
        std::memcpy(out.data() + (i * tensor.cols + output + o) * sizeof(float), from + i,
                    sizeof(float));
      }
    }
  }
  return Done{};
}

}  // namespace ram
