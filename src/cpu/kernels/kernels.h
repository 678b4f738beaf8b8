// The loops that take the time, in the widest vectors that the processor has (Highway chooses at
// run time). Sums keep the 16 lanes of docs/numerics.md whatever the vector's width, so multiply()
// gives the bits of its plain definition in math.h on every processor.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>

#include "cpu/machine.h"

namespace ultraspeed::cpu {

// Rows [row, row + num_rows) of a matrix; the columns in chunks that are summed apart.
struct MatrixRows {
  Matrix matrix;
  uint32_t row = 0, num_rows = 0;
  uint32_t num_chunks = 1;

  // In columns.
  uint32_t chunk_begin(uint32_t chunk) const {
    return program::chunk_begin(matrix.format, matrix.cols, num_chunks, chunk);
  }
  // A number of columns of which every chunk is a multiple.
  uint32_t chunk_unit() const {
    return program::cuts_between_blocks(matrix.format, matrix.cols, num_chunks)
               ? tensor::kMxBlockColumns
               : matrix.cols / num_chunks;
  }
};

// Where the product of row r with input i goes: first[place * input_stride + chunk * chunk_stride +
// r], with place i or places[i]. With weights it is not stored, but weights[i] times it added to
// what is there, fused, in the order of the inputs.
struct ProductOutput {
  float* first = nullptr;
  size_t input_stride = 0;
  size_t chunk_stride = 0;
  const uint32_t* places = nullptr;
  const float* weights = nullptr;

  float* at(uint32_t input, uint32_t chunk) const {
    const uint32_t place = places == nullptr ? input : places[input];
    return first + place * input_stride + chunk * chunk_stride;
  }
  // The products of rows [row, row + count).
  void put(uint32_t input, uint32_t chunk, uint32_t row, const float* products,
           uint32_t count) const {
    float* to = at(input, chunk) + row;
    for (uint32_t r = 0; r < count; ++r) {
      to[r] = weights == nullptr ? products[r] : std::fma(weights[input], products[r], to[r]);
    }
  }
};

// The vectors of a product: what a matrix in the int8 layout takes, and what all others take. The
// other may be nullptr.
struct Inputs {
  const float* const* floats = nullptr;    // [num_inputs] of [cols]
  const Int8Block* const* int8 = nullptr;  // [num_inputs] of [cols / 32]

  Inputs from(uint32_t input) const {
    return {floats == nullptr ? nullptr : floats + input, int8 == nullptr ? nullptr : int8 + input};
  }
};

// out[i, chunk, r] = sum over the chunk's columns c of rows[r, c] * x[i][c], for the num_inputs
// vectors x[i].
void multiply(const MatrixRows& rows, const Inputs& x, uint32_t num_inputs,
              const ProductOutput& out);

// Rows of floats, `stride` apart.
struct FloatRows {
  const float* first = nullptr;
  size_t stride = 0;
  uint32_t num_rows = 0;
  uint32_t num_columns = 0;

  const float* at(uint32_t row) const { return first + row * stride; }
};

// out[i * out_stride + r] = sum_c rows[r, c] * x[i * x_stride + c], for num_inputs vectors.
void dot_rows(const FloatRows& rows, const float* x, size_t x_stride, uint32_t num_inputs,
              float* out, size_t out_stride);

// out[i * out_stride + c] += sum_r weights[i * weight_stride + r] * rows[r, c], in the order of the
// rows, fused, for num_outputs vectors.
void add_weighted_rows(const FloatRows& rows, const float* weights, size_t weight_stride,
                       uint32_t num_outputs, float* out, size_t out_stride);

// The largest of `count` > 0 values; NaN if one is.
float largest(const float* x, uint32_t count);

// out[i] = exp(x[i] - shift); returns their sum. out may be x or nullptr (the sum alone).
float exp_and_sum(const float* x, float shift, uint32_t count, float* out);

// out[i] = silu(gate[i]) * up[i]; out may be one of them.
void silu_multiply(const float* gate, const float* up, uint32_t count, float* out);

// gpt-oss's form (program::SwigluClamp): with g = min(gate[i], limit) and u = up[i] within +-limit,
// out[i] = g * sigmoid(slope * g) * (u + 1); out may be one of them.
void clamped_swiglu(float limit, float slope, const float* gate, const float* up, uint32_t count,
                    float* out);

// The instruction set in use: "AVX3", "AVX2", ...
std::string vector_target_name();

}  // namespace ultraspeed::cpu
