#pragma once

// What quantize.h means, written to be read. Tests and benchmarks compare the vector code with
// this, bit for bit. Grids and codes are in grid_reference.h, the search of kOpt in
// opt_reference.h.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "ram/quant/grid_reference.h"
#include "ram/quant/opt_reference.h"
#include "ram/quant/quantize.h"

namespace ram::reference {

// ---------------------------------------------------------------------------------------------
// Packing.

// Code i takes bits [i * bits, (i + 1) * bits) of a little-endian bit stream.
inline std::vector<uint8_t> Pack(std::span<const uint8_t> codes, int bits) {
  std::vector<uint8_t> packed(codes.size() * static_cast<size_t>(bits) / 8);
  for (size_t i = 0; i < packed.size() * 8; ++i) {
    const int bit = codes[i / static_cast<size_t>(bits)] >> i % static_cast<size_t>(bits) & 1;
    packed[i / 8] = static_cast<uint8_t>(packed[i / 8] | bit << i % 8);
  }
  return packed;
}

inline std::vector<uint8_t> Unpack(std::span<const uint8_t> packed, int bits) {
  std::vector<uint8_t> codes(packed.size() * 8 / static_cast<size_t>(bits));
  for (size_t i = 0; i < packed.size() * 8; ++i) {
    uint8_t& code = codes[i / static_cast<size_t>(bits)];
    code =
        static_cast<uint8_t>(code | (packed[i / 8] >> i % 8 & 1) << i % static_cast<size_t>(bits));
  }
  return codes;
}

// ---------------------------------------------------------------------------------------------
// Sums. An f32 sum depends on its order; ours is that of 16 lanes, whatever vectors a CPU has:
// value i is added to lane i % 16, and the lanes are added up in a tree.

inline float SumOfLanes(std::array<float, 16> lanes) {
  for (size_t half = 8; half != 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

// ---------------------------------------------------------------------------------------------
// All of it.

struct Quantized {
  std::vector<uint8_t> codes, scales, biases;  // As in PackedMatrix.
  StoredError error;
};

// The grid as it is stored and the codes of one group.
struct GroupCodes {
  Grid stored;
  std::vector<float> codes;
};

// `columns` are the group's column weights; empty: none.
inline GroupCodes QuantizeGroup(std::span<const float> weights, std::span<const float> columns,
                                Dtype dtype, const QuantizeOptions& options) {
  const int bits = options.choice.bits;
  const Grid rule = RangeRule(weights, bits, options.rounding);
  GroupCodes group = {{Stored(rule.scale, dtype), Stored(rule.bias, dtype)}, {}};
  if (options.quantizer == Quantizer::kOpt) {
    group.stored = SearchGrid(weights, columns, bits, dtype, rule);
  }
  const Grid& for_codes = options.quantizer == Quantizer::kRtn ? rule : group.stored;
  for (const float w : weights) group.codes.push_back(Code(w, for_codes, bits, options.rounding));
  return group;
}

// All weights finite, all grids usable.
inline Quantized Quantize(const MatrixView& matrix, const QuantizeOptions& options) {
  Quantized result;
  const auto group_size = static_cast<size_t>(options.choice.group_size);
  std::vector<uint8_t> codes;
  for (size_t row = 0; row < matrix.rows; ++row) {
    std::array<float, 16> lanes = {};
    for (size_t first = 0; first < matrix.cols; first += group_size) {
      std::vector<float> weights;
      for (size_t i = 0; i < group_size; ++i) {
        weights.push_back(LoadWeight(matrix, row * matrix.cols + first + i));
      }
      const auto columns = options.column_weights.empty()
                               ? std::span<const float>()
                               : options.column_weights.subspan(first, group_size);
      const GroupCodes group = QuantizeGroup(weights, columns, matrix.dtype, options);
      AppendStored(group.stored.scale, matrix.dtype, result.scales);
      AppendStored(group.stored.bias, matrix.dtype, result.biases);
      for (size_t i = 0; i < group_size; ++i) {
        codes.push_back(static_cast<uint8_t>(group.codes[i]));
        const float e = weights[i] - Decode(group.codes[i], group.stored);
        lanes[i % 16] += e * e;
        result.error.largest = std::max(result.error.largest, std::fabs(e));
      }
    }
    result.error.sum_squares += static_cast<double>(SumOfLanes(lanes));
  }
  result.codes = Pack(codes, options.choice.bits);
  return result;
}

}  // namespace ram::reference
