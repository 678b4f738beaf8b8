#include "quantize/band.h"

#include <algorithm>

#include "base/progress.h"
#include "quantize/encoder.h"
#include "quantize/feedback_encoder.h"
#include "quantize/mx_block.h"
#include "tensor/weight_format.h"

namespace ultraspeed::quantize {
namespace {

// Larger bands would be no faster.
constexpr uint64_t kMaxBandBytes = 32 << 20;

// What a row needs: numbers, the stored forms before and after, and its sums.
uint64_t row_memory(const Conversion& conversion) {
  const StoredMatrix& source = conversion.source;
  const auto stored = [&](tensor::WeightFormat format) {
    return tensor::packed_bytes(format, 1, source.columns);
  };
  const auto target = conversion.form == Form::kMxfp4 ? tensor::WeightFormat::kMxfp4
                                                      : tensor::WeightFormat::kFp8Block128;
  // A calibrated row keeps its errors; the vectors of what is encoded grow by doubling.
  const uint64_t num_floats = uint64_t{source.columns} * (conversion.input ? 2 : 1);
  return num_floats * sizeof(float) + stored(source.format) + 2 * stored(target) +
         4 * sizeof(RowError) + (conversion.input ? sizeof(ErrorSum) : 0);
}

void add_copy(const Conversion& conversion, uint32_t index, uint64_t band_bytes,
              std::vector<Band>* bands) {
  const uint64_t num_pieces = (conversion.copied.info->bytes + kCopyBytes - 1) / kCopyBytes;
  const uint64_t step = std::max<uint64_t>(1, band_bytes / kCopyBytes);
  for (uint64_t begin = 0; begin < num_pieces; begin += step) {
    bands->push_back({index, begin, std::min(step, num_pieces - begin)});
  }
}

void add_mxfp4(const Conversion& conversion, uint32_t index, uint64_t max_rows,
               std::vector<Band>* bands) {
  const uint64_t rows = conversion.source.rows;
  if (conversion.input) max_rows = std::min<uint64_t>(max_rows, kFeedbackRows);
  for (uint64_t begin = 0; begin < rows; begin += max_rows) {
    bands->push_back({index, begin, std::min(max_rows, rows - begin)});
  }
}

void add_fp8(const Conversion& conversion, uint32_t index, uint64_t max_rows,
             std::vector<Band>* bands) {
  const ScaleGrid grid = conversion.grid();
  const auto step = static_cast<uint32_t>(std::max<uint64_t>(1, max_rows / kGridRows));
  for (uint32_t first = 0; first < grid.num_rows(); first += step) {
    const uint32_t begin = grid.begin_of(first);
    const uint32_t end = grid.begin_of(std::min(first + step, grid.num_rows()));
    bands->push_back({index, begin, end - begin});
  }
}

}  // namespace

Result<std::vector<Band>> plan_bands(const std::vector<Conversion>& conversions,
                                     const PlannedShard& shard, uint64_t band_bytes) {
  std::vector<Band> bands;
  const uint64_t used_bytes = std::min(band_bytes, kMaxBandBytes);
  for (uint32_t i = shard.conversion_begin; i < shard.conversion_end; ++i) {
    const Conversion& conversion = conversions[i];
    const bool is_copy = conversion.form == Form::kCopy;
    const uint64_t row_bytes = is_copy ? kCopyBytes : row_memory(conversion);
    const uint64_t min_rows =
        conversion.form == Form::kFp8 ? std::min(conversion.source.rows, kGridRows) : 1;
    if (row_bytes * min_rows > band_bytes) {
      return make_error(ErrorCode::kOutOfMemory,
                        "tensor '{}' needs {} on each thread; expected at most {}: raise --memory "
                        "or lower --threads",
                        conversion.name(), format_bytes(static_cast<double>(row_bytes * min_rows)),
                        format_bytes(static_cast<double>(band_bytes)));
    }
    const uint64_t max_rows = std::max(min_rows, used_bytes / row_bytes);
    if (is_copy) add_copy(conversion, i, used_bytes, &bands);
    if (conversion.form == Form::kMxfp4) add_mxfp4(conversion, i, max_rows, &bands);
    if (conversion.form == Form::kFp8) add_fp8(conversion, i, max_rows, &bands);
  }
  return bands;
}

}  // namespace ultraspeed::quantize
