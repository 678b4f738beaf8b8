#include "model/selector_codes.h"

#include <cstring>
#include <vector>

#include "base/check.h"
#include "tensor/bf16.h"
#include "tensor/e4m3.h"

namespace ultraspeed::model {
namespace {

using tensor::WeightFormat;

template <class T>
T element(std::span<const std::byte> bytes, uint64_t index) {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

// Row `row` as f32, to `out` of its columns.
void row_values(const PackedMatrix& matrix, uint32_t row, std::span<float> out) {
  const uint32_t columns = matrix.shape.columns;
  const uint64_t first = uint64_t{row} * columns;
  const uint32_t blocks = (columns + tensor::kFp8BlockColumns - 1) / tensor::kFp8BlockColumns;
  const auto scales =
      matrix.bytes.subspan(tensor::code_bytes(matrix.shape.format, matrix.shape.rows, columns));
  for (uint32_t k = 0; k < columns; ++k) {
    switch (matrix.shape.format) {
      case WeightFormat::kF32:
        out[k] = element<float>(matrix.bytes, first + k);
        break;
      case WeightFormat::kBf16:
        out[k] = tensor::bf16_to_float(element<uint16_t>(matrix.bytes, first + k));
        break;
      case WeightFormat::kFp8Block128:
        out[k] = tensor::kE4m3Values[element<uint8_t>(matrix.bytes, first + k)] *
                 element<float>(scales, uint64_t{row} * blocks + k / tensor::kFp8BlockColumns);
        break;
      default:
        US_CHECK(false, "format {}", static_cast<int>(matrix.shape.format));
    }
  }
}

}  // namespace

void make_selector_codes(const PackedMatrix& table, const PackedMatrix& matrix,
                         std::span<std::byte> codes) {
  const uint32_t columns = table.shape.columns, rank = matrix.shape.rows;
  US_CHECK(matrix.shape.columns == columns, "{} and {} columns", columns, matrix.shape.columns);
  US_CHECK(codes.size() == uint64_t{table.shape.rows} * rank * sizeof(float), "{} bytes of codes",
           codes.size());
  std::vector<float> row(columns), transposed(uint64_t{columns} * rank), sums(rank);
  for (uint32_t r = 0; r < rank; ++r) {
    row_values(matrix, r, row);
    for (uint32_t k = 0; k < columns; ++k) transposed[uint64_t{k} * rank + r] = row[k];
  }
  for (uint32_t token = 0; token < table.shape.rows; ++token) {
    row_values(table, token, row);
    sums.assign(rank, 0.0F);
    for (uint32_t k = 0; k < columns; ++k) {
      // Pointers: where vectors are checked, this loop is most of what opening a drafter takes.
      const float* of_column = &transposed[uint64_t{k} * rank];
      const float value = row[k];
      float* sum = sums.data();
      for (uint32_t r = 0; r < rank; ++r) sum[r] += value * of_column[r];
    }
    std::memcpy(codes.data() + uint64_t{token} * rank * sizeof(float), sums.data(),
                rank * sizeof(float));
  }
}

}  // namespace ultraspeed::model
