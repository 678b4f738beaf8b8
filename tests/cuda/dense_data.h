// What the GPU tests of dense products share: weights and operands in host memory, and launches.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "cuda/device_memory.h"
#include "cuda/gpu.h"
#include "cuda/ops/dense.h"
#include "cuda/tile/dense_operand.h"
#include "cuda/tile/pack_dense.h"
#include "tensor/bf16.h"
#include "tensor/e4m3.h"

namespace ultraspeed::test {

using cuda::DenseLaunch;
using cuda::DensePrepare;
using tensor::WeightFormat;

inline constexpr auto kFp8 = WeightFormat::kFp8Block128;
inline constexpr auto kBf16 = WeightFormat::kBf16;

inline bool is_poison(float value) {
  return std::bit_cast<uint32_t>(value) == kPoison;
}

struct DenseWeights {
  DenseWeights(WeightFormat format, uint32_t rows, uint32_t columns, uint32_t num_chunks = 1)
      : shape{format, rows, columns, num_chunks}, bytes(packed_bytes(format, rows, columns)) {}

  // Any finite codes; scales, or values, over some octaves.
  static DenseWeights random(WeightFormat format, uint32_t rows, uint32_t columns,
                             std::mt19937& from) {
    DenseWeights weights(format, rows, columns);
    std::normal_distribution<float> normal;
    for (uint32_t row = 0; row < rows; ++row) {
      for (uint32_t k = 0; k < columns; ++k) {
        if (format == kFp8) {
          const auto code = static_cast<uint8_t>(from() % 256);
          weights.set_code(row, k, (code & 0x7f) == 0x7f ? uint8_t{0} : code);
          if (k % 128 == 0) weights.set_scale(row, k, std::ldexp(1 + normal(from) / 8, -9));
        } else {
          weights.set_code(row, k, tensor::bf16_from_float(normal(from)));
        }
      }
    }
    return weights;
  }

  void set_code(uint32_t row, uint32_t k, uint16_t code) {
    const uint64_t at = uint64_t{row} * shape.columns + k;
    if (shape.format == kFp8) {
      bytes[at] = static_cast<std::byte>(code);
    } else {
      std::memcpy(&bytes[2 * at], &code, 2);
    }
  }
  uint64_t scale_at(uint32_t row, uint32_t k) const {
    return uint64_t{shape.rows} * shape.columns +
           (row * tensor::scale_columns(kFp8, shape.columns) + k / 128) * 4;
  }
  void set_scale(uint32_t row, uint32_t k, float scale) {
    std::memcpy(&bytes[scale_at(row, k)], &scale, 4);
  }
  float scale(uint32_t row, uint32_t k) const {
    if (shape.format != kFp8) return 1;
    float value = 0;
    std::memcpy(&value, &bytes[scale_at(row, k)], 4);
    return value;
  }
  double code(uint32_t row, uint32_t k) const {
    const uint64_t at = uint64_t{row} * shape.columns + k;
    if (shape.format == kFp8) return tensor::e4m3_to_float(static_cast<uint8_t>(bytes[at]));
    uint16_t bits = 0;
    std::memcpy(&bits, &bytes[2 * at], 2);
    return tensor::bf16_to_float(bits);
  }
  // Columns [begin, begin + count).
  DenseWeights chunk(uint32_t begin, uint32_t count) const {
    DenseWeights part(shape.format, shape.rows, count);
    const uint64_t size = shape.format == kFp8 ? 1 : 2;
    for (uint32_t row = 0; row < shape.rows; ++row) {
      std::memcpy(&part.bytes[row * count * size],
                  &bytes[(uint64_t{row} * shape.columns + begin) * size], count * size);
      for (uint32_t k = 0; shape.format == kFp8 && k < count; k += 128) {
        part.set_scale(row, k, scale(row, begin + k));
      }
    }
    return part;
  }

  cuda::DenseMatrix shape;
  std::vector<std::byte> bytes;
};

// A finite f16.
inline double f16_value(uint16_t bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  EXPECT_NE(exponent, 31);
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return bits >> 15 != 0 ? -magnitude : magnitude;
}

// The exponent of the scale of a block whose largest magnitude that is.
inline int f16_exponent(float largest) {
  return largest == 0 ? -126 : std::max(std::ilogb(largest) - 14, -126);
}

// value * 2^-exponent, rounded to f16.
inline double f16_code(float value, int exponent) {
  const double scaled = std::ldexp(double{value}, -exponent);
  const int unit = scaled == 0 ? 0 : std::max(std::ilogb(scaled), -14) - 10;
  return std::ldexp(std::nearbyint(std::ldexp(scaled, -unit)), unit);
}

// A sum in binary64 and how far the kernel's may be from it.
struct BoundedSum {
  double value = 0, bound = 0, magnitude = 0;
};

// A step of wgmma adds 16 products to d. We take it to align the 17 terms to the largest and to cut
// each off 23 bits below its leading one, and the sum once more.
inline constexpr double kStepError = 17 * 0x1p-23, kSumError = 0x1p-23;

// Columns [begin, begin + count) of a row with codes code(term, k) and scales scale(k), k from 0
// on, in blocks of block_columns that tensor cores add up; without what adding blocks rounds.
template <class Code, class Scale>
BoundedSum block_sums(const DenseWeights& weights, uint32_t row, uint32_t begin, uint32_t count,
                      uint32_t block_columns, const Code& code, const Scale& scale_of) {
  const uint32_t terms = weights.shape.format == kFp8 ? 1 : 2;
  BoundedSum sum;
  for (uint32_t block = 0; block < count; block += block_columns) {
    double d = 0, bound = 0;
    for (uint32_t step = block; step < std::min(block + block_columns, count); step += 16) {
      for (uint32_t term = 0; term < terms; ++term) {
        double largest = std::fabs(d);
        for (uint32_t k = step; k < step + 16; ++k) {
          const double product = weights.code(row, begin + k) * code(term, k);
          d += product;
          largest = std::max(largest, std::fabs(product));
        }
        bound += kStepError * largest + kSumError * std::fabs(d);
      }
    }
    const double scale = double{weights.scale(row, begin + block)} * scale_of(block);
    sum.value += d * scale;
    sum.bound += bound * scale;
    sum.magnitude += std::fabs(d * scale);
  }
  return sum;
}

// An operand in host memory; f16 or bf16 codes.
struct DenseOperandBytes {
  uint32_t piece_columns() const { return format == kFp8 ? 256 : 128; }
  const uint8_t* piece(uint32_t k) const {
    const uint32_t piece_bytes =
        format == kFp8 ? width * 256 * 2 + 2 * width * 4 : width * 128 * 2 * 2;
    return &bytes[uint64_t{k / piece_columns()} * piece_bytes];
  }
  double code(uint32_t term, uint32_t column, uint32_t k) const {
    const uint32_t in_piece = k % piece_columns();
    uint16_t bits = 0;
    std::memcpy(&bits,
                piece(k) + (term * 8 + in_piece / 16) * width * 32 + column / 8 * 256 +
                    in_piece % 16 / 8 * 128 + column % 8 * 16 + in_piece % 8 * 2,
                2);
    return format == kBf16 ? tensor::bf16_to_float(bits) : f16_value(bits);
  }
  float scale(uint32_t column, uint32_t k) const {
    if (format != kFp8) return 1;
    float value = 0;
    std::memcpy(&value, piece(k) + width * 512 + (k % 256 / 128 * width + column) * 4, 4);
    return value;
  }

  WeightFormat format;
  uint32_t width;
  std::vector<uint8_t> bytes;
};

inline uint64_t operand_bytes(WeightFormat format, uint32_t width, uint32_t k,
                              uint32_t num_chunks = 1) {
  return cuda::dense_operand_bytes(format, width, k, num_chunks);
}

// The sum of a row and a column in dense.h's order.
inline BoundedSum dense_sum(const DenseWeights& weights, const DenseOperandBytes& operand,
                            uint32_t row, uint32_t column) {
  const uint32_t block_columns = weights.shape.format == kFp8 ? 128 : 64;
  BoundedSum sum = block_sums(
      weights, row, 0, weights.shape.columns, block_columns,
      [&](uint32_t term, uint32_t k) { return operand.code(term, column, k); },
      [&](uint32_t k) { return operand.scale(column, k); });
  const uint32_t blocks = weights.shape.columns / block_columns;
  sum.bound += sum.magnitude * (blocks / 8 + 9) * 0x1p-24 + 1e-30;
  return sum;
}

struct DenseCase {
  WeightFormat format;
  uint32_t width, num_columns, rows, k;
};

// Rows [num_columns, k] over some octaves; the first block is zeros.
inline std::vector<float> random_rows(uint32_t num_columns, uint32_t k, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<float> rows(uint64_t{num_columns} * k);
  for (uint64_t i = 0; i < rows.size(); ++i) {
    rows[i] = std::ldexp(normal(random), static_cast<int>(i / 128 * 7 % 9) - 4);
  }
  std::fill_n(rows.begin(), 128, 0.0F);
  return rows;
}

class DenseTest : public testing::Test {
 protected:
  void SetUp() override { US_NEEDS_GPU(); }

  // A number of columns in device memory.
  static const uint32_t* on_device(uint32_t num_columns) {
    static Device<uint32_t> numbers([] {
      std::vector<uint32_t> all(65);
      std::iota(all.begin(), all.end(), 0);
      return all;
    }());
    return numbers.data() + num_columns;
  }
  static DenseLaunch launch_of(const DenseCase& c, std::byte* pages, uint8_t* operand,
                               uint32_t clusters = 0) {
    DenseLaunch launch;
    launch.format = c.format;
    launch.columns = c.width;
    launch.num_columns = on_device(c.num_columns);
    launch.rows = c.rows;
    launch.k = c.k;
    launch.weights = pages;
    launch.operand = reinterpret_cast<const std::byte*>(operand);
    check(cuda::set_clusters(&launch));
    if (clusters != 0) launch.clusters = clusters;
    return launch;
  }
  static std::vector<std::byte> pack(const DenseWeights& weights, const cuda::RowOrder& order) {
    EXPECT_TRUE(cuda::check_dense(weights.shape));
    std::vector<std::byte> pages(cuda::dense_page_bytes(weights.shape));
    cuda::pack_dense(weights.shape, order, weights.bytes, pages);
    return pages;
  }
  static void prepare(const DenseCase& c, Device<float>& rows, Device<uint8_t>& operand,
                      uint32_t num_chunks = 1) {
    DensePrepare data;
    data.format = c.format;
    data.columns = c.width;
    data.num_columns = on_device(c.num_columns);
    data.k = c.k;
    data.num_chunks = num_chunks;
    data.rows = rows.data();
    data.operand = reinterpret_cast<std::byte*>(operand.data());
    check(cuda::launch_dense_prepare(data, nullptr));
  }

  struct Output {
    DenseOperandBytes operand;
    std::vector<float> values;  // [num_columns, rows]
  };
  // DenseOperandBytes and plain store.
  static Output run(const DenseCase& c, const DenseWeights& weights, const std::vector<float>& rows,
                    uint32_t clusters = 0) {
    Device<float> device_rows(rows);
    Device<uint8_t> operand(operand_bytes(c.format, c.width, c.k));
    Device<std::byte> pages(pack(weights, cuda::neighbour_order(c.rows)));
    Device<float> output(uint64_t{c.num_columns} * c.rows);
    prepare(c, device_rows, operand);
    check(cuda::launch_dense(launch_of(c, pages.data(), operand.data(), clusters),
                             cuda::DenseStore{output.data(), c.rows, 0}, nullptr));
    return {{c.format, c.width, operand.read()}, output.read()};
  }
};

}  // namespace ultraspeed::test
