#include "quantize/stored_matrix.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "model/tensor_names.h"
#include "quantize/encoder.h"
#include "tensor/bf16.h"
#include "tensor/block_scale.h"
#include "tensor/e4m3.h"
#include "tensor/mxfp4.h"

namespace ultraspeed::quantize {
namespace {

using model::Dtype;
using model::TensorRef;
using tensor::WeightFormat;

uint32_t blocks_of(uint32_t size, uint32_t block) {
  return (size + block - 1) / block;
}

template <class Value>
Value value_at(std::span<const std::byte> bytes, size_t index) {
  Value value;
  std::memcpy(&value, bytes.data() + index * sizeof(Value), sizeof(Value));
  return value;
}

Status check_scale_shape(const TensorRef& scale, Dtype dtype, uint64_t rows, uint64_t columns) {
  const std::vector<uint64_t> expected = {rows, columns};
  if (scale.info->dtype == dtype && scale.info->shape == expected) return {};
  return make_error(ErrorCode::kInvalidData, "{}: tensor '{}' is {} {}; expected {} {}",
                    scale.file->path(), scale.name, model::dtype_name(scale.info->dtype),
                    model::shape_text(scale.info->shape), model::dtype_name(dtype),
                    model::shape_text(expected));
}

Status check_matrix(const TensorRef& weight) {
  constexpr uint64_t kMaxSize = std::numeric_limits<uint32_t>::max();
  const auto& shape = weight.info->shape;
  if (shape.size() == 2 && shape[0] > 0 && shape[1] > 0 && shape[0] <= kMaxSize &&
      shape[1] <= kMaxSize / 2) {
    return {};
  }
  return make_error(ErrorCode::kInvalidData, "{}: tensor '{}' has the shape {}; expected a matrix",
                    weight.file->path(), weight.name, model::shape_text(shape));
}

Result<TensorRef> find_scale(const model::Checkpoint& checkpoint, const TensorRef& weight,
                             const std::string& name) {
  const auto scale = checkpoint.find(name);
  if (scale) return *scale;
  return make_error(ErrorCode::kInvalidData,
                    "{}: tensor '{}' is {}, but there is no '{}'; expected its scales",
                    weight.file->path(), weight.name, model::dtype_name(weight.info->dtype), name);
}

// Which of its two readings the number of scale rows fits; the plain one where both do.
Status choose_grid(const GridHint& hint, StoredMatrix* matrix) {
  const uint64_t stored = matrix->scale.info->shape.empty() ? 0 : matrix->scale.info->shape[0];
  const ScaleGrid plain = {matrix->rows, 1};
  const bool can_restart = hint.restart_chunks > 1 && matrix->rows % hint.restart_chunks == 0;
  const ScaleGrid restarting = {matrix->rows, can_restart ? hint.restart_chunks : 1};
  const bool restarts =
      hint.must_restart || (stored == restarting.num_rows() && stored != plain.num_rows());
  matrix->grid_chunks = restarts ? restarting.chunks : 1;
  return check_scale_shape(matrix->scale, Dtype::kF32, matrix->grid().num_rows(),
                           blocks_of(matrix->columns, tensor::kFp8BlockColumns));
}

// Decodes `count` rows of codes that lie in `codes`.
class RowDecoder {
 public:
  RowDecoder(const StoredMatrix& matrix, std::span<const std::byte> codes, std::span<float> out)
      : matrix_(matrix), codes_(codes), out_(out) {}

  void decode_plain() const {
    if (matrix_.format == WeightFormat::kF32) {
      std::memcpy(out_.data(), codes_.data(), out_.size_bytes());
      return;
    }
    for (size_t i = 0; i < out_.size(); ++i) {
      out_[i] = tensor::bf16_to_float(value_at<uint16_t>(codes_, i));
    }
  }

  // `grid`: the scale rows from first_grid_row on.
  void decode_fp8(uint32_t begin, std::span<const float> grid, uint32_t first_grid_row) const {
    const uint32_t columns = matrix_.columns;
    const uint32_t grid_columns = blocks_of(columns, tensor::kFp8BlockColumns);
    for (size_t first = 0; first < out_.size(); first += columns, ++begin) {
      const float* scales =
          &grid[(matrix_.grid().grid_row_of(begin) - first_grid_row) * size_t{grid_columns}];
      for (uint32_t column = 0; column < columns; ++column) {
        out_[first + column] =
            tensor::kE4m3Values[std::to_integer<uint8_t>(codes_[first + column])] *
            scales[column / tensor::kFp8BlockColumns];
      }
    }
  }

  void decode_mxfp4(std::span<const std::byte> scales) const {
    for (size_t block = 0; block < scales.size(); ++block) {
      const float scale = tensor::kE8m0Values[std::to_integer<uint8_t>(scales[block])];
      const size_t first = block * tensor::kMxBlockColumns;
      for (size_t i = first; i < first + tensor::kMxBlockColumns; i += 2) {
        const auto pair = std::to_integer<uint8_t>(codes_[i / 2]);
        out_[i] = tensor::kE2m1Values[pair & 0xfU] * scale;
        out_[i + 1] = tensor::kE2m1Values[pair >> 4] * scale;
      }
    }
  }

 private:
  const StoredMatrix& matrix_;
  std::span<const std::byte> codes_;
  std::span<float> out_;
};

Status check_finite(const StoredMatrix& matrix, uint32_t begin, std::span<const float> values) {
  uint32_t largest = 0;  // a loop that vectorises; the search below is for the message
  for (const float value : values) largest = std::max(largest, tensor::magnitude_bits(value));
  if (largest < tensor::kInfinityBits) return {};
  const auto place = std::find_if(values.begin(), values.end(), [](float value) {
    return tensor::magnitude_bits(value) >= tensor::kInfinityBits;
  });
  const auto index = static_cast<uint64_t>(place - values.begin());
  return make_error(ErrorCode::kInvalidData,
                    "{}: tensor '{}' stands for {} at row {}, column {}; expected finite numbers",
                    matrix.weight.file->path(), matrix.weight.name, *place,
                    begin + index / matrix.columns, index % matrix.columns);
}

Status check_fp8_scales(const StoredMatrix& matrix, uint32_t first_grid_row,
                        std::span<const float> scales) {
  const uint32_t grid_columns = blocks_of(matrix.columns, tensor::kFp8BlockColumns);
  for (size_t i = 0; i < scales.size(); ++i) {
    const bool is_finite = tensor::magnitude_bits(scales[i]) < tensor::kInfinityBits;
    if (is_finite && !std::signbit(scales[i])) continue;
    return make_error(ErrorCode::kInvalidData,
                      "{}: tensor '{}' has {} at row {}, column {}; expected a finite scale, not "
                      "negative",
                      matrix.scale.file->path(), matrix.scale.name, scales[i],
                      first_grid_row + i / grid_columns, i % grid_columns);
  }
  return {};
}

}  // namespace

uint32_t ScaleGrid::num_rows() const {
  return chunks * blocks_of(rows / chunks, kGridRows);
}

uint32_t ScaleGrid::begin_of(uint32_t grid_row) const {
  const uint32_t chunk_rows = rows / chunks;
  const uint32_t chunk_grid_rows = blocks_of(chunk_rows, kGridRows);
  return grid_row / chunk_grid_rows * chunk_rows + grid_row % chunk_grid_rows * kGridRows;
}

uint32_t ScaleGrid::grid_row_of(uint32_t row) const {
  const uint32_t chunk_rows = rows / chunks;
  return row / chunk_rows * blocks_of(chunk_rows, kGridRows) + row % chunk_rows / kGridRows;
}

Result<StoredMatrix> find_matrix(const model::Checkpoint& checkpoint, const std::string& module,
                                 const GridHint& hint) {
  StoredMatrix matrix;
  const auto weight = checkpoint.find(module + std::string(model::kWeightSuffix));
  US_CHECK(weight.has_value(), "{}", module);
  matrix.weight = *weight;
  US_TRY(check_matrix(*weight));
  matrix.rows = static_cast<uint32_t>(weight->info->shape[0]);
  matrix.columns = static_cast<uint32_t>(weight->info->shape[1]);
  switch (weight->info->dtype) {
    case Dtype::kF32:
      matrix.format = WeightFormat::kF32;
      return matrix;
    case Dtype::kBf16:
      matrix.format = WeightFormat::kBf16;
      return matrix;
    case Dtype::kF8E4m3: {
      matrix.format = WeightFormat::kFp8Block128;
      US_ASSIGN(matrix.scale,
                find_scale(checkpoint, *weight, module + std::string(model::kFp8ScaleSuffix)));
      US_TRY(choose_grid(hint, &matrix));
      return matrix;
    }
    case Dtype::kU8: {
      matrix.format = WeightFormat::kMxfp4;
      matrix.columns *= 2;
      US_ASSIGN(matrix.scale,
                find_scale(checkpoint, *weight, module + std::string(model::kMxScaleSuffix)));
      if (matrix.columns % tensor::kMxBlockColumns == 0) {
        US_TRY(check_scale_shape(matrix.scale, Dtype::kU8, matrix.rows,
                                 matrix.columns / tensor::kMxBlockColumns));
        return matrix;
      }
      return make_error(ErrorCode::kInvalidData,
                        "{}: tensor '{}' has {} columns; expected a multiple of 32 for MXFP4",
                        weight->file->path(), weight->name, matrix.columns);
    }
    default:
      return make_error(ErrorCode::kUnsupported,
                        "{}: tensor '{}' is {}; expected F32, BF16, F8_E4M3 with "
                        ".weight_scale_inv, or U8 (MXFP4) with .weight_scale",
                        weight->file->path(), weight->name, model::dtype_name(weight->info->dtype));
  }
}

Status StoredMatrix::read_rows(uint32_t begin, uint32_t count, std::span<float> out,
                               std::vector<std::byte>* buffer) const {
  US_CHECK(count > 0 && begin + count <= rows && out.size() == size_t{count} * columns);
  const uint64_t code_bytes = count * row_bytes();
  const uint32_t first_grid_row = grid().grid_row_of(begin);
  const bool is_fp8 = format == WeightFormat::kFp8Block128;
  const uint64_t scale_row = tensor::scale_bytes(format, 1, columns);
  const uint64_t num_scale_rows =
      is_fp8 ? grid().grid_row_of(begin + count - 1) - first_grid_row + 1 : count;
  buffer->resize(code_bytes + num_scale_rows * scale_row);
  const std::span<std::byte> codes = std::span(*buffer).first(code_bytes);
  const std::span<std::byte> scales = std::span(*buffer).subspan(code_bytes);
  US_TRY(weight.file->read(weight.info->offset + begin * row_bytes(), codes));
  const RowDecoder decoder(*this, codes, out);
  if (scale_row == 0) {
    decoder.decode_plain();
    return check_finite(*this, begin, out);
  }
  const uint64_t first_scale_row = is_fp8 ? first_grid_row : begin;
  US_TRY(scale.file->read(scale.info->offset + first_scale_row * scale_row, scales));
  if (is_fp8) {
    std::vector<float> grid_rows(scales.size() / sizeof(float));
    std::memcpy(grid_rows.data(), scales.data(), scales.size());
    US_TRY(check_fp8_scales(*this, first_grid_row, grid_rows));
    decoder.decode_fp8(begin, grid_rows, first_grid_row);
  } else {
    decoder.decode_mxfp4(scales);
  }
  return check_finite(*this, begin, out);
}

void StoredMatrix::forget_rows(uint32_t begin, uint32_t count) const {
  weight.file->forget(weight.info->offset + begin * row_bytes(), count * row_bytes());
  if (scale.info != nullptr) scale.file->forget(scale.info->offset, scale.info->bytes);
}

}  // namespace ultraspeed::quantize
