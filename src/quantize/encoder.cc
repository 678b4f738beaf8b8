#include "quantize/encoder.h"

#include <algorithm>

#include "base/check.h"
#include "quantize/mx_block.h"
#include "tensor/e4m3.h"
#include "tensor/weight_format.h"

namespace ultraspeed::quantize {
namespace {

using tensor::kFp8BlockColumns;
using tensor::kMxBlockColumns;

// One block: codes to `packed` [16], the scale's to `scale_code`.
void encode_mx_block(ScaleRule rule, std::span<float> block, std::byte* packed,
                     std::byte* scale_code, ErrorSum* errors, EncodedRows* out) {
  const float largest = largest_magnitude(block);
  out->largest = std::max(out->largest, largest);
  MxBlock made;
  made.choose_scale(rule, block, largest, scale_code, out);
  for (uint32_t i = 0; i < kMxBlockColumns; ++i) {
    made.codes[i] = tensor::e2m1_from_float(block[i] * made.inverse);
  }
  for (uint32_t i = 0; i < kMxBlockColumns; ++i) {
    made.rounded[i] = tensor::kE2m1Values[made.codes[i]] * made.scale;
  }
  made.store(block, packed, errors);
}

}  // namespace

void EncodedRows::clear() {
  codes.clear();
  scales.clear();
  errors.clear();
  num_blocks = num_clipped = 0;
  largest = largest_error = 0;
}

void encode_mxfp4(ScaleRule rule, std::span<float> values, uint32_t columns, EncodedRows* out) {
  US_CHECK(columns % kMxBlockColumns == 0 && values.size() % columns == 0, "{} columns, {} values",
           columns, values.size());
  std::byte* codes = append(&out->codes, values.size() / 2);
  std::byte* scales = append(&out->scales, values.size() / kMxBlockColumns);
  for (size_t first = 0; first < values.size(); first += columns) {
    ErrorSum errors;
    for (size_t i = first; i < first + columns; i += kMxBlockColumns) {
      encode_mx_block(rule, values.subspan(i, kMxBlockColumns), codes, scales, &errors, out);
      codes += kMxBlockColumns / 2;
      ++scales;
    }
    errors.finish(out);
  }
}

void encode_fp8(std::span<float> values, uint32_t columns, EncodedRows* out) {
  const size_t rows = values.size() / columns;
  US_CHECK(rows >= 1 && rows <= kGridRows && values.size() % columns == 0, "{} rows", rows);
  std::vector<float> scales;
  for (uint32_t first = 0; first < columns; first += kFp8BlockColumns) {
    const uint32_t count = std::min(kFp8BlockColumns, columns - first);
    float largest = 0;
    for (size_t row = 0; row < rows; ++row) {
      largest = std::max(largest, largest_magnitude(values.subspan(row * columns + first, count)));
    }
    scales.push_back(tensor::e4m3_weight_scale(largest));
    out->largest = std::max(out->largest, largest);
    ++out->num_blocks;
  }
  const auto bytes = std::as_bytes(std::span(scales));
  out->scales.insert(out->scales.end(), bytes.begin(), bytes.end());
  std::byte* codes = append(&out->codes, values.size());
  std::vector<float> rounded(columns);
  for (size_t row = 0; row < rows; ++row) {
    const std::span<float> exact = values.subspan(row * columns, columns);
    for (uint32_t column = 0; column < columns; ++column) {
      const float scale = scales[column / kFp8BlockColumns];
      const uint8_t code = tensor::e4m3_from_float(exact[column] / scale);
      rounded[column] = tensor::kE4m3Values[code] * scale;
      *codes++ = std::byte{code};
    }
    ErrorSum errors;
    errors.add(exact, rounded);
    errors.finish(out);
    std::copy(rounded.begin(), rounded.end(), exact.begin());
  }
}

}  // namespace ultraspeed::quantize
