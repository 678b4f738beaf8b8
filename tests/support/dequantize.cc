#include "support/dequantize.h"

#include <cmath>
#include <cstring>

#include "base/check.h"
#include "tensor/bf16.h"
#include "tensor/e4m3.h"
#include "tensor/mxfp4.h"

namespace ultraspeed::test {
namespace {

template <class Value>
Value value_at(std::span<const std::byte> bytes, size_t index) {
  Value value;
  std::memcpy(&value, &bytes[index * sizeof(Value)], sizeof(Value));
  return value;
}

float mxfp4_value(std::span<const std::byte> codes, std::span<const std::byte> scales, size_t row,
                  size_t column, size_t columns) {
  const auto pair = value_at<uint8_t>(codes, (row * columns + column) / 2);
  const int code = column % 2 == 0 ? pair & 15 : pair >> 4;
  const auto exponent = value_at<uint8_t>(scales, row * (columns / 32) + column / 32);
  return std::ldexp(tensor::kE2m1Values[static_cast<size_t>(code)], exponent - 127);
}

}  // namespace

std::vector<float> dequantize(const model::WeightShape& shape, std::span<const std::byte> packed) {
  US_CHECK(packed.size() == shape.bytes);
  const size_t columns = shape.columns;
  const size_t count = size_t{shape.rows} * columns;
  const size_t scale_blocks = (columns + 127) / 128;
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) {
    const size_t row = i / columns;
    const size_t column = i % columns;
    switch (shape.format) {
      case tensor::WeightFormat::kF32:
        values[i] = value_at<float>(packed, i);
        break;
      case tensor::WeightFormat::kBf16:
        values[i] = tensor::bf16_to_float(value_at<uint16_t>(packed, i));
        break;
      case tensor::WeightFormat::kFp8Block128:
        values[i] = tensor::e4m3_to_float(value_at<uint8_t>(packed, i)) *
                    value_at<float>(packed.subspan(count), row * scale_blocks + column / 128);
        break;
      case tensor::WeightFormat::kMxfp4:
        values[i] = mxfp4_value(packed, packed.subspan(count / 2), row, column, columns);
        break;
    }
  }
  return values;
}

}  // namespace ultraspeed::test
