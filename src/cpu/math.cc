#include "cpu/math.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "cpu/int8_layout.h"
#include "cpu/vector_layout.h"
#include "tensor/bf16.h"
#include "tensor/e4m3.h"
#include "tensor/mxfp4.h"

namespace ultraspeed::cpu {
namespace {

using Lanes = std::array<float, kLanes>;

float sum_lanes(const Lanes& lanes) {
  Lanes sums = lanes;
  for (uint32_t width = kLanes / 2; width > 0; width /= 2) {
    for (uint32_t i = 0; i < width; ++i) sums[i] += sums[i + width];
  }
  return sums[0];
}

// Where byte or scale `column` of a row of `num_columns` lies.
uint64_t place_of(const Matrix& matrix, uint32_t row, uint64_t column, uint64_t num_columns) {
  return matrix.layout == WeightLayout::kVectors ? panel_index(row, column, num_columns)
                                                 : row * num_columns + column;
}

void dequantize_fp8(const Matrix& matrix, uint32_t row, uint32_t begin, uint32_t count,
                    float* out) {
  const auto* codes = reinterpret_cast<const uint8_t*>(matrix.data);
  const uint64_t scale_columns = tensor::scale_columns(matrix.format, matrix.cols);
  const std::byte* scales =
      matrix.data + tensor::code_bytes(matrix.format, matrix.rows, matrix.cols);
  const uint32_t end = begin + count;
  for (uint32_t column = begin; column < end;) {
    const uint32_t block = column / tensor::kFp8BlockColumns;
    const uint32_t block_end = std::min(end, (block + 1) * tensor::kFp8BlockColumns);
    float scale = 0;
    std::memcpy(&scale, scales + place_of(matrix, row, block, scale_columns) * sizeof(float),
                sizeof(float));
    for (; column < block_end; ++column) {
      const uint8_t code = codes[place_of(matrix, row, column, matrix.cols)];
      out[column - begin] = tensor::kE4m3Values[code] * scale;
    }
  }
}

void dequantize_mxfp4(const Matrix& matrix, uint32_t row, uint32_t begin, uint32_t count,
                      float* out) {
  constexpr uint32_t kHalf = tensor::kMxBlockColumns / 2;
  const auto* codes = reinterpret_cast<const uint8_t*>(matrix.data);
  const uint8_t* scales = codes + tensor::code_bytes(matrix.format, matrix.rows, matrix.cols);
  const uint64_t scale_columns = tensor::scale_columns(matrix.format, matrix.cols);
  for (uint32_t column = begin; column < begin + count; ++column) {
    const uint32_t block = column / tensor::kMxBlockColumns;
    const uint32_t in_block = column % tensor::kMxBlockColumns;
    const bool split = matrix.layout == WeightLayout::kVectors;
    const uint32_t byte = block * kHalf + (split ? in_block % kHalf : in_block / 2);
    const bool is_high = split ? in_block >= kHalf : in_block % 2 != 0;
    const uint32_t pair = codes[place_of(matrix, row, byte, matrix.cols / 2)];
    const float value = tensor::kE2m1Values[is_high ? pair >> 4 : pair & 15];
    out[column - begin] =
        value * tensor::e8m0_to_float(scales[place_of(matrix, row, block, scale_columns)]);
  }
}

void dequantize_int8(const Matrix& matrix, uint32_t row, uint32_t begin, uint32_t count,
                     float* out) {
  for (uint32_t column = begin; column < begin + count;) {
    const uint32_t block = column / kInt8BlockColumns;
    const uint32_t block_end = std::min(begin + count, (block + 1) * kInt8BlockColumns);
    const Int8Weights weights = int8_weights(matrix, row, block);
    for (; column < block_end; ++column) {
      const auto code = static_cast<float>(weights.codes[column % kInt8BlockColumns]);
      out[column - begin] = code * weights.scale;
    }
  }
}

}  // namespace

float dot(const float* a, const float* b, uint32_t count) {
  Lanes lanes = {};
  const uint32_t whole = count / kLanes * kLanes;
  for (uint32_t i = 0; i < whole; i += kLanes) {
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] = std::fma(a[i + lane], b[i + lane], lanes[lane]);
    }
  }
  for (uint32_t i = whole; i < count; ++i) {
    lanes[i - whole] = std::fma(a[i], b[i], lanes[i - whole]);
  }
  return sum_lanes(lanes);
}

void dequantize_row(const Matrix& matrix, uint32_t row, uint32_t begin, uint32_t count,
                    float* out) {
  if (matrix.layout == WeightLayout::kInt8) {
    return dequantize_int8(matrix, row, begin, count, out);
  }
  const uint64_t first = uint64_t{row} * matrix.cols + begin;
  switch (matrix.format) {
    case tensor::WeightFormat::kF32:
      std::memcpy(out, matrix.data + first * sizeof(float), count * sizeof(float));
      return;
    case tensor::WeightFormat::kBf16:
      for (uint32_t i = 0; i < count; ++i) {
        uint16_t bits = 0;
        std::memcpy(&bits, matrix.data + (first + i) * sizeof(bits), sizeof(bits));
        out[i] = tensor::bf16_to_float(bits);
      }
      return;
    case tensor::WeightFormat::kFp8Block128:
      return dequantize_fp8(matrix, row, begin, count, out);
    case tensor::WeightFormat::kMxfp4:
      return dequantize_mxfp4(matrix, row, begin, count, out);
  }
}

void multiply_plain(const MatrixRows& rows, const float* const* x, uint32_t num_inputs,
                    const ProductOutput& out) {
  const uint32_t columns = rows.matrix.cols;
  std::vector<float> weights(columns);
  for (uint32_t r = 0; r < rows.num_rows; ++r) {
    dequantize_row(rows.matrix, rows.row + r, 0, columns, weights.data());
    for (uint32_t i = 0; i < num_inputs; ++i) {
      for (uint32_t chunk = 0; chunk < rows.num_chunks; ++chunk) {
        const uint32_t begin = rows.chunk_begin(chunk), end = rows.chunk_begin(chunk + 1);
        const float product = dot(weights.data() + begin, x[i] + begin, end - begin);
        out.put(i, chunk, r, &product, 1);
      }
    }
  }
}

void rms_norm(const float* x, const float* weight, float epsilon, uint32_t count, float* out) {
  if (weight == nullptr) {
    std::copy(x, x + count, out);
    return;
  }
  float squares = 0;
  dot_rows({x, 0, 1, count}, x, 0, 1, &squares, 0);
  const float mean = squares / static_cast<float>(count);
  const float factor = 1.0F / std::sqrt(mean + epsilon);
  for (uint32_t i = 0; i < count; ++i) out[i] = weight[i] * (x[i] * factor);
}

}  // namespace ultraspeed::cpu
