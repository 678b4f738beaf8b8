#include "quantize/expert_inputs.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "tensor/bf16.h"

namespace ultraspeed::quantize {
namespace {

constexpr uint64_t kRecordsAtOnce = 1024;

struct Header {
  uint64_t magic = 0x31'50'4e'49'50'58'45'53;  // "SEXPINP1"
  uint32_t hidden_size = 0, num_experts = 0, top_k = 0, num_layers = 0;
  uint64_t num_tokens = 0;
  uint64_t checksum = 0;

  bool operator==(const Header&) const = default;
};

Header header_of(const ExpertInputsShape& shape, const Digest& digest) {
  return {.hidden_size = shape.hidden_size,
          .num_experts = shape.num_experts,
          .top_k = shape.top_k,
          .num_layers = static_cast<uint32_t>(shape.layers.size()),
          .num_tokens = shape.num_tokens,
          .checksum = digest.value()};
}

// After the header the routes of all layers, then their rows.
struct RecordPlaces {
  explicit RecordPlaces(const ExpertInputsShape& shape)
      : route_bytes(shape.top_k * sizeof(uint32_t)),
        row_bytes(shape.hidden_size * sizeof(uint16_t)),
        num_tokens(shape.num_tokens),
        num_records(shape.layers.size() * shape.num_tokens) {}

  uint64_t record(uint32_t layer, uint64_t token) const { return layer * num_tokens + token; }
  uint64_t route(uint64_t record) const { return sizeof(Header) + record * route_bytes; }
  uint64_t row(uint64_t record) const { return route(num_records) + record * row_bytes; }

  uint64_t route_bytes, row_bytes, num_tokens, num_records;
};

void add_record(uint64_t record, std::span<const std::byte> route, std::span<const std::byte> row,
                Digest* digest) {
  digest->add_row(2 * record, route);
  digest->add_row(2 * record + 1, row);
}

Result<Digest> digest_of(const MappedFile& file, const RecordPlaces& places) {
  Digest digest;
  std::vector<std::byte> route(places.route_bytes), row(places.row_bytes);
  for (uint64_t record = 0; record < places.num_records; ++record) {
    US_TRY(file.read(places.route(record), route));
    US_TRY(file.read(places.row(record), row));
    add_record(record, route, row, &digest);
    if (record % kRecordsAtOnce == 0) file.forget(places.row(record), kRecordsAtOnce * row.size());
  }
  file.forget(0, file.size_bytes());
  return digest;
}

bool is_finite(std::span<const uint16_t> row) {
  return std::all_of(row.begin(), row.end(),
                     [](uint16_t value) { return std::isfinite(tensor::bf16_to_float(value)); });
}

}  // namespace

uint64_t ExpertInputsShape::file_bytes() const {
  const RecordPlaces places(*this);
  return places.row(places.num_records);
}

Result<ExpertInputsWriter> ExpertInputsWriter::create(const OutputFolder& folder,
                                                      std::string_view name,
                                                      const ExpertInputsShape& shape) {
  US_ASSIGN(OutputFile file, folder.create(name, shape.file_bytes()));
  return ExpertInputsWriter(folder, std::move(file), shape);
}

Status ExpertInputsWriter::add(uint32_t layer, uint64_t first_token, std::span<const uint16_t> rows,
                               std::span<const uint32_t> routes) {
  const RecordPlaces places(shape_);
  const size_t row = shape_.hidden_size, route = shape_.top_k;
  const uint64_t first = places.record(layer, first_token);
  US_CHECK(rows.size() / row == routes.size() / route, "{} and {}", rows.size(), routes.size());
  for (size_t i = 0; i < rows.size() / row; ++i) {
    const auto values = rows.subspan(i * row, row);
    const auto experts = routes.subspan(i * route, route);
    if (!is_finite(values)) {
      return make_error(ErrorCode::kInvalidData,
                        "layer {} computes NaN or infinity for token {} of the text; expected "
                        "finite numbers: a model that computes none cannot be calibrated",
                        shape_.layers[layer], first_token + i);
    }
    add_record(first + i, std::as_bytes(experts), std::as_bytes(values), &digest_);
  }
  US_TRY(folder_->write_at(file_, places.route(first), std::as_bytes(routes)));
  return folder_->write_at(file_, places.row(first), std::as_bytes(rows));
}

Status ExpertInputsWriter::finish() const {
  const Header header = header_of(shape_, digest_);
  US_TRY(folder_->write_at(file_, 0, std::as_bytes(std::span(&header, 1))));
  return folder_->sync(file_);
}

Result<ExpertInputs> ExpertInputs::open(const std::string& path, const ExpertInputsShape& shape) {
  US_ASSIGN(MappedFile file, MappedFile::open(path));
  Header header;
  if (file.size_bytes() == shape.file_bytes()) {
    US_TRY(file.read(0, std::as_writable_bytes(std::span(&header, 1))));
    US_ASSIGN(const Digest digest, digest_of(file, RecordPlaces(shape)));
    if (header == header_of(shape, digest)) return ExpertInputs(std::move(file), shape);
  }
  return make_error(ErrorCode::kInvalidData,
                    "{}: is not what was written; the disk or the memory is at fault: remove it "
                    "and begin again",
                    path);
}

Result<std::vector<uint32_t>> ExpertInputs::routes(uint32_t layer) const {
  std::vector<uint32_t> routes(shape_.num_tokens * shape_.top_k);
  const RecordPlaces places(shape_);
  US_TRY(
      file_.read(places.route(places.record(layer, 0)), std::as_writable_bytes(std::span(routes))));
  return routes;
}

Status ExpertInputs::read_row(uint32_t layer, uint64_t token, std::span<float> out) const {
  const RecordPlaces places(shape_);
  std::vector<uint16_t> row(out.size());
  US_TRY(
      file_.read(places.row(places.record(layer, token)), std::as_writable_bytes(std::span(row))));
  std::transform(row.begin(), row.end(), out.begin(), tensor::bf16_to_float);
  return {};
}

void ExpertInputs::forget_rows(uint32_t layer, uint64_t first_token, uint64_t count) const {
  const RecordPlaces places(shape_);
  file_.forget(places.row(places.record(layer, first_token)), count * places.row_bytes);
}

}  // namespace ultraspeed::quantize
