#include "train/feature_shard.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <tuple>

#include "base/check.h"
#include "train/output_files.h"
#include "train/records.h"

namespace ultraspeed::train {
namespace {

constexpr uint64_t kMagic = 0x0a31544145465355u;  // "USFEAT1\n"
constexpr size_t kTapsAt = 24, kModelAt = kTapsAt + size_t{4} * kMaxFeatureTaps;
constexpr size_t kCountAt = kModelAt + kModelNameBytes;
constexpr size_t kHeaderSumAt = kCountAt + 24, kHeaderBytes = kHeaderSumAt + 8;
constexpr size_t kEntryBytes = 24;
constexpr uint32_t kMaxHidden = 1 << 16, kMaxVocab = 1 << 24, kMaxTargetLayers = 1 << 12;

template <class Sequence>
auto parts_of(Sequence& sequence) {
  return std::make_tuple(std::span(sequence.token_ids), std::span(sequence.features),
                         std::span(sequence.last_hidden), std::span(sequence.loss_mask));
}

uint64_t checksum_of(const FeatureSequence& sequence) {
  return std::apply(
      [](const auto&... parts) {
        uint64_t sum = 0;
        ((sum = checksum(std::as_bytes(parts), sum)), ...);
        return sum;
      },
      parts_of(sequence));
}

bool is_finite_bf16(uint16_t bits) {
  return (bits & 0x7f80) != 0x7f80;
}

}  // namespace

// Per token: its id, the taps and the last hidden row, its mask.
uint64_t sequence_bytes(const FeatureShape& shape, uint64_t length) {
  return length * (4 + 2 * uint64_t{shape.hidden_size} * (shape.num_taps() + 1) + 1);
}

Status check_shape(const std::string& file, const FeatureShape& shape) {
  const auto fail = [&](const std::string& what) {
    return make_error(ErrorCode::kInvalidArgument, "{}: {}", file, what);
  };
  if (shape.hidden_size == 0 || shape.hidden_size > kMaxHidden) {
    return fail(fmt::format("hidden_size {}, expected 1 to {}", shape.hidden_size, kMaxHidden));
  }
  if (shape.vocab_size == 0 || shape.vocab_size > kMaxVocab) {
    return fail(fmt::format("vocab_size {}, expected 1 to {}", shape.vocab_size, kMaxVocab));
  }
  if (shape.num_target_layers == 0 || shape.num_target_layers > kMaxTargetLayers) {
    return fail(fmt::format("a target of {} layers, expected 1 to {}", shape.num_target_layers,
                            kMaxTargetLayers));
  }
  const auto& taps = shape.target_layer_ids;
  if (taps.empty() || taps.size() > kMaxFeatureTaps || taps.back() >= shape.num_target_layers ||
      std::adjacent_find(taps.begin(), taps.end(), std::greater_equal<>()) != taps.end()) {
    return fail(fmt::format("taps that are not 1 to {} ascending layers of {}", kMaxFeatureTaps,
                            shape.num_target_layers));
  }
  if (shape.model.size() >= kModelNameBytes || shape.model.find('\0') != std::string::npos) {
    return fail(fmt::format("a model's name of {} bytes, expected text of at most {}",
                            shape.model.size(), kModelNameBytes - 1));
  }
  return {};
}

// --- Writing ---

FeatureShardWriter::FeatureShardWriter(std::string path, FeatureShape shape, std::ofstream file)
    : path_(std::move(path)), shape_(std::move(shape)), file_(std::move(file)) {}

Result<FeatureShardWriter> FeatureShardWriter::create(const std::string& path,
                                                      const FeatureShape& shape) {
  US_TRY(check_shape(path, shape));
  FeatureShardWriter writer(path, shape, std::ofstream(path, std::ios::binary | std::ios::trunc));
  US_TRY(writer.write(bytes_of(std::string(kHeaderBytes, '\0'))));
  return writer;
}

Status FeatureShardWriter::write(std::span<const std::byte> bytes) {
  file_.write(reinterpret_cast<const char*>(bytes.data()),
              static_cast<std::streamsize>(bytes.size()));
  if (!file_) return cannot_write(path_);
  offset_ += bytes.size();
  return {};
}

Status FeatureShardWriter::add(const FeatureSequence& sequence) {
  const size_t length = sequence.token_ids.size();
  const size_t hidden = shape_.hidden_size;
  const bool fits = length > 0 && length <= kMaxSequenceTokens &&
                    sequence.loss_mask.size() == length &&
                    sequence.features.size() == length * hidden * shape_.num_taps() &&
                    sequence.last_hidden.size() == length * hidden;
  if (!fits) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: sequence {} of {} tokens, {} mask entries, {} features and {} last "
                      "hidden numbers; expected at most {} tokens with {} features and {} each",
                      path_, table_.size(), length, sequence.loss_mask.size(),
                      sequence.features.size(), sequence.last_hidden.size(), kMaxSequenceTokens,
                      hidden * shape_.num_taps(), hidden);
  }
  const Entry entry = {offset_, static_cast<uint32_t>(length), checksum_of(sequence)};
  US_TRY(std::apply(
      [&](const auto&... parts) -> Status {
        Status status;
        ((status = status ? write(std::as_bytes(parts)) : status), ...);
        return status;
      },
      parts_of(sequence)));
  table_.push_back(entry);
  return {};
}

Result<uint64_t> FeatureShardWriter::finish() {
  const uint64_t table_offset = offset_;
  std::string table;
  for (const Entry& entry : table_) {
    append(&table, entry.offset);
    append(&table, uint64_t{entry.length});
    append(&table, entry.checksum);
  }
  US_TRY(write(bytes_of(table)));
  std::string header;
  append(&header, kMagic);
  append(&header, shape_.hidden_size);
  append(&header, shape_.vocab_size);
  append(&header, shape_.num_target_layers);
  append(&header, static_cast<uint32_t>(shape_.num_taps()));
  for (uint32_t i = 0; i < kMaxFeatureTaps; ++i) {
    append(&header, i < shape_.num_taps() ? shape_.target_layer_ids[i] : 0u);
  }
  append_model_name(&header, shape_.model);
  append(&header, uint64_t{table_.size()});
  append(&header, table_offset);
  append(&header, checksum(bytes_of(table)));
  const uint64_t sum = checksum(bytes_of(header));
  append(&header, sum);
  US_CHECK(header.size() == kHeaderBytes, "a header of {} bytes", header.size());
  file_.seekp(0);
  US_TRY(write(bytes_of(header)));
  file_.close();
  if (!file_) return cannot_write(path_);
  return sum;
}

// --- Reading ---

Result<FeatureShard> FeatureShard::open(const std::string& path) {
  FeatureShard shard;
  shard.file_ = path;
  US_ASSIGN(shard.mapped_, MappedFile::open(path));
  US_TRY(shard.read_index());
  return shard;
}

Result<FeatureShard> FeatureShard::parse(const std::string& file,
                                         std::span<const std::byte> bytes) {
  FeatureShard shard;
  shard.file_ = file;
  shard.bytes_ = bytes;
  US_TRY(shard.read_index());
  return shard;
}

uint64_t FeatureShard::size_bytes() const {
  return mapped_ ? mapped_->size_bytes() : bytes_.size();
}

Status FeatureShard::read_bytes(uint64_t offset, std::span<std::byte> out) const {
  if (mapped_) return mapped_->read(offset, out);
  US_CHECK(offset <= bytes_.size() && out.size() <= bytes_.size() - offset, "{} at {}", out.size(),
           offset);
  if (!out.empty()) std::memcpy(out.data(), bytes_.data() + offset, out.size());
  return {};
}

Status FeatureShard::read_index() {
  std::array<std::byte, kHeaderBytes> header;
  if (size_bytes() < kHeaderBytes) {
    return make_error(ErrorCode::kInvalidData, "{}: {} bytes, expected a shard of features", file_,
                      size_bytes());
  }
  US_TRY(read_bytes(0, header));
  if (number_at<uint64_t>(header, 0) != kMagic) {
    return make_error(ErrorCode::kInvalidData,
                      "{}: expected a shard of features; it is something else, or was not finished",
                      file_);
  }
  const std::span<const std::byte> summed = std::span(header).first(kHeaderSumAt);
  checksum_ = number_at<uint64_t>(header, kHeaderSumAt);
  if (checksum_ != ultraspeed::checksum(summed)) {
    return make_error(ErrorCode::kInvalidData, "{}: the header's checksum is wrong", file_);
  }
  shape_.hidden_size = number_at<uint32_t>(header, 8);
  shape_.vocab_size = number_at<uint32_t>(header, 12);
  shape_.num_target_layers = number_at<uint32_t>(header, 16);
  const auto num_taps = number_at<uint32_t>(header, 20);
  for (uint32_t i = 0; i < std::min(num_taps, kMaxFeatureTaps + 1); ++i) {
    const bool is_stored = i < kMaxFeatureTaps;
    shape_.target_layer_ids.push_back(
        is_stored ? number_at<uint32_t>(header, kTapsAt + size_t{4} * i) : 0);
  }
  shape_.model = model_name_at(header, kModelAt);
  const Status status = check_shape(file_, shape_);
  if (!status) return make_error(ErrorCode::kInvalidData, "{}", status.error().message);
  return read_table(number_at<uint64_t>(header, kCountAt + 8),
                    number_at<uint64_t>(header, kCountAt),
                    number_at<uint64_t>(header, kCountAt + 16));
}

Status FeatureShard::read_table(uint64_t table_offset, uint64_t num_sequences,
                                uint64_t expected_checksum) {
  const bool fits = table_offset >= kHeaderBytes && table_offset <= size_bytes() &&
                    num_sequences <= size_bytes() / kEntryBytes &&
                    num_sequences * kEntryBytes == size_bytes() - table_offset;
  if (!fits) {
    return make_error(ErrorCode::kInvalidData,
                      "{}: {} bytes do not end with a table of {} sequences at {}; the file was "
                      "cut off or appended to",
                      file_, size_bytes(), num_sequences, table_offset);
  }
  std::vector<std::byte> table(num_sequences * kEntryBytes);
  US_TRY(read_bytes(table_offset, table));
  if (ultraspeed::checksum(table) != expected_checksum) {
    return make_error(ErrorCode::kInvalidData, "{}: the table's checksum is wrong", file_);
  }
  for (size_t at = 0; at < table.size(); at += kEntryBytes) {
    const auto offset = number_at<uint64_t>(table, at);
    const auto length = number_at<uint64_t>(table, at + 8);
    const bool lies_inside = length > 0 && length <= kMaxSequenceTokens && offset >= kHeaderBytes &&
                             offset <= table_offset &&
                             sequence_bytes(shape_, length) <= table_offset - offset;
    if (!lies_inside) {
      return make_error(ErrorCode::kInvalidData,
                        "{}: sequence {} of {} tokens at {} does not lie before the table at {}",
                        file_, entries_.size(), length, offset, table_offset);
    }
    entries_.push_back(
        {offset, static_cast<uint32_t>(length), number_at<uint64_t>(table, at + 16)});
  }
  return {};
}

Result<FeatureSequence> FeatureShard::read(size_t sequence) const {
  US_CHECK(sequence < entries_.size(), "sequence {} of {}", sequence, entries_.size());
  const Entry& entry = entries_[sequence];
  FeatureSequence result;
  result.token_ids.resize(entry.length);
  result.loss_mask.resize(entry.length);
  result.features.resize(size_t{entry.length} * shape_.hidden_size * shape_.num_taps());
  result.last_hidden.resize(size_t{entry.length} * shape_.hidden_size);
  uint64_t offset = entry.offset;
  const auto take = [&](const auto& part) {
    const std::span<std::byte> bytes = std::as_writable_bytes(part);
    offset += bytes.size();
    return read_bytes(offset - bytes.size(), bytes);
  };
  US_TRY(std::apply(
      [&](const auto&... parts) -> Status {
        Status status;
        ((status = status ? take(parts) : status), ...);
        return status;
      },
      parts_of(result)));
  if (checksum_of(result) != entry.checksum) {
    return make_error(ErrorCode::kInvalidData, "{}: the checksum of sequence {} is wrong", file_,
                      sequence);
  }
  US_TRY(check_values(sequence, result));
  return result;
}

Status FeatureShard::check_values(size_t index, const FeatureSequence& sequence) const {
  for (const int32_t id : sequence.token_ids) {
    if (id < 0 || static_cast<uint32_t>(id) >= shape_.vocab_size) {
      return make_error(ErrorCode::kInvalidData, "{}: sequence {} has token {} of {}", file_, index,
                        id, shape_.vocab_size);
    }
  }
  if (std::ranges::any_of(sequence.loss_mask, [](uint8_t mask) { return mask > 1; })) {
    return make_error(ErrorCode::kInvalidData, "{}: sequence {} has a loss mask beside 0 and 1",
                      file_, index);
  }
  if (!std::ranges::all_of(sequence.features, is_finite_bf16) ||
      !std::ranges::all_of(sequence.last_hidden, is_finite_bf16)) {
    return make_error(ErrorCode::kInvalidData, "{}: sequence {} has numbers that are not finite",
                      file_, index);
  }
  return {};
}

}  // namespace ultraspeed::train
