// The second half of shard_writer.h: what was written is read again, by the reader of sources.
#include <algorithm>
#include <mutex>

#include "base/check.h"
#include "base/workers.h"
#include "quantize/band.h"
#include "quantize/shard_writer.h"
#include "tensor/weight_format.h"

namespace ultraspeed::quantize {
namespace {

using tensor::WeightFormat;

class Checking {
 public:
  Checking(const std::vector<Conversion>& conversions, const PlannedShard& shard,
           const model::SafetensorsFile& file, const ShardOptions& options)
      : conversions_(conversions),
        shard_(shard),
        file_(file),
        options_(options),
        scratch_(options.num_threads),
        records_(shard.conversion_end - shard.conversion_begin) {}

  Status run(const std::vector<TensorRecord>& expected) {
    US_CHECK(expected.size() == records_.size(), "{} of {}", expected.size(), records_.size());
    US_TRY(check_header());
    US_ASSIGN(const auto bands,
              plan_bands(conversions_, shard_, options_.memory_bytes / options_.num_threads));
    US_TRY(run_jobs(options_.num_threads, bands.size(), [&](uint32_t worker, size_t i) {
      const Conversion& conversion = conversions_[bands[i].conversion];
      return conversion.form == Form::kCopy ? read_copy(bands[i], &scratch_[worker])
                                            : read_matrix(conversion, bands[i], &scratch_[worker]);
    }));
    for (size_t i = 0; i < records_.size(); ++i) {
      const Conversion& conversion = conversions_[shard_.conversion_begin + i];
      for (size_t output = 0; output < conversion.outputs.size(); ++output) {
        if (records_[i].outputs[output] != expected[i].outputs[output]) {
          return differs(conversion.outputs[output].name, "its bytes are others");
        }
      }
      if (records_[i].values != expected[i].values) {
        return differs(conversion.name(), "it stands for other numbers");
      }
    }
    return {};
  }

 private:
  struct Scratch {
    std::vector<std::byte> stored;
    std::vector<float> values;
  };

  tl::unexpected<Error> differs(std::string_view tensor, std::string_view how) const {
    return make_error(ErrorCode::kInvalidData,
                      "{}: tensor '{}' read again is not what was written: {}; the disk or the "
                      "memory is at fault",
                      file_.path(), tensor, how);
  }

  Status check_header() const {
    std::string header(shard_.header.size(), '\0');
    US_TRY(file_.read(0, std::as_writable_bytes(std::span(header))));
    if (header == shard_.header) return {};
    return make_error(ErrorCode::kInvalidData,
                      "{}: the header read again is not what was written; the disk or the memory "
                      "is at fault",
                      file_.path());
  }

  model::TensorRef stored(uint32_t conversion, size_t output) const {
    const std::string& name = conversions_[conversion].outputs[output].name;
    return {name, &file_, &file_.header().tensors.find(name)->second};
  }

  // Rows [begin, begin + count) of an output's bytes, each row_bytes long.
  Status digest_rows(const model::TensorRef& tensor, uint64_t begin, uint64_t count,
                     uint64_t row_bytes, Scratch* scratch, Digest* digest) const {
    scratch->stored.resize(count * row_bytes);
    US_TRY(file_.read(tensor.info->offset + begin * row_bytes, scratch->stored));
    for (uint64_t row = 0; row < count; ++row) {
      digest->add_row(begin + row, std::span(scratch->stored).subspan(row * row_bytes, row_bytes));
    }
    options_.on_bytes(scratch->stored.size());
    return {};
  }

  Status read_copy(const Band& band, Scratch* scratch) {
    const model::TensorRef tensor = stored(band.conversion, 0);
    TensorRecord record;
    for (uint64_t piece = band.begin; piece < band.begin + band.count; ++piece) {
      const uint64_t offset = piece * kCopyBytes;
      scratch->stored.resize(std::min(kCopyBytes, tensor.info->bytes - offset));
      US_TRY(file_.read(tensor.info->offset + offset, scratch->stored));
      record.outputs[0].add_row(piece, scratch->stored);
      file_.forget(tensor.info->offset + offset, scratch->stored.size());
      options_.on_bytes(scratch->stored.size());
    }
    add(band, record);
    return {};
  }

  Status read_matrix(const Conversion& conversion, const Band& band, Scratch* scratch) {
    const bool is_fp8 = conversion.form == Form::kFp8;
    StoredMatrix matrix{.weight = stored(band.conversion, 0),
                        .scale = stored(band.conversion, 1),
                        .format = is_fp8 ? WeightFormat::kFp8Block128 : WeightFormat::kMxfp4,
                        .rows = conversion.source.rows,
                        .columns = conversion.source.columns,
                        .grid_chunks = conversion.grid_chunks};
    const auto begin = static_cast<uint32_t>(band.begin);
    const auto count = static_cast<uint32_t>(band.count);
    TensorRecord record;
    US_TRY(
        digest_rows(matrix.weight, begin, count, matrix.row_bytes(), scratch, &record.outputs[0]));
    const uint64_t scale_row = tensor::scale_bytes(matrix.format, 1, matrix.columns);
    const uint32_t first = is_fp8 ? matrix.grid().grid_row_of(begin) : begin;
    const uint32_t num_scale_rows =
        is_fp8 ? matrix.grid().grid_row_of(begin + count - 1) - first + 1 : count;
    US_TRY(
        digest_rows(matrix.scale, first, num_scale_rows, scale_row, scratch, &record.outputs[1]));
    scratch->values.resize(size_t{count} * matrix.columns);
    US_TRY(matrix.read_rows(begin, count, scratch->values, &scratch->stored));
    matrix.forget_rows(begin, count);
    for (uint32_t row = 0; row < count; ++row) {
      record.values.add_row(
          begin + row,
          std::as_bytes(
              std::span(scratch->values).subspan(size_t{row} * matrix.columns, matrix.columns)));
    }
    add(band, record);
    return {};
  }

  void add(const Band& band, const TensorRecord& record) {
    const std::lock_guard lock(mutex_);
    records_[band.conversion - shard_.conversion_begin].add_digests(record);
  }

  const std::vector<Conversion>& conversions_;
  const PlannedShard& shard_;
  const model::SafetensorsFile& file_;
  const ShardOptions& options_;
  std::vector<Scratch> scratch_;       // [num_threads]
  std::mutex mutex_;                   // of records_
  std::vector<TensorRecord> records_;  // as read
};

}  // namespace

Status check_shard(const std::vector<Conversion>& conversions, const PlannedShard& shard,
                   const std::string& path, const std::vector<TensorRecord>& records,
                   const ShardOptions& options) {
  US_ASSIGN(const auto file, model::SafetensorsFile::open(path));
  return Checking(conversions, shard, file, options).run(records);
}

}  // namespace ultraspeed::quantize
