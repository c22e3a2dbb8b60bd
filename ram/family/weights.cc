#include "ram/family/weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <string>

#include "ram/base/half.h"
#include "ram/family/in_major_rows.h"

namespace ram {
namespace {

constexpr uint64_t kScratchBytes = uint64_t{2} << 20;  // Raw bytes held at a time.
constexpr uint64_t kFp8Block = 128;
constexpr uint64_t kMxfp4Group = 32;
constexpr uint64_t kTile = 32;  // Elements; a tile's lines of source and target stay in cache.

// The elements of some rows of a view as lines in the source: rows if its columns lie closer
// together than its rows, otherwise columns. Positions and distances in elements (or in groups of
// 32 elements, for MXFP4).
struct Lines {
  uint64_t first;   // First element of line 0.
  uint64_t stride;  // From line to line.
  uint64_t count;
  uint64_t step;  // From element to element of a line.
  uint64_t length;
  bool are_rows;
};

Lines LinesOf(const CatalogTensor& tensor, const SourceView& view, uint64_t first_row,
              uint64_t num_rows) {
  const uint64_t first = view.base + first_row * view.row_stride;
  if (tensor.rows == 1 || view.col_stride <= view.row_stride) {
    return {first, view.row_stride, num_rows, view.col_stride, tensor.cols, true};
  }
  return {first, view.col_stride, tensor.cols, view.row_stride, num_rows, false};
}

// Part of the lines in memory.
struct Piece {
  const uint8_t* data;   // Element `first_element` of line `first_line`.
  uint64_t pitch_bytes;  // From line to line.
  uint64_t first_line;
  uint64_t num_lines;
  uint64_t first_element;
  uint64_t num_elements;
};

// Reads the lines in pieces of at most about kScratchBytes and hands each to `use`. What lies
// between lines is read along if it is less than three times what is wanted: one large read beats
// many small ones.
template <typename Use>
Status ReadLines(const Checkpoint& checkpoint, const TensorInfo& info, const Lines& lines,
                 uint64_t element_bytes, const Use& use) {
  if (lines.count == 0 || lines.length == 0) return Done{};
  const uint64_t chunk =
      std::min(lines.length, std::max<uint64_t>(1, kScratchBytes / (lines.step * element_bytes)));
  const uint64_t extent = (chunk - 1) * lines.step + 1;
  const bool read_along = extent * 4 >= lines.stride;
  const uint64_t pitch = read_along ? lines.stride : extent;
  const uint64_t lines_at_once = std::clamp<uint64_t>(
      kScratchBytes / (std::max<uint64_t>(pitch, 1) * element_bytes), 1, lines.count);
  const auto scratch = std::make_unique_for_overwrite<uint8_t[]>(
      ((lines_at_once - 1) * pitch + extent) * element_bytes);

  for (uint64_t element = 0; element < lines.length; element += chunk) {
    const uint64_t num_elements = std::min(chunk, lines.length - element);
    const uint64_t span = (num_elements - 1) * lines.step + 1;
    for (uint64_t line = 0; line < lines.count; line += lines_at_once) {
      const uint64_t num_lines = std::min(lines_at_once, lines.count - line);
      const uint64_t start = lines.first + line * lines.stride + element * lines.step;
      if (read_along) {
        const uint64_t total = (num_lines - 1) * lines.stride + span;
        RAM_RETURN_IF_ERROR(
            checkpoint.Read(info, start * element_bytes, {scratch.get(), total * element_bytes}));
      } else {
        for (uint64_t i = 0; i < num_lines; ++i) {
          RAM_RETURN_IF_ERROR(
              checkpoint.Read(info, (start + i * lines.stride) * element_bytes,
                              {scratch.get() + i * pitch * element_bytes, span * element_bytes}));
        }
      }
      use(Piece{scratch.get(), pitch * element_bytes, line, num_lines, element, num_elements});
    }
  }
  return Done{};
}

// ---- Conversion of one line ----

template <typename T>
T LoadAs(const uint8_t* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

struct Bf16 {
  using Bits = uint16_t;
  static float ToFloat(Bits bits) { return FloatFromBf16(bits); }
  static Bits FromFloat(float value) { return Bf16FromFloat(value); }
};
struct F16 {
  using Bits = uint16_t;
  static float ToFloat(Bits bits) { return FloatFromF16(bits); }
  static Bits FromFloat(float value) { return F16FromFloat(value); }
};
struct F32 {
  using Bits = float;
  static float ToFloat(Bits bits) { return bits; }
  static Bits FromFloat(float value) { return value; }
};

// `count` elements, `step` apart in the source, to consecutive ones.
using ConvertLine = void (*)(const uint8_t* from, uint64_t step, uint64_t count, uint8_t* to);

template <typename Source, typename Target, bool kPlusOne>
void Convert(const uint8_t* from, uint64_t step, uint64_t count, uint8_t* to) {
  using From = typename Source::Bits;
  using To = typename Target::Bits;
  for (uint64_t i = 0; i < count; ++i) {
    const From bits = LoadAs<From>(from + i * step * sizeof(From));
    To result;
    if constexpr (std::is_same_v<Source, Target> && !kPlusOne) {
      result = bits;  // Also a NaN keeps its bits.
    } else {
      float value = Source::ToFloat(bits);
      if constexpr (kPlusOne) value = Source::ToFloat(Source::FromFloat(value + 1.0f));
      result = Target::FromFloat(value);
    }
    std::memcpy(to + i * sizeof(To), &result, sizeof(To));
  }
}

template <typename Source, bool kPlusOne>
ConvertLine ConverterTo(Dtype target) {
  switch (target) {
    case Dtype::kBF16:
      return Convert<Source, Bf16, kPlusOne>;
    case Dtype::kF16:
      return Convert<Source, F16, kPlusOne>;
    case Dtype::kF32:
      return Convert<Source, F32, kPlusOne>;
    default:
      return nullptr;
  }
}

template <bool kPlusOne>
ConvertLine Converter(Dtype source, Dtype target) {
  switch (source) {
    case Dtype::kBF16:
      return ConverterTo<Bf16, kPlusOne>(target);
    case Dtype::kF16:
      return ConverterTo<F16, kPlusOne>(target);
    case Dtype::kF32:
      return ConverterTo<F32, kPlusOne>(target);
    default:
      return nullptr;
  }
}

// ---- From lines to rows ----

// out[(first_element + i) * cols + first_line + l] = lines[l * length + i], tile by tile.
template <typename Bits>
void Transpose(const uint8_t* lines, const Piece& piece, uint64_t cols, uint8_t* out) {
  for (uint64_t i0 = 0; i0 < piece.num_elements; i0 += kTile) {
    const uint64_t i1 = std::min(i0 + kTile, piece.num_elements);
    for (uint64_t l0 = 0; l0 < piece.num_lines; l0 += kTile) {
      const uint64_t l1 = std::min(l0 + kTile, piece.num_lines);
      for (uint64_t i = i0; i < i1; ++i) {
        uint8_t* row = out + ((piece.first_element + i) * cols + piece.first_line) * sizeof(Bits);
        for (uint64_t l = l0; l < l1; ++l) {
          std::memcpy(row + l * sizeof(Bits), lines + (l * piece.num_elements + i) * sizeof(Bits),
                      sizeof(Bits));
        }
      }
    }
  }
}

// Converts every line of a piece with `convert(line, element, from, count, to)`, where `from` is
// the raw data of element `element` of line `line`, and puts the results where they belong in
// `out` [rows * cols].
template <typename ConvertAt>
void Place(const Piece& piece, const Lines& lines, uint64_t cols, uint64_t target_bytes,
           std::vector<uint8_t>& scratch, const ConvertAt& convert, uint8_t* out) {
  if (!lines.are_rows) scratch.resize(piece.num_lines * piece.num_elements * target_bytes);
  for (uint64_t l = 0; l < piece.num_lines; ++l) {
    uint8_t* to = lines.are_rows
                      ? out + ((piece.first_line + l) * cols + piece.first_element) * target_bytes
                      : scratch.data() + l * piece.num_elements * target_bytes;
    convert(piece.first_line + l, piece.first_element, piece.data + l * piece.pitch_bytes,
            piece.num_elements, to);
  }
  if (lines.are_rows) return;
  if (target_bytes == 2) {
    Transpose<uint16_t>(scratch.data(), piece, cols, out);
  } else {
    Transpose<uint32_t>(scratch.data(), piece, cols, out);
  }
}

// ---- Encodings ----

Status ReadPlain(const Checkpoint& checkpoint, const TensorInfo& info, const CatalogTensor& tensor,
                 const Lines& lines, std::span<uint8_t> out) {
  const bool same = info.dtype == tensor.dtype && !tensor.add_one;
  const auto element_bytes = static_cast<uint64_t>(BitsOf(info.dtype)) / 8;
  const bool contiguous =
      lines.are_rows && lines.step == 1 && (lines.stride == tensor.cols || lines.count == 1);
  if (same && contiguous) return checkpoint.Read(info, lines.first * element_bytes, out);

  const ConvertLine convert = tensor.add_one ? Converter<true>(info.dtype, tensor.dtype)
                                             : Converter<false>(info.dtype, tensor.dtype);
  if (convert == nullptr) {
    return Error{ErrorCode::kUnsupported, fmt::format("tensor {} is {}, expected BF16, F16 or F32",
                                                      info.name, DtypeName(info.dtype))};
  }
  const auto target_bytes = static_cast<uint64_t>(BitsOf(tensor.dtype)) / 8;
  std::vector<uint8_t> scratch;
  return ReadLines(checkpoint, info, lines, element_bytes, [&](const Piece& piece) {
    Place(
        piece, lines, tensor.cols, target_bytes, scratch,
        [&](uint64_t, uint64_t, const uint8_t* from, uint64_t count, uint8_t* to) {
          if (same && lines.step == 1) {
            std::memcpy(to, from, count * target_bytes);
          } else {
            convert(from, lines.step, count, to);
          }
        },
        out.data());
  });
}

// What each FP8 code means in the blocks that lines touch. Its lines run within rows of the source,
// one after the other, so that tables for one row of blocks at a time are enough.
class Fp8Tables {
 public:
  // `lines` of a tensor [..., rows, cols] with scales [..., rows / 128, cols / 128], rounded up.
  static Result<Fp8Tables> Read(const Checkpoint& checkpoint, const TensorInfo& info,
                                const TensorInfo& scale_info, const Lines& lines, Dtype target) {
    Fp8Tables tables;
    tables.target_ = target;
    tables.source_rows_ = info.shape[info.shape.size() - 2];
    tables.source_cols_ = info.shape.back();
    tables.block_cols_ = scale_info.shape.back();
    const uint64_t block_rows = scale_info.shape[scale_info.shape.size() - 2];
    const uint64_t last = lines.first + (lines.count - 1) * lines.stride;
    const uint64_t matrix_size = tables.source_rows_ * tables.source_cols_;
    RAM_CHECK(last / matrix_size == lines.first / matrix_size);
    RAM_CHECK(lines.first % tables.source_cols_ + (lines.length - 1) * lines.step <
              tables.source_cols_);
    tables.first_block_row_ = tables.BlockRow(lines.first);
    const uint64_t count =
        (tables.BlockRow(last) - tables.first_block_row_ + 1) * tables.block_cols_;

    const ConvertLine convert = Converter<false>(scale_info.dtype, Dtype::kF32);
    RAM_CHECK(convert != nullptr);  // Binding checks it.
    const auto element_bytes = static_cast<uint64_t>(BitsOf(scale_info.dtype)) / 8;
    std::vector<uint8_t> raw(count * element_bytes);
    const uint64_t start =
        (lines.first / matrix_size * block_rows + tables.first_block_row_) * tables.block_cols_;
    RAM_RETURN_IF_ERROR(checkpoint.Read(scale_info, start * element_bytes, raw));
    tables.scales_.resize(count);
    convert(raw.data(), /*step=*/1, count, reinterpret_cast<uint8_t*>(tables.scales_.data()));
    return tables;
  }

  // Decodes `count` elements, `step` apart, from element number `start` of the source on.
  void Decode(uint64_t start, const uint8_t* from, uint64_t step, uint64_t count, uint8_t* to) {
    const uint64_t block_row = BlockRow(start) - first_block_row_;
    if (block_row != current_) Fill(block_row);
    const uint64_t col = start % source_cols_;
    if (target_ == Dtype::kF32) {
      Look<float>(exact_, from, col, step, count, to);
    } else {
      Look<uint16_t>(rounded_, from, col, step, count, to);
    }
  }

 private:
  uint64_t BlockRow(uint64_t element) const {
    return element / source_cols_ % source_rows_ / kFp8Block;
  }

  template <typename T>
  static void Look(const std::vector<T>& table, const uint8_t* from, uint64_t col, uint64_t step,
                   uint64_t count, uint8_t* to) {
    for (uint64_t i = 0; i < count; ++i) {
      const uint64_t block_col = (col + i * step) / kFp8Block;
      std::memcpy(to + i * sizeof(T), &table[block_col * 256 + from[i * step]], sizeof(T));
    }
  }

  // e4m3 * scale, rounded to F32 and then, unless that is the target, to BF16, as mlx-lm does it
  // for deepseek_v3.
  void Fill(uint64_t block_row) {
    current_ = block_row;
    exact_.resize(block_cols_ * 256);
    for (uint64_t block = 0; block < block_cols_; ++block) {
      const float scale = scales_[block_row * block_cols_ + block];
      for (uint64_t code = 0; code < 256; ++code) {
        exact_[block * 256 + code] = FloatFromF8E4M3(static_cast<uint8_t>(code)) * scale;
      }
    }
    if (target_ == Dtype::kF32) return;
    rounded_.resize(exact_.size());
    for (size_t i = 0; i < exact_.size(); ++i) {
      rounded_[i] = Bf16FromFloat(exact_[i]);
      if (target_ == Dtype::kF16) rounded_[i] = F16FromFloat(FloatFromBf16(rounded_[i]));
    }
  }

  Dtype target_ = Dtype::kBF16;
  uint64_t source_rows_ = 0;
  uint64_t source_cols_ = 0;
  uint64_t block_cols_ = 0;
  uint64_t first_block_row_ = 0;
  uint64_t current_ = ~uint64_t{0};  // Row of blocks that the tables are for.
  std::vector<float> scales_;
  std::vector<float> exact_;       // [block_cols_, 256]
  std::vector<uint16_t> rounded_;  // The same as BF16 or F16.
};

Status ReadFp8(const Checkpoint& checkpoint, const TensorInfo& info, const TensorInfo& scale_info,
               const CatalogTensor& tensor, const Lines& lines, std::span<uint8_t> out) {
  RAM_CHECK(!tensor.add_one);
  const auto target_bytes = static_cast<uint64_t>(BitsOf(tensor.dtype)) / 8;
  RAM_ASSIGN_OR_RETURN(Fp8Tables tables,
                       Fp8Tables::Read(checkpoint, info, scale_info, lines, tensor.dtype));
  std::vector<uint8_t> scratch;
  return ReadLines(checkpoint, info, lines, /*element_bytes=*/1, [&](const Piece& piece) {
    Place(
        piece, lines, tensor.cols, target_bytes, scratch,
        [&](uint64_t line, uint64_t element, const uint8_t* from, uint64_t count, uint8_t* to) {
          tables.Decode(lines.first + line * lines.stride + element * lines.step, from, lines.step,
                        count, to);
        },
        out.data());
  });
}

// What each MXFP4 code means under each scale; exact in BF16.
using Mxfp4Table = std::array<std::array<uint16_t, 16>, 256>;

Mxfp4Table MakeMxfp4Table(bool to_f16) {
  Mxfp4Table table = {};
  for (size_t scale = 0; scale < table.size(); ++scale) {
    for (size_t code = 0; code < 16; ++code) {
      const float value =
          FloatFromE2M1(static_cast<uint8_t>(code)) * FloatFromE8M0(static_cast<uint8_t>(scale));
      table[scale][code] = to_f16 ? F16FromFloat(value) : Bf16FromFloat(value);
    }
  }
  return table;
}

Status ReadMxfp4(const Checkpoint& checkpoint, const CatalogTensor& tensor, size_t view,
                 uint64_t first_row, uint64_t num_rows, std::span<uint8_t> out) {
  RAM_CHECK(tensor.dtype != Dtype::kF32 && !tensor.add_one);
  static const Mxfp4Table kBf16Table = MakeMxfp4Table(/*to_f16=*/false);
  static const Mxfp4Table kF16Table = MakeMxfp4Table(/*to_f16=*/true);
  const Mxfp4Table& table = tensor.dtype == Dtype::kF16 ? kF16Table : kBf16Table;
  const uint64_t groups = tensor.cols / kMxfp4Group;
  const uint64_t rows_at_once = std::clamp<uint64_t>(kScratchBytes / tensor.cols, 1, num_rows);
  std::vector<uint8_t> codes(rows_at_once * tensor.cols / 2);
  std::vector<uint8_t> scales(rows_at_once * groups);
  uint8_t* to = out.data();
  for (uint64_t row = 0; row < num_rows; row += rows_at_once) {
    const uint64_t count = std::min(rows_at_once, num_rows - row);
    RAM_RETURN_IF_ERROR(ReadMxfp4Rows(checkpoint, tensor, view, first_row + row, count,
                                      std::span(codes).first(count * tensor.cols / 2),
                                      std::span(scales).first(count * groups)));
    const uint8_t* pair = codes.data();
    for (uint64_t group = 0; group < count * groups; ++group) {
      const std::array<uint16_t, 16>& values = table[scales[group]];
      for (uint64_t i = 0; i < kMxfp4Group / 2; ++i, ++pair, to += 4) {
        std::memcpy(to, &values[*pair & 15u], 2);
        std::memcpy(to + 2, &values[*pair >> 4], 2);
      }
    }
  }
  return Done{};
}

Result<const TensorInfo*> FindSource(const Checkpoint& checkpoint, std::string_view name,
                                     const CatalogTensor& tensor) {
  const TensorInfo* info = checkpoint.Find(name);
  if (info != nullptr) return info;
  return Error{ErrorCode::kNotFound,
               fmt::format("{}: tensor {} of the checkpoint, from which {} is read, is missing",
                           checkpoint.directory().string(), name, tensor.name)};
}

void CheckRange(const CatalogTensor& tensor, size_t view, uint64_t first_row, uint64_t num_rows) {
  RAM_CHECK(view < tensor.views.size());
  RAM_CHECK(first_row <= tensor.rows && num_rows <= tensor.rows - first_row);
}

}  // namespace

Status ReadRows(const Checkpoint& checkpoint, const CatalogTensor& tensor, size_t view,
                uint64_t first_row, uint64_t num_rows, std::span<uint8_t> out) {
  CheckRange(tensor, view, first_row, num_rows);
  const auto target_bytes = static_cast<uint64_t>(BitsOf(tensor.dtype)) / 8;
  RAM_CHECK(out.size() == num_rows * tensor.cols * target_bytes);
  if (num_rows == 0) return Done{};
  if (tensor.encoding == Encoding::kMxfp4) {
    return ReadMxfp4(checkpoint, tensor, view, first_row, num_rows, out);
  }
  if (IsInMajor(tensor.encoding)) {
    return ReadInMajorRows(checkpoint, tensor, view, first_row, num_rows, out);
  }
  const SourceView& source = tensor.views[view];
  RAM_ASSIGN_OR_RETURN(const TensorInfo* info, FindSource(checkpoint, source.source, tensor));
  const Lines lines = LinesOf(tensor, source, first_row, num_rows);
  if (tensor.encoding == Encoding::kPlain) {
    return ReadPlain(checkpoint, *info, tensor, lines, out);
  }
  RAM_CHECK(tensor.encoding == Encoding::kFp8Block);
  RAM_ASSIGN_OR_RETURN(const TensorInfo* scale,
                       FindSource(checkpoint, tensor.scale_sources[view], tensor));
  return ReadFp8(checkpoint, *info, *scale, tensor, lines, out);
}

Status ReadMxfp4Rows(const Checkpoint& checkpoint, const CatalogTensor& tensor, size_t view,
                     uint64_t first_row, uint64_t num_rows, std::span<uint8_t> codes,
                     std::span<uint8_t> scales) {
  CheckRange(tensor, view, first_row, num_rows);
  RAM_CHECK(tensor.encoding == Encoding::kMxfp4);
  const uint64_t groups = tensor.cols / kMxfp4Group;
  RAM_CHECK(codes.size() == num_rows * tensor.cols / 2 && scales.size() == num_rows * groups);
  const SourceView& source = tensor.views[view];
  RAM_CHECK(source.col_stride == 1);
  RAM_ASSIGN_OR_RETURN(const TensorInfo* blocks, FindSource(checkpoint, source.source, tensor));
  RAM_ASSIGN_OR_RETURN(const TensorInfo* scale,
                       FindSource(checkpoint, tensor.scale_sources[view], tensor));
  const Lines in_groups = {(source.base + first_row * source.row_stride) / kMxfp4Group,
                           source.row_stride / kMxfp4Group,
                           num_rows,
                           /*step=*/1,
                           groups,
                           /*are_rows=*/true};
  const auto copy = [&](const TensorInfo& info, uint64_t group_bytes, std::span<uint8_t> to) {
    return ReadLines(checkpoint, info, in_groups, group_bytes, [&](const Piece& piece) {
      for (uint64_t l = 0; l < piece.num_lines; ++l) {
        std::memcpy(
            to.data() + ((piece.first_line + l) * groups + piece.first_element) * group_bytes,
            piece.data + l * piece.pitch_bytes, piece.num_elements * group_bytes);
      }
    });
  };
  RAM_RETURN_IF_ERROR(copy(*blocks, kMxfp4Group / 2, codes));
  return copy(*scale, /*group_bytes=*/1, scales);
}

Status ReadAffineRows(const Checkpoint& checkpoint, const CatalogTensor& tensor, size_t view,
                      uint64_t first_row, uint64_t num_rows, const AffineRows& out) {
  CheckRange(tensor, view, first_row, num_rows);
  RAM_CHECK(tensor.encoding == Encoding::kAffine);
  const SourceView& source = tensor.views[view];
  RAM_CHECK(source.col_stride == 1 && source.row_stride == tensor.cols);
  const uint64_t first = source.base + first_row * tensor.cols;
  const uint64_t count = num_rows * tensor.cols;
  const auto bits = static_cast<uint64_t>(tensor.packed.bits);
  const auto group = static_cast<uint64_t>(tensor.packed.group_size);
  const uint64_t scale_bytes = static_cast<uint64_t>(BitsOf(tensor.dtype)) / 8;
  RAM_CHECK(out.codes.size() == count * bits / 8);
  RAM_CHECK(out.scales.size() == count / group * scale_bytes);
  RAM_CHECK(out.biases.size() == out.scales.size());
  const std::string module = tensor.scale_sources[view].substr(
      0, tensor.scale_sources[view].size() - std::string_view(".scales").size());
  RAM_ASSIGN_OR_RETURN(const TensorInfo* codes, FindSource(checkpoint, source.source, tensor));
  RAM_ASSIGN_OR_RETURN(const TensorInfo* scales,
                       FindSource(checkpoint, module + ".scales", tensor));
  RAM_ASSIGN_OR_RETURN(const TensorInfo* biases,
                       FindSource(checkpoint, module + ".biases", tensor));
  RAM_RETURN_IF_ERROR(checkpoint.Read(*codes, first * bits / 8, out.codes));
  RAM_RETURN_IF_ERROR(checkpoint.Read(*scales, first / group * scale_bytes, out.scales));
  return checkpoint.Read(*biases, first / group * scale_bytes, out.biases);
}

}  // namespace ram
