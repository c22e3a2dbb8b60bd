#pragma once

// Decoding what GPTQ and AWQ store: matrices [out, in] column by column, weight
// (o, i) = (code - zero) * scale, where scale and zero belong to output o and to the group of input
// i. All integers are I32 words; a run of n-bit codes is a little-endian bit stream in them, except
// where a kernel wanted another order. The tensors of a module:
//   GPTQ  qweight [in * bits / 32, out]: each column a stream along the inputs;
//         qzeros [groups, out * bits / 32]: each row a stream along the outputs;
//         scales [groups, out]; g_idx [in]: the group of each input, i / group_size if it is
//         missing.
//   AWQ   qweight [in, out / 8], qzeros [groups, out / 8], scales [groups, out]: nibble n of a word
//         belongs to output 0, 2, 4, 6, 1, 3, 5, 7 of its eight.
// Sources: AutoGPTQ (MIT), GPTQModel (Apache 2.0) and AutoAWQ (MIT), read for the layouts.

#include <cstdint>
#include <span>

#include "ram/base/result.h"
#include "ram/checkpoint/checkpoint.h"
#include "ram/family/catalog.h"

namespace ram {

inline bool IsInMajor(Encoding encoding) { return encoding >= Encoding::kGptqLessOne; }

// ReadRows for these encodings; tensor.dtype is kF32, which holds the product rounded once
// (exactly, where scales have 16 bits). kCorrupt for a group that is not there, and for a zero of a
// symmetric module that is not half of the range.
Status ReadInMajorRows(const Checkpoint& checkpoint, const CatalogTensor& tensor, size_t view,
                       uint64_t first_row, uint64_t num_rows, std::span<uint8_t> out);

}  // namespace ram
