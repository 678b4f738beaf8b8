// What a drafter's selector has of each token: the rows of one of the target's tables times one of
// its matrices. In files the matrices take no room beside a table of codes; a step, which needs few
// tokens' codes at once, looks them up.
#pragma once

#include <cstddef>
#include <span>

#include "model/weights.h"

namespace ultraspeed::model {

struct PackedMatrix {
  WeightShape shape;  // kF32, kBf16 or kFp8Block128
  std::span<const std::byte> bytes;
};

// codes[t, r] = sum over k of table[t, k] * matrix[r, k], ascending k, in f32: [table rows, matrix
// rows]. REQUIRES: as many columns, and room for the codes.
void make_selector_codes(const PackedMatrix& table, const PackedMatrix& matrix,
                         std::span<std::byte> codes);

}  // namespace ultraspeed::model
