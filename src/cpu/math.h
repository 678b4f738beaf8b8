// The arithmetic that every operation shares. Sums have a fixed shape (docs/numerics.md section 2):
// 16 lanes that take elements i, i + 16, ... in order by fused multiply-add, added pairwise at the
// end; so a result
// depends on the operands and K alone, never on tiles, width or threads.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>

#include "cpu/kernels/kernels.h"
#include "cpu/machine.h"

namespace ultraspeed::cpu {

inline constexpr uint32_t kLanes = 16;

// sum_i a[i] * b[i] over `count` elements.
float dot(const float* a, const float* b, uint32_t count);

// out[c] = row `row` of the matrix, columns [begin, begin + count), as f32: code times scale,
// rounded once.
void dequantize_row(const Matrix& matrix, uint32_t row, uint32_t begin, uint32_t count, float* out);

// multiply() of kernels.h with floats, plainly: its definition, and what computes the shapes and
// formats that it does not take.
void multiply_plain(const MatrixRows& rows, const float* const* x, uint32_t num_inputs,
                    const ProductOutput& out);

// out = weight * (x * rsqrt(mean(x^2) + epsilon)); copies when weight is nullptr.
void rms_norm(const float* x, const float* weight, float epsilon, uint32_t count, float* out);

inline float sigmoid(float x) {
  return 1.0F / (1.0F + std::exp(-x));
}

}  // namespace ultraspeed::cpu
