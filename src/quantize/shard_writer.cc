#include "quantize/shard_writer.h"

#include <algorithm>
#include <mutex>

#include "base/workers.h"
#include "model/tensor_names.h"
#include "model/weight_checks.h"
#include "quantize/band.h"
#include "quantize/encoder.h"
#include "quantize/feedback_encoder.h"
#include "tensor/weight_format.h"

namespace ultraspeed::quantize {
namespace {

using tensor::WeightFormat;

// What a thread keeps from band to band.
struct Scratch {
  std::vector<std::byte> stored;
  std::vector<float> values;
  EncodedRows encoded;
};

template <class Value>
std::span<const std::byte> row_of(const std::vector<Value>& values, size_t row, size_t columns) {
  return std::as_bytes(std::span(values).subspan(row * columns, columns));
}

// The loader refuses what is not a number; better to hear of it now.
Status check_copied(const model::TensorRef& tensor, uint64_t offset,
                    std::span<const std::byte> bytes) {
  WeightFormat format = WeightFormat::kBf16;
  switch (tensor.info->dtype) {
    case model::Dtype::kBf16:
      break;
    case model::Dtype::kF32:
      format = WeightFormat::kF32;
      break;
    case model::Dtype::kF8E4m3:
      format = WeightFormat::kFp8Block128;
      break;
    default:
      return {};
  }
  const auto bad = model::find_bad_element(format, bytes);
  if (!bad) return {};
  const uint64_t columns = tensor.info->shape.empty() ? 1 : tensor.info->shape.back();
  const uint64_t index = offset / model::dtype_bytes(tensor.info->dtype) + *bad;
  return make_error(ErrorCode::kInvalidData,
                    "{}: tensor '{}' has NaN or infinity at row {}, column {}; expected finite "
                    "numbers",
                    tensor.file->path(), tensor.name, index / columns, index % columns);
}

class Writing {
 public:
  Writing(const std::vector<Conversion>& conversions, const PlannedShard& shard,
          const OutputFolder& folder, const ShardOptions& options)
      : conversions_(conversions),
        shard_(shard),
        folder_(folder),
        options_(options),
        scratch_(options.num_threads),
        records_(shard.conversion_end - shard.conversion_begin),
        open_rows_(records_.size()) {}

  Result<std::vector<TensorRecord>> run(const OutputFile& file) {
    US_TRY(folder_.write_at(file, 0, std::as_bytes(std::span(shard_.header))));
    US_ASSIGN(const auto bands,
              plan_bands(conversions_, shard_, options_.memory_bytes / options_.num_threads));
    for (auto rest = std::span(bands); !rest.empty();) {
      const auto& input = input_of(rest.front());
      const auto end = std::find_if(rest.begin(), rest.end(),
                                    [&](const Band& band) { return input_of(band) != input; });
      const auto count = static_cast<size_t>(end - rest.begin());
      US_TRY(convert_all(rest.first(count), file));
      rest = rest.subspan(count);
    }
    return std::move(records_);
  }

 private:
  const std::optional<MatrixInput>& input_of(const Band& band) const {
    return conversions_[band.conversion].input;
  }

  // Bands with the same input, or with none.
  Status convert_all(std::span<const Band> bands, const OutputFile& file) {
    if (const auto& input = input_of(bands.front())) {
      US_ASSIGN(feedback_, options_.calibration->feedback(*input));
    }
    return run_jobs(options_.num_threads, bands.size(), [&](uint32_t worker, size_t i) {
      const Conversion& conversion = conversions_[bands[i].conversion];
      return conversion.form == Form::kCopy
                 ? copy(conversion, bands[i], file, &scratch_[worker])
                 : convert(conversion, bands[i], file, &scratch_[worker]);
    });
  }

  // The rows of a tensor that is not complete yet.
  struct OpenRows {
    std::vector<RowError> errors;
    uint64_t num_done = 0;
  };

  Status copy(const Conversion& conversion, const Band& band, const OutputFile& file,
              Scratch* scratch) {
    const model::TensorRef& tensor = conversion.copied;
    const uint64_t target = shard_.offset_of(band.conversion, 0);
    TensorRecord record;
    for (uint64_t piece = band.begin; piece < band.begin + band.count; ++piece) {
      const uint64_t offset = piece * kCopyBytes;
      scratch->stored.resize(std::min(kCopyBytes, tensor.info->bytes - offset));
      US_TRY(tensor.file->read(tensor.info->offset + offset, scratch->stored));
      if (model::classify_tensor_name(tensor.name).owner != model::TensorOwner::kOther) {
        US_TRY(check_copied(tensor, offset, scratch->stored));
      }
      record.outputs[0].add_row(piece, scratch->stored);
      US_TRY(folder_.write_at(file, target + offset, scratch->stored));
      tensor.file->forget(tensor.info->offset + offset, scratch->stored.size());
      options_.on_bytes(scratch->stored.size());
    }
    const std::lock_guard lock(mutex_);
    records_[band.conversion - shard_.conversion_begin].add_digests(record);
    return {};
  }

  Status convert(const Conversion& conversion, const Band& band, const OutputFile& file,
                 Scratch* scratch) {
    const StoredMatrix& source = conversion.source;
    const auto begin = static_cast<uint32_t>(band.begin);
    const auto count = static_cast<uint32_t>(band.count);
    scratch->values.resize(size_t{count} * source.columns);
    US_TRY(source.read_rows(begin, count, scratch->values, &scratch->stored));
    source.forget_rows(begin, count);
    encode(conversion, begin, scratch);
    TensorRecord record;
    US_TRY(write(conversion, band, file, scratch->encoded, &record));
    for (uint32_t row = 0; row < count; ++row) {
      record.values.add_row(begin + row, row_of(scratch->values, row, source.columns));
    }
    options_.on_bytes(count * source.row_bytes() +
                      count * source.scale_bytes() / source.rows);  // about the share of its scales
    finish(conversion, band, record, scratch->encoded);
    return {};
  }

  void encode(const Conversion& conversion, uint32_t begin, Scratch* scratch) const {
    const std::span<float> values = scratch->values;
    const uint32_t columns = conversion.source.columns;
    scratch->encoded.clear();
    if (conversion.input) {
      return encode_mxfp4(options_.scale_rule, feedback_, values, &scratch->encoded);
    }
    if (conversion.form == Form::kMxfp4) {
      return encode_mxfp4(options_.scale_rule, values, columns, &scratch->encoded);
    }
    const ScaleGrid grid = conversion.grid();
    const auto end = static_cast<uint32_t>(begin + values.size() / columns);
    for (uint32_t row = begin; row < end;) {
      const uint32_t next = grid.begin_of(grid.grid_row_of(row) + 1);
      encode_fp8(values.subspan(size_t{row - begin} * columns, size_t{next - row} * columns),
                 columns, &scratch->encoded);
      row = next;
    }
  }

  Status write(const Conversion& conversion, const Band& band, const OutputFile& file,
               const EncodedRows& encoded, TensorRecord* record) const {
    const size_t code_row = encoded.codes.size() / band.count;
    US_TRY(folder_.write_at(file, shard_.offset_of(band.conversion, 0) + band.begin * code_row,
                            encoded.codes));
    for (uint64_t row = 0; row < band.count; ++row) {
      record->outputs[0].add_row(band.begin + row, row_of(encoded.codes, row, code_row));
    }
    const bool is_fp8 = conversion.form == Form::kFp8;
    const auto format = is_fp8 ? WeightFormat::kFp8Block128 : WeightFormat::kMxfp4;
    const size_t scale_row = tensor::scale_bytes(format, 1, conversion.source.columns);
    const uint64_t first =
        is_fp8 ? conversion.grid().grid_row_of(static_cast<uint32_t>(band.begin)) : band.begin;
    for (size_t row = 0; row < encoded.scales.size() / scale_row; ++row) {
      record->outputs[1].add_row(first + row, row_of(encoded.scales, row, scale_row));
    }
    return folder_.write_at(file, shard_.offset_of(band.conversion, 1) + first * scale_row,
                            encoded.scales);
  }

  // Sums of squares are added in the order of rows once all are there: no sum depends on bands.
  void finish(const Conversion& conversion, const Band& band, const TensorRecord& record,
              const EncodedRows& encoded) {
    const std::lock_guard lock(mutex_);
    const uint32_t index = band.conversion - shard_.conversion_begin;
    OpenRows& rows = open_rows_[index];
    rows.errors.resize(conversion.source.rows);
    std::copy(encoded.errors.begin(), encoded.errors.end(),
              rows.errors.begin() + static_cast<ptrdiff_t>(band.begin));
    rows.num_done += band.count;
    records_[index].add_digests(record);
    records_[index].add_band(encoded);
    if (rows.num_done < rows.errors.size()) return;
    records_[index].add_rows(rows.errors);
    rows = {};
  }

  const std::vector<Conversion>& conversions_;
  const PlannedShard& shard_;
  const OutputFolder& folder_;
  const ShardOptions& options_;
  std::vector<Scratch> scratch_;  // [num_threads]
  ErrorFeedback feedback_;        // of the bands at work, if they are calibrated
  std::mutex mutex_;              // of what follows
  std::vector<TensorRecord> records_;
  std::vector<OpenRows> open_rows_;
};

}  // namespace

Result<std::vector<TensorRecord>> write_shard(const std::vector<Conversion>& conversions,
                                              const PlannedShard& shard, const OutputFolder& folder,
                                              const std::string& name,
                                              const ShardOptions& options) {
  US_ASSIGN(const OutputFile file, folder.create(name, shard.bytes));
  US_ASSIGN(auto records, Writing(conversions, shard, folder, options).run(file));
  US_TRY(folder.sync(file));
  return records;
}

}  // namespace ultraspeed::quantize
