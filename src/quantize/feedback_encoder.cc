#include "quantize/feedback_encoder.h"

#include <algorithm>
#include <array>

#include "base/check.h"
#include "quantize/mx_block.h"

namespace ultraspeed::quantize {
namespace {

using tensor::kMxBlockColumns;
using Columns = std::array<float, kMxBlockColumns>;

// targets[k] += error * shares[k]
void add_multiple(float error, const float* shares, Columns* targets) {
  for (uint32_t k = 0; k < kMxBlockColumns; ++k) (*targets)[k] += error * shares[k];
}

// Rounds a row's block whose earlier columns have the errors [errors, errors + number of shares -
// 1) and appends its own errors. `shares`: the panel of the block.
void encode_block(ScaleRule rule, std::span<const float> shares, std::span<float> block,
                  float* errors, std::byte* packed, std::byte* scale_code, ErrorSum* sum,
                  EncodedRows* out) {
  const size_t num_before = shares.size() / kMxBlockColumns - kMxBlockColumns;
  Columns targets;
  std::copy(block.begin(), block.end(), targets.begin());
  const float* share = shares.data();
  for (size_t j = 0; j < num_before; ++j, share += kMxBlockColumns) {
    add_multiple(errors[j], share, &targets);
  }
  out->largest = std::max(out->largest, largest_magnitude(block));
  MxBlock made;
  made.choose_scale(rule, targets, largest_magnitude(targets), scale_code, out);
  for (uint32_t i = 0; i < kMxBlockColumns; ++i, share += kMxBlockColumns) {
    made.codes[i] = tensor::e2m1_from_float(targets[i] * made.inverse);
    made.rounded[i] = tensor::kE2m1Values[made.codes[i]] * made.scale;
    errors[num_before + i] = block[i] - made.rounded[i];
    add_multiple(errors[num_before + i], share, &targets);  // of its own and earlier columns: 0
  }
  made.store(block, packed, sum);
}

}  // namespace

void encode_mxfp4(ScaleRule rule, const ErrorFeedback& feedback, std::span<float> values,
                  EncodedRows* out) {
  const size_t columns = feedback.columns;
  US_CHECK(values.size() % columns == 0, "{} columns, {} values", columns, values.size());
  const size_t rows = values.size() / columns;
  std::byte* codes = append(&out->codes, values.size() / 2);
  std::byte* scales = append(&out->scales, values.size() / kMxBlockColumns);
  std::vector<ErrorSum> sums(rows);
  std::vector<float> errors(values.size());
  for (size_t first = 0; first < columns; first += kMxBlockColumns) {
    const auto shares = feedback.panel(static_cast<uint32_t>(first / kMxBlockColumns));
    for (size_t row = 0; row < rows; ++row) {
      const size_t place = row * columns + first;
      encode_block(rule, shares, values.subspan(place, kMxBlockColumns), &errors[row * columns],
                   codes + place / 2, scales + place / kMxBlockColumns, &sums[row], out);
    }
  }
  for (const ErrorSum& sum : sums) sum.finish(out);
}

}  // namespace ultraspeed::quantize
