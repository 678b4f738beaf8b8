// WeightLoader: from stored tensors to packed matrices. Rows are copied range by range in the order
// of a WeightLayout; FP8 scale grids are expanded to one scale a row and column block, which is
// exact for every layout. Every code and scale is checked on the way.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <optional>

#include "base/check.h"
#include "model/checkpoint.h"
#include "model/tensor_names.h"
#include "model/weight_checks.h"
#include "model/weight_layout.h"
#include "model/weights.h"
#include "tensor/bf16.h"

namespace ultraspeed::model {
namespace {

using tensor::WeightFormat;

constexpr uint32_t kGridRows = 128;

uint32_t blocks_of(uint32_t size, uint32_t block) {
  return (size + block - 1) / block;
}

// A StoredPart found in the checkpoint.
struct FoundPart {
  const StoredPart* part = nullptr;
  TensorRef weight;
  TensorRef scale;  // FP8 and MXFP4 only
  WeightFormat format = WeightFormat::kF32;
  uint32_t grid_chunks = 1;  // FP8 only
};

class PartFinder {
 public:
  PartFinder(const Checkpoint& checkpoint, const WeightSource& source)
      : checkpoint_(checkpoint), source_(source) {}

  Result<FoundPart> find(const StoredPart& part) const {
    FoundPart found;
    found.part = &part;
    US_ASSIGN(found.weight, require(part.weight_name, "the weight"));
    const Dtype dtype = found.weight.info->dtype;
    if (dtype == Dtype::kF32 || dtype == Dtype::kBf16) {
      found.format = dtype == Dtype::kF32 ? WeightFormat::kF32 : WeightFormat::kBf16;
      US_TRY(check(found.weight, dtype, part.shape));
      return found;
    }
    if (is_f32_role(source_.role)) return wrong_dtype(found.weight, "F32 or BF16");
    if (dtype == Dtype::kF8E4m3) return find_fp8(found);
    if (dtype == Dtype::kU8) return find_mxfp4(found);
    return wrong_dtype(found.weight,
                       "F32, BF16, F8_E4M3 with .weight_scale_inv, or U8 (MXFP4) "
                       "with .weight_scale");
  }

 private:
  Result<FoundPart> find_fp8(FoundPart found) const {
    const StoredPart& part = *found.part;
    found.format = WeightFormat::kFp8Block128;
    US_TRY(check(found.weight, Dtype::kF8E4m3, {part.rows, part.columns}));
    US_ASSIGN(found.scale,
              require(part.module + std::string(kFp8ScaleSuffix), "the scales of an FP8 weight"));
    const uint32_t plain_rows = blocks_of(part.rows, kGridRows);
    const uint32_t restarting_rows =
        part.grid_chunks * blocks_of(part.rows / part.grid_chunks, kGridRows);
    const uint64_t stored_rows = found.scale.info->shape.empty() ? 0 : found.scale.info->shape[0];
    const bool restarts = part.scale_grid == ScaleGrid::kRestarting ||
                          (part.scale_grid == ScaleGrid::kEither &&
                           stored_rows == restarting_rows && stored_rows != plain_rows);
    found.grid_chunks = restarts ? part.grid_chunks : 1;
    // Qwen3's files have them in BF16.
    const Dtype stored = found.scale.info->dtype == Dtype::kBf16 ? Dtype::kBf16 : Dtype::kF32;
    US_TRY(check(found.scale, stored,
                 {restarts ? restarting_rows : plain_rows,
                  blocks_of(part.columns, tensor::kFp8BlockColumns)}));
    return found;
  }

  Result<FoundPart> find_mxfp4(FoundPart found) const {
    const StoredPart& part = *found.part;
    found.format = WeightFormat::kMxfp4;
    const bool is_in_blocks = !part.block_scale_name.empty();
    std::vector<uint64_t> shape = part.shape;
    shape.back() = part.columns / tensor::kMxBlockColumns;
    US_ASSIGN(found.scale, require(is_in_blocks ? part.block_scale_name
                                                : part.module + std::string(kMxScaleSuffix),
                                   "the scales of an MXFP4 weight"));
    US_TRY(check(found.scale, Dtype::kU8, shape));
    if (is_in_blocks) {
      shape.push_back(tensor::kMxBlockColumns / 2);
    } else {
      shape.back() = part.columns / 2;
    }
    US_TRY(check(found.weight, Dtype::kU8, shape));
    return found;
  }

  Result<TensorRef> require(const std::string& name, std::string_view purpose) const {
    const auto tensor = checkpoint_.find(name);
    if (tensor) return *tensor;
    return make_error(ErrorCode::kNotFound, "{}: no tensor '{}'; expected it as {} of the {}",
                      checkpoint_.directory(), name, purpose, describe(source_));
  }

  static std::string describe(const WeightSource& source) {
    const std::string_view role = tensor_role_name(source.role);
    switch (source.role) {
      case TensorRole::kEmbedding:
      case TensorRole::kLmHead:
      case TensorRole::kFinalNorm:
      case TensorRole::kFeatureProj:
      case TensorRole::kFeatureNorm:
        return std::string(role);
      case TensorRole::kExpertGateUp:
      case TensorRole::kExpertDown:
        return fmt::format("{} {} in layer {}", role, source.expert, source.layer);
      default:
        return fmt::format("{} in layer {}", role, source.layer);
    }
  }

  tl::unexpected<Error> wrong_dtype(const TensorRef& tensor, std::string_view expected) const {
    return make_error(ErrorCode::kInvalidData, "{}: tensor '{}' is {}; expected {}",
                      tensor.file->path(), tensor.name, dtype_name(tensor.info->dtype), expected);
  }

  Status check(const TensorRef& tensor, Dtype dtype, std::vector<uint64_t> shape) const {
    if (tensor.info->dtype == dtype && tensor.info->shape == shape) return {};
    return make_error(ErrorCode::kInvalidData,
                      "{}: tensor '{}' is {} {}; expected {} {} for the {}", tensor.file->path(),
                      tensor.name, dtype_name(tensor.info->dtype), shape_text(tensor.info->shape),
                      dtype_name(dtype), shape_text(shape), describe(source_));
  }

  const Checkpoint& checkpoint_;
  const WeightSource& source_;
};

// Finds all parts; they must agree on a format, since they become one matrix.
Result<std::vector<FoundPart>> find_parts(const Checkpoint& checkpoint, const WeightSource& source,
                                          const WeightLayout& layout) {
  std::vector<FoundPart> found;
  const PartFinder finder(checkpoint, source);
  for (const StoredPart& part : layout.parts) {
    US_ASSIGN(FoundPart next, finder.find(part));
    if (!found.empty() && found.front().format != next.format) {
      return make_error(ErrorCode::kUnsupported,
                        "{}: tensor '{}' is {}; expected {} as its sibling '{}'",
                        next.weight.file->path(), next.weight.name, weight_format_name(next.format),
                        weight_format_name(found.front().format), found.front().weight.name);
    }
    found.push_back(next);
  }
  return found;
}

// A rectangle of a stored row-major tensor, in bytes.
struct Rectangle {
  RowRange rows;
  uint64_t row_bytes = 0;  // of a whole stored row
  uint64_t begin_bytes = 0;
  uint64_t taken_bytes = 0;
};

// Copies a rectangle into `out`, which it fills.
Status read_rectangle(const TensorRef& tensor, const Rectangle& from, std::span<std::byte> out) {
  const uint64_t first = tensor.info->offset + from.rows.begin * from.row_bytes + from.begin_bytes;
  const uint64_t row_distance = from.rows.stride * from.row_bytes;
  if (from.taken_bytes == row_distance) {
    return tensor.file->read(first, out);
  }
  return tensor.file->read_rows({first, from.rows.count, from.taken_bytes, row_distance}, out);
}

uint64_t element_row_bytes(WeightFormat format, uint32_t columns) {
  return tensor::code_bytes(format, 1, columns);
}

// Copies the elements of one part to the front of `out`; returns nothing but errors.
Status load_elements(const FoundPart& found, const WeightLayout& layout, std::span<std::byte> out) {
  const uint64_t taken = element_row_bytes(found.format, layout.columns);
  for (const RowRange& rows : found.part->row_ranges) {
    const std::span<std::byte> target = out.first(rows.count * taken);
    const Rectangle from = {rows, element_row_bytes(found.format, found.part->columns),
                            element_row_bytes(found.format, layout.column_begin), taken};
    US_TRY(read_rectangle(found.weight, from, target));
    if (const auto bad = find_bad_element(found.format, target)) {
      return bad_value(found.weight, *bad,
                       {rows.begin, rows.stride, layout.column_begin, layout.columns},
                       "a finite number");
    }
    out = out.subspan(target.size());
  }
  return {};
}

std::vector<float> to_floats(std::span<const uint16_t> bf16) {
  std::vector<float> values(bf16.size());
  std::ranges::transform(bf16, values.begin(), tensor::bf16_to_float);
  return values;
}

// All numbers of a BF16 or F32 tensor.
Result<std::vector<float>> read_floats(const TensorRef& tensor) {
  const bool is_bf16 = tensor.info->dtype == Dtype::kBf16;
  std::vector<float> values(is_bf16 ? 0 : tensor.info->bytes / sizeof(float));
  std::vector<uint16_t> bf16(is_bf16 ? tensor.info->bytes / sizeof(uint16_t) : 0);
  const auto bytes =
      is_bf16 ? std::as_writable_bytes(std::span(bf16)) : std::as_writable_bytes(std::span(values));
  US_TRY(tensor.file->read(tensor.info->offset, bytes));
  return is_bf16 ? to_floats(bf16) : values;
}

// Expands the scale grid of one part: f32 [taken rows, column blocks].
Status load_fp8_scales(const FoundPart& found, const WeightLayout& layout,
                       std::span<std::byte> out) {
  const uint32_t grid_columns = blocks_of(found.part->columns, tensor::kFp8BlockColumns);
  US_ASSIGN(const std::vector<float> grid, read_floats(found.scale));
  if (const auto bad = find_bad_fp8_scale(grid)) {
    return bad_value(found.scale, *bad, {0, 1, 0, grid_columns}, "a finite scale, not negative");
  }
  const uint32_t chunk_rows = found.part->rows / found.grid_chunks;
  const uint32_t chunk_grid_rows = blocks_of(chunk_rows, kGridRows);
  const uint32_t first_block = layout.column_begin / tensor::kFp8BlockColumns;
  const uint64_t row_bytes = tensor::scale_bytes(WeightFormat::kFp8Block128, 1, layout.columns);
  for (const RowRange& rows : found.part->row_ranges) {
    for (uint32_t row = rows.begin; row < rows.begin + rows.count; ++row) {
      const uint64_t grid_row =
          uint64_t{row / chunk_rows} * chunk_grid_rows + row % chunk_rows / kGridRows;
      std::memcpy(out.data(), &grid[grid_row * grid_columns + first_block], row_bytes);
      out = out.subspan(row_bytes);
    }
  }
  return {};
}

Status load_mxfp4_scales(const FoundPart& found, const WeightLayout& layout,
                         std::span<std::byte> out) {
  const uint32_t taken = layout.columns / tensor::kMxBlockColumns;
  const uint32_t begin = layout.column_begin / tensor::kMxBlockColumns;
  for (const RowRange& rows : found.part->row_ranges) {
    const std::span<std::byte> target = out.first(uint64_t{rows.count} * taken);
    const Rectangle from = {rows, found.part->columns / tensor::kMxBlockColumns, begin, taken};
    US_TRY(read_rectangle(found.scale, from, target));
    if (const auto bad = find_bad_mx_scale(target)) {
      return bad_value(found.scale, *bad, {rows.begin, rows.stride, begin, taken},
                       "0 to 254; 255 is NaN");
    }
    out = out.subspan(target.size());
  }
  return {};
}

// The roles that are delivered as f32 from F32 or BF16.
Status load_as_f32(const FoundPart& found, const WeightLayout& layout, std::span<std::byte> out) {
  if (found.format == WeightFormat::kF32) return load_elements(found, layout, out);
  std::vector<uint16_t> stored(out.size() / sizeof(float));
  US_TRY(load_elements(found, layout, std::as_writable_bytes(std::span(stored))));
  const std::vector<float> values = to_floats(stored);
  std::memcpy(out.data(), values.data(), out.size());
  return {};
}

uint64_t taken_rows(const StoredPart& part) {
  uint64_t rows = 0;
  for (const RowRange& range : part.row_ranges) rows += range.count;
  return rows;
}

}  // namespace

Result<WeightShape> WeightLoader::shape(const WeightSource& source) const {
  US_TRY(weight_shape(*config_, source, WeightFormat::kF32));
  US_ASSIGN(const WeightLayout layout, weight_layout(*config_, source, qkv_chunks()));
  US_ASSIGN(const auto found, find_parts(*checkpoint_, source, layout));
  return weight_shape(*config_, source,
                      is_f32_role(source.role) ? WeightFormat::kF32 : found.front().format);
}

Status WeightLoader::load(const WeightSource& source, std::span<std::byte> out) const {
  US_ASSIGN(const WeightShape expected, shape(source));
  US_CHECK(out.size() == expected.bytes, "{} bytes into {}", expected.bytes, out.size());
  US_ASSIGN(const WeightLayout layout, weight_layout(*config_, source, qkv_chunks()));
  US_ASSIGN(const auto found, find_parts(*checkpoint_, source, layout));
  std::span<std::byte> scales =
      out.subspan(tensor::code_bytes(expected.format, expected.rows, expected.columns));
  for (const FoundPart& part : found) {
    const uint64_t rows = taken_rows(*part.part);
    if (is_f32_role(source.role)) {
      const uint64_t part_bytes = tensor::code_bytes(WeightFormat::kF32, rows, layout.columns);
      US_TRY(load_as_f32(part, layout, out.first(part_bytes)));
      out = out.subspan(part_bytes);
      continue;
    }
    const uint64_t part_codes = tensor::code_bytes(part.format, rows, layout.columns);
    const uint64_t part_scales = tensor::scale_bytes(part.format, rows, layout.columns);
    US_TRY(load_elements(part, layout, out.first(part_codes)));
    if (part.format == WeightFormat::kFp8Block128) {
      US_TRY(load_fp8_scales(part, layout, scales.first(part_scales)));
    }
    if (part.format == WeightFormat::kMxfp4) {
      US_TRY(load_mxfp4_scales(part, layout, scales.first(part_scales)));
    }
    out = out.subspan(part_codes);
    scales = scales.subspan(part_scales);
  }
  return {};
}

Result<std::vector<float>> WeightLoader::load_floats(const WeightSource& source) const {
  US_CHECK(is_f32_role(source.role), "role {} is not f32", static_cast<int>(source.role));
  US_ASSIGN(const WeightShape stored, shape(source));
  std::vector<float> values(stored.bytes / sizeof(float));
  US_TRY(load(source, std::as_writable_bytes(std::span(values))));
  return values;
}

Status WeightLoader::check_complete() const {
  for (const WeightSource& source : all_weights(*config_, 0, 1)) US_TRY(shape(source));
  return {};
}

// The checkpoint knows best how many ranks wrote a fused qkv.
uint32_t WeightLoader::qkv_chunks() const {
  return checkpoint_->tp_size().value_or(config_->qkv_chunks);
}

}  // namespace ultraspeed::model
