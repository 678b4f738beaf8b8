// The layout that the vector kernels read: the packed form of docs/weights_format.md but for MXFP4,
// where byte i of a block of 32 has the codes of columns i (low nibble) and i + 16 (high nibble),
// so that half a block is one shift away from its lanes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tensor/weight_format.h"

namespace ultraspeed::cpu {

// Whether the kernels take a packed matrix [rows, cols]: whole blocks of MXFP4; FP8 scales below
// 2^7, which they multiply by 2^120.
bool fits_vector_layout(tensor::WeightFormat format, uint32_t rows, uint32_t cols,
                        std::span<const std::byte> packed);

// Rearranges it in place. REQUIRES: it fits.
void to_vector_layout(tensor::WeightFormat format, uint32_t rows, uint32_t cols,
                      std::span<std::byte> packed);

}  // namespace ultraspeed::cpu
