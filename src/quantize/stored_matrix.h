// A matrix in a checkpoint, read row by row as the f32 numbers it stands for, whatever its form.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/checkpoint.h"
#include "tensor/weight_format.h"

namespace ultraspeed::quantize {

// Row ranges of an FP8 scale grid, which restarts in each of `chunks` equal chunks of rows.
struct ScaleGrid {
  uint32_t rows = 0;  // of the matrix
  uint32_t chunks = 1;

  uint32_t num_rows() const;                   // of the grid
  uint32_t begin_of(uint32_t grid_row) const;  // first row; `rows` for num_rows()
  uint32_t grid_row_of(uint32_t row) const;
};

struct StoredMatrix {
  model::TensorRef weight;
  model::TensorRef scale;  // FP8 and MXFP4
  tensor::WeightFormat format = tensor::WeightFormat::kBf16;
  uint32_t rows = 0;
  uint32_t columns = 0;
  uint32_t grid_chunks = 1;  // FP8

  ScaleGrid grid() const { return {rows, grid_chunks}; }
  uint64_t row_bytes() const { return tensor::code_bytes(format, 1, columns); }
  uint64_t stored_bytes() const { return weight.info->bytes + scale_bytes(); }
  uint64_t scale_bytes() const { return scale.info == nullptr ? 0 : scale.info->bytes; }

  // f32 [count, columns]. `buffer` is scratch space that the caller keeps. Thread-safe.
  // Errors: kInvalidData for what is no finite number, with file, tensor, row and column; kIo.
  Status read_rows(uint32_t begin, uint32_t count, std::span<float> out,
                   std::vector<std::byte>* buffer) const;

  // Drops the pages of rows that were read.
  void forget_rows(uint32_t begin, uint32_t count) const;
};

// The tensor MODULE.weight, with its scales. `restart_chunks`: into how many chunks an FP8 grid may
// be divided; with must_restart it is, else the number of scale rows decides.
struct GridHint {
  uint32_t restart_chunks = 1;
  bool must_restart = false;
};
// Errors: kInvalidData for shapes that do not fit, kUnsupported for other dtypes.
Result<StoredMatrix> find_matrix(const model::Checkpoint& checkpoint, const std::string& module,
                                 const GridHint& hint);

}  // namespace ultraspeed::quantize
