// Rows of f32 to the stored forms of docs/weights_format.md section 1, with what rounding cost.
// Everything counted is a sum over rows or a largest value, so that rows may be encoded in bands of
// any size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "quantize/digest.h"
#include "quantize/scale_rule.h"

namespace ultraspeed::quantize {

inline constexpr uint32_t kGridRows = 128;  // of an FP8 block, which has as many columns

// Sums of squares over a row.
struct RowError {
  double values = 0, errors = 0;
};

// Neighbouring rows of one matrix in their stored form.
struct EncodedRows {
  std::vector<std::byte> codes;  // MXFP4: e2m1 pairs [rows, columns / 2]; FP8: e4m3 [rows, columns]
  std::vector<std::byte> scales;  // MXFP4: e8m0 [rows, columns / 32]; FP8: f32 [1, columns / 128]
  std::vector<RowError> errors;   // [rows]
  uint64_t num_blocks = 0;
  uint64_t num_clipped = 0;  // blocks whose largest magnitude exceeds the largest code's
  float largest = 0;         // magnitude
  float largest_error = 0;

  void clear();
};

// `values` f32 [rows, columns] become what the codes stand for; the stored form is appended to
// `out`. REQUIRES: finite values; 32 divides columns.
void encode_mxfp4(ScaleRule rule, std::span<float> values, uint32_t columns, EncodedRows* out);

// The same for one row of FP8 blocks. REQUIRES: finite values, at most kGridRows rows.
void encode_fp8(std::span<float> values, uint32_t columns, EncodedRows* out);

}  // namespace ultraspeed::quantize
