// Products with int8 activations (docs/numerics.md section 2): exact integer sums over pieces of
// at most 32 columns, joined in binary32 in the order of the columns.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "cpu/int8_block.h"
#include "cpu/int8_layout.h"
#include "cpu/kernels/kernels.h"

namespace ultraspeed::cpu {

// blocks[0, count / 32) = x rounded to nearest, ties to even. REQUIRES: 32 divides count.
void quantize(const float* x, uint32_t count, Int8Block* blocks);
// Its definition.
void quantize_plain(const float* x, uint32_t count, Int8Block* blocks);

// The columns of one integer sum: a power of two that divides a chunk, at most 32.
uint32_t int8_piece_columns(const MatrixRows& rows);

// multiply() for a matrix in the int8 layout, plainly: the definition.
void multiply_int8_plain(const MatrixRows& rows, const Int8Block* const* x, uint32_t num_inputs,
                         const ProductOutput& out);

// The same in the fastest kernel that the processor has.
void multiply_int8(const MatrixRows& rows, const Int8Block* const* x, uint32_t num_inputs,
                   const ProductOutput& out);

// The same with an instruction set. Pieces of 16 or 32 columns.
struct Int8Kernel {
  std::string_view name;
  void (*multiply)(const MatrixRows& rows, const Int8Block* const* x, uint32_t num_inputs,
                   const ProductOutput& out);
};
void multiply_int8_avx2(const MatrixRows& rows, const Int8Block* const* x, uint32_t num_inputs,
                        const ProductOutput& out);
void multiply_int8_avx512(const MatrixRows& rows, const Int8Block* const* x, uint32_t num_inputs,
                          const ProductOutput& out);

// Those that this processor has, the fastest first.
std::span<const Int8Kernel> int8_kernels();

}  // namespace ultraspeed::cpu
