#pragma once

// From weights to codes, scales and biases of the MLX affine format, and back.
//
// Goals: the bits that MLX writes (quantizer kRtn), and better codes in the same format (kRtnPlus,
// kOpt); the same bits on every instruction set and with any number of threads.
// Non-goals: MLX's floating-point modes (their codes are only copied), activations.
//
// A row of weights is cut into groups of g along its columns. Per group: codes in [0, 2^b - 1], a
// scale and a bias of the storage type. Value = code * scale + bias, in f32.
// Codes of a row form one little-endian bit stream, code i in bits [i * b, (i + 1) * b).
// Reference implementation, to be read first: ram/quant/quantize_reference.h.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "ram/base/dtype.h"
#include "ram/base/result.h"
#include "ram/quant/choice.h"

namespace ram {

enum class Quantizer : uint8_t {
  kRtn,      // Bit-exact mx.quantize.
  kRtnPlus,  // The same scales and biases; codes chosen again for the scale as it is stored, so no
             // weight has a larger error than with kRtn.
  kOpt,      // Clip search and weighted least squares; weighted error never above kRtnPlus.
};

// Which of MLX's back ends kRtn (and the ranges of the others) follows; they differ in ties and in
// groups without positive weights.
enum class Rounding : uint8_t { kCpu, kMetal };

std::string_view QuantizerName(Quantizer quantizer);  // "rtn", "rtn+", "opt"
Result<Quantizer> ParseQuantizer(std::string_view name);
std::string_view RoundingName(Rounding rounding);  // "cpu", "metal"
Result<Rounding> ParseRounding(std::string_view name);

// A matrix as it lies in memory: row-major, no gaps. `data` may be unaligned.
struct MatrixView {
  const uint8_t* data;
  Dtype dtype;  // kBF16, kF16 or kF32.
  size_t rows;
  size_t cols;
};

// Where the result goes. Little-endian; any alignment.
struct PackedMatrix {
  std::span<uint8_t> codes;   // [rows * cols * bits / 8]
  std::span<uint8_t> scales;  // [rows * cols / group_size] of the matrix's dtype
  std::span<uint8_t> biases;  // as scales
};

struct QuantizeOptions {
  Choice choice;  // Affine, legal for the matrix.
  Quantizer quantizer = Quantizer::kRtnPlus;
  Rounding rounding = Rounding::kCpu;
  // kOpt only: importance of each column [cols], 0 to 1e30; empty: rms of the group + |weight|.
  std::span<const float> column_weights = {};
};

// Error of a stored matrix against its source, e = weight - (code * scale + bias) in f32.
struct StoredError {
  double sum_squares = 0;  // sum of e^2
  float largest = 0;       // max |e|
};

// Quantizes one matrix (or some rows of one: groups do not cross rows, so any cut between rows
// gives the same bits). Single-threaded, thread-safe, no allocation; 50 KiB of stack. Also returns
// the error of what was written, summed in a fixed order: f32 in 16 lanes per row, then over rows
// in f64. Codes are nearest up to the rounding of one f32 division.
// kInvalidArgument if sizes, dtype and choice do not fit together; kCorrupt names the row and
// column of a NaN or infinity, or of a group too large for a scale (a range above 3e38, a constant
// above 3e31). `out` then holds anything.
Result<StoredError> Quantize(const MatrixView& weights, const QuantizeOptions& options,
                             const PackedMatrix& out);

// The error that Quantize would leave, without writing anything.
Result<StoredError> QuantizeError(const MatrixView& weights, const QuantizeOptions& options);

// Decodes to f32: values [rows * cols] = f32(code * scale) + bias, as ram measures errors.
// kInvalidArgument if the sizes do not fit together.
Status Dequantize(std::span<const uint8_t> codes, std::span<const uint8_t> scales,
                  std::span<const uint8_t> biases, Dtype dtype, const Choice& choice, size_t rows,
                  size_t cols, std::span<float> values);

// Codes only, one per byte. num_codes * bits is a multiple of 8.
Status PackCodes(std::span<const uint8_t> codes, int bits, std::span<uint8_t> packed);
Status UnpackCodes(std::span<const uint8_t> packed, int bits, std::span<uint8_t> codes);

// Name of the instruction set in use, for reports: "AVX3_SPR", "NEON", ...
std::string_view QuantizeTarget();

}  // namespace ram
