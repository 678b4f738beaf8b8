// Matrices of dense products: what kernels take.
#pragma once

#include <cstdint>

#include "tensor/weight_format.h"

namespace ultraspeed::cuda {

// A canonical matrix [rows, columns], its columns in K-chunks that are summed apart.
struct DenseMatrix {
  tensor::WeightFormat format = tensor::WeightFormat::kFp8Block128;
  uint32_t rows = 0, columns = 0;
  uint32_t num_chunks = 1;
};

// Of a chunk: what threads take at a time of the rows that become operands.
inline constexpr uint32_t kDenseColumnMultiple = 4;

// Whether K-chunks of so many columns in all become operands.
constexpr bool has_dense_columns(uint32_t columns, uint32_t num_chunks) {
  return num_chunks != 0 && columns != 0 &&
         columns % (uint64_t{num_chunks} * kDenseColumnMultiple) == 0;
}

// Whether there are kernels for its sizes: check_dense() (pack_dense.h) says what they need.
constexpr bool has_dense_kernels(const DenseMatrix& matrix) {
  return matrix.rows != 0 && matrix.rows % 2 == 0 &&
         has_dense_columns(matrix.columns, matrix.num_chunks);
}

}  // namespace ultraspeed::cuda
