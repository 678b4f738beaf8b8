#include "model/dense_dtype.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "tensor/bf16.h"
#include "tensor/e4m3.h"

namespace ultraspeed::model {
namespace {

using tensor::kFp8BlockColumns;
using tensor::WeightFormat;

bool is_dense_role(TensorRole role) {
  return role == TensorRole::kQkvProj || role == TensorRole::kOProj ||
         role == TensorRole::kDenseGateUp || role == TensorRole::kDenseDown ||
         role == TensorRole::kLmHead;
}

bool is_unscaled(WeightFormat format) {
  return format == WeightFormat::kBf16 || format == WeightFormat::kF32;
}

// Columns [first, first + values.size()) of a row.
void read_row(const WeightShape& stored, std::span<const std::byte> packed, uint32_t row,
              uint32_t first, std::span<float> values) {
  const uint64_t index = uint64_t{row} * stored.columns + first;
  if (stored.format == WeightFormat::kF32) {
    std::memcpy(values.data(), packed.data() + index * sizeof(float), values.size_bytes());
    return;
  }
  for (size_t i = 0; i < values.size(); ++i) {
    uint16_t bits = 0;
    std::memcpy(&bits, packed.data() + (index + i) * sizeof(bits), sizeof(bits));
    values[i] = tensor::bf16_to_float(bits);
  }
}

std::string name_of(const WeightSource& source) {
  const bool has_layer = source.role != TensorRole::kLmHead;
  return has_layer ? fmt::format("{} of layer {}", tensor_role_name(source.role), source.layer)
                   : std::string(tensor_role_name(source.role));
}

}  // namespace

Result<WeightShape> loaded_shape(const ModelConfig& config, const WeightSource& source,
                                 const WeightShape& stored, DenseDtype dtype) {
  const bool is_quantized = dtype == DenseDtype::kFp8 && source.stack == Stack::kTarget &&
                            is_dense_role(source.role) && is_unscaled(stored.format);
  if (!is_quantized) return stored;
  constexpr auto kFp8 = WeightFormat::kFp8Block128;
  WeightSource whole = source;
  whole.shard = 0;
  whole.num_shards = 1;
  US_ASSIGN(const WeightShape uncut, weight_shape(config, whole, kFp8));
  // A part of a block alone does not know the block's largest number, from which its scale comes.
  if (stored.columns != uncut.columns && stored.columns % kFp8BlockColumns != 0) {
    return make_error(ErrorCode::kUnsupported,
                      "{}: {} has {} columns a rank; to make FP8 of it takes the {} of a scale",
                      config.file, name_of(source), stored.columns, kFp8BlockColumns);
  }
  return weight_shape(config, source, kFp8);
}

Result<SquareSums> quantize_fp8(const WeightShape& stored, std::span<const std::byte> packed,
                                std::span<std::byte> fp8) {
  US_CHECK(is_unscaled(stored.format));
  std::byte* code = fp8.data();
  std::byte* scales =
      code + tensor::code_bytes(WeightFormat::kFp8Block128, stored.rows, stored.columns);
  std::array<float, kFp8BlockColumns> buffer;
  SquareSums sums;
  for (uint32_t row = 0; row < stored.rows; ++row) {
    for (uint32_t first = 0; first < stored.columns; first += kFp8BlockColumns) {
      const uint32_t count = std::min(kFp8BlockColumns, stored.columns - first);
      const std::span<float> values(buffer.data(), count);
      read_row(stored, packed, row, first, values);
      float largest = 0;
      for (uint32_t i = 0; i < count; ++i) {
        if (!std::isfinite(values[i])) {
          return make_error(ErrorCode::kInvalidData,
                            "row {}, column {} is {}; FP8 needs finite numbers", row, first + i,
                            values[i]);
        }
        largest = std::max(largest, std::abs(values[i]));
      }
      const float scale = tensor::e4m3_weight_scale(largest);
      std::memcpy(scales, &scale, sizeof(scale));
      scales += sizeof(scale);
      for (const float value : values) {
        const uint8_t rounded = tensor::e4m3_from_float(value / scale);
        *code++ = std::byte{rounded};
        const double error = double{tensor::kE4m3Values[rounded] * scale} - double{value};
        sums.values += double{value} * double{value};
        sums.errors += error * error;
      }
    }
  }
  return sums;
}

Result<WeightShape> DenseLoader::shape(const WeightSource& source) const {
  US_ASSIGN(const WeightShape stored, loader_.shape(source));
  return loaded_shape(*config_, source, stored, dtype_);
}

Status DenseLoader::load(const WeightSource& source, std::span<std::byte> out) const {
  US_ASSIGN(const WeightShape stored, loader_.shape(source));
  US_ASSIGN(const WeightShape loaded, loaded_shape(*config_, source, stored, dtype_));
  if (loaded == stored) return loader_.load(source, out);
  std::vector<std::byte> packed(stored.bytes);
  US_TRY(loader_.load(source, packed));
  const Result<SquareSums> sums = quantize_fp8(stored, packed, out);
  if (!sums) {
    return make_error(sums.error().code, "{}: {}: {}", config_->file, name_of(source),
                      sums.error().message);
  }
  const std::lock_guard lock(mutex_);
  sums_.values += sums->values;
  sums_.errors += sums->errors;
  ++error_.num_matrices;
  error_.stored_bytes += stored.bytes;
  error_.loaded_bytes += loaded.bytes;
  if (sums->relative_rms() >= error_.worst_rms) {
    error_.worst_rms = sums->relative_rms();
    error_.worst = name_of(source);
  }
  return {};
}

DenseError DenseLoader::error() const {
  const std::lock_guard lock(mutex_);
  DenseError error = error_;
  error.relative_rms = sums_.relative_rms();
  return error;
}

}  // namespace ultraspeed::model
