// What is kept of a tensor when it is written: its checksums and its errors.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <span>

#include "quantize/digest.h"
#include "quantize/encoder.h"

namespace ultraspeed::quantize {

struct TensorRecord {
  std::array<Digest, 2> outputs;  // stored bytes: rows of the matrix and of its scales, pieces of a
                                  // copy
  Digest values;                  // f32 rows that they stand for; not of a copy
  // Of what was quantised:
  double squares = 0;  // of the source's numbers
  double square_errors = 0;
  uint64_t num_blocks = 0;
  uint64_t num_clipped = 0;
  float largest = 0;
  float largest_error = 0;

  bool has_same_bytes(const TensorRecord& other) const {
    return outputs == other.outputs && values == other.values;
  }

  double relative_error() const { return squares == 0 ? 0 : std::sqrt(square_errors / squares); }

  // All but the sums of squares, which want an order: add_rows().
  void add_band(const EncodedRows& rows) {
    num_blocks += rows.num_blocks;
    num_clipped += rows.num_clipped;
    largest = std::max(largest, rows.largest);
    largest_error = std::max(largest_error, rows.largest_error);
  }

  void add_digests(const TensorRecord& band) {
    for (size_t i = 0; i < outputs.size(); ++i) outputs[i].add(band.outputs[i]);
    values.add(band.values);
  }

  void add_rows(std::span<const RowError> rows) {
    for (const RowError& row : rows) {
      squares += row.values;
      square_errors += row.errors;
    }
  }
};

}  // namespace ultraspeed::quantize
