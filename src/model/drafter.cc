#include "model/drafter.h"

#include <cstring>
#include <filesystem>

#include "base/check.h"
#include "model/selector_codes.h"

namespace ultraspeed::model {
namespace {

bool is_of_codes(TensorRole role) {
  return role == TensorRole::kPredecessorCodes || role == TensorRole::kSuccessorCodes;
}

}  // namespace

Result<Drafter> Drafter::open(const std::string& directory, const Change& change) {
  US_ASSIGN(DrafterConfig config, DrafterConfig::load(directory));
  US_ASSIGN(Checkpoint checkpoint, Checkpoint::open(directory));
  Drafter drafter(std::move(config), std::move(checkpoint));
  const std::string mask_path = directory + "/mask_embedding.pt";
  std::error_code error;
  if (std::filesystem::exists(mask_path, error)) US_TRY(drafter.read_mask(mask_path));
  if (!change) return drafter;
  change(&drafter.config_);
  drafter.stack_ = drafter.config_.stack();
  return drafter;
}

Status Drafter::read_mask(const std::string& path) {
  US_ASSIGN(mask_, MaskEmbedding::load(path));
  if (mask_->mask_token_id != config_.mask_token_id) {
    return make_error(ErrorCode::kInvalidData, "{}: for mask token {}, but {} says {}", path,
                      mask_->mask_token_id, config_.file, config_.mask_token_id);
  }
  if (mask_->values.size() != config_.hidden_size) {
    return make_error(ErrorCode::kInvalidData, "{}: {} elements, but {} has hidden_size {}", path,
                      mask_->values.size(), config_.file, config_.hidden_size);
  }
  config_.has_mask_embedding = true;
  return {};
}

Status Drafter::check_complete() const {
  US_TRY(loader().check_complete());
  if (config_.selector.rank == 0) return {};
  for (const TensorRole role : {TensorRole::kPredecessorProj, TensorRole::kSuccessorProj}) {
    US_TRY(loader().shape({role, 0, 0, 0, 1, Stack::kDflash}));
  }
  return {};
}

Result<WeightShape> Drafter::shape(const WeightSource& source) const {
  if (is_of_codes(source.role)) return expected_shape(stack_, source);
  if (source.role != TensorRole::kMaskEmbedding) return loader().shape(source);
  US_CHECK(mask_.has_value(), "{} has no mask embedding", config_.file);
  return expected_shape(stack_, source);
}

Status Drafter::load(const WeightSource& source, std::span<std::byte> out,
                     const WeightLoader* target) const {
  if (is_of_codes(source.role)) {
    US_CHECK(target != nullptr, "codes without the target's tables");
    return load_codes(source, *target, out);
  }
  if (source.role != TensorRole::kMaskEmbedding) return loader().load(source, out);
  US_ASSIGN(const WeightShape expected, shape(source));
  US_CHECK(out.size() == expected.bytes, "{} bytes into {}", expected.bytes, out.size());
  std::memcpy(out.data(), &mask_->values[size_t{source.shard} * expected.columns], out.size());
  return {};
}

Status Drafter::load_codes(const WeightSource& source, const WeightLoader& target,
                           std::span<std::byte> out) const {
  const bool is_predecessor = source.role == TensorRole::kPredecessorCodes;
  const WeightSource of_table = {is_predecessor ? TensorRole::kEmbedding : TensorRole::kLmHead};
  const WeightSource of_matrix = {
      is_predecessor ? TensorRole::kPredecessorProj : TensorRole::kSuccessorProj,
      0,
      0,
      0,
      1,
      Stack::kDflash};
  US_ASSIGN(const WeightShape table_shape, target.shape(of_table));
  US_ASSIGN(const WeightShape matrix_shape, loader().shape(of_matrix));
  US_ASSIGN(const WeightShape expected, shape(source));
  US_CHECK(out.size() == expected.bytes && table_shape.rows == expected.rows, "{} bytes of {} rows",
           out.size(), table_shape.rows);
  std::vector<std::byte> table(table_shape.bytes), matrix(matrix_shape.bytes);
  US_TRY(target.load(of_table, table));
  US_TRY(loader().load(of_matrix, matrix));
  make_selector_codes({table_shape, table}, {matrix_shape, matrix}, out);
  return {};
}

}  // namespace ultraspeed::model
