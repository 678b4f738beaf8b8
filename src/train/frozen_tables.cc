#include "train/frozen_tables.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/mapped_file.h"
#include "train/output_files.h"
#include "train/records.h"

namespace ultraspeed::train {
namespace {

constexpr uint64_t kTablesMagic = 0x0a314c4241545355u;  // "USTABL1\n"
constexpr size_t kTablesModelAt = 16, kTablesDataSumAt = kTablesModelAt + kModelNameBytes;
constexpr size_t kTablesSumAt = kTablesDataSumAt + 8, kTablesHeaderBytes = kTablesSumAt + 8;
constexpr uint64_t kMaxElements = uint64_t{1} << 36;  // of one table

uint64_t checksum_of(const FrozenTables& tables) {
  return checksum(std::as_bytes(std::span(tables.head)),
                  checksum(std::as_bytes(std::span(tables.embedding))));
}

}  // namespace

Status FrozenTables::write(const std::string& path) const {
  const size_t elements = size_t{vocab_size} * hidden_size;
  if (elements == 0 || embedding.size() != elements || head.size() != elements ||
      model.size() >= kModelNameBytes) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: tables of {} and {} numbers, expected {} x {} each, and a model's name "
                      "of at most {} bytes",
                      path, embedding.size(), head.size(), vocab_size, hidden_size,
                      kModelNameBytes - 1);
  }
  std::string header;
  append(&header, kTablesMagic);
  append(&header, vocab_size);
  append(&header, hidden_size);
  append_model_name(&header, model);
  append(&header, checksum_of(*this));
  append(&header, checksum(bytes_of(header)));
  return write_file(path, {header, text_of(embedding), text_of(head)});
}

Result<FrozenTables> FrozenTables::read(const std::string& path) {
  US_ASSIGN(const MappedFile file, MappedFile::open(path));
  std::array<std::byte, kTablesHeaderBytes> header = {};
  if (file.size_bytes() >= kTablesHeaderBytes) US_TRY(file.read(0, header));
  const bool is_ours =
      number_at<uint64_t>(header, 0) == kTablesMagic &&
      number_at<uint64_t>(header, kTablesSumAt) == checksum(std::span(header).first(kTablesSumAt));
  if (!is_ours) {
    return make_error(ErrorCode::kInvalidData, "{}: expected a target's tables", path);
  }
  FrozenTables tables;
  tables.vocab_size = number_at<uint32_t>(header, 8);
  tables.hidden_size = number_at<uint32_t>(header, 12);
  tables.model = model_name_at(header, kTablesModelAt);
  const uint64_t elements = uint64_t{tables.vocab_size} * tables.hidden_size;
  if (elements == 0 || elements > kMaxElements ||
      file.size_bytes() != kTablesHeaderBytes + 2 * elements * sizeof(float)) {
    return make_error(ErrorCode::kInvalidData, "{}: {} bytes are not two tables of {} x {} numbers",
                      path, file.size_bytes(), tables.vocab_size, tables.hidden_size);
  }
  tables.embedding.resize(elements);
  tables.head.resize(elements);
  US_TRY(file.read(kTablesHeaderBytes, std::as_writable_bytes(std::span(tables.embedding))));
  US_TRY(file.read(kTablesHeaderBytes + elements * sizeof(float),
                   std::as_writable_bytes(std::span(tables.head))));
  if (number_at<uint64_t>(header, kTablesDataSumAt) != checksum_of(tables)) {
    return make_error(ErrorCode::kInvalidData, "{}: the checksum is wrong", path);
  }
  const auto is_finite = [](float value) { return std::isfinite(value); };
  if (!std::ranges::all_of(tables.embedding, is_finite) ||
      !std::ranges::all_of(tables.head, is_finite)) {
    return make_error(ErrorCode::kInvalidData, "{}: has numbers that are not finite", path);
  }
  return tables;
}

}  // namespace ultraspeed::train
