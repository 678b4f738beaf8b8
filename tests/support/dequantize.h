// The numbers that a packed matrix stands for: a second, plain reading of docs/weights_format.md
// for tests to compare with.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "model/weights.h"

namespace ultraspeed::test {

// f32 [shape.rows, shape.columns]. REQUIRES: packed.size() == shape.bytes.
std::vector<float> dequantize(const model::WeightShape& shape, std::span<const std::byte> packed);

}  // namespace ultraspeed::test
