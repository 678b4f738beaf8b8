#include "train/weights_file.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "tensor/bf16.h"
#include "tensor/e4m3.h"
#include "train/records.h"

namespace ultraspeed::train {
namespace {

constexpr uint64_t kBlock = 128;        // rows and columns of an FP8 scale
constexpr size_t kHeaderAlignment = 8;  // of what follows a safetensors header

}  // namespace

Status check_exportable(const std::string& path, const ExportedTensor& tensor) {
  uint64_t count = 1;
  for (const uint64_t size : tensor.shape) count *= size;
  US_CHECK(count == tensor.values.size(), "{} has {} values", tensor.name, tensor.values.size());
  if (std::ranges::all_of(tensor.values, [](float value) { return std::isfinite(value); })) {
    return {};
  }
  return make_error(ErrorCode::kInvalidData, "{}: '{}' has a number that is not finite", path,
                    tensor.name);
}

void WeightsFile::add(const std::string& name, const char* dtype,
                      const std::vector<uint64_t>& shape, std::string_view bytes) {
  header_ += fmt::format(R"(, "{}": {{"dtype": "{}", "shape": {}, "data_offsets": [{}, {}]}})",
                         name, dtype, list_json(shape), data_.size(), data_.size() + bytes.size());
  data_ += bytes;
}

std::string WeightsFile::finish() const {
  std::string header = header_ + "}";
  header.append((kHeaderAlignment - header.size() % kHeaderAlignment) % kHeaderAlignment, ' ');
  std::string file;
  append(&file, uint64_t{header.size()});
  return file + header + data_;
}

void WeightsFile::add_bf16(const ExportedTensor& tensor) {
  std::string bytes;
  for (const float value : tensor.values) append(&bytes, tensor::bf16_from_float(value));
  add(tensor.name, "BF16", tensor.shape, bytes);
}

void WeightsFile::add_f32(const ExportedTensor& tensor) {
  add(tensor.name, "F32", tensor.shape,
      {reinterpret_cast<const char*>(tensor.values.data()), tensor.values.size() * sizeof(float)});
}

void WeightsFile::add_fp8(const ExportedTensor& tensor) {
  const uint64_t rows = tensor.shape[0], columns = tensor.shape[1];
  const uint64_t row_blocks = (rows + kBlock - 1) / kBlock;
  const uint64_t column_blocks = (columns + kBlock - 1) / kBlock;
  std::vector<float> scales(row_blocks * column_blocks, 0.0F);
  for (uint64_t i = 0; i < tensor.values.size(); ++i) {
    float& scale = scales[i / columns / kBlock * column_blocks + i % columns / kBlock];
    scale = std::max(scale, std::abs(tensor.values[i]));
  }
  for (float& scale : scales) scale = tensor::e4m3_weight_scale(scale);
  std::string codes;
  for (uint64_t i = 0; i < tensor.values.size(); ++i) {
    const float scale = scales[i / columns / kBlock * column_blocks + i % columns / kBlock];
    append(&codes, tensor::e4m3_from_float(tensor.values[i] / scale));
  }
  add(tensor.name, "F8_E4M3", tensor.shape, codes);
  add(tensor.name + "_scale_inv", "F32", {row_blocks, column_blocks},
      {reinterpret_cast<const char*>(scales.data()), scales.size() * sizeof(float)});
}

std::string number_json(float value) {
  return fmt::format("{}", value);
}

}  // namespace ultraspeed::train
