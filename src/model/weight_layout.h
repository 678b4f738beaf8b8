// Where the rows of a weight matrix stand in a checkpoint: which stored tensors, which of their
// rows in which order, which columns. Knows split and fused qkv; knows no dtypes. Internal to
// model/.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/config.h"
#include "model/weights.h"

namespace ultraspeed::model {

// Rows begin, begin + stride, ...
struct RowRange {
  uint32_t begin = 0;
  uint32_t count = 0;
  uint32_t stride = 1;
};

// How the 128x128 scale grid of an FP8 tensor covers its rows.
enum class ScaleGrid {
  kPlain,       // one grid over all rows
  kRestarting,  // a grid of its own for each of grid_chunks equal chunks of rows
  kEither,      // whichever the number of scale rows says; kPlain where both fit
};

// A part of one stored tensor.
struct StoredPart {
  std::string module;       // the tensor's name without its suffix
  std::string weight_name;  // the tensor
  // How its rows lie in dimensions, the last for the columns: {rows, columns}; of a vector
  // {columns}; of a bias {rows}, with one column; with one matrix an expert {experts, ...}.
  std::vector<uint64_t> shape;
  uint32_t rows = 0;  // of the whole stored tensor; 1 for vectors
  uint32_t columns = 0;
  std::string block_scale_name;  // gpt-oss's MXFP4 alone: [.., columns / 32], beside codes
                                 // [.., columns / 32, 16] in weight_name
  ScaleGrid scale_grid = ScaleGrid::kPlain;
  uint32_t grid_chunks = 1;
  std::vector<RowRange> row_ranges;  // taken rows, in output order
};

struct WeightLayout {
  std::vector<StoredPart> parts;  // stacked on top of each other
  uint32_t column_begin = 0;
  uint32_t columns = 0;  // taken from each row
};

bool is_f32_role(TensorRole role);  // delivered as kF32 whatever the file holds

// REQUIRES: weight_shape(config, source, any format) has a value. qkv_chunks is T of a fused qkv.
// Errors: kUnsupported when qkv_chunks does not divide the heads.
Result<WeightLayout> weight_layout(const ModelConfig& config, const WeightSource& source,
                                   uint32_t qkv_chunks);

}  // namespace ultraspeed::model
