// Activations as operand B of the expert products: e4m3 codes with a power-of-two scale for each
// column (token) and 32 of its elements (tensor/block_scale.h). Host and device.
//
// Layout for n columns (8, 16, 32 or 64) and a piece of K that is a multiple of 32, in bytes:
//   codes   [K / 32][n / 8][2 halves of 16 k][8 columns][16 k]
//   scales  f32 [K / 32][n]: 2^s * kDecodedUnit, times a routing weight where there is one
// Columns that take no part have codes 0 and scale 0, and so add exact zeros.
//
// The input of gate/up is one piece, K = gate_up_columns(hidden). The input of down is, for each
// live slot, a piece for each of its pages of 256 columns: [slots][pages] pieces, filled up.
#pragma once

#include <cstdint>

#include "cuda/tile/mxfp4_page.h"
#include "tensor/block_scale.h"
#include "tensor/e4m3.h"
#include "tensor/host_device.h"

namespace ultraspeed::cuda {

using tensor::e4m3_scale;
using tensor::kE4m3Nan;
using tensor::power_of_two;
using E4m3Scale = tensor::BlockScale;
static_assert(tensor::kE4m3BlockColumns == kBlockColumns);

template <uint32_t kColumns>
struct E4m3Operand {
  static constexpr uint32_t kBlockBytes = kColumns * kBlockColumns;

  US_HOST_DEVICE static constexpr uint32_t code(uint32_t block, uint32_t column, uint32_t k) {
    return block * kBlockBytes + column / 8 * 256 + k / 16 * 128 + column % 8 * 16 + k % 16;
  }
  // Of a piece of `blocks` blocks.
  US_HOST_DEVICE static constexpr uint32_t code_bytes(uint32_t blocks) {
    return blocks * kBlockBytes;
  }
  US_HOST_DEVICE static constexpr uint32_t scale_bytes(uint32_t blocks) {
    return blocks * kColumns * static_cast<uint32_t>(sizeof(float));
  }
  US_HOST_DEVICE static constexpr uint32_t bytes(uint32_t blocks) {
    return code_bytes(blocks) + scale_bytes(blocks);
  }
};

// Bytes of the input of gate/up, and of that of down with `slots` slots.
constexpr uint64_t gate_up_input_bytes(uint32_t columns, uint32_t hidden) {
  return uint64_t{hidden / kBlockColumns} * columns * (kBlockColumns + sizeof(float));
}
constexpr uint64_t down_input_bytes(uint32_t columns, uint32_t intermediate, uint32_t slots) {
  return slots * gate_up_input_bytes(columns, intermediate);
}

}  // namespace ultraspeed::cuda
