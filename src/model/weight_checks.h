// What a stored number may not be: NaN codes, NaN or negative scales, non-finite floats. A weight
// that is not a number would poison every output silently, so loading and quantising look at each
// one. For model/ and quantize/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "base/result.h"
#include "model/checkpoint.h"
#include "tensor/weight_format.h"

namespace ultraspeed::model {

// The first offender as an element index, if any. Elements are in the packed form of `format`;
// every MXFP4 code is a number.
std::optional<uint64_t> find_bad_element(tensor::WeightFormat format,
                                         std::span<const std::byte> elements);
std::optional<uint64_t> find_bad_fp8_scale(std::span<const float> scales);
std::optional<uint64_t> find_bad_mx_scale(std::span<const std::byte> scales);

// Where a block of taken elements stands in its stored tensor.
struct TakenBlock {
  uint32_t row_begin = 0;
  uint32_t row_stride = 1;
  uint32_t column_begin = 0;
  uint32_t columns = 0;  // taken from each row
};

// "FILE: tensor 'x' has a bad value at row r, column c; expected ...".
tl::unexpected<Error> bad_value(const TensorRef& tensor, uint64_t index, const TakenBlock& block,
                                std::string_view expected);

}  // namespace ultraspeed::model
