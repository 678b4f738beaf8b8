#include "cpu/math.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "base/check.h"
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

// Both codes of each byte at once: value[byte] = {low nibble, high nibble}.
struct NibblePair {
  float low, high;
};
constexpr std::array<NibblePair, 256> kE2m1Pairs = [] {
  std::array<NibblePair, 256> pairs = {};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    pairs[byte] = {tensor::kE2m1Values[byte & 15], tensor::kE2m1Values[byte >> 4]};
  }
  return pairs;
}();

void dequantize_fp8(const Matrix& matrix, uint32_t row, uint32_t begin, uint32_t count,
                    float* out) {
  const auto* codes = reinterpret_cast<const uint8_t*>(matrix.data) + uint64_t{row} * matrix.cols;
  const uint64_t scale_columns = tensor::scale_columns(matrix.format, matrix.cols);
  const std::byte* scales = matrix.data +
                            tensor::code_bytes(matrix.format, matrix.rows, matrix.cols) +
                            row * scale_columns * sizeof(float);
  const uint32_t end = begin + count;
  for (uint32_t column = begin; column < end;) {
    const uint32_t block = column / tensor::kFp8BlockColumns;
    const uint32_t block_end = std::min(end, (block + 1) * tensor::kFp8BlockColumns);
    float scale = 0;
    std::memcpy(&scale, scales + block * sizeof(float), sizeof(float));
    for (; column < block_end; ++column) {
      out[column - begin] = tensor::kE4m3Values[codes[column]] * scale;
    }
  }
}

void dequantize_mxfp4(const Matrix& matrix, uint32_t row, uint32_t begin, uint32_t count,
                      float* out) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(matrix.data);
  const uint8_t* codes = bytes + uint64_t{row} * matrix.cols / 2;
  const uint8_t* scales = bytes + tensor::code_bytes(matrix.format, matrix.rows, matrix.cols) +
                          row * tensor::scale_columns(matrix.format, matrix.cols);
  const uint32_t end = begin + count;
  for (uint32_t column = begin; column < end;) {
    const uint32_t block = column / tensor::kMxBlockColumns;
    const uint32_t block_end = std::min(end, (block + 1) * tensor::kMxBlockColumns);
    const float scale = tensor::e8m0_to_float(scales[block]);
    if (matrix.has_vector_layout) {
      constexpr uint32_t kHalf = tensor::kMxBlockColumns / 2;
      for (uint32_t i = 0; i < kHalf; ++i) {
        const NibblePair pair = kE2m1Pairs[codes[column / 2 + i]];
        out[column - begin + i] = pair.low * scale;
        out[column - begin + kHalf + i] = pair.high * scale;
      }
      column = block_end;
      continue;
    }
    for (; column < block_end; column += 2) {
      const NibblePair pair = kE2m1Pairs[codes[column / 2]];
      out[column - begin] = pair.low * scale;
      out[column - begin + 1] = pair.high * scale;
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
      US_CHECK((begin | count) % (matrix.has_vector_layout ? tensor::kMxBlockColumns : 2) == 0);
      return dequantize_mxfp4(matrix, row, begin, count, out);
  }
}

void multiply_plain(const MatrixRows& rows, const float* const* x, uint32_t num_inputs,
                    const ProductOutput& out) {
  const uint32_t columns = rows.matrix.cols;
  const uint32_t chunk_columns = columns / rows.num_chunks;
  std::vector<float> weights(columns);
  for (uint32_t r = 0; r < rows.num_rows; ++r) {
    dequantize_row(rows.matrix, rows.row + r, 0, columns, weights.data());
    for (uint32_t i = 0; i < num_inputs; ++i) {
      for (uint32_t chunk = 0; chunk < rows.num_chunks; ++chunk) {
        const uint32_t begin = chunk * chunk_columns;
        out.at(i, chunk)[r] = dot(weights.data() + begin, x[i] + begin, chunk_columns);
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
